"""Edits: a set of recalls that are wanted, beside the pairs that are stored, of which sums over pairs know nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from assocmem.rules.arrays import Arrays, Layout, Shape, Solution
from assocmem.rules.blas import Matrix64, add_gram, add_product, column_norms, row_squares, symmetric_product
from assocmem.rules.constraints import (
    DEPENDENT,
    Constraint,
    RidgeProblem,
    Rows,
    free_gram,
    independent,
    orthonormal,
    outside,
    refuse_contradictions,
    ridge_under,
    same_direction,
)
from assocmem.rules.metrics import Metric

MET = 1e-12  # of a recall, as a share of the lengths of features and weights
SINGULAR = 1e-13  # of the largest singular value of a system of edits in other metrics: rows that say the same


@dataclass
class Edits(Arrays):
    """Rows that the weights U must meet. A set: their order does not matter, and each can be released.

    The weights are the ridge solution under the rows without a direction, exact ones F U = V and soft ones of slack λ.
    From there rows with directions T move them by TᵀC along these, with F (U + TᵀC) + ΛC = V. Where this disturbs
    other exact rows, the least change in the metric of what is stored mends them.

    Parameters
    ----------
    constraint_features : (r, D)
        ψ of every key.
    constraint_values : (r, v)
        Recalls that are wanted for them.
    constraint_directions : (r, D)
        M⁻¹ψ / ψᵀM⁻¹ψ of a row that was added in a metric M; 0 for the metric G + αI of what is stored.
    constraint_slack : (r,)
        0 for an exact row; the penalty λ of a soft one, or λ / ψᵀM⁻¹ψ.
    """

    constraint_features: Matrix64
    constraint_values: Matrix64
    constraint_directions: Matrix64
    constraint_slack: NDArray[np.float64]

    @classmethod
    def none(cls, shape: Shape) -> Edits:
        """No edits."""
        rows = np.empty((0, shape.rank))
        return cls(rows, np.empty((0, shape.value_dim)), rows.copy(), np.empty(0))

    @classmethod
    def of(cls, features: Matrix64, values: Matrix64, penalty: float = 0.0, metric: Metric | None = None) -> Edits:
        """Rows for features (B, D) and values (B, v), in a metric (None: of what is stored)."""
        if metric is None:
            return cls(features, values, np.zeros_like(features), np.full(len(features), penalty))
        directions, sizes = metric.directions(features)
        return cls(features, values, directions, penalty / sizes)

    def __len__(self) -> int:
        return len(self.constraint_features)

    @property
    def rows(self) -> Rows:
        """Features, values and slack of all rows."""
        return Rows(self.constraint_features, self.constraint_values, self.constraint_slack)

    @property
    def n_soft(self) -> int:
        """Rows that count as pairs."""
        return int(np.count_nonzero(self.constraint_slack))

    @property
    def n_exact(self) -> int:
        """Rows that each take at most one dimension."""
        return len(self) - self.n_soft

    @property
    def are_directed(self) -> NDArray[np.bool_]:
        """Whether each row has a direction of its own (r,)."""
        return np.asarray(self.constraint_directions.any(axis=1))

    @property
    def has_directions(self) -> bool:
        """Whether the weights are more than a ridge solution under constraints."""
        return bool(self.are_directed.any())

    def _where(self, chosen: Any) -> Edits:
        """Some of the rows, in arrays of their own."""
        return Edits(*(table[chosen] for _, table in self._entries()))

    # ------------------------------------------------------------------------------------------------------ changes

    def with_rows(self, new: Edits, tolerance: NDArray[np.float64] | float = 0.0) -> Edits:
        """These rows and new ones, but for those that are here already.

        Raises
        ------
        ValueError
            If an exact row contradicts what exact rows determine by more than rounding and a tolerance, for all or
            each (B,).
        """
        ours, theirs = self.constraint_slack == 0, new.constraint_slack == 0
        if np.ndim(tolerance):
            tolerance = np.asarray(tolerance)[theirs]
        refuse_contradictions(self.rows.where(ours), new.rows.where(theirs), tolerance)
        pairs = zip(self._entries(), new._entries(), strict=True)
        joined = Edits(*(np.concatenate([table, further]) for (_, table), (_, further) in pairs))
        place, n_before = np.arange(len(joined)), len(self)
        earlier = place < n_before + np.arange(len(new))[:, None]
        says_as_much = (joined.constraint_slack == 0) & theirs[:, None] & earlier
        is_equal = (joined.constraint_values == new.constraint_values[:, None]).all(axis=2) & (place < n_before)
        is_equal &= joined.constraint_slack == new.constraint_slack[:, None]
        same = same_direction(new.constraint_features, joined.constraint_features)
        known = np.zeros(len(joined), np.bool_)
        known[n_before:] = (same & (says_as_much | is_equal)).any(axis=1)
        return joined._where(~known)

    def without_keys(self, features: Matrix64) -> Edits:
        """The rows but for those of given features (B, D), or of positive multiples of them."""
        if not len(self) or not len(features):
            return self
        return self._where(~same_direction(self.constraint_features, features).any(axis=1))

    def plus(self, other: Edits) -> Edits:
        """The rows of both; ValueError if they contradict each other."""
        return self.with_rows(other) if len(self) and len(other) else (self if len(self) else other).copy()

    # ------------------------------------------------------------------------------------------------------ answers

    def holds(self, features: Matrix64) -> NDArray[np.bool_]:
        """Whether features (B, D) lie, to rounding, in the span of the rows, which then determine their recalls."""
        fixed = self.constraint_features
        if not len(self):
            return np.zeros(len(features), np.bool_)
        basis = orthonormal(fixed[independent(fixed, fixed[:0])])
        return np.asarray(row_squares(outside(features, basis)) <= DEPENDENT**2 * row_squares(features))

    def as_pairs(self) -> Matrix64:
        """Features (r, D) of length 1: what the rows tell of keys, as if they were stored."""
        return self.constraint_features / np.sqrt(row_squares(self.constraint_features))[:, None]

    def constraint(self) -> Constraint | None:
        """The exact rows without a direction, as an orthonormal basis and an offset; None if there are none."""
        fixed = self.rows.where(~self.are_directed & (self.constraint_slack == 0))
        return Constraint.of(fixed.features, fixed.values) if len(fixed) else None

    def free(self, gram: Matrix64, cross: Matrix64) -> tuple[Matrix64, Matrix64, Constraint | None]:
        """G and Q of the ridge problem in the directions that are not fixed; soft rows count as pairs of weight 1/λ.

        Rows with directions are left out.
        """
        soft = self.rows.where(~self.are_directed & (self.constraint_slack > 0))
        if len(soft):
            gram, cross = gram.copy(), np.ascontiguousarray(cross, np.float64).copy()
            root = np.sqrt(soft.slack)[:, None]
            add_gram(gram, soft.features / root)
            add_product(cross, soft.features / root, soft.values / root)
        fixed = self.constraint()
        if fixed is None:
            return gram, cross, None
        cross = cross - symmetric_product(gram, fixed.offset)
        cross -= fixed.basis.T @ (fixed.basis @ cross)
        return free_gram(gram, fixed.basis), np.ascontiguousarray(cross), fixed

    def solve(self, problem: RidgeProblem) -> tuple[Matrix64, Solution]:
        """Weights (D, v) of a ridge problem under all rows, and how its own solution was found."""
        if not len(self):
            return problem.solve()
        directed, exact = self.are_directed, self.constraint_slack == 0
        weights, found = ridge_under(self.rows.where(~directed), problem)
        if not directed.any():
            return weights, found
        weights = weights + self._moved(weights, directed)
        missed = self.constraint_values - self.constraint_features @ weights
        lengths = np.sqrt(row_squares(self.constraint_features))[:, None]
        allowed = MET * (lengths * column_norms(weights) + np.abs(self.constraint_values))
        if (np.abs(missed) > allowed)[exact].any():
            missed[~exact] = 0.0
            kept = exact | ~directed
            mended = Rows(self.constraint_features[kept], missed[kept], self.constraint_slack[kept])
            weights += ridge_under(mended, problem.without_pairs(weights.shape[1]))[0]
        return np.ascontiguousarray(weights), found

    def _moved(self, weights: Matrix64, directed: NDArray[np.bool_]) -> Matrix64:
        """TᵀC (D, v), by which rows with directions move weights."""
        soft = np.flatnonzero(directed & (self.constraint_slack > 0))
        exact = np.flatnonzero(directed & (self.constraint_slack == 0))
        exact = exact[independent(self.constraint_features[exact], self.constraint_features[:0])]
        chosen = np.concatenate([exact, soft])
        lengths = np.sqrt(row_squares(self.constraint_features[chosen]))[:, None]
        # A soft row is an exact one with a coordinate of its own, which takes up its slack.
        yielding = np.diag(np.sqrt(self.constraint_slack[chosen]))[:, len(exact) :]
        units = np.hstack([self.constraint_features[chosen] / lengths, yielding])
        directions = np.hstack([self.constraint_directions[chosen] * lengths, yielding])
        # Directions of one metric may all be nearly that of its cheapest change: the largest coordinates first, QR with
        # pivots keeps what they are in the others (Cox and Higham 1998).
        place = np.argsort(-np.abs(directions).max(axis=0), kind="stable")
        basis = scipy.linalg.qr(directions.T[place], mode="economic", pivoting=True)[0]
        units = units[:, place]
        left = (self.constraint_values[chosen] - self.constraint_features[chosen] @ weights) / lengths
        moved = np.zeros((units.shape[1], weights.shape[1]))
        for _ in range(2):  # the second pass meets the rows to rounding
            moved += basis @ scipy.linalg.lstsq(units @ basis, left - units @ moved, cond=SINGULAR)[0]
        found = np.empty_like(moved)
        found[place] = moved
        return found[: len(weights)]

    # ------------------------------------------------------------------------------------------------------- files

    def layout(self, arrays: Mapping[str, NDArray[Any]]) -> Layout:
        """As many rows in every table; directions and slack may be missing in a file."""
        expected = super().layout(arrays)
        features = arrays.get("constraint_features", self.constraint_features)
        if "constraint_features" in arrays:
            expected["constraint_values"] = (self.constraint_values.shape, self.constraint_values.dtype)
        n_rows = len(features) if np.ndim(features) else 0
        return {name: ((n_rows, *shape[1:]), dtype) for name, (shape, dtype) in expected.items()}

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of a file; without directions and slack all rows are exact, in the metric of the sums."""
        super().fill(arrays)
        n_rows = len(self)
        if len(self.constraint_directions) != n_rows:
            self.constraint_directions = np.zeros((n_rows, self.constraint_features.shape[1]))
        if len(self.constraint_slack) != n_rows:
            self.constraint_slack = np.zeros(n_rows)
