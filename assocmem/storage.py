"""The file format: safetensors, with a versioned JSON header, written atomically."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

VERSION = 2
_ENTRY = "assocmem"


def save(path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and header to a file that appears whole or not at all.

    Raises
    ------
    OSError
        If the directory does not exist or cannot be written; a file that was there stays as it was.
    """
    metadata = {_ENTRY: json.dumps({"version": VERSION, "kind": kind, **header})}
    contiguous = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}
    for name, array in contiguous.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"array {name} holds NaN or infinity, from numbers that left the range of {array.dtype}; expected "
                f"finite numbers; nothing was saved, load the last file that was"
            )
    with replacing(Path(os.fsdecode(path))) as temporary:
        safetensors.numpy.save_file(contiguous, temporary, metadata)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[str]:
    """Name a temporary file beside `path` that takes its place once the block has succeeded; else it is removed."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; expected the name of a file; add one")
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no directory {path.parent}; expected an existing one; create it") from None
    os.close(handle)
    try:
        yield temporary
        _keep_permissions(temporary, path)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())  # the contents must be on disk before the name is
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _keep_permissions(temporary: str, path: Path) -> None:
    """Give the new file the old one's permissions, or what an ordinary new file would have."""
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
    location = Path(os.fsdecode(path))
    if location.is_dir():
        raise IsADirectoryError(f"{location} is a directory; expected a file that save() wrote; name the file")
    if not location.is_file():
        raise FileNotFoundError(f"there is no file {location}; expected one that save() wrote; check the path")
    try:
        with safetensors.safe_open(location, framework="numpy") as file:
            metadata = file.metadata() or {}
            header = read_header(metadata, location, kind)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
    except (safetensors.SafetensorError, TypeError, AttributeError, MemoryError) as error:  # also odd number types
        raise ValueError(
            f"{location} is not a memory, or it is truncated ({error}); expected a file that save() wrote; "
            f"restore it from a copy"
        ) from None
    return header, arrays


def read_header(metadata: Mapping[str, str], location: Path, kind: str) -> dict[str, Any]:
    """Return the header, or refuse one that this version cannot read."""
    try:
        header = json.loads(metadata[_ENTRY])
        version, found = header["version"], header["kind"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(
            f"{location} is a safetensors file without a readable assocmem header; expected a file that save() wrote; "
            f"check the path"
        ) from None
    if version != VERSION or type(version) is not int:
        raise ValueError(
            f"{location} has format version {version!r}; expected {VERSION}; "
            f"open it with the version of assocmem that wrote it"
        )
    if found != kind:
        raise ValueError(f"{location} holds a {found}; expected a {kind}; load it with the class that saved it")
    return dict(header)


def refuse_other_arrays(
    location: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    layout: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> None:
    """Refuse arrays that do not have the names, shapes and dtypes that the header implies, or hold NaN or infinity."""
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if found != dict(layout):
        wrong = sorted(name for name in found.keys() | layout.keys() if found.get(name) != layout.get(name))
        raise ValueError(
            f"{location}: array(s) {', '.join(wrong)} do not match the header; expected "
            + ", ".join(f"{name} {layout[name]}" if name in layout else f"no {name}" for name in wrong)
            + "; the file is damaged, restore it from a copy"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f"{location}: array {name} holds NaN or infinity; expected finite numbers; "
                f"the file is damaged, restore it from a copy"
            )
