"""Where pairs come from when they do not fit in memory: arrays, files, iterators of batches; a block at a time."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assocmem import _checks

Rows: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
Columns: TypeAlias = "str | Sequence[str]"

ARROW_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow"}
EXPECTED = (
    "a pair (keys, values) of arrays or of .npy files, an iterable of such batches, a .npz, .parquet, .arrow, .ipc or "
    ".feather file, or a pyarrow table, dataset or reader"
)


class Pairs(Protocol):
    """Pairs that are read from first to last."""

    n_pairs: int | None  # None where it shows only at the end

    def take(self, count: int) -> Rows:
        """Return the next `count` pairs, checked; fewer only at the end."""

    def skip(self, count: int) -> None:
        """Pass over the next `count` pairs, which an earlier run has stored."""


@dataclass(frozen=True)
class PairForm:
    """What the pairs of a memory look like."""

    key_dim: int
    value_dim: int
    dtype: np.dtype[Any]
    bias: float

    def rows(self, keys: Any, values: Any, first: int) -> Rows:
        """Return checked rows of the memory's dtype; `first` is the number of the first pair in what is refused."""
        key_rows, _ = _checks.as_rows("keys", keys, self.key_dim, self.dtype)
        value_rows, _ = _checks.as_rows("values", values, self.value_dim, self.dtype)
        _checks.refuse_unequal_lengths(len(key_rows), len(value_rows))
        _checks.refuse_bad_keys(key_rows, self.bias, first)
        _checks.refuse_bad_values(value_rows, first)
        return key_rows, value_rows

    def refuse_other_shapes(self, keys: Any, values: Any) -> None:
        """Refuse arrays, of whatever kind, that are not (N, key_dim) and (N, value_dim)."""
        _checks.refuse_bad_shape("keys", keys.shape, self.key_dim)
        _checks.refuse_bad_shape("values", values.shape, self.value_dim)
        _checks.refuse_unequal_lengths(*(1 if len(rows.shape) == 1 else rows.shape[0] for rows in (keys, values)))


class ArrayPairs:
    """Pairs in two arrays, or anything with a shape that is sliced like one; what is skipped is not read."""

    def __init__(self, keys: Any, values: Any, form: PairForm) -> None:
        form.refuse_other_shapes(keys, values)
        self._keys, self._values = (np.asarray(rows)[None] if len(rows.shape) == 1 else rows for rows in (keys, values))
        self._form = form
        self._position = 0
        self.n_pairs: int | None = len(self._keys)

    def take(self, count: int) -> Rows:
        """Return the next pairs."""
        part = slice(self._position, self._position + count)
        rows = self._form.rows(self._keys[part], self._values[part], self._position)
        self._position += len(rows[0])
        return rows

    def skip(self, count: int) -> None:
        """Pass over pairs."""
        self._position += count


class BatchedPairs:
    """Pairs that come in batches of any size, once; what is skipped is read and dropped."""

    def __init__(self, batches: Iterable[Any], form: PairForm, n_pairs: int | None = None) -> None:
        self._batches, self._form = iter(batches), form
        self._rest: Rows = form.rows([], [], 0)
        self._n_read, self._n_batches = 0, 0
        self.n_pairs = n_pairs

    def take(self, count: int) -> Rows:
        """Return the next pairs, cut anew."""
        if self._more() and len(self._rest[0]) >= count:
            return self._next(count)
        # Copied before the next batch is asked for: a source may reuse the arrays that it yields.
        taken = [np.empty((count, rows.shape[1]), rows.dtype) for rows in self._rest]
        n_taken = 0
        while n_taken < count and self._more():
            keys, values = self._next(count - n_taken)
            taken[0][n_taken : n_taken + len(keys)] = keys
            taken[1][n_taken : n_taken + len(keys)] = values
            n_taken += len(keys)
        return taken[0][:n_taken], taken[1][:n_taken]

    def skip(self, count: int) -> None:
        """Pass over pairs."""
        missing = count
        while missing and self._more():
            missing -= len(self._next(missing)[0])
        if missing:
            raise ValueError(
                f"the source ended after {self._n_read} pairs, before those that the checkpoint has; expected the "
                f"same source as before, from its beginning; pass it, or name another checkpoint to begin anew"
            )

    def _next(self, count: int) -> Rows:
        """Return at most so many pairs of the batch that was read last."""
        keys, values = self._rest
        self._rest = keys[count:], values[count:]
        return keys[:count], values[:count]

    def _more(self) -> bool:
        """Whether a pair is left; reads the next batch if need be."""
        while not len(self._rest[0]):
            try:
                batch = next(self._batches)
            except StopIteration:
                return False
            try:
                if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                    raise TypeError(
                        f"it is a {type(batch).__name__}; expected a pair (keys, values); yield pairs, and pass two "
                        f"arrays as a tuple (keys, values)"
                    )
                keys, values = batch
                self._rest = self._form.rows(keys, values, self._n_read)
            except (TypeError, ValueError) as error:
                raise type(error)(f"batch {self._n_batches}, which begins at pair {self._n_read}: {error}") from None
            self._n_read += len(self._rest[0])
            self._n_batches += 1
        return True


