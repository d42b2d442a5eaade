"""The file format: safetensors, with a versioned JSON header, written atomically."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

VERSION = 4
READABLE = (2, 3, 4)  # 2 had other names, which `operations.saving` translates, 3 other roundings: `Sums.fill`
_ENTRY = "assocmem"
_UNFINISHED = ".unfinished"


def save(path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and header to a file that appears whole or not at all.

    Raises
    ------
    OSError
        If the directory does not exist or cannot be written; an existing file stays as it was.
    """
    metadata = {_ENTRY: json.dumps({"version": VERSION, "kind": kind, **header})}
    contiguous = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    for name, array in contiguous.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"array {name} holds NaN or infinity, from numbers that left the range of {array.dtype}. Since such a "
                f"file could not be used, nothing was saved"
            )
    with replacing(Path(os.fsdecode(path))) as temporary:
        safetensors.numpy.save_file(contiguous, temporary, metadata)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[str]:
    """Name a temporary file that takes the place of `path` once the block has succeeded; else it is removed."""
    refuse_bad_path(path)
    # A directory beside it: whatever the block, or a library in it, leaves there when it is killed is in one place.
    folder = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent)
    temporary = os.path.join(folder, path.name)
    try:
        yield temporary
        # The contents must be on disk before the name is. Windows syncs only files that are open for writing, and the
        # permissions, which come after, may forbid that.
        with open(temporary, "r+b") as written:
            os.fsync(written.fileno())
        _keep_permissions(temporary, path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_bad_path(path: Path) -> None:
    """Refuse a directory, and a file in a directory that does not exist."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; expected the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {path.parent}; create it first")


def remove_unfinished(path: Path) -> None:
    """Remove the unfinished replacements of `path` that killed processes left."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.????????{_UNFINISHED}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _keep_permissions(temporary: str, path: Path) -> None:
    """Give the new file the old one's permissions, or those of an ordinary new file."""
    if path.exists():
        mode = path.stat().st_mode & 0o777
    else:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    os.chmod(temporary, mode)


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


def load_mapped(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the header of a file and map its arrays; raises what `load` raises."""
    with _opened(path, kind) as (location, header, _):
        # The library copies what it reads. Its format is 8 bytes with the length of a JSON header, that header, and
        # the arrays at the offsets which it names; the library has just checked that they fit the file.
        with open(location, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        try:
            return header, {name: _mapped(location, 8 + length, entry) for name, entry in entries.items()}
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
