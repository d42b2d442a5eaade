"""The error of a memory of any number of pairs, predicted from a sample of keys like those to be stored.

No law of the keys is assumed. N pairs under a penalty act like the sample under another penalty, at which both have the
same degrees of freedom; the sample is then recalled with each key left out, and the result scaled. Everything follows
from inner products of features: docs/real-keys.md, "Other numbers of pairs".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.optimize

from assocmem.laws.prediction import errors_of
from assocmem.laws.recall import Array, Recalled

# Next to the mean squared feature: an eigenvalue below it is rounding, and a penalty of 0 is replaced by a thousand
# times it, which changes no recall but tells directions without keys from the others.
ROUNDING = 1e-12
NO_PENALTY = 1e-9

# What the estimate of the number of keys that are needed is multiplied by: it extrapolates a power law.
CAUTION = 1.2


class SampleTooSmallError(ValueError):
    """No penalty makes the sample act like so many pairs: too few keys for so small a penalty.

    `known` is about the largest number of pairs about which it tells, for a penalty that grows with their number.
    """

    def __init__(self, message: str, known: int) -> None:
        super().__init__(message)
        self.known = known


class SampledKeys:
    """A sample of n keys by the inner products of their features, and of features of queries, one for each key.

    Parameters
    ----------
    gram : (n, n)
        ψ(xᵢ)·ψ(xⱼ) for the sample keys x.
    rank : int
        Dimension D of the features.
    cross : (n, n), optional
        ψ(qᵢ)·ψ(xⱼ) for noisy queries, qᵢ that of xᵢ; default the keys themselves.

    References
    ----------
    Dobriban and Wager (2018), "High-dimensional asymptotics of prediction: ridge regression and classification";
    Wei, Hu and Steinhardt (2022), "More Than a Toy: Random Matrix Models Predict How Real-World Neural Representations
    Generalize"; Simon, Dickens, Karkada and DeWeese (2023), "The Eigenlearning Framework".

    Examples
    --------
    >>> features = np.random.default_rng(0).standard_normal((400, 256))
    >>> keys = SampledKeys(features @ features.T, rank=256)
    >>> round(float(keys.ridge(pairs=600, alpha=128.0).sign_error.mean()), 2)  # by the law for such features: 0.201
    0.2
    """

    def __init__(self, gram: Array, rank: int, cross: Array | None = None) -> None:
        self.gram, self.rank = gram, rank
        self.cross = gram if cross is None else cross
        self.size = len(gram)
        self.mean_square = float(np.trace(gram)) / self.size

    @cached_property
    def _spectrum(self) -> Array:
        return self._eigen[0]

    @cached_property
    def _eigen(self) -> tuple[Array, Array]:
        spectrum, vectors = scipy.linalg.eigh(self.gram, check_finite=False)
        spectrum[: max(0, self.size - self.rank)] = 0.0
        return np.maximum(spectrum, 0.0), vectors

    @cached_property
    def _squares(self) -> Array:
        return np.asarray(self._eigen[1] ** 2)

    @cached_property
    def _queries(self) -> Array:
        """The inner products of queries with keys, in the basis of eigenvectors."""
        return np.asarray(self.cross @ self._eigen[1])

    # ---------------------------------------------------------------------------------------------------- recalls

    @np.errstate(under="ignore")
    def ridge(self, pairs: int, alpha: float) -> Recalled:
        """Recalls, one for every sample key, of a memory of N pairs under a penalty α.

        Parameters
        ----------
        pairs : int, at least 1
            N, of which the key that is asked for is one.
        alpha : float, at least 0
            Absolute penalty on the squared weights; 0 is the minimum-norm solution.

        Raises
        ------
        SampleTooSmallError
            If the sample is too small to tell.
        """
        alpha = max(alpha, NO_PENALTY * self.mean_square * pairs / self.rank)
        own_alpha = self.equivalent_penalty(pairs, alpha)
        spectrum, vectors = self._eigen
        inverse = 1 / (spectrum + own_alpha)
        # With M = (K + α'I)⁻¹ of the Gram matrix K and C the cross products, R = (ΨᵀΨ + α'I)⁻¹ gives ψ(q)ᵀRψⱼ = (CM)ᵢⱼ;
        # taking key i out of R by the rank-one formula leaves only M and CM in what the recall consists of.
        own, leverage = self._squares @ inverse, self._squares @ (spectrum * inverse)
        found = np.einsum("ij,ij,j->i", self._queries, vectors, inverse)
        share = found / (leverage + alpha * own)
        residue = self._queries - ((found - share) / own)[:, None] * vectors
        crosstalk = np.maximum((residue**2 @ inverse**2) - share**2, 0.0)
        return Recalled(share, self._growth(pairs, alpha, own_alpha) * crosstalk, 1 - share)

    def _growth(self, pairs: int, alpha: float, own_alpha: float) -> float:
        """dα'/dα, by which crosstalk is larger: RGR = d(αR)/dα, and αR is the same for both."""
        inverse = 1 / (self._spectrum + own_alpha)
        own, twice = self._squares @ inverse, self._squares @ inverse**2
        leverage = self._squares @ (self._spectrum * inverse)
        ratio, both = pairs / self.size, (leverage + alpha * own) ** 2
        by_own = ratio * alpha * ((twice - own**2) / both).sum() + self._spectrum @ inverse**2
        return float(ratio * (leverage * own / both).sum() / by_own)

    @np.errstate(under="ignore")
    def hebbian(self, pairs: int) -> Recalled:
        """Recalls, one for every sample key, of a Hebbian memory of N pairs: exact for exchangeable keys.

        Parameters
        ----------
        pairs : int, at least 1
            N, of which the key that is asked for is one.
        """
        weighed = self.cross / np.diag(self.gram)
        share = np.diag(weighed).copy()
        others = ((weighed**2).sum(axis=1) - share**2) / max(self.size - 1, 1)
        return Recalled(share, (pairs - 1) * np.maximum(others, 0.0), 1 - share)

    # ------------------------------------------------------------------------------------------ equivalent penalty

    def equivalent_penalty(self, pairs: int, alpha: float) -> float:
        """The penalty α' under which the sample has the αR, and so the degrees of freedom, that N pairs have under α.

        A key of leverage h = ψᵀRψ in the sample has l = h/(1 − h) without itself, and l' = lα'/α beside N pairs under
        α. Their degrees of freedom, N times the mean of l'/(1 + l'), must be those of the sample, the sum of h: the
        first grow with α' and the second fall. Were all l alike, it would be df(α') + α/κ(α') = N with
        κ = α'/(n − df); keys of unequal lengths need each of them.
        """

        def excess(log_penalty: float) -> float:
            return self._excess(math.exp(log_penalty), pairs, alpha)

        least = most = self._least_penalty
        if excess(math.log(least)) >= 0:
            raise self._too_small(pairs, alpha)
        while excess(math.log(most)) < 0:
            most *= 1e3
        return math.exp(scipy.optimize.brentq(excess, math.log(least), math.log(most), xtol=1e-10))

    def _excess(self, own_alpha: float, pairs: float, alpha: float) -> float:
        """Degrees of freedom of N pairs under α, less those of the sample, for equal αR."""
        inverse = 1 / (self._spectrum + own_alpha)
        leverage = self._squares @ (self._spectrum * inverse)
        shares = leverage / (leverage + alpha * (self._squares @ inverse))
        return float(pairs * shares.mean() - leverage.sum())

    @property
    def _least_penalty(self) -> float:
        return ROUNDING * self.mean_square

    def _too_small(self, pairs: int, alpha: float) -> SampleTooSmallError:
        each = alpha / pairs  # penalties for noisy queries grow with N
        known = _last(self.size // 2, pairs, lambda n: self._excess(self._least_penalty, n, n * each) < 0)
        message = (
            f"{self.size} sample keys are too few to tell about {pairs} pairs in rank {self.rank} with so small a "
            f"penalty, only about up to {known}. Pass at least about {self.keys_needed(pairs, alpha)} keys ({pairs} "
            f"always do), or plan for queries of a lower cosine, whose penalty is larger"
        )
        return SampleTooSmallError(message, known)

    def keys_needed(self, pairs: int, alpha: float) -> int:
        """Estimate how many sample keys would tell about so many pairs, at most as many as pairs.

        Without a penalty of its own, the sample has leverages 1, and the diagonal of (K + α'I)⁻¹ tells how much of a
        key is not in the span of the others; half of the sample shows how that falls with the number of keys.
        """
        least, half = self._least_penalty, self.size // 2
        own = self._squares @ (1 / (self._spectrum + least))
        spectrum = np.maximum(scipy.linalg.eigvalsh(self.gram[:half, :half]), 0.0)
        power = max(0.0, math.log2(own.mean() * half / float((1 / (spectrum + least)).sum())))

        def is_short(keys: int) -> bool:
            return float(pairs * (1 / (1 + alpha * own * (keys / self.size) ** power)).mean()) > keys

        found = _last(self.size, max(self.size, min(pairs, self.rank + 1)), is_short) + 1
        return min(math.ceil(CAUTION * found), max(pairs, self.size + 1))


def _last(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The last number in [low, high) for which a condition holds that holds at `low` and ceases to."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@np.errstate(under="ignore")
def mean_error(law: Recalled, kind: str, value_dim: int) -> float:
    """Mean error of a kind over the recalls of sample keys."""
    if kind == "onehot":  # a class that is recalled with a negative share is as good as not recalled
        law = Recalled(np.maximum(law.mean, 0.0), law.variance, law.shortfall)
    return float(errors_of(law, kind, value_dim).mean())
