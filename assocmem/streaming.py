"""Storing more pairs than fit in memory, in a run that may be killed at any moment and started again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem import _checks, storage
from assocmem._core import CHUNK_BYTES, MemoryCore, Progress, report
from assocmem._sources import Columns, PairForm, Pairs, Rows, open_pairs
from assocmem.rules.base import FIXED, State
from assocmem.rules.constraints import fixed_layout

KIND = "checkpoint"

# Storing a pair takes about as many multiplications as 1/400 of the state has bytes, whatever its size: at this
# distance checkpoints cost about a hundredth of the time, on a disk of 1 GB/s and a processor of 50 Gflop/s.
EVERY = 2**16

N_COMPARED = 256  # first pairs, by which a source is known again


class Streaming(MemoryCore):
    """What a memory can do with a source of pairs that is read once, from first to last."""

    def store_from(
        self,
        source: Any,
        *,
        key_columns: Columns = "key",
        value_columns: Columns = "value",
        progress: Progress | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int = EVERY,
    ) -> None:
        """Store the pairs of a source that may be larger than memory, resuming where an earlier run was killed.

        The pairs are added to those that the memory holds. Recalls from other threads see none of the new ones before
        all are stored; other writes wait.

        With a checkpoint, call it again in the same way after a crash: same memory as before the first call, same
        source from its beginning. The result equals that of a run that was never stopped, to the last bit. The file
        stays when the run is finished, and a finished run that is started again stores nothing twice; delete the file
        to store the same pairs again.

        Parameters
        ----------
        source : pairs, one of
            a tuple (keys, values) of arrays (N, key_dim) and (N, value_dim), such as `numpy.memmap`, or of paths of
            .npy files, which are mapped;
            an iterable of such batches (keys, values), of any sizes;
            the path of a .npz file with the arrays keys and values;
            a table, dataset, record batch or reader of pyarrow, or the path of a .parquet, .arrow, .ipc or .feather
            file.
        key_columns, value_columns : str or sequence of str
            Columns of Arrow data: of lists, or of single numbers to be laid side by side.
        progress : callable, optional
            Called with the number of further pairs that are done.
        checkpoint : path, optional
            File for what has been stored so far, replaced as a whole; for one run at a time.
        every : int
            Pairs between two checkpoints. Blocks end there, so that a run with another number differs by rounding.

        Raises
        ------
        TypeError, ValueError
            If the source is none, or a pair cannot be stored, as in `store`; the message has its number in the source.
            The memory holds what it held before then, and the checkpoint all pairs up to the last multiple of
            `every`. If the checkpoint is of another memory, source or `every`.
        FileNotFoundError, ModuleNotFoundError
            If a file is missing, or pyarrow.

        Examples
        --------
        >>> import numpy as np
        >>> from assocmem import AssociativeMemory
        >>> rng = np.random.default_rng(0)
        >>> batches = ((rng.standard_normal((100, 8)), rng.standard_normal((100, 2))) for _ in range(5))
        >>> memory = AssociativeMemory(key_dim=8, value_dim=2)
        >>> memory.store_from(batches)
        >>> memory.n_stored
        500
        """
        _checks.refuse_uncallable("progress", progress)
        every = _checks.as_size("every", every)
        form = PairForm(self.key_dim, self.value_dim, self.dtype, self.features.bias)
        batch_rows = max(1, CHUNK_BYTES // (8 * (self.key_dim + self.value_dim)))
        pairs = open_pairs(source, form, batch_rows, key_columns, value_columns)
        with self._writing:
            self._publish(self._with_pairs(pairs, every, progress, checkpoint))

    def _with_pairs(
        self, pairs: Pairs, every: int, progress: Progress | None, checkpoint: str | os.PathLike[str] | None
    ) -> State:
        """Return the state with further pairs. Blocks end at fixed places, wherever a run was stopped."""
        block = min(self._chunk_rows, every)
        state, n_done = self._copied_state(), 0
        keys, values = pairs.take(block)
        run = None
        if checkpoint is not None:
            run = Run(self, Path(os.fsdecode(checkpoint)), every, pairs.n_pairs, (keys, values))
            state, n_done, finished = run.begin(state)
            if n_done:
                report(progress, n_done)
            if finished:
                return state
            if n_done:
                pairs.skip(n_done - len(keys))
                keys, values = pairs.take(block)
        while len(keys):
            self.rule.store(state, self.features.fold_rows(keys), values)
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

    def __init__(self, memory: MemoryCore, path: Path, every: int, n_pairs: int | None, first: Rows) -> None:
        self._memory, self._path = memory, path
        self._identity = {
            **memory._configuration(),
            "fingerprint": memory._fingerprint(),
            "every": every,
            "rows in a block": memory._chunk_rows,
            "number of pairs": n_pairs,
            "first pairs": digest(*(rows[:N_COMPARED] for rows in first)),
        }

    def begin(self, state: State) -> tuple[State, int, bool]:
        """Return the state to go on from, how many pairs it has of the source, and whether these are all."""
        storage.refuse_bad_path(self._path)
        storage.remove_unfinished(self._path)
        self._identity["pairs before the run"] = before = state_digest(state)
        if not self._path.exists():
            return state, 0, False
        header, arrays = storage.load(self._path, KIND)
        identity, written = dict(self._identity), header["run"]
        if header["finished"] and before == state_digest(arrays):
            identity["pairs before the run"] = written["pairs before the run"]  # they are the memory's already
        different = [name for name, value in identity.items() if written.get(name) != value]
        if different:
            raise ValueError(
                f"the checkpoint {self._path} is of a run with other {', '.join(different)}; expected the same memory, "
                f"source and distance of checkpoints; repeat the call as it was, or name another file to begin anew"
            )
        memory = self._memory
        layout = memory.rule.full_layout(memory.rank, memory.value_dim, memory.dtype)
        layout.update(fixed_layout(arrays, memory.rank, memory.value_dim))
        storage.refuse_other_arrays(self._path, arrays, layout)
        return arrays, header["n_done"], header["finished"]

    def save(self, state: State, n_done: int, *, finished: bool) -> None:
        """Replace the checkpoint."""
        storage.save(self._path, KIND, {"run": self._identity, "n_done": n_done, "finished": finished}, state)


def digest(*arrays: NDArray[Any]) -> str:
    """Digest of the bits of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(repr((array.shape, array.dtype.str)).encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def state_digest(state: State) -> str:
    """Digest of what is stored."""
    if not state["n_stored"] and FIXED[0] not in state:
        return "none"  # nothing to read through
    return digest(*(array for _, array in sorted(state.items())))
