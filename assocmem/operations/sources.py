"""Sources of pairs larger than memory: arrays, .npy files, Arrow tables, iterators of batches; read block by block."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.core.reading import type_name
from assocmem.features.crelu import CReLUFeatures

Rows: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
Columns: TypeAlias = "str | Sequence[str]"
Pairs: TypeAlias = "ArrayPairs | BatchedPairs"

ARROW_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow"}
KNOWN = (
    "a tuple (keys, values) of arrays or of .npy files, an iterable of such batches, a table, dataset or reader of "
    "pyarrow, a .parquet, .arrow, .ipc or .feather file, or a folder of Parquet files"
)


@dataclass(frozen=True)
class PairForm:
    """Shape and dtype of the pairs that a memory stores."""

    features: CReLUFeatures
    value_dim: int

    @property
    def key_dim(self) -> int:
        """Length of a key."""
        return self.features.key_dim

    def rows(self, keys: Any, values: Any, first: int) -> Rows:
        """Return checked rows in the memory's dtype; error messages count pairs from `first`."""
        dtype = self.features.dtype
        key_rows, _ = checks.as_rows("keys", keys, self.key_dim, dtype)
        value_rows, _ = checks.as_rows("values", values, self.value_dim, dtype)
        checks.refuse_unequal_lengths(len(key_rows), len(value_rows))
        self.features.refuse_bad_keys(key_rows, first)
        checks.refuse_bad_values(value_rows, first)
        return key_rows, value_rows

    def refuse_other_shapes(self, keys: Any, values: Any) -> None:
        """Refuse arrays of any library whose shapes are not (N, key_dim) and (N, value_dim)."""
        checks.refuse_bad_shape("keys", keys.shape, self.key_dim)
        checks.refuse_bad_shape("values", values.shape, self.value_dim)
        checks.refuse_unequal_lengths(*(1 if len(rows.shape) == 1 else rows.shape[0] for rows in (keys, values)))


class ArrayPairs:
    """Pairs in two arrays, or in anything with a shape that is sliced like one; skipped rows are not read."""

    def __init__(self, keys: Any, values: Any, form: PairForm) -> None:
        form.refuse_other_shapes(keys, values)
        self._keys, self._values = (np.asarray(rows)[None] if len(rows.shape) == 1 else rows for rows in (keys, values))
        self._form, self._position = form, 0
        self.n_pairs: int | None = self._keys.shape[0]

    def take(self, count: int) -> Rows:
        """Return the next `count` pairs, checked; fewer only at the end."""
        part = slice(self._position, self._position + count)
        rows = self._form.rows(self._keys[part], self._values[part], self._position)
        self._position += len(rows[0])
        return rows

    def skip(self, count: int) -> None:
        """Pass over the next `count` pairs."""
        self._position += count


class BatchedPairs:
    """Pairs in batches of any size, read once; skipped batches are read and dropped."""

    def __init__(self, batches: Iterable[Any], form: PairForm, n_pairs: int | None = None) -> None:
        self._batches, self._form = enumerate(batches), form
        self._rest: Rows = form.rows([], [], 0)
        self._n_read = 0
        self.n_pairs = n_pairs  # None if it is known only at the end

    def take(self, count: int) -> Rows:
        """Return the next `count` pairs, checked; fewer only at the end."""
        if self._more() and len(self._rest[0]) >= count:
            return self._cut(count)
        # Copied before the next batch is read: a source may reuse the arrays that it yields.
        keys, values = (np.empty((count, rows.shape[1]), rows.dtype) for rows in self._rest)
        n_taken = 0
        while n_taken < count and self._more():
            some_keys, some_values = self._cut(count - n_taken)
            part = slice(n_taken, n_taken + len(some_keys))
            keys[part], values[part] = some_keys, some_values
            n_taken = part.stop
        return keys[:n_taken], values[:n_taken]

    def skip(self, count: int) -> None:
        """Pass over the next `count` pairs."""
        while count and self._more():
            count -= len(self._cut(count)[0])
        if count:
            raise ValueError(
                f"the source ended after {self._n_read} pairs, before those that the checkpoint has. Pass the same "
                f"source as before, from its beginning, or name another checkpoint to begin anew"
            )

    def _cut(self, count: int) -> Rows:
        """Return at most `count` pairs of the current batch."""
        keys, values = self._rest
        self._rest = keys[count:], values[count:]
        return keys[:count], values[:count]

    def _more(self) -> bool:
        """Whether a pair is left; reads the next batch if the current one is used up."""
        while not len(self._rest[0]):
            number, batch = next(self._batches, (-1, None))
            if number < 0:
                return False
            try:
                if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                    raise TypeError(
                        f"a batch must be a pair (keys, values), got a {type(batch).__name__}. To store two arrays, "
                        f"pass a tuple (keys, values)"
                    )
                self._rest = self._form.rows(batch[0], batch[1], self._n_read)
            except (TypeError, ValueError) as error:
                raise type(error)(f"batch {number}, which begins at pair {self._n_read}: {error}") from None
            self._n_read += len(self._rest[0])
        return True


