"""Fast random orthogonal projection: sign flips and Walsh-Hadamard transforms instead of a stored matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem.core import checks
from assocmem.core.fixed import Fixed
from assocmem.core.jit import kernel
from assocmem.core.limits import refuse_if_too_large
from assocmem.core.threads import run_in_row_blocks

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
N_ROUNDS = 3  # one round is not enough for sparse keys (Yu et al. 2016, "Orthogonal Random Features")

# Splitting a batch over threads pays once a block carries this many transformed numbers (about 50 microseconds).
MIN_BLOCK_SIZE = 32_768


@kernel
def butterfly_pass_2(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Sums and differences of the two halves, interleaved: one address bit done, all bits rotated by one."""
    half = source.shape[0] // 2
    low, high = source[:half], source[half:]
    for i in range(half):
        target[2 * i] = low[i] + high[i]
        target[2 * i + 1] = low[i] - high[i]


@kernel
def butterfly_pass_4(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Two `butterfly_pass_2` in one sweep over memory."""
    quarter = source.shape[0] // 4
    first, second = source[:quarter], source[quarter : 2 * quarter]
    third, fourth = source[2 * quarter : 3 * quarter], source[3 * quarter :]
    for i in range(quarter):
        a, b, c, d = first[i], second[i], third[i], fourth[i]
        a_plus_b, a_minus_b, c_plus_d, c_minus_d = a + b, a - b, c + d, c - d
        target[4 * i] = a_plus_b + c_plus_d
        target[4 * i + 1] = a_minus_b + c_minus_d
        target[4 * i + 2] = a_plus_b - c_plus_d
        target[4 * i + 3] = a_minus_b - c_minus_d


@kernel
def signed_pass_4(source: NDArray[Any], signs: NDArray[np.int8], scale: float, target: NDArray[Any]) -> None:
    """`butterfly_pass_4` of ``scale * signs * source``."""
    quarter = source.shape[0] // 4
    first, second = source[:quarter], source[quarter : 2 * quarter]
    third, fourth = source[2 * quarter : 3 * quarter], source[3 * quarter :]
    s, t = signs[:quarter], signs[quarter : 2 * quarter]
    u, v = signs[2 * quarter : 3 * quarter], signs[3 * quarter :]
    for i in range(quarter):
        a, b = first[i] * (scale * s[i]), second[i] * (scale * t[i])
        c, d = third[i] * (scale * u[i]), fourth[i] * (scale * v[i])
        a_plus_b, a_minus_b, c_plus_d, c_minus_d = a + b, a - b, c + d, c - d
        target[4 * i] = a_plus_b + c_plus_d
        target[4 * i + 1] = a_minus_b + c_minus_d
        target[4 * i + 2] = a_plus_b - c_plus_d
        target[4 * i + 3] = a_minus_b - c_minus_d


@kernel
def signed_transform(
    source: NDArray[Any], signs: NDArray[np.int8], x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Orthonormal H S of source (p,), written to x or y; returns the one that holds it, then the other.

    `source` may be y. Constant geometry (Pease 1968): every pass reads p/4 apart and writes neighbours, so every
    inner loop is long and vectorises, also where butterflies are closer together than a vector register is wide.
    After log2(p) address bits the order is the natural one again. With the batch as the contiguous axis the
    butterflies alone are faster, but the two transpositions which that layout needs cost more than they save; and
    this layout is the same code for one key.
    """
    p = source.shape[0]
    scale = x.dtype.type(1.0 / np.sqrt(p))
    if p >= 4:
        signed_pass_4(source, signs, scale, x)
        done = 4
    else:
        for i in range(p):
            x[i] = source[i] * (scale * signs[i])
        done = 1
    while done * 4 <= p:
        butterfly_pass_4(x, y)
        x, y = y, x
        done *= 4
    if done < p:
        butterfly_pass_2(x, y)
        x, y = y, x
    return x, y


@kernel
def project_block(
    key: NDArray[Any], signs: NDArray[np.int8], x: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """One orthogonal block (H S3)(H S2)(H S1) of a padded key (p,); signs (3, p); returns the result and scratch."""
    x, y = signed_transform(key, signs[0], x, y)
    for r in range(1, signs.shape[0]):
        y, x = signed_transform(x, signs[r], y, x)
        x, y = y, x
    return x, y


@kernel
def copy_into(target: NDArray[Any], source: NDArray[Any]) -> None:
    """Fill the beginning of target with source; a compiled slice assignment is several times slower."""
    for i in range(source.shape[0]):
        target[i] = source[i]


@kernel
def _project_rows(start: int, stop: int, keys: NDArray[Any], signs: NDArray[np.int8], projected: NDArray[Any]) -> None:
    p = signs.shape[2]
    padded = np.zeros(p, keys.dtype)
    x, y = np.empty(p, keys.dtype), np.empty(p, keys.dtype)
    for n in range(start, stop):
        copy_into(padded, keys[n])
        for block in range(signs.shape[0]):
            x, y = project_block(padded, signs[block], x, y)
            copy_into(projected[n, block * p : (block + 1) * p], x)


def random_signs(n_blocks: int, n: int, seed: int) -> NDArray[np.int8]:
    """Draw the signs of `n_blocks` blocks, (n_blocks, 3, n), each -1 or +1.

    Raw words of PCG64 are the one part of NumPy's random numbers whose stream is promised never to change, so the
    same seed gives the same bits on every machine and in every version. Blocks are drawn one after the other: a
    projection with more blocks begins with the blocks of a smaller one.
    """
    words_per_block = -(-N_ROUNDS * n // 64)
    raw = np.random.Generator(np.random.PCG64(seed)).bit_generator.random_raw(n_blocks * words_per_block)
    words = raw.astype("<u8", copy=False).view(np.uint8).reshape(n_blocks, -1)
    signs = np.ascontiguousarray(np.unpackbits(words, axis=1)[:, : N_ROUNDS * n]).view(np.int8)
    signs *= -2  # in place: of a large projection there is no room for a second copy
    signs += 1
    return signs.reshape(n_blocks, N_ROUNDS, n)


class HadamardProjection(Fixed):
    """Random orthogonal projection of keys to k·p coordinates, z = P x with PᵀP = k·I exactly.

    Keys are padded with zeros to p, the next power of two. Each of the k blocks of P is (H S₃)(H S₂)(H S₁), where H
    is the orthonormal Walsh-Hadamard transform and S a diagonal of random signs. Only the sign bits are stored, and
    a key costs about 3·k·p·log₂(p) additions.

    Parameters
    ----------
    key_dim : int
        Length d of a key.
    expansion : int
        Number k of orthogonal blocks.
    seed : int
        Seed of the signs; equal seeds give equal bits on every machine.

    References
    ----------
    Yu, Suresh, Choromanski, Holtmann-Rice and Kumar (2016), "Orthogonal Random Features", NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> projection = HadamardProjection(key_dim=3, expansion=2, seed=0)
    >>> projection.n_units
    8
    >>> z = projection.project(np.array([3.0, 0.0, 4.0]))
    >>> float(np.round(z @ z, 12))  # two blocks, each preserves the squared length 25
    50.0
    """

    def __init__(self, key_dim: int, expansion: int = 1, seed: int = 0) -> None:
        self.key_dim = checks.as_size("key_dim", key_dim)
        self.expansion = checks.as_size("expansion", expansion)
        self.seed = checks.as_size("seed", seed, smallest=0)
        self.padded_dim = 1 << (self.key_dim - 1).bit_length()
        self.n_units = self.expansion * self.padded_dim
        refuse_if_too_large(
            f"a projection with key_dim={self.key_dim} and expansion={self.expansion}",
            self.n_units * N_ROUNDS * 9 // 8,  # a byte for every sign, and the bits from which they are drawn
            lambda: "Choose a smaller expansion, or reduce the keys to fewer coordinates first.",
        )
        self.signs = random_signs(self.expansion, self.padded_dim, self.seed)
        self.signs.setflags(write=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the seed instead of the signs: small, and the signs come back read-only, as kernels are compiled."""
        return type(self), (self.key_dim, self.expansion, self.seed)

    def __repr__(self) -> str:
        return f"HadamardProjection(key_dim={self.key_dim}, expansion={self.expansion}, seed={self.seed})"

    def project(self, keys: ArrayLike) -> NDArray[Any]:
        """Project keys.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Real keys; float32 stays float32, anything else becomes float64.

        Returns
        -------
        (N, n_units) or (n_units,)
        """
        table, single = checks.as_table("keys", keys, self.key_dim)
        rows = checks.to_dtype(table, _FLOAT32 if table.dtype.char == "f" else _FLOAT64)
        projected = self.project_rows(rows)
        # A coordinate adds up the whole key, so one of them tells whether the key was finite.
        if not (math.isfinite(projected[0, 0]) if single else np.isfinite(projected[:, 0]).all()):
            checks.refuse_nonfinite("keys", rows)
            checks.refuse_bad_keys(rows, bias=1.0)  # finite, but so long that sums overflow
        return projected[0] if single else projected

    def project_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Project contiguous float32 or float64 rows (N, key_dim) -> (N, n_units), without a look at the numbers."""
        checks.refuse_unchecked("rows", rows, self.key_dim)
        projected = np.empty((len(rows), self.n_units), rows.dtype)
        if len(rows) == 1:  # a tenth of the time of one short key would go into finding that there is one block
            _project_rows(0, 1, rows, self.signs, projected)
            return projected
        run_in_row_blocks(_project_rows, len(rows), MIN_BLOCK_SIZE // self.n_units, rows, self.signs, projected)
        return projected

    def project_back(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Apply Pᵀ to contiguous float32 or float64 rows (N, n_units) -> (N, key_dim)."""
        checks.refuse_unchecked("rows", rows, self.n_units)
        p = self.padded_dim
        total = np.zeros((len(rows), p), rows.dtype)
        for block, (s1, s2, s3) in enumerate(self.signs):
            # Of (H S₃)(H S₂)(H S₁) the transpose is S₁ H S₂ H S₃ H: the same kernel with the signs moved on by one.
            moved = np.stack([np.ones_like(s1), s3, s2])[None]
            part = np.empty((len(rows), p), rows.dtype)
            units = np.ascontiguousarray(rows[:, block * p : (block + 1) * p])
            run_in_row_blocks(_project_rows, len(rows), max(1, MIN_BLOCK_SIZE // p), units, moved, part)
            total += part * s1
        return total[:, : self.key_dim]

    def matrix(self) -> NDArray[np.float64]:
        """The explicit matrix P, (n_units, key_dim) float64: for inspection, not for speed.

        >>> P = HadamardProjection(key_dim=4, expansion=3).matrix()
        >>> bool(np.allclose(P.T @ P, 3 * np.eye(4)))
        True
        """
        return np.ascontiguousarray(self.project_rows(np.eye(self.key_dim)).T)
