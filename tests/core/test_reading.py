"""Arrays of other libraries: read as they are, or refused by name with the call that converts them."""

import numpy as np
import pytest
import scipy.sparse

from assocmem import AssociativeMemory, crelu, inverse_crelu
from assocmem.capacity import measuring
from assocmem.core import checks
from tests.helpers import pairs

KEYS, VALUES = pairs(3, 4, 2)

MEMORY = AssociativeMemory(4, 2)
MEMORY.store(KEYS, VALUES)
FROZEN = MEMORY.freeze("float64")

FRONTS = {
    "store": lambda array: AssociativeMemory(4, 2).store(array, VALUES),
    "values": lambda array: AssociativeMemory(4, 4).store(KEYS, array),
    "store_from": lambda array: AssociativeMemory(4, 2).store_from((array, VALUES)),
    "batches": lambda array: AssociativeMemory(4, 2).store_from([(array, VALUES)]),
    "recall": MEMORY.recall,
    "forget": lambda array: MEMORY.copy().forget(array, VALUES),
    "leverage": MEMORY.leverage,
    "verify_forgotten": MEMORY.verify_forgotten,
    "settle": lambda array: AssociativeMemory(4, 4).settle(array),
    "edit": lambda array: MEMORY.copy().edit(array, VALUES),
    "sample": lambda array: MEMORY.freeze(sample=array),
    "frozen": FROZEN.recall,
    "fold": MEMORY.features.fold,
    "project": MEMORY.features.projection.project,
    "crelu": crelu,
    "inverse_crelu": inverse_crelu,
    "interval": lambda array: measuring.interval(array, judged=10, counts=True),
}


def refused_everywhere(array, message, error=TypeError):
    for front in FRONTS.values():
        with pytest.raises(error, match=message):
            front(array)


PLAIN = {
    "complex": (KEYS * 1j, "complex128; expected real numbers.*side by side"),
    "times": (np.zeros((3, 4), "M8[s]"), r"datetime64\[s\].*astype\('int64'\)"),
    "durations": (np.zeros((3, 4), "m8[s]"), r"timedelta64\[s\].*timedelta64\(1, 's'\)"),
    "text": (KEYS.astype(str), "dtype <U32.*Convert text to numbers"),
    "bytes": (KEYS.astype("S"), "dtype .S32.*Convert text to numbers"),
    "fields": (np.zeros((3, 4), [("a", float)]), "structured_to_unstructured"),
    "numbers as objects": (KEYS.astype(object), r"dtype object.*numpy.asarray\(x, 'float64'\)"),
    "objects": (np.full((3, 4), None), "dtype object.*repair entries of type NoneType"),
    "masked": (np.ma.masked_greater(KEYS, 0), r"masked; expected every entry.*filled\(\)"),
    "masked rows": (list(np.ma.masked_greater(KEYS, 0)), r"hold rows that are masked"),
    "sparse": (scipy.sparse.csr_matrix(KEYS), r"sparse scipy.csr_matrix.*x\.toarray\(\)"),
    "sparse array": (scipy.sparse.coo_array(KEYS), r"sparse scipy.coo_array.*x\.toarray\(\)"),
    "mapping": ({1: 2}, "are a dict, which is no array"),
}


@pytest.mark.parametrize("case", PLAIN)
def test_what_holds_no_real_numbers_is_refused_everywhere(case):
    refused_everywhere(*PLAIN[case])


def test_arrays_without_masked_entries_are_read():
    for array in (np.ma.array(KEYS), memoryview(KEYS), KEYS.astype(np.longdouble), KEYS.tolist()):
        assert np.array_equal(MEMORY.recall(array), MEMORY.recall(KEYS))
        assert type(checks.read_array("keys", array)) is np.ndarray


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(KEYS)
    for array in (tensor, list(tensor)):
        assert np.array_equal(MEMORY.recall(array), MEMORY.recall(KEYS))
    MEMORY.recall(tensor.half())
    refused_everywhere(tensor.bfloat16(), r"torch.Tensor \(dtype torch.bfloat16.*with x\.float\(\)\.numpy\(\)")
    refused_everywhere(tensor.clone().requires_grad_(), r"with a gradient.*x\.detach\(\)\.numpy\(\)")
    refused_everywhere(torch.zeros(3, 4, device="meta"), r"device meta.*x\.cpu\(\)\.numpy\(\)")
    refused_everywhere(tensor.to_sparse(), r"torch.sparse_coo.*x\.to_dense\(\)\.numpy\(\)")
    refused_everywhere(list(tensor.bfloat16()), r"hold rows that are a torch.Tensor.*x\.float\(\)\.numpy\(\)")
    refused_everywhere(torch.tensor(1j * KEYS), "complex128")


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    assert np.array_equal(MEMORY.recall(pandas.DataFrame(KEYS)), MEMORY.recall(KEYS))
    missing = r"pandas.DataFrame of nullable, mixed or missing entries.*dropna\(\).*to_numpy\('float64'\)"
    refused_everywhere(pandas.DataFrame(KEYS).astype(object), missing)
    refused_everywhere(pandas.DataFrame([[1, 2, 3, None]] * 3, dtype="Int64"), missing)
    with pytest.raises(TypeError, match=r"pandas.Series of rows.*numpy.vstack\(x\)"):
        MEMORY.recall(pandas.Series(KEYS.tolist()))


