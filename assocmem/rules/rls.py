"""Recursive least squares: the ridge solution, up to date after every write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks
from assocmem.rules.arrays import Layout, Shape, Solution
from assocmem.rules.base import Cost, Solved, State
from assocmem.rules.blas import (
    Matrix64,
    add_gram,
    add_product,
    cholesky,
    invert_from_cholesky,
    row_squares,
    solve_lower,
    symmetric_product,
)
from assocmem.rules.least_squares import (
    LeastSquaresRule,
    SumState,
    best_penalty,
    checked_decay,
    sums_of,
    weigh_by_age,
)
from assocmem.rules.ridge import Ridge
from assocmem.rules.solve import Regularised
from assocmem.rules.sums import Sums, squared_size

BLOCK = 256
SMALLEST_ALPHA = 1e-300  # its inverse must be a number
DEFAULT_ALPHA = 1e-6  # of the geometric mean of the mean squared features

# Shares of the mean eigenvalue of G. A penalty below the first is lost in the rounding of R, unless the eigenvalues of
# G are all above the third. One that has faded so far is raised to the second: by little, since recalls jump with it.
FADED = 1e-10
RAISED = 3e-10
HELD = 1e-8
CLEAR = 1e4  # times the rounding of G, below which it would show in an R that is computed from G

ADDED = ("log_sizes", "inverted")  # numbers that files written before them lack


@dataclass
class RecursiveState(SumState):
    """The sums, the lower triangle of R = (G + αI)⁻¹, U = R Q, and the α in use (0 before the first pair).

    R alone cannot forget: at low load a stored pair has leverage 1 − 1e-9, and R knows it to 1e-7. From the sums,
    forgetting and merging are exact.

    Parameters
    ----------
    log_sizes : float
        Σ log(‖ψ‖²/D) over the pairs, by which α is chosen.
    inverted : int
        1 if R and U belong to the sums; 0 where only the sums are kept up to date, and solved when asked.
    """

    inverse: Matrix64
    solution: Matrix64
    alpha: float = 0.0
    log_sizes: float = 0.0
    inverted: int = 1

    @property
    def edited(self) -> bool:
        """Whether recalls are fixed, which R does not know."""
        return len(self.total.edits) > 0

    def layout(self, arrays: Mapping[str, NDArray[Any]]) -> Layout:
        """Shape and dtype of every array that `fill` takes."""
        expected = super().layout(arrays)
        return {name: form for name, form in expected.items() if name in arrays or name not in ADDED}

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of a file; in an older one α tells the sizes of the keys."""
        super().fill(arrays)
        if "log_sizes" not in arrays and self.alpha > 0:
            self.log_sizes = self.n_stored * math.log(self.alpha / DEFAULT_ALPHA)


