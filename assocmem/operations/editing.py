"""Protected edits: new values for some keys, by the smallest change of the weights, while other keys keep theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.core.warned import warn
from assocmem.rules import Rule, State
from assocmem.rules.blas import Matrix64, add_gram, norm, row_squares
from assocmem.rules.edits import Edits
from assocmem.rules.metrics import Metric, smallest_change
from assocmem.rules.sums import Sums

RECALL_ROUNDING = 1e-13  # of a recall, as a share of the lengths of features and weights

LARGEST_GROWTH = (
    4.0  # of typical outputs, beyond which an edit warns: keys that do not nearly repeat others stay below 3
)


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
    growth : float
        Root mean square output for typical inputs, as a multiple of √(that before the edit² + Σ‖value‖² / inputs):
        the second term is what the new values would take under keys unlike all others. About 1 for keys that differ
        from each other, from stored and from preserved ones; keys that nearly repeat others with other values make it
        large, as 1 over their distance. Typical inputs have the second moment C of `least_squares_edit`; those of a
        memory are random keys, whose recalls have the length of the weights.
    """

    weight: Matrix64
    change: Matrix64
    inputs: Callable[[ArrayLike], NDArray[Any]] = field(repr=False)
    growth: float = 1.0

    def __repr__(self) -> str:
        return (
            f"Edit(weight of shape {self.weight.shape}, changed by {np.abs(self.change).max(initial=0.0):.3g} at most, "
            f"growth {self.growth:.3g})"
        )

    def locality(self, keys: ArrayLike) -> Locality:
        """Report what the edit changed for held-out keys.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,), N at least 1
            Keys that were neither edited nor preserved.

        Examples
        --------
        >>> edit = least_squares_edit(np.eye(2), keys=[1.0, 0.0], values=[0.0, 1.0], covariance=np.eye(2))
        >>> round(edit.locality([[0.0, 1.0], [3.0, 4.0]]).largest_change, 3)
        1.177
        """
        inputs = self.inputs(keys)
        if len(inputs) == 0:
            raise ValueError("keys are empty; pass at least one held-out key")
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
        raise ValueError(f"weight must have at least one input and output, got shape {layer.shape}")
    n_outputs, n_inputs = layer.shape
    key_rows = _finite("keys", keys, n_inputs)
    value_rows = _finite("values", values, n_outputs)
    checks.refuse_unequal_lengths(len(key_rows), len(value_rows))
    metric = _finite("covariance", covariance, n_inputs)
    _refuse_asymmetric("covariance", metric)
    held = np.empty((0, n_inputs)) if preserve is None else _finite("preserve", preserve, n_inputs)
    penalty = _checked_penalty(penalty)
    if not (nonzero := key_rows.any(axis=1)).all():
        raise ValueError(f"key {int(np.argmin(nonzero))} is all zeros, for which every layer gives 0; drop it")
    errors = value_rows - key_rows @ layer.T
    change = smallest_change(metric, held[held.any(axis=1)], key_rows, errors, penalty).T
    usual = np.sqrt(_squared_outputs(layer, metric) + (value_rows**2).sum() / n_inputs)
    growth = _growth(np.sqrt(_squared_outputs(layer + change, metric)), usual)
    _warn_of_growth(growth, "outputs for other inputs")
    return Edit(layer + change, change, partial(_finite, "keys", width=n_inputs), growth)


def _squared_outputs(weight: Matrix64, moment: Matrix64) -> float:
    """Mean squared output tr W C Wᵀ for inputs of second moment C."""
    return float(np.maximum(np.vdot(weight, weight @ moment), 0.0))


def _growth(after: float, usual: float) -> float:
    return float(after / usual) if usual > 0 else 1.0


def _warn_of_growth(growth: float, what: str) -> None:
    if growth > LARGEST_GROWTH:
        warn(
            f"this edit makes {what} {growth:.3g} times as long as usual: a key to edit nearly repeats another one, "
            f"edited, preserved or stored, with another value, or the metric leaves the change to few directions; pass "
            f"penalty= to meet the new values as far as other recalls allow (in a memory whose rule has no penalty, "
            f"together with metric=), or leave the key out"
        )


def edit(
    cell: Cell,
    keys: NDArray[Any],
    values: NDArray[Any],
    preserve: ArrayLike | None,
    penalty: float,
    metric: ArrayLike | None,
) -> Edit:
    """Edit the recalls of checked keys; see `AssociativeMemory.edit`."""
    cell.read(lambda state: _editable_sums(cell.rule, state))
    kept, _ = checks.as_rows("preserve", [] if preserve is None else preserve, cell.features.key_dim, cell.shape.dtype)
    checks.refuse_nonfinite("preserve", kept)
    if not cell.features.bias:  # keys of zeros, once centred, recall 0, whatever is edited
        kept = kept[cell.features.centred(kept).any(axis=1)]
    cell.features.refuse_bad_keys(kept)
    penalty = _checked_penalty(penalty)
    features, preserved = (cell.features.fold(table).astype(np.float64) for table in (keys, kept))
    measure = None if metric is None else Metric.of(moment_of(cell, metric), np.vstack([preserved, features]))
    with cell.writing:
        targets = values.astype(np.float64)
        state, solved, report = edited(cell.rule, cell.copied(), features, targets, preserved, penalty, measure)
        cell.commit(state, solved)
    return Edit(report.weight, report.change, cell.features.fold, report.growth)


