"""Errors expected of a memory, from a sample of keys like the stored ones: pretend to store each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.features.noise import noisy_keys
from assocmem.rules import Rule, State
from assocmem.rules.blas import Matrix64
from assocmem.rules.pretending import Pretender

DRAWS = 4  # noisy versions of every sample key
SEED = 24_301  # of the noise: none that keys are likely to be drawn from
CHUNK = 512  # sample keys at a time
MOST = 1024  # keys of a sample that are looked at


@dataclass(frozen=True)
class Sample:
    """Keys (n, key_dim) like the stored ones, and queries (n, q, key_dim), or the cosine to draw them at.

    Checked, of the memory's dtype, and without its center.
    """

    keys: NDArray[Any]
    queries: NDArray[Any] | None
    query_cosine: float

    def some(self, most: int) -> Sample:
        """At most so many of the keys with their queries, chosen at random."""
        if len(self.keys) <= most:
            return self
        rows = np.sort(np.random.default_rng(SEED).choice(len(self.keys), most, replace=False))
        return Sample(self.keys[rows], None if self.queries is None else self.queries[rows], self.query_cosine)

    def drawn(self) -> Sample:
        """The sample with its queries."""
        if self.queries is not None:
            return self
        rng = np.random.default_rng(SEED)
        drawn = [noisy_keys(self.keys.astype(np.float64), self.query_cosine, rng) for _ in range(DRAWS)]
        return Sample(self.keys, np.stack(drawn, axis=1), self.query_cosine)


def mean_cosine(keys: NDArray[Any], queries: NDArray[Any]) -> float:
    """Mean cosine of queries (n, q, key_dim) to their keys (n, key_dim)."""
    exact, asked = keys.astype(np.float64), queries.astype(np.float64)
    units = exact / np.linalg.norm(exact, axis=-1, keepdims=True)
    lengths = np.linalg.norm(asked, axis=-1, keepdims=True)
    return float(np.einsum("nqd,nd->nq", asked / lengths, units).mean())


def pretender(cell: Cell) -> Pretender:
    """The function by which the rule pretends to store, with one factorisation a state; ValueError without one."""

    def found(state: State) -> Pretender | None:
        return cell.rule.pretender(state, cell.view().weights)

    known = cell.derived("pretender", found)[1]
    if known is None:
        raise ValueError(
            f"the rule {cell.rule.name!r} does not tell what it would recall had it stored a key as well, since it has "
            f"no pretender(); diagnose without keys, or write that method"
        )
    return known


def value_sizes(rule: Rule, state: State) -> NDArray[np.float64]:
    """Root mean squares (v,) of the values stored, where the rule knows them and they are not all 0; otherwise 1."""
    if state.sums is None or not state.n_stored:
        return np.ones(state.shape.value_dim)
    decay: float = getattr(rule, "decay", 1.0)
    weight = state.n_stored if decay == 1.0 else (1 - decay**state.n_stored) / (1 - decay)
    sizes = np.sqrt(state.sums.squared_values.clip(0.0) / weight)
    return np.asarray(sizes if sizes.any() else np.ones(len(sizes)))


class Recalls(NamedTuple):
    """Shares (n,) of the values and crosstalk (n, v) in recalls of n keys or queries."""

    shares: NDArray[np.float64]
    crosstalk: Matrix64


def recalls(cell: Cell, sample: Sample) -> tuple[Recalls, Recalls]:
    """Recalls of sample keys, and of all their queries, had they been stored: each as the next pair."""
    pretend = pretender(cell)
    clean: list[Recalls] = []
    noisy: list[Recalls] = []
    for start in range(0, len(sample.keys), CHUNK):
        part = slice(start, start + CHUNK)
        features = folded(cell, sample.keys[part])
        pretended = pretend(features)
        clean.append(Recalls(*pretended.recall(features)))
        if sample.queries is not None:
            noisy += [Recalls(*pretended.recall(queries)) for queries in queries_of(cell, sample.queries[part])]
    first, second = (Recalls(*map(np.concatenate, zip(*parts, strict=True))) for parts in (clean, noisy or clean))
    return first, second


def folded(cell: Cell, keys: NDArray[Any]) -> Matrix64:
    """Features (n, D) of centred keys (n, key_dim), in float64."""
    rows = np.ascontiguousarray(checks.to_dtype(keys, cell.shape.dtype))
    return cell.features.fold_centred(rows).astype(np.float64, copy=False)


def queries_of(cell: Cell, queries: NDArray[Any]) -> list[Matrix64]:
    """Features (n, D) of the first, the second, ... query (n, q, key_dim) of every key."""
    return [folded(cell, queries[:, i]) for i in range(queries.shape[1])]
