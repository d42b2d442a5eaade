"""Store vectors under vectors, recall them, also from noisy keys, save and load: the whole interface in one page."""

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
print(f"largest error of a stored value: {np.abs(memory.recall(keys) - values).max():.1e}")

# Noise in the keys: with cosine 0.95 to the stored key, most signs are still right.
noisy = 0.95 * keys + np.sqrt(1 - 0.95**2) * rng.standard_normal(keys.shape)
wrong = np.mean(np.sign(memory.recall(noisy)) != values)
print(f"wrong signs from noisy keys:     {wrong:.2%}")

# One pair at a time is the same as all at once, and what was stored can be forgotten.
online = AssociativeMemory(key_dim=256, value_dim=64, expansion=8)
for key, value in zip(keys, values, strict=True):
    online.store(key, value)
difference = np.abs(online.recall(noisy) - memory.recall(noisy)).max()
print(f"one by one against all at once:  {difference:.1e}")
assert difference < 1e-6

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "memory.safetensors"
    memory.save(path)
    loaded = AssociativeMemory.load(path)
    print(f"saved {path.stat().st_size / 1e6:.1f} MB; the same recalls after loading:", end=" ")
    print(np.array_equal(loaded.recall(keys), memory.recall(keys)))
