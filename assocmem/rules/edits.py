"""Edits: recalls that are fixed, whatever pairs are stored beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from assocmem.rules.arrays import Arrays, Shape
from assocmem.rules.blas import Matrix64, symmetric_product
from assocmem.rules.constraints import Constraint, Rows, extended, free_gram, without_rows


@dataclass
class Edits(Arrays):
    """Independent features (r, D), and the values (r, v) that the weights must recall for them."""

    constraint_features: Matrix64
    constraint_values: Matrix64

    @classmethod
    def none(cls, shape: Shape) -> Edits:
        """No fixed recalls."""
        return cls(np.empty((0, shape.rank)), np.empty((0, shape.value_dim)))

    def __len__(self) -> int:
        return len(self.constraint_features)

    @property
    def constraints(self) -> Rows:
        """Features and values of the equality constraints."""
        return self.constraint_features, self.constraint_values

    def constrain(self, features: Matrix64, values: Matrix64, tolerance: Any = 0.0) -> None:
        """Fix the recalls of further features (B, D) to values (B, v); ValueError if the constraints contradict."""
        self.constraint_features, self.constraint_values = extended(self.constraints, features, values, tolerance)

    def release(self, features: Matrix64) -> None:
        """Drop the constraints on features, or on positive multiples of them."""
        self.constraint_features, self.constraint_values = without_rows(self.constraints, features)

    def plus(self, other: Edits) -> Edits:
        """The constraints of both."""
        return Edits(*extended(self.constraints, *other.constraints))

    def constraint(self) -> Constraint | None:
        """The constraints as an orthonormal basis and an offset; None if there are none."""
        return Constraint.of(*self.constraints) if len(self) else None

    def free(self, gram: Matrix64, cross: Matrix64) -> tuple[Matrix64, Matrix64, Constraint | None]:
        """G and Q of the ridge problem in the directions that are not constrained."""
        fixed = self.constraint()
        if fixed is None:
            return gram, cross, None
        cross = cross - symmetric_product(gram, fixed.offset)
        cross -= fixed.basis.T @ (fixed.basis @ cross)
        return free_gram(gram, fixed.basis), np.ascontiguousarray(cross), fixed
