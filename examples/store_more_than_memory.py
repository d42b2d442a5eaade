"""Store a file of pairs that need not fit in memory, in a run that is stopped half-way and started again.

The keys and values stay on disk, mapped; a checkpoint keeps what has been stored. The second run goes on from there,
and its weights equal those of a run that nobody stopped, to the last bit.
"""

import tempfile
from pathlib import Path

import numpy as np

from assocmem import AssociativeMemory

N, KEY_DIM, VALUE_DIM = 20_000, 64, 4
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
rng = np.random.default_rng(0)
keys = np.lib.format.open_memmap(folder / "keys.npy", "w+", np.float32, (N, KEY_DIM))
values = np.lib.format.open_memmap(folder / "values.npy", "w+", np.float32, (N, VALUE_DIM))
mapping = rng.standard_normal((KEY_DIM, VALUE_DIM), np.float32)
for start in range(0, N, 4_000):
    part = slice(start, start + 4_000)
    keys[part] = rng.standard_normal((4_000, KEY_DIM), np.float32)
    values[part] = np.sin(keys[part] @ mapping / 4)

source = (folder / "keys.npy", folder / "values.npy")
done = 0


def stop_half_way(n_more: int) -> None:
    """Stop as Ctrl-C would; a power cut would do as well."""
    global done
    done += n_more
    if done >= N // 2:
        raise KeyboardInterrupt


def new_memory() -> AssociativeMemory:
    """A memory of 320 dimensions, however many pairs it has seen."""
    return AssociativeMemory(KEY_DIM, VALUE_DIM)


memory = new_memory()
try:
    memory.store_from(source, checkpoint=folder / "run", every=4_000, progress=stop_half_way)
except KeyboardInterrupt:
    print(f"stopped after {done:,} pairs; the memory holds {memory.n_stored}, the checkpoint the last full 4,000")

further: list[int] = []
memory.store_from(source, checkpoint=folder / "run", every=4_000, progress=further.append)
print(f"started again: {further[0]:,} pairs were there, {sum(further[1:]):,} were stored, {memory.n_stored:,} in all")

unstopped = new_memory()
unstopped.store_from(source, every=4_000)
assert np.array_equal(memory.weights, unstopped.weights)
print("the weights equal those of a run that was not stopped, bit for bit")
temporary.cleanup()
