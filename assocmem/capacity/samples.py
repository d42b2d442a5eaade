"""A sample of keys as plans use it: the inner products of its features at every expansion, and the errors they give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem.core import checks
from assocmem.features.crelu import CReLUFeatures
from assocmem.features.noise import noisy_keys
from assocmem.laws.sample import SampledKeys, SampleTooSmallError, mean_error
from assocmem.rules import Hebbian, Rule
from assocmem.rules.least_squares import LeastSquaresRule

FEWEST, MOST = 50, 2000  # keys: time grows with the cube of their number, memory with its square

EXPANSIONS_KEPT = 6  # whose products and eigenvectors are kept: a search comes back to the last ones

NOISE_SEED = 6_180_339_887  # of the queries that are drawn; keys drawn with a seed such as 0 must not be their noise


class KeySample:
    """Sample keys with one query each, scaled to a mean square length of 1.

    Parameters
    ----------
    keys : (n, key_dim)
        Keys like those to be stored; of more than `MOST`, so many at equal distances are used.
    key_dim : int
        Length of the keys that are planned for.
    queries : (n, key_dim), optional
        Noisy versions of the keys, in their order.
    query_cosine : float
        Cosine of noisy queries that are drawn; 1 if queries are given, whose mean cosine takes its place.
    """

    def __init__(self, keys: ArrayLike, key_dim: int, queries: ArrayLike | None, query_cosine: float) -> None:
        rows = _rows("keys", keys, key_dim)
        if len(rows) < FEWEST:
            raise ValueError(
                f"keys hold {len(rows)} sample keys; expected at least {FEWEST}, better some hundreds. Pass more keys "
                f"like those to be stored"
            )
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().astype(int)
        self.size = len(chosen)
        self.mean_square = float(np.mean(np.sum(rows[chosen] ** 2, axis=1)))
        self._keys = rows[chosen] / np.sqrt(self.mean_square)
        self.query_cosine = query_cosine
        self._queries: NDArray[np.float64] | None = None
        if queries is not None:
            given = _queries(queries, rows.shape, query_cosine)
            self.query_cosine = _mean_cosine(given, rows)
            self._queries = given[chosen] / np.sqrt(self.mean_square)
        elif query_cosine != 1:
            self._queries = noisy_keys(self._keys, query_cosine, np.random.default_rng(NOISE_SEED))
        self._kept: dict[int, SampledKeys] = {}  # by expansion

    @np.errstate(under="ignore")
    def error(self, rule: Rule, pairs: int, expansion: int, penalty: float, kind: str, value_dim: int) -> float:
        """Predicted error of N pairs; `penalty` is relative, α / (D · mean ‖x‖²).

        Raises
        ------
        SampleTooSmallError
            If the sample is too small to tell.
        """
        keys = self._at(expansion)
        if isinstance(rule, Hebbian):
            return mean_error(keys.hebbian(pairs), kind, value_dim)
        try:
            return mean_error(keys.ridge(pairs, penalty * keys.mean_square), kind, value_dim)
        except SampleTooSmallError as refusal:
            if self.size < MOST:
                raise
            raise SampleTooSmallError(
                f"{refusal}. Of a sample no more than {MOST} keys are used", refusal.known
            ) from None

    def _at(self, expansion: int) -> SampledKeys:
        """The sample at an expansion, from that at the next smaller one that is kept.

        The units of a block come from a seed of their own: inner products at a larger expansion are those at a smaller
        one and more. A memory's blocks are others, which matters as little as its seed.
        """
        if expansion not in self._kept:
            key_dim = self._keys.shape[1]
            below = max((each for each in self._kept if each < expansion), default=0)
            if below:
                gram, cross = self._kept[below].gram.copy(), self._kept[below].cross.copy()
            else:
                gram, cross = (key_dim * product for product in self._products(None))
            for block in range(below, expansion):
                more = self._products(CReLUFeatures(key_dim, 1, seed=block))
                gram += more[0]
                cross += more[1]
            if len(self._kept) == EXPANSIONS_KEPT:
                del self._kept[next(iter(self._kept))]
            rank = key_dim + expansion * (1 << (key_dim - 1).bit_length())
            self._kept[expansion] = SampledKeys(gram, rank, cross)
        return self._kept[expansion]

    def _products(self, features: CReLUFeatures | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Inner products (n, n) of the keys, or of their units, and those of queries with keys."""
        key_dim = self._keys.shape[1]

        def units(rows: NDArray[Any]) -> NDArray[Any]:
            return rows if features is None else features.fold_rows(rows)[:, key_dim:]

        keys = units(self._keys)
        gram = keys @ keys.T
        return gram, gram.copy() if self._queries is None else units(self._queries) @ keys.T


def refuse_unpredictable(rule: Rule) -> None:
    """Refuse a rule whose error does not follow from a sample of keys."""
    if not isinstance(rule, Hebbian | LeastSquaresRule):
        raise ValueError(
            f"a sample of keys tells the error of 'ridge', 'rls' and 'hebbian', not of {rule}, which depends on the "
            f"order of the pairs. Plan for 'ridge', or without keys, by the laws for random ones"
        )


def _rows(name: str, array: ArrayLike, key_dim: int) -> NDArray[np.float64]:
    rows, _ = checks.as_rows(name, array, key_dim, np.dtype(np.float64))
    checks.refuse_nonfinite(name, rows)
    checks.refuse_bad_keys(rows, bias=0.0)
    return rows


def _queries(queries: ArrayLike, shape: tuple[int, ...], query_cosine: float) -> NDArray[np.float64]:
    """The queries that were given, or refuse."""
    if query_cosine != 1:
        raise ValueError(
            f"queries and query_cosine={query_cosine:g} both say how far queries are from the keys; pass one of them"
        )
    rows = _rows("queries", queries, shape[1])
    if rows.shape != shape:
        raise ValueError(
            f"queries have shape {rows.shape} and keys {shape}; expected a noisy query for every key, in their order"
        )
    return rows


def _mean_cosine(queries: NDArray[np.float64], keys: NDArray[np.float64]) -> float:
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, keys)]
    cosine = round(float(np.mean(np.sum((queries / lengths[0]) * (keys / lengths[1]), axis=1))), 6)
    if cosine <= 0:
        raise ValueError(
            f"queries have a mean cosine of {cosine:.2g} to the keys; expected noisy versions of the keys, in the same "
            f"order. Check the order"
        )
    return min(cosine, 1.0)
