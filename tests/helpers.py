"""What several test files need: data, and the one list of rules that every rule's tests run over."""

import numpy as np

from assocmem import AssociativeMemory, DeltaRule, Hebbian, RecursiveLeastSquares, Ridge
from tests import naive
from tests.rules.outside_rule import DiagonalRidge

# name -> (rule, oracle of its folded or literal weights). A new rule joins here and inherits the suite.
RULES = {
    "hebbian": (Hebbian(), naive.hebbian),
    "hebbian-decay": (Hebbian(decay=0.9), lambda f, v: naive.hebbian(f, v, 0.9)),
    "delta": (DeltaRule(), naive.delta),
    "delta-rate": (DeltaRule(rate=0.3), lambda f, v: naive.delta(f, v, 0.3)),
    "ridge": (Ridge(), lambda f, v: naive.ridge(f, v, 0.0)),
    "ridge-alpha": (Ridge(alpha=2.0), lambda f, v: naive.ridge(f, v, 2.0)),
    "ridge-decay": (Ridge(alpha=2.0, decay=0.95), lambda f, v: naive.fading_ridge(f, v, 2.0, 0.95)),
    "rls": (RecursiveLeastSquares(alpha=2.0), lambda f, v: naive.recursive_least_squares(f, v, 2.0)),
    "rls-decay": (
        RecursiveLeastSquares(alpha=2.0, decay=0.95),
        lambda f, v: naive.recursive_least_squares(f, v, 2.0, 0.95),
    ),
    "diagonal": (DiagonalRidge(alpha=2.0), lambda f, v: f.T @ v / ((f**2).sum(axis=0)[:, None] + 2.0)),
}
SUMS = ["hebbian", "ridge", "ridge-alpha", "rls", "diagonal"]  # the rules that forget and merge


def pairs(n, key_dim, value_dim, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, key_dim)), rng.standard_normal((n, value_dim))


def relative(got, expected):
    """Largest difference, relative to the largest expected number."""
    scale = np.abs(expected).max() if np.size(expected) else 1.0
    return float(np.abs(got - expected).max(initial=0.0) / (scale or 1.0))


# The first pairs of one list, for tests of several features in one memory.
FIRST_KEYS, FIRST_VALUES = pairs(200, 8, 2)


def memory_of_first(n, rule="ridge"):
    """A memory of the first n of them."""
    memory = AssociativeMemory(8, 2, rule=rule)
    memory.store(FIRST_KEYS[:n], FIRST_VALUES[:n])
    return memory
