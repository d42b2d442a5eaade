"""Streams: every kind of source stores the same bits."""

import itertools
import sys

import numpy as np
import pyarrow
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory
from tests.helpers import RULES, pairs, relative
from tests.operations.streams import (
    KEY_DIM,
    VALUE_DIM,
    StoppedError,
    batches,
    every_rule,
    new_memory,
    npy_files,
    same_bits,
    stopping_after,
)


def arrow_table(keys, values):
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(keys.ravel()), keys.shape[1])
    return pyarrow.table({"value": pyarrow.array(values.tolist()), "key": lists})


def arrow_file(folder, keys, values):
    table = arrow_table(keys, values)
    with pyarrow.OSFile(str(folder / "pairs.arrow"), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=77)
    return folder / "pairs.arrow"


def written(folder, name, write, *arguments):
    write(*arguments, folder / name)
    return folder / name


def reused_batches(keys, values):
    """A source that yields the same two arrays again and again, with other contents."""
    key_buffer, value_buffer = np.empty((50, KEY_DIM)), np.empty((50, VALUE_DIM))
    for key_part, value_part in batches(keys, values, 50):
        key_buffer[...], value_buffer[...] = key_part, value_part
        yield key_buffer, value_buffer


SOURCES = {
    "arrays": lambda folder, k, v: (k, v),
    "npy": npy_files,
    "nested lists": lambda folder, k, v: (k.tolist(), v.tolist()),
    "rows": lambda folder, k, v: (list(k), tuple(v)),
    "array and file": lambda folder, k, v: (k, npy_files(folder, k, v)[1]),
    "batches": lambda folder, k, v: batches(k, v, 333),
    "single pairs": lambda folder, k, v: zip(k, v, strict=True),
    "batches of lists": lambda folder, k, v: [(k[:900].tolist(), v[:900].tolist()), ([], []), (k[900:], v[900:])],
    "reused": lambda folder, k, v: reused_batches(k, v),
    "arrow table": lambda folder, k, v: arrow_table(k, v),
    "arrow reader": lambda folder, k, v: arrow_table(k, v).to_reader(100),
    "arrow file": arrow_file,
    "feather": lambda folder, k, v: written(folder, "a.feather", pyarrow.feather.write_feather, arrow_table(k, v)),
    "parquet": lambda folder, k, v: written(folder, "a.parquet", pyarrow.parquet.write_table, arrow_table(k, v)),
    "dataset": lambda folder, k, v: pyarrow.dataset.dataset(arrow_table(k, v)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_stores_the_same_bits(kind, tmp_path):
    keys, values = pairs(1000, KEY_DIM, VALUE_DIM)
    plain, streamed = new_memory(), new_memory()
    plain.store_from((keys, values), every=300)
    done = []
    streamed.store_from(SOURCES[kind](tmp_path, keys, values), every=300, progress=done.append)
    assert same_bits(streamed, plain)
    assert sum(done) == 1000
    together = new_memory()
    together.store(keys, values)
    assert relative(streamed.recall(keys), together.recall(keys)) < 1e-9


@every_rule
@given(sizes=st.lists(st.integers(0, 400), min_size=1, max_size=8), before=st.sampled_from([0, 30]))
def test_how_a_source_is_cut_into_batches_does_not_change_a_bit(name, sizes, before):
    keys, values = pairs(1000, KEY_DIM, VALUE_DIM)
    bounds = np.minimum(np.cumsum([0, *sizes, 1000]), 1000)
    parts = [(keys[a:b], values[a:b]) for a, b in itertools.pairwise(bounds)]
    one, other = new_memory(RULES[name][0]), new_memory(RULES[name][0])
    for memory, source in ((one, iter(parts)), (other, (keys, values))):
        memory.store(*pairs(before, KEY_DIM, VALUE_DIM, seed=1))
        memory.store_from(source, every=300)
        assert memory.n_stored == 1000 + before
    assert same_bits(one, other)
    plain = new_memory(RULES[name][0])
    plain.store(*pairs(before, KEY_DIM, VALUE_DIM, seed=1))
    plain.store(keys, values)
    assert relative(one.recall(keys), plain.recall(keys)) < 1e-7


def test_columns_of_single_numbers():
    keys, values = pairs(400, KEY_DIM, VALUE_DIM)
    names = [f"k{i}" for i in range(KEY_DIM)]
    table = pyarrow.table({"v": values.tolist(), **dict(zip(names, keys.T, strict=True))})
    one, other = new_memory(), new_memory()
    one.store_from(table, key_columns=names, value_columns="v")
    other.store_from((keys, values))
    assert same_bits(one, other)


def nothing_stored(source, error, message, **options):
    memory = new_memory()
    memory.store([1.0] * KEY_DIM, [1.0, 2.0])
    twin = memory.copy()
    with pytest.raises(error, match=message):
        memory.store_from(source, **options)
    assert same_bits(memory, twin)


def square_memory(source):
    """A memory whose keys and values are equally wide, so that widths do not tell them apart, after store_from."""
    memory = AssociativeMemory(2, 2)
    memory.store_from(source)
    return memory


KEYS, VALUES = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])


