"""CReLU features of keys: project, expand, fold; and unfold weights to their literal form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from assocmem.core import checks
from assocmem.core.fixed import Fixed
from assocmem.core.jit import kernel, reduction
from assocmem.core.threads import run_in_row_blocks
from assocmem.features.hadamard import MIN_BLOCK_SIZE, HadamardProjection, copy_into, project_block


def crelu(x: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Concatenated rectifier [relu(x), relu(-x)] along an axis: twice as long, half of it zero, nothing lost.

    Parameters
    ----------
    x : array of any shape
        Real numbers; integers become float64.
    axis : int
        The axis that doubles.

    Returns
    -------
    array whose `axis` is twice as long

    References
    ----------
    Shang, Sohn, Almeida and Lee (2016), "Understanding and Improving Convolutional Neural Networks via Concatenated
    Rectified Linear Units", ICML.

    Examples
    --------
    >>> crelu([1.0, -2.0])
    array([1., 0., 0., 2.])
    """
    array = _as_real("entries of x", x)
    _refuse_missing_axis(array, axis)
    # Not np.maximum(x, 0): this form keeps the sign of a negative zero, so that the inverse is exact to the last bit.
    return np.concatenate([np.where(array < 0, 0, array), np.where(array < 0, -array, 0)], axis).astype(
        array.dtype, copy=False
    )


