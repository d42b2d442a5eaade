"""Public functions that skip the checks of keys refuse all rows on which a kernel would leave its arrays."""

import copy
import pickle

import numpy as np
import pytest

from assocmem.core import checks, limits
from assocmem.features.crelu import CReLUFeatures
from assocmem.features.hadamard import HadamardProjection
from assocmem.features.noise import expect_noisy_rows

FEATURES = CReLUFeatures(8, 2)
BAD = {
    "too long": np.ones((1, 100_000)),
    "too short": np.ones((3, 4)),
    "one row": np.ones(8),
    "integers": np.ones((3, 8), np.int64),
    "every other": np.ones((3, 16))[:, ::2],
}


@pytest.mark.parametrize("rows", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize(
    "function",
    [
        FEATURES.fold_rows,
        FEATURES.norms,
        FEATURES.projection.project_rows,
        FEATURES.projection.project_back,
        lambda rows: FEATURES.refold(rows, rows),
        lambda rows: expect_noisy_rows(FEATURES, rows, 0.1),
    ],
    ids=["fold_rows", "norms", "project_rows", "project_back", "refold", "expect_noisy_rows"],
)
def test_rows_that_do_not_fit_are_refused(function, rows):
    with pytest.raises(ValueError, match=r"shape \(N, \d+\)|shape \(16, value_dim\)"):
        function(rows)


@pytest.mark.parametrize("out", [np.ones((2, 24)), np.ones((3, 23)), np.ones((3, 48))[:, ::2], np.ones((3, 24), "f4")])
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(ValueError, match=r"out must be a contiguous, writeable float64 array of shape \(3, 24\)"):
        FEATURES.fold_rows(np.ones((3, 8)), out)


def test_out_beside_the_keys_in_one_buffer_overlaps_only_where_bytes_are_shared():
    buffer = np.zeros((4, 16))
    checks.refuse_bad_out(buffer[:, 8:], (4, 8), buffer[:, :8])
    with pytest.raises(ValueError, match="out overlaps the keys"):
        checks.refuse_bad_out(buffer[:, 7:15], (4, 8), buffer[:, :8])


@pytest.mark.parametrize("remake", [lambda p: pickle.loads(pickle.dumps(p)), copy.copy, copy.deepcopy])
def test_a_copied_projection_has_the_same_signs_again_read_only(remake):
    projection = HadamardProjection(300, 3, seed=5)
    again = remake(projection)
    assert np.array_equal(again.signs, projection.signs)
    assert not again.signs.flags.writeable
    assert len(pickle.dumps(projection)) < 200


def test_signs_that_do_not_fit_into_memory_are_refused(monkeypatch):
    with pytest.raises(MemoryError, match=r"key_dim=10+ and expansion=4 needs .* smaller expansion"):
        HadamardProjection(10**20, 4)
    monkeypatch.setattr(limits, "available_bytes", lambda: 2**24)
    with pytest.raises(MemoryError, match="16 MiB"):
        CReLUFeatures(2**20, 8)
