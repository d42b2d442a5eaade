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


def test_pyarrow_arrays():
    pyarrow = pytest.importorskip("pyarrow")
    assert np.array_equal(MEMORY.recall(pyarrow.array(KEYS[0])), MEMORY.recall(KEYS[0]))
    with pytest.raises(TypeError, match=r"pyarrow.ListArray.*x\.flatten\(\)\.to_numpy\(\)\.reshape\(len\(x\), -1\)"):
        MEMORY.recall(pyarrow.array(KEYS.tolist()))
