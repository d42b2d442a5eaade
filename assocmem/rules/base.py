"""What a learning rule is: an immutable configuration with a few functions over a flat state of named arrays."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

State: TypeAlias = dict[str, NDArray[Any]]
Layout: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

FLOAT64 = np.dtype(np.float64)
COUNT = ((), np.dtype(np.int64))


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
        """Return the state of a memory that stored the pairs of both."""

    @abstractmethod
    def weights(self, state: State) -> NDArray[Any]:
        """Return the folded weights (rank, value_dim) that the state implies; may be an array of the state."""

    def for_features(self, key_dim: int, expansion: int, whiten: bool) -> Rule:
        """Return the rule for features of these sizes, key_dim counting a bias; most rules need not know them."""
        return self

    def penalty(self, state: State) -> float | None:
        """Return the penalty on the squared weights in use; None for a rule without one, or before it is chosen."""
        return None

    def full_layout(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> Layout:
        """Shape and dtype of every array of the state."""
        return {"n_stored": COUNT, **self.layout(rank, value_dim, dtype)}

    def start(self, rank: int, value_dim: int, dtype: np.dtype[Any]) -> State:
        """Return the state of a memory that has stored nothing."""
        return {name: np.zeros(*entry) for name, entry in self.full_layout(rank, value_dim, dtype).items()}

    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Store a block of pairs, in place."""
        if len(features):
            self.add(state, features, values)
            state["n_stored"] += len(features)

    def forget(self, state: State, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> State:
        """Return the state of a memory that never stored these pairs; `state` itself stays as it is.

        Raises
        ------
        ValueError
            If the rule cannot forget, or it can be seen that a pair was never stored.
        """
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
        if state["n_stored"]:
            self.verify(state, left)
        if left["n_stored"] == 0:  # nothing but rounding is left: begin again without it
            return {name: np.zeros_like(array) for name, array in left.items()}
        return left

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
        return merged

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
        """Complete the state `after` forgetting from `before`, or raise ValueError if no pairs could leave it."""
        return

    def parameters(self) -> dict[str, Any]:
        """The configuration, as plain numbers that JSON can hold."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


NEVER_STORED = (
    "a pair to forget was never stored: without it, what is left could not come from any set of pairs; "
    "expected keys and values exactly as they were stored; nothing was changed"
)
