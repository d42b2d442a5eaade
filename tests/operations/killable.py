"""The process that test_checkpoints kills. Importing this loads its kernels, so that forks of who has begin at once."""

import numpy as np

from assocmem import AssociativeMemory


def new_memory():
    return AssociativeMemory(6, 2, expansion=2, rule="rls")


def run(folder, started):
    """A long stream with many checkpoints; tells how far the first block got it, then when all is done."""
    waiting = [started]

    def tell(n_done):
        if waiting:
            waiting.pop().send(n_done)

    memory = new_memory()
    memory.store_from((folder / "keys.npy", folder / "values.npy"), every=10, checkpoint=folder / "run", progress=tell)
    memory.save(folder / "memory")


new_memory().store_from((np.random.default_rng(0).standard_normal((60, 6)), np.ones((60, 2))), every=10)
