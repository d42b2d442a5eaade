"""Delete one person's data exactly: afterwards the memory is as if the person had never been in it.

Thirty people's digits (simulated: each person writes in a style of their own) are stored in one memory. One person
asks to be deleted. The result is compared with a memory that never saw the person, and a second deletion is refused.
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
    """A memory for the digits of all."""
    return AssociativeMemory(64, 10, expansion=8, rule=Ridge(alpha=1.0), bias=1.0)


memory = new_memory()
memory.store(keys, values)
leaving = person == 7
print(f"stored {memory.n_stored} images; person 7 asks for {leaving.sum()} of them to be deleted")

memory.forget(keys[leaving], values[leaving])
never = new_memory()
never.store(keys[~leaving], values[~leaving])
difference = np.abs(memory.weights - never.weights).max() / np.abs(never.weights).max()
print(f"weights against those of a memory that never saw person 7: {difference:.1e} apart")
assert memory.n_stored == never.n_stored
assert difference < 1e-8

stranger = AssociativeMemory(64, 10, expansion=64)
stranger.store(keys[~leaving], values[~leaving])
try:
    stranger.forget(keys[leaving], values[leaving])
except ValueError as refusal:
    print(f"deleting what was never stored: {refusal}")
