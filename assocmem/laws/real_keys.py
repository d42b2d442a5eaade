"""What a memory recalls of real keys: from recalls that were pretended, and from the spectrum of its Gram matrix.

Keys are correlated here. Let s be the eigenvalues of G = Σ ψψᵀ over n pairs, r = s/(s + α) and R = (G + αI)⁻¹. The
degrees of freedom df(α) = Σ r and κ(α) = α/(n − df) describe every memory of keys of this kind: docs/real-keys.md,
after Dobriban and Wager (2018), "High-Dimensional Asymptotics of Prediction", and Simon, Dickens, Karkada and DeWeese
(2023), "The Eigenlearning Framework".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize

from assocmem.laws.recall import Array, Recalled

SMALLEST_PENALTY: Final = 1e-9  # of the mean eigenvalue: the limit α → 0 where there are more pairs than dimensions
RANGE: Final = (1e-15, 1e15)  # within which α' is looked for


def pretended_error(kind: str, shares: Array, crosstalk: Array, sizes: Array) -> float:
    """Mean error of recalls share · v + crosstalk, over random values v that do not depend on the keys.

    No distribution of the crosstalk is assumed: it is that of the queries given, and of the values that are stored.

    Parameters
    ----------
    kind : {"sign", "gaussian", "onehot"}
        Share of wrong signs of values ±size; mean squared error of values of this root mean square, as a share of
        their square; or share of wrong classes, where the value has one entry, √v times the root mean square.
    shares : (n,)
        Of the value that is asked for.
    crosstalk : (n, v)
        What is recalled beside it.
    sizes : (v,)
        Root mean squares of the values of every output; an output where it is 0 has no values, and is left out.

    Examples
    --------
    >>> pretended_error("sign", np.array([1.0, 0.5]), np.array([[0.2], [-0.7]]), np.ones(1))
    0.25
    """
    live = sizes > 0.0
    crosstalk, sizes = crosstalk[:, live], sizes[live]
    if not live.any():
        return 0.0
    if kind == "gaussian":
        return float(np.mean((1.0 - shares) ** 2) + np.mean((crosstalk / sizes) ** 2))
    if kind == "sign":
        reach = shares[:, None] * sizes
        return float(np.mean([_is_negative(reach + crosstalk), _is_negative(reach - crosstalk)]))
    if len(sizes) == 1:
        return 0.0
    height = shares[:, None] * np.sqrt(np.sum(sizes**2))
    ordered = np.sort(crosstalk, axis=1)
    rival = np.where(crosstalk == ordered[:, -1:], ordered[:, -2:-1], ordered[:, -1:])  # the largest of the others
    return float(np.mean(_is_negative(crosstalk + height - rival)))


def _is_negative(recalled: Array) -> Array:
    """1 where a recall is negative, and ½ where it is 0."""
    return np.where(recalled == 0.0, 0.5, recalled < 0.0)


@dataclass(frozen=True)
class Equivalent:
    """The penalty α' at which n pairs behave as another number of pairs of their kind does at its own penalty.

    Parameters
    ----------
    penalty : float
        α'.
    scale : float
        α'/α, by which R is scaled.
    growth : float
        By which the variance of crosstalk is scaled.
    """

    penalty: float
    scale: float
    growth: float


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (D,) of G over n pairs, in units of their mean."""

    values: Array
    n_pairs: int

    def spare(self, penalty: float) -> float:
        """N − df = n − Σ s/(s + α), of which no digits cancel."""
        held = self.values[self.values > 0.0]
        return max(self.n_pairs - len(held), 0) + float((penalty / (held + penalty)).sum())

    def most_pairs(self, penalty: float) -> float:
        """Largest number of pairs at a penalty of which these pairs can tell."""
        return self._pairs_like(RANGE[0], max(penalty, SMALLEST_PENALTY))

    def equivalent(self, n_pairs: int, penalty: float) -> Equivalent | None:
        """The α' at which these pairs are like `n_pairs` at a penalty; None if they are too few to tell.

        Both have the same κ: df(α') + α/κ(α') = N with κ(α') = α'/(n − df(α')).
        """
        penalty = max(penalty, SMALLEST_PENALTY)

        def excess(exponent: float) -> float:
            return self._pairs_like(float(np.exp(exponent)), penalty) - n_pairs

        low, high = np.log(RANGE[0]), np.log(RANGE[1] * max(penalty, 1.0))
        if not excess(low) >= 0.0 >= excess(high):
            return None
        found = float(np.exp(optimize.brentq(excess, low, high, xtol=1e-10)))
        spare, slope = self.spare(found), -float((self.values / (self.values + found) ** 2).sum())
        kappa, ours = found / spare, (spare + found * slope) / spare**2
        theirs = (1 / kappa) / (penalty / kappa**2 - slope / ours)
        return Equivalent(found, found / penalty, theirs / ours)

    def _pairs_like(self, own: float, penalty: float) -> float:
        spare = self.spare(own)
        return self.n_pairs - spare + penalty * spare / own


