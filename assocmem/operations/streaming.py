"""Storing more pairs than fit in memory, in a run that may be killed at any moment and started again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem.cell import CHUNK_BYTES, Cell, Progress, report
from assocmem.core import checks, files
from assocmem.operations.sources import Columns, PairForm, Pairs, Rows, open_pairs
from assocmem.rules import State
from assocmem.rules.blocks import add

KIND = "checkpoint"

N_COMPARED = 256  # first pairs, by which a source is known again


def store_from(
    cell: Cell,
    source: Any,
    columns: tuple[Columns, Columns],
    progress: Progress | None,
    checkpoint: str | os.PathLike[str] | None,
    every: int,
    keep_checkpoint: bool = True,
) -> None:
    """Store the pairs of a source; see `AssociativeMemory.store_from`."""
    checks.refuse_uncallable("progress", progress)
    if not isinstance(keep_checkpoint, (bool, np.bool_)):
        raise TypeError(f"keep_checkpoint must be True or False, got {keep_checkpoint!r}")
    every = checks.as_size("every", every)
    if checkpoint is not None:
        files.target_of(checkpoint)  # before any work
    form = PairForm(cell.features, cell.shape.value_dim)
    batch_rows = max(1, CHUNK_BYTES // (8 * (form.key_dim + form.value_dim)))
    pairs = open_pairs(source, form, batch_rows, *columns)
    with cell.writing:
        cell.commit(with_pairs(cell, pairs, every, progress, checkpoint))
        if checkpoint is not None and not keep_checkpoint:
            files.remove(checkpoint)


def with_pairs(
    cell: Cell, pairs: Pairs, every: int, progress: Progress | None, checkpoint: str | os.PathLike[str] | None
) -> State:
    """The state of a cell with further pairs. Blocks end at fixed places, wherever a run was stopped."""
    block = min(cell.chunk_rows, every)
    state, n_done = cell.copied(), 0
    keys, values = pairs.take(block)
    run = None
    if checkpoint is not None:
        run = Run(cell, Path(os.fsdecode(checkpoint)), every, pairs.n_pairs, (keys, values))
        state, n_done, finished = run.begin(state)
        if n_done:
            report(progress, n_done)
        if finished:
            return state
        if n_done:
            pairs.skip(n_done - len(keys))
            keys, values = pairs.take(block)
    while len(keys):
        add(cell.rule, state, cell.block(keys, values))
        n_done += len(keys)
        report(progress, len(keys))
        if run is not None and n_done % every == 0:
            run.save(state, n_done, finished=False)
        keys, values = pairs.take(min(block, every - n_done % every))
    if run is not None:
        run.save(state, n_done, finished=True)
    return state


class Run:
    """A run over a source, and its checkpoint: everything by which one that goes on is known to be the same."""

    def __init__(self, cell: Cell, path: Path, every: int, n_pairs: int | None, first: Rows) -> None:
        self._cell, self._path = cell, path
        self._identity = {
            **cell.configuration(),
            "fingerprint": cell.fingerprint(),
            "every": every,
            "rows in a block": cell.chunk_rows,
            "number of pairs": n_pairs,
            "first pairs": digest(*(rows[:N_COMPARED] for rows in first)),
        }

    def begin(self, state: State) -> tuple[State, int, bool]:
        """Return the state to go on from, how many pairs it has of the source, and whether these are all."""
        files.remove_unfinished(self._path)
        self._identity["pairs before the run"] = before = state_digest(state)
        if not self._path.exists():
            return state, 0, False
        header, arrays = files.load(self._path, KIND)
        identity, written = dict(self._identity), header["run"]
        if header["finished"] and before == digest_of(arrays):
            identity["pairs before the run"] = written["pairs before the run"]  # they are the memory's already
        different = [name for name, value in identity.items() if written.get(name) != value]
        if different:
            raise ValueError(
                f"the checkpoint {self._path} is of a run with other {', '.join(different)}; "
                f"repeat the call with the same memory, source and `every`, or name another file to begin anew"
            )
        saved = self._cell.start()
        files.refuse_other_arrays(self._path, arrays, saved.layout(arrays))
        saved.fill(arrays)
        return saved, header["n_done"], header["finished"]

    def save(self, state: State, n_done: int, *, finished: bool) -> None:
        """Replace the checkpoint."""
        files.save(self._path, KIND, {"run": self._identity, "n_done": n_done, "finished": finished}, state.arrays())


def digest(*arrays: NDArray[Any]) -> str:
    """Digest of the bits of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(repr((array.shape, array.dtype.str)).encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def state_digest(state: State) -> str:
    """Digest of what is stored."""
    return "none" if state.is_empty else digest_of(state.arrays())


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Digest of named arrays."""
    return digest(*(array for _, array in sorted(arrays.items())))