def equal_everywhere(frame):
    """Every front takes a frame as the array of its columns, or refuses it as it refuses that array."""
    for front in FRONTS.values():
        results = []
        for array in (KEYS, frame):
            try:
                result = front(array)
                results.append(repr(np.asarray(result) if isinstance(result, tuple) else result))  # eight digits
            except (TypeError, ValueError) as error:
                results.append(type(error))
        assert results[0] == results[1]


def test_pandas_frames_are_their_columns_in_order():
    pandas = pytest.importorskip("pandas")
    for index in ([0.5, 1.5, 2.5], ["a", "b", "c"], [2, 1, 0]):
        frame = pandas.DataFrame(KEYS, columns=list("dbac"), index=index)
        equal_everywhere(frame)
        one, other = AssociativeMemory(4, 2), AssociativeMemory(4, 2)
        one.store_from((frame, pandas.DataFrame(VALUES, index=index)))
        other.store_from((KEYS, VALUES))
        assert np.array_equal(one.recall(KEYS), other.recall(KEYS))
    named = r"pandas.DataFrame .*\(column 'b' of type .*str"
    frame["b"] = "text"
    refused_everywhere(frame, named)
    with pytest.raises(TypeError, match=r"got a pandas.DataFrame.*x\[key_columns\], x\[value_columns\]"):
        AssociativeMemory(4, 2).store_from(frame)


class Frame:
    """What a polars frame shows of itself."""

    def __init__(self, array, **schema):
        self._array, self.schema, self.columns, self.shape = array, schema, list(schema), array.shape

    def __array__(self, dtype=None, copy=None):
        return self._array

    def __getitem__(self, part):
        return Frame(self._array[part], **self.schema)


Frame.__module__, Frame.__qualname__ = "polars.dataframe.frame", "DataFrame"


def test_polars_frames():
    equal_everywhere(Frame(KEYS, a="Float64"))
    message = r"polars.DataFrame .*column 'b' of type String.*drop_nulls.*cast\(polars.Float64\)"
    refused_everywhere(Frame(KEYS.astype(object), a="Float64", b="String"), message)
    with pytest.raises(TypeError, match=r"got a polars.DataFrame.*Pass a tuple of two frames"):
        AssociativeMemory(4, 2).store_from(Frame(KEYS, a="Float64"))
    polars = pytest.importorskip("polars")
    equal_everywhere(polars.DataFrame(KEYS, schema=list("dbac")))
    mixed = polars.DataFrame({"a": [1.0] * 3, "b": ["x"] * 3, "c": [1] * 3, "d": [2] * 3})
    refused_everywhere(mixed, r"polars.DataFrame .*column 'b' of type String")
    with pytest.raises(TypeError, match=r"polars.*LazyFrame.*x\.collect\(\)"):
        MEMORY.recall(polars.DataFrame(KEYS).lazy())


def test_pyarrow_types_are_named():
    pyarrow = pytest.importorskip("pyarrow")
    decimals = pyarrow.array([1, 2, 3]).cast(pyarrow.decimal128(21, 2))
    with pytest.raises(TypeError, match=r"pyarrow.Decimal128Array of type decimal128\(21, 2\).*cast"):
        MEMORY.recall(decimals)
    with pytest.raises(TypeError, match=r"pyarrow.*Table \(column 'd' of type decimal128\(21, 2\)\)"):
        MEMORY.recall(pyarrow.table({"a": [1.0, 2.0, 3.0], "d": decimals}))
    texts = pyarrow.array(["x", "y"])
    for column in (decimals, pyarrow.array([[[1.0]], [[2.0]]]), texts, pyarrow.array([{"x": 1.0}])):
        table = pyarrow.table({"key": column, "value": [[1.0]] * len(column)})
        memory = AssociativeMemory(1, 1)
        with pytest.raises(TypeError, match=r"column key has type .*expected numbers, or lists of numbers") as refusal:
            memory.store_from(table)
        assert str(column.type) in str(refusal.value)
        assert memory.n_stored == 0


def test_a_file_that_is_no_array_is_said_to_be_what_it_is(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([None]))
    np.savez(tmp_path / "archive.npz", KEYS)
    contents = {
        "text, for example CSV": b"1.0,2.0\n3.0,4.0\n",
        "empty": b"",
        "an archive": (tmp_path / "archive.npz").read_bytes(),
        "a pickle": b"\x80\x04K\x01.",
        "of Python objects": (tmp_path / "objects.npy").read_bytes(),
    }
    for what, content in contents.items():
        (tmp_path / "keys.npy").write_bytes(content)
        with pytest.raises(ValueError, match=what) as refusal:
            AssociativeMemory(4, 2).store_from((tmp_path / "keys.npy", VALUES))
        assert "keys.npy is not a .npy file of numbers" in str(refusal.value)
        assert "numpy.save" in str(refusal.value)
        assert "unsafe" not in str(refusal.value)
        assert "allow_pickle" not in str(refusal.value)


def test_pyarrow_arrays():
    pyarrow = pytest.importorskip("pyarrow")
    assert np.array_equal(MEMORY.recall(pyarrow.array(KEYS[0])), MEMORY.recall(KEYS[0]))
    with pytest.raises(TypeError, match=r"pyarrow.ListArray.*x\.flatten\(\)\.to_numpy\(\)\.reshape\(len\(x\), -1\)"):
        MEMORY.recall(pyarrow.array(KEYS.tolist()))