@dataclass(frozen=True)
class RecursiveLeastSquares(LeastSquaresRule):
    """Recursive least squares: keeps R = (G + αI)⁻¹ and U = R Q beside the sums G and Q, all updated with every write.

    The same solution as `Ridge` with the same α, without a solve before a recall: O(D²) a pair. A block of B pairs
    is one step through a B × B Cholesky factor. A decay weighs a pair by decay^age.

    Where α is lost next to the keys (1e-10 of the mean eigenvalue of G, while there are directions without pairs), and
    while recalls are edited, only the sums are updated, and the next recall solves for them as under `Ridge`.

    Parameters
    ----------
    alpha : float above 0, or None
        Penalty on the squared weights. None takes 1e-6 of the geometric mean of the mean squared features of the pairs
        stored, to the nearest power of two, and follows it as pairs come and go: it depends neither on their order nor
        on one that was forgotten. `AssociativeMemory.alpha` shows it.
    decay : float in (0, 1]
        Weight that the past keeps with each further pair. The penalty fades with it. Where pairs hold not every
        direction it is kept between 1e-10 and 3e-10 of the mean eigenvalue of G, which rounding cannot overcome.

    References
    ----------
    Haykin (2002), "Adaptive Filter Theory", chapter 9; Woodbury (1950).

    Examples
    --------
    >>> import numpy as np
    >>> from assocmem import AssociativeMemory
    >>> rng = np.random.default_rng(0)
    >>> keys, values = rng.standard_normal((50, 16)), rng.standard_normal((50, 3))
    >>> memory = AssociativeMemory(key_dim=16, value_dim=3, rule=RecursiveLeastSquares(alpha=0.1))
    >>> memory.store(keys, values)
    >>> from assocmem import Ridge
    >>> batch = AssociativeMemory(key_dim=16, value_dim=3, rule=Ridge(alpha=0.1))
    >>> batch.store(keys, values)
    >>> bool(np.allclose(memory.weights, batch.weights))
    True
    """

    name: ClassVar[str] = "rls"
    in_place: ClassVar[bool] = True

    alpha: float | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha is not None:
            alpha = checks.as_number("alpha", self.alpha, SMALLEST_ALPHA, np.finfo(float).max)
            object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "decay", checked_decay(self.decay))

    # ------------------------------------------------------------------------------------------------- contract

    def start(self, shape: Shape) -> RecursiveState:
        """Return the sums of no pairs; R stands for itself once α is known."""
        d, v = shape.rank, shape.value_dim
        return RecursiveState(shape, Sums.zeros(shape), np.zeros((d, d)), np.zeros((d, v)))

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Update R, U and the sums with a block of pairs; where R is to be recomputed at its end, only the sums."""
        if not len(features):
            return
        known = cast(RecursiveState, state)
        exact, exact_values = features.astype(np.float64, copy=False), values.astype(np.float64, copy=False)
        n_before, n_after, rank = state.n_stored, state.n_stored + len(exact), exact.shape[1]
        with state.changing():
            known.log_sizes += _log_sizes(exact)
            if n_before == 0:
                self._begin(known, n_after)
            # Digits that the first pairs cost, while R spans 1/α to 1/λ, are recovered once there are enough.
            due = _doublings(n_after, rank) > _doublings(n_before, rank)
            known.inverted = 0 if due or known.edited else known.inverted
            block = self._block()
            for start in range(0, len(exact), block):
                self._step(known, exact[start : start + block], exact_values[start : start + block])
            known.n_stored = n_after
            if not known.inverted:
                self._follow_sums(known, due)
            elif self._differs(known):
                self._rebuild(known)

    def solve(self, state: State) -> Solved:
        """Return U, which every write has updated, or solve for it where only the sums are kept."""
        known, alpha = cast(RecursiveState, state), self.alpha_for(state)
        if known.inverted and not known.edited:
            return Solved(known.solution, Solution("updated inverse", alpha))
        return Solved(*known.total.solve(alpha or 0.0))

    def remove(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Subtract a block from the sums; R and U wait for `recompute`."""
        known = cast(RecursiveState, state)
        super().remove(state, features, values)
        known.log_sizes -= _log_sizes(features.astype(np.float64, copy=False))
        known.inverted = 0

    def merge(self, state: State, other: State) -> RecursiveState:
        """Add the sums."""
        merged = self.start(state.shape)
        merged.total = sums_of(state).plus(sums_of(other))
        merged.n_stored = state.n_stored + other.n_stored
        merged.log_sizes = cast(RecursiveState, state).log_sizes + cast(PartialState, other).log_sizes
        self.recompute(merged)
        return merged

    def for_parts(self) -> PartialSums:
        """Return the rule that only sums: one solve, when the parts are merged, is enough."""
        return PartialSums()

    def recompute(self, state: State) -> None:
        """Recompute α, R and U from the sums, discarding accumulated rounding."""
        known = cast(RecursiveState, state)
        self._rebuild(known)
        if known.inverted and self.decay == 1.0 and known.n_stored:
            # Deletions leave rounding where G holds nothing. R would divide it by α, a solution by iteration does not.
            known.solution[...] = known.total.solve(known.alpha)[0]

    def resolve(self, state: State, before: State) -> None:
        """Recompute U = R Q at O(D² v) in a state that differs from an earlier one in values alone."""
        known, was = cast(RecursiveState, state), cast(RecursiveState, before)
        known.alpha, known.log_sizes, known.inverted = was.alpha, was.log_sizes, was.inverted
        if known.inverted:
            solution = symmetric_product(known.inverse, known.total.cross)
            known.solution[...] = solution + symmetric_product(known.inverse, _residual(known, solution))

    # ---------------------------------------------------------------------------------------------------- steps

    def _block(self) -> int:
        """Pairs in one step: within it the past must not fade by more than half, which would cost digits."""
        if self.decay == 1.0:
            return BLOCK
        return int(min(max(np.log(0.5) / np.log(self.decay), 1), BLOCK))

    def _begin(self, state: RecursiveState, n_pairs: int) -> None:
        """Make R that of no pairs, with the α that the first pairs choose."""
        state.alpha = _chosen(state.log_sizes, n_pairs) if self.alpha is None else self.alpha
        state.inverted = 1
        state.inverse[...] = state.solution[...] = 0.0
        state.inverse.reshape(-1)[:: len(state.inverse) + 1] = 1.0 / state.alpha

    def _step(self, state: RecursiveState, features: Matrix64, values: Matrix64) -> None:
        """Add a block to the sums, and to R and U if these are kept and rounding does not overcome them."""
        past, features, values, roots = weigh_by_age(self.decay, features, values)
        if state.inverted:
            level = past * state.total.level + squared_size(features) / features.shape[1]
            kept = _reliable(state.inverse, past, state.alpha * past, level)
            state.inverted = int(kept and _update(state, features, values, past))
        if past != 1.0:
            state.alpha *= past
            state.total.fade(past)
        state.total.add(features, values, roots=roots)

    def _follow_sums(self, state: RecursiveState, due: bool) -> None:
        """Recompute R from the sums if that is due, or possible again; else keep α up to date."""
        if self.decay == 1.0:
            state.alpha = self._wanted(state)
        elif not due:
            state.alpha = max(state.alpha, RAISED * state.total.level)
        if due or state.alpha >= self._floor(state, RAISED):
            self._rebuild(state)

    def _rebuild(self, state: RecursiveState) -> None:
        """Compute α, R and U from the sums; where R would be lost in rounding, only α."""
        state.alpha = self._wanted(state)
        state.inverted = int(self._invert(state))
        if not state.inverted and self.decay != 1.0 and state.alpha < RAISED * state.total.level:
            state.alpha = RAISED * state.total.level
            state.inverted = int(self._invert(state))

    def _wanted(self, state: RecursiveState) -> float:
        """The penalty for what is stored; one that has been raised since it faded stays."""
        if state.n_stored == 0:
            return 0.0
        if self.alpha is not None:
            return self.alpha if self.decay == 1.0 else state.alpha
        chosen = _chosen(state.log_sizes, state.n_stored)
        if self.decay == 1.0:
            return chosen
        faded = chosen * self.decay**state.n_stored
        return max(faded, min(state.alpha, RAISED * state.total.level))

    def _differs(self, state: RecursiveState) -> bool:
        """Whether the pairs choose another α; where it fades, by more than a factor of two."""
        slack = 1.0 if self.decay == 1.0 else 2.0
        return not state.alpha / slack <= self._wanted(state) <= slack * state.alpha

    def _floor(self, state: RecursiveState, share: float) -> float:
        """Eigenvalue above which R is known when it is computed from the sums."""
        noise = state.total.noise if self.decay == 1.0 else 0.0  # of sums that fade, rounding fades too
        return max(share * state.total.level, CLEAR * noise)

    def _invert(self, state: RecursiveState) -> bool:
        """Compute R and U from the sums; False where R would be lost in rounding."""
        total, alpha, level = state.total, state.alpha, state.total.level
        if state.n_stored == 0 and not state.edited:
            state.solution[...] = 0.0
            return True
        hopeless = alpha < self._floor(state, FADED) and state.n_stored < len(total.gram)
        if state.edited or hopeless or (regularised := _factor(total.gram, alpha, level)) is None:
            return False
        unit, inverse = regularised.level, regularised.factor
        solution = regularised.solve(total.cross / unit)
        solution += regularised.solve(_residual(state, solution) / unit)
        invert_from_cholesky(inverse)
        inverse /= unit
        if alpha < self._floor(state, FADED) and float(inverse.trace()) * self._floor(state, HELD) > 1.0:
            return False
        state.inverse[...] = inverse
        state.solution[...] = solution
        return True

    # -------------------------------------------------------------------------------------------------- answers

    def alpha_for(self, state: State, n_pairs: int | None = None) -> float | None:
        """Return α; None before the first pair has chosen it."""
        return cast(RecursiveState, state).alpha if state.n_stored else self.alpha

    def tuned(self, query_cosine: float, n_pairs: int, shape: Shape) -> tuple[RecursiveLeastSquares, float]:
        """Return the rule with the best penalty for such queries, for keys of norm 1, and that penalty."""
        penalty = best_penalty(query_cosine, n_pairs, shape)
        return RecursiveLeastSquares(alpha=penalty * shape.rank or None), penalty

    def cost(self, shape: Shape) -> Cost:
        """Return bytes and operations: the sums, R times the features, and its update."""
        d, v = shape.rank, shape.value_dim
        return Cost(
            state_bytes=8 * (2 * d * d + 2 * d * v + v),
            work_bytes=8 * (d * d + 2 * d * v),
            store_operations=2 * d * (d + 1) + 2 * d**2 + 6 * d * v,
        )


