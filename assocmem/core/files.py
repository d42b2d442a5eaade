"""The file format: safetensors, with a versioned JSON header, written atomically."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

VERSION = 5
READABLE = (2, 3, 4, 5)  # 2 had other names, which `operations.saving` translates, 3 and 4 knew less: `Sums.fill`
_ENTRY = "assocmem"
_UNFINISHED = ".unfinished"
_WRITER = 16  # characters that name the process, in the name of an unfinished replacement
_LONGEST_STEM = 100  # bytes of a file's name that it repeats
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # there is no quota on Windows
_OLD = 3600.0  # seconds after which an unfinished replacement that nobody writes to is known to be abandoned


def save(path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and header to a file that appears whole or not at all.

    Raises
    ------
    OSError
        If the directory does not exist, cannot be written or is full; an existing file stays as it was.
    """
    metadata = {_ENTRY: json.dumps({"version": VERSION, "kind": kind, **header})}
    contiguous = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    for name, array in contiguous.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"array {name} holds NaN or infinity, from numbers that left the range of {array.dtype}. Since such a "
                f"file could not be used, nothing was saved"
            )
    with replacing(path) as temporary:
        try:
            safetensors.numpy.save_file(contiguous, temporary, metadata)
        except safetensors.SafetensorError as error:
            _raise_system_error(error)
            raise


def _raise_system_error(error: Exception) -> None:
    """Raise the OSError that the library has put into words, if it is one."""
    if (found := re.search(r"os error (\d+)\)|\bOs { code: (\d+)", str(error))) is not None:
        code = int(found[1] or found[2])
        raise OSError(code, os.strerror(code)) from None


