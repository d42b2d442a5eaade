"""The closed formula of the penalty for noisy queries, beside the best penalty in hindsight, on real keys."""

from collections.abc import Mapping

import numpy as np

from assocmem import AssociativeMemory, Ridge
from assocmem.capacity import noisy_keys
from benchmarks.keysets import sets_named
from benchmarks.plans import EXPANSION, EXPANSIONS, Sets, filled, wrong_signs
from benchmarks.timing import machine, table

COSINES = (0.95, 0.9, 0.8)

# Penalties in hindsight, as multiples of that of the formula.
MULTIPLES = tuple(2.0 ** (exponent / 2) for exponent in range(-7, 8))
PENALTY_LOADS = (0.3, 0.7, 1.5)
UNEQUAL = 0.5  # deviation of lengths over their mean, from which keys are also shown scaled to unit length

TINY = {"COSINES": (0.9,), "MULTIPLES": (0.5, 1.0), "PENALTY_LOADS": (0.01,)}


def penalties(sets: Sets) -> dict[str, list[tuple[float, float, float]]]:
    """For every set: cosine, error under the penalty of the formula, and under the best one in hindsight."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    drawn = {}
    for name, draw in sets.items():
        drawn[name] = draw(np.random.default_rng(0))
        lengths = np.linalg.norm(drawn[name], axis=1, keepdims=True)
        if lengths.std() > UNEQUAL * lengths.mean():
            drawn[f"{name}, unit length"] = drawn[name] / lengths
    for name, keys in drawn.items():
        expansion = EXPANSIONS.get(name, EXPANSION)
        for load in PENALTY_LOADS:
            rng = np.random.default_rng(3)
            rank = AssociativeMemory(keys.shape[1], 1, expansion=expansion).rank
            stored = keys[: round(load * rank)]
            memory, values = filled(stored, expansion, Ridge(), rng)
            for cosine in COSINES:
                queries = noisy_keys(stored, cosine, rng)
                formula = memory.with_rule(Ridge(query_cosine=cosine))
                errors = [
                    wrong_signs(memory.with_rule(Ridge(alpha=multiple * formula.alpha)), queries, values)
                    for multiple in MULTIPLES
                ]
                found.setdefault(name, []).append((cosine, wrong_signs(formula, queries, values), min(errors)))
    return found


def print_penalties(found: Mapping[str, list[tuple[float, float, float]]]) -> None:
    """Ratios of the errors, their mean and the worst, for every set."""
    rows, every = [], []
    for name, cells in found.items():
        ratios = [(formula / best if best else 1.0, best) for _, formula, best in cells]
        every += ratios
        rows.append([name, f"{len(cells)}", *_ratios(ratios)])
    rows.append(["all", f"{len(every)}", *_ratios(every)])
    print("wrong signs under the penalty of the closed formula, over those under the best penalty in hindsight")
    print(table(["keys", "cells", "mean ratio", "worst ratio", "error there"], rows))


def _ratios(ratios: list[tuple[float, float]]) -> list[str]:
    worst = max(ratios)
    return [f"{np.mean([ratio for ratio, _ in ratios]):.3f}", f"{worst[0]:.2f}", f"{worst[1]:.4f}"]


def main(options: tuple[str, ...] = ()) -> None:
    """Print the table, for the large sets only if they are given."""
    print(machine())
    print_penalties(penalties(sets_named(options)))
