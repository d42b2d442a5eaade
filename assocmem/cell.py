"""The cell: one state, the pairs that wait to be stored in it, its current view, and one lock for writers."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks, files, limits
from assocmem.core.interrupts import Uninterrupted, WriteQueue
from assocmem.features.crelu import CReLUFeatures
from assocmem.features.noise import expect_noisy_rows
from assocmem.rules import AdditiveRule, Rule
from assocmem.rules.arrays import Shape, Solution
from assocmem.rules.base import State

# Bytes of folded features that are in memory at a time while a batch is stored or recalled. Large enough for matrix
# products to run at full speed, small compared with the weights of any memory for which it matters.
CHUNK_BYTES = 32 * 2**20

# Pairs queued to be stored as one block, so that a stream of single pairs still works in matrix products.
PENDING = 256

Progress: TypeAlias = Callable[[int], object]

SMALLEST_CHECKED = 2**26  # bytes; smaller arrays are not worth a look at what the machine has left

Derived = TypeVar("Derived")


class Block(NamedTuple):
    """Features (B, D) and values (B, v) of pairs; with noise, the variances (D,) of the features, summed over pairs."""

    features: NDArray[Any]
    values: NDArray[Any]
    variances: NDArray[np.float64] | None = None


class View:
    """Weights that a state implies and how they were found; never changes once it is made.

    `derived` holds values computed from the same state by name, such as a factor. `version` is that of the cell.
    """

    def __init__(self, weights: NDArray[Any], solution: Solution | None, version: object) -> None:
        self.weights, self.solution, self.version = weights, solution, version
        self.derived: dict[str, Any] = {}


class Cell:
    """The state of a memory behind one door.

    Recalls take `view()`, made once per state; where there is one, they need no lock. Writers queue at `writing`, and
    either change a private copy, which `commit` makes the state, or `store` a block in place. `_still` is held while
    the state is solved for or changed in place.

    Weights that are an array of the state are copied before a change in place if a recall still holds their view.
    """

    def __init__(self, features: CReLUFeatures, rule: Rule, value_dim: int) -> None:
        projection = features.projection
        self.features, self.rule = features, rule
        self.shape = Shape(projection.key_dim, features.expansion, features.whiten, value_dim, features.dtype)
        refuse_too_large(self.rule, self.shape, rule.cost(self.shape).state_bytes, "a memory")
        self._state = rule.start(self.shape)
        self._reset()

    def _reset(self) -> None:
        """Make what belongs to one object and one process: locks, buffers, the view."""
        self.writing = WriteQueue()
        self._still = threading.RLock()
        self._broken: BaseException | None = None
        self._view: View | None = None
        self._reader: Callable[[], NDArray[Any] | None] = lambda: None
        self._pending: list[NDArray[Any]] = []
        # Pairs in the state, and pending ones since then. A new tuple for every write: the version of the state.
        self._counts = (self._state.n_stored, 0)

    def __getstate__(self) -> dict[str, Any]:
        with self.writing:
            return {"features": self.features, "rule": self.rule, "shape": self.shape, "_state": self.copied()}

    def __setstate__(self, entries: dict[str, Any]) -> None:
        vars(self).update(entries)
        self._state = self._state.copy()  # arrays of its own, writeable, whatever buffers they came in
        self._reset()

    def like(self, state: State) -> Cell:
        """A cell of the same configuration, with another state."""
        cell = Cell(self.features, self.rule, self.shape.value_dim)
        cell.commit(state)
        return cell

    def twin(self) -> Cell:
        """An independent copy."""
        with self.writing:
            return self.like(self.copied())

    def configuration(self) -> dict[str, Any]:
        """Everything by which an empty memory is built again, as JSON can hold it."""
        return {
            **self.features.configuration(),
            "value_dim": self.shape.value_dim,
            "rule": self.rule.name,
            "rule_parameters": self.rule.parameters(),
        }

    def fingerprint(self) -> str:
        """Digest of the configuration and the signs of the projection."""
        return files.fingerprint(self.configuration(), self.features.projection.signs)

    def merged(self, other: Cell) -> Cell:
        """A new cell that holds the pairs of both, of one configuration and an additive rule."""
        self.rule.refuse_unless_additive("merge")
        mine, theirs = self.configuration(), other.configuration()
        different = [f"{name} ({mine[name]} and {theirs[name]})" for name in mine if mine[name] != theirs[name]]
        if different:
            raise ValueError(
                f"the memories differ in {', '.join(different)}; build both with the same configuration and seed"
            )
        with other.writing:
            their_state = other.copied()
        with self.writing:
            return self.like(cast(AdditiveRule, self.rule).merge(self.current(), their_state))

    # ------------------------------------------------------------------------------------------------ what is there

    @property
    def n_stored(self) -> int:
        """Pairs stored or pending."""
        return sum(self._counts)

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return sum(array.nbytes for array in self._state.arrays().values())

    @property
    def chunk_rows(self) -> int:
        """Rows of features that are worked on at a time."""
        return max(PENDING, CHUNK_BYTES // (self.shape.rank * self.shape.dtype.itemsize))

    def view(self) -> View:
        """The view of the current state, solved for if need be."""
        view = self._view
        if view is not None and view.version is self._counts:
            return view
        with self._still:
            self._flush()
            view = self._view
            if view is None or view.version is not self._counts:
                refuse_too_large(
                    self.rule, self.shape, self.rule.cost(self.shape).work_bytes, "solving for the weights of a memory"
                )
                solved = self.rule.solve(self._state)
                self._view = view = View(self._lent(solved.weights), solved.solution, self._counts)
            return view

    def derived(self, name: str, compute: Callable[[State], Derived]) -> tuple[View, Derived]:
        """The current view, and a value that is computed once for its state."""
        view = self.view()
        if name not in view.derived:
            with self._still:
                view = self.view()
                if name not in view.derived:
                    view.derived[name] = compute(self._state)
        value: Derived = view.derived[name]
        return view, value

    def read(self, compute: Callable[[State], Derived]) -> Derived:
        """A value computed from the flushed state while no write changes it."""
        with self._still:
            self._flush()
            return compute(self._state)

    def solution(self) -> Solution:
        """How the weights were found, with the condition number; found once more if they came from a file."""

        def found(state: State) -> Solution:
            solution = self.view().solution or self.rule.solve(state).solution
            if state.sums is None or not np.isnan(solution.condition):
                return solution
            return replace(solution, condition=state.sums.condition(solution))

        return self.derived("solution", found)[1]

    def alpha(self) -> float | None:
        """The penalty in use; None for a rule without one, or before it has been chosen."""
        if self.rule.alpha_is_expensive and self.n_stored:
            return self.solution().alpha
        return self.read(self.rule.alpha_for)

    # ------------------------------------------------------------------------------------------------------- writes

    def queue(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Queue a few checked pairs to be stored as one block; inside `writing`."""
        with self._still:
            if self._counts[1] + len(keys) > PENDING or self._state.n_stored != self._counts[0]:
                self._flush()
            if not self._pending:
                widths = self.features.key_dim, self.shape.value_dim
                self._pending = [np.empty((PENDING, width), self.shape.dtype) for width in widths]
            n_before, first = self._counts
            last = first + len(keys)
            self._pending[0][first:last] = keys
            self._pending[1][first:last] = values
            self._view = None
            self._counts = (n_before, last)  # until then, nothing has happened

    def store(self, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Store a block; inside `writing`."""
        with self._still:
            self._flush()
            self._store(features, values)

    def _flush(self) -> None:
        """Store what is pending; the number of pairs in the state tells whether that has happened already."""
        if self._broken is not None:
            raise RuntimeError(
                f"a write was cut off halfway by {type(self._broken).__name__}, so that the sums of this memory belong "
                f"to no set of pairs; load the last file that was saved, or store the pairs again in a new memory"
            ) from self._broken
        n_before, n_pending = self._counts
        if n_pending and self._state.n_stored == n_before:
            keys, values = (rows[:n_pending] for rows in self._pending)
            self._store(self.features.fold_rows(keys), values)
        if self._counts != (self._state.n_stored, 0):
            self._view = None
            self._counts = (self._state.n_stored, 0)

    def _store(self, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Store a block in place where the rule may, else in a copy."""
        if not self.rule.in_place:
            state = self._state.copy()
            self.rule.store(state, features, values)
            self.commit(state)
            return
        state = self._unshared()
        n_before = state.n_stored
        try:
            self.rule.store(state, features, values)
        except BaseException as error:
            if not state.whole:
                self._broken = error
            raise
        finally:  # an exception from a signal that has waited comes after the change
            if state.n_stored != n_before:
                self._counts = (state.n_stored, 0)

    def _lent(self, weights: NDArray[Any]) -> NDArray[Any]:
        """Weights of the memory's dtype as an array object that is alive as long as a recall reads them."""
        lent: NDArray[Any] = weights.astype(self.shape.dtype, copy=False).view()
        self._reader = weakref.ref(lent)
        return lent

    def _unshared(self) -> State:
        """The state, to be changed in place: without a view, and with copies of arrays that a recall still reads."""
        self._view = None
        weights = self._reader()
        if weights is not None:
            for name, array in vars(self._state).items():
                if isinstance(array, np.ndarray) and np.may_share_memory(array, weights):
                    setattr(self._state, name, array.copy())
        return self._state

    def store_pairs(
        self, keys: NDArray[Any], values: NDArray[Any], query_cosine: float, progress: Progress | None
    ) -> None:
        """Store checked pairs: a few are queued, a chunk is stored in place, more are stored in a copy."""
        with self.writing:
            if query_cosine == 1.0 and len(keys) <= PENDING:
                self.queue(keys, values)
                report(progress, len(keys))
            elif query_cosine == 1.0 and len(keys) <= self.chunk_rows:
                for block in self.blocks(keys, values):
                    self.store(block.features, block.values)
                report(progress, len(keys))
            else:  # an interruption between two chunks leaves the old state
                state = self.copied()
                for block in self.blocks(keys, values, query_cosine):
                    self.rule.store(state, block.features, block.values)
                    if block.variances is not None and state.sums is not None:
                        state.sums.add_variances(block.variances)
                        state.sums.n_noisy += len(block.features)
                    report(progress, len(block.features))
                self.commit(state)

    def change(self, change: Callable[[State], object]) -> None:
        """Change a private copy of the state, and commit it."""
        with self.writing:
            state = self.copied()
            change(state)
            self.commit(state)

    def current(self) -> State:
        """The flushed state, to be read inside `writing`."""
        return self.read(lambda state: state)

    def copied(self) -> State:
        """A private copy of the flushed state, to be committed; inside `writing`."""
        with self._still:
            self._flush()
            if self._state.is_empty:
                return self.rule.start(self.shape)  # zeros take no memory before they are written
            refuse_too_large(self.rule, self.shape, self.nbytes, "a second copy of the state of a memory")
            return self._state.copy()

    def commit(self, state: State, weights: NDArray[Any] | None = None) -> None:
        """Make a private copy the state, with the weights that it implies if they are known; inside `writing`."""
        with self._still:
            with Uninterrupted():
                self._view = None
                self._state = state
                self._counts = (state.n_stored, 0)
                self._pending = []  # the pairs that waited there may have been deleted since
            if weights is not None:
                self._view = View(self._lent(weights), None, self._counts)

    # ------------------------------------------------------------------------------------------------------- chunks

    def features_of(self, keys: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Folded features of checked keys, chunk by chunk, and their place; a chunk is overwritten by the next."""
        rows = self.chunk_rows
        buffer = np.empty((min(rows, len(keys)), self.shape.rank), self.shape.dtype)
        for start in range(0, len(keys), rows):
            part = checks.to_dtype(keys[start : start + rows], self.shape.dtype)
            checks.refuse_bad_keys(part, self.features.bias, start)
            yield slice(start, start + len(part)), self.features.fold_rows(part, buffer[: len(part)])

    def blocks(self, keys: NDArray[Any], values: NDArray[Any], query_cosine: float = 1.0) -> Iterator[Block]:
        """Features and values of checked pairs, chunk by chunk; with noise, the means of the features of noisy keys."""
        if query_cosine == 1.0:
            for chunk, features in self.features_of(keys):
                yield Block(features, checks.to_dtype(values[chunk], self.shape.dtype))
            return
        for start in range(0, len(keys), self.chunk_rows):
            chunk = slice(start, start + self.chunk_rows)
            rows, targets = (checks.to_dtype(table[chunk], self.shape.dtype) for table in (keys, values))
            means, variances = expect_noisy_rows(self.features, rows, (1.0 - query_cosine) / 2)
            yield Block(means, targets, variances)


def refuse_too_large(rule: Rule, shape: Shape, n_bytes: int, what: str) -> None:
    """Raise MemoryError, before anything is allocated, for more bytes than the machine has left."""

    def what_fits() -> str:
        available, expansion = limits.available_bytes() or 0, shape.expansion
        while expansion := expansion // 2:
            cost = rule.cost(replace(shape, expansion=expansion))
            if cost.state_bytes + cost.work_bytes <= available:
                return f"expansion={expansion} fits"
        alone = shape.rank * shape.value_dim * shape.dtype.itemsize
        if alone <= available:
            return f"rule='delta' or 'hebbian', which keep no Gram matrix, fits with {alone:,} bytes"
        return "no rule fits at these lengths of keys and values; make them shorter"

    if n_bytes >= SMALLEST_CHECKED:
        named = f"{what} of rank {shape.rank:,} and value_dim {shape.value_dim:,} with rule {rule.name!r}"
        limits.refuse_if_too_large(f"{named} and expansion {shape.expansion}", n_bytes, what_fits)


def report(progress: Progress | None, n_done: int) -> None:
    """Call a progress function, if there is one, with the number of further pairs that are done."""
    if progress is not None:
        progress(n_done)
