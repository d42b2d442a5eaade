"""The cell: one state, the pairs that wait to be stored in it, its current view, and one lock for writers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core import checks, files, limits
from assocmem.core.interrupts import StateLock, Uninterrupted, WriteQueue
from assocmem.core.siphash import Words
from assocmem.core.warned import warn
from assocmem.features.crelu import CReLUFeatures
from assocmem.features.noise import expect_noisy_rows
from assocmem.rules import AdditiveRule, Rule
from assocmem.rules.arrays import Shape, Solution, owned
from assocmem.rules.base import Solved, State
from assocmem.rules.blocks import Block, add, merge
from assocmem.rules.ledger import DIGEST_BYTES, Digester, Ledger

# Bytes of folded features that are in memory at a time while a batch is stored or recalled. Large enough for matrix
# products to run at full speed, small compared with the weights of any memory for which it matters.
CHUNK_BYTES = 32 * 2**20

# Pairs queued to be stored as one block, so that a stream of single pairs still works in matrix products.
PENDING = 256

Progress: TypeAlias = Callable[[int], object]

SMALLEST_CHECKED = 2**26  # bytes; smaller arrays are not worth a look at what the machine has left

# Share of Σ ψvᵀ that weights leave over, from which it is worth a warning; rounding of float32 features explains less.
UNEXPLAINED = {"float64": 1e-9, "float32": 1e-6}

Derived = TypeVar("Derived")


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

    digester: Digester | None = None  # of a memory with a ledger

    def __init__(self, features: CReLUFeatures, rule: Rule, value_dim: int, *, ledger: bool = False) -> None:
        projection = features.projection
        self.features, self.rule = features, rule
        self.shape = Shape(projection.key_dim, features.expansion, features.whiten, value_dim, features.dtype)
        refuse_too_large(self.rule, self.shape, rule.cost(self.shape).state_bytes, "a memory")
        if ledger:
            rule.refuse_unless_additive("keep a ledger, which is for deletion")
            self.digester = self._new_digester()
        self._state = self.start()
        self._reset()

    def _new_digester(self) -> Digester:
        # Without the rule: a memory of the same sums under another one has the same ledger.
        told_apart = {**self.features.configuration(), "value_dim": self.shape.value_dim}
        return Digester(files.fingerprint(told_apart, self.features.projection.signs), self.features.dtype)

    def _reset(self) -> None:
        """Make what belongs to one object and one process: locks, buffers, the view."""
        self.writing = WriteQueue()
        self._still = StateLock()
        self._broken: BaseException | None = None
        self._has_warned = False
        self._view: View | None = None
        self._reader: Callable[[], NDArray[Any] | None] = lambda: None
        self._pending: list[NDArray[Any]] = []
        # Pairs in the state, and pending ones since then. A new tuple for every write: the version of the state.
        self._counts = (self._state.n_stored, 0)

    def __getstate__(self) -> dict[str, Any]:
        with self.writing, np.errstate(under="ignore"):
            kept = {name: getattr(self, name) for name in ("features", "rule", "shape", "digester")}
            return {**kept, "_state": self.copied()}

    def __setstate__(self, entries: dict[str, Any]) -> None:
        vars(self).update(entries)
        self._state = self._state.copy()  # arrays of its own, writeable, whatever buffers they came in
        if self.digester is not None:
            self.digester = self._new_digester()
        self._reset()

    def like(self, state: State) -> Cell:
        """A cell of the same configuration, with another state."""
        cell = Cell(self.features, self.rule, self.shape.value_dim, ledger=self.digester is not None)
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
            **({"ledger": True} if self.digester is not None else {}),  # older files have no such entry
        }

    def fingerprint(self) -> str:
        """Digest of the configuration and the signs of the projection."""
        return files.fingerprint(self.configuration(), self.features.projection.signs)

    def merged(self, other: Cell) -> Cell:
        """A new cell that holds the pairs of both, of one configuration and an additive rule."""
        self.rule.refuse_unless_additive("merge")
        mine, theirs = ({"ledger": False, "center": None, **cell.configuration()} for cell in (self, other))
        told = [{**each, "center": each["center"] and "a vector"} for each in (mine, theirs)]
        different = [f"{name} ({told[0][name]} and {told[1][name]})" for name in mine if mine[name] != theirs[name]]
        if different:
            raise ValueError(
                f"the memories differ in {', '.join(different)}; build both with the same configuration and seed"
            )
        with other.writing:
            their_state = other.copied()
        with self.writing:
            return self.like(merge(cast(AdditiveRule, self.rule), self.current(), their_state))

    # ------------------------------------------------------------------------------------------------ what is there

    @property
    def n_stored(self) -> int:
        """Pairs stored or pending."""
        return sum(self._counts)

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        ledger = self._state.ledger
        pending = 0 if ledger is None else DIGEST_BYTES * (self.n_stored - len(ledger))
        return pending + sum(array.nbytes for array in self._state.arrays().values())

    @property
    def chunk_rows(self) -> int:
        """Rows of features that are worked on at a time."""
        return max(PENDING, CHUNK_BYTES // (self.shape.rank * self.shape.dtype.itemsize))

    def view(self) -> View:
        """The view of the current state, solved for if need be."""
        view = self._view
        if view is not None and view.version is self._counts:
            return view
        with self._still, np.errstate(under="ignore"):
            self._flush()
            view = self._view
            if view is None or view.version is not self._counts:
                solved = self.solved(self._state)
                self._view = view = View(self._lent(solved.weights), solved.solution, self._counts)
                self._warn_once(solved.solution)
            return view

    def _warn_once(self, solution: Solution) -> None:
        """Say that keys are not told apart, the first time that weights are found of which this is seen."""
        if solution.unexplained > UNEXPLAINED[self.shape.dtype.name] and not self._has_warned:
            self._has_warned = True
            warn(
                f"some keys are too near to each other, or too different in length, to be told apart in this "
                f"precision: {solution.unexplained:.0e} of the sums of values is left unexplained, and recalls of such "
                f"keys are blurred; scale or merge them, or give a penalty; error_bound says how far recalls are off"
            )

    def solved(self, state: State) -> Solved:
        """The weights that a state implies."""
        refuse_too_large(
            self.rule, self.shape, self.rule.cost(self.shape).work_bytes, "solving for the weights of a memory"
        )
        return self.rule.solve(state)

    def derived(self, name: str, compute: Callable[[State], Derived]) -> tuple[View, Derived]:
        """The current view, and a value that is computed once for its state."""
        view = self.view()
        if name not in view.derived:
            with self._still, np.errstate(under="ignore"):
                view = self.view()
                if name not in view.derived:
                    view.derived[name] = compute(self._state)
        value: Derived = view.derived[name]
        return view, value

    def read(self, compute: Callable[[State], Derived]) -> Derived:
        """A value computed from the flushed state while no write changes it."""
        with self._still, np.errstate(under="ignore"):
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

    def queue(self, keys: NDArray[Any], values: NDArray[Any], ids: Words | None = None) -> None:
        """Queue a few checked pairs to be stored as one block; inside `writing`."""
        with self._still:
            if self._counts[1] + len(keys) > PENDING or self._state.n_stored != self._counts[0]:
                self._flush()
            if not self._pending:
                widths = self.features.key_dim, self.shape.value_dim
                self._pending = [np.empty((PENDING, width), self.shape.dtype) for width in widths]
                if self.digester is not None:
                    self._pending.append(np.empty((PENDING, 2), np.uint64))
            n_before, first = self._counts
            last = first + len(keys)
            self._pending[0][first:last] = keys
            self._pending[1][first:last] = values
            if self.digester is not None:
                self._pending[2][first:last] = 0 if ids is None else ids
            self._view = None
            self._counts = (n_before, last)  # until then, nothing has happened

    def store(self, block: Block) -> None:
        """Store a block; inside `writing`."""
        with self._still:
            self._flush()
            self._store(block)

    def _flush(self) -> None:
        """Store what is pending; the number of pairs in the state tells whether that has happened already."""
        if self._broken is not None:
            raise RuntimeError(
                f"a write was cut off halfway by {type(self._broken).__name__}, so that the sums of this memory belong "
                f"to no set of pairs; load the last file that was saved, or store the pairs again in a new memory"
            ) from self._broken
        n_before, n_pending = self._counts
        if n_pending and self._state.n_stored == n_before:
            keys, values, *ids = (rows[:n_pending] for rows in self._pending)
            self._store(self.block(keys, values, *ids))
        if self._counts != (self._state.n_stored, 0):
            self._view = None
            self._counts = (self._state.n_stored, 0)

    def _store(self, block: Block) -> None:
        """Store a block in place where the rule may, else in a copy."""
        if not self.rule.in_place:
            state = self._state.copy()
            add(self.rule, state, block)
            self.commit(state)
            return
        state = self._unshared()
        n_before = state.n_stored
        try:
            add(self.rule, state, block)
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
                    setattr(self._state, name, owned(array))
        return self._state

    def store_pairs(
        self,
        keys: NDArray[Any],
        values: NDArray[Any],
        query_cosine: float,
        progress: Progress | None,
        ids: Words | None = None,
    ) -> None:
        """Store checked pairs: a few are queued, a chunk is stored in place, more are stored in a copy.

        So is everything with a progress function: it may raise, and then none of the pairs is stored.
        """
        with self.writing:
            alone = query_cosine == 1.0 and progress is None
            if alone and len(keys) <= PENDING:
                self.queue(keys, values, ids)
            elif alone and len(keys) <= self.chunk_rows:
                for block in self.blocks(keys, values, ids=ids):
                    self.store(block)
            elif len(keys):  # an interruption between two chunks leaves the old state
                state = self.copied()
                for block in self.blocks(keys, values, query_cosine, ids):
                    add(self.rule, state, block)
                    report(progress, len(block.features))
                self.commit(state)

    def change(self, change: Callable[[State], object]) -> None:
        """Change a private copy of the state, and commit it."""
        with self.writing:
            state = self.copied()
            change(state)
            self.commit(state)

    def start(self) -> State:
        """The state of a memory that has stored nothing."""
        state = self.rule.start(self.shape)
        if self.digester is not None:
            state.ledger = Ledger.empty()
        return state

    def current(self) -> State:
        """The flushed state, to be read inside `writing`."""
        return self.read(lambda state: state)

    def copied(self) -> State:
        """A private copy of the flushed state, to be committed; inside `writing`."""
        with self._still:
            self._flush()
            if self._state.is_empty:
                return self.start()  # zeros take no memory before they are written
            refuse_too_large(self.rule, self.shape, self.nbytes, "a second copy of the state of a memory")
            return self._state.copy()

    def commit(self, state: State, weights: NDArray[Any] | None = None) -> None:
        """Make a private copy the state, with the weights that it implies if they are known; inside `writing`."""
        if self.digester is not None and (state.ledger is None or len(state.ledger) != state.n_stored):
            raise ValueError(
                f"the ledger has {len(state.ledger or ())} digests for {state.n_stored} pairs, of a damaged file or a "
                f"rule that counts other pairs than it stores; nothing was changed"
            )
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
            self.features.refuse_bad_keys(part, start)
            yield slice(start, start + len(part)), self.features.fold_rows(part, buffer[: len(part)])

    def block(self, keys: NDArray[Any], values: NDArray[Any], ids: Words | None = None) -> Block:
        """A few checked pairs of the memory's dtype as one block."""
        return Block(self.features.fold_rows(keys), values, digests=self.digests(keys, values, 1.0, ids))

    def blocks(
        self,
        keys: NDArray[Any],
        values: NDArray[Any] | None,
        query_cosine: float = 1.0,
        ids: Words | None = None,
    ) -> Iterator[Block]:
        """Features and values of checked pairs, chunk by chunk; with noise, the means of the features of noisy keys."""

        def block(chunk: slice, features: NDArray[Any], variances: NDArray[np.float64] | None = None) -> Block:
            if values is None:
                return Block(features, None, variances)
            rows, some = checks.to_dtype(values[chunk], self.shape.dtype), () if ids is None else (ids[chunk],)
            return Block(features, rows, variances, self.digests(keys[chunk], rows, query_cosine, *some))

        if query_cosine == 1.0:
            for chunk, features in self.features_of(keys):
                yield block(chunk, features)
            return
        for start in range(0, len(keys), self.chunk_rows):
            chunk = slice(start, start + self.chunk_rows)
            rows = checks.to_dtype(keys[chunk], self.shape.dtype)
            yield block(chunk, *expect_noisy_rows(self.features, rows, (1.0 - query_cosine) / 2))

    def digests(
        self, keys: NDArray[Any], values: NDArray[Any], query_cosine: float, ids: Words | None = None
    ) -> Words | None:
        """Digests (N, 2) of checked pairs, by which the ledger knows them; None without a ledger."""
        if self.digester is None:
            return None
        rows = [slice(start, start + self.chunk_rows) for start in range(0, len(keys), self.chunk_rows)]
        parts = [
            self.digester.digests(keys[part], values[part], query_cosine, None if ids is None else ids[part])
            for part in rows
        ]
        return np.concatenate([np.empty((0, 2), np.uint64), *parts])


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
