"""What a user writes: checked by mypy, strictly, and run. A wrong type here is one that users meet."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem import AssociativeMemory, FrozenMemory, Ridge

KEYS, VALUES = np.eye(8), np.arange(16.0).reshape(8, 2)


class Named(AssociativeMemory):
    """A memory with a signature and attributes of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(8, 2, rule=Ridge(0.5))
        self.name = name

    def greeting(self) -> str:
        return f"I am {self.name}"


def named() -> Named:
    memory = Named("Ada")
    memory.store(KEYS, VALUES)
    return memory


def test_recalls_have_types() -> None:
    memory = named()
    values: NDArray[Any] = memory.recall(KEYS)
    also: NDArray[Any] = memory.recall(KEYS, return_confidence=False)
    both: tuple[NDArray[Any], NDArray[Any]] = memory.recall(KEYS, return_confidence=True)
    for flag in (False, True):
        found = memory.recall(KEYS, return_confidence=flag)
        assert isinstance(found, tuple) == flag
    assert np.array_equal(values, also)
    assert np.array_equal(values, both[0])
    out = np.empty((8, 2))
    written: NDArray[Any] = memory.recall(KEYS, out)
    assert written is out


def test_answers_have_types() -> None:
    memory = named()
    novelty = memory.leverage(KEYS)
    assert isinstance(novelty, np.ndarray)
    assert novelty.max() < 1
    one = memory.leverage(KEYS[0])
    assert float(one) == novelty[0]
    residuals: NDArray[Any] = memory.leave_one_out(KEYS, VALUES)
    assert residuals.shape == VALUES.shape
    bound: float | None = memory.error_bound
    assert bound is not None
    left: int = memory.forget(KEYS[:2], VALUES[:2]).n_left
    assert left == memory.n_stored == 6
    frozen: FrozenMemory = memory.freeze("int8")
    served: NDArray[Any] = frozen.recall(KEYS)
    assert served.shape == VALUES.shape


def test_subclasses_stay_what_they_are(tmp_path: Path) -> None:
    memory = named()
    memory.save(tmp_path / "memory")
    copies: list[Named] = [memory.copy(), copy.copy(memory), copy.deepcopy(memory), memory.merge(named())]
    pickled = pickle.loads(pickle.dumps(memory))
    for other in (*copies, pickled, memory.with_rule("ridge")):
        assert isinstance(other, Named)
        assert other.greeting() == "I am Ada"
        assert other.n_stored == (16 if other is copies[-1] else 8)
        other.store(KEYS[:1], VALUES[:1])
    assert memory.n_stored == 8
    loaded: Named = Named.load(tmp_path / "memory")  # the file knows the memory alone
    assert type(loaded) is Named
    assert np.array_equal(loaded.recall(KEYS), memory.recall(KEYS))
    assert not hasattr(loaded, "name")
