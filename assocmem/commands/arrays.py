"""Arrays and memories as the commands take them: files of several kinds, and - for standard input and output."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from assocmem import AssociativeMemory, FrozenMemory, frozen
from assocmem.core import files
from assocmem.operations import sources

STANDARD: Final = Path("-")
PARTS: Final = {"keys": "key", "values": "value"}  # arrays of an archive, and columns of Parquet


def read_rows(path: Path, part: str, columns: list[str] | None = None) -> NDArray[Any]:
    """Return the keys or the values in a file that may hold nothing else, or in standard input.

    Parameters
    ----------
    path : Path
        .npy files are memory-mapped, .npz archives, Parquet and Arrow files are read.
    part : "keys" or "values"
        Array of an archive, unless it has only one; default columns are "key" or "value", or all if there is none.
    columns : list of str, optional
        Columns of Parquet or Arrow, laid side by side.
    """
    if sources.arrow_format(path) is None:
        return picked(open_file(path, columns), path, part)
    if columns is None:
        names = sources.column_names(path)
        columns = [PARTS[part]] if PARTS[part] in names else names
    return sources.read_columns(path, columns)


def open_file(path: Path, *columns: list[str] | None) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Return the array of a .npy file, or the arrays of an archive, from a file or from standard input."""
    if any(names is not None for names in columns):
        raise ValueError(f"columns are for Parquet and Arrow files, got {path}. Leave the columns out")
    if path == STANDARD:
        content = sys.stdin.buffer.read()
        if not content.startswith((sources.NPY, sources.ZIP)):
            what, advice = sources.described(content[: sources.N_SNIFFED])
            raise ValueError(f"standard input is {what}; expected the bytes of a .npy or .npz file. {advice}")
        return _loaded(io.BytesIO(content), path)
    if path.suffix.lower() != ".npz":
        return sources.open_array(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}. Check the path of the archive")
    with path.open("rb") as file:  # opened here: NumPy leaves damaged archives open
        return _loaded(file, path)


def picked(
    loaded: NDArray[Any] | dict[str, NDArray[Any]], path: Path, part: str, *, alone: bool = True
) -> NDArray[Any]:
    """Return an array as it was opened, or one of an archive: that of a name, or the only one if it stands alone."""
    if isinstance(loaded, np.ndarray):
        if alone:
            return loaded
        raise ValueError(f"{path} holds one array; expected keys and values. Name the file of the values by --values")
    names = list(loaded)
    name = names[0] if alone and len(names) == 1 else part
    if name not in names:
        raise ValueError(f"{path} has the arrays {names}; expected {part}. Write it with numpy.savez(path, {part}=...)")
    return loaded[name]


def _loaded(file: BinaryIO, path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return dict(loaded)
    except Exception:  # NumPy and zipfile raise a dozen kinds, some with the advice to execute what the file holds
        raise ValueError(
            f"{path} is damaged, or holds Python objects; expected arrays of numbers. Write it with numpy.savez"
        ) from None


class Pairs:
    """Keys and values in one file or two; Arrow data with both are stored in batches, never read as a whole."""

    def __init__(
        self, keys: Path, values: Path | None, key_columns: list[str] | None, value_columns: list[str] | None
    ) -> None:
        together = values is None or values == keys
        self.shapes: list[tuple[int, ...]]
        columns = {"keys": key_columns, "values": value_columns}
        self._file = keys if together and sources.arrow_format(keys) is not None else None
        if self._file is not None:
            self._columns = [names or [PARTS[part]] for part, names in columns.items()]
            self._length = sources.count_rows(keys)
            self.shapes = [(self._length, sources.read_columns(keys, names, 1).shape[1]) for names in self._columns]
            return
        if values is None or together:
            loaded = open_file(keys, *columns.values())
            # A file named twice may hold one array: keys that are their own values.
            self._rows = [picked(loaded, keys, part, alone=values is not None) for part in PARTS]
        else:
            self._rows = [
                read_rows(path, part, columns[part]) for path, part in zip((keys, values), PARTS, strict=True)
            ]
        self.shapes = [rows.shape for rows in self._rows]
        self._length = len(self._rows[0])

    def __len__(self) -> int:
        return self._length

    def store_in(self, memory: AssociativeMemory, progress: Callable[[int], None], checkpoint: Path | None) -> None:
        """Store the pairs, with a checkpoint if one is named."""
        if self._file is not None:
            keys, values = self._columns
            memory.store_from(
                self._file, key_columns=keys, value_columns=values, progress=progress, checkpoint=checkpoint
            )
        elif checkpoint is not None:
            memory.store_from(tuple(self._rows), progress=progress, checkpoint=checkpoint)
        else:
            memory.store(*self._rows, progress=progress)


def write_standard(array: NDArray[Any]) -> None:
    """Write the bytes of a .npy file to standard output."""
    if sys.stdout.isatty():
        raise ValueError("--out - writes the bytes of a .npy file, and the output is a terminal. Redirect it to a file")
    content = io.BytesIO()  # NumPy cannot write an array to a pipe
    np.save(content, array)
    sys.stdout.buffer.write(content.getbuffer())
    sys.stdout.flush()


def refuse_standard(*paths: Path | None) -> None:
    """Refuse - where a memory is read or written: its file is mapped, or replaced as a whole."""
    if STANDARD in paths:
        raise ValueError("- stands for standard input and output of arrays; expected the name of a file. Name one")


def load_memory(path: Path) -> AssociativeMemory | FrozenMemory:
    """Load a memory, or a frozen memory, whichever the file holds."""
    refuse_standard(path)
    return FrozenMemory.load(path) if files.holds(path, frozen.KIND) else AssociativeMemory.load(path)
