"""Protected edits: new values for some keys, by the smallest change of the weights, while other keys keep theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem import _checks
from assocmem._core import MemoryCore
from assocmem.rules._blas import Matrix64, add_gram, row_squares, symmetric_product
from assocmem.rules.base import FIXED, State
from assocmem.rules.constraints import DEPENDENT, extended, fixed_rows, smallest_change

REACHED = 1e-6  # how far, as a share of the change, solving for an edit may lead from it


@dataclass(frozen=True)
class Locality:
    """What an edit changed for keys that it did not name.

    Parameters
    ----------
    n_keys : int
        Keys looked at.
    mean_change, largest_change : float
        Length of the change of an output, mean and largest over the keys, as a share of the root mean square length
        of the outputs before.
    mean_cosine, smallest_cosine : float
        Cosine of the outputs before and after.
    """

    n_keys: int
    mean_change: float
    largest_change: float
    mean_cosine: float
    smallest_cosine: float


@dataclass(frozen=True)
class Edit:
    """What an edit did.

    Parameters
    ----------
    weight : (outputs, inputs) float64
        Weights after the edit: outputs are ``inputs @ weight.T``. Those of a memory act on `features.fold(keys)`.
    change : (outputs, inputs) float64
        What the edit added to them.
    inputs : callable
        From keys (N, key_dim) to inputs (N, inputs).
    """

    weight: Matrix64
    change: Matrix64
    inputs: Callable[[ArrayLike], NDArray[Any]] = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"Edit(weight of shape {self.weight.shape}, changed by {np.abs(self.change).max(initial=0.0):.3g} at most)"
        )

    def locality(self, keys: ArrayLike) -> Locality:
        """Report what the edit changed for held-out keys.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,), N at least 1
            Keys that were neither edited nor preserved.

        Raises
        ------
        TypeError, ValueError
            If the keys are unusable or none.

        Examples
        --------
        >>> edit = least_squares_edit(np.eye(2), keys=[1.0, 0.0], values=[0.0, 1.0], covariance=np.eye(2))
        >>> round(edit.locality([[0.0, 1.0], [3.0, 4.0]]).largest_change, 3)
        1.177
        """
        inputs = self.inputs(keys)
        if len(inputs) == 0:
            raise ValueError("keys are empty; expected held-out keys to look at; pass at least one")
        after, change = inputs @ self.weight.T, inputs @ self.change.T
        before = after - change
        lengths_before, lengths_after = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
        usual = np.sqrt(np.mean(lengths_before**2))
        with np.errstate(divide="ignore", invalid="ignore"):
            changes = np.where(usual > 0, np.linalg.norm(change, axis=1) / usual, 0.0)
            cosines = np.einsum("ij,ij->i", before, after) / (lengths_before * lengths_after)
        cosines = np.where(np.isfinite(cosines), np.clip(cosines, -1, 1), lengths_before == lengths_after)
        return Locality(
            n_keys=len(inputs),
            mean_change=float(changes.mean()),
            largest_change=float(changes.max()),
            mean_cosine=float(cosines.mean()),
            smallest_cosine=float(cosines.min()),
        )


def least_squares_edit(
    weight: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    covariance: ArrayLike,
    *,
    penalty: float = 0.0,
    preserve: ArrayLike | None = None,
) -> Edit:
    """Edit a linear layer y = W x: the smallest change of W after which keys have new values.

    Smallest is tr ΔW C ΔWᵀ, the mean squared change of the outputs over inputs with second moment C. With keys and
    values as columns, ΔW = (V − W K) Kᵀ (λ C + K Kᵀ)⁻¹, one block step of recursive least squares with covariance
    (λ C)⁻¹: the form in which language models are edited. At λ = 0, its limit, the new values are exact.

    Parameters
    ----------
    weight : (outputs, inputs)
        Weights of the layer, as `torch.nn.Linear` keeps them.
    keys : (N, inputs) or (inputs,)
        Inputs whose outputs are to change.
    values : (N, outputs) or (outputs,)
        Their new outputs, without the layer's bias.
    covariance : (inputs, inputs)
        Second moment C of the layer's inputs, symmetric: ``x.T @ x / len(x)`` for a sample x (n, inputs).
    penalty : float, at least 0
        λ: above 0, the values are met as far as the change of other outputs allows.
    preserve : (P, inputs) or (inputs,), optional
        Inputs whose outputs stay as they are.

    Returns
    -------
    Edit
        The new weights, and `locality(held_out_keys)`.

    Raises
    ------
    TypeError, ValueError
        If an array is unusable, C is not positive semidefinite, or a key to edit depends linearly on the others and
        on those to preserve.

    References
    ----------
    Meng, Bau, Andonian and Belinkov (2022), "Locating and Editing Factual Associations in GPT" (ROME), equation 2;
    Meng, Sharma, Andonian, Belinkov and Bau (2023), "Mass-Editing Memory in a Transformer" (MEMIT), equation 14.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weight, inputs = rng.standard_normal((3, 8)), rng.standard_normal((100, 8))
    >>> edit = least_squares_edit(weight, inputs[0], [1.0, 2.0, 3.0], inputs.T @ inputs / 100)
    >>> (edit.weight @ inputs[0]).round(9)
    array([1., 2., 3.])
    >>> edit.locality(inputs[1:]).mean_change < 0.5
    True
    """
    layer = _finite("weight", weight)
    if layer.size == 0:
        raise ValueError(f"weight has shape {layer.shape}; expected at least one input and output; pass a layer")
    n_outputs, n_inputs = layer.shape
    key_rows = _finite("keys", keys, n_inputs)
    value_rows = _finite("values", values, n_outputs)
    _checks.refuse_unequal_lengths(len(key_rows), len(value_rows))
    metric = _finite("covariance", covariance, n_inputs)
    _refuse_asymmetric("covariance", metric)
    held = np.empty((0, n_inputs)) if preserve is None else _finite("preserve", preserve, n_inputs)
    penalty = _checked_penalty(penalty)
    if not (nonzero := key_rows.any(axis=1)).all():
        raise ValueError(
            f"key {int(np.argmin(nonzero))} is all zeros; expected keys with a direction, since every layer "
            f"gives 0 for zeros; drop it"
        )
    errors = value_rows - key_rows @ layer.T
    change = smallest_change(metric, held[held.any(axis=1)], key_rows, errors, penalty).T
    return Edit(layer + change, change, partial(_finite, "keys", width=n_inputs))


class Editing(MemoryCore):
    """Edits of a memory."""

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
        `forget` forgets what was stored, not an edit. Several edits at once equal the same edits one after the other.

        With a penalty λ the values are met as far as what is stored allows: the keys become pairs of weight 1/λ,
        which count in `n_stored`, are not fixed, and cannot be forgotten.

        O(D³), as the first recall after a store. Rules "ridge" and "rls".

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Keys whose recall is to change, stored or not.
        values : (N, value_dim) or (value_dim,)
            What they are to recall.
        preserve : (P, key_dim) or (key_dim,), optional
            Keys whose recall is to stay.
        penalty : float, at least 0
            λ; 0 meets the values exactly.
        metric : (n, key_dim) or (rank, rank), optional
            What measures a change: a sample of keys whose recalls should change little, or the second moment of their
            folded features. None takes G + αI of what is stored: the stored keys, and then the length of the change.
            With another metric the change is as if the values stored had been others, by what it changes of their
            recalls; forgetting a pair stored before then leaves a trace.

        Returns
        -------
        Edit
            With a report of what changed elsewhere, `locality(held_out_keys)`.

        Raises
        ------
        TypeError, ValueError
            If keys, values or metric are unusable; if the rule cannot hold an edit; if a key depends on others that
            are fixed; or if with a given metric the change reaches where nothing is stored and the rule has no
            penalty. Nothing is changed then.

        References
        ----------
        As in `least_squares_edit`; docs/theory.md for the state after an edit.

        Examples
        --------
        >>> from assocmem import AssociativeMemory
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
        self._refuse_uneditable()
        key_table, value_table = self._checked_pairs(keys, values)
        held_table, _ = _checks.as_rows("preserve", [] if preserve is None else preserve, self.key_dim, self.dtype)
        _checks.refuse_nonfinite("preserve", held_table)
        penalty = _checked_penalty(penalty)
        measure = None if metric is None else self._metric(metric)
        edited, held = (self.features.fold(table).astype(np.float64) for table in (key_table, held_table))
        targets = value_table.astype(np.float64)
        with self._writing:
            state = self._copied_state()
            before = np.array(self.rule.weights(state), np.float64)
            _unfix(state, edited)
            _fix(state, held, held @ before)
            if penalty == 0:
                _fix(state, edited, targets)
            if measure is not None:
                self._change_in_metric(state, before, measure, edited, targets, penalty)
            elif penalty > 0:
                self.rule.store(state, edited / np.sqrt(penalty), targets / np.sqrt(penalty))
            self.rule.renew(state)
            solved = self.rule.weights(state)
            after = np.array(solved, np.float64)
            self._publish(state, solved.astype(self.dtype, copy=False))
        return Edit(after.T, (after - before).T, self.features.fold)

    def _change_in_metric(
        self,
        state: State,
        before: Matrix64,
        metric: Matrix64,
        edited: Matrix64,
        targets: Matrix64,
        penalty: float,
    ) -> None:
        """Make the state one whose weights are those before and their smallest change in a metric."""
        if state["n_stored"] == 0:
            raise ValueError("nothing is stored; expected pairs before an edit in another metric; store some first")
        fixed, values = fixed_rows(state)
        if penalty == 0:
            change = smallest_change(metric, fixed[:0], fixed, values - fixed @ before, 0.0)
        else:
            change = smallest_change(metric, fixed, edited, targets - edited @ before, penalty)
        self.rule.renew(state)
        shift = before + change - self.rule.weights(state)
        image, alpha = symmetric_product(state["gram"], shift), self.rule.penalty(state) or 0.0
        # As if the values stored had been larger by what `shift` recalls; the last term lets α shrink towards it.
        state["squared_values"] += (shift * (2 * state["cross"] + image)).sum(axis=0)
        state["cross"] += image + alpha * shift
        state["n_shifted"] += 1
        self.rule.renew(state)
        missed = float(np.linalg.norm(self.rule.weights(state) - before - change))
        if missed > REACHED * float(np.linalg.norm(change)):
            raise ValueError(
                "with this metric the change reaches directions in which nothing is stored, where a rule without a "
                "fixed penalty keeps no weights; expected Ridge(alpha) or RecursiveLeastSquares(alpha) with a number "
                "above 0; build the memory with one, or leave out the metric"
            )

    def _metric(self, metric: ArrayLike) -> Matrix64:
        """Second moment of folded features, lower triangle, from itself or from a sample of keys."""
        try:
            given = np.asarray(metric)
        except ValueError:
            raise ValueError(
                "metric has rows of different lengths; expected a table; pad or drop the odd rows"
            ) from None
        if given.shape == (self.rank, self.rank):
            moment = _finite("metric", given, self.rank)
            _refuse_asymmetric("metric", moment)
            return moment
        if given.ndim != 2 or given.shape[1] != self.key_dim or len(given) == 0:
            raise ValueError(
                f"metric has shape {given.shape}; expected a sample of keys (n, {self.key_dim}) or the second moment "
                f"of folded features ({self.rank}, {self.rank}); pass one of them, or none"
            )
        table, _ = _checks.as_rows("metric", given, self.key_dim, self.dtype)
        _checks.refuse_nonfinite("metric", table)
        moment = np.zeros((self.rank, self.rank))
        for _, features in self._features_of(table):
            add_gram(moment, features.astype(np.float64, copy=False), 1 / len(table))
        return moment

    def _refuse_uneditable(self) -> None:
        if "gram" not in self._state:
            raise ValueError(
                f"rule {self.rule.name!r} cannot hold an edit: whatever it stores next changes all recalls; expected "
                f"rule 'ridge' or 'rls'; build the memory with one of them, or edit a layer with least_squares_edit"
            )


LARGEST_PENALTY = 1e150


def _fix(state: State, features: Matrix64, values: Matrix64) -> None:
    """Fix recalls, beside those that are fixed already."""
    if len(features):
        state.update(zip(FIXED, extended(fixed_rows(state), features, values), strict=True))


def _unfix(state: State, features: Matrix64) -> None:
    """Let go of the recalls of keys that are edited again, or of positive multiples of them."""
    fixed, values = fixed_rows(state)
    if len(fixed) and len(features):
        ours, theirs = (rows / np.sqrt(row_squares(rows))[:, None] for rows in (fixed, features))
        others = (ours @ theirs.T).max(axis=1) < 1 - DEPENDENT**2 / 2
        state.update(zip(FIXED, (fixed[others], values[others]), strict=True))


def _finite(name: str, array: ArrayLike, width: int | None = None) -> Matrix64:
    """Return a finite float64 table, of rows of a given length."""
    if width is None:
        given = np.asarray(array)
        if given.ndim != 2:
            raise ValueError(f"{name} has shape {given.shape}; expected (outputs, inputs); pass the matrix of a layer")
        width = given.shape[1]
    rows, _ = _checks.as_rows(name, array, width, np.dtype(np.float64))
    _checks.refuse_nonfinite(name, rows)
    return rows


def _refuse_asymmetric(name: str, matrix: Matrix64) -> None:
    if len(matrix) != matrix.shape[1] or np.abs(matrix - matrix.T).max() > 1e-6 * np.abs(matrix).max():
        raise ValueError(
            f"{name} of shape {matrix.shape} is not symmetric; expected a second moment; compute it as "
            f"x.T @ x / len(x) of a sample x"
        )


def _checked_penalty(penalty: float) -> float:
    number = _checks.as_number("penalty", penalty, 0.0, LARGEST_PENALTY)
    if 0 < number < 1 / LARGEST_PENALTY:
        raise ValueError(f"penalty is {number}; expected 0 or at least {1 / LARGEST_PENALTY:g}; pass 0")
    return number
