"""What the rules share whose state is a sum over pairs: G = Σ ψψᵀ, Q = Σ ψvᵀ and Σ v²."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assocmem.rules._blas import (
    Matrix64,
    add_gram,
    add_gram_single,
    add_product,
    cholesky,
    cholesky_solve,
    norm,
    row_squares,
    symmetric_product,
)
from assocmem.rules._solve import (
    Solution,
    condition_number,
    copies_left,
    error_bound,
    mean_eigenvalue,
    shifted,
    solve,
)
from assocmem.rules.base import COUNT, FLOAT64, NEVER_STORED, ROWS_ROUNDED_ONCE, Layout, Rule, State, effective_number
from assocmem.rules.constraints import Constraint, constraint, free_gram, merged

SUMS = ("gram", "cross", "squared_values", "rounding", "rounding_cross")  # what fades with a forgetting factor
OF_VALUES = ("cross", "squared_values")

# What rounding may leave, as a share of the squared values, where exact arithmetic leaves nothing.
ROUNDING = 1e-6
DIGITS_LOST = 1e-8  # what is left of the sum of squares carries rounding of 1e-16 of what was there
VERIFYING_SHIFT = 1e-8  # the smallest with which Cholesky is reliable: what it adds could hide a false pair

EPS_RATIO = float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)


class SumRule(Rule):
    """A rule that keeps the sums, and a factor by which the past fades."""

    forgetting: float
    of_values: ClassVar[tuple[str, ...]] = (*OF_VALUES, "rounding_cross")

    def subtract(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Subtract a block from the sums."""
        add_to_sums(state, features, values, -1.0)

    def condition(self, state: State, solution: Solution) -> float:
        """Estimate the condition number of G with penalty and shift."""
        return condition_number(free_sums(state)[0], (solution.alpha or 0.0) + solution.shift)

    def error_bound(self, state: State, weights: NDArray[Any]) -> float:
        """Bound the rounding of the solution by residual, rounding of the sums and smallest eigenvalue."""
        return error_bound_of_sums(state, weights, self.penalty(state) or 0.0)

    def remains(self, state: State, features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bound the copies of features that G can hold, and return their parts outside of its range."""
        exact = features.astype(np.float64, copy=False)
        return copies_left(state["gram"], exact, float(state["rounding"]))

    def effective_number(self, state: State) -> float:
        """Return the effective number of pairs that weigh forgetting^age."""
        return effective_number(int(state["n_stored"]), self.forgetting)

    def _note_rounding(self, state: State, n_rows: int) -> None:
        super()._note_rounding(state, n_rows)
        changes = np.sqrt(1.0 + n_rows / ROWS_ROUNDED_ONCE)
        state["rounding_cross"][...] = np.hypot(state["rounding_cross"], changes * norm(state["cross"]))

    def magnitude(self, state: State) -> float:
        """Return the mean eigenvalue of G."""
        return mean_eigenvalue(state["gram"])

    def exchange(self, state: State, features: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
        """Exchange values in the sums: Q ← Q + Fᵀ(new − old), while G stays as it is to the last bit."""
        exchange_in_sums(state, features, old, new)

    def verify(self, before: State, after: State) -> None:
        """Refuse sums that no pairs can have."""
        verify_sums(before, after)

    def refuse_forget(self) -> None:
        """Refuse with a forgetting factor: how much of a pair is left depends on when it was stored."""
        refuse_faded(self, "forget", self.forgetting)

    def refuse_merge(self) -> None:
        """Refuse with a forgetting factor: the result would depend on which memory is the older."""
        refuse_faded(self, "merge", self.forgetting)


def refuse_faded(rule: Rule, what: str, forgetting: float) -> None:
    """Refuse what a rule cannot do while its past fades."""
    if forgetting != 1.0:
        raise ValueError(
            f"{type(rule).__name__}(forgetting={forgetting}) cannot {what}: what is left of a pair depends on when it "
            f"was stored; expected forgetting=1.0; build the memory without forgetting"
        )


def sums_layout(rank: int, value_dim: int) -> Layout:
    """The lower triangle of G = Σ ψψᵀ, then Q = Σ ψvᵀ and, for every output, Σ v²: always float64."""
    return {
        "gram": ((rank, rank), FLOAT64),
        "cross": ((rank, value_dim), FLOAT64),
        "squared_values": ((value_dim,), FLOAT64),
        "rounding_cross": ((), FLOAT64),  # norm of Q times how often it has been rounded, as independent errors add
        "n_noisy": COUNT,  # pairs stored with noise, of which G holds the variances too
        "n_shifted": COUNT,  # edits in another metric, which leave Q outside of the range of G
    }


def add_to_sums(
    state: State, features: NDArray[Any], values: NDArray[Any], factor: float = 1.0, *, single: bool = False
) -> None:
    """Add `factor` times a block of pairs; with `single`, float32 features are multiplied in single precision."""
    exact_values = values.astype(np.float64, copy=False)
    if single:
        add_gram_single(state["gram"], features, factor)
        product = features.T @ values
        state["cross"] += np.float64(factor) * product
        blurred = EPS_RATIO * norm(product)
        state["rounding_cross"][...] = np.hypot(state["rounding_cross"], blurred)
        blurred = squared_size(features) / features.shape[1] * EPS_RATIO
        state["rounding"][...] = np.hypot(state["rounding"], blurred)
    else:
        exact = features.astype(np.float64, copy=False)
        add_gram(state["gram"], exact, factor)
        add_product(state["cross"], exact, exact_values, factor)
    state["squared_values"] += factor * np.einsum("ij,ij->j", exact_values, exact_values)


def squared_size(features: NDArray[Any]) -> float:
    """Sum of all squares, in float64."""
    return float(row_squares(features).sum(dtype=np.float64))


def error_bound_of_sums(state: State, weights: NDArray[Any], alpha: float) -> float:
    """Bound the relative error of weights that solve for the sums; what their own type cannot tell comes on top."""
    gram, cross, fixed = free_sums(state)
    exact = weights.astype(np.float64, copy=False)
    rounded = float(np.finfo(weights.dtype).eps) / 2 if exact.any() else 0.0
    free = exact if fixed is None else exact - fixed.offset
    return rounded + error_bound(gram, cross, free, alpha, float(state["rounding"]), float(state["rounding_cross"]))


def exchange_in_sums(state: State, features: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
    """Give pairs other values."""
    exact, before, after = (np.asarray(array, np.float64) for array in (features, old, new))
    add_product(state["cross"], exact, after - before)
    state["squared_values"] += np.einsum("ij,ij->j", after, after) - np.einsum("ij,ij->j", before, before)


def merge_sums(state: State, other: State) -> State:
    """Add the sums of two memories, and join their fixed recalls."""
    sums = {name: state[name] + other[name] for name in ("gram", *OF_VALUES, "n_noisy", "n_shifted")}
    sums["rounding_cross"] = np.array(np.hypot(state["rounding_cross"], other["rounding_cross"]))
    return {**sums, **merged(state, other)}


def verify_sums(before: State, after: State) -> None:
    """Refuse sums that no pairs can have: G must be positive semidefinite, also when bordered by Q and Σ‖v‖²."""
    level = mean_eigenvalue(before["gram"])
    left = mean_eigenvalue(after["gram"])
    if after["n_stored"] and -ROUNDING * level <= left < DIGITS_LOST * level:
        raise ValueError(
            f"the keys to forget are so much longer than the others that only {left / level:.0e} of the sum of squares "
            f"would be left, blurred by rounding; expected at least {DIGITS_LOST:g}; store the other pairs in a new "
            f"memory; nothing was changed"
        )
    # Products in single precision have blurred the sums by more than what rounding in double precision does.
    blur = 10 * np.finfo(np.float64).eps * float(after["rounding"]) / level
    factor = shifted(after["gram"], level, max(VERIFYING_SHIFT, blur))
    if not cholesky(factor):
        raise ValueError(NEVER_STORED)
    if before["n_shifted"]:
        return
    explained = np.vdot(after["cross"] / level, cholesky_solve(factor, after["cross"]))
    if explained > after["squared_values"].sum() + max(ROUNDING, blur) * before["squared_values"].sum():
        raise ValueError(NEVER_STORED)


def free_sums(state: State) -> tuple[Matrix64, Matrix64, Constraint | None]:
    """G and Q of the ridge problem that is left where recalls are fixed, and what fixes them."""
    fixed = constraint(state)
    if fixed is None:
        return state["gram"], state["cross"], None
    cross = state["cross"] - symmetric_product(state["gram"], fixed.offset)
    cross -= fixed.basis.T @ (fixed.basis @ cross)
    return free_gram(state["gram"], fixed.basis), np.ascontiguousarray(cross), fixed


def solve_sums(state: State, alpha: float) -> tuple[Matrix64, Solution]:
    """Ridge weights (D, v) of the sums, among those that leave fixed recalls as they are, and how they were found."""
    gram, cross, fixed = free_sums(state)
    free, found = solve(gram, cross, alpha, float(state["rounding"]), float(state["rounding_cross"]))
    if fixed is None:
        return free, found
    free -= fixed.basis.T @ (fixed.basis @ free)
    return np.ascontiguousarray(fixed.offset + free), found