def edited(
    rule: Rule,
    state: State,
    features: Matrix64,
    values: Matrix64,
    preserved: Matrix64,
    penalty: float,
    metric: Metric | None,
) -> tuple[State, NDArray[Any], Edit]:
    """The state after an edit, a private copy that is changed, its weights, and the report on folded features."""
    sums = _editable_sums(rule, state)
    before = np.array(rule.solve(state).weights, np.float64)
    rounding = RECALL_ROUNDING * np.linalg.norm(preserved, axis=1) * norm(before)
    kept = sums.edits.without_keys(features).with_rows(Edits.of(preserved, preserved @ before, 0.0, metric), rounding)
    sums.edits = kept.with_rows(Edits.of(features, values, penalty, metric))
    rule.recompute(state)
    solved = rule.solve(state).weights
    after = np.array(solved, np.float64)
    growth = _memory_growth(sums, state.n_stored, before, after, features, values)
    _warn_of_growth(growth, "recalls of other keys")
    return state, solved, Edit(after.T, (after - before).T, np.asarray, growth)


def _memory_growth(
    sums: Sums, n_stored: int, before: Matrix64, after: Matrix64, features: Matrix64, values: Matrix64
) -> float:
    """Length of the weights, next to that before and what the values take under keys of typical length."""
    if not len(features):
        return 1.0
    typical = (sums.level * len(before) + float(row_squares(features).sum())) / (n_stored + len(features))
    return _growth(norm(after), float(np.hypot(norm(before), norm(values) / np.sqrt(typical))))


def release(cell: Cell, keys: NDArray[Any]) -> int:
    """Release checked keys; see `AssociativeMemory.release`."""
    features = cell.features.fold(keys).astype(np.float64)
    with cell.writing:
        state = cell.copied()
        sums = _editable_sums(cell.rule, state)
        left = sums.edits.without_keys(features)
        n_released = len(sums.edits) - len(left)
        if len(keys) and not n_released:
            implied = bool(sums.edits.holds(features).any())
            raise ValueError(
                f"none of the {len(keys)} keys was edited or preserved, of {len(sums.edits)} that were"
                + (", but those determine the recall of one; release them instead" if implied else "")
                + "; pass the keys as they were given to edit(); nothing was changed"
            )
        sums.edits = left
        cell.rule.recompute(state)
        cell.commit(state)
    return n_released


def _editable_sums(rule: Rule, state: State) -> Sums:
    if state.sums is None:
        raise ValueError(
            f"rule {rule.name!r} cannot hold an edit, since its next store changes all recalls; build the memory with "
            f"rule 'ridge' or 'rls', or edit a layer with least_squares_edit"
        )
    return state.sums


def moment_of(cell: Cell, metric: ArrayLike) -> Matrix64:
    """Second moment (D, D) of folded features, lower triangle, from itself or from a sample of keys, or refuse it."""
    try:
        given = np.asarray(metric)
    except ValueError:
        raise ValueError("metric must be a table, got rows of different lengths; pad or drop the odd rows") from None
    rank, key_dim = cell.shape.rank, cell.features.key_dim
    if _is_moment(given, rank, key_dim):
        moment = _finite("metric", given, rank)
        _refuse_asymmetric("metric", moment)
        return moment
    table, _ = checks.as_rows("metric", given, key_dim, cell.shape.dtype)
    checks.refuse_nonfinite("metric", table)
    moment = np.zeros((rank, rank))
    for _, features in cell.features_of(table):
        add_gram(moment, features.astype(np.float64, copy=False), 1 / len(table))
    return moment


def _is_moment(metric: NDArray[Any], rank: int, key_dim: int) -> bool:
    """Whether a metric is a second moment (D, D) of folded features; False for a sample of keys, or refuse it."""
    if metric.shape == (rank, rank):
        return True
    if metric.ndim != 2 or metric.shape[1] != key_dim or len(metric) == 0:
        raise ValueError(
            f"metric must be a sample of keys (n, {key_dim}) or the second moment of folded features ({rank}, {rank}), "
            f"got shape {metric.shape}"
        )
    return False


LARGEST_PENALTY = 1e150


def _finite(name: str, array: ArrayLike, width: int | None = None) -> Matrix64:
    """Return a finite float64 table, of rows of a given length."""
    if width is None:
        given = np.asarray(array)
        if given.ndim != 2:
            raise ValueError(f"{name} must be the matrix of a layer, (outputs, inputs), got shape {given.shape}")
        width = given.shape[1]
    rows, _ = checks.as_rows(name, array, width, np.dtype(np.float64))
    checks.refuse_nonfinite(name, rows)
    return rows


def _refuse_asymmetric(name: str, matrix: Matrix64) -> None:
    if len(matrix) != matrix.shape[1] or np.abs(matrix - matrix.T).max() > 1e-6 * np.abs(matrix).max():
        raise ValueError(
            f"{name} of shape {matrix.shape} is not symmetric, as a second moment is; compute it as "
            f"x.T @ x / len(x) of a sample x"
        )


def _checked_penalty(penalty: float) -> float:
    number = checks.as_number("penalty", penalty, 0.0, LARGEST_PENALTY)
    if 0 < number < 1 / LARGEST_PENALTY:
        raise ValueError(f"penalty must be 0 or at least {1 / LARGEST_PENALTY:g}, got {number}")
    return number