# -------------------------------------------------------------------------------------------- replacing a file


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Name a temporary file that takes the place of a file once the block has succeeded; else it is removed.

    Links are followed, and the owner and the permissions of the file are kept where the system allows it.
    """
    target = target_of(path)
    _remove_abandoned(target)
    folder = _new_folder(target)
    temporary = os.path.join(folder, target.name)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        default_mode = stat.S_IMODE(os.stat(temporary).st_mode)  # 0o666 as the umask leaves it, which is not touched
        yield temporary
        # The contents must be on disk before the name is. Windows syncs only files that are open for writing, and the
        # permissions, which come after, may forbid that.
        with open(temporary, "r+b") as written:
            os.fsync(written.fileno())
        _keep_owner_and_mode(temporary, target, default_mode)
        _rename(temporary, target)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OSError(
                error.errno,
                f"{error.strerror}: free some room, or name a file on another disk; nothing was changed",
                os.fspath(target),
            ) from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def target_of(path: str | os.PathLike[str]) -> Path:
    """Return the file that would be written, behind links; refuse what a file cannot take the place of."""
    named = Path(os.fsdecode(path))
    if named.is_dir():
        raise IsADirectoryError(f"{named} is a directory; expected the name of a file")
    if named.exists() and not named.is_file():
        raise FileExistsError(
            f"{named} is a device, a pipe or a socket, which a file would replace; expected the name of a regular file"
        )
    target = Path(os.path.realpath(named))
    for folder in (named.parent, target.parent):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no directory {folder}; create it first")
    return target


def _new_folder(target: Path) -> str:
    """A folder beside a file: whatever a block, or a library in it, leaves there when it is killed is in one place."""
    try:
        return tempfile.mkdtemp(_UNFINISHED, f"{_stem(target)}{_writer(os.getpid())}", target.parent)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: a new file is written beside it first, so its folder must be writeable "
            f"(if the file is mounted by itself, mount the folder)",
            os.fspath(target),
        ) from None


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file, behind links, if there is one, with every unfinished replacement of it."""
    target = target_of(path)
    remove_unfinished(target)
    target.unlink(missing_ok=True)


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove all unfinished replacements of a file that only this process writes."""
    for folder in _unfinished(target_of(path)):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(target: Path) -> None:
    """Remove the unfinished replacements of a file whose process is gone, or that have not been written to for long."""
    for folder in _unfinished(target):
        with contextlib.suppress(OSError):  # another process may have removed it
            newest = max(entry.stat().st_mtime for entry in (folder, *folder.iterdir()))
            if _is_gone(folder.name[len(_stem(target)) :]) or time.time() - newest > _OLD:
                shutil.rmtree(folder, ignore_errors=True)


def _unfinished(target: Path) -> list[Path]:
    """Folders of unfinished replacements: eight random characters, after those that name the process."""
    stem, names = _stem(target), []
    with contextlib.suppress(OSError):  # a folder may be writeable and not readable
        names = os.listdir(target.parent)
    lengths = {len(stem) + n + len(_UNFINISHED) for n in (_WRITER + 8, 8)}  # older versions named no process
    ours = [name for name in names if name.startswith(stem) and name.endswith(_UNFINISHED) and len(name) in lengths]
    return [target.parent / name for name in ours]


def _stem(target: Path) -> str:
    """Beginning of the names of the unfinished replacements of a file; names may have at most 255 bytes."""
    name = os.fsencode(target.name)
    return f".{target.name if len(name) <= _LONGEST_STEM else hashlib.sha256(name).hexdigest()[:32]}."


def _writer(process: int) -> str:
    """Name a process of this machine, or of this container: numbers of processes mean nothing elsewhere."""
    return f"{_place()}{process:08x}"


@functools.cache
def _place() -> str:
    place = platform.node()
    with contextlib.suppress(OSError):
        place += os.readlink("/proc/self/ns/pid")
    with contextlib.suppress(OSError):
        place += Path("/proc/sys/kernel/random/boot_id").read_text()
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _is_gone(name: str) -> bool:
    """Whether the process that made an unfinished replacement of such a name has ended; False if it cannot be known."""
    writer = name[:_WRITER]
    if os.name != "posix" or re.fullmatch("[0-9a-f]{16}", writer) is None or writer != _writer(int(writer[8:], 16)):
        return False
    try:
        os.kill(int(writer[8:], 16), 0)  # no signal is sent
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _keep_owner_and_mode(temporary: str, target: Path, default_mode: int) -> None:
    """Give the new file the owner and permissions of the old one, or the permissions of an ordinary new file.

    What the system does not permit is left out: it is no reason to lose the file.
    """
    mode = default_mode
    if target.exists():
        old, new = target.stat(), os.stat(temporary)
        mode = stat.S_IMODE(old.st_mode) & 0o777
        if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            for user, group in ((-1, old.st_gid), (old.st_uid, -1)):
                with contextlib.suppress(OSError):
                    os.chown(temporary, user, group)
    with contextlib.suppress(OSError):
        os.chmod(temporary, mode)


def _rename(temporary: str, target: Path) -> None:
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        raise OSError(
            error.errno,
            "a file that is mounted by itself cannot be replaced; mount the folder, not the file; nothing was changed",
            os.fspath(target),
        ) from None


# -------------------------------------------------------------------------------------------- loading


def load(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the header and the arrays of a file.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ValueError
        If it is not a file of this package, of another version or kind, or damaged.
    """
    with _opened(path, kind) as (location, header, file):
        try:
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        except (safetensors.SafetensorError, TypeError, AttributeError, MemoryError) as error:  # odd number types
            _refuse_file(location, error)