def _update(state: RecursiveState, features: Matrix64, values: Matrix64, past: float) -> bool:
    """Woodbury: with K = R Fᵀ and L Lᵀ = I + F K, R loses (L⁻¹Kᵀ)ᵀ(L⁻¹Kᵀ), and U gains (L⁻¹Kᵀ)ᵀ L⁻¹(V − F U).

    False, and nothing changed, if R is broken.
    """
    gain = symmetric_product(state.inverse, features.T) / past
    inner = features @ gain
    inner.reshape(-1)[:: len(inner) + 1] += 1.0
    if not cholesky(inner):
        return False
    reduced = solve_lower(inner, gain.T)
    errors = solve_lower(inner, values - features @ state.solution)
    if past != 1.0:
        state.inverse /= past
    add_gram(state.inverse, reduced, -1.0)
    add_product(state.solution, reduced, errors)
    return True


def _residual(state: RecursiveState, solution: Matrix64) -> Matrix64:
    """Q − (G + αI) U for weights U (D, v)."""
    image = symmetric_product(state.total.gram, solution)
    return np.asarray(state.total.cross - image - state.alpha * solution)


def _reliable(inverse: Matrix64, past: float, alpha: float, level: float) -> bool:
    """Whether no eigenvalue of G + αI, with the inverse given times `past`, is lost in rounding."""
    return bool(alpha >= FADED * level or float(inverse.trace()) * HELD * level <= past)


