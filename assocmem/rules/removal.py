"""What is left of sums when pairs are subtracted: whether pairs can have such sums, and values that are nearly right.

Q = Σ ψvᵀ of the remaining pairs lies in the range of their G. If the keys that were removed have parts ψ⊥ outside of
it, the values that had been stored for them follow from Q: with v' removed instead of v, what is left is
Q' = Q + Σ ψ(v − v')ᵀ, and ψ⊥Q' = ψ⊥ Σ ψ(v − v')ᵀ. So values that are rounded are made right, and none need be given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.rules.arrays import NEVER_STORED
from assocmem.rules.blas import Matrix64, column_norms, row_squares, symmetric_norm
from assocmem.rules.solve import EMPTY, EPS, Regularised, least_shift, smallest_shift
from assocmem.rules.sums import Sums

# What rounding may be after pairs are removed, as a share of what is left.
TOLERATED_LOSS = 1e-7
LARGEST_LOSS = 3e-4  # where products in single precision had blurred the sums before
SINGLE = 1e-9  # more than what double precision leaves
NEARLY_RIGHT = 1e-4  # of the largest value of a pair: what rounding to float32 or to a few decimals explains
INDEPENDENT = 1e-7  # cosine of the smallest angle between keys to remove and the others, squared
UNSEEN = 1e-11  # relative error of a value, below which it contradicts nothing
CLEAR_EVIDENCE = 10  # times what rounding explains
EXPLAINED = 0.1  # of what is outside of the range of G, and not by chance, may be left by values that explain it


def settle(
    before: Sums,
    after: Sums,
    n_left: int,
    features: Matrix64 | None,
    values: Matrix64 | None,
    *,
    known: bool = False,
) -> None:
    """Make sums those of the remaining pairs, or refuse them if no pairs can have them.

    Parameters
    ----------
    before, after : Sums
        Before, and after the pairs were subtracted; `after` is corrected in place.
    n_left : int
        Number of remaining pairs.
    features : (n, D) or None
        Of the keys that were removed; None if they are more than D, so that no value follows from the sums.
    values : (n, v) or None
        As they were subtracted, or none of them without features; None if they are unknown, and zeros were subtracted.
    known : bool
        Whether a ledger has shown that exactly these pairs are stored.

    Raises
    ------
    ValueError
        If a pair was never stored.
    """
    if known:
        return
    if n_left == 0:
        _refuse_remains(before, after, known=values is not None)
        return
    level, was = after.level, before.level
    if level <= 0.0 or not np.isfinite(level):
        if level < -TOLERATED_LOSS * was:
            raise ValueError(NEVER_STORED)
        return
    regularised = _factor(after)
    if after.n_shifted:
        return
    if values is None and features is None:
        raise ValueError(
            "more keys to forget than the rank of the memory, so that their values do not follow from what is stored; "
            "pass the values as they were stored; nothing was changed"
        )
    wrong, outside = _contradicted(before, after, regularised), _left_outside(after, regularised)
    most = UNSEEN * after.largest_products + after.noise_cross
    suspect = column_norms(outside) > CLEAR_EVIDENCE * most
    if features is not None and (values is None or wrong.any() or suspect.any()):
        # What no pairs can have is evidence. Without it, evidence is what is left, if it is explained by parts of the
        # keys that are larger than what the others may hold there unseen.
        is_proved = values is None or bool(wrong.any())
        implied = _Implied.of(after, regularised, features, 0.0 if is_proved else EMPTY * after.noise)
        if is_proved or implied.explains(outside, suspect, after.noise_cross, n_left):
            after.correct(features, *implied.correction(values, after.noise_cross))
            wrong, outside = _contradicted(before, after, regularised), _left_outside(after, regularised)
    if wrong.any():
        raise ValueError(NEVER_STORED)
    # What rounding of the values, too small to be seen, has left in directions that no pair holds.
    outside = np.where(column_norms(outside) <= most, outside, 0.0)
    after.cross -= outside
    after.lost_cross = np.hypot(after.lost_cross, column_norms(outside))


def _factor(after: Sums) -> Regularised:
    """The factor with the smallest shift; or refuse eigenvalues below 0 that rounding does not explain."""
    smallest, least = smallest_shift(after.gram, after.noise), least_shift(after.gram, after.noise)
    found = Regularised.of(after.gram, [least])
    if found is None:
        raise ValueError(NEVER_STORED)
    # Rounding of what is solved for with the smaller one is too large.
    return found if least == smallest else Regularised.require(after.gram, [smallest])


def _left_outside(after: Sums, regularised: Regularised) -> Matrix64:
    """What there is of Q (D, v) in directions that G does not hold; 0 where these cannot be told."""
    outside, told = regularised.outside(np.asfortranarray(after.cross), after.gram, after.noise)
    return outside if told else np.zeros_like(outside)


def _refuse_remains(before: Sums, after: Sums, *, known: bool) -> None:
    """Refuse if no pair should be left, and something is."""
    most = before.level * NEARLY_RIGHT**2
    if symmetric_norm(after.gram) > most * np.sqrt(len(after.gram)) + CLEAR_EVIDENCE * after.noise:
        raise ValueError(NEVER_STORED)
    if known and not after.n_shifted:
        left = column_norms(after.cross)
        if (left > NEARLY_RIGHT * before.largest_products + CLEAR_EVIDENCE * after.noise_cross).any():
            raise ValueError(NEVER_STORED)


def refuse_lost(before: Sums, after: Sums, alpha: float) -> None:
    """Refuse sums of fewer pairs that the rounding of the keys or values that were removed has blurred."""
    level, was = after.level, before.level
    if level <= 0.0 or _is_lost(after.noise / (level + alpha), before.noise / (was + alpha)):
        raise ValueError(
            f"the keys to forget are so much longer than the others that {max(level, 0.0) / was:.0e} of the sum of "
            f"squares would remain, which their rounding has blurred; store the other pairs in a new memory; nothing "
            f"was changed"
        )
    refuse_lost_values(before, after)


def refuse_lost_values(before: Sums, after: Sums) -> None:
    """Refuse sums whose values the rounding of those that were removed has blurred, output by output."""
    gone = after.n_nonzero <= 0.0
    after.cross[:, gone] = after.squared_values[gone] = after.lost_cross[gone] = 0.0
    sizes = [sums.largest_products for sums in (before, after)]
    noise = [sums.noise_cross for sums in (before, after)]
    for column in np.flatnonzero(~gone):
        then, now = (noise[i][column] / max(sizes[i][column], 1e-300) for i in (0, 1))
        if sizes[1][column] == 0.0 or _is_lost(now, then):
            raise ValueError(
                f"the values to forget are so much larger than the others that {after.squared_values[column]:.0e} of "
                f"{before.squared_values[column]:.0e} would remain of the sum of squares of output {column}, which "
                f"their rounding has blurred; store the other pairs in a new memory; nothing was changed"
            )


def _is_lost(now: float, then: float) -> bool:
    """Whether rounding, as a share of what is left, is more than is tolerated, and than it was."""
    return now > (LARGEST_LOSS if then > SINGLE else TOLERATED_LOSS)


def _contradicted(before: Sums, after: Sums, regularised: Regularised) -> NDArray[np.bool_]:
    """Outputs (v,) whose values no pairs can have: QᵀG⁺Q is at most Σ v², which is what fitted values leave of them."""
    sizes = np.sqrt(before.squared_values).clip(1e-300)
    target = after.cross / sizes / np.sqrt(after.level)
    solution = regularised.solve(target)
    explained = np.einsum("ij,ij->j", target, solution)
    lengths = np.linalg.norm(solution, axis=0)
    noise, noise_cross = after.noise / after.level, after.noise_cross / sizes / np.sqrt(after.level)
    size = symmetric_norm(after.gram) / after.level
    rounding_squares = EPS * (before.times + 2.0) + noise_cross**2 / (EPS * size)
    rounding = 2 * lengths * noise_cross + (noise + EPS) * lengths**2 + rounding_squares
    left = after.squared_values / sizes / sizes
    return np.asarray(explained > left + CLEAR_EVIDENCE * rounding)


@dataclass(frozen=True)
class _Implied:
    """What the sums say of values that were subtracted, by the parts of their keys that no other pair holds.

    Parameters
    ----------
    values : (n, v)
        What has to be added to the values, as far as it follows from the sums.
    parts : (D, n)
        Of the keys, outside of the range of G.
    rank : int
        Number of independent parts.
    reach : (n, 1)
        Smallest lengths of such parts that count as independent.
    """

    values: Matrix64
    parts: Matrix64
    rank: int
    reach: Matrix64

    @classmethod
    def of(cls, after: Sums, regularised: Regularised, features: Matrix64, least: float) -> _Implied:
        """What follows from sums after pairs of features (n, D) were subtracted, by parts above a squared length."""
        lengths = np.sqrt(row_squares(features))[:, None]
        units = np.asfortranarray((features / lengths).T)
        parts, told = regularised.outside(units, after.gram, after.noise)
        values = np.zeros((len(features), after.cross.shape[1]))
        if not told:
            return cls(values, np.zeros_like(parts), 0, lengths)
        left, sizes, right = scipy.linalg.svd(parts.T @ units)
        squares = sizes / (right[: len(sizes)] ** 2 @ lengths**-2)[:, 0]  # of parts of combinations of the keys
        rank = int(np.cumprod((sizes > INDEPENDENT) & (squares > least)).sum())
        values = right[:rank].T @ ((left[:, :rank].T @ (parts.T @ after.cross)) / sizes[:rank, None]) / lengths
        return cls(values, parts * lengths.T, rank, lengths * np.sqrt(sizes[rank - 1] if rank else 1.0))

    def explains(
        self, outside: Matrix64, suspect: NDArray[np.bool_], noise_cross: NDArray[np.float64], n_left: int
    ) -> bool:
        """Whether right values leave little of suspect columns of Q (D, v) outside of the range of G, not by chance."""
        n_free = len(outside) - n_left  # directions without a pair, of which the parts take some by chance
        if self.rank >= n_free:
            return False
        least = EXPLAINED * np.sqrt(1 - self.rank / n_free) * column_norms(outside) + CLEAR_EVIDENCE * noise_cross
        return bool((column_norms(outside - self.parts @ self.values) <= least)[suspect].all())

    def correction(self, values: Matrix64 | None, noise_cross: NDArray[np.float64]) -> tuple[Matrix64, Matrix64]:
        """Values (n, v) that were subtracted and what is to be added to them; or refuse what is far off or unknown."""
        if values is not None:
            self._refuse_beyond(values, noise_cross)
            return values, self.values
        if self.rank < len(self.values):
            raise ValueError(
                f"of {len(self.values)} keys to forget only {self.rank} are independent of all other keys, so that "
                f"not all of their values follow from what is stored; pass the values as they were stored; nothing "
                f"was changed"
            )
        return np.zeros_like(self.values), self.values

    def _refuse_beyond(self, values: Matrix64, noise_cross: NDArray[np.float64]) -> None:
        """Refuse values (n, v) that are further from what follows than rounding explains."""
        allowed = NEARLY_RIGHT * np.abs(values).max(axis=1, keepdims=True) + CLEAR_EVIDENCE * noise_cross / self.reach
        away = np.abs(self.values) - allowed
        if (away > 0.0).any():
            row, column = np.unravel_index(int(np.argmax(away)), away.shape)
            raise ValueError(
                f"a pair to forget was never stored: what is stored says that output {column} of value {row} is "
                f"{values[row, column] + self.values[row, column]:.6g}, got {values[row, column]:.6g}; pass keys and "
                f"values exactly as they were stored, or only the keys; nothing was changed"
            )
