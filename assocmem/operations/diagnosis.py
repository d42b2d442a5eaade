"""Diagnosis of a memory in use: how full it is, how well it recalls, and for how many more pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.laws.prediction import KINDS, pairs_within, predicted_error
from assocmem.rules import Rule, State
from assocmem.rules.arrays import Solution
from assocmem.rules.ridge import ONE_PENALTY, Ridge
from assocmem.rules.solve import LARGEST_RATIO


@dataclass(frozen=True)
class Diagnosis:
    """Load, predicted errors and room of a memory, by the laws for keys with random directions.

    Parameters
    ----------
    n_stored, rank : int
        Pairs stored, and D.
    load : float
        N / D.
    clean_error, noisy_error : float
        Predicted error for queries that equal a stored key, and for noisy ones; NaN where no law is known.
    query_cosine : float
        Cosine of the noisy queries.
    error, pairs_left : float, int or None
        Error allowed for noisy queries, and the number of further pairs up to which the error stays within it all the
        way; None where no law is known.
    condition : float
        That of `AssociativeMemory.solution`: estimated condition number of the matrix that was factorised; NaN for
        rules that solve nothing.
    warning : str
        Empty unless a limit is passed.
    """

    n_stored: int
    rank: int
    load: float
    clean_error: float
    noisy_error: float
    query_cosine: float
    error: float
    pairs_left: int | None
    condition: float
    warning: str


def diagnose(cell: Cell, query_cosine: float, error: float, kind: str) -> Diagnosis:
    """Diagnose a memory; see `AssociativeMemory.diagnose`."""
    cosine = checks.as_number("query_cosine", query_cosine, 0.0, 1.0)
    allowed = checks.as_number("error", error, 0.0, 1.0, open_low=True)
    kind = checks.as_choice("kind", kind, KINDS)
    with cell.writing:
        return diagnosis_of(cell.rule, cell.current(), cell.solution(), cosine, allowed, kind)


def diagnosis_of(
    rule: Rule, state: State, solution: Solution, query_cosine: float, error: float, kind: str
) -> Diagnosis:
    """Diagnose a state and its solution."""
    if isinstance(rule, Ridge) and rule.per_output and state.n_stored:
        raise ValueError(ONE_PENALTY.format(rule=rule))
    shape, n = state.shape, state.n_stored
    size = 0.0 if state.sums is None else state.sums.level  # N times the mean ‖x‖²

    def penalty(pairs: int) -> float:
        """α / (D · mean ‖x‖²) once so many pairs are stored."""
        known = pairs == n or rule.alpha_is_expensive
        alpha = solution.alpha if known else rule.alpha_for(state, pairs)
        return min((alpha or 0.0) / size, LARGEST_RATIO) * n / shape.rank if size > 0 else 0.0

    def predicted(pairs: int, cosine: float) -> float:
        if not shape.whiten:
            return math.nan
        return predicted_error(
            rule,
            pairs / shape.rank,
            cosine,
            kind,
            key_dim=shape.key_dim,
            expansion=shape.expansion,
            value_dim=shape.value_dim,
            penalty=penalty(pairs),
        )

    clean, noisy = (predicted(n, cosine) if n else 0.0 for cosine in (1.0, query_cosine))
    left = None
    if not math.isnan(predicted(1, query_cosine)):
        most = pairs_within(error, lambda pairs: predicted(pairs, query_cosine), max(n, 1), shape.rank)
        left = max(most - n, 0)
    return Diagnosis(
        n_stored=n,
        rank=shape.rank,
        load=n / shape.rank,
        clean_error=clean,
        noisy_error=noisy,
        query_cosine=query_cosine,
        error=error,
        pairs_left=left,
        condition=solution.condition,
        warning=_warning(state, penalty(n), clean, noisy, query_cosine, error),
    )


def _warning(state: State, penalty: float, clean: float, noisy: float, cosine: float, error: float) -> str:
    n, rank = state.n_stored, state.shape.rank
    remedy = "build a memory with a larger expansion, or forget pairs"
    solves = state.sums is not None
    if solves and n > rank:
        if penalty == 0.0:
            return f"past capacity: {n} pairs in rank {rank} can no longer be recalled exactly; {remedy}"
        if clean > error:
            return (
                f"{n} pairs in rank {rank} are a least-squares fit: values that do not depend on the keys come back "
                f"with {clean:.1%} error, values that do, such as classes, with less; for the former {remedy}"
            )
        return ""
    if clean > error:
        return f"past capacity: {clean:.1%} error expected even for the stored keys themselves; {remedy}"
    if noisy > error:
        cure = f"give the rule a penalty, for example Ridge(query_cosine={cosine:g}), or "
        advice = cure + remedy if solves and penalty == 0.0 else remedy
        return f"{noisy:.1%} error expected for queries at cosine {cosine:g}; {advice}"
    return ""
