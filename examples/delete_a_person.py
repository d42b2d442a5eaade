"""Delete one person's data exactly: afterwards the memory is as if the person had never been in it.

One memory holds the handwritten digits of thirty people (simulated: each has a style of their own). One of them asks
to be deleted. The weights are then compared with those of a memory that never saw the person. Deleting pairs that were
never stored is refused.
"""

import numpy as np
from sklearn.datasets import load_digits

from assocmem import AssociativeMemory, Ridge

rng = np.random.default_rng(0)
images, labels = load_digits(return_X_y=True)
person = rng.integers(0, 30, len(images))
style = rng.standard_normal((30, 64))
keys, values = images / 16 + 0.3 * style[person], np.eye(10)[labels]


def new_memory() -> AssociativeMemory:
    """An empty memory for 8 x 8 images and ten classes."""
    return AssociativeMemory(64, 10, expansion=8, rule=Ridge(alpha=1.0), bias=1.0)


memory = new_memory()
memory.store(keys, values)
leaving = person == 7
print(f"{memory.n_stored} images stored, {leaving.sum()} of them by person 7, who asks to be deleted")

memory.forget(keys[leaving], values[leaving])
never = new_memory()
never.store(keys[~leaving], values[~leaving])
difference = np.abs(memory.weights - never.weights).max() / np.abs(never.weights).max()
print(f"relative difference from a memory that never saw person 7: {difference:.1e}")
assert memory.n_stored == never.n_stored
assert difference < 1e-8

# With more dimensions than pairs, the memory can tell that a pair was never stored.
stranger = AssociativeMemory(64, 10, expansion=64)
stranger.store(keys[~leaving], values[~leaving])
try:
    stranger.forget(keys[leaving], values[leaving])
except ValueError as refusal:
    print(f"deleting them from a memory that never held them: {refusal}")