def open_pairs(source: Any, form: PairForm, batch_rows: int, key_columns: Columns, value_columns: Columns) -> Pairs:
    """Return the pairs of a source, or refuse what is none; files are read about `batch_rows` pairs at a time."""
    if isinstance(source, tuple) and len(source) == 2 and all(_is_path(part) or _has_rows(part) for part in source):
        keys, values = (open_array(Path(os.fsdecode(part))) if _is_path(part) else part for part in source)
        return ArrayPairs(keys, values, form)
    if _is_path(source):
        path = existing(Path(os.fsdecode(source)))
        if path.suffix == ".npz":
            return BatchedPairs(_npz_batches(path, batch_rows), form, _npz_length(path))
        if path.suffix in ARROW_FORMATS:
            source = _arrow("dataset").dataset(path, format=ARROW_FORMATS[path.suffix])
        else:
            raise ValueError(f"source is the file {path}; expected {EXPECTED}; convert it")
    if type(source).__module__.partition(".")[0] == "pyarrow":
        return _arrow_pairs(source, form, batch_rows, key_columns, value_columns)
    if not isinstance(source, Iterable) or isinstance(source, (np.ndarray, Mapping)):
        raise TypeError(f"source is a {type(source).__name__}; expected {EXPECTED}; pass one of them")
    return BatchedPairs(source, form)


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, bytes, os.PathLike))


def _has_rows(source: Any) -> bool:
    return hasattr(source, "shape") and hasattr(source, "__getitem__") and hasattr(source, "__len__")


# --------------------------------------------------------------------------------------------- NumPy's files


def existing(path: Path) -> Path:
    """Return the path of a file, or refuse one that is not there."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; expected {EXPECTED}; check the path")
    return path


def open_array(path: Path) -> NDArray[Any]:
    """Return the array in a .npy file, mapped and not read, or refuse; nothing in the file is ever executed."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; expected a .npy file; check the path")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises a dozen kinds on files that are not its own
        raise ValueError(
            f"{path} is not a .npy file of numbers ({error}); expected one; write it with numpy.save"
        ) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} is an archive; expected a .npy file; write one array with numpy.save")
    if array.ndim == 0:
        raise ValueError(f"{path} holds a single number; expected rows, shape (N, width); reshape it")
    return array


@contextlib.contextmanager
def _refusing_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(
            f"{path} is not a .npz file with the arrays keys and values, or it is damaged ({error}); expected one; "
            f"write it with numpy.savez(path, keys=keys, values=values)"
        ) from None


def _npz_length(path: Path) -> int:
    with _refusing_damaged(path), zipfile.ZipFile(path) as archive:
        lengths = []
        for name in ("keys", "values"):
            with archive.open(f"{name}.npy") as member:
                lengths.append(_read_header(name, member)[0][0])
    _checks.refuse_unequal_lengths(*lengths)
    return int(lengths[0])


