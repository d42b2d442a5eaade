"""Diagnosis of a memory in use: how full it is, how well it recalls, and for how long."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from assocmem import _checks
from assocmem.prediction import KINDS, predicted_error

if TYPE_CHECKING:
    from assocmem.memory import AssociativeMemory


@dataclass(frozen=True)
class Diagnosis:
    """What the laws say about a memory as it is now, for keys with random directions.

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
        Error allowed for noisy queries, and how many more pairs stay within it; None where no law is known.
    condition : float
        Largest over smallest eigenvalue of what is solved, on the directions that hold something; NaN for rules that
        solve nothing.
    warning : str
        In words, what is wrong; empty if nothing is.
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


def diagnose(
    memory: AssociativeMemory, *, query_cosine: float = 0.9, error: float = 0.05, kind: str = "sign"
) -> Diagnosis:
    """Diagnose a memory; see `AssociativeMemory.diagnose`."""
    cosine = _checks.as_number("query_cosine", query_cosine, 0.0, 1.0)
    allowed = _checks.as_number("error", error, 0.0, 1.0, open_low=True)
    kind = _checks.as_choice("kind", kind, KINDS)
    alpha = memory.alpha or 0.0  # read first: it stores what is pending
    spectrum = _spectrum(memory)
    penalty = alpha * memory.n_stored / spectrum.sum() if len(spectrum) and spectrum.sum() > 0 else 0.0

    def predicted(pairs: int, at: float) -> float:
        if not memory.features.whiten:
            return math.nan
        growth = pairs / max(memory.n_stored, 1) if getattr(memory.rule, "query_cosine", None) is not None else 1.0
        return predicted_error(
            memory.rule,
            pairs / memory.rank,
            at,
            kind,
            key_dim=memory.features.projection.key_dim,
            expansion=memory.expansion,
            value_dim=memory.value_dim,
            penalty=penalty * growth,
        )

    n = memory.n_stored
    clean, noisy = (predicted(n, at) if n else 0.0 for at in (1.0, cosine))
    left = None if math.isnan(noisy) else _pairs_left(n, lambda pairs: predicted(pairs, cosine) <= allowed)
    held = spectrum[spectrum > len(spectrum) * np.finfo(np.float64).eps * spectrum[-1]] if len(spectrum) else spectrum
    return Diagnosis(
        n_stored=n,
        rank=memory.rank,
        load=n / memory.rank,
        clean_error=clean,
        noisy_error=noisy,
        query_cosine=cosine,
        error=allowed,
        pairs_left=left,
        condition=float((held[-1] + alpha) / (held[0] + alpha)) if len(held) else math.nan,
        warning=_warning(memory, clean, noisy, cosine, allowed),
    )


def _spectrum(memory: AssociativeMemory) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Eigenvalues of G, ascending; empty for rules without one."""
    gram = memory._state.get("gram")
    if gram is None:
        return np.empty(0)
    return np.asarray(scipy.linalg.eigvalsh(gram, lower=True, check_finite=False))


def _pairs_left(stored: int, within: Callable[[int], bool]) -> int:
    """Return how many more pairs stay within the error, by bisection."""
    if not within(max(stored, 1)):
        return 0
    low, high = max(stored, 1), 2 * max(stored, 1)
    while high < 10**15 and within(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low - stored


def _warning(memory: AssociativeMemory, clean: float, noisy: float, cosine: float, allowed: float) -> str:
    load = memory.n_stored / memory.rank
    exact = memory.rule.name in ("ridge", "rls") and getattr(memory.rule, "forgetting", 1.0) == 1.0
    remedy = "build a memory with a larger expansion, or forget pairs"
    if exact and load > 1:
        return (
            f"past capacity: {memory.n_stored} pairs in rank {memory.rank} can no longer be recalled exactly; {remedy}"
        )
    if clean > allowed:
        return f"past capacity: {clean:.1%} error expected even for the stored keys themselves; {remedy}"
    if noisy > allowed:
        cure = f"give the rule a penalty, for example Ridge(query_cosine={cosine:g}), or " if exact else ""
        return f"{noisy:.1%} error expected for queries at cosine {cosine:g}; {cure}{remedy}"
    return ""