def load_raw(
    path: str | os.PathLike[str], kind: str, *, mapped: bool
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the header of a file, and map its arrays, or read them without any map; raises what `load` raises."""
    with _opened(path, kind) as (location, header, _):
        # The library copies what it reads. Its format is 8 bytes with the length of a JSON header, that header, and
        # the arrays at the offsets which it names; the library has just checked that they fit the file.
        with open(location, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        try:
            make = _mapped if mapped else _read
            return header, {name: make(location, 8 + length, entry) for name, entry in entries.items()}
        except KeyError as error:
            _refuse_file(location, error)


_DTYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64, "I8": np.int8}


def _mapped(location: Path, base: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    if 0 in shape:
        return np.empty(shape, dtype)  # nothing to map
    # Copy on write, so that nothing can reach the file; read-only arrays would have every kernel compiled anew.
    mapped = np.memmap(location, dtype, "c", base + entry["data_offsets"][0], shape)
    return mapped.view(np.ndarray)  # a plain array that keeps the map alive: compiled loops know no other


def _read(location: Path, base: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    array = np.fromfile(location, dtype, math.prod(shape), offset=base + entry["data_offsets"][0])
    if array.size < math.prod(shape):
        _refuse_file(location, "it became shorter while it was read")
    return array.reshape(shape)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], kind: str) -> Iterator[tuple[Path, dict[str, Any], Any]]:
    """Open a file of this package: its path, its header, and the library's handle."""
    location = Path(os.fsdecode(path))
    if location.is_dir():
        raise IsADirectoryError(f"{location} is a directory; expected a file that save() wrote")
    if not location.is_file():
        raise FileNotFoundError(f"there is no file {location}; expected one that save() wrote")
    try:
        file: Any = safetensors.safe_open(location, framework="numpy")
    except (safetensors.SafetensorError, MemoryError) as error:
        _refuse_file(location, error)
    with file:
        yield location, read_header(file.metadata() or {}, location, kind), file


def holds(path: str | os.PathLike[str], kind: str) -> bool:
    """Whether a file holds a memory of this kind; False also for what is no file of this package."""
    try:
        with _opened(path, kind):
            return True
    except ValueError:
        return False


def _refuse_file(location: Path, reason: object) -> NoReturn:
    raise ValueError(f"{location} is not a memory, or it is truncated ({reason}). Restore it from a copy") from None


def refuse_header(path: str | os.PathLike[str], reason: str) -> NoReturn:
    """Refuse a file because of what its header says."""
    raise ValueError(
        f"{os.fspath(path)} has a header that this version cannot use ({reason}). Restore the file from a copy"
    ) from None


def fingerprint(configuration: Mapping[str, Any], signs: NDArray[Any]) -> str:
    """Digest of configuration and signs: a file must never be read with others than it was written with."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode() + signs.tobytes()).hexdigest()


def read_header(metadata: Mapping[str, str], location: Path, kind: str) -> dict[str, Any]:
    """Return the header, or refuse one that this version cannot read."""
    try:
        header = json.loads(metadata[_ENTRY])
        version, found = header["version"], header["kind"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(
            f"{location} is a safetensors file without a readable assocmem header; expected one that save() wrote"
        ) from None
    if version not in READABLE or type(version) is not int:
        raise ValueError(
            f"{location} has format version {version!r}; expected one of {READABLE}. Open it with the version of "
            f"assocmem that wrote it"
        )
    if found != kind:
        raise ValueError(f"{location} holds a {found}; expected a {kind}. Load it with the class that saved it")
    return dict(header)


def refuse_other_layout(
    location: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    layout: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> None:
    """Refuse arrays that do not have the names, shapes and dtypes that the header implies."""
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if found != dict(layout):
        wrong = sorted(name for name in found.keys() | layout.keys() if found.get(name) != layout.get(name))
        raise ValueError(
            f"{location}: array(s) {', '.join(wrong)} do not match the header; expected "
            + ", ".join(f"{name} {layout[name]}" if name in layout else f"no {name}" for name in wrong)
            + ". The file is damaged; restore it from a copy"
        )


def refuse_other_arrays(
    location: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    layout: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> None:
    """Refuse arrays whose layout the header does not imply, or that hold NaN or infinity."""
    refuse_other_layout(location, arrays, layout)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"{location}: array {name} holds NaN or infinity. The file is damaged; restore it from a copy"
            )