def inverse_crelu(features: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Recover x from ``crelu(x)``: relu(x) - relu(-x), exact to the last bit.

    Parameters
    ----------
    features : array whose `axis` has even length
        Features from `crelu`.
    axis : int
        The axis that was doubled.

    Returns
    -------
    array whose `axis` is half as long

    Examples
    --------
    >>> inverse_crelu(crelu([1.0, -2.0]))
    array([ 1., -2.])
    """
    array = _as_real("features", features)
    _refuse_missing_axis(array, axis)
    if array.shape[axis] % 2:
        raise ValueError(f"axis {axis} must have an even length, the two halves of crelu, got {array.shape[axis]}")
    positive, negative = np.split(array, 2, axis)
    return np.asarray(positive - negative)


def _as_real(name: str, x: ArrayLike) -> NDArray[Any]:
    array = checks.read_array(name, x)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _refuse_missing_axis(array: NDArray[Any], axis: int) -> None:
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
        raise TypeError(f"axis must be an integer, got {axis!r}")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"axis is {axis}, which an array of shape {array.shape} does not have")


def _as_center(center: ArrayLike, key_dim: int, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return a center (key_dim,) of the dtype, read-only; None for zeros, which change nothing; or refuse it."""
    given = checks.read_array("entries of center", center)
    if given.shape != (key_dim,):
        raise ValueError(
            f"center must have shape ({key_dim},), one number for every coordinate of a key, got shape {given.shape}; "
            f"pass for example the mean of a sample of keys, sample.mean(axis=0)"
        )
    exact = checks.to_dtype(given, dtype) + 0.0  # a copy, in which -0.0 is 0.0
    high = checks.NORM_RANGE[dtype.name][1]
    if not np.abs(exact).max() <= high:  # also where it is NaN
        raise ValueError(
            f"center must hold finite numbers of size at most {high:g} for {dtype.name}, got entries from "
            f"{given.min()} to {given.max()}; pass the mean of a sample of keys"
        )
    return _read_only(exact) if exact.any() else None


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


@reduction
def euclidean_norm(x: NDArray[Any]) -> float:
    """Norm in float64, so that the squares of small float32 numbers do not vanish."""
    squares = 0.0
    for i in range(x.shape[0]):
        squares += np.float64(x[i]) * np.float64(x[i])
    norm: float = np.sqrt(squares)
    return norm


@kernel
def fold_key(
    key: NDArray[Any],
    bias: float,
    signs: NDArray[np.int8],
    linear: float,
    scale: float,
    mean: float,
    folded: NDArray[Any],
    padded: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
) -> None:
    """Folded features (D,) of one centred key: [linear * key, scale * (|z| - mean * norm)], all of it in cache.

    `padded`, x and y are scratch (p,); `padded` is zero beyond the extended key.
    """
    real = folded.dtype.type
    key_dim = key.shape[0]
    copy_into(padded, key)
    d = key_dim
    if bias != 0.0:
        padded[key_dim] = bias
        d += 1
    for i in range(d):
        folded[i] = real(linear) * padded[i]
    shift = real(mean * euclidean_norm(padded[:d]))
    p = signs.shape[2]
    for block in range(signs.shape[0]):
        x, y = project_block(padded, signs[block], x, y)
        units = folded[d + block * p : d + (block + 1) * p]
        for i in range(p):
            units[i] = real(scale) * (abs(x[i]) - shift)


@kernel
def _fold_rows(
    start: int,
    stop: int,
    keys: NDArray[Any],
    bias: float,
    signs: NDArray[np.int8],
    linear: float,
    scale: float,
    mean: float,
    folded: NDArray[Any],
) -> None:
    p = signs.shape[2]
    padded, x, y = np.zeros(p, keys.dtype), np.empty(p, keys.dtype), np.empty(p, keys.dtype)
    for n in range(start, stop):
        fold_key(keys[n], bias, signs, linear, scale, mean, folded[n], padded, x, y)


class CReLUFeatures(Fixed):
    """The feature maps of a memory: random orthogonal projection, CReLU, and its folded form.

    The literal features φ(x) = crelu(P x) have 2m coordinates and rank D = d + m. The folded features have D
    coordinates and, with ``whiten=False``, the same inner products, so every learning rule finds the same memory
    with less work: ψ(x) = [√(k/2)·x, |P x|/√2]. With ``whiten=True`` the known mean and variance of |P x| are taken
    out: ψ̃(x) = [√d·x, (|P x| − √(2/π)·‖x‖/√p)·√(p/(1−2/π))], each coordinate with mean 0 and variance ‖x‖² over
    random directions of x.

    Parameters
    ----------
    key_dim : int
        Length of a key.
    expansion : int
        Number k of orthogonal blocks; m = k·p units, where p is d rounded up to a power of two.
    whiten : bool
        Whether `fold` takes out mean and variance.
    bias : float
        If not 0, every key is extended by this constant coordinate, and d = key_dim + 1.
    center : (key_dim,), optional
        Subtracted from every key before it is extended and projected: x above is then key − center.
    seed : int
        Seed of the projection.
    dtype : {"float64", "float32"}
        Type of keys and features.

    Examples
    --------
    >>> import numpy as np
    >>> features = CReLUFeatures(key_dim=4, expansion=2, whiten=False)
    >>> features.n_units, features.rank
    (8, 12)
    >>> x, y = np.array([1.0, 2.0, 0.0, -1.0]), np.array([0.0, 1.0, 1.0, 1.0])
    >>> literal = features.expand(x) @ features.expand(y)
    >>> bool(np.isclose(features.fold(x) @ features.fold(y), literal))
    True
    """

    def __init__(
        self,
        key_dim: int,
        expansion: int = 4,
        *,
        whiten: bool = True,
        bias: float = 0.0,
        center: ArrayLike | None = None,
        seed: int = 0,
        dtype: DTypeLike = "float64",
    ) -> None:
        self.key_dim = checks.as_size("key_dim", key_dim)
        self.dtype = checks.as_dtype(dtype)
        if not isinstance(whiten, (bool, np.bool_)):
            raise TypeError(f"whiten must be True or False, got {whiten!r}")
        self.whiten = bool(whiten)
        low, high = checks.NORM_RANGE[self.dtype.name]
        self.bias = checks.as_number("bias", bias, -high, high)
        if self.bias and abs(self.bias) < low:
            raise ValueError(f"bias must be 0 or at least {low:g}, got {self.bias}. Choose it like a typical key")
        self.center = None if center is None else _as_center(center, self.key_dim, self.dtype)
        self.projection = HadamardProjection(self.key_dim + bool(self.bias), expansion, seed)
        self.expansion = self.projection.expansion
        self.seed = self.projection.seed
        self.n_units = self.projection.n_units
        self.rank = self.projection.key_dim + self.n_units
        self._linear, self._scale, self._mean = self._coefficients()

    def _coefficients(self) -> tuple[float, float, float]:
        """Factors of the key and of the units in `fold`, and the mean of a unit per ‖x‖."""
        if not self.whiten:
            return float(np.sqrt(self.expansion / 2)), float(np.sqrt(0.5)), 0.0
        d, p = self.projection.key_dim, self.projection.padded_dim
        return float(np.sqrt(d)), float(np.sqrt(p / (1 - 2 / np.pi))), self.mean_response

    def __setstate__(self, entries: dict[str, Any]) -> None:
        vars(self).update(entries)
        center = entries.get("center")  # an array of its own, whatever buffer it came in
        vars(self)["center"] = None if center is None else _read_only(np.array(center))

    def __repr__(self) -> str:
        return (
            f"CReLUFeatures(key_dim={self.key_dim}, expansion={self.expansion}, whiten={self.whiten}, "
            f"bias={self.bias:g}, {self.center_label}seed={self.seed}, dtype='{self.dtype.name}')"
        )

    @property
    def center_label(self) -> str:
        """What a `repr` says of the center; empty if there is none."""
        return "" if self.center is None else f"center=<norm {math.hypot(*self.center.tolist()):.3g}>, "

    def centred(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows (N, key_dim) minus the center; the rows themselves if there is none."""
        return rows if self.center is None else rows - self.center

    def centred_rows(self, table: NDArray[Any], first_row: int = 0) -> NDArray[Any]:
        """Convert keys (N, key_dim) to centred rows of the dtype, as kernels take them, or refuse them.

        Messages count keys from `first_row`. All other methods take keys as they are given, and centre them.
        """
        rows = checks.to_dtype(table, self.dtype)
        if self.center is not None:
            rows = rows - self.center
        checks.refuse_bad_keys(rows, self.bias, first_row, centred=self.center is not None)
        return rows

    def refuse_bad_keys(self, table: NDArray[Any], first_row: int = 0) -> None:
        """Refuse keys (N, key_dim) that hold NaN or infinity, have no features, or would leave the number range."""
        self.centred_rows(table, first_row)

    def _checked(self, keys: ArrayLike) -> tuple[NDArray[Any], bool]:
        rows, single = checks.as_rows("keys", keys, self.key_dim, self.dtype)
        self.refuse_bad_keys(rows)
        return rows, single

    def _extended(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows as they are projected: without the center, with the bias."""
        centred = self.centred(rows)
        if not self.bias:
            return centred
        return np.hstack([centred, np.full((len(rows), 1), self.bias, self.dtype)])

    def project(self, keys: ArrayLike) -> NDArray[Any]:
        """Project keys: z = P x, where x is the key without the center and with the bias.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Real keys, converted to the dtype.

        Returns
        -------
        (N, n_units) or (n_units,)
        """
        rows, single = self._checked(keys)
        projected = self.projection.project_rows(self._extended(rows))
        return projected[0] if single else projected

    def expand(self, keys: ArrayLike) -> NDArray[Any]:
        """Literal CReLU features: φ(x) = [relu(P x), relu(−P x)].

        Parameters as in `project`.

        Returns
        -------
        (N, 2 * n_units) or (2 * n_units,)
        """
        return crelu(self.project(keys))

    def fold(self, keys: ArrayLike) -> NDArray[Any]:
        """Folded features ψ(x), on which the learning rules work.

        Parameters as in `project`.

        Returns
        -------
        (N, rank) or (rank,)
        """
        rows, single = self._checked(keys)
        folded = self.fold_rows(rows)
        return folded[0] if single else folded

    def fold_rows(self, rows: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Fold contiguous rows (N, key_dim) of the dtype -> (N, rank), into `out` if given, without `fold`'s checks."""
        checks.refuse_unchecked("rows", rows, self.key_dim, (self.dtype,))
        if out is not None and not (
            out.shape == (len(rows), self.rank) and out.dtype == self.dtype and out.flags.carray
        ):
            raise ValueError(
                f"out must be a contiguous, writeable {self.dtype} array of shape {(len(rows), self.rank)}, got "
                f"{out.dtype} of shape {out.shape}"
            )
        return self.fold_centred(self.centred(rows), out)

    def fold_centred(self, rows: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """`fold_rows` of rows from which the center is subtracted already."""
        folded = np.empty((len(rows), self.rank), self.dtype) if out is None else out
        arguments = (rows, *self.kernel_arguments, folded)
        run_in_row_blocks(_fold_rows, len(rows), MIN_BLOCK_SIZE // self.n_units, *arguments)
        return folded

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> CReLUFeatures:
        """Features of a configuration, which may hold more; KeyError if an entry is missing."""
        names = ("key_dim", "expansion", "whiten", "bias", "seed", "dtype")
        return cls(**{name: configuration[name] for name in names}, center=configuration.get("center"))

    def configuration(self) -> dict[str, Any]:
        """Parameters of the same features, as JSON can hold them; `center` only if there is one."""
        center = {} if self.center is None else {"center": self.center.astype(float).tolist()}
        return {
            "key_dim": self.key_dim,
            "expansion": self.expansion,
            "whiten": self.whiten,
            "bias": self.bias,
            **center,
            "seed": self.seed,
            "dtype": self.dtype.name,
        }

    @property
    def kernel_arguments(self) -> tuple[float, NDArray[np.int8], float, float, float]:
        """Arguments of `fold_key` after the centred key: bias, signs, linear, scale, mean."""
        return self.bias, self.projection.signs, self._linear, self._scale, self._mean

    def unfold(self, weights: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Turn a rule's folded weights into the literal W₊, W₋ and the offset row that multiplies ‖x‖.

        For every key, x without the center and extended by the bias if there is one, and z = P x:
        ``fold(x) @ weights == relu(z) @ W[0] + relu(-z) @ W[1] + norm(x) * offset``.

        Parameters
        ----------
        weights : (rank, value_dim)
            Folded weights, from the rule's `solve`.

        Returns
        -------
        W : (2, n_units, value_dim)
            W₊ and W₋.
        offset : (value_dim,)
            Zero unless the features are whitened.
        """
        folded = np.ascontiguousarray(_as_real("weights", weights), self.dtype)
        if folded.ndim != 2 or len(folded) != self.rank:
            raise ValueError(
                f"weights have shape {folded.shape}; expected ({self.rank}, value_dim), a rule's folded weights"
            )
        d = self.projection.key_dim
        on_key, on_units = folded[:d], folded[d:]
        # x = Pᵀz / k, so a weight on x is the weight P(...)/k on z: the odd part. A weight on |z| is the even part.
        odd = self.projection.project_rows(np.ascontiguousarray(on_key.T)).T * (self._linear / self.expansion)
        even = on_units * self._scale
        offset = -self._mean * even.sum(axis=0)
        return np.stack([even + odd, even - odd]).astype(self.dtype, copy=False), offset

    def refold(self, positive: NDArray[Any], negative: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Turn literal weights W₊ and W₋ (n_units, value_dim) into folded ones (rank, value_dim), and their offset.

        The inverse of `unfold`.
        """
        shape = positive.shape
        if len(shape) != 2 or shape[0] != self.n_units or negative.shape != shape:
            raise ValueError(
                f"literal weights must both have shape ({self.n_units}, value_dim), got {shape} and {negative.shape}"
            )
        even, odd = 0.5 * (positive + negative), 0.5 * (positive - negative)
        # unfold() multiplied P with the weights on the key; PᵀP = k I takes it back.
        on_key = self.projection.project_back(np.ascontiguousarray(odd.T)).T / self._linear
        folded = np.concatenate([on_key, even / self._scale]).astype(self.dtype, copy=False)
        return folded, -self._mean * even.sum(axis=0)

    @property
    def mean_response(self) -> float:
        """E|z| of a unit for keys of norm 1 in random directions."""
        return float(np.sqrt(2 / (np.pi * self.projection.padded_dim)))

    def norms(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Norms (N,) of contiguous rows (N, key_dim) of the dtype, without the center and with the bias."""
        checks.refuse_unchecked("rows", rows, self.key_dim, (self.dtype,))
        centred = self.centred(rows)
        norms: NDArray[Any] = np.sqrt(np.einsum("nd,nd->n", centred, centred) + rows.dtype.type(self.bias) ** 2)
        return norms