@pytest.mark.parametrize("source", [
    (KEYS, VALUES),
    (KEYS.tolist(), VALUES.tolist()),
    (KEYS.tolist(), VALUES),
    (list(KEYS), list(VALUES)),
    ((KEYS, VALUES),),
    [(KEYS[0], VALUES[0]), (KEYS[1], VALUES[1])],
    [(KEYS, VALUES), ([], [])],
    [[KEYS, VALUES], [KEYS[:0], VALUES[:0]]],
    iter([[KEYS[0], VALUES[0]], [KEYS[1], VALUES[1]]]),
])  # fmt: skip
def test_a_tuple_of_two_is_keys_and_values_and_anything_else_is_batches(source):
    memory = square_memory(source)
    assert memory.n_stored == 2
    assert relative(memory.recall(KEYS), VALUES) < 1e-9


def test_a_tuple_of_two_numbers_each_is_one_pair():
    memory = square_memory(((1.0, 2.0), (5.0, 6.0)))
    assert memory.n_stored == 1
    assert relative(memory.recall(KEYS[0]), VALUES[0]) < 1e-9


def test_rows_in_tuples_are_told_from_batches_by_their_widths():
    keys, values = pairs(2, KEY_DIM, VALUE_DIM)
    memory = new_memory()
    memory.store_from((tuple(keys), tuple(values)))
    assert relative(memory.recall(keys), values) < 1e-9


@pytest.mark.parametrize("batch", [tuple, list])
@pytest.mark.parametrize("value_dim", [2, 3])
def test_a_tuple_of_two_batches_is_refused(batch, value_dim):
    keys, values = pairs(5, 2, value_dim)
    with pytest.raises(ValueError, match=r"both parts of this one can be read as batches.*a list or an iterator"):
        AssociativeMemory(2, value_dim).store_from((batch([keys, values]), batch([keys, values])))
    with pytest.raises(ValueError, match=r"both parts of this one can be read as batches.*a list or an iterator"):
        AssociativeMemory(2, value_dim).store_from(tuple(zip(keys[:2], values[:2], strict=True)))


@pytest.mark.parametrize("source", [
    [KEYS, VALUES],
    [KEYS.tolist(), VALUES.tolist()],
    [KEYS[0], VALUES[0]],
    [[KEYS[0], VALUES[0]], [KEYS[1], VALUES[1]]],  # two batches of one pair, or two tables of two rows
    [np.ones((5, 2)), np.ones((5, 2))],
])  # fmt: skip
def test_a_list_of_keys_and_values_is_refused(source):
    with pytest.raises(ValueError, match=r"can be read as keys and values\. Pass a tuple \(keys, values\)"):
        square_memory(source)


def test_sources_of_other_kinds_are_refused(tmp_path):
    keys, values = pairs(20, KEY_DIM, VALUE_DIM)
    nothing_stored(keys, TypeError, r"source must be a tuple \(keys, values\) .* got a ndarray")
    nothing_stored({"keys": keys}, TypeError, "source must be .* got a dict")
    nothing_stored(5, TypeError, "source must be .* got a int")
    nothing_stored([keys, keys], TypeError, r"batch 0, .* got a ndarray\. To store two arrays, pass a tuple")
    nothing_stored((keys, values[:9]), ValueError, "20 keys .* 9 values")
    nothing_stored((keys[:, :3], values), ValueError, r"keys .*\(20, 3\)")
    nothing_stored((keys[:, :3].tolist(), values), ValueError, r"keys .*\(20, 3\)")
    nothing_stored((np.ma.masked_invalid(np.where(keys > 2, np.nan, keys)), values), TypeError, "keys .*masked")
    nothing_stored((keys, values), ValueError, "every .*at least 1", every=0)


def test_arrays_that_numpy_cannot_read_are_refused_by_name():
    keys, values = pairs(20, KEY_DIM, VALUE_DIM)
    sparse = scipy.sparse.csr_matrix(keys)
    nothing_stored((sparse, values), TypeError, r"keys are a sparse scipy.csr_matrix.*x\.toarray\(\)")
    nothing_stored([(keys, values), (sparse, values)], TypeError, r"batch 1, .*sparse scipy.csr_matrix.*toarray")
    nothing_stored(sparse, TypeError, "source must be .* got a csr_matrix")
    nothing_stored((keys, iter(values)), TypeError, "values are a .*iterator, which is no array")
    nothing_stored((None, values), TypeError, "keys are a NoneType, which is no array")


