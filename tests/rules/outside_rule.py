"""Learning rules as somebody outside the package writes them, with NumPy alone."""

from dataclasses import dataclass

import numpy as np

from assocmem import AdditiveRule, Solved, State, register


@dataclass
class NormalEquations(State):
    gram: np.ndarray  # (D, D)
    cross: np.ndarray  # (D, v)


@register
@dataclass(frozen=True)
class PlainRidge(AdditiveRule):
    name = "normal equations"
    alpha: float = 1.0

    def start(self, shape):
        return NormalEquations(shape, np.zeros((shape.rank, shape.rank)), np.zeros((shape.rank, shape.value_dim)))

    def store(self, state, features, values, sign=1):
        state.gram += sign * features.T @ features
        state.cross += sign * features.T @ values
        state.n_stored += sign * len(features)

    def solve(self, state):
        return Solved(np.linalg.solve(state.gram + self.alpha * np.eye(len(state.gram)), state.cross))

    def remove(self, state, features, values):
        self.store(state, features, values, sign=-1)

    def merge(self, state, other):
        count = state.n_stored + other.n_stored
        return NormalEquations(state.shape, state.gram + other.gram, state.cross + other.cross, n_stored=count)


@dataclass
class Moments(State):
    squares: np.ndarray  # (D, 1)
    cross: np.ndarray  # (D, v)


@register
@dataclass(frozen=True)
class DiagonalRidge(AdditiveRule):
    """Ridge regression that takes the features for uncorrelated: every weight by itself."""

    name = "diagonal"
    alpha: float = 1.0

    def start(self, shape):
        return Moments(shape, np.zeros((shape.rank, 1)), np.zeros((shape.rank, shape.value_dim)))

    def store(self, state, features, values, sign=1):
        state.squares += sign * (features.astype(float) ** 2).sum(axis=0)[:, None]
        state.cross += sign * features.T.astype(float) @ values
        state.n_stored += sign * len(features)

    def solve(self, state):
        return Solved(state.cross / (state.squares + self.alpha))

    def remove(self, state, features, values):
        self.store(state, features, values, sign=-1)

    def merge(self, state, other):
        count = state.n_stored + other.n_stored
        return Moments(state.shape, state.squares + other.squares, state.cross + other.cross, n_stored=count)