@dataclass(frozen=True)
class SampleKeys:
    """Squares and products of the features of n sample keys and queries in the eigenvectors of G, (n, D) each."""

    keys: Array
    queries: Array

    def law(self, spectrum: Spectrum, like: Equivalent) -> Recalled:
        """Law of recalls (n,) of values of variance 1, key by key."""
        shrunk = 1 / (spectrum.values + like.penalty)
        leverage = like.scale * self.keys**2 @ shrunk
        share = like.scale * (self.queries * self.keys) @ shrunk / (1 + leverage)
        rest = self.queries - share[:, None] * self.keys
        variance = like.growth * rest**2 @ (spectrum.values * shrunk**2)
        return Recalled(share, variance, 1 - share)


@dataclass(frozen=True)
class StoredKeys:
    """What G tells of its own keys, and surrogates of the noise of queries, in the eigenvectors of G.

    A query has the mean features Kψ, where K multiplies the linear part by one number and the absolute part by another.

    Parameters
    ----------
    linear : (D,)
        Squared lengths of the linear parts of the eigenvectors.
    overlaps : (D, D)
        Squared inner products of these parts.
    shrinkage : (float, float)
        The two numbers.
    noise : (D,)
        Mean squares of ψ(q) − Kψ.
    drift : (D,)
        Mean of its products with ψ.
    """

    linear: Array
    overlaps: Array
    shrinkage: tuple[float, float]
    noise: Array
    drift: Array

    def law(self, spectrum: Spectrum, like: Equivalent, n_pairs: int) -> Recalled:
        """Law of recalls of values of variance 1, of the average key left out."""
        s, n, alpha = spectrum.values, spectrum.n_pairs, like.penalty
        shrunk = 1 / (s + alpha)
        spare = spectrum.spare(alpha)
        on_key, on_units = self.shrinkage
        mean = on_key * self.linear + on_units * (1 - self.linear)
        share = float((s * shrunk) @ mean + spare * shrunk @ self.drift) / n_pairs
        # With u = (K − share) ψ and R of the others, which Sherman and Morrison give: uᵀRu − α ‖Ru‖².
        a, b = (float((s * power) @ (mean - share)) / n for power in (shrunk, shrunk**2))
        single, double = (self._between(s, power, share) / n for power in (shrunk, shrunk**2))
        own = float(s @ shrunk**2) / n
        left = n / spare
        within = single + a * a * left - alpha * (double + 2 * a * b * left + (a * left) ** 2 * own)
        variance = like.growth * (max(within, 0.0) + float(self.noise @ (s * shrunk**2)))
        return Recalled(np.asarray(share), np.asarray(variance), np.asarray(1 - share))

    def _between(self, s: Array, power: Array, share: float) -> float:
        """Trace of G (K − share) Rᵖ (K − share)."""
        on_units, extra = self.shrinkage[1] - share, self.shrinkage[0] - self.shrinkage[1]
        diagonal = on_units**2 + 2 * on_units * extra * self.linear
        return float((s * power) @ diagonal + extra**2 * s @ self.overlaps @ power)