def test_files_that_are_no_sources_are_refused(tmp_path):
    keys, values = pairs(20, KEY_DIM, VALUE_DIM)
    np.save(tmp_path / "keys.npy", keys)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "pairs.npz", keys=keys, values=values)
    nothing_stored(tmp_path / "absent.parquet", FileNotFoundError, "there is no file")
    nothing_stored((tmp_path / "absent.npy", values), FileNotFoundError, "there is no file")
    nothing_stored(tmp_path / "keys.npy", ValueError, "source must be .* got the file .*keys.npy")
    nothing_stored(str(tmp_path / "pairs.npz"), ValueError, r"is an archive, .*Write two \.npy files, numpy.save")
    nothing_stored((tmp_path / "pairs.npz", values), ValueError, r"is not a \.npy file of numbers")
    nothing_stored((tmp_path / "objects.npy", values), ValueError, r"is not a \.npy file of numbers .*objects")
    with np.load(tmp_path / "pairs.npz") as archive:
        nothing_stored(archive, TypeError, "got a NpzFile")


class Sliced:
    """Like a dataset of h5py: a shape and slices, no array interface, and it notes which rows are read."""

    def __init__(self, rows):
        self._rows, self.shape, self.n_read = rows, rows.shape, 0

    def __getitem__(self, part):
        self.n_read += len(self._rows[part])
        return self._rows[part]


def test_sliced_datasets_are_read_once_and_skipped_rows_never(tmp_path):
    keys, values = pairs(500, KEY_DIM, VALUE_DIM)
    one, other, resumed = new_memory(), new_memory(), new_memory()
    one.store_from((keys, values), every=100)
    source = Sliced(keys), Sliced(values)
    other.store_from(source, every=100)
    assert same_bits(one, other)
    assert [part.n_read for part in source] == [500, 500]
    with pytest.raises(StoppedError):
        resumed.store_from((keys, values), every=100, checkpoint=tmp_path / "run", progress=stopping_after(4))
    source = Sliced(keys), Sliced(values)
    resumed.store_from(source, every=100, checkpoint=tmp_path / "run")
    assert same_bits(one, resumed)
    assert [part.n_read for part in source] == [200, 200]  # the first block, which identifies the source, and the last


def test_arrow_data_that_are_no_pairs_are_refused(monkeypatch):
    keys, values = pairs(3, KEY_DIM, VALUE_DIM)
    table = arrow_table(keys, values)
    nothing_stored(table.drop_columns(["key"]), ValueError, r"no column key, only \['value'\]\. Pass key_columns")
    nothing_stored(pyarrow.chunked_array([[1.0]]), TypeError, "ChunkedArray")
    for bad in (
        [[1.0, 2.0], None, [3.0, 4.0]],
        [[1.0, 2.0], [1.0], [1.0, 2.0, 3.0]],
        [[1.0, 2.0], [None, 1.0], [1.0, 2.0]],
    ):
        broken = pyarrow.table({"key": table["key"], "value": pyarrow.array(bad, pyarrow.list_(pyarrow.float64()))})
        nothing_stored(broken, ValueError, "column value has missing entries or lists of different lengths")
    nothing_stored(pyarrow.table({"key": ["a"], "value": [1.0]}), TypeError, "column key has type string")
    monkeypatch.setitem(sys.modules, "pyarrow.dataset", None)
    nothing_stored(table, ModuleNotFoundError, r"pyarrow is not installed\. .*pip install 'assocmem\[arrow\]'")


@pytest.mark.parametrize(("bad", "message"), [
    (lambda k, v: (np.where(np.arange(len(k))[:, None] == 7, np.nan, k), v), "keys row 707, column 0 is nan"),
    (lambda k, v: (np.where(np.arange(len(k))[:, None] == 7, 0.0, k), v), "key 707 is all zeros"),
    (lambda k, v: (k, np.where(np.arange(len(k))[:, None] == 7, np.inf, v)), "values row 707, column 0 is inf"),
    (lambda k, v: (k[:, :5], v), r"keys have shape \(100, 5\)"),
    (lambda k, v: (k, v[:-1]), "100 keys came with 99 values"),
    (lambda k, v: (k.astype(complex), v), "keys have dtype complex128"),
])  # fmt: skip
def test_a_bad_batch_is_refused_with_its_place_and_stores_nothing(bad, message, tmp_path):
    parts = list(batches(*pairs(1000, KEY_DIM, VALUE_DIM), 100))
    broken = [*parts[:7], bad(*parts[7]), *parts[8:]]
    nothing_stored(broken, (TypeError, ValueError), f"batch 7, which begins at pair 700: {message}")
    # The checkpoint has what came before, and the repaired source is stored whole.
    with pytest.raises((TypeError, ValueError), match="batch 7"):
        new_memory().store_from(broken, checkpoint=tmp_path / "run", every=50)
    resumed, plain, done = new_memory(), new_memory(), []
    resumed.store_from(parts, checkpoint=tmp_path / "run", every=50, progress=done.append)
    plain.store_from(parts, every=50)
    assert done[0] == 700
    assert same_bits(resumed, plain)
