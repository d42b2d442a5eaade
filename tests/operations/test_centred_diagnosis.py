"""A memory with a center says of its keys what one without says of their differences."""

import dataclasses

import numpy as np
import pytest

from assocmem import AssociativeMemory, Ridge

RNG = np.random.default_rng(3)
CENTER = 5 * RNG.standard_normal(24)
KEYS, VALUES = RNG.standard_normal((150, 24)), RNG.choice([-1.0, 1.0], (150, 6))
SAMPLE = RNG.standard_normal((60, 24))
QUERIES = SAMPLE + 0.2 * RNG.standard_normal(SAMPLE.shape)


@pytest.mark.parametrize("rule", [Ridge(3.0), "rls", "hebbian", "delta"])
@pytest.mark.parametrize("given", [{}, {"keys": SAMPLE}, {"keys": SAMPLE, "queries": QUERIES}])
def test_a_center_is_subtracted_once(rule, given):
    plain = AssociativeMemory(24, 6, rule=rule)
    plain.store(KEYS, VALUES)
    centred = AssociativeMemory(24, 6, rule=rule, center=CENTER)
    centred.store(KEYS + CENTER, VALUES)
    expected = plain.diagnose(**given)
    found = centred.diagnose(**{name: table + CENTER for name, table in given.items()})
    assert found.source == expected.source
    # Surrogate keys follow eigenvectors, which rounding turns where eigenvalues are near each other.
    tolerance = {"sums": 0.05 * expected.noisy_error + 1e-3}.get(found.source, 1e-9)
    for name in ("clean_error", "noisy_error", "query_cosine"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=tolerance), name


def test_a_sample_key_on_the_center_is_refused():
    memory = AssociativeMemory(24, 6, center=CENTER, bias=1.0)
    memory.store(KEYS, VALUES)
    with pytest.raises(ValueError, match="row 1 of keys is the center of the memory"):
        memory.diagnose(keys=[KEYS[0], CENTER])
    assert dataclasses.is_dataclass(memory.diagnose())
