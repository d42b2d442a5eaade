"""Leave-one-out residuals (v − ŷ) / (1 − h) of stored pairs, each with a bound on its error."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.rules.blas import Matrix64, norm, symmetric_product
from assocmem.rules.constraints import outside
from assocmem.rules.solve import Regularised
from assocmem.rules.sums import Sums

Numbers: TypeAlias = NDArray[np.float64]

TOLERANCE = 1e-4  # of a residual, or of the root mean square of the values of that output if that is larger
CAUTION = 10.0  # times an estimate of rounding, within which a number counts as 0
BOUND = 3.0  # times an estimated error: the true one was at most a tenth of this in a thousand hard cases
UNCERTAIN = 1e-9  # rounding of 1 − h, above which a pair may share its direction with parts of others
NOT_STORED = 1e-3  # leverage above 1 that no rounding of sums explains, where these are known at all
SHIFTS = (1e-8, 1e-6)  # of the factor where the penalty is smaller, as shares of the scale of G
PASSES = 4  # at most, by which the shift is taken back
EPS = float(np.finfo(np.float64).eps)


class Estimates(NamedTuple):
    """Residuals (B, v), bounds on their errors, and 1 − h (B,)."""

    found: Matrix64
    bounds: Matrix64
    freedom: Numbers


class LeftOut:
    """The residuals of pairs that these sums hold, each with the weight 1.

    G + αI is scaled to size 1, keys with it, and every output to values of root mean square 1, so that nothing leaves
    the number range. With M = G + αI, c = M⁻¹ψ and the rounding ΔG and ΔQ of the sums, to first order

        |Δ(v − ŷ)| ≤ ‖c‖ (‖ΔG‖ ‖u‖ + ‖Δq‖),   |Δh| ≤ ‖ΔG‖ ‖c‖²        for one output u of the weights, q of Q.

    A pair in whose direction no other has a part has v − ŷ = α n and 1 − h = α t, with n = ψᵀG⁺M⁻¹q and t = ψᵀG⁺M⁻¹ψ:
    the quotient n / t loses no digits as α → 0 (docs/theory.md).
    """

    def __init__(self, sums: Sums, alpha: float, n_stored: int) -> None:
        self._n_pairs = n_stored + len(sums.edits)
        gram, cross, self._fixed = sums.edits.free(sums.gram, sums.cross)
        unit = max(sums.level, alpha)
        self._root = np.sqrt(unit)
        self._gram, self._penalty = gram / unit, alpha / unit
        target, size = cross / self._root, np.sqrt(sums.squared_values / n_stored)
        size = np.where(size > 0, size, np.abs(target).max(axis=0, initial=0.0))
        self._size = np.where(size > 0, size, 1.0)
        self._target = target / self._size
        self._noise = sums.noise / unit + 2 * EPS * (np.sqrt(2) * norm(self._gram) + self._penalty)
        self._noise_cross = sums.noise_cross / self._root / self._size + EPS * np.linalg.norm(self._target, axis=0)

    def residuals(self, features: NDArray[Any], values: NDArray[Any], first_row: int) -> Matrix64:
        """Residuals (B, v) of features (B, D) and values (B, v); ValueError where one is not right to TOLERANCE."""
        rows, targets = features.astype(np.float64, copy=False), values.astype(np.float64)
        if self._fixed is not None:
            targets -= rows @ self._fixed.offset
            rows = outside(rows, self._fixed.basis)
        rows, targets = rows / self._root, targets / self._size
        found, bounds, _ = self._by_factor(rows, targets)
        doubtful = _are_wrong(found, bounds)
        if doubtful.any():
            numbers = first_row + np.flatnonzero(doubtful)
            found[doubtful] = self._by_spectrum(rows[doubtful], targets[doubtful], numbers)
        return found * self._size

    # ------------------------------------------------------------------------------------------------- by a factor

    @cached_property
    def _factor(self) -> Regularised | None:
        shifts = [self._penalty] if self._penalty >= SHIFTS[0] else list(SHIFTS)
        return Regularised.of(self._gram, shifts, 1.0)

    @cached_property
    def _solution(self) -> tuple[Matrix64, Numbers]:
        """Weights (D, v), and what their error is made of, next to ‖c‖."""
        assert self._factor is not None
        weights, left, _ = self._solve(self._factor, self._target)
        unknown = self._noise * np.linalg.norm(weights, axis=0) + self._noise_cross
        return weights, unknown + np.linalg.norm(left, axis=0)

    def _solve(self, factor: Regularised, columns: Matrix64) -> tuple[Matrix64, Matrix64, NDArray[np.bool_]]:
        """M⁻¹ columns (D, n) by iterative refinement, what is left of the columns, and whether that is rounding."""
        solved = factor.solve(columns)
        for passes in range(PASSES):
            left = columns - symmetric_product(self._gram, solved) - self._penalty * solved
            reachable = self._noise * np.linalg.norm(solved, axis=0) + EPS * np.linalg.norm(columns, axis=0)
            known = np.linalg.norm(left, axis=0) <= CAUTION * reachable
            if known.all() or passes == PASSES - 1:
                break
            solved = solved + factor.solve(left)
        return solved, left, known

    def _by_factor(self, rows: Matrix64, targets: Matrix64) -> Estimates:
        """Residuals by a Cholesky factor; bounds are infinite where it does not tell."""
        if self._factor is None:
            return Estimates(targets.copy(), np.full_like(targets, np.inf), np.zeros(len(rows)))
        columns = np.asfortranarray(rows.T)
        solved, left, known = self._solve(self._factor, columns)
        weights, loss = self._solution
        lengths = np.linalg.norm(solved, axis=0)
        rounding = 4 * EPS * (np.abs(targets) + np.abs(rows) @ np.abs(weights))
        freedom = 1 - np.einsum("ij,ij->j", solved, columns + left)
        estimates = _quotient(
            targets - rows @ weights, rounding + np.outer(lengths, loss), freedom, self._noise * lengths**2
        )
        estimates.bounds[~known] = np.inf
        return estimates

    # ------------------------------------------------------------------------------------------------ by the spectrum

    @cached_property
    def _spectrum(self) -> tuple[Numbers, Matrix64, Matrix64]:
        """Eigenvalues and eigenvectors of G, and Q in their basis; O(D³)."""
        spectrum, vectors = scipy.linalg.eigh(self._gram, lower=True, check_finite=False)
        return np.maximum(spectrum, 0.0), vectors, vectors.T @ self._target

    def _by_spectrum(self, rows: Matrix64, targets: Matrix64, numbers: NDArray[np.intp]) -> Matrix64:
        """Residuals in the eigenbasis of G; ValueError where even there rounding of the sums decides."""
        spectrum, vectors, cross = self._spectrum
        parts, empty = rows @ vectors, CAUTION * self._noise
        held = spectrum > empty
        used = held | (self._penalty > empty)
        lost = np.linalg.norm(parts[:, ~used], axis=1)
        direct = self._direct(parts[:, used], spectrum[used], cross[used], targets)
        self._refuse_strangers(direct, lost, numbers)
        alone = self._alone(parts[:, held], spectrum[held], cross[held], targets)
        unseen = self._unseen(held)
        alone.bounds[:, unseen] = np.inf
        if not used.all():
            direct.bounds[:, unseen] = np.inf
        better = alone.bounds < direct.bounds
        found, bounds = np.where(better, alone.found, direct.found), np.where(better, alone.bounds, direct.bounds)
        rounding = self._noise * np.linalg.norm(parts[:, held] / spectrum[held], axis=1)
        rounding += EPS * np.sqrt(len(spectrum)) * np.linalg.norm(parts, axis=1)
        bounds[lost > CAUTION * rounding] = np.inf
        wrong = _are_wrong(found, bounds)
        if wrong.any():
            raise ValueError(
                f"the leave-one-out residual of key {numbers[wrong][0]} is lost in the rounding of the sums: keys are "
                f"too near to each other, or too different in length, for it to be right to {TOLERANCE:g}; leave this "
                f"key out of the call, scale keys to one length before they are stored, or give the rule a larger "
                f"penalty"
            )
        return found

    def _direct(self, parts: Matrix64, spectrum: Numbers, cross: Matrix64, targets: Matrix64) -> Estimates:
        """(v − ŷ) / (1 − h)."""
        shifted = spectrum + self._penalty
        solved, weights = parts / shifted, cross / shifted[:, None]
        lengths = np.linalg.norm(solved, axis=1)
        loss = self._noise * np.linalg.norm(weights, axis=0) + self._noise_cross
        rounding = 4 * EPS * (np.abs(targets) + np.abs(parts) @ np.abs(weights))
        freedom = 1 - np.einsum("ij,ij->i", parts, solved)
        errors = targets - parts @ weights
        return _quotient(errors, rounding + np.outer(lengths, loss), freedom, self._noise * lengths**2)

    def _alone(self, parts: Matrix64, spectrum: Numbers, cross: Matrix64, targets: Matrix64) -> Estimates:
        """The quotient n / t; bounds are infinite for pairs in whose direction others have parts.

        They have none if there are no more pairs than dimensions held. Otherwise parts that G has lost in rounding
        may still show in v − ŷ, which knows √s where G knows s.
        """
        shifted = spectrum + self._penalty
        free, image = parts / spectrum, parts / (spectrum * shifted)
        weights, twice = cross / shifted[:, None], cross / (spectrum * shifted)[:, None]
        through, further = np.linalg.norm(free, axis=1), np.linalg.norm(image, axis=1)
        shares, freedom = np.einsum("ij,ij->i", parts, image), 1 - np.einsum("ij,ij->i", parts, free)
        uncertain = CAUTION * (self._noise * through**2 + 4 * EPS)
        alone = (np.abs(freedom) <= uncertain) & (shares > 0)
        if self._n_pairs > len(spectrum):
            exact = cross / spectrum[:, None]
            loss = self._noise * np.linalg.norm(exact, axis=0) + self._noise_cross
            rounding = np.outer(through, loss) + 4 * EPS * (np.abs(targets) + np.abs(parts) @ np.abs(exact))
            alone &= (uncertain < UNCERTAIN) & (np.abs(targets - parts @ exact) <= CAUTION * rounding).all(axis=1)
        over = np.where(alone, shares, 1.0)[:, None]
        found = (image @ cross) / over
        loss = self._noise * np.linalg.norm(weights, axis=0) + self._noise_cross
        error = np.outer(through, self._noise * np.linalg.norm(twice, axis=0)) + np.outer(further, loss)
        error += 4 * EPS * (np.abs(image) @ np.abs(cross))
        bounds = BOUND * (error + np.abs(found) * (2 * self._noise * through * further)[:, None]) / over
        bounds[~alone] = np.inf
        return Estimates(found, bounds, freedom)

    def _unseen(self, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether pairs that G has lost in rounding stand in an output of Q (v,), which knows √s where G knows s."""
        spectrum, _, cross = self._spectrum
        rounding = self._noise * np.linalg.norm(cross[held] / spectrum[held, None], axis=0) + self._noise_cross
        rounding += EPS * np.sqrt(len(cross)) * np.linalg.norm(cross, axis=0)
        return np.asarray(np.linalg.norm(cross[~held], axis=0) > CAUTION * rounding)

    def _refuse_strangers(self, direct: Estimates, lost: Numbers, numbers: NDArray[np.intp]) -> None:
        """Refuse keys that no stored pair can have: of leverage above 1, or outside of the range of G."""
        leverages = 1 - direct.freedom + lost**2 / max(self._penalty, CAUTION * self._noise)
        strange = leverages > 1 + NOT_STORED
        if strange.any():
            row = int(np.argmax(leverages))
            raise ValueError(
                f"key {numbers[row]} has leverage {leverages[row]:.3g}, and a stored key has at most 1; pass keys "
                f"exactly as they were stored"
            )


def _are_wrong(found: Matrix64, bounds: Matrix64) -> NDArray[np.bool_]:
    """Whether a row has a residual that is not known to TOLERANCE."""
    return np.asarray(~(bounds <= TOLERANCE * np.maximum(np.abs(found), 1.0)).all(axis=1))


def _quotient(errors: Matrix64, their_errors: Matrix64, freedom: Numbers, its_error: Numbers) -> Estimates:
    """Errors / freedom, with bounds that are infinite where the freedom could be 0."""
    uncertain = its_error + 4 * EPS
    known = freedom > CAUTION * uncertain
    over = np.where(known, freedom, 1.0)[:, None]
    found = errors / over
    bounds = BOUND * (their_errors + np.abs(found) * uncertain[:, None]) / over
    bounds[~known] = np.inf
    return Estimates(found, bounds, freedom)
