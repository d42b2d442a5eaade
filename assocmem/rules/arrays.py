"""Groups of arrays that are saved, copied and counted field by field; sizes, and the report of a solution."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Layout: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
Group = TypeVar("Group", bound="Arrays")

# Rows whose products BLAS sums in registers before it adds them to a matrix, and so rounds it once.
ROWS_ROUNDED_ONCE = 256

NEVER_STORED = (
    "a pair to forget was never stored: no set of pairs could have the sums that would remain; pass keys and values "
    "exactly as they were stored; nothing was changed"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a memory, as its rule needs them.

    Parameters
    ----------
    key_dim : int
        Length of a key, counting a bias.
    expansion : int
        Random orthogonal blocks.
    whiten : bool
        Whether the features are whitened, as the laws assume.
    value_dim : int
        Length of a value.
    dtype : numpy.dtype
        Of features and values.
    """

    key_dim: int
    expansion: int
    whiten: bool
    value_dim: int
    dtype: np.dtype[Any]

    @property
    def rank(self) -> int:
        """Dimension D of the folded features."""
        return self.key_dim + self.expansion * (1 << (self.key_dim - 1).bit_length())


@dataclass
class Arrays:
    """A group of arrays, numbers and further groups that is saved, copied and counted field by field."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, numbers as arrays without axes; tables without rows are left out."""
        found: dict[str, NDArray[Any]] = {}
        for name, value in self._entries():
            if isinstance(value, Arrays):
                found.update(value.arrays())
            elif np.ndim(value) == 0 or len(value):
                found[name] = np.asarray(value, np.int64 if type(value) is int else None)
        return found

    def layout(self, arrays: Mapping[str, NDArray[Any]]) -> Layout:
        """Shape and dtype of every array that `fill` takes; tables without rows may have any number in a file."""
        expected: Layout = {}
        for name, value in self._entries():
            if isinstance(value, Arrays):
                expected.update(value.layout(arrays))
            elif np.ndim(value) == 0 or len(value):
                expected[name] = (
                    np.shape(value),
                    np.dtype(np.int64) if type(value) is int else np.asarray(value).dtype,
                )
            elif name in arrays:
                n_rows = len(arrays[name]) if np.ndim(arrays[name]) else 0
                expected[name] = ((n_rows, *value.shape[1:]), value.dtype)
        return expected

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the arrays of a file, of the names, shapes and dtypes that `layout` gives."""
        for name, value in self._entries():
            if isinstance(value, Arrays):
                value.fill(arrays)
            elif name in arrays:
                given = arrays[name]
                if np.ndim(value) == 0:
                    setattr(self, name, type(value)(given))
                else:
                    setattr(self, name, given if type(given) is np.ndarray and given.flags.carray else owned(given))

    def copy(self: Group) -> Group:
        """A copy that shares no array."""
        copies = {
            name: value.copy() if isinstance(value, Arrays) else owned(value)
            for name, value in self._entries()
            if isinstance(value, (Arrays, np.ndarray))
        }
        return dataclasses.replace(self, **copies)

    def __sizeof__(self) -> int:
        """Bytes with those of the arrays, by which dask decides where to compute."""
        return object.__sizeof__(self) + sum(array.nbytes for array in self.arrays().values())

    def _entries(self) -> list[tuple[str, Any]]:
        values = ((entry.name, getattr(self, entry.name)) for entry in dataclasses.fields(self))
        return [(name, value) for name, value in values if isinstance(value, (np.ndarray, int, float, Arrays))]


def owned(array: NDArray[Any]) -> NDArray[Any]:
    """Copy into a plain array of its own memory, contiguous, aligned and writeable, from whatever buffer or file map.

    `array.copy()` of a memory-mapped array is another type of array, for which every kernel is compiled anew.
    """
    return np.array(array, order="C", copy=True, subok=False)


@dataclass(frozen=True)
class Solution:
    """How the weights in use were found.

    Parameters
    ----------
    solver : str
        "Cholesky", "iterated Tikhonov", "updated inverse", "eigenvectors", or "none" for rules that solve nothing.
    alpha : float, (v,) or None
        The penalty, or one for every output; None for a rule without one.
    shift : float
        What was added to the diagonal beyond the penalty, and taken back by iteration.
    passes : int
        Iterations that took it back.
    condition : float
        Estimate of the condition number, in the 1-norm, of the matrix that was factorised; NaN where none was.
    unexplained : float
        Largest share of a column of Q = Σ ψvᵀ that the weights leave over, although the penalty does not explain it:
        above 0 where keys are too near, or too different in length, to be told apart.
    """

    solver: str = "none"
    alpha: float | None = None
    shift: float = 0.0
    passes: int = 0
    condition: float = math.nan
    unexplained: float = 0.0


def effective_number(n: int, factor: float) -> float:
    """Effective number (Σ w)² / Σ w² of n pairs of weight factor^age.

    The sums are geometric: (1 + f)(1 − fⁿ) / ((1 − f)(1 + fⁿ)), which is tanh(n h) / tanh(h) with h = −ln(f)/2. As
    many pairs of weight 1 leave the same variance in what is estimated from them (Kish 1965, "Survey Sampling").
    """
    half = -0.5 * math.log(factor)
    return math.tanh(n * half) / math.tanh(half) if half > 0.0 else float(n)
