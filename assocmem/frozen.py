"""`FrozenMemory`: a read-only memory with the literal weights of its units, made for serving."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem.cell import CHUNK_BYTES
from assocmem.core import checks, files
from assocmem.core.fixed import Fixed
from assocmem.core.jit import JIT_DISABLED
from assocmem.core.threads import n_threads, share_out
from assocmem.core.underflow import underflow_is_zero
from assocmem.features.crelu import CReLUFeatures
from assocmem.features.readout import add_parts, project_key, recall_gated, take_gated_shares

KIND = "frozen memory"
PRECISIONS = ("float32", "float64", "int8")

# Shares of the units that threads take, and that have a scale of their own if the weights are 8-bit: fewer share the
# work less evenly and round more coarsely, more spend more on adding the parts up.
N_BLOCKS = 16
SMALLEST_BLOCK = 16

_CACHE_LINE = 64  # bytes

SMALLEST_WEIGHT = 1e-30  # the largest weight of an output, below which float32 has no digits left for the others

# Bytes of weights from which a recall gains from a second thread, which takes some fifty microseconds to wake. On
# processors that other programs keep busy, sharing took 1.2 times as long as one thread with half of them, and at most
# 1.1 times with these, of all precisions.
SHARED_BYTES = 2**25
MOST_SHARING = 8  # threads: the memory, which limits such a recall, has no more to give to others

# Keys from which one matrix product with the folded weights is faster than one gated recall after the other, measured
# by `python -m benchmarks crossovers`. 8-bit weights have to be folded anew for every batch, which takes the time of
# many keys. A kernel that reads both rows of a unit once for several keys was slower than the better of the two at
# every number of keys: it needs both rows, so it reads twice what one key does, and as much as the folded weights.
CROSSOVER = {"float32": 8, "float64": 8, "int8": 1024}


@underflow_is_zero
class FrozenMemory(Fixed):
    """A memory that can only recall: the literal CReLU weights W₊, W₋, as ``AssociativeMemory.freeze`` returns them.

    y = Σ |zᵢ| (W₊[i] if zᵢ ≥ 0 else W₋[i]) + ‖x‖ offset: of the two rows of a unit one is read, so that a recall of
    one key, which memory bandwidth limits, takes about half the time of the best dense product where the weights are
    larger than the caches. Any number of threads may recall at the same time; the interpreter lock is released.

    Parameters
    ----------
    features : CReLUFeatures
        Of the memory that was frozen; their dtype is that of keys and values.
    weights : (n_units, 2, value_dim)
        W₊ and W₋ of every unit side by side, of the features' dtype or int8.
    scale : (n_blocks, value_dim)
        What the 8-bit weights of each block of units are multiplied with; no rows for other weights.
    offset : (value_dim,)
        What multiplies the norm of a key.

    Examples
    --------
    >>> from assocmem import AssociativeMemory
    >>> rng = np.random.default_rng(0)
    >>> keys, values = rng.standard_normal((100, 32)), rng.standard_normal((100, 8))
    >>> memory = AssociativeMemory(key_dim=32, value_dim=8)
    >>> memory.store(keys, values)
    >>> frozen = memory.freeze("float32")
    >>> bool(np.allclose(frozen.recall(keys), values, atol=1e-4))
    True
    >>> frozen.method(1), frozen.method(1000)
    ('gated', 'folded')
    """

    def __init__(
        self, features: CReLUFeatures, weights: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any]
    ) -> None:
        self.features = features
        self.weights, self.scale, self.offset = weights, scale, offset
        _refuse_other_arrays(self)
        self._loss: float | None = None
        self._folded: tuple[NDArray[Any], NDArray[Any] | None] | None = None
        self._workspaces: list[tuple[Any, ...]] = []

    def __getstate__(self) -> dict[str, Any]:
        """Everything but arrays that are only for working in, or that are made of others."""
        return {**vars(self), "_workspaces": [], "_folded": None}

    def __setstate__(self, entries: dict[str, Any]) -> None:
        vars(self).update(entries)
        for name in ("weights", "scale", "offset"):  # arrays of its own, whatever buffers they came in
            given = entries[name]
            vars(self)[name] = array = aligned_empty(given.shape, given.dtype)
            array[...] = given

    @property
    def loss(self) -> float | None:
        """Relative error of the recalls of a sample, if `freeze` was given one; not saved."""
        return self._loss

    @property
    def key_dim(self) -> int:
        """Length of a key."""
        return self.features.key_dim

    @property
    def value_dim(self) -> int:
        """Length of a value."""
        return int(self.weights.shape[2])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of keys and values."""
        return self.features.dtype

    @property
    def precision(self) -> str:
        """Type of the weights: "float32", "float64" or "int8"."""
        return str(self.weights.dtype.name)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights: what a saved file holds."""
        return self.weights.nbytes + self.scale.nbytes + self.offset.nbytes

    @property
    def n_threads(self) -> int:
        """Threads that would share the gated recall of one key now: one, unless the memory is large."""
        large = self.weights.nbytes >= SHARED_BYTES
        return min(n_threads(), MOST_SHARING) if large and not JIT_DISABLED else 1

    def __repr__(self) -> str:
        return (
            f"FrozenMemory(key_dim={self.key_dim}, value_dim={self.value_dim}, expansion={self.features.expansion}, "
            f"precision={self.precision!r})"
        )

    # -------------------------------------------------------------------------------------------------- recall

    def method(self, n_keys: int) -> str:
        """How `recall` works on so many keys at a time.

        Parameters
        ----------
        n_keys : int
            Number of keys.

        Returns
        -------
        "gated" (key after key, one row of two) or "folded" (a matrix product)

        Raises
        ------
        TypeError, ValueError
            If it is not an integer of at least 0.
        """
        return "gated" if checks.as_size("n_keys", n_keys, 0) < CROSSOVER[self.precision] else "folded"

    def recall(self, keys: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Recall the values of keys, stored or not.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Real keys, converted to the memory's dtype.
        out : (N, value_dim) array, optional
            Where to write the values, for example a `numpy.memmap`.

        Returns
        -------
        (N, value_dim) or (value_dim,), of the memory's dtype, or `out`

        Raises
        ------
        TypeError, ValueError
            If the keys are unusable, as in `AssociativeMemory.store`, or `out` has another shape.
        """
        rows, single = checks.as_rows("keys", keys, self.key_dim, self.dtype)
        if out is not None:
            checks.refuse_bad_out(out, (len(rows), self.value_dim), rows)
            self.features.refuse_bad_keys(rows)  # all of them, before the first value is written
        values = np.empty((len(rows), self.value_dim), self.dtype) if out is None else out
        if self.method(len(rows)) == "gated":
            self._recall_gated(rows, values)
        else:
            with np.errstate(under="ignore"):
                self._recall_folded(rows, values)
        return values[0] if single and out is None else values

    def _recall_gated(self, rows: NDArray[Any], values: NDArray[Any]) -> None:
        recall_one: Callable[..., float] = recall_gated
        if (n_sharing := self.n_threads) > 1:
            recall_one = functools.partial(_recall_shared, n_sharing)
        workspace = self._take_workspace()
        low, high = checks.NORM_RANGE[self.dtype.name]
        exact = values if values.dtype == self.dtype else np.empty(values.shape, self.dtype)
        center = self.features.center
        centred = rows if center is None else rows - center
        for row, value in zip(centred, exact, strict=True):
            norm = recall_one(row, *workspace, value)
            if not low <= norm <= high:  # also where it is NaN
                self.features.refuse_bad_keys(rows)
        if exact is not values:
            values[...] = exact
        self._workspaces.append(workspace)

    def _take_workspace(self) -> tuple[Any, ...]:
        """Everything that `recall_gated` needs beside key and value: one for each recall at a time, used again."""
        try:
            return self._workspaces.pop()
        except IndexError:
            signs = self.features.projection.signs
            scratch = np.empty((3, signs.shape[2]), self.dtype)
            projected = np.empty(self.features.n_units, self.dtype)
            parts = aligned_empty((n_blocks(self.features.n_units), self.value_dim), self.dtype)
            return self.features.bias, signs, self.weights, self.scale, self.offset, scratch, projected, parts

    def _recall_folded(self, rows: NDArray[Any], values: NDArray[Any]) -> None:
        self.features.refuse_bad_keys(rows)
        folded_weights, correction = self._folded_weights()
        # Few chunks: threads of BLAS that still look for work after a product slow the folding of the next.
        chunk_rows = max(1, 4 * CHUNK_BYTES // (self.features.rank * self.dtype.itemsize))
        buffer = np.empty((min(chunk_rows, len(rows)), self.features.rank), self.dtype)
        for start in range(0, len(rows), chunk_rows):
            chunk = rows[start : start + chunk_rows]
            features = self.features.fold_rows(chunk, buffer[: len(chunk)])
            recalled = values[start : start + len(chunk)]
            np.matmul(features, folded_weights, out=recalled, casting="same_kind")
            if correction is not None:
                recalled += self.features.norms(chunk)[:, None] * correction

    def _folded_weights(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Folded weights (rank, value_dim), and what their offset lacks, (value_dim,), if anything.

        They are kept, unless they would be several times larger than the 8-bit weights.
        """
        if self._folded is not None:
            return self._folded
        # Without a lock, which a forked child could find closed for good: a second thread folds once more.
        positive, negative = dequantised(self.weights, self.scale)
        weights, implied = self.features.refold(positive, negative)
        lacking = self.offset - implied
        tolerance = np.finfo(self.dtype).eps * len(weights) * float(np.abs(implied).max(initial=0.0))
        folded = weights, lacking if np.abs(lacking).max(initial=0.0) > tolerance else None
        if self.precision != "int8":
            self._folded = folded
        return folded

    # -------------------------------------------------------------------------------------------- save, load

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a safetensors file; it appears whole or not at all.

        Parameters
        ----------
        path : path of the file
            A file that is there is replaced once the new one is complete: memories that are mapped from the old one
            go on as they were. Links are followed, and the owner and permissions of the old file are kept.

        Raises
        ------
        OSError
            If the directory does not exist, cannot be written or is full, or the path names a device or a pipe.
        """
        arrays = {"weights": self.weights, "scale": self.scale, "offset": self.offset}
        files.save(path, KIND, {**self._configuration(), "fingerprint": self._fingerprint()}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], mapped: bool = True) -> FrozenMemory:
        """Open a saved memory in milliseconds, whatever its size: its weights are mapped, and read when needed.

        Parameters
        ----------
        path : path of the file
            What `save` was given.
        mapped : bool
            False reads all weights now. It takes longer, and the file does not matter afterwards: for files that
            others change or truncate in place (which `save` never does; it replaces them), where a mapped memory
            recalls other values or its process ends by SIGBUS, and for network drives, which may go away.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a frozen memory, truncated, of another version, or its arrays do not match its header. The
            weights themselves are looked at only if they are not mapped: then NaN and infinity are refused.
        TypeError
            If `mapped` is not True or False.

        Examples
        --------
        >>> import tempfile
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([1.0, 2.0], [3.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     memory.freeze("float64").save(f"{folder}/frozen.safetensors")
        ...     FrozenMemory.load(f"{folder}/frozen.safetensors").recall([1.0, 2.0]).round(9)
        array([3.])
        """
        if not isinstance(mapped, (bool, np.bool_)):
            raise TypeError(f"mapped must be True or False, got {mapped!r}")
        header, arrays = files.load_raw(path, KIND, mapped=bool(mapped))
        try:
            features = CReLUFeatures.of(header)
            layout = frozen_layout(features, checks.as_size("value_dim", header["value_dim"]), header["precision"])
        except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
            files.refuse_header(path, f"{type(error).__name__}: {error}")
        (files.refuse_other_layout if mapped else files.refuse_other_arrays)(path, arrays, layout)
        memory = cls(features, arrays["weights"], arrays["scale"], arrays["offset"])
        if header.get("fingerprint") != memory._fingerprint():
            files.refuse_header(path, "its configuration and signs are not those that the memory was written with")
        return memory

    def _configuration(self) -> dict[str, Any]:
        return {**self.features.configuration(), "value_dim": self.value_dim, "precision": self.precision}

    def _fingerprint(self) -> str:
        return files.fingerprint(self._configuration(), self.features.projection.signs)


def _recall_shared(n_sharing: int, row: NDArray[Any], *workspace: Any) -> float:
    """`recall_gated`, with the blocks of units shared out to threads."""
    bias, signs, weights, scale, offset, scratch, projected, parts, value = workspace
    norm: float = project_key(row, bias, signs, scratch, projected)
    share_out(take_gated_shares, n_sharing - 1, np.zeros(1, np.int64), projected, weights, parts)
    add_parts(parts, scale, offset, norm, value)
    return norm


def frozen(features: CReLUFeatures, weights: NDArray[Any], precision: str, sample: NDArray[Any] | None) -> FrozenMemory:
    """Freeze folded weights (rank, value_dim); see `AssociativeMemory.freeze`."""
    checks.as_choice("precision", precision, PRECISIONS)
    if sample is not None and len(sample) == 0:
        raise ValueError("sample is empty; pass keys to measure the loss on, or None")
    dtype = "float64" if precision == "float64" else "float32"
    served = CReLUFeatures(**{**features.configuration(), "dtype": dtype})
    literal, offset = features.unfold(weights)
    _refuse_vanishing(literal, precision)
    exact = None if sample is None else features.fold(sample) @ weights
    narrow, scale = quantised(literal, precision)
    if precision == "int8":
        # Rounding shifts the sum of a unit's two weights, whose mean response E|z| is known: taken out here.
        rounded = np.add(*dequantised(narrow, scale)).sum(axis=0, dtype=np.float64)
        offset = offset - 0.5 * served.mean_response * (rounded - literal.sum(axis=(0, 1), dtype=np.float64))
    memory = FrozenMemory(served, narrow, scale, cast_finite("offset", offset, dtype))
    if sample is not None and exact is not None:
        unit = float(np.abs(exact).max(initial=0.0)) or 1.0  # no square leaves the number range
        difference = np.linalg.norm((memory.recall(sample) - exact) / unit)
        memory._loss = float(difference / (np.linalg.norm(exact / unit) or 1.0))
    return memory


def n_blocks(n_units: int) -> int:
    """Number of blocks of units."""
    return N_BLOCKS if n_units % N_BLOCKS == 0 and n_units >= N_BLOCKS * SMALLEST_BLOCK else 1


def frozen_layout(
    features: CReLUFeatures, value_dim: int, precision: str
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and dtype of the arrays of a frozen memory."""
    checks.as_choice("precision", precision, PRECISIONS)
    expected = "float64" if precision == "float64" else "float32"
    if features.dtype.name != expected:
        raise ValueError(f"{precision} weights need features of dtype {expected}, got {features.dtype.name}")
    blocks = n_blocks(features.n_units) if precision == "int8" else 0
    return {
        "weights": ((features.n_units, 2, value_dim), np.dtype(precision)),
        "scale": ((blocks, value_dim), features.dtype),
        "offset": ((value_dim,), features.dtype),
    }


def _refuse_other_arrays(memory: FrozenMemory) -> None:
    """Refuse arrays that the compiled loops could not read: of another shape, dtype or order."""
    arrays = {"weights": memory.weights, "scale": memory.scale, "offset": memory.offset}
    if any(not isinstance(array, np.ndarray) for array in arrays.values()) or memory.weights.ndim != 3:
        raise TypeError("weights, scale and offset must be arrays as AssociativeMemory.freeze makes, got others")
    layout = frozen_layout(memory.features, memory.value_dim, memory.precision)
    for name, (shape, dtype) in layout.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be C-contiguous with shape {shape} and dtype {dtype}, got shape {array.shape} and dtype "
                f"{array.dtype}; make frozen memories by AssociativeMemory.freeze"
            )


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array that begins on a cache line: vector loads across two lines take twice the time."""
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(n_bytes + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def cast_finite(name: str, array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Convert to a dtype in which the numbers must stay finite."""
    with np.errstate(over="ignore"):
        narrow: NDArray[Any] = array.astype(dtype)
    if not np.isfinite(narrow).all():
        raise ValueError(
            f"{name} holds numbers beyond the range of {np.dtype(dtype).name}; freeze the memory as float64, or "
            f"scale the values down"
        )
    return narrow


def _refuse_vanishing(literal: NDArray[Any], precision: str) -> None:
    """Refuse weights (2, m, v) of an output that would be 0, or lose digits, below the range of float32."""
    largest = np.abs(literal).max(axis=(0, 1), initial=0.0)
    lost = (largest > 0) & (largest < SMALLEST_WEIGHT)
    if precision != "float64" and literal.dtype == np.float64 and lost.any():
        output = int(np.argmax(lost))
        raise ValueError(
            f"the weights of output {output} are at most {largest[output]:.2g}, where float32 loses their digits; "
            f"freeze the memory as float64, or scale the values up or the keys down"
        )


def quantised(literal: NDArray[Any], precision: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Turn literal weights (2, m, v) into weights (m, 2, v) of a precision, and their scales."""
    _, m, v = literal.shape
    if precision != "int8":
        weights = aligned_empty((m, 2, v), np.dtype(precision))
        weights[...] = cast_finite("weights", literal.transpose(1, 0, 2), precision)
        return weights, np.empty((0, v), precision)
    blocks = n_blocks(m)
    by_block = literal.reshape(2, blocks, m // blocks, v)
    largest = np.abs(by_block).max(axis=(0, 2))
    scale = cast_finite("weights", largest / 127, np.float32)
    scale[scale == 0] = 1  # nothing there, or nothing that float32 knows
    weights = aligned_empty((m, 2, v), np.dtype(np.int8))
    by_block_out = weights.reshape(blocks, m // blocks, 2, v)
    for b in range(blocks):
        by_block_out[b] = np.rint(by_block[:, b] / scale[b]).clip(-127, 127).transpose(1, 0, 2)
    return weights, scale


def dequantised(weights: NDArray[Any], scale: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """W₊ and W₋ (m, v) as the numbers that weights (m, 2, v) stand for."""
    if not len(scale):
        return weights[:, 0], weights[:, 1]
    by_block = weights.reshape(len(scale), -1, 2, weights.shape[2])
    numbers = (by_block * scale[:, None, None, :]).reshape(weights.shape)
    return numbers[:, 0], numbers[:, 1]
