"""Deletion: remove or replace stored pairs, and bound the copies of a key that remain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.cell import Block, Cell
from assocmem.core import checks
from assocmem.rules import AdditiveRule, Rule, State


@dataclass(frozen=True)
class DeletionReport:
    """What a memory can still tell of keys, beyond what the remaining pairs imply.

    Parameters
    ----------
    max_copies : (N,) float64
        Upper bound on the copies of the key among the stored pairs: 1 / ψᵀG⁺ψ, the largest c for which G − c ψψᵀ is
        still a sum over pairs. About 0, by rounding 1e-8 or less, proves that the key is gone; a stored key has 1 or
        more, a key that near duplicates describe lies between. Above load 1 every key lies in the span of the others
        and nothing can be proved: the numbers are large then.
    residual : (N,) float64
        Length of the recall for the part of the key that no remaining pair shares, as a share of the recall of a
        typical key: 0 in exact arithmetic, so it shows rounding.
    """

    max_copies: NDArray[np.float64]
    residual: NDArray[np.float64]


def forget(cell: Cell, keys: NDArray[Any], values: NDArray[Any], query_cosine: float) -> None:
    """Forget checked pairs; see `AssociativeMemory.forget`."""
    if len(keys):
        with cell.writing:
            cell.commit(without_pairs(cell.rule, cell.current(), cell.blocks(keys, values, query_cosine)))


def replace(cell: Cell, keys: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
    """Replace the values of checked pairs; see `AssociativeMemory.replace`."""
    if len(keys):
        with cell.writing:
            blocks = (
                (features, checks.to_dtype(old[chunk], cell.shape.dtype), checks.to_dtype(new[chunk], cell.shape.dtype))
                for chunk, features in cell.features_of(keys)
            )
            cell.commit(with_values(cell.rule, cell.current(), blocks))


def report(cell: Cell, keys: NDArray[Any]) -> DeletionReport:
    """Report on checked keys; see `AssociativeMemory.verify_forgotten`."""
    with cell.writing:
        state, weights = cell.current(), cell.view().weights
        reports = [report_of(state, weights, features) for _, features in cell.features_of(keys)]
    reports = reports or [DeletionReport(np.empty(0), np.empty(0))]
    return DeletionReport(
        np.concatenate([part.max_copies for part in reports]), np.concatenate([part.residual for part in reports])
    )


def without_pairs(rule: Rule, state: State, blocks: Iterable[Block]) -> State:
    """The state of a memory that never stored these pairs, or ValueError; `state` itself stays as it is."""
    additive, left = cast(AdditiveRule, rule), state.copy()
    for block in blocks:
        _refuse_too_many(left, len(block.features), state.n_stored)
        _refuse_other_noise(left, len(block.features), noisy=block.variances is not None)
        additive.remove(left, block.features, block.values)
        if block.variances is not None and left.sums is not None:
            left.sums.add_variances(-block.variances)
            left.sums.n_noisy -= len(block.features)
    if state.n_stored:
        additive.check_removed(state, left)
    if left.n_stored == 0:
        left = _emptied(additive, left)
    rule.recompute(left)
    return left


def _emptied(rule: AdditiveRule, state: State) -> State:
    """The state of no pairs, where subtraction left nothing but rounding; constraints stay."""
    empty = rule.start(state.shape)
    if state.sums is not None and empty.sums is not None:
        empty.sums.edits = state.sums.edits
    return empty


def with_values(rule: Rule, state: State, blocks: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> State:
    """The state with other values for pairs (features, old values, new values), or ValueError if none were stored."""
    additive, changed = cast(AdditiveRule, rule), state.copy()

    def old_pairs() -> Iterator[Block]:
        for features, old, new in blocks:
            additive.exchange(changed, features, old, new)
            yield Block(features, old)

    left = state.copy()
    for block in old_pairs():  # removing the old pairs shows what was never stored
        _refuse_too_many(left, len(block.features), state.n_stored)
        _refuse_other_noise(left, len(block.features), noisy=False)
        additive.remove(left, block.features, block.values)
    if state.n_stored:
        additive.check_removed(state, left)
    rule.recompute(changed)
    return changed


def report_of(state: State, weights: NDArray[Any], features: NDArray[Any]) -> DeletionReport:
    """Report on features (B, D), given the weights (D, v) of the state."""
    sums = state.sums
    if sums is None:
        raise ValueError(
            "this rule keeps no sum over keys, so it cannot bound the copies of one; build the memory with "
            "rule='ridge' or 'rls'"
        )
    size = float(np.abs(weights).max(initial=0.0)) or 1.0
    exact = weights.astype(np.float64, copy=False) / size
    typical = float(np.linalg.norm(exact)) / np.sqrt(len(exact)) or 1.0
    copies, outside = sums.copies(features)
    lengths = np.linalg.norm(features.astype(np.float64, copy=False), axis=1)
    return DeletionReport(copies, np.linalg.norm(exact.T @ (outside / lengths), axis=0) / typical)


def _refuse_too_many(left: State, n_pairs: int, n_stored: int) -> None:
    if n_pairs > left.n_stored:
        raise ValueError(
            f"more pairs to forget than the {n_stored} that are stored; pass each stored pair at most once; nothing "
            f"was changed"
        )


def _refuse_other_noise(left: State, n_pairs: int, *, noisy: bool) -> None:
    """Refuse more pairs with noise than were stored with noise, or more without than were stored without."""
    if left.sums is None:
        return
    n_noisy = left.sums.n_noisy
    n_clean = left.n_stored - n_noisy
    if noisy and n_pairs > n_noisy:
        raise ValueError(
            f"{n_pairs} pairs are to be forgotten with noise, and {n_noisy} were stored with noise; forget the others "
            f"without query_cosine"
        )
    if n_noisy and not noisy and n_pairs > n_clean:
        raise ValueError(
            f"{n_pairs} pairs are given without noise, and {n_clean} were stored without, {n_noisy} with; forget "
            f"these with their query_cosine, and store them again if their values change"
        )
