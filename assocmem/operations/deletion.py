"""Deletion: remove or replace stored pairs, and bound the copies of a key that remain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.core.siphash import Words
from assocmem.rules import AdditiveRule, Rule, State, removal
from assocmem.rules.blocks import Block
from assocmem.rules.ledger import Ledger


@dataclass(frozen=True)
class DeletionReport:
    """What a memory can still tell of keys, beyond what the remaining pairs imply.

    Parameters
    ----------
    max_copies : (N,) float64
        Upper bound on the copies of the key among the stored pairs: 1 / ψᵀG⁺ψ, the largest c for which G − c ψψᵀ is
        still a sum over pairs. About 0, by rounding 1e-8 or less, proves that the key is gone; a stored key has 1 or
        more, a key that near duplicates describe lies between.
    residual : (N,) float64
        Length of the recall for the part of the key that no remaining pair shares, as a share of the recall of a
        typical key: 0 in exact arithmetic, so it shows rounding.
    provable : bool
        Whether a key that was forgotten can be told from one that was not. False where the stored pairs and the
        recalls that are fixed are `rank` or more, or a pair was stored with noise: every key then lies in the span of
        the others, and `max_copies` is large for keys that were never stored. A memory with a ledger refuses there
        what it does not hold, and gives a `Receipt` for what it forgot.
    """

    max_copies: NDArray[np.float64]
    residual: NDArray[np.float64]
    provable: bool = False


@dataclass(frozen=True)
class Receipt:
    """What a deletion did.

    Parameters
    ----------
    n_forgotten, n_left : int
        Pairs that were forgotten, and pairs that are still stored.
    digests : (N, 2) uint64, or None
        Digests of the forgotten pairs, in the order given; None without a ledger. None of them is in the ledger any
        more, unless an equal pair is still stored.
    error_bound : float or None
        `AssociativeMemory.error_bound` of what is left, at the time; None without a ledger, or for a rule without.
    """

    n_forgotten: int
    n_left: int
    digests: Words | None = field(default=None, repr=False)
    error_bound: float | None = None


def forget(
    cell: Cell,
    keys: NDArray[Any],
    values: NDArray[Any] | None,
    query_cosine: float,
    ids: Words | None = None,
) -> Receipt:
    """Forget checked pairs; see `AssociativeMemory.forget`."""
    with cell.writing:
        state = cell.current()
        digests, ledger = _struck(cell, state, keys, values, query_cosine, ids)
        if not len(keys):
            return Receipt(0, state.n_stored, digests)
        left = without_pairs(cell.rule, state, cell.blocks(keys, values, query_cosine))
        if ledger is None:
            cell.commit(left)
            return Receipt(len(keys), left.n_stored)
        left.ledger = ledger
        weights = cell.solved(left).weights.astype(cell.shape.dtype, copy=False)
        bound = cell.rule.error_bound(left, weights)  # before the commit: should it fail, nothing has changed
        cell.commit(left, weights)
        return Receipt(len(keys), left.n_stored, digests, None if bound is None else float(bound))


def replace(cell: Cell, keys: NDArray[Any], old: NDArray[Any], new: NDArray[Any], ids: Words | None = None) -> None:
    """Replace the values of checked pairs; see `AssociativeMemory.replace`."""
    if len(keys):
        with cell.writing:

            def blocks() -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
                for chunk, features in cell.features_of(keys):
                    before, after = (checks.to_dtype(values[chunk], cell.shape.dtype) for values in (old, new))
                    yield features, before, after

            state = cell.current()
            _, ledger = _struck(cell, state, keys, old, 1.0, ids)
            changed = with_values(cell.rule, state, blocks)
            if ledger is not None:
                ledger.add(cast(Words, cell.digests(keys, new, 1.0, ids)))
                changed.ledger = ledger
            cell.commit(changed)


def _struck(
    cell: Cell, state: State, keys: NDArray[Any], values: NDArray[Any] | None, query_cosine: float, ids: Words | None
) -> tuple[Words | None, Ledger | None]:
    """The digests of checked pairs, and the ledger without them; None without a ledger; or refuse other pairs."""
    if state.ledger is None:
        return None, None
    if values is None:
        raise ValueError(
            "values are missing, and the ledger knows pairs by key and value; pass values exactly as they were stored; "
            "nothing was changed"
        )
    digests = cast(Words, cell.digests(keys, values, query_cosine, ids))
    return digests, state.ledger.without(digests)


def report(cell: Cell, keys: NDArray[Any]) -> DeletionReport:
    """Report on checked keys; see `AssociativeMemory.verify_forgotten`."""
    with cell.writing:
        state, weights = cell.current(), cell.view().weights
        reports = [report_of(state, weights, features) for _, features in cell.features_of(keys)]
    return DeletionReport(
        np.concatenate([np.empty(0), *(part.max_copies for part in reports)]),
        np.concatenate([np.empty(0), *(part.residual for part in reports)]),
        _is_provable(state),
    )


def _is_provable(state: State) -> bool:
    """Whether the sums leave a direction free, in which a stored key would show."""
    sums = state.sums
    return sums is not None and not sums.n_noisy and state.n_stored + len(sums.edits) < state.shape.rank


def without_pairs(rule: Rule, state: State, blocks: Iterable[Block]) -> State:
    """The state of a memory that never stored these pairs, or ValueError; `state` itself stays as it is."""
    additive, left, removed = cast(AdditiveRule, rule), state.copy(), Removed(state.shape.rank)
    _remove(additive, state, left, blocks, removed)
    if left.n_stored == 0:
        left = _emptied(additive, left)
    elif left.sums is not None and state.sums is not None:
        alpha = 0.0 if rule.alpha_is_expensive else rule.alpha_for(left) or 0.0
        removal.refuse_lost(state.sums, left.sums, alpha)
    rule.recompute(left)
    return left


def with_values(
    rule: Rule, state: State, blocks: Callable[[], Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]]
) -> State:
    """The state with other values for pairs (features, old values, new values), or ValueError if none were stored."""
    additive, left, removed = cast(AdditiveRule, rule), state.copy(), Removed(state.shape.rank)
    old_pairs = (Block(features, old) for features, old, _ in blocks())
    _remove(additive, state, left, old_pairs, removed)  # shows what was never stored
    sums, known = left.sums, state.sums
    if sums is None or known is None:
        changed = state.copy()
        for features, old, new in blocks():
            additive.exchange(changed, features, old, new)
        return changed
    if left.n_stored == 0:
        sums.forget_values()
    for features, _, new in blocks():
        sums.add_values(features, new)
    sums.gram[...] = known.gram  # as it was, to the last bit
    sums.lost = known.lost
    removal.refuse_lost_values(known, sums)
    left.n_stored = state.n_stored
    additive.resolve(left, state)
    return left


class Removed:
    """Features and values that were removed, as long as they are no more than can be independent."""

    def __init__(self, most: int) -> None:
        self._most, self._n = most, 0
        self._features: list[NDArray[np.float64]] = []
        self._values: list[NDArray[np.float64] | None] = []

    def append(self, block: Block) -> None:
        """Keep a copy of a block."""
        self._n += len(block.features)
        if self._n > self._most:
            self._features = []
            self._values = [None if values is None else values[:0] for values in self._values]
            block = Block(block.features[:0], None if block.values is None else block.values[:0])
        self._features.append(np.array(block.features, np.float64))
        self._values.append(None if block.values is None else np.array(block.values, np.float64))

    @property
    def features(self) -> NDArray[np.float64] | None:
        """Features (n, D); None if there were more than D."""
        return np.concatenate(self._features) if 0 < self._n <= self._most else None

    @property
    def values(self) -> NDArray[np.float64] | None:
        """Values (n, v), or none of them if there were more than D; None if they were not given."""
        known = [values for values in self._values if values is not None]
        return np.concatenate(known) if known else None


def _remove(rule: AdditiveRule, state: State, left: State, blocks: Iterable[Block], removed: Removed) -> None:
    """Subtract pairs from a copy of a state, and refuse what no pairs can have left."""
    for block in blocks:
        _refuse_too_many(left, len(block.features), state.n_stored)
        _refuse_other_noise(left, len(block.features), noisy=block.variances is not None)
        _refuse_fixed(state, block.features)
        values = block.values
        if values is None:
            values = np.zeros((len(block.features), state.shape.value_dim), state.shape.dtype)
        rule.remove(left, block.features, values)
        removed.append(block)
        if block.variances is not None and left.sums is not None:
            left.sums.add_variances(-block.variances)
            left.sums.n_noisy -= len(block.features)
    if not state.n_stored:
        return
    if state.sums is None or left.sums is None:
        rule.check_removed(state, left)
        return
    known = state.ledger is not None
    removal.settle(state.sums, left.sums, left.n_stored, removed.features, removed.values, known=known)


def _emptied(rule: AdditiveRule, state: State) -> State:
    """The state of no pairs, where subtraction left nothing but rounding; constraints stay."""
    empty = rule.start(state.shape)
    if state.sums is not None and empty.sums is not None:
        empty.sums.edits = state.sums.edits
    return empty


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


def _refuse_fixed(state: State, features: NDArray[Any]) -> None:
    """Refuse a key whose recall is fixed: it would be recalled as before, and its features stand in the state."""
    if state.sums is None or not len(state.sums.edits):
        return
    held = state.sums.edits.holds(np.asarray(features, np.float64))
    if held.any():
        raise ValueError(
            f"key {int(np.argmax(held))} has a recall that is fixed by edit(); take that back first with "
            f"release(keys); nothing was changed"
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
