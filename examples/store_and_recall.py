"""Store pairs of vectors, recall values from exact and noisy keys, forget pairs, save and load."""

import tempfile
from pathlib import Path

import numpy as np

from assocmem import AssociativeMemory

rng = np.random.default_rng(0)
keys = rng.standard_normal((1000, 256))
values = rng.choice([-1.0, 1.0], (1000, 64))

memory = AssociativeMemory(key_dim=256, value_dim=64, expansion=8)
memory.store(keys, values)
print(memory)
print(f"largest error of a recalled value: {np.abs(memory.recall(keys) - values).max():.1e}")

# Noisy keys, at cosine 0.95 to the stored ones: most signs are still right.
noisy = 0.95 * keys + np.sqrt(1 - 0.95**2) * rng.standard_normal(keys.shape)
wrong = np.mean(np.sign(memory.recall(noisy)) != values)
print(f"wrong signs from noisy keys:      {wrong:.2%}")

# Storing one pair at a time gives the same memory.
online = AssociativeMemory(key_dim=256, value_dim=64, expansion=8)
for key, value in zip(keys, values, strict=True):
    online.store(key, value)
difference = np.abs(online.recall(noisy) - memory.recall(noisy)).max()
print(f"one by one against all at once:   {difference:.1e}")
assert difference < 1e-6

# Forgetting is exact: the memory is as if the pairs had never been stored.
memory.forget(keys[900:], values[900:])
fewer = AssociativeMemory(key_dim=256, value_dim=64, expansion=8)
fewer.store(keys[:900], values[:900])
difference = np.abs(memory.recall(noisy) - fewer.recall(noisy)).max()
print(f"forgotten against never stored:   {difference:.1e}")
assert difference < 1e-6

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "memory.safetensors"
    memory.save(path)
    loaded = AssociativeMemory.load(path)
    assert np.array_equal(loaded.recall(keys), memory.recall(keys))
    print(f"saved and loaded, {path.stat().st_size / 1e6:.1f} MB, with identical recalls")
