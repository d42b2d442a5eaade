"""SipHash-2-4 with 128 bits: a keyed hash of short messages, many at a time.

Aumasson and Bernstein (2012), "SipHash: a fast short-input PRF"; 128 bits as in the authors' reference code.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from assocmem.core.jit import kernel

Words: TypeAlias = NDArray[np.uint64]

# Numba makes a float of an unsigned and a signed integer: every constant is unsigned.
_U = np.uint64
_C0, _C1, _C2, _C3 = _U(0x736F6D6570736575), _U(0x646F72616E646F6D), _U(0x6C7967656E657261), _U(0x7465646279746573)
_BYTE, _LEFT_BYTE, _BITS = _U(0xFF), _U(56), _U(64)
_EE, _DD = _U(0xEE), _U(0xDD)
_R13, _R16, _R17, _R21, _R32 = _U(13), _U(16), _U(17), _U(21), _U(32)


@kernel
def _rotated(word: np.uint64, bits: np.uint64) -> np.uint64:
    rotated: np.uint64 = (word << bits) | (word >> (_BITS - bits))
    return rotated


@kernel
def _round(v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64) -> tuple[np.uint64, ...]:
    v0 += v1
    v2 += v3
    v1 = _rotated(v1, _R13) ^ v0
    v3 = _rotated(v3, _R16) ^ v2
    v0 = _rotated(v0, _R32)
    v2 += v1
    v0 += v3
    v1 = _rotated(v1, _R17) ^ v2
    v3 = _rotated(v3, _R21) ^ v0
    return v0, v1, _rotated(v2, _R32), v3


@kernel
def _hash_rows(messages: Words, n_bytes: NDArray[np.int64], key: Words, hashes: Words) -> None:
    for n in range(len(messages)):
        v0, v1, v2, v3 = key[0] ^ _C0, key[1] ^ _C1 ^ _EE, key[0] ^ _C2, key[1] ^ _C3
        whole = n_bytes[n] // 8
        rest = n_bytes[n] - 8 * whole
        for i in range(whole + 1):
            if i < whole:
                word = messages[n, i]
            else:  # the length, and what is left of the message
                word = (np.uint64(n_bytes[n]) & _BYTE) << _LEFT_BYTE
                for b in range(rest):
                    word |= messages[n, i] & (_BYTE << np.uint64(8 * b))
            v3 ^= word
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
            v0 ^= word
        v2 ^= _EE
        for _ in range(4):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        hashes[n, 0] = v0 ^ v1 ^ v2 ^ v3
        v1 ^= _DD
        for _ in range(4):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        hashes[n, 1] = v0 ^ v1 ^ v2 ^ v3


def siphash(messages: Words, n_bytes: NDArray[np.int64], key: Words) -> Words:
    """Hash every row.

    Parameters
    ----------
    messages : (N, W) uint64
        Messages as words, the first byte of a message being the lowest of its first word.
    n_bytes : (N,) int64
        Their lengths, at most 8 W.
    key : (2,) uint64
        The secret.

    Returns
    -------
    (N, 2) uint64
    """
    if len(n_bytes) != len(messages) or n_bytes.max(initial=0) > 8 * messages.shape[1] or n_bytes.min(initial=0) < 0:
        raise ValueError(f"n_bytes must be {len(messages)} lengths from 0 to {8 * messages.shape[1]}")
    hashes = np.empty((len(messages), 2), np.uint64)
    with np.errstate(over="ignore"):  # sums are modulo 2^64; without the compiler NumPy would warn of it
        _hash_rows(np.ascontiguousarray(messages), n_bytes, key, hashes)
    return hashes