def open_pairs(source: Any, form: PairForm, batch_rows: int, key_columns: Columns, value_columns: Columns) -> Pairs:
    """Return the pairs of a source, or refuse it; Arrow data are read about `batch_rows` pairs at a time."""
    if isinstance(source, tuple) and len(source) == 2:
        if all(_is_batch(part, form) for part in source):
            raise ValueError(
                "a tuple of two is (keys, values), but both parts of this one can be read as batches (keys, values). "
                "Pass batches as a list or an iterator, or keys and values as two arrays"
            )
        keys = _sliceable("keys", source[0], form.key_dim)
        return ArrayPairs(keys, _sliceable("values", source[1], form.value_dim), form)
    if isinstance(source, list) and len(source) == 2 and not any(isinstance(part, tuple) for part in source):
        shapes = [_shape(part) for part in source]
        if max(map(len, shapes)) < 3 and (shapes[0][-1:], shapes[1][-1:]) == ((form.key_dim,), (form.value_dim,)):
            raise ValueError(
                "a list is read as batches, but the two parts of this one can be read as keys and values. "
                "Pass a tuple (keys, values), or every batch as a tuple"
            )
    if type(source).__module__.partition(".")[0] == "pyarrow" or _is_path(source):
        return _arrow_pairs(source, form, batch_rows, key_columns, value_columns)
    if hasattr(source, "columns") and not isinstance(source, Mapping):
        raise TypeError(
            f"source must be {KNOWN}, got a {type_name(source)}. Pass a tuple of two frames, "
            f"(x[key_columns], x[value_columns])"
        )
    if not isinstance(source, Iterable) or isinstance(source, Mapping) or hasattr(source, "shape"):
        raise TypeError(f"source must be {KNOWN}, got a {type(source).__name__}. Convert it")
    return BatchedPairs(source, form)


def _is_path(part: Any) -> bool:
    return isinstance(part, (str, bytes, os.PathLike))


def _shape(part: Any) -> tuple[int, ...]:
    try:
        return tuple(part.shape) if hasattr(part, "shape") else np.shape(part)
    except (TypeError, ValueError):  # rows of different lengths
        return ()


def _is_batch(part: Any, form: PairForm) -> bool:
    """Whether this can be read as a batch (keys, values); a list of two equally long rows is a table instead."""
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        return False
    keys, values = map(_shape, part)
    is_table = isinstance(part, list) and keys == values and len(keys) == 1
    return not is_table and (keys[-1:], values[-1:]) == ((form.key_dim,), (form.value_dim,))


def _sliceable(name: str, part: Any, width: int) -> Any:
    """Return keys or values as something with a shape that can be sliced."""
    if _is_path(part):
        return open_array(Path(os.fsdecode(part)))
    checks.refuse_unreadable(name, part)
    if hasattr(part, "iloc"):  # a pandas frame, whose own slices go by labels
        return checks.as_table(name, part, width)[0]
    if hasattr(part, "shape") and hasattr(part, "__getitem__"):
        return part
    return checks.as_table(name, part, width)[0]


NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
N_SNIFFED = 4096  # bytes by which a file is known
_SIGNATURES = {
    ZIP: "an archive, .npz or .zip",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\x89HDF": "HDF5",
    b"\x1f\x8b": "compressed by gzip",
    b"\x80": "a pickle",
}


def described(head: bytes) -> tuple[str, str]:
    """Return what a file that is no array of numbers is, by its first bytes, and how to make one of it."""
    advice = "Write it with numpy.save"
    if not head:
        return "empty", advice
    if head.startswith(NPY):
        return "truncated, damaged or of Python objects", "Write numbers with numpy.save(path, numpy.asarray(x, float))"
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name, f"Read it with a library for that, and write the array with {advice.split()[-1]}"
    text = head.decode("utf-8", "ignore")
    if text.isprintable() or all(character.isprintable() or character.isspace() for character in text):
        return "text, for example CSV", "Convert it: numpy.save(new_path, numpy.loadtxt(path, delimiter=','))"
    return "of an unknown format", advice


def open_array(path: Path) -> NDArray[Any]:
    """Return the array in a .npy file, memory-mapped; pickled objects are refused, never executed."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}. Check the path of the .npy file")
    with path.open("rb") as file:  # an OSError here says more than NumPy's
        head = file.read(N_SNIFFED)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception:  # NumPy raises a dozen kinds, some with the advice to execute what the file holds
        what, advice = described(head)
        raise ValueError(f"{path} is not a .npy file of numbers (it is {what}). {advice}") from None
    if array.ndim == 0:
        raise ValueError(f"{path} holds a single number instead of rows of shape (N, width). Reshape it")
    return array


def arrow_format(path: Path) -> str | None:
    """Return the Arrow format of a file by its ending, in either case, or None; a folder is one of Parquet files."""
    return "parquet" if path.is_dir() else ARROW_FORMATS.get(path.suffix.lower())


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of an Arrow file."""
    return list(_open_dataset(path).schema.names)


