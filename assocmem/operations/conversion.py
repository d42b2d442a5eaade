"""The same sums under another rule, without storing again."""

from __future__ import annotations

import copy
import math

import numpy as np

from assocmem.cell import Cell
from assocmem.rules import RecursiveLeastSquares, Ridge, Rule, State
from assocmem.rules.least_squares import LeastSquaresRule, SumState, sums_of
from assocmem.rules.ridge import SINGLE_PRECISION
from assocmem.rules.rls import RecursiveState

BLURRED = 1e-9  # rounding, as a share of the mean eigenvalue, that products in single precision leave


def with_rule(cell: Cell, rule: Rule) -> Cell:
    """A cell of another rule over a copy of the same sums; see `AssociativeMemory.with_rule`."""
    _refuse_other_sums(cell.rule, rule)
    with cell.writing:
        before = cell.copied()
    assert isinstance(rule, LeastSquaresRule)
    after = rule.start(cell.shape)
    assert isinstance(after, SumState)
    after.total, after.n_stored, after.ledger = sums_of(before), before.n_stored, copy.copy(before.ledger)
    _refuse_other_pairs(rule, after)
    if isinstance(after, RecursiveState) and after.n_stored:
        if isinstance(before, RecursiveState):
            after.log_sizes = before.log_sizes
        else:  # by the arithmetic mean of the sizes of keys, as the sums do not hold the geometric one
            after.log_sizes = after.n_stored * math.log(after.total.level / after.n_stored)
        rule.recompute(after)
    converted = Cell(cell.features, rule, cell.shape.value_dim, ledger=cell.digester is not None)
    converted.commit(after)
    return converted


def _refuse_other_sums(old: Rule, new: Rule) -> None:
    """Refuse rules between which sums do not carry over."""
    for rule, role in ((old, "of this memory"), (new, "asked for")):
        if not isinstance(rule, LeastSquaresRule):
            raise ValueError(
                f"the rule {role}, {rule!r}, does not keep the sums that rules 'ridge' and 'rls' share; build a memory "
                f"with the rule and store the pairs again"
            )
    assert isinstance(old, LeastSquaresRule)
    assert isinstance(new, LeastSquaresRule)
    if old.decay != new.decay:
        raise ValueError(
            f"the pairs were stored with decay={old.decay}, and {new!r} would have weighed them otherwise; pass a rule "
            f"with decay={old.decay}, or store the pairs again"
        )
    if new.decay != 1.0 and isinstance(new, RecursiveLeastSquares):
        raise ValueError(
            f"the penalty of {new!r} fades with the pairs, and the sums do not tell how far; pass Ridge(alpha, "
            f"decay={new.decay}), or store the pairs again"
        )


def _refuse_other_pairs(rule: LeastSquaresRule, state: State) -> None:
    """Refuse a rule that would have stored these pairs otherwise, or not at all."""
    sums = sums_of(state)
    if sums.n_noisy and not rule.adds_variances:
        raise ValueError(
            f"{sums.n_noisy} pairs were stored with query_cosine, which {rule!r} cannot; pass Ridge(alpha), a number"
        )
    if sums.n_shifted:
        raise ValueError("an edit in another metric was fitted to the penalty of this memory; store the pairs again")
    if state.shape.dtype != np.float32 or sums.noise <= BLURRED * sums.level:
        return
    least = sums.noise / SINGLE_PRECISION
    known = isinstance(rule, Ridge) and not rule.alpha_is_expensive
    if not known or (rule.alpha_for(state) or 0.0) < least:
        raise ValueError(
            f"the pairs were multiplied in single precision, as the penalty of this memory allows, and {rule!r} needs "
            f"double precision; pass Ridge(alpha) with alpha of at least {least:.3g}, or store the pairs again"
        )
