"""Storing from dask arrays on any number of machines: sums on the workers, added in a tree, solved for once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

try:
    import dask
    import dask.array
    import distributed
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "assocmem.operations.distributed needs dask and distributed, which are not installed; "
        "run python -m pip install 'assocmem[dask]'"
    ) from None

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.operations.sources import PairForm, Rows
from assocmem.rules import AdditiveRule, State
from assocmem.rules.arrays import Shape
from assocmem.rules.blocks import Block, add, merge
from assocmem.rules.ledger import Digester, Ledger

# Parts of the pairs for every thread of the workers. A worker that dies loses the part it was at: more parts lose
# less, and send more sums, of which each is as large as a state.
PARTS_PER_THREAD = 4


def store(memory: Any, keys: Any, values: Any, client: distributed.Client | None = None) -> None:
    """Store the pairs of dask arrays, wherever their chunks are computed.

    Every worker folds consecutive chunks into the sums of the memory's rule, sums are added in a tree, and the total
    is merged into the memory, which is when it is solved for. The result equals ``memory.store`` of the same arrays to
    rounding, for any chunks and any number of workers. A worker that dies costs the part of the pairs that it was at.

    Where chunks can be computed apart from one another (files, random numbers, chunkwise operations on them), a
    worker computes those of its part itself, one at a time, and what is sent is sums alone. Where they cannot
    (persisted arrays; an operation over all rows, such as taking out the mean), chunks travel to the worker that
    folds them.

    Parameters
    ----------
    memory : AssociativeMemory
        With a rule whose state is a sum: "ridge", "rls" and "hebbian" without a decay.
    keys : dask array (N, key_dim)
        In chunks of any sizes; rows of a chunk of 10 to 100 MB are a good choice.
    values : dask array (N, value_dim)
        In chunks of any sizes; they are cut like the keys.
    client : distributed.Client, optional
        Of the cluster that computes; None lets dask choose, which takes the current client if there is one.

    Examples
    --------
    >>> import dask.array
    >>> from assocmem import AssociativeMemory
    >>> from assocmem.operations.distributed import store
    >>> random = dask.array.random.default_rng(0)
    >>> keys, values = random.standard_normal((500, 8), chunks=100), random.standard_normal((500, 2), chunks=100)
    >>> memory = AssociativeMemory(key_dim=8, value_dim=2)
    >>> store(memory, keys, values)
    >>> memory.n_stored
    500
    """
    cell = getattr(memory, "_cell", None)
    if not isinstance(cell, Cell):
        raise TypeError(f"memory must be an AssociativeMemory, got a {type(memory).__name__}")
    if client is not None and not isinstance(client, distributed.Client):
        raise TypeError(f"client must be a distributed.Client or None, got a {type(client).__name__}")
    cell.rule.refuse_unless_additive("merge")
    rule = cast(AdditiveRule, cell.rule)
    form = PairForm(cell.features, cell.shape.value_dim)
    keys, values = _aligned(form, keys, values)
    if not len(keys):
        return
    folder = Folder(form, cell.shape, rule.for_parts(), cell.chunk_rows, cell.digester)
    parts = _parts(folder, keys, values, PARTS_PER_THREAD * _n_threads(client))
    while len(parts) > 1:
        pairs = itertools.zip_longest(parts[::2], parts[1::2])
        parts = [one if other is None else dask.delayed(merge)(folder.rule, one, other) for one, other in pairs]
    total = parts[0].compute() if client is None else client.compute(parts[0]).result()
    with cell.writing:
        cell.commit(merge(rule, cell.current(), total))


@dataclass(frozen=True)
class Folder:
    """What a worker needs to turn pairs into sums; no argument is changed, so that tasks may be retried."""

    form: PairForm
    shape: Shape
    rule: AdditiveRule
    chunk_rows: int
    digester: Digester | None = None

    def start(self) -> State:
        """Return the sums of no pairs."""
        state = self.rule.start(self.shape)
        state.ledger = None if self.digester is None else Ledger.empty()
        return state

    def fold(self, blocks: Iterable[Rows], first: int) -> State:
        """Return the sums of consecutive blocks; `first` is the number of the first pair."""
        state = self.start()
        for keys, values in blocks:
            self._add(state, keys, values, first)
            first += len(keys)
        return state

    def folded_further(self, state: State, keys: Any, values: Any, first: int) -> State:
        """Return sums with another block."""
        further = state.copy()
        self._add(further, keys, values, first)
        return further

    def _add(self, state: State, keys: Any, values: Any, first: int) -> None:
        key_rows, value_rows = self.form.rows(keys, values, first)
        for start in range(0, len(key_rows), self.chunk_rows):
            some_keys, some_values = (rows[start : start + self.chunk_rows] for rows in (key_rows, value_rows))
            digests = None if self.digester is None else self.digester.digests(some_keys, some_values)
            add(self.rule, state, Block(self.form.features.fold_rows(some_keys), some_values, digests=digests))


class Blocks:
    """Chunks that a worker computes itself, one at a time. Not a dataclass: dask would compute what is in one."""

    def __init__(self, keys: Any, values: Any) -> None:
        self.keys, self.values = keys, values

    def graph(self) -> dict[Any, Any]:
        """All tasks, by key."""
        return {**self.keys.dask, **self.values.dask}

    def __iter__(self) -> Iterator[Rows]:
        for i in range(self.keys.numblocks[0]):
            yield dask.compute(self.keys.blocks[i], self.values.blocks[i], scheduler="synchronous")


def _aligned(form: PairForm, keys: Any, values: Any) -> tuple[Any, Any]:
    """Return arrays of which one chunk has whole keys, and the values of the same rows, or refuse."""
    for name, array, width in (("keys", keys, form.key_dim), ("values", values, form.value_dim)):
        if not isinstance(array, dask.array.Array):
            raise TypeError(
                f"{name} must be a dask array, got a {type(array).__name__}; use memory.store for arrays that fit on "
                f"this machine, or dask.array.from_array"
            )
        if array.ndim != 2:
            raise ValueError(f"{name} must have shape (N, {width}), got {array.shape}")
        checks.refuse_bad_kind(name, array.dtype)
        if np.isnan(array.shape).any():
            raise ValueError(f"{name} have chunks of unknown sizes; call {name}.compute_chunk_sizes() before")
    form.refuse_other_shapes(keys, values)
    # Not by dask's shuffle between workers, which cannot run within a task.
    keys = keys.rechunk({1: -1}, method="tasks")
    return keys, values.rechunk({0: keys.chunks[0], 1: -1}, method="tasks")


def _n_threads(client: distributed.Client | None) -> int:
    """Threads that compute at once."""
    try:
        client = client or distributed.default_client()
    except ValueError:  # there is none: dask computes in this process
        return os.cpu_count() or 1
    return max(1, int(sum(client.nthreads().values())))


def _parts(folder: Folder, keys: Any, values: Any, count: int) -> list[Any]:
    """Return at most `count` delayed sums, each of consecutive chunks."""
    n_blocks = keys.numblocks[0]
    bounds = [n_blocks * i // min(count, n_blocks) for i in range(min(count, n_blocks) + 1)]
    firsts = np.cumsum([0, *keys.chunks[0]]).tolist()
    alone = [
        Blocks(*dask.optimize(keys.blocks[start:stop], values.blocks[start:stop]))
        for start, stop in itertools.pairwise(bounds)
    ]
    if not distributed.futures_of([keys, values]) and _share_no_task(part.graph() for part in alone):
        return [dask.delayed(folder.fold)(part, firsts[start]) for part, start in zip(alone, bounds, strict=False)]
    keys, values = dask.optimize(keys, values)
    key_blocks, value_blocks = (array.to_delayed(optimize_graph=False).ravel() for array in (keys, values))
    parts = []
    for start, stop in itertools.pairwise(bounds):
        state = dask.delayed(folder.start)()
        for i in range(start, stop):
            state = dask.delayed(folder.folded_further)(state, key_blocks[i], value_blocks[i], firsts[i])
        parts.append(state)
    return parts


def _share_no_task(graphs: Iterable[Mapping[Any, Any]]) -> bool:
    """Whether no result is needed by two parts, nor large data: each would compute or receive its own."""
    seen: set[Any] = set()
    for graph in graphs:
        for shared in seen & graph.keys():
            node = graph[shared]
            is_data = type(node).__name__ == "DataNode"  # such as an open file
            if not is_data or isinstance(node.value, np.ndarray):
                return False
        seen |= graph.keys()
    return True
