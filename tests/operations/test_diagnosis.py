"""A diagnosis looks ahead by the law, wherever the error does not grow with the number of pairs."""

import numpy as np
import pytest

from assocmem import AssociativeMemory, Ridge
from assocmem.laws.prediction import predicted_error
from tests.helpers import pairs


def test_room_ends_before_the_peak_of_the_error_at_full_load():
    """Without a penalty the error peaks at load 1 and falls beyond: what lies beyond the peak is no room."""
    memory = AssociativeMemory(128, 1, expansion=3)
    memory.store(*pairs(384, 128, 1))
    report = memory.diagnose(query_cosine=0.9, error=0.3)
    assert report.rank == 512
    assert 50 <= report.pairs_left <= 70

    def error(n):
        return predicted_error(memory.rule, n / 512, 0.9, "sign", key_dim=128, expansion=3, value_dim=1, penalty=0.0)

    assert error(384 + report.pairs_left) == pytest.approx(0.3, abs=0.02)  # matched with the error of these pairs
    few = AssociativeMemory(128, 1, expansion=3)
    few.store(*pairs(50, 128, 1))
    n = 50 + few.diagnose(query_cosine=0.9, error=0.3).pairs_left
    assert error(n) <= 0.3 < error(n + 1)


def test_a_classifier_head_beyond_the_rank_is_not_called_past_capacity():
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((500, 16))
    memory = AssociativeMemory(16, 3, rule=Ridge(alpha=1e3))
    memory.store(keys, np.eye(3)[rng.integers(3, size=500)])
    assert memory.n_stored > memory.rank
    assert "past capacity" not in memory.diagnose().warning
    exact = AssociativeMemory(16, 3)
    exact.store(keys, np.eye(3)[rng.integers(3, size=500)])
    assert exact.diagnose().warning.startswith("past capacity: 500 pairs in rank 80")


def test_the_condition_is_that_of_the_solution():
    memory = AssociativeMemory(16, 2, rule=Ridge(alpha=1.0))
    memory.store(*pairs(40, 16, 2))
    assert memory.diagnose().condition == memory.solution.condition > 1
    assert np.isnan(AssociativeMemory(16, 2, rule="hebbian").diagnose().condition)


@pytest.mark.parametrize("rule", ["hebbian", "delta", "ridge", "rls"])
def test_room_is_counted_by_the_rule_and_ends_where_the_error_does(rule):
    memory = AssociativeMemory(64, 1, rule=rule)
    memory.store(*pairs(10, 64, 1))
    few, many = (memory.diagnose(query_cosine=0.95, error=error).pairs_left for error in (0.05, 0.2))
    assert 0 <= few < many
