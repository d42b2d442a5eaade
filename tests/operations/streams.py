"""What the tests of streams and of their checkpoints share."""

import numpy as np
import pytest

from assocmem import AssociativeMemory
from tests.helpers import RULES

KEY_DIM, VALUE_DIM = 6, 2
every_rule = pytest.mark.parametrize("name", RULES)


def new_memory(rule="ridge", dtype="float64"):
    return AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=2, rule=rule, dtype=dtype)


def batches(keys, values, size):
    for start in range(0, len(keys), size):
        yield keys[start : start + size], values[start : start + size]


def same_bits(one, other):
    ours, theirs = (memory._cell.current().arrays() for memory in (one, other))
    assert ours.keys() == theirs.keys()
    return all(ours[name].tobytes() == array.tobytes() for name, array in theirs.items())


def npy_files(folder, keys, values):
    np.save(folder / "keys.npy", keys)
    np.save(folder / "values.npy", values)
    return str(folder / "keys.npy"), folder / "values.npy"


class StoppedError(Exception):
    """What stops a run."""


def stopping_after(count):
    left = [count]

    def progress(n_done):
        left[0] -= 1
        if left[0] < 0:
            raise StoppedError

    return progress
