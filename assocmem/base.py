"""`Memory`: what every memory does: sizes, store, recall, merge, copy, save and load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from assocmem import operations
from assocmem.cell import Cell, Progress, refuse_too_large, report
from assocmem.core import checks
from assocmem.core.siphash import Words
from assocmem.core.underflow import underflow_is_zero
from assocmem.features.crelu import CReLUFeatures
from assocmem.features.readout import recall_folded
from assocmem.rules import Rule, as_rule
from assocmem.rules.arrays import Shape

AnyMemory = TypeVar("AnyMemory", bound="Memory")

# At a cosine below this, more than 49 % of the signs of a key are flipped: the noise would tell nothing of the key.
SMALLEST_COSINE = 0.02


@underflow_is_zero
class Memory:
    """A map from keys to values that is written pair by pair or in batches, and recalled."""

    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        *,
        expansion: int = 4,
        rule: str | Rule = "ridge",
        whiten: bool = True,
        bias: float = 0.0,
        center: ArrayLike | None = None,
        seed: int = 0,
        dtype: DTypeLike = "float64",
        ledger: bool = False,
    ) -> None:
        known = as_rule(rule)
        sizes = checks.as_size("key_dim", key_dim) + bool(bias), checks.as_size("expansion", expansion)
        shape = Shape(*sizes, bool(whiten), checks.as_size("value_dim", value_dim), checks.as_dtype(dtype))
        refuse_too_large(known, shape, known.cost(shape).state_bytes, "a memory")
        features = CReLUFeatures(key_dim, expansion, whiten=whiten, bias=bias, center=center, seed=seed, dtype=dtype)
        self._cell = Cell(features, known, shape.value_dim, ledger=bool(ledger))

    def _with(self: AnyMemory, cell: Cell) -> AnyMemory:
        """Another memory of this class, without a call of `__init__`: attributes of a subclass come along."""
        memory = type(self).__new__(type(self))
        vars(memory).update(vars(self))
        memory._cell = cell
        return memory

    @property
    def features(self) -> CReLUFeatures:
        """The feature maps: `project`, `expand` (literal CReLU) and `fold` (what the rules see)."""
        return self._cell.features

    @property
    def rule(self) -> Rule:
        """The learning rule."""
        return self._cell.rule

    @rule.setter
    def rule(self, rule: object) -> None:
        raise AttributeError(
            f"the rule of a memory is read-only, since its sums were stored under {self.rule!r}; "
            f"memory.with_rule({rule!r}) returns a memory of the same pairs under another rule"
        )

    @property
    def key_dim(self) -> int:
        """Length of a key."""
        return self.features.key_dim

    @property
    def value_dim(self) -> int:
        """Length of a value."""
        return self._cell.shape.value_dim

    @property
    def expansion(self) -> int:
        """Number of random orthogonal blocks."""
        return self.features.expansion

    @property
    def n_units(self) -> int:
        """Number m of CReLU units."""
        return self.features.n_units

    @property
    def rank(self) -> int:
        """Dimension D of the folded features: the number of pairs that can be recalled exactly."""
        return self.features.rank

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of features and weights."""
        return self.features.dtype

    @property
    def ledger(self) -> bool:
        """Whether the memory keeps a digest of every pair, by which pairs that are not stored are refused."""
        return self._cell.digester is not None

    @property
    def n_stored(self) -> int:
        """Number of pairs stored and not forgotten."""
        return self._cell.n_stored

    @property
    def n_effective(self) -> float | None:
        """Number of equally weighted pairs that tell as much, (Σ w)² / Σ w² for pairs of weights w.

        `n_stored` unless the past fades: then at most (1 + f)/(1 − f) for a decay f. None for the delta rule, where
        the weight of a pair depends on the keys that came after it.
        """
        return self._cell.read(self.rule.n_effective)

    @property
    def nbytes(self) -> int:
        """Bytes of the state: what a saved file holds, whatever was stored, but for 16 bytes a pair of a ledger."""
        return self._cell.nbytes

    @property
    def alpha(self) -> float | None:
        """The absolute penalty in use; None for a rule without one, or before it has been chosen.

        An array (value_dim,) with ``Ridge("gcv", per_output=True)``.
        """
        return self._cell.alpha()

    @property
    def weights(self) -> NDArray[Any]:
        """The literal CReLU weights W₊ and W₋, (2, n_units, value_dim).

        ``recall(key) == relu(z) @ weights[0] + relu(-z) @ weights[1] + norm(x) * offset`` with
        z = features.project(key), and x the key without the center and extended by the bias, if there are any.
        """
        with np.errstate(under="ignore"):
            return self.features.unfold(self._cell.view().weights)[0]

    @property
    def offset(self) -> NDArray[Any]:
        """The weights (value_dim,) that multiply the norm of a key; zero for a memory with ``whiten=False``."""
        with np.errstate(under="ignore"):
            return self.features.unfold(self._cell.view().weights)[1]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(key_dim={self.key_dim}, value_dim={self.value_dim}, expansion={self.expansion}, "
            f"rule={self.rule}, {self.features.center_label}n_stored={self.n_stored}, rank={self.rank}"
            f"{', ledger=True' if self.ledger else ''})"
        )

    def store(
        self,
        keys: ArrayLike,
        values: ArrayLike,
        *,
        ids: Any = None,
        query_cosine: float = 1.0,
        progress: Progress | None = None,
    ) -> None:
        """Store pairs.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Arrays larger than memory (`numpy.memmap`) are worked through in chunks, after a first pass that checks.
        values : (N, value_dim) or (value_dim,)
            One value for every key.
        ids : N integers or N strings, optional
            For a memory with a ledger: what tells a pair from others of the same key and value. 7 and "7" differ.
            A pair stored with an id is forgotten with its id only.
        query_cosine : float in [0.02, 1]
            Below 1, store each value under all noisy versions of its key at this cosine, so that a pattern that is its
            own value attracts keys around it (see `settle`). For keys of ±1, noise that flips a share s of the signs
            has cosine 1 − 2s. Uses the exact mean and covariance of the features; no copies are drawn. Rule "ridge"
            with a number for alpha. Keys of which every entry is 0 or one positive number, and both occur, are
            refused: store 2x − 1 in place of patterns x of 0 and 1. With a center, the keys of which this is said are
            those without it.
        progress : callable, optional
            Called with the number of further pairs that are done, after every chunk; for example a bar's `update`.
            Nothing is stored before its last call has returned: if it raises, the memory is as it was, whatever the
            rule and the number of pairs. This takes a second copy of the state while it lasts.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=3)
        >>> memory.store([0.5, -1.0], [1.0, 2.0, 3.0])
        >>> memory.n_stored
        1
        """
        checks.refuse_uncallable("progress", progress)
        cosine = self._checked_cosine(query_cosine)
        key_table, value_table = self._checked_pairs(keys, values)
        if cosine != 1.0:
            centred = (self.features.centred(key_table[chunk]) for chunk in self._chunks(key_table))
            checks.refuse_zeros_and_ones(centred, "query_cosine")
        words = self._checked_ids(ids, len(key_table))
        self._cell.store_pairs(key_table, value_table, cosine, progress, words)

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

    @overload
    def recall(
        self,
        keys: ArrayLike,
        out: NDArray[Any] | None = None,
        *,
        return_confidence: bool,
        progress: Progress | None = None,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]: ...

    def recall(
        self,
        keys: ArrayLike,
        out: NDArray[Any] | None = None,
        *,
        return_confidence: bool = False,
        progress: Progress | None = None,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Recall the values of keys, stored or not.

        An empty memory recalls zeros, without a warning: `n_stored` tells.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Real keys, converted to the memory's dtype as they are: integers such as raw pixels are not rescaled, so
            that keys divided by 255 are other keys.
        out : (N, value_dim) array, optional
            Where to write the values, for example a `numpy.memmap`.
        return_confidence : bool
            Return (values, deviations), with the predictive standard deviation of every number: value ± 1.645
            deviations covers nine values of ten. It is that of a value observed under this key, for keys of the kind
            that were stored; with `Ridge(query_cosine=...)`, that of the stored value that a noisy key of this cosine
            asks for. Rules "ridge" and "rls"; docs/theory.md derives it.
        progress : callable, optional
            Called with the number of further keys that are done, after every chunk.

        Returns
        -------
        (N, value_dim) or (value_dim,), of the memory's dtype, or `out`; with `return_confidence` a pair of such

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=3)
        >>> memory.store([0.5, -1.0], [1.0, 2.0, 3.0])
        >>> values, deviations = memory.recall([[0.5, -1.0], [1.0, 0.5]], return_confidence=True)
        >>> deviations.round(1)
        array([[0. , 0. , 0. ],
               [0.8, 1.5, 2.3]])
        """
        checks.refuse_uncallable("progress", progress)
        table, single = checks.as_table("keys", keys, self.key_dim)
        if out is not None:
            checks.refuse_bad_out(out, (len(table), self.value_dim), table)
            self._check_keys(table)  # all of them, before the first value is written
        if single and out is None and not return_confidence:
            return self._recall_one(table)
        values = np.empty((len(table), self.value_dim), self.dtype) if out is None else out
        with np.errstate(under="ignore"):
            if return_confidence:
                deviations = operations.confidence.recall(self._cell, table, values, progress)
                return (values[0], deviations[0]) if single and out is None else (values, deviations)
            weights = self._cell.view().weights if len(table) else None
            for chunk, features in self._cell.features_of(table):
                values[chunk] = features @ weights
                report(progress, len(features))
            return values

    def _recall_one(self, table: NDArray[Any]) -> NDArray[Any]:
        features = self.features
        rows = features.centred_rows(table)
        value = np.empty(self.value_dim, self.dtype)
        recall_folded(rows[0], *features.kernel_arguments, self._cell.view().weights, value)
        return value

    def merge(self: AnyMemory, other: AnyMemory) -> AnyMemory:
        """Return a new memory that holds the pairs of both.

        Parameters
        ----------
        other : AssociativeMemory
            Of the same configuration and seed, with a rule whose result does not depend on the order of the pairs.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> one, two = AssociativeMemory(2, 1), AssociativeMemory(2, 1)
        >>> one.store([1.0, 2.0], [3.0])
        >>> two.store([-1.0, 1.0], [4.0])
        >>> one.merge(two).recall([[1.0, 2.0], [-1.0, 1.0]]).round(9)
        array([[3.],
               [4.]])
        """
        if not isinstance(other, type(self)):
            raise TypeError(f"other must be an {type(self).__name__}, got a {type(other).__name__}")
        return self._with(self._cell.merged(other._cell))

    def copy(self: AnyMemory) -> AnyMemory:
        """Return an independent copy; other attributes of a subclass are shared."""
        return self._with(self._cell.twin())

    def __copy__(self: AnyMemory) -> AnyMemory:
        return self.copy()  # a shallow copy would share state and locks

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to a safetensors file; it appears whole or not at all, and replaces one that is there.

        Parameters
        ----------
        path : path of the file
            OSError is raised if its directory does not exist or cannot be written, ValueError if the memory holds
            infinity, from numbers that left the range of its type. Nothing is written then.
        """
        operations.saving.save(self._cell, path)

    @classmethod
    def load(cls: type[AnyMemory], path: str | os.PathLike[str]) -> AnyMemory:
        """Load a memory that recalls bit for bit what the saved one did, and can be written on.

        A subclass is loaded without a call of its `__init__`; what else it keeps is not in the file (but in a pickle).

        Parameters
        ----------
        path : path of the file
            ValueError is raised for a file that is not a memory, truncated, of another version, or whose arrays do not
            match its header.

        Examples
        --------
        >>> import tempfile
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([1.0, 2.0], [3.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     memory.save(f"{folder}/memory.safetensors")
        ...     AssociativeMemory.load(f"{folder}/memory.safetensors").recall([1.0, 2.0]).round(9)
        array([3.])
        """
        memory = cls.__new__(cls)
        memory._cell = operations.saving.load(path)
        return memory

    def _checked_cosine(self, query_cosine: float) -> float:
        cosine = checks.as_number("query_cosine", query_cosine, SMALLEST_COSINE, 1.0)
        if cosine != 1.0 and not self.rule.adds_variances:
            raise ValueError(
                f"query_cosine={cosine} needs a rule that holds all noisy versions of a key at once, got {self.rule}; "
                f"build the memory with Ridge(alpha) with a number for alpha, or store noisy copies, for example from "
                f"assocmem.capacity.noisy_keys"
            )
        return cosine

    def _checked_pairs(self, keys: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return tables of pairs that can all be stored, or refuse; large arrays are read once for this."""
        key_table, _ = checks.as_table("keys", keys, self.key_dim)
        value_table, _ = checks.as_table("values", values, self.value_dim)
        checks.refuse_unequal_lengths(len(key_table), len(value_table))
        self._check_keys(key_table)
        for chunk in self._chunks(value_table):
            checks.refuse_bad_values(checks.to_dtype(value_table[chunk], self.dtype), chunk.start)
        return key_table, value_table

    def _checked_ids(self, ids: Any, n_pairs: int) -> Words | None:
        """Return the ids as words (N, 2), None for none, or refuse them."""
        if ids is None:
            return None
        if self._cell.digester is None:
            raise ValueError("ids are given, and this memory has no ledger to keep them; build it with ledger=True")
        return self._cell.digester.words_of(ids, n_pairs)

    def _check_keys(self, table: NDArray[Any]) -> None:
        for chunk in self._chunks(table):
            self.features.refuse_bad_keys(table[chunk], chunk.start)

    def _chunks(self, table: NDArray[Any]) -> Iterator[slice]:
        rows = self._cell.chunk_rows
        return (slice(start, start + rows) for start in range(0, len(table), rows))
