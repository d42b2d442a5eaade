"""`AssociativeMemory`: the front door. Methods check their arguments and delegate to the cell and to operations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from assocmem import operations
from assocmem.base import AnyMemory
from assocmem.cell import Progress
from assocmem.core import checks
from assocmem.core.underflow import underflow_is_zero
from assocmem.inspection import Inspected
from assocmem.rules import Rule, as_rule

if TYPE_CHECKING:
    from assocmem.frozen import FrozenMemory
    from assocmem.operations.attractors import Settled
    from assocmem.operations.deletion import Receipt
    from assocmem.operations.editing import Edit
    from assocmem.operations.sources import Columns

# Pairs between two checkpoints. Storing a pair takes about as many multiplications as 1/400 of the state has bytes, so
# that checkpoints cost about a hundredth of the time on a disk of 1 GB/s and a processor of 50 Gflop/s.
EVERY = 2**16


@underflow_is_zero
class AssociativeMemory(Inspected):
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
    center : (key_dim,), optional
        Subtracted from every key, stored or asked for; take the mean of a sample, `sample.mean(axis=0)`, unless keys
        have random directions. The memory is then that of keys − center without one, and what is said of the lengths,
        directions and cosines of keys is said of these. Digits that the difference loses, in the memory's dtype, are
        lost: keys whose distance from the center is a small share of its length are blurred.
    seed : int
        Seed of the projection: equal seeds give equal bits.
    dtype : {"float64", "float32"}
        Type of features and weights; sums and their factors are float64.
    ledger : bool
        Keep a digest of every pair, 16 bytes, so that `forget` and `replace` refuse what is not stored, at any load;
        sums alone can tell that below load 1 at most. Merged and saved with the memory; for rules that can forget.
        The hash (SipHash-2-4) is keyed by configuration and seed, so that memories of one seed agree: someone who has
        the file can check a guess of a pair.

    Raises
    ------
    TypeError, ValueError
        By every method, before anything changes: for arguments of a wrong type, shape or range, NaN or infinity, an
        all-zero key, or one that equals the center, without a bias, or an operation that the rule does not have. The
        message says what to do.
    MemoryError
        If the memory would not fit on this machine; the message says what would.

    Notes
    -----
    Any number of threads may recall while one writes: a recall sees the memory before or after a write. Writes queue.

    Keys are taken at their scale: lengths weigh pairs that cannot all be met, and pairs whose keys are 1e3 times longer
    than others cost those their digits. Integers such as pixels from 0 to 255 are converted without being rescaled;
    divide them by their typical length, and always by the same number. An empty memory recalls zeros.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> keys, values = rng.standard_normal((200, 64)), rng.standard_normal((200, 10))
    >>> memory = AssociativeMemory(key_dim=64, value_dim=10)
    >>> memory.store(keys, values)
    >>> bool(np.allclose(memory.recall(keys), values))
    True
    >>> receipt = memory.forget(keys[:50], values[:50])
    >>> memory
    AssociativeMemory(key_dim=64, value_dim=10, expansion=4, rule=Ridge(alpha=0.0), n_stored=150, rank=320)
    """

    def forget(
        self, keys: ArrayLike, values: ArrayLike | None = None, *, ids: Any = None, query_cosine: float = 1.0
    ) -> Receipt:
        """Forget pairs: afterwards the memory is as if they had never been stored, to rounding.

        Parameters
        ----------
        keys, values, ids, query_cosine
            Exactly as they were stored. More pairs than are stored are refused, and pairs of which it can be seen that
            they were never stored; with a ledger every pair that is not stored, and every repeat, the first of which
            is named. Nothing is changed then. Without values, those are forgotten that the sums determine; a ledger
            needs the values.

        Returns
        -------
        Receipt
            How many pairs were forgotten and are left; with a ledger also their digests, and a bound on the weights
            that are left, which takes as long as `error_bound`.

        Examples
        --------
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1, ledger=True)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]], ids=["Ada", "Bob"])
        >>> receipt = memory.forget([2.0, 1.0], [2.0], ids="Bob")
        >>> receipt.n_forgotten, receipt.n_left
        (1, 1)
        >>> memory.forget([2.0, 1.0], [2.0], ids="Bob")
        Traceback (most recent call last):
        ValueError: pair 0 is none of the 1 in the ledger: it was never stored, or is forgotten already; ...
        """
        self.rule.refuse_unless_additive("forget")
        cosine = self._checked_cosine(query_cosine)
        if values is None:
            key_table, value_table = checks.as_table("keys", keys, self.key_dim)[0], None
            self._check_keys(key_table)
        else:
            key_table, value_table = self._checked_pairs(keys, values)
        words = self._checked_ids(ids, len(key_table))
        return operations.deletion.forget(self._cell, key_table, value_table, cosine, words)

    def replace(self, keys: ArrayLike, old_values: ArrayLike, new_values: ArrayLike, *, ids: Any = None) -> None:
        """Replace the values of stored pairs: afterwards the memory is as if it had never seen the old ones.

        In the sums G does not change, to the last bit, and Q ← Q + Fᵀ(new − old). Pairs that were stored with noise
        are forgotten and stored again instead.

        Parameters
        ----------
        keys, old_values, ids
            Exactly as they were stored; refused as by `forget`. The ids stay.
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
        words = self._checked_ids(ids, len(key_table))
        operations.deletion.replace(self._cell, key_table, old_table, new_table, words)

    def with_rule(self: AnyMemory, rule: str | Rule) -> AnyMemory:
        """Return a new memory of the same pairs and edits under another rule, from a copy of the sums.

        It equals a memory that stored the pairs under that rule, and takes seconds whatever was stored. Without an
        alpha, rule "rls" takes the arithmetic mean of the sizes of keys for the geometric one.

        Parameters
        ----------
        rule : "ridge", "rls", or an object of these rules
            Of the same decay; with a decay not "rls". The pairs must be such that the rule could have stored them:
            `query_cosine` in `store`, and float32 keys under a penalty so large that they were multiplied in single
            precision, allow only some.

        Examples
        --------
        >>> from assocmem import Ridge
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.with_rule(Ridge(1000.0)).alpha
        1000.0
        """
        return self._with(operations.conversion.with_rule(self._cell, as_rule(rule)))

    def recompute(self) -> None:
        """Recompute the solution from the sums, discarding accumulated rounding.

        The rule "rls" gathers rounding in the inverse and the solution that every write updates. What `error_bound`
        says afterwards is due to the sums.
        """
        self._cell.change(self.rule.recompute)

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
        later stores and forgets change neither, a later edit of the same keys or `release` does. Each independent one
        takes a dimension of `rank` and a row of the state. Edits are a set of rows beside the pairs: `n_stored` and
        confidence leave them out, they do not fade, `forget` of a key with a fixed recall is refused, and several
        edits at once equal the same edits one after the other. O(D³), as the first recall after a store; rules
        "ridge" and "rls".

        A fixed recall is a value, which may carry traces of pairs that are forgotten later, and a metric traces of its
        sample: release what must not.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys whose recall is to change, stored or not.
        values : (N, value_dim) or (value_dim,)
            What they are to recall.
        preserve : (P, key_dim) or (key_dim,), optional
            Keys whose recall is to stay.
        penalty : float, at least 0
            λ: above 0 the values are met as far as what is stored allows, as if the keys were pairs of weight 1/λ;
            they are not fixed, and can be released.
        metric : (n, key_dim) or (rank, rank), optional
            What measures a change: a sample of keys whose recalls should change little, or the second moment M of
            their folded features. None takes G + αI of what is stored. A row with features ψ then changes the weights
            along M⁻¹ψ alone; where that disturbs other fixed recalls, these are mended in the metric of what is stored.

        Returns
        -------
        Edit
            With a report of what changed elsewhere, `locality(held_out_keys)`, and `growth`, by how much typical
            recalls of other keys became longer: beyond 4, as where two keys are nearly equal and their values are
            not, a UserWarning points to `penalty`. References as in `least_squares_edit`.

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

    def release(self, keys: ArrayLike) -> int:
        """Take back edits and preserved recalls: afterwards the memory is as if it had only the other ones.

        Exact, in any order: the recalls of the keys are again what pairs and remaining edits imply, and neither state
        nor files hold them. Remaining fixed recalls keep the values that they were given while these edits were there.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys that were edited or preserved, or positive multiples of them without a bias. Others are passed over;
            if there are only others, the call is refused.

        Returns
        -------
        int
            How many rows were released.

        Examples
        --------
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> edit = memory.edit([2.0, 1.0], [5.0])
        >>> memory.release([2.0, 1.0])
        1
        >>> memory.recall([2.0, 1.0]).round(9)
        array([2.])
        """
        table, _ = checks.as_rows("keys", keys, self.key_dim, self.dtype)
        self._check_keys(table)
        return operations.editing.release(self._cell, table)

    def settle(self, keys: ArrayLike, activation: str = "sign", *, max_steps: int = 100, tol: float = 1e-6) -> Settled:
        """Recall, apply an activation, and repeat with the result as the key, until nothing changes any more.

        For memories of patterns that are their own values. Patterns stored with ``store(patterns, patterns,
        query_cosine=0.8)`` are fixed points that attract keys from far away. The path of a key does not depend on the
        keys beside it. States are keys as they are given: a center is subtracted for each recall, not from them.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Where to start. With "sign", keys of which every entry is 0 or one positive number, and both occur, are
            refused: store and settle 2x − 1 in place of patterns x of 0 and 1.
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
        keep_checkpoint: bool = True,
    ) -> None:
        """Store the pairs of a source that may be larger than memory, resuming where an earlier run was killed.

        Recalls from other threads see none of the new pairs before all are stored; other writes wait. With a
        checkpoint, call it again in the same way after a crash: same memory as before the first call, same source
        from its beginning. The result equals that of a run that was never stopped, to the last bit. The file stays
        when the run is finished, and a finished run that is started again stores nothing twice. It then still holds
        every pair of the run, also those that this memory forgets later: delete it once the memory is saved.

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
            Called with the number of further pairs that are done. If it raises, the memory is as it was; a checkpoint
            keeps what it has, and the same call goes on from there.
        checkpoint : path, optional
            File for what has been stored so far, replaced as a whole; for one run at a time.
        every : int
            Pairs between two checkpoints. Blocks end there, so that a run with another number differs by rounding.
        keep_checkpoint : bool
            False removes the file when the run is finished. Until the memory is saved the pairs are in this process
            only, and the same call again stores them again.

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
        operations.streaming.store_from(
            self._cell, source, columns, progress, checkpoint, every, keep_checkpoint=keep_checkpoint
        )

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