def _npz_batches(path: Path, rows: int) -> Iterator[Rows]:
    """Yield consecutive rows of the two members, compressed or not, without ever holding more."""
    with (
        _refusing_damaged(path),
        zipfile.ZipFile(path) as archive,
        archive.open("keys.npy") as keys,
        archive.open("values.npy") as values,
    ):
        members = [(member, *_read_header(name, member)) for name, member in (("keys", keys), ("values", values))]
        n_pairs = members[0][1][0]
        for start in range(0, n_pairs, rows):
            count = min(rows, n_pairs - start)
            first, second = (_read_rows(member, count, shape, dtype) for member, shape, dtype in members)
            yield first, second


def _read_header(name: str, member: IO[bytes]) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Read the header of a .npy file within an archive -> shape and dtype of an array of rows."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in readers:
        raise ValueError(f"{name} has .npy version {version}; expected 1.0 or 2.0; write it with numpy.savez")
    shape, by_columns, dtype = readers[version](member)
    if len(shape) != 2 or by_columns or dtype.kind not in "fiub":
        raise ValueError(
            f"{name} have shape {shape}, dtype {dtype} and {'Fortran' if by_columns else 'C'} order; expected numbers "
            f"of shape (N, width) in C order; write numpy.ascontiguousarray({name})"
        )
    return shape, dtype


def _read_rows(member: IO[bytes], count: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    n_bytes = count * shape[1] * dtype.itemsize
    parts = bytearray()
    while len(parts) < n_bytes:  # a member may give less than it is asked for
        part = member.read(n_bytes - len(parts))
        if not part:
            raise EOFError("it ends early")
        parts += part
    return np.frombuffer(parts, dtype).reshape(count, shape[1])


# --------------------------------------------------------------------------------------------- Arrow's tables


def _arrow(module: str) -> Any:
    try:
        import pyarrow.dataset  # only who has such files needs it
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the source is a table of Apache Arrow and pyarrow is not installed; expected the package; "
            "run python -m pip install 'assocmem[arrow]'"
        ) from None
    return getattr(pyarrow, module)


def _arrow_pairs(source: Any, form: PairForm, batch_rows: int, key_columns: Columns, value_columns: Columns) -> Pairs:
    """Return the pairs in a table, record batch, dataset or reader of Arrow, in the order of its rows."""
    keys = [key_columns] if isinstance(key_columns, str) else list(key_columns)
    values = [value_columns] if isinstance(value_columns, str) else list(value_columns)
    schema = getattr(source, "schema", None)
    if schema is None:
        raise TypeError(f"source is a {type(source).__name__}; expected {EXPECTED}; pass one of them")
    missing = [name for name in (*keys, *values) if name not in schema.names]
    if missing:
        raise ValueError(
            f"the source has no column {', '.join(missing)}; expected key columns {keys} and value columns {values} "
            f"among {schema.names}; name them by key_columns and value_columns"
        )
    n_pairs: int | None = None
    if isinstance(source, _arrow("dataset").Dataset):
        n_pairs = source.count_rows()
        # Read ahead a little: the defaults hold gigabytes of wide rows.
        batches = source.to_batches(
            columns=[*keys, *values], batch_size=batch_rows, batch_readahead=2, fragment_readahead=1
        )
    elif hasattr(source, "to_batches"):
        n_pairs, batches = source.num_rows, source.to_batches(max_chunksize=batch_rows)
    else:
        n_pairs, batches = (None, source) if isinstance(source, Iterable) else (source.num_rows, [source])
    tables = ((_arrow_rows(batch, keys), _arrow_rows(batch, values)) for batch in batches if len(batch))
    return BatchedPairs(tables, form, n_pairs)


def _arrow_rows(batch: Any, names: list[str]) -> NDArray[Any]:
    """Return numbers (N, width): the lists in the columns, or their single numbers, side by side."""
    tables = []
    for name in names:
        column = batch.column(name)
        lengths = np.ones(0)
        if hasattr(column, "flatten") and hasattr(column.type, "value_type"):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            numbers = column.flatten()
        else:
            numbers = column
        if column.null_count or numbers.null_count or len(np.unique(lengths)) > 1:
            raise ValueError(
                f"column {name} has missing entries, or lists of different lengths; expected numbers in every row; "
                f"drop or repair such rows"
            )
        tables.append(numbers.to_numpy(zero_copy_only=False).reshape(len(batch), -1))
    return np.hstack(tables) if len(tables) > 1 else tables[0]
