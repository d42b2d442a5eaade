"""`AssociativeMemory`: the front door. Methods check their arguments and delegate to the cell and to operations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from assocmem import operations
from assocmem.base import Memory
from assocmem.cell import Progress
from assocmem.core import checks
from assocmem.rules.arrays import Solution

if TYPE_CHECKING:
    from assocmem.frozen import FrozenMemory
    from assocmem.operations.attractors import Settled
    from assocmem.operations.deletion import DeletionReport
    from assocmem.operations.diagnosis import Diagnosis
    from assocmem.operations.editing import Edit
    from assocmem.operations.sources import Columns

# Pairs between two checkpoints. Storing a pair takes about as many multiplications as 1/400 of the state has bytes, so
# that checkpoints cost about a hundredth of the time on a disk of 1 GB/s and a processor of 50 Gflop/s.
EVERY = 2**16


class AssociativeMemory(Memory):
    """An online least-squares map from keys to values, of fixed size: store, recall and forget vectors.

    A key is projected by a random orthogonal transform, expanded by CReLU, and read out by one weight matrix. Storing
    changes the weights and keeps nothing else. Recalls of noisy keys degrade gracefully; under rule "ridge" up to
    `rank` pairs of real values are exact.

    Parameters
    ----------
    key_dim, value_dim : int
        Lengths of a key and of a value.
    expansion : int
        Random orthogonal blocks: more hold more, at proportional cost.
    rule : {"ridge", "rls", "delta", "hebbian"}, a registered name, or a rule object
        How storing changes the weights.
    whiten : bool
        Subtract the known mean of the CReLU features and divide by their deviation (recommended); False is the
        literal CReLU memory.
    bias : float
        If not 0, every key is extended by this constant coordinate, so that x, −x and 2x can hold unrelated values.
    seed : int
        Seed of the projection: equal seeds give equal bits.
    dtype : {"float64", "float32"}
        Type of features and weights; sums and their factors are float64.

    Raises
    ------
    TypeError, ValueError
        By every method, before anything changes: for arguments of a wrong type, shape or range, NaN or infinity, an
        all-zero key without a bias, or an operation that the rule does not have. The message says what to do.
    MemoryError
        If the memory would not fit on this machine; the message says what would.

    Notes
    -----
    Any number of threads may recall while one writes: a recall sees the memory before or after a write. Writes queue.

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

    def forget(self, keys: ArrayLike, values: ArrayLike, *, query_cosine: float = 1.0) -> None:
        """Forget pairs: afterwards the memory is as if they had never been stored, to rounding.

        Parameters
        ----------
        keys, values, query_cosine
            Exactly as they were stored. More pairs than are stored are refused, and pairs of which it can be seen that
            they were never stored; nothing is changed then.

        Examples
        --------
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.forget([2.0, 1.0], [2.0])
        >>> memory.n_stored
        1
        """
        self.rule.refuse_unless_additive("forget")
        cosine = self._checked_cosine(query_cosine)
        key_table, value_table = self._checked_pairs(keys, values)
        operations.deletion.forget(self._cell, key_table, value_table, cosine)

    def replace(self, keys: ArrayLike, old_values: ArrayLike, new_values: ArrayLike) -> None:
        """Replace the values of stored pairs: afterwards the memory is as if it had never seen the old ones.

        In the sums G does not change, to the last bit, and Q ← Q + Fᵀ(new − old). Pairs that were stored with noise
        are forgotten and stored again instead.

        Parameters
        ----------
        keys, old_values
            Exactly as they were stored.
        new_values : (N, value_dim) or (value_dim,)
            Values to recall instead.

        Examples
        --------
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.replace([2.0, 1.0], [2.0], [5.0])
        >>> memory.recall([2.0, 1.0]).round(9)
        array([5.])
        """
        self.rule.refuse_unless_additive("replace")
        key_table, old_table = self._checked_pairs(keys, old_values)
        _, new_table = self._checked_pairs(key_table, new_values)
        operations.deletion.replace(self._cell, key_table, old_table, new_table)

    def verify_forgotten(self, keys: ArrayLike) -> DeletionReport:
        """Bound the copies of keys that can still be among the stored pairs.

        A recall of a forgotten key is what the remaining pairs imply for any key; this tells whether the key itself
        can be among them.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys that were forgotten, or any others.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> keys, values = rng.standard_normal((20, 8)), rng.standard_normal((20, 1))
        >>> memory = AssociativeMemory(key_dim=8, value_dim=1)
        >>> memory.store(keys, values)
        >>> memory.forget(keys[0], values[0])
        >>> memory.verify_forgotten(keys[:2]).max_copies.round(6)
        array([0., 1.])
        """
        table, _ = checks.as_table("keys", keys, self.key_dim)
        self._check_keys(table)
        return operations.deletion.report(self._cell, table)

    def recompute(self) -> None:
        """Recompute the solution from the sums, discarding accumulated rounding.

        The rule "rls" gathers rounding in the inverse and the solution that every write updates. What `error_bound`
        says afterwards is due to the sums.
        """
        self._cell.change(self.rule.recompute)

    @property
    def error_bound(self) -> float | None:
        """Bound on the relative distance of the weights from those that a memory without rounding would have.

        In the Frobenius norm and to first order: the residual of the solution and the rounding that stores and
        deletions have left in the sums, over the smallest eigenvalue that holds something. Roundings are taken as
        independent. One eigendecomposition, O(D³), for "ridge" and "rls"; None for the delta rule.
        """
        cell = self._cell
        return cell.read(lambda state: self.rule.error_bound(state, cell.view().weights))

    @property
    def solution(self) -> Solution:
        """Solver of the weights in use, penalty, shift, passes, and condition number of the factorised matrix.

        Examples
        --------
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.solution.solver, memory.solution.passes
        ('iterated Tikhonov', 2)
        """
        return self._cell.solution()

    def edit(
        self,
        keys: ArrayLike,
        values: ArrayLike,
        preserve: ArrayLike | None = None,
        *,
        penalty: float = 0.0,
        metric: ArrayLike | None = None,
    ) -> Edit:
        """Give keys new values by the smallest change of the weights, while other keys keep their recalls.

        Edited keys recall their values exactly, and preserved ones what they recalled; both are fixed from then on:
        later stores and forgets change neither, a later edit of the same keys does. Each independent one takes a
        dimension of `rank` and a row of the state. Edits are not pairs: `n_stored` and confidence leave them out, and
        `forget` does not undo them. Several edits at once equal the same edits one after the other. O(D³), as the
        first recall after a store; rules "ridge" and "rls".

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys whose recall is to change, stored or not.
        values : (N, value_dim) or (value_dim,)
            What they are to recall.
        preserve : (P, key_dim) or (key_dim,), optional
            Keys whose recall is to stay.
        penalty : float, at least 0
            λ: above 0 the values are met as far as what is stored allows: the keys become pairs of weight 1/λ, which
            count in `n_stored`, are not fixed, and cannot be forgotten.
        metric : (n, key_dim) or (rank, rank), optional
            What measures a change: a sample of keys whose recalls should change little, or the second moment of their
            folded features. None takes G + αI of what is stored. With another metric the change is as if the values
            stored had been others; forgetting a pair stored before then leaves a trace.

        Returns
        -------
        Edit
            With a report of what changed elsewhere, `locality(held_out_keys)`. References as in `least_squares_edit`.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> stored, values = rng.standard_normal((50, 16)), rng.standard_normal((50, 2))
        >>> memory = AssociativeMemory(16, 2)
        >>> memory.store(stored, values)
        >>> edit = memory.edit(stored[0], [7.0, 8.0])
        >>> memory.recall(stored[0]).round(9)
        array([7., 8.])
        >>> edit.locality(stored[1:]).largest_change < 1e-9
        True
        """
        pairs = self._checked_pairs(keys, values)
        return operations.editing.edit(self._cell, *pairs, preserve, penalty, metric)

    def leverage(self, keys: ArrayLike) -> Any:
        """Leverage h = ψᵀ (G + αI)⁻¹ ψ of keys: their novelty.

        Near 0 for a key like many stored ones, at most 1 for a stored key, ‖ψ‖²/α for a direction never met. Under
        rule "ridge" with a penalty below 1e-6 of the mean eigenvalue of G, 0 included, 1e-6 of it is taken: the
        limit α → 0 is infinite for every key outside the span of the stored ones. Rules "ridge" and "rls".

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys to judge; the result is (N,) float64, or one number.

        References
        ----------
        Hoaglin and Welsch (1978), "The Hat Matrix in Regression and ANOVA".

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> memory = AssociativeMemory(8, 1)
        >>> stored = rng.standard_normal((20, 8))
        >>> memory.store(stored, rng.standard_normal((20, 1)))
        >>> bool(memory.leverage(stored).max() <= 1 < memory.leverage(rng.standard_normal(8)))
        True
        """
        table, single = checks.as_table("keys", keys, self.key_dim)
        self._check_keys(table)
        found = operations.confidence.leverage(self._cell, table)
        return found[0] if single else found

    def leave_one_out(self, keys: ArrayLike, values: ArrayLike) -> NDArray[Any]:
        """Errors with which stored pairs would be recalled had they never been stored: (v − ŷ) / (1 − h).

        Each pair by itself, at the penalty in use. Exact; where the pair is interpolated, v − ŷ and 1 − h are both 0
        and their quotient is cᵀU / ‖c‖² with c = (G + αI)⁻¹ψ (docs/theory.md).

        Parameters
        ----------
        keys, values
            Exactly as they were stored; the result is (N, value_dim) or (value_dim,) float64.

        References
        ----------
        Allen (1974), "The Relationship between Variable Selection and Data Augmentation and a Method for Prediction".

        Examples
        --------
        >>> memory = AssociativeMemory(2, 1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> residual = memory.leave_one_out([2.0, 1.0], [2.0])
        >>> memory.forget([2.0, 1.0], [2.0])
        >>> (residual - (2.0 - memory.recall([2.0, 1.0]))).round(9) == 0
        array([ True])
        """
        _, single = checks.as_table("keys", keys, self.key_dim)
        residuals = operations.confidence.leave_one_out(self._cell, *self._checked_pairs(keys, values))
        return residuals[0] if single else residuals

    def diagnose(self, *, query_cosine: float = 0.9, error: float = 0.05, kind: str = "sign") -> Diagnosis:
        """Load, predicted errors and room for further pairs, by the laws of capacity.

        Parameters
        ----------
        query_cosine : float in [0, 1]
            Cosine of noisy queries to the stored keys.
        error : float in (0, 1]
            Error allowed for them.
        kind : {"sign", "gaussian", "onehot"}
            Error of ±1 values, of values of variance 1, or of the largest of value_dim outputs.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> memory = AssociativeMemory(key_dim=16, value_dim=1, expansion=2)
        >>> memory.store(rng.standard_normal((60, 16)), rng.standard_normal((60, 1)))
        >>> memory.diagnose().warning[:48]
        'past capacity: 60 pairs in rank 48 can no longer'
        """
        return operations.diagnosis.diagnose(self._cell, query_cosine, error, kind)

    def settle(self, keys: ArrayLike, activation: str = "sign", *, max_steps: int = 100, tol: float = 1e-6) -> Settled:
        """Recall, apply an activation, and repeat with the result as the key, until nothing changes any more.

        For memories of patterns that are their own values. Patterns stored with ``store(patterns, patterns,
        query_cosine=0.8)`` are fixed points that attract keys from far away. The path of a key does not depend on the
        keys beside it.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Where to start.
        activation : {"sign", "normalize", "clip"}
            The next state: the signs of the recall, where that of 0 is the sign of the state before; its direction
            with the length of the key; or its entries cut to [-1, 1].
        max_steps : int
            Recalls for one key at most.
        tol : float in [0, 1]
            For "normalize" and "clip": states are equal if their distance is at most this share of their length.

        Returns
        -------
        Settled
            `states` (N, key_dim) or (key_dim,), `steps`, and the `reasons` to stop: "fixed point"; "cycle" of two or
            more states, of which one is returned; "limit" of the steps; or "undefined", for a recall of zero (as from
            an empty memory) or out of range.

        References
        ----------
        Hopfield (1982), "Neural networks and physical systems with emergent collective computational abilities".
        "clip": Anderson, Silverstein, Ritz and Jones (1977), the brain-state-in-a-box. Cycles of any period are found
        with one state of memory: Brent (1980), "An improved Monte Carlo factorization algorithm".

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> patterns = rng.choice([-1.0, 1.0], (32, 64))
        >>> memory = AssociativeMemory(key_dim=64, value_dim=64)
        >>> memory.store(patterns, patterns, query_cosine=0.8)
        >>> noisy = patterns * rng.choice([-1.0, 1.0], patterns.shape, p=[0.1, 0.9])
        >>> settled = memory.settle(noisy)
        >>> bool((settled.states == patterns).all()), set(settled.reasons.tolist())
        (True, {'fixed point'})
        """
        table, single = checks.as_table("keys", keys, self.key_dim)
        self._check_keys(table)
        settled = operations.attractors.settle(self._cell, table, activation, max_steps, tol)
        return settled.first() if single else settled

    def store_from(
        self,
        source: Any,
        *,
        key_columns: Columns = "key",
        value_columns: Columns = "value",
        progress: Progress | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int = EVERY,
    ) -> None:
        """Store the pairs of a source that may be larger than memory, resuming where an earlier run was killed.

        Recalls from other threads see none of the new pairs before all are stored; other writes wait. With a
        checkpoint, call it again in the same way after a crash: same memory as before the first call, same source
        from its beginning. The result equals that of a run that was never stopped, to the last bit. The file stays
        when the run is finished, and a finished run that is started again stores nothing twice.

        Parameters
        ----------
        source : pairs, one of
            a tuple (keys, values) of arrays (N, key_dim) and (N, value_dim), such as `numpy.memmap`, or of paths of
            .npy files, which are mapped;
            an iterable of such batches (keys, values), of any sizes;
            a table, dataset, record batch or reader of pyarrow, or the path of a .parquet, .arrow, .ipc or .feather
            file.
        key_columns, value_columns : str or sequence of str
            Columns of Arrow data: of lists, or of single numbers to be laid side by side.
        progress : callable, optional
            Called with the number of further pairs that are done.
        checkpoint : path, optional
            File for what has been stored so far, replaced as a whole; for one run at a time.
        every : int
            Pairs between two checkpoints. Blocks end there, so that a run with another number differs by rounding.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> batches = ((rng.standard_normal((100, 8)), rng.standard_normal((100, 2))) for _ in range(5))
        >>> memory = AssociativeMemory(key_dim=8, value_dim=2)
        >>> memory.store_from(batches)
        >>> memory.n_stored
        500
        """
        columns = key_columns, value_columns
        operations.streaming.store_from(self._cell, source, columns, progress, checkpoint, every)

    def freeze(self, precision: str = "float32", *, sample: ArrayLike | None = None) -> FrozenMemory:
        """Return a read-only memory with the literal weights, for the fastest recall.

        Parameters
        ----------
        precision : {"float32", "float64", "int8"}
            Type of the weights. 8-bit weights have a scale for every output of each sixteenth of the units, and are
            summed in float32. They cost less than 1 % of a recall, except under a rule without penalty above a load
            of about 0.6, where recalls of stored keys are small differences of large weights.
        sample : (N, key_dim), optional
            Keys on which to measure what the precision costs: `FrozenMemory.loss` is then the relative error of
            their recalls, ‖frozen − exact‖ / ‖exact‖.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> keys, values = rng.standard_normal((100, 64)), rng.standard_normal((100, 8))
        >>> memory = AssociativeMemory(key_dim=64, value_dim=8)
        >>> memory.store(keys, values)
        >>> frozen = memory.freeze("int8", sample=keys)
        >>> frozen.nbytes < memory.weights.nbytes / 6, frozen.loss < 0.01
        (True, True)
        """
        from assocmem.frozen import frozen

        rows = None if sample is None else checks.as_table("sample", sample, self.key_dim)[0]
        return frozen(self.features, self._cell.view().weights, precision, rows)
