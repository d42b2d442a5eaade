"""Store pairs from files larger than memory, in a run that is stopped half-way and resumed.

Keys and values are two .npy files, read block by block. A checkpoint records the progress. The second call resumes from
it, and the weights equal those of an uninterrupted run to the last bit.
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
    """Interrupt the run as Ctrl-C would; it may also be killed."""
    global done
    done += n_more
    if done >= N // 2:
        raise KeyboardInterrupt


def new_memory() -> AssociativeMemory:
    """An empty memory; its size does not depend on the number of pairs."""
    return AssociativeMemory(KEY_DIM, VALUE_DIM)


memory = new_memory()
try:
    memory.store_from(source, checkpoint=folder / "run", every=4_000, progress=stop_half_way)
except KeyboardInterrupt:
    print(f"stopped after {done:,} pairs; the memory is unchanged (n_stored = {memory.n_stored})")

progress: list[int] = []
memory.store_from(source, checkpoint=folder / "run", every=4_000, progress=progress.append)
print(f"resumed with {progress[0]:,} pairs from the checkpoint and {sum(progress[1:]):,} from the files")

uninterrupted = new_memory()
uninterrupted.store_from(source, every=4_000)
assert np.array_equal(memory.weights, uninterrupted.weights)
print("the weights equal those of an uninterrupted run, bit for bit")
temporary.cleanup()
