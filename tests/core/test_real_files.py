"""Files and buffers as they are: memory maps, pipes, full disks, links, mounts, processes that were killed."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from assocmem import AssociativeMemory
from assocmem.rules import blas
from tests.helpers import pairs
from tests.test_memory import compiled

RULES = ["ridge", "rls", "delta", "hebbian"]


# ------------------------------------------------------------------------------------ arrays of other owners


def mapped(memory, path):
    joblib = pytest.importorskip("joblib")
    joblib.dump(memory, path)
    return joblib.load(path, mmap_mode="r")


def immutable(memory, path):
    """As dask and Ray hand over: the arrays lie in the bytes of a message."""
    buffers = []
    content = pickle.dumps(memory, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=[bytes(buffer.raw()) for buffer in buffers])


def misaligned(memory, path):
    buffers = []
    content = pickle.dumps(memory, protocol=5, buffer_callback=buffers.append)
    shifted = [memoryview(bytearray(b"x" + bytes(buffer.raw())))[1:] for buffer in buffers]
    return pickle.loads(content, buffers=shifted)


def transposed(memory, path):
    """With arrays that are not C-contiguous."""
    strange = copy.copy(memory)
    for group in (strange._cell._state, strange._cell._state.sums):
        for name, array in [] if group is None else group._entries():
            if isinstance(array, np.ndarray) and array.ndim == 2:
                setattr(group, name, np.asfortranarray(array))
    return pickle.loads(pickle.dumps(strange))


def arrays_of(group):
    for _, entry in group._entries():
        if isinstance(entry, np.ndarray):
            yield entry
        elif hasattr(entry, "_entries"):
            yield from arrays_of(entry)


def are_owned(arrays):
    return all(type(array) is np.ndarray and array.flags.carray for array in arrays)


@pytest.mark.parametrize("received", [mapped, immutable, misaligned, transposed])
@pytest.mark.parametrize("rule", RULES)
def test_a_memory_owns_its_arrays_whatever_buffers_they_came_in(rule, received, tmp_path):
    keys, values = pairs(40, 8, 3)
    memory = AssociativeMemory(8, 3, rule=rule, ledger=rule != "delta")
    memory.store(keys, values)
    if rule in ("ridge", "rls"):
        memory.edit(keys[0], values[1], preserve=keys[2])
    twin = received(memory, tmp_path / "memory")
    assert are_owned(arrays_of(twin._cell._state))
    assert are_owned(arrays_of(twin.copy()._cell._state))
    use(memory, keys, values)
    n_compiled = compiled()
    use(twin, keys, values)
    assert compiled() == n_compiled
    assert np.array_equal(twin.recall(keys), memory.recall(keys))


def use(memory, keys, values):
    for n in (1, 5, 40):
        memory.store(keys[:n] + 1, values[:n])
        memory.recall(keys)
        if memory.rule.name != "delta":
            memory.forget(keys[1], values[1])
            memory.store(keys[1], values[1])


@pytest.mark.parametrize("received", [mapped, immutable, misaligned])
@pytest.mark.parametrize("precision", ["float64", "float32", "int8"])
def test_a_frozen_memory_owns_its_arrays(precision, received, tmp_path):
    keys, values = pairs(40, 8, 3)
    memory = AssociativeMemory(8, 3)
    memory.store(keys, values)
    frozen = memory.freeze(precision)
    expected = frozen.recall(keys), frozen.recall(keys[0])
    n_compiled = compiled()
    twin = received(frozen, tmp_path / "frozen")
    assert are_owned([twin.weights, twin.scale, twin.offset])
    assert twin.weights.ctypes.data % 64 == 0
    assert np.array_equal(twin.recall(keys), expected[0])
    assert np.array_equal(twin.recall(keys[0]), expected[1])
    assert compiled() == n_compiled


def test_a_loaded_memory_owns_its_arrays(tmp_path):
    keys, values = pairs(20, 8, 3)
    for rule in RULES:
        memory = AssociativeMemory(8, 3, rule=rule)
        memory.store(keys, values)
        memory.save(tmp_path / rule)
        assert are_owned(arrays_of(AssociativeMemory.load(tmp_path / rule)._cell._state))


WRITING_TO_A_MAP = """
import sys
import numpy as np
from assocmem.rules import blas
np.save(sys.argv[1], np.eye(64))
matrix, ones = np.load(sys.argv[1], mmap_mode="r"), np.ones((1, 64))
for change in (
    lambda: blas.add_product(matrix, ones, ones),
    lambda: blas.add_outer(matrix, ones[0], ones[0]),
    lambda: blas.add_gram(matrix, ones),
    lambda: blas.add_gram(matrix, np.ones((2, 64))),
    lambda: blas.cholesky(matrix),
    lambda: blas.invert_from_cholesky(matrix),
):
    try:
        change()
    except ValueError as error:
        assert "read-only" in str(error), error
    else:
        raise AssertionError("nothing was refused")
assert np.array_equal(np.load(sys.argv[1]), np.eye(64))
"""


def test_matrices_that_are_read_only_are_not_written_to(tmp_path):
    """In a process of its own, for BLAS asks nobody and dies."""
    run = subprocess.run([sys.executable, "-c", WRITING_TO_A_MAP, str(tmp_path / "matrix.npy")], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_matrices_that_blas_would_copy_are_refused():
    ones = np.ones((1, 4))
    with pytest.raises(ValueError, match="not C-contiguous"):
        blas.add_product(np.zeros((4, 8))[:, ::2], ones, ones)
