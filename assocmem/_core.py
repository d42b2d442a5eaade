"""What every part of a memory shares: its configuration, its state, who may read it and who may change it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from assocmem import _checks, storage
from assocmem._interrupts import Uninterrupted, WriteQueue
from assocmem.crelu import CReLUFeatures
from assocmem.rules import Rule, as_rule
from assocmem.rules._solve import Solution
from assocmem.rules.base import FIXED, State

# Bytes of folded features that are in memory at a time while a batch is stored or recalled. Large enough for
# matrix products to run at full speed, small next to the weights of any memory for which it matters.
CHUNK_BYTES = 32 * 2**20

# Pairs that wait to be stored together, so that a stream of single pairs still works in matrix products.
PENDING = 256

Progress: TypeAlias = Callable[[int], object]
Core = TypeVar("Core", bound="MemoryCore")


class MemoryCore:
    """Configuration, features, rule and state of a memory, and the two locks that keep them whole.

    Whoever changes what is stored, or needs it to stand still, holds `_writing`: writers queue. `_guard` is held for
    the moments in which the published `_state`, `_solved` or the pending pairs change, so that a recall sees the
    state before a write or after it. `_derived` holds what else was computed from the published state, by name; it
    is dropped with `_solved`. A write of many chunks works on a copy of the state, beside the recalls, and
    publishes it at the end; a write of one chunk changes the state in place, except for weights that a recall is
    reading at that moment, of which it takes a copy.
    """

    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        *,
        expansion: int = 4,
        rule: str | Rule = "ridge",
        whiten: bool = True,
        bias: float = 0.0,
        seed: int = 0,
        dtype: DTypeLike = "float64",
    ) -> None:
        self.features = CReLUFeatures(key_dim, expansion, whiten=whiten, bias=bias, seed=seed, dtype=dtype)
        self.value_dim = _checks.as_size("value_dim", value_dim)
        projection = self.features.projection
        self.rule = as_rule(rule).for_features(projection.key_dim, self.expansion, self.features.whiten)
        self._state = self._new_state()
        self._solved: NDArray[Any] | None = None
        self._solution: Solution | None = None  # how _solved was found, if known
        self._derived: dict[str, Any] = {}
        self._n_readers = 0
        self._being_read: NDArray[Any] | None = None  # the latest weights that were; older ones are in no state
        self._new_locks()

    def _new_locks(self) -> None:
        """Locks, and the arrays in which pairs wait: what belongs to one object."""
        self._pending_keys = np.empty((PENDING, self.key_dim), self.dtype)
        self._pending_values = np.empty((PENDING, self.value_dim), self.dtype)
        self._n_pending = 0
        self._writing = WriteQueue()
        self._guard = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the locks, which belong to one process; arrays that no write changes any more."""
        with self._guard:
            self._flush()
            state = {**vars(self), "_state": {name: array.copy() for name, array in self._state.items()}}
        state.update(_solved=None, _solution=None, _derived={}, _being_read=None, _n_readers=0)
        for name in ("_writing", "_guard", "_pending_keys", "_pending_values"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._new_locks()

    # ------------------------------------------------------------------------------------------------ sizes

    @property
    def key_dim(self) -> int:
        """Length of a key."""
        return self.features.key_dim

    @property
    def expansion(self) -> int:
        """Number of random orthogonal blocks."""
        return self.features.expansion

    @property
    def n_units(self) -> int:
        """Number m of CReLU units."""
        return self.features.n_units

    @property
    def rank(self) -> int:
        """Dimension D of the folded features: the number of pairs that can be recalled exactly."""
        return self.features.rank

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of features and weights."""
        return self.features.dtype

    @property
    def n_stored(self) -> int:
        """Number of pairs stored and not forgotten."""
        return int(self._state["n_stored"]) + self._n_pending

    @property
    def nbytes(self) -> int:
        """Bytes of the state: what a saved file holds, whatever was stored."""
        return sum(array.nbytes for array in self._state.values())

    @property
    def alpha(self) -> float | None:
        """The penalty in use; None for a rule without one, or before it has been chosen."""
        with self._guard:
            self._flush()
            dear = self.rule.penalty_is_dear and self.n_stored > 0
            return self._how_solved().alpha if dear else self.rule.penalty(self._state)

    @property
    def solution(self) -> Solution:
        """The solver of the weights in use, its penalty, shift and passes, and the condition number of its matrix.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.solution.solver, memory.solution.passes
        ('iterated Tikhonov', 2)
        """
        with self._guard:
            solution = self._how_solved()
            if np.isnan(solution.condition):
                solution = replace(solution, condition=self.rule.condition(self._state, solution))
                self._solution = solution
            return solution

    @property
    def n_effective(self) -> float | None:
        """Number of equally weighted pairs that would tell as much, (Σ w)² / Σ w² for pairs of weights w.

        `n_stored`, unless the rule lets the past fade: then at most (1 + f)/(1 − f) for a factor f. None for the delta
        rule, where what is left of a pair depends on the keys that came after it.
        """
        with self._guard:
            self._flush()
            return self.rule.effective_number(self._state)

    def __repr__(self) -> str:
        return (
            f"AssociativeMemory(key_dim={self.key_dim}, value_dim={self.value_dim}, expansion={self.expansion}, "
            f"rule={self.rule}, n_stored={self.n_stored}, rank={self.rank})"
        )

    # ------------------------------------------------------------------------------------------ checks, chunks

    def _checked_pairs(self, keys: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return tables of pairs that can all be stored, or refuse; large arrays are read once for this."""
        key_table, _ = _checks.as_table("keys", keys, self.key_dim)
        value_table, _ = _checks.as_table("values", values, self.value_dim)
        _checks.refuse_unequal_lengths(len(key_table), len(value_table))
        self._check_keys(key_table)
        for start in range(0, len(key_table), self._chunk_rows):
            chunk = slice(start, start + self._chunk_rows)
            _checks.refuse_bad_values(_checks.to_dtype(value_table[chunk], self.dtype), start)
        return key_table, value_table

    def _check_keys(self, table: NDArray[Any]) -> None:
        for start in range(0, len(table), self._chunk_rows):
            rows = _checks.to_dtype(table[start : start + self._chunk_rows], self.dtype)
            _checks.refuse_bad_keys(rows, self.features.bias, start)

    @property
    def _chunk_rows(self) -> int:
        return max(PENDING, CHUNK_BYTES // (self.rank * self.dtype.itemsize))

    def _feature_chunks(
        self, key_table: NDArray[Any], value_table: NDArray[Any]
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Folded features and values of checked pairs, chunk by chunk; a chunk is overwritten by the next."""
        buffer = np.empty((min(self._chunk_rows, len(key_table)), self.rank), self.dtype)
        for start in range(0, len(key_table), self._chunk_rows):
            rows = _checks.to_dtype(key_table[start : start + self._chunk_rows], self.dtype)
            targets = _checks.to_dtype(value_table[start : start + self._chunk_rows], self.dtype)
            yield self.features.fold_rows(rows, buffer[: len(rows)]), targets

    def _features_of(self, table: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Folded features of keys, chunk by chunk, and where they belong; a chunk is overwritten by the next."""
        buffer = np.empty((min(self._chunk_rows, len(table)), self.rank), self.dtype)
        for start in range(0, len(table), self._chunk_rows):
            rows = _checks.to_dtype(table[start : start + self._chunk_rows], self.dtype)
            _checks.refuse_bad_keys(rows, self.features.bias, start)
            yield slice(start, start + len(rows)), self.features.fold_rows(rows, buffer[: len(rows)])

    # ------------------------------------------------------------------------------------------ read, change

    def _append(self, key_table: NDArray[Any], value_table: NDArray[Any]) -> None:
        """Let a few pairs wait; for whoever holds `_writing`."""
        with self._guard:
            first, last = self._n_pending, self._n_pending + len(key_table)
            if last > len(self._pending_keys):
                self._flush()
                first, last = 0, len(key_table)
            self._pending_keys[first:last] = key_table
            self._pending_values[first:last] = value_table
            self._solved, self._derived = None, {}
            self._n_pending = last  # the last of it: until then, nothing has happened

    def _flush(self) -> None:
        """Store what is pending."""
        with self._guard:
            if self._n_pending:
                features = self.features.fold_rows(self._pending_keys[: self._n_pending])
                self._change(lambda state: self._store_pending(state, features))

    def _store_pending(self, state: State, features: NDArray[Any]) -> None:
        self.rule.store(state, features, self._pending_values[: self._n_pending])
        self._n_pending = 0

    def _store_now(self, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Store a block in place; for whoever holds `_writing`."""
        with self._guard:
            self._flush()
            self._change(lambda state: self.rule.store(state, features, values))

    def _change(self, change: Callable[[State], None]) -> None:
        """Change the published state in place, but no array that somebody is reading."""
        with self._guard:
            if self._n_readers:
                self._state = {
                    name: array.copy() if array is self._being_read else array for name, array in self._state.items()
                }
            self._solved, self._derived = None, {}
            with Uninterrupted():
                change(self._state)

    def _publish(self, state: State, solved: NDArray[Any] | None = None) -> None:
        """Let another state take the place of the published one."""
        with self._guard:
            self._solved = self._solution = None  # an interrupt after this or the next line leaves a state to be solved
            self._derived = {}
            self._state = state
            self._solved = solved

    def _new_state(self) -> State:
        return self.rule.start(self.rank, self.value_dim, self.dtype)

    def _copied_state(self) -> State:
        """A copy of the flushed state to work on; for whoever holds `_writing`."""
        with self._guard:
            self._flush()
            if self._state["n_stored"] == 0 and FIXED[0] not in self._state:
                return self._new_state()  # zeros take no memory before they are written
            return {name: array.copy() for name, array in self._state.items()}

    def _weights(self) -> NDArray[Any]:
        """The folded weights, solved for if need be; to be read under `_guard`, or as `_reading` says."""
        with self._guard:
            self._flush()
            if self._solved is None:
                weights, self._solution = self.rule.solve(self._state)
                self._solved = weights.astype(self.dtype, copy=False)
            return self._solved

    def _how_solved(self) -> Solution:
        """How the weights were found; found once more if they were loaded from a file."""
        with self._guard:
            self._weights()
            if self._solution is None:
                self._solution = self.rule.solve(self._state)[1]
            return self._solution

    @contextmanager
    def _reading(self) -> Iterator[NDArray[Any]]:
        """The folded weights, which nobody changes in the meantime."""
        weights = self._begin_reading()
        try:
            yield weights
        finally:
            self._end_reading()

    def _begin_reading(self) -> NDArray[Any]:
        with self._guard:
            self._being_read = self._weights()
            self._n_readers += 1
            return self._being_read

    def _end_reading(self) -> None:
        with self._guard:
            self._n_readers -= 1

    # ------------------------------------------------------------------------------------------- configuration

    def _configuration(self) -> dict[str, Any]:
        return {
            **self.features.configuration(),
            "value_dim": self.value_dim,
            "rule": self.rule.name,
            "rule_parameters": self.rule.parameters(),
        }

    def _empty_copy(self: Core) -> Core:
        options = self._configuration()
        del options["rule_parameters"]
        return type(self)(**{**options, "rule": self.rule})

    def _fingerprint(self) -> str:
        return storage.fingerprint(self._configuration(), self.features.projection.signs)


def report(progress: Progress | None, n_done: int) -> None:
    """Tell whoever watches."""
    if progress is not None:
        progress(n_done)
