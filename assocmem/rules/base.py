"""What a learning rule is: an immutable configuration with a few functions over a flat state of named arrays."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assocmem.rules._solve import Solution

State: TypeAlias = dict[str, NDArray[Any]]
Layout: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

FLOAT64 = np.dtype(np.float64)
COUNT = ((), np.dtype(np.int64))

# Entries that a state has once recalls were fixed by an edit: features (r, rank) and values (r, value_dim).
FIXED = ("fixed_features", "fixed_values")

# Rows whose products BLAS sums in registers before it adds them to a matrix, and so rounds it once.
ROWS_ROUNDED_ONCE = 256


class Rule(ABC):
    """A learning rule: how pairs of features and values change the state, and which weights the state implies.

    Subclasses are frozen dataclasses of a few numbers. Rules see features (B, rank) and values (B, value_dim) that
    have been checked, of one floating point type, contiguous; never keys. A new rule is one new file and one entry
    in `assocmem.rules.RULES`.
    """

    name: ClassVar[str]

    @abstractmethod
    def layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """Shape and dtype of every array of the state, beside the number of pairs."""

    @abstractmethod
    def add(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Store a block of pairs, in place; either completely or, if it raises, not at all."""

    @abstractmethod
    def subtract(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Undo `add` of a block of pairs, in place, in a state that is thrown away if this raises."""

    @abstractmethod
    def combine(self, state: State, other: State) -> State:
        """Return the sums of a memory that stored the pairs of both; `renew` follows."""

    @abstractmethod
    def weights(self, state: State) -> NDArray[Any]:
        """Return the folded weights (rank, value_dim) that the state implies; may be an array of the state."""

    def solve(self, state: State) -> tuple[NDArray[Any], Solution]:
        """Return the weights, and how they were found."""
        return self.weights(state), Solution("none", self.penalty(state))

    def condition(self, state: State, solution: Solution) -> float:
        """Estimate the condition number of what `solve` factorised; NaN for a rule that solves nothing."""
        return math.nan

    def error_bound(self, state: State, weights: NDArray[Any]) -> float | None:
        """Bound the relative rounding of the weights that the state implies; None for a rule that cannot forget."""
        return None

    def remains(self, state: State, features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bound the copies of features (N, D) that the state can hold, and return their parts (D, N) outside of it."""
        raise ValueError(
            f"the rule {self.name!r} keeps no sum over keys, so it cannot tell what is left of one; expected a rule "
            f"that does; build the memory with rule='ridge' or 'rls'"
        )

    def effective_number(self, state: State) -> float | None:
        """Return how many equally weighted pairs would tell as much; None where pairs have no weights."""
        return float(state["n_stored"])

    def magnitude(self, state: State) -> float:
        """Return the size of the numbers whose rounding a store or a deletion leaves behind; 0 if none stays."""
        return 0.0

    def for_features(self, key_dim: int, expansion: int, whiten: bool) -> Rule:
        """Return the rule for features of these sizes, key_dim counting a bias; most rules need not know them."""
        return self

    def penalty(self, state: State) -> float | None:
        """Return the penalty on the squared weights in use; None for a rule without one, or before it is chosen."""
        return None

    @property
    def penalty_is_dear(self) -> bool:
        """Whether choosing the penalty costs as much as solving, so that it is better kept with the solution."""
        return False

    def full_layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """Shape and dtype of every array of the state: beside the rule's, the pairs and how often sums were rounded."""
        return {"n_stored": COUNT, "rounding": ((), FLOAT64), **self.layout(rank, value_dim, dtype)}

    def start(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> State:
        """Return the state of a memory that has stored nothing."""
        return {name: np.zeros(*entry) for name, entry in self.full_layout(rank, value_dim, dtype).items()}

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Store a block of pairs, in place."""
        if len(features):
            self.add(state, features, values)
            self._note_rounding(state, len(features))
            state["n_stored"] += len(features)

    def _note_rounding(self, state: State, n_rows: int) -> None:
        """Add, as independent errors add, one rounding of the sums for every time that they were changed."""
        changes = 1.0 + n_rows / ROWS_ROUNDED_ONCE
        state["rounding"][...] = math.hypot(float(state["rounding"]), math.sqrt(changes) * self.magnitude(state))

    def forget(self, state: State, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> State:
        """Return the state of a memory that never stored these pairs; `state` itself stays as it is.

        Raises
        ------
        ValueError
            If the rule cannot forget, or it can be seen that a pair was never stored.
        """
        left = self._without(state, blocks)
        if left["n_stored"] == 0:  # nothing but rounding is left: begin again without it
            left = {name: array if name in FIXED else np.zeros_like(array) for name, array in left.items()}
        self.renew(left)
        return left

    def _without(self, state: State, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> State:
        """Return the sums without these pairs, or refuse."""
        self.refuse_forget()
        left = {name: array.copy() for name, array in state.items()}
        for features, values in blocks:
            left["n_stored"] -= len(features)
            if left["n_stored"] < 0:
                raise ValueError(
                    f"more pairs to forget than the {int(state['n_stored'])} that are stored; expected pairs that "
                    f"were stored before; pass each of them once"
                )
            self.subtract(left, features, values)
            self._note_rounding(left, len(features))
        if state["n_stored"]:
            self.verify(state, left)
        return left

    def replace(self, state: State, blocks: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> State:
        """Return the state of a memory that stored new values where it had stored old ones; `state` stays as it is.

        Parameters
        ----------
        state : State
            Of the pairs so far.
        blocks : iterable of (features (B, D), old values (B, v), new values (B, v))
            Pairs that were stored.

        Raises
        ------
        ValueError
            If the rule cannot forget, or it can be seen that an old pair was never stored.
        """
        self.refuse_forget()
        changed = {name: state[name].copy() if name in self.of_values else state[name] for name in state}
        changed["rounding"] = state["rounding"].copy()

        def old_pairs() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
            for features, old, new in blocks:
                self.exchange(changed, features, old, new)
                self._note_rounding(changed, len(features))
                yield features, old

        self._without(state, old_pairs())  # refuses what was never stored
        self.renew_solution(changed)
        return changed

    of_values: ClassVar[tuple[str, ...]] = ()  # the arrays that depend on values

    def exchange(self, state: State, features: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
        """Exchange the values of pairs in the sums, in place."""
        raise NotImplementedError

    def renew_solution(self, state: State) -> None:
        """Renew what depends on values and is not a sum, in place."""
        return

    def renew(self, state: State) -> None:
        """Renew what is not a sum from the sums, in place, which leaves behind the rounding gathered in it."""
        return

    def merge(self, state: State, other: State) -> State:
        """Return the state of a memory that stored the pairs of both.

        Raises
        ------
        ValueError
            If the rule's result depends on the order of the pairs.
        """
        self.refuse_merge()
        merged = self.combine(state, other)
        merged["n_stored"] = state["n_stored"] + other["n_stored"]
        merged["rounding"] = np.array(math.hypot(float(state["rounding"]), float(other["rounding"])))
        self._note_rounding(merged, 0)
        self.renew(merged)
        return merged

    def for_parts(self) -> Rule:
        """Return the rule by which parts of the pairs are gathered elsewhere; `merge` takes its states as `other`."""
        return self

    def refuse_forget(self) -> None:
        """Raise ValueError if the rule cannot forget."""
        return

    def refuse_merge(self) -> None:
        """Raise ValueError if the rule cannot merge."""
        return

    def refuse_noise(self) -> None:
        """Raise ValueError if the rule cannot store keys with noise by their mean features and `add_variances`."""
        raise ValueError(
            f"noise is given to the rule {self.name!r}; expected 'ridge', whose sums can hold all noisy versions of "
            f"a key at once; use it, or store noisy copies, for example from assocmem.capacity.noisy_keys"
        )

    def add_variances(self, state: State, variances: NDArray[np.float64]) -> None:
        """Add what features (rank,) vary around means that were stored, in place, for rules that hold noise."""
        raise NotImplementedError

    def verify(self, before: State, after: State) -> None:
        """Raise ValueError if no pairs could leave the sums `after` forgetting from `before`."""
        return

    def parameters(self) -> dict[str, Any]:
        """The configuration, as plain numbers that JSON can hold."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


def effective_number(n: int, factor: float) -> float:
    """Effective number (Σ w)² / Σ w² of n pairs that weigh factor^age.

    The sums are geometric: (1 + f)(1 − fⁿ) / ((1 − f)(1 + fⁿ)), which is tanh(n h) / tanh(h) with h = −ln(f)/2. As
    many pairs of weight 1 leave the same variance in what is estimated from them (Kish 1965, "Survey Sampling").
    """
    half = -0.5 * math.log(factor)
    return math.tanh(n * half) / math.tanh(half) if half > 0.0 else float(n)


NEVER_STORED = (
    "a pair to forget was never stored: without it, what is left could not come from any set of pairs; "
    "expected keys and values exactly as they were stored; nothing was changed"
)