def count_rows(path: Path) -> int:
    """Return the number of rows of an Arrow file."""
    return int(_open_dataset(path).count_rows())


def read_columns(path: Path, columns: Columns, count: int | None = None) -> NDArray[Any]:
    """Return columns of an Arrow file side by side, (N, width), or only the first `count` rows of it."""
    dataset = _open_dataset(path)
    names = _known_columns(dataset.schema, columns)
    table = dataset.to_table(names) if count is None else dataset.head(count, columns=names)
    if not len(table):
        raise ValueError(f"{path} holds no rows; expected at least one")
    return np.concatenate([_numbers(batch, names) for batch in table.combine_chunks().to_batches()])


def _pyarrow() -> Any:
    try:
        import pyarrow.dataset  # optional: the extra `arrow`
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the source holds Arrow data and pyarrow is not installed. Run python -m pip install 'assocmem[arrow]'"
        ) from None
    return pyarrow


def _open_dataset(path: Path) -> Any:
    """Open an Arrow file or a folder of Parquet files, in the order of their names."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}. Check the path")
    dataset = _pyarrow().dataset.dataset
    try:
        return dataset(path, format=arrow_format(path))
    except ValueError:
        if path.is_dir():
            raise
        with path.open("rb") as file:
            what, _ = described(file.read(N_SNIFFED))
        raise ValueError(
            f"{path} is no {path.suffix} file that pyarrow can read (it is {what}). Write it anew"
        ) from None


def _known_columns(schema: Any, columns: Columns) -> list[str]:
    """Return the names of columns as a list, or refuse those that the schema lacks."""
    names = [columns] if isinstance(columns, str) else list(columns)
    if missing := ", ".join(name for name in names if name not in schema.names):
        raise ValueError(f"the source has no column {missing}, only {schema.names}. Pass key_columns and value_columns")
    for name in names:
        refuse_other_column(name, schema.field(name).type)
    return names


def refuse_other_column(name: str, arrow_type: Any) -> None:
    """Refuse an Arrow column whose type is neither a number nor a list of numbers."""
    types = _pyarrow().types
    inner = arrow_type
    if types.is_list(inner) or types.is_large_list(inner) or types.is_fixed_size_list(inner):
        inner = inner.value_type
    if types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner) or types.is_null(inner):
        return
    if types.is_decimal(inner) or types.is_temporal(inner):
        advice = "Cast it to float64, for example by pyarrow.compute.cast"
    elif types.is_nested(inner):
        advice = "Make of every row one list of numbers, or a column for every number"
    else:
        advice = "Leave it out, or convert it to numbers"
    raise TypeError(f"column {name} has type {arrow_type}; expected numbers, or lists of numbers. {advice}")


def _arrow_pairs(source: Any, form: PairForm, batch_rows: int, key_columns: Columns, value_columns: Columns) -> Pairs:
    """Return the pairs in a table, record batch, dataset, reader or file of Arrow, in the order of its rows."""
    if _is_path(source):
        path = Path(os.fsdecode(source))
        if path.suffix.lower() == ".npz":
            raise ValueError(
                f"{path} is an archive, which cannot be read in parts. Write two .npy files, "
                f"numpy.save('keys.npy', archive['keys']) and so for the values, and pass a tuple of their paths"
            )
        if arrow_format(path) is None:
            raise ValueError(f"source must be {KNOWN}, got the file {path}. Convert it")
        source = _open_dataset(path)
    pyarrow = _pyarrow()
    n_pairs, batches = None, source
    if not isinstance(source, pyarrow.RecordBatchReader):
        source = source if isinstance(source, pyarrow.dataset.Dataset) else pyarrow.dataset.dataset([source])
        n_pairs = source.count_rows()
    keys, values = (_known_columns(source.schema, columns) for columns in (key_columns, value_columns))
    if n_pairs is not None:
        # Little readahead: the default holds gigabytes of wide rows.
        batches = source.to_batches([*keys, *values], batch_size=batch_rows, batch_readahead=2, fragment_readahead=1)
    pairs = ((_numbers(batch, keys), _numbers(batch, values)) for batch in batches if len(batch))
    return BatchedPairs(pairs, form, n_pairs)


def _numbers(batch: Any, names: list[str]) -> NDArray[Any]:
    """Return columns of a record batch side by side, (N, width); each holds numbers, or lists of one length."""
    tables = []
    for name in names:
        column = batch.column(name)
        is_list = hasattr(column, "value_lengths")
        numbers = column.flatten() if is_list else column
        if column.null_count or numbers.null_count or (is_list and len(column.value_lengths().unique()) > 1):
            raise ValueError(
                f"column {name} has missing entries or lists of different lengths. Drop or repair such rows"
            )
        tables.append(numbers.to_numpy(zero_copy_only=False).reshape(len(batch), -1))
    return np.hstack(tables)