def _factor(gram: Matrix64, alpha: float, level: float) -> Regularised | None:
    """Factor of G + αI in units of the larger of α and the level, so that nothing leaves the number range."""
    unit = max(alpha, level)
    return Regularised.of(gram, [alpha / unit], unit)


def _doublings(n_stored: int, rank: int) -> int:
    """How often the number of pairs has doubled since there was one for every dimension."""
    return (n_stored // rank).bit_length()


def _log_sizes(features: Matrix64) -> float:
    """Sum of the logarithms of the mean squares of features (B, D), of those whose squares are numbers."""
    sizes = row_squares(features) / features.shape[1]
    return float(np.log(np.clip(sizes, SMALLEST_ALPHA, 1 / SMALLEST_ALPHA)).sum())


def _chosen(log_sizes: float, n_pairs: int) -> float:
    """A share of the geometric mean of the sizes, to the nearest power of two: the same for any order of the pairs."""
    exponent = (log_sizes / n_pairs + math.log(DEFAULT_ALPHA)) / math.log(2)
    return max(2.0 ** round(exponent), SMALLEST_ALPHA)


@dataclass
class PartialState(SumState):
    """The sums over a part of the pairs, and what chooses α."""

    log_sizes: float = 0.0


@dataclass(frozen=True)
class PartialSums(Ridge):
    """The sums of recursive least squares without R and U, for parts of the pairs that are merged into a memory."""

    name: ClassVar[str] = "rls part"

    def start(self, shape: Shape) -> PartialState:
        """Return the sums of no pairs."""
        return PartialState(shape, Sums.zeros(shape))

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add a block to the sums."""
        cast(PartialState, state).log_sizes += _log_sizes(features.astype(np.float64, copy=False))
        super().store(state, features, values)

    def merge(self, state: State, other: State) -> PartialState:
        """Add the sums."""
        mine, theirs = cast(PartialState, state), cast(PartialState, other)
        total, n_stored = mine.total.plus(theirs.total), state.n_stored + other.n_stored
        return PartialState(state.shape, total, mine.log_sizes + theirs.log_sizes, n_stored=n_stored)
