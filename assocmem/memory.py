"""`AssociativeMemory`: the front door."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem import _checks, storage
from assocmem._core import Progress, report
from assocmem.confidence import Confidence
from assocmem.correction import Correction
from assocmem.editing import Editing
from assocmem.frozen import Freezing
from assocmem.recall import recall_folded
from assocmem.rules import RULES
from assocmem.rules.constraints import fixed_layout
from assocmem.streaming import Streaming

if TYPE_CHECKING:
    from assocmem.diagnosis import Diagnosis

KIND = "memory"


class AssociativeMemory(Correction, Confidence, Editing, Freezing, Streaming):
    """A key-value associative memory of fixed size: store, recall and forget vectors.

    A key is projected by a random orthogonal transform, expanded by CReLU, and read out by one weight matrix.
    Storing changes the weights and keeps nothing else: the size does not depend on how much was stored. Recall of
    noisy keys degrades gracefully. Real values are exact up to `rank` pairs (rule "ridge").

    Parameters
    ----------
    key_dim : int
        Length of a key.
    value_dim : int
        Length of a value.
    expansion : int
        Random orthogonal blocks: more hold more, at proportional cost.
    rule : {"ridge", "rls", "delta", "hebbian"} or a rule object
        How storing changes the weights.
    whiten : bool
        Take the known mean and variance out of the CReLU features (recommended); False is the literal CReLU memory.
    bias : float
        If not 0, every key is extended by this constant coordinate, so that x, −x and 2x can hold unrelated values.
    seed : int
        Seed of the projection: equal seeds give equal bits.
    dtype : {"float64", "float32"}
        Type of features and weights.

    Raises
    ------
    TypeError, ValueError
        If a parameter is unusable; the message says what was expected.

    Notes
    -----
    Any number of threads may recall while one writes: a recall sees the memory before or after a write, never between.
    Writes queue.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> keys, values = rng.standard_normal((200, 64)), rng.standard_normal((200, 10))
    >>> memory = AssociativeMemory(key_dim=64, value_dim=10)
    >>> memory.store(keys, values)
    >>> bool(np.allclose(memory.recall(keys), values))
    True
    >>> memory.forget(keys[:50], values[:50])
    >>> memory
    AssociativeMemory(key_dim=64, value_dim=10, expansion=4, rule=Ridge(alpha=0.0), n_stored=150, rank=320)
    """

    # ------------------------------------------------------------------------------------------- store, recall

    def store(
        self, keys: ArrayLike, values: ArrayLike, *, noise: float = 0.0, progress: Progress | None = None
    ) -> None:
        """Store pairs.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Arrays larger than memory (`numpy.memmap`) are worked through in chunks, after a first pass that checks.
        values : (N, value_dim) or (value_dim,)
            One value for every key.
        noise : float in [0, 0.49]
            Store each value under all noisy versions of its key, so that a pattern that is its own value attracts
            keys around it (see `settle`). For keys of ±1 it is the share of signs that are flipped; for any key the
            versions are Gaussian, of the key's length, at cosine 1 - 2 * noise to it. They are not sampled: what they
            are on average enters, at the cost of storing the key once. Rule "ridge", without a "gcv" or query_cosine.
        progress : callable, optional
            Called with the number of further pairs that are done, after every chunk; for example a bar's `update`.

        Raises
        ------
        TypeError, ValueError
            If keys or values are not real and finite, differ in number, have another length, a key is zero and
            the memory has no bias, or the rule cannot store noisy keys. Nothing is stored then.

        Examples
        --------
        >>> memory = AssociativeMemory(key_dim=2, value_dim=3)
        >>> memory.store([0.5, -1.0], [1.0, 2.0, 3.0])
        >>> memory.n_stored
        1
        """
        _checks.refuse_uncallable("progress", progress)
        share = self._checked_noise(noise)
        key_table, value_table = self._checked_pairs(keys, values)
        if share:
            self._store_noisy(key_table, value_table, share, progress)
            return
        with self._writing:
            if len(key_table) <= len(self._pending_keys):
                self._append(key_table, value_table)
                report(progress, len(key_table))
            elif len(key_table) <= self._chunk_rows:
                for features, targets in self._feature_chunks(key_table, value_table):
                    self._store_now(features, targets)
                report(progress, len(key_table))
            else:
                # Whatever stops the work between two chunks, the interrupt of a user included, leaves the old state.
                state = self._copied_state()
                for features, targets in self._feature_chunks(key_table, value_table):
                    self.rule.store(state, features, targets)
                    report(progress, len(features))
                self._publish(state)

    @overload
    def recall(
        self,
        keys: ArrayLike,
        out: NDArray[Any] | None = None,
        *,
        return_confidence: Literal[False] = False,
        progress: Progress | None = None,
    ) -> NDArray[Any]: ...

    @overload
    def recall(
        self,
        keys: ArrayLike,
        out: NDArray[Any] | None = None,
        *,
        return_confidence: Literal[True],
        progress: Progress | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...

    def recall(
        self,
        keys: ArrayLike,
        out: NDArray[Any] | None = None,
        *,
        return_confidence: bool = False,
        progress: Progress | None = None,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Recall the values of keys, stored or not.

        One key runs in a compiled loop, many as matrix products over chunks, so that no array of N × rank numbers
        is ever needed.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Real keys, converted to the memory's dtype.
        out : (N, value_dim) array, optional
            Where to write the values, for example a `numpy.memmap`.
        return_confidence : bool
            Return (values, deviations): beside every recalled number its predictive standard deviation, so that
            value ± 1.645 deviation covers nine values of ten. It is that of a value observed under this key, for
            keys of the kind that were stored; with `Ridge(query_cosine=...)`, that of the stored value which a noisy
            key of this cosine asks for. Rules "ridge" and "rls"; docs/theory.md derives it.
        progress : callable, optional
            Called with the number of further keys that are done, after every chunk.

        Returns
        -------
        (N, value_dim) or (value_dim,), of the memory's dtype, or `out`; with `return_confidence` a pair of such

        Raises
        ------
        TypeError, ValueError
            If the keys are unusable, as in `store`, or `out` has another shape; if confidence is wanted of a rule
            that keeps no Gram matrix, of one that weights the past down, or before anything is stored.

        Examples
        --------
        >>> memory = AssociativeMemory(key_dim=2, value_dim=3)
        >>> memory.store([0.5, -1.0], [1.0, 2.0, 3.0])
        >>> memory.recall([0.5, -1.0]).round(9)
        array([1., 2., 3.])
        >>> values, deviations = memory.recall([[0.5, -1.0], [1.0, 0.5]], return_confidence=True)
        >>> deviations.round(1)
        array([[0. , 0. , 0. ],
               [0.8, 1.5, 2.3]])
        """
        _checks.refuse_uncallable("progress", progress)
        table, single = _checks.as_table("keys", keys, self.key_dim)
        if out is not None:
            _checks.refuse_bad_out(out, (len(table), self.value_dim), table)
            self._check_keys(table)  # all of them, before the first value is written
        if single and out is None and not return_confidence:
            return self._recall_one(table)
        values = np.empty((len(table), self.value_dim), self.dtype) if out is None else out
        if return_confidence:
            deviations = self._recall_with_deviation(table, values, progress)
            return (values[0], deviations[0]) if single and out is None else (values, deviations)
        with self._reading() as weights:
            for chunk, features in self._features_of(table):
                values[chunk] = features @ weights
                report(progress, len(features))
        return values

    def _recall_one(self, table: NDArray[Any]) -> NDArray[Any]:
        rows = _checks.to_dtype(table, self.dtype)
        _checks.refuse_bad_keys(rows, self.features.bias)
        value = np.empty(self.value_dim, self.dtype)
        weights = self._begin_reading()
        try:
            recall_folded(rows[0], *self.features.kernel_arguments, weights, value)
        finally:
            self._end_reading()
        return value

    # -------------------------------------------------------------------------------------------- merge, diagnose

    def merge(self, other: AssociativeMemory) -> AssociativeMemory:
        """Return a new memory that holds the pairs of both.

        Parameters
        ----------
        other : AssociativeMemory
            Of the same configuration and seed.

        Raises
        ------
        TypeError
            If `other` is not a memory.
        ValueError
            If the configurations differ, or the rule's result depends on the order of the pairs.

        Examples
        --------
        >>> one, two = AssociativeMemory(2, 1), AssociativeMemory(2, 1)
        >>> one.store([1.0, 2.0], [3.0])
        >>> two.store([-1.0, 1.0], [4.0])
        >>> one.merge(two).recall([[1.0, 2.0], [-1.0, 1.0]]).round(9)
        array([[3.],
               [4.]])
        """
        if not isinstance(other, AssociativeMemory):
            raise TypeError(f"other is a {type(other).__name__}; expected an AssociativeMemory; pass one")
        mine, theirs = self._configuration(), other._configuration()
        different = [f"{name} ({mine[name]} and {theirs[name]})" for name in mine if mine[name] != theirs[name]]
        if different:
            raise ValueError(
                f"the memories differ in {', '.join(different)}; expected the same configuration and seed; "
                f"build both alike"
            )
        self.rule.refuse_merge()
        theirs_now = other.copy()._state
        with self._writing:
            self._flush()
            merged = self._empty_copy()
            merged._state = self.rule.merge(self._state, theirs_now)
        return merged

    def diagnose(self, *, query_cosine: float = 0.9, error: float = 0.05, kind: str = "sign") -> Diagnosis:
        """Say how full the memory is, how well it recalls by the laws of capacity, and for how many more pairs.

        Parameters
        ----------
        query_cosine : float in [0, 1]
            Cosine of noisy queries to the stored keys.
        error : float in (0, 1]
            Error allowed for them.
        kind : {"sign", "gaussian", "onehot"}
            Error of ±1 values, of values of variance 1, or of the largest of value_dim outputs.

        Raises
        ------
        TypeError, ValueError
            If a parameter is out of range.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> memory = AssociativeMemory(key_dim=16, value_dim=1, expansion=2)
        >>> memory.store(rng.standard_normal((60, 16)), rng.standard_normal((60, 1)))
        >>> memory.diagnose().warning[:48]
        'past capacity: 60 pairs in rank 48 can no longer'
        """
        from assocmem.diagnosis import diagnose  # it imports from here upward, for the laws of every rule

        return diagnose(self, query_cosine=query_cosine, error=error, kind=kind)

    def copy(self) -> AssociativeMemory:
        """Return an independent copy."""
        twin = self._empty_copy()
        with self._writing:
            twin._state = self._copied_state()
        return twin

    # --------------------------------------------------------------------------------------------- save, load

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a safetensors file; it appears whole or not at all.

        Parameters
        ----------
        path : path of the file
            A file that is there is replaced once the new one is complete.

        Raises
        ------
        OSError
            If the directory does not exist or cannot be written.
        ValueError
            If the memory holds infinity, from numbers that left the range of its type. Nothing is written then.
        """
        with self._writing, self._reading() as weights:  # solved before saving, so that a recall after loading is not
            arrays = {**self._state, "weights": weights}
            storage.save(path, KIND, {**self._configuration(), "fingerprint": self._fingerprint()}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AssociativeMemory:
        """Load a memory that recalls bit for bit what the saved one did, and can be written on.

        Parameters
        ----------
        path : path of the file
            What `save` was given.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a memory, truncated, of another version, or its arrays do not match its header.

        Examples
        --------
        >>> import tempfile
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([1.0, 2.0], [3.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     memory.save(f"{folder}/memory.safetensors")
        ...     AssociativeMemory.load(f"{folder}/memory.safetensors").recall([1.0, 2.0]).round(9)
        array([3.])
        """
        header, arrays = storage.load(path, KIND)
        try:
            rule = RULES[header["rule"]](**header["rule_parameters"])
            names = ("key_dim", "value_dim", "expansion", "whiten", "bias", "seed", "dtype")
            memory = cls(**{name: header[name] for name in names}, rule=rule)
        except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
            storage.refuse_header(path, f"{type(error).__name__}: {error}")
        if header.get("fingerprint") != memory._fingerprint():
            storage.refuse_header(path, "its configuration and signs are not those that the memory was written with")
        layout = memory.rule.full_layout(memory.rank, memory.value_dim, memory.dtype)
        layout.update(fixed_layout(arrays, memory.rank, memory.value_dim))
        weights_layout = {"weights": ((memory.rank, memory.value_dim), memory.dtype)}
        storage.refuse_other_arrays(path, arrays, {**layout, **weights_layout})
        if arrays["n_stored"] < 0:
            storage.refuse_header(path, f"n_stored is {arrays['n_stored']}")
        memory._state = {name: arrays[name] for name in layout}
        memory._solved = arrays["weights"]
        return memory

    # ------------------------------------------------------------------------------------------------ weights

    @property
    def weights(self) -> NDArray[Any]:
        """The literal CReLU weights W₊ and W₋, (2, n_units, value_dim).

        ``recall(x) == relu(z) @ weights[0] + relu(-z) @ weights[1] + norm(x) * offset`` with z = features.project(x)
        and x extended by the bias, if there is one.
        """
        with self._reading() as weights:
            return self.features.unfold(weights)[0]

    @property
    def offset(self) -> NDArray[Any]:
        """What multiplies the norm of a key, (value_dim,); zero for a memory with ``whiten=False``."""
        with self._reading() as weights:
            return self.features.unfold(weights)[1]
