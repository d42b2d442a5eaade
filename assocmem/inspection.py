"""What a memory tells of itself: bounds on its errors, what is novel to it, what would be left without a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem import operations
from assocmem.base import Memory
from assocmem.core import checks
from assocmem.core.underflow import underflow_is_zero
from assocmem.rules.arrays import Solution

if TYPE_CHECKING:
    from assocmem.operations.deletion import DeletionReport
    from assocmem.operations.diagnosis import Diagnosis


@underflow_is_zero
class Inspected(Memory):
    """A memory that can be asked how right it is."""

    @property
    def error_bound(self) -> float | None:
        """Bound on the relative distance of the weights from those that a memory without rounding would have.

        In the Frobenius norm and to first order: the residual of the solution and the rounding that stores and
        deletions have left in the sums, over what holds something of G. Roundings are taken as independent, and
        features as the memory's dtype holds them: under float32 they are themselves rounded, to 1e-7. Infinite
        without a penalty where G holds fewer directions than there are pairs: keys that are equal, too near to each
        other or too short are then one to the sums. Three or four factorisations, O(D³), for "ridge" and "rls"; None
        for the delta rule, and with edits in another metric.
        """
        cell = self._cell
        return cell.read(lambda state: self.rule.error_bound(state, cell.view().weights))

    @property
    def solution(self) -> Solution:
        """Solver of the weights in use, penalty, shift, passes, and condition number of the factorised matrix.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(key_dim=2, value_dim=1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> memory.solution.solver, memory.solution.passes
        ('iterated Tikhonov', 2)
        """
        return self._cell.solution()

    def verify_forgotten(self, keys: ArrayLike) -> DeletionReport:
        """Bound the copies of keys that can still be among the stored pairs.

        A recall of a forgotten key is what the remaining pairs imply for any key; this tells whether the key itself
        can be among them. From the sums alone: `provable` is False at load 1 and beyond. A ledger does not enter,
        since it knows pairs and no keys; there, a pair that is forgotten is refused by `forget`.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys that were forgotten, or any others.

        Examples
        --------
        >>> import numpy as np
        >>> from assocmem import AssociativeMemory
        >>> rng = np.random.default_rng(0)
        >>> keys, values = rng.standard_normal((20, 8)), rng.standard_normal((20, 1))
        >>> memory = AssociativeMemory(key_dim=8, value_dim=1)
        >>> memory.store(keys, values)
        >>> receipt = memory.forget(keys[0], values[0])
        >>> report = memory.verify_forgotten(keys[:2])
        >>> report.provable, report.max_copies.round(6)
        (True, array([0., 1.]))
        """
        table, _ = checks.as_table("keys", keys, self.key_dim)
        self._check_keys(table)
        return operations.deletion.report(self._cell, table)

    def leverage(self, keys: ArrayLike) -> NDArray[np.float64] | np.float64:
        """Leverage h = ψᵀ (G + αI)⁻¹ ψ of keys: their novelty.

        Near 0 for a key like many stored ones, at most 1 for a stored key, ‖ψ‖²/α for a direction never met. With a
        penalty below 1e-6 of the mean eigenvalue of G, 0 included, 1e-6 of it is taken: the limit α → 0 is infinite for
        every key outside the span of the stored ones. Right to 1e-3 of itself, or refused where rounding of the sums
        is too large for that. Rules "ridge" and "rls"; edits are left out.

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
        >>> from assocmem import AssociativeMemory
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
        return np.float64(found[0]) if single else found

    def leave_one_out(self, keys: ArrayLike, values: ArrayLike) -> NDArray[Any]:
        """Errors with which stored pairs would be recalled had they never been stored: (v − ŷ) / (1 − h).

        Each pair by itself, at the penalty in use; where the pair is interpolated, v − ŷ and 1 − h are both 0, and the
        limit of their quotient is taken (docs/theory.md). Right to 1e-4 of the residual, or of the root mean square of
        the values of that output if that is larger; refused where rounding of the sums may cost more than that, as for
        keys that are too near to each other or too different in length. It knows pairs by the sums: keys that differ
        by less than rounding are one key, and features that depend on each other but for rounding are dependent.
        O(N D²), and one eigendecomposition, O(D³), if a pair is nearly interpolated.

        Parameters
        ----------
        keys, values
            Exactly as they were stored; the result is (N, value_dim) or (value_dim,) float64.

        References
        ----------
        Allen (1974), "The Relationship between Variable Selection and Data Augmentation and a Method for Prediction".

        Examples
        --------
        >>> from assocmem import AssociativeMemory
        >>> memory = AssociativeMemory(2, 1)
        >>> memory.store([[0.5, -1.0], [2.0, 1.0]], [[1.0], [2.0]])
        >>> residual = memory.leave_one_out([2.0, 1.0], [2.0])
        >>> receipt = memory.forget([2.0, 1.0], [2.0])
        >>> (residual - (2.0 - memory.recall([2.0, 1.0]))).round(9) == 0
        array([ True])
        """
        _, single = checks.as_table("keys", keys, self.key_dim)
        residuals = operations.confidence.leave_one_out(self._cell, *self._checked_pairs(keys, values))
        return residuals[0] if single else residuals

    def diagnose(
        self,
        *,
        keys: ArrayLike | None = None,
        queries: ArrayLike | None = None,
        query_cosine: float = 0.9,
        error: float = 0.05,
        kind: str = "sign",
    ) -> Diagnosis:
        """Load, predicted errors and room for further pairs.

        With a sample of keys, each of them is pretended to be stored on top of what is there, with random values that
        do not depend on the keys, and recalled: exactly what storing, recalling and forgetting it would give, at the
        penalty in use and without a law. The values that are stored enter by the crosstalk that they make, and by their
        root mean square output by output; under "hebbian" and "delta", which do not know that, values are taken to be
        ±1, or of variance 1. Under "delta" and with a decay it is the error of the newest pair. Values that depend on
        their keys, such as classes, are recalled far better than this says: diagnose without a sample.

        Without a sample, "ridge" and "rls" predict from their sums, for the keys and values that are stored, whatever
        these are. It is less sure of fewer than 60 pairs, of few next to the rank under a large penalty, and of
        keys whose lengths differ much.
        Other rules know laws for keys with random directions, of which real keys may be far.

        Parameters
        ----------
        keys : (n, key_dim), optional
            Some hundreds of keys like the stored ones, that are not stored themselves: stored ones would be pretended
            to be stored twice, and look far worse than they are. Of more than 1,024 as many are chosen at random. For
            any rule that has a `pretender`, as those of the package do.
        queries : (n, key_dim) or (n, q, key_dim), optional
            One or q noisy versions of every key, in place of ones that are drawn at `query_cosine`, four a key, of the
            same length, from a fixed seed.
        query_cosine : float in [0, 1]
            Cosine of noisy queries to the stored keys.
        error : float in (0, 1]
            Error allowed for them.
        kind : {"sign", "gaussian", "onehot"}
            Error of ±1 values, of values of variance 1, or of the largest of value_dim outputs.

        Raises
        ------
        ValueError
            With a sample: for queries of another shape, under edits in another metric, for pairs stored with noise, and
            for a rule that cannot pretend.

        References
        ----------
        docs/real-keys.md.

        Examples
        --------
        >>> import numpy as np
        >>> from assocmem import AssociativeMemory
        >>> rng = np.random.default_rng(0)
        >>> memory = AssociativeMemory(key_dim=16, value_dim=1, expansion=2)
        >>> memory.store(rng.standard_normal((60, 16)), rng.standard_normal((60, 1)))
        >>> memory.diagnose().warning[:48]
        'past capacity: 60 pairs in rank 48 can no longer'
        >>> memory.diagnose(keys=rng.standard_normal((200, 16))).source
        'sample'
        """
        return operations.diagnosis.diagnose(self._cell, keys, queries, query_cosine, error, kind)
