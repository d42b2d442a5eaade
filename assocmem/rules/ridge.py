"""The ridge rule: sums of products, solved when asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem import _checks
from assocmem.rules._blas import (
    Matrix64,
    add_gram,
    add_product,
    cholesky,
    cholesky_solve,
    symmetric_product,
)
from assocmem.rules.base import FLOAT64, NEVER_STORED, Layout, Rule, State

# Shifts of the Gram matrix, as shares of its mean eigenvalue, from which the solution for a smaller penalty is reached
# by iteration: each pass shrinks the error in a direction with eigenvalue s by shift / (s + shift), and leaves rounding
# of about 1e-16 / shift in directions that hold nothing. The first is the more accurate and is enough up to a load of
# about 0.97; the second is tried where the first does not converge; the others only where Cholesky fails.
SHIFTS = (1e-6, 1e-8, 1e-7, 1e-5, 1e-4, 1e-3)
MAX_PASSES = 12
CONVERGED = 1e-13  # residual, as a share of what rounding could still reach

# What rounding may leave, as a share of the squared values, where exact arithmetic leaves nothing.
ROUNDING = 1e-6
DIGITS_LOST = 1e-8  # what is left of the sum of squares carries rounding of 1e-16 of what was there
VERIFYING_SHIFT = 1e-8  # the smallest with which Cholesky is reliable: what it adds could hide a false pair

GCV = "gcv"
# Penalties that generalised cross-validation considers, as powers of ten of the largest eigenvalue.
GCV_EXPONENTS = np.arange(-12.0, 3.01, 0.25)


@dataclass(frozen=True)
class Ridge(Rule):
    """Ridge regression from the sums G = Σ ψψᵀ and Q = Σ ψvᵀ: U = (G + αI)⁻¹ Q, solved when a recall needs it.

    Order, chunks and shards do not matter, memories merge by addition, pairs are forgotten by subtraction. With
    α = 0 it is the minimum-norm least-squares solution: exact recall of up to D pairs.

    Sums of products square the condition number: pairs are told apart, and recalled exactly, if their keys differ by
    more than about 1e-3 of their length and the lengths by less than about 1e3. Nearer keys blur into one another.

    Parameters
    ----------
    alpha : float, at least 0, or "gcv"
        Absolute penalty on the squared weights, in the features that the memory uses; what scikit-learn's `Ridge`
        calls alpha. "gcv" chooses it by generalised cross-validation whenever it solves: for values that are a
        function of the key with noise. `AssociativeMemory.alpha` shows the choice.
    query_cosine : float in (0, 1], or None
        Instead of alpha: the cosine of queries to the keys that were stored (counting the bias, if there is one).
        The penalty is then the best one for such queries, N (1 − κ²)/κ² times the mean ‖x‖², at every number N of
        stored pairs. For whitened features.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not such a number, both are given, or the features are not whitened.

    References
    ----------
    Hoerl and Kennard (1970), "Ridge Regression"; iterated Tikhonov regularisation: Engl, Hanke and Neubauer (1996),
    "Regularization of Inverse Problems", section 5.1. Golub, Heath and Wahba (1979), "Generalized Cross-Validation as a
    Method for Choosing a Good Ridge Parameter".

    Examples
    --------
    >>> import numpy as np
    >>> from assocmem import AssociativeMemory
    >>> rng = np.random.default_rng(0)
    >>> keys, values = rng.standard_normal((100, 32)), rng.standard_normal((100, 3))
    >>> memory = AssociativeMemory(key_dim=32, value_dim=3, rule=Ridge(alpha=0.0))
    >>> memory.store(keys, values)
    >>> bool(np.allclose(memory.recall(keys), values))
    True
    """

    name: ClassVar[str] = "ridge"
    alpha: float | str = 0.0
    query_cosine: float | None = None

    def __post_init__(self) -> None:
        if self.alpha != GCV:
            if isinstance(self.alpha, str):
                raise ValueError(f"alpha is {self.alpha!r}; expected a number or {GCV!r}; check the spelling")
            object.__setattr__(self, "alpha", _checks.as_number("alpha", self.alpha, 0.0, np.finfo(float).max))
        if self.query_cosine is not None:
            cosine = _checks.as_number("query_cosine", self.query_cosine, 0.0, 1.0, open_low=True)
            object.__setattr__(self, "query_cosine", cosine)
            if self.alpha != 0.0:
                raise ValueError(
                    f"alpha={self.alpha!r} and query_cosine={cosine} are both given; expected one, since each "
                    f"chooses the penalty; drop the other"
                )

    def __repr__(self) -> str:
        chosen = f"alpha={self.alpha!r}" if self.query_cosine is None else f"query_cosine={self.query_cosine}"
        return f"Ridge({chosen})"

    def for_features(self, key_dim: int, expansion: int, whiten: bool) -> Ridge:
        """With a query cosine, return a rule that knows what it means for features of these sizes."""
        if self.query_cosine is None:
            return self
        if not whiten:
            raise ValueError(
                f"query_cosine={self.query_cosine} is given for features that are not whitened; expected whiten=True, "
                f"for which the law of the best penalty holds; use it, or give alpha"
            )
        from assocmem.laws import (  # not with the package: scipy.special
            best_penalty,
            feature_cosine,
            feature_cosine_gap,
        )

        cosine = (self.query_cosine, key_dim, expansion)
        bound = replace(self)
        # Not a field: two memories of one configuration have equal rules, and files need not hold it.
        noise = float(best_penalty(1.0, feature_cosine(*cosine), feature_cosine_gap(*cosine)))
        object.__setattr__(bound, "_penalty_per_pair", noise)
        return bound

    def penalty(self, state: State) -> float | None:
        """Return α, as given or as chosen for what is stored; None where it has yet to be chosen."""
        if self.alpha == GCV:
            return gcv_penalty(state) if state["n_stored"] else None
        if self.query_cosine is None:
            return float(self.alpha)
        # The trace of G is N · D · mean ‖x‖².
        return mean_eigenvalue(state["gram"]) * float(self._penalty_per_pair)  # type: ignore[attr-defined]

    def layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """The sums over all pairs."""
        return sums_layout(rank, value_dim)

    def add(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Add a block to the sums."""
        add_to_sums(state, features, values)

    def subtract(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Subtract a block from the sums."""
        add_to_sums(state, features, values, -1.0)

    def combine(self, state: State, other: State) -> State:
        """Add the sums."""
        return merge_sums(state, other)

    def weights(self, state: State) -> NDArray[Any]:
        """Solve (G + αI) U = Q, or its minimum-norm limit."""
        return solve_ridge(state["gram"], state["cross"], self.penalty(state) or 0.0)

    def refuse_noise(self) -> None:
        """Refuse noise beside a penalty that is chosen: the noise is one."""
        if self.alpha == GCV or self.query_cosine is not None:
            raise ValueError(
                f"noise is given to {self}, which chooses a penalty; expected a number for alpha, since noise is "
                f"itself the penalty for noisy keys; use Ridge(), or store without noise"
            )

    def add_variances(self, state: State, variances: NDArray[np.float64]) -> None:
        """Add the variances to the diagonal of G: Σ E ψψᵀ = Σ (Eψ)(Eψ)ᵀ + Σ Cov ψ (docs/theory.md)."""
        gram = state["gram"]
        gram.reshape(-1)[:: len(gram) + 1] += variances

    def verify(self, before: State, after: State) -> None:
        """Refuse sums that no pairs can have."""
        verify_sums(before, after)


def sums_layout(rank: int, value_dim: int) -> Layout:
    """The lower triangle of G = Σ ψψᵀ, then Q = Σ ψvᵀ and Σ‖v‖²: always float64."""
    return {
        "gram": ((rank, rank), FLOAT64),
        "cross": ((rank, value_dim), FLOAT64),
        "squared_values": ((), FLOAT64),
    }


def add_to_sums(state: State, features: NDArray[Any], values: NDArray[Any], factor: float = 1.0) -> None:
    """Add `factor` times a block of pairs."""
    # Also float32 features are multiplied in float64: single precision products would blur the small eigenvalues
    # on which exact recall at load near 1 stands.
    exact, exact_values = features.astype(np.float64, copy=False), values.astype(np.float64, copy=False)
    add_gram(state["gram"], exact, factor)
    add_product(state["cross"], exact, exact_values, factor)
    state["squared_values"] += factor * np.vdot(exact_values, exact_values)


def merge_sums(state: State, other: State) -> State:
    """Add the sums of two memories."""
    return {name: state[name] + other[name] for name in ("gram", "cross", "squared_values")}


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
    factor = _shifted(after["gram"], level, VERIFYING_SHIFT)
    if not cholesky(factor):
        raise ValueError(NEVER_STORED)
    explained = np.vdot(after["cross"] / level, cholesky_solve(factor, after["cross"]))
    if explained > after["squared_values"] + ROUNDING * before["squared_values"]:
        raise ValueError(NEVER_STORED)


def mean_eigenvalue(gram: Matrix64) -> float:
    """Mean of the diagonal; divided before it is summed, which cannot overflow."""
    return float((gram.diagonal() / len(gram)).sum())


def _shifted(gram: Matrix64, level: float, shift: float) -> Matrix64:
    """Return gram / level + shift * I as a copy."""
    scaled = gram / level
    scaled.reshape(-1)[:: len(gram) + 1] += shift
    return scaled


def solve_ridge(gram: Matrix64, cross: Matrix64, alpha: float) -> Matrix64:
    """Solve (gram + alpha I) U = cross by Cholesky; for alpha near or at 0 by iterated Tikhonov.

    Parameters
    ----------
    gram : (D, D) float64
        Lower triangle of a positive semidefinite matrix.
    cross : (D, v) float64
        In the range of `gram`.
    alpha : float
        At 0 the solution of minimum norm.

    Returns
    -------
    (D, v) float64, C-contiguous

    Raises
    ------
    ValueError
        If the matrix is not positive semidefinite even to rounding.
    """
    level = mean_eigenvalue(gram)
    size = float(np.abs(cross).max(initial=0.0))
    if level == 0.0 or size == 0.0:
        return np.zeros_like(cross)
    # Both of size 1, whatever the units of keys and values: no square below leaves the number range.
    penalty, target, unit = alpha / level, cross / size, size / level
    if penalty >= SHIFTS[0] and cholesky(factor := _shifted(gram, level, penalty)):
        return np.ascontiguousarray(cholesky_solve(factor, target) * unit)
    best = None
    for shift in SHIFTS:
        if best is not None and shift > SHIFTS[1]:
            break
        if cholesky(factor := _shifted(gram, level, penalty + shift)):
            best, converged = _iterate(factor, gram / level, penalty, target)
            if converged:
                break
    if best is None:
        raise ValueError(
            "the Gram matrix is not positive semidefinite; expected a sum over stored pairs; "
            "start a new memory, or load the last one that was saved"
        )
    return np.ascontiguousarray(best * unit)


def _iterate(factor: Matrix64, gram: Matrix64, penalty: float, target: Matrix64) -> tuple[Matrix64, bool]:
    """Refine the solution that a shifted factor gives towards (gram + penalty I) U = target; whether it got there."""
    solution = cholesky_solve(factor, target)
    last_size = np.inf
    for _ in range(MAX_PASSES):
        residual = target - symmetric_product(gram, solution) - penalty * solution
        # The residual tells convergence from rounding in directions that hold nothing, where further steps add noise.
        reachable = float(np.linalg.norm(target)) + float(np.linalg.norm(solution))
        if float(np.linalg.norm(residual)) <= CONVERGED * reachable:
            return solution, True
        step = cholesky_solve(factor, residual)
        size = float(np.linalg.norm(step))
        if size > 0.5 * last_size:
            break
        solution += step
        last_size = size
    return solution, False


def gcv_penalty(state: State) -> float:
    """Penalty of least generalised cross-validation score, from the sums alone; one eigendecomposition, O(D³).

    With G = E diag(s) Eᵀ and T = EᵀQ: GCV(α) = RSS(α)/N / (1 − df(α)/N)², where RSS is what no penalty explains
    either, plus Σ (T²/s) (α/(s + α))², and N − df = N − rank + Σ α/(s + α): sums of positive terms.

    References
    ----------
    Golub, Heath and Wahba (1979), Technometrics 21, equation 1.6.
    """
    from scipy.optimize import minimize_scalar  # not with the package: it doubles the time of its import

    spectrum, vectors = scipy.linalg.eigh(state["gram"], lower=True, check_finite=False)
    held = spectrum > len(spectrum) * np.finfo(np.float64).eps * spectrum[-1]
    if not held.any():
        return 0.0
    s = spectrum[held]
    explained = ((vectors[:, held].T @ state["cross"]) ** 2).sum(axis=1) / s
    n = float(state["n_stored"])
    # N pairs of independent features are all explained: the difference would be rounding.
    unexplained = max(float(state["squared_values"] - explained.sum()), 0.0) if n > len(s) else 0.0

    def score(exponent: float) -> float:
        lost = 1 / (1 + s / (10.0**exponent * s[-1]))
        freedom = (max(n - len(s), 0.0) + lost.sum()) / n
        return float((unexplained + explained @ lost**2) / n / freedom**2)

    best = GCV_EXPONENTS[np.argmin([score(exponent) for exponent in GCV_EXPONENTS])]
    refined = minimize_scalar(score, bounds=(best - 0.25, best + 0.25), method="bounded").x
    return float(10.0**refined * s[-1])
