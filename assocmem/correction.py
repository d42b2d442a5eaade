"""Correcting and deleting what was stored, and saying how exactly that was done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem import _checks
from assocmem.cleanup import Cleanup


@dataclass(frozen=True)
class Remains:
    """What a memory still says of keys, beyond what the pairs that remain imply.

    Parameters
    ----------
    copies : (N,) float64
        No more than so many copies of the key can be among what is stored: 1 / ψᵀG⁺ψ, the largest c for which
        G − c ψψᵀ is still a sum over pairs. About 0, by rounding 1e-8 or less: the key is provably gone. A key that
        is stored has 1 or more, one that near duplicates still describe lies between. Above load 1 every key lies in
        what the others span, so that nothing can be proved: the numbers say so by being large.
    residue : (N,) float64
        Length of what is recalled for the part of the key that no remaining pair shares, next to the recall of a key
        like any other: 0 in exact arithmetic, so rounding is all that it tells.
    """

    copies: NDArray[np.float64]
    residue: NDArray[np.float64]


class Correction(Cleanup):
    """The part of a memory that corrects and deletes, what was stored with noise included."""

    def forget(self, keys: ArrayLike, values: ArrayLike, *, noise: float = 0.0) -> None:
        """Forget pairs: afterwards the memory is as if they had never been stored.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Exactly what was stored.
        values : (N, value_dim) or (value_dim,)
            Exactly what was stored.
        noise : float in [0, 0.49]
            What it was stored with.

        Raises
        ------
        TypeError, ValueError
            If keys or values are unusable, as in `store`; if the rule cannot forget; if more pairs are given than
            are stored; or if it can be seen that a pair was never stored. Nothing is changed then.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.forget([2.0, 1.0], [2.0])
        >>> memory.n_stored
        1
        """
        self.rule.refuse_forget()
        share = self._checked_noise(noise)
        key_table, value_table = self._checked_pairs(keys, values)
        if share:
            self._forget_noisy(key_table, value_table, share)
            return
        with self._writing:
            if len(key_table):
                self._flush()
                self._refuse_clean(len(key_table))
                self._publish(self.rule.forget(self._state, self._feature_chunks(key_table, value_table)))

    def replace(self, keys: ArrayLike, old_values: ArrayLike, new_values: ArrayLike) -> None:
        """Replace the values of stored pairs: afterwards the memory is as if it had never seen the old ones.

        In the sums G does not change, to the last bit, and Q ← Q + Fᵀ(new − old). Pairs that were stored with noise
        are forgotten and stored again instead.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Exactly what was stored.
        old_values : (N, value_dim) or (value_dim,)
            Exactly what was stored.
        new_values : (N, value_dim) or (value_dim,)
            What is to be recalled instead.

        Raises
        ------
        TypeError, ValueError
            As in `forget`, and if the new values are unusable. Nothing is changed then.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.replace([2.0, 1.0], [2.0], [5.0])
        >>> memory.recall([2.0, 1.0]).round(9)
        array([5.])
        """
        self.rule.refuse_forget()
        key_table, old_table = self._checked_pairs(keys, old_values)
        _, new_table = self._checked_pairs(key_table, new_values)

        def blocks() -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
            start = 0
            for features, old in self._feature_chunks(key_table, old_table):
                new = _checks.to_dtype(new_table[start : start + len(old)], self.dtype)
                yield features, old, new
                start += len(old)

        with self._writing:
            if len(key_table):
                self._flush()
                self._refuse_clean(len(key_table))
                self._publish(self.rule.replace(self._state, blocks()))

    def _refuse_clean(self, n_pairs: int) -> None:
        """Refuse more pairs without noise than were stored without."""
        n_noisy = int(self._state.get("n_noisy", 0))
        n_clean = int(self._state["n_stored"]) - n_noisy
        if n_noisy and n_pairs > n_clean:
            raise ValueError(
                f"{n_pairs} pairs are given without noise, and {n_clean} were stored without, {n_noisy} with; expected "
                f"what was stored; forget these with their noise, and store them again if their values change"
            )

    def verify_forgotten(self, keys: ArrayLike) -> Remains:
        """Say what the memory still tells of keys, beyond what the pairs that remain imply.

        What is recalled for a forgotten key is what the remaining pairs imply for any key; this says whether the key
        itself can still be among them.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys that were forgotten, or any others.

        Returns
        -------
        Remains
            Its arrays have one entry for every key.

        Raises
        ------
        TypeError, ValueError
            If the keys are unusable, as in `store`, or the rule keeps no sum over keys ("hebbian", "delta").

        Examples
        --------
        >>> import numpy as np
        >>> from assocmem import AssociativeMemory
        >>> rng = np.random.default_rng(0)
        >>> keys, values = rng.standard_normal((20, 8)), rng.standard_normal((20, 1))
        >>> memory = AssociativeMemory(key_dim=8, value_dim=1)
        >>> memory.store(keys, values)
        >>> memory.forget(keys[0], values[0])
        >>> memory.verify_forgotten(keys[:2]).copies.round(6)
        array([0., 1.])
        """
        table, _ = _checks.as_table("keys", keys, self.key_dim)
        self._check_keys(table)
        copies, residue = np.empty(len(table)), np.empty(len(table))
        with self._writing, self._reading() as weights:
            size = float(np.abs(weights).max(initial=0.0)) or 1.0
            exact = weights.astype(np.float64, copy=False) / size
            typical = float(np.linalg.norm(exact)) / np.sqrt(self.rank) or 1.0
            for start in range(0, len(table), self._chunk_rows):
                rows = _checks.to_dtype(table[start : start + self._chunk_rows], self.dtype)
                features = self.features.fold_rows(rows).astype(np.float64, copy=False)
                chunk = slice(start, start + len(rows))
                copies[chunk], outside = self.rule.remains(self._state, features)
                lengths = np.linalg.norm(features, axis=1)
                residue[chunk] = np.linalg.norm(exact.T @ (outside / lengths), axis=0) / typical
        return Remains(copies, residue)

    @property
    def error_bound(self) -> float | None:
        """Bound on the relative distance of the weights from those that a memory without rounding would have.

        In the Frobenius norm and to first order: the residual of the solution and the rounding that stores and
        deletions have left in the sums, over the smallest eigenvalue that holds something. Roundings are taken as
        independent. One eigendecomposition, O(D³), for "ridge" and "rls"; None for the delta rule.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.error_bound < 1e-11
        True
        """
        with self._guard:
            return self.rule.error_bound(self._state, self._weights())

    def refresh(self) -> None:
        """Solve again from the sums, which leaves behind what rounding has gathered elsewhere.

        The rule "rls" gathers rounding in the inverse and the solution that every write updates. What
        `error_bound` says afterwards is due to the sums; only storing the pairs again in a new memory removes that.

        Raises
        ------
        ValueError
            If the sums are not positive semidefinite to rounding, and so no sums over pairs (rule "rls").

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1, rule="rls")
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.refresh()
        """
        with self._writing, self._guard:
            self._flush()
            self._change(self.rule.renew)
