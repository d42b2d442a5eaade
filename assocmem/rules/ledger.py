"""The ledger: a keyed digest of every pair that is stored, by which pairs that are not are refused at any load."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assocmem.core.jit import kernel
from assocmem.core.siphash import Words, siphash
from assocmem.rules.arrays import Arrays

DIGEST_BYTES = 16

# What an id is hashed with, so that 7, -7 and "7" differ.
_NATURAL, _NEGATIVE, _TEXT = 1, 2, 3


@dataclass
class Ledger(Arrays):
    """The digests (n_stored, 2) of the pairs that are stored, a multiset; 16 bytes a pair."""

    digests: Words

    def __post_init__(self) -> None:
        self._room = self.digests  # digests are its first rows

    def __reduce__(self) -> tuple[type[Ledger], tuple[Words]]:
        return Ledger, (self.digests,)

    @classmethod
    def empty(cls) -> Ledger:
        """The ledger of no pairs."""
        return cls(np.empty((0, 2), np.uint64))

    def __len__(self) -> int:
        return len(self.digests)

    def fill(self, arrays: Any) -> None:
        """Take the digests of a file."""
        super().fill(arrays)
        self._room = self.digests

    def reserve(self, n_pairs: int) -> None:
        """Make room for further digests: twice as much each time, so that adding one costs the same at any size."""
        if (needed := len(self) + n_pairs) > len(self._room):
            room = np.empty((max(needed, 2 * len(self)), 2), np.uint64)
            room[: len(self)] = self.digests
            self._room, self.digests = room, room[: len(self)]

    def add(self, digests: Words) -> None:
        """Add digests (N, 2)."""
        self.reserve(len(digests))
        first, last = len(self), len(self) + len(digests)
        self._room[first:last] = digests
        self.digests = self._room[:last]

    def plus(self, other: Ledger) -> Ledger:
        """The digests of both."""
        return Ledger(np.concatenate([self.digests, other.digests]))

    def without(self, digests: Words) -> Ledger:
        """The ledger without digests (N, 2), each as often as it is given, or ValueError that names the first missing.

        One pass over the ledger, through a table of the digests that are to go.
        """
        slots = np.full(1 << (2 * len(digests) | 1).bit_length(), -1, np.int64)
        counts = np.zeros((len(digests), 2), np.int64)
        keep = np.ones(len(self), np.bool_)
        missing = int(_strike(self.digests, digests, slots, counts, keep))
        if missing >= 0:
            _refuse(missing, int(counts[missing, 0]), len(self))
        return Ledger(self.digests[keep])


def _refuse(row: int, n_found: int, n_stored: int) -> None:
    if n_found:
        raise ValueError(
            f"pair {row} is stored {n_found} time(s), and is given once more; pass each stored pair at most once; "
            f"nothing was changed"
        )
    raise ValueError(
        f"pair {row} is none of the {n_stored} in the ledger: it was never stored, or is forgotten already; pass key, "
        f"value, id and query_cosine exactly as they were stored; nothing was changed"
    )


@kernel
def _slot_of(digests: Words, row: int, wanted: Words, slots: NDArray[np.int64]) -> int:
    """Slot of a digest in an open table of rows of `wanted`, or the free one where it would be."""
    slot = np.int64(digests[row, 0] & np.uint64(len(slots) - 1))  # a digest is as good as random
    while slots[slot] >= 0:
        held = slots[slot]
        if wanted[held, 0] == digests[row, 0] and wanted[held, 1] == digests[row, 1]:
            break
        slot = (slot + 1) & (len(slots) - 1)
    return int(slot)


@kernel
def _strike(
    stored: Words, wanted: Words, slots: NDArray[np.int64], counts: NDArray[np.int64], keep: NDArray[np.bool_]
) -> int:
    """Clear `keep` where a stored digest is wanted; or return the first wanted row that is not stored that often.

    Counts, for the first of equal rows, are how often a row is stored and how often it is wanted.
    """
    for row in range(len(wanted)):
        slot = _slot_of(wanted, row, wanted, slots)
        if slots[slot] < 0:
            slots[slot] = row
    for row in range(len(stored)):
        first = slots[_slot_of(stored, row, wanted, slots)]
        if first >= 0:
            counts[first, 0] += 1
    for row in range(len(wanted)):
        first = slots[_slot_of(wanted, row, wanted, slots)]
        counts[first, 1] += 1
        if counts[first, 1] > counts[first, 0]:
            counts[row, 0] = counts[first, 0]
            return row
    for row in range(len(stored)):
        first = slots[_slot_of(stored, row, wanted, slots)]
        if first >= 0 and counts[first, 1] > 0:
            counts[first, 1] -= 1
            keep[row] = False
    return -1


class Digester:
    """The keyed hash of pairs: SipHash-2-4 with 128 bits of key, value, cosine of the noise, and id.

    The key is derived from what tells one memory's features from another's, so that memories of one seed agree and
    can be merged. It keeps no secret from someone who has the file: who guesses a pair can look it up.

    Parameters
    ----------
    secret : str
        What the key is derived from.
    dtype : numpy.dtype
        Of keys and values as they are stored.
    """

    def __init__(self, secret: str, dtype: np.dtype[Any]) -> None:
        self._key = np.frombuffer(hashlib.sha256(secret.encode()).digest()[:16], "<u8").astype(np.uint64)
        self._dtype = dtype

    def digests(
        self, keys: NDArray[Any], values: NDArray[Any], query_cosine: float = 1.0, ids: Words | None = None
    ) -> Words:
        """Digests (N, 2) of pairs, of any real dtype, with ids as words (N, 2) from `words_of`."""
        n_pairs, n_numbers = len(keys), keys.shape[1] + values.shape[1]
        n_words = -(-n_numbers * self._dtype.itemsize // 8)
        messages = np.zeros((n_pairs, n_words + 3), np.uint64)
        numbers = messages[:, :n_words].view(self._dtype)
        numbers[:, : keys.shape[1]] = keys
        numbers[:, keys.shape[1] : n_numbers] = values
        numbers += 0.0  # -0.0 becomes 0.0
        messages[:, n_words] = np.float64(query_cosine).view(np.uint64)
        messages[:, n_words + 1 :] = 0 if ids is None else ids
        return siphash(messages, np.full(n_pairs, 8 * messages.shape[1]), self._key)

    def words_of(self, ids: Any, n_pairs: int) -> Words:
        """Two words for every id, or refuse ids that are not as many integers or strings as pairs."""
        known = _as_ids(ids)
        if len(known) != n_pairs:
            raise ValueError(f"{n_pairs} keys came with {len(known)} ids; expected one id for every key")
        if known.dtype.kind == "U":
            width = known.dtype.itemsize // 4
            letters = known.view(np.uint32).reshape(n_pairs, width)
            lengths = np.where(letters, np.arange(1, width + 1), 0).max(axis=1, initial=0)
            messages = np.zeros((n_pairs, 1 + (width + 1) // 2), np.uint64)
            messages[:, 1:].view(np.uint32)[:, :width] = letters
            messages[:, 0] = _TEXT
            return siphash(messages, 8 + 4 * lengths.astype(np.int64), self._key)
        tags = np.where(known < 0, _NEGATIVE, _NATURAL)
        messages = np.stack([tags.astype(np.uint64), known.astype(np.uint64)], axis=1)
        return siphash(messages, np.full(n_pairs, 16), self._key)


def _as_ids(ids: Any) -> NDArray[Any]:
    """Return integers or strings as an array (N,), or refuse."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iuU" and ids.ndim < 2:
        return np.ascontiguousarray(np.atleast_1d(ids).astype(ids.dtype.newbyteorder("=")))
    items = [ids] if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable) else list(ids)
    kind = str if items and isinstance(items[0], str) else (int, np.integer)
    for row, item in enumerate(items):
        if not isinstance(item, kind) or isinstance(item, bool):
            raise TypeError(
                f"id {row} is {item!r} ({type(item).__name__}); expected integers or strings, all of one kind"
            )
        if isinstance(item, str) and item.endswith("\0"):
            raise ValueError(f"id {row} is {item!r}; expected a string that does not end in a null character")
    if not items:
        return np.empty(0, np.int64)
    known = np.array(items)
    if known.dtype.kind not in "iuU":
        raise ValueError("ids must be integers of at most 64 bits; pass longer ones as strings")
    return known
