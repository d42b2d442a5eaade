"""Attractors: recall repeatedly, with the result as the next key, until a stored pattern is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.core.jit import kernel, reduction
from assocmem.core.threads import run_in_row_blocks
from assocmem.features.crelu import fold_key
from assocmem.features.hadamard import copy_into
from assocmem.features.readout import weighted_row_sums

ACTIVATIONS: Final = ("sign", "normalize", "clip")
_SIGN, _NORMALIZE, _CLIP = range(3)

REASONS: Final = ("fixed point", "cycle", "limit", "undefined")
_FIXED_POINT, _CYCLE, _LIMIT, _UNDEFINED = range(4)

# Keys that a thread works on at a time: each row of weights is read once for all of them.
_SLOTS = 16

# Multiplications of one step that a thread must have for itself before another is woken.
_MIN_WORK = 2**18


@dataclass(frozen=True)
class Settled:
    """Where keys went, from `AssociativeMemory.settle`; for one key without the first axis.

    Parameters
    ----------
    states : (N, key_dim)
        The last state of every key, of the memory's dtype.
    steps : (N,) int64
        Steps from the key to this state.
    reasons : (N,) str
        Why the key was left there: "fixed point", "cycle", "limit" (of the steps) or "undefined" (the recall was
        zero, or beyond the range of numbers: the state is the last one before it).
    """

    states: NDArray[Any]
    steps: NDArray[np.int64]
    reasons: NDArray[np.str_]

    def first(self) -> Settled:
        """The first key alone, without the first axis."""
        return Settled(self.states[0], self.steps[0], self.reasons[0])


# ------------------------------------------------------------------------------------------------------- kernels


@kernel
def _activate(activation: int, previous: NDArray[Any], length: float, recalled: NDArray[Any]) -> bool:
    """Turn what was recalled from `previous` into the next state, in place; False if it cannot be one."""
    peak = 0.0
    for i in range(recalled.shape[0]):
        if not np.isfinite(recalled[i]):
            return False
        peak = max(peak, abs(np.float64(recalled[i])))
    if peak == 0.0:
        return False
    if activation == _SIGN:
        for i in range(recalled.shape[0]):
            negative = recalled[i] < 0.0 or (recalled[i] == 0.0 and previous[i] < 0.0)
            recalled[i] = -1.0 if negative else 1.0
    elif activation == _NORMALIZE:
        squares = 0.0
        for i in range(recalled.shape[0]):
            squares += (np.float64(recalled[i]) / peak) ** 2  # of size 1: no square leaves the number range
        for i in range(recalled.shape[0]):
            recalled[i] = np.float64(recalled[i]) / peak * (length / np.sqrt(squares))
    else:
        for i in range(recalled.shape[0]):
            recalled[i] = min(max(recalled[i], -1.0), 1.0)
    return True


@reduction
def _is_near(state: NDArray[Any], other: NDArray[Any], tol: float) -> bool:
    """Whether the distance is at most tol times the length of the state; equality at tol = 0."""
    squares = distance = 0.0
    for i in range(state.shape[0]):
        squares += np.float64(state[i]) * np.float64(state[i])
        distance += (np.float64(state[i]) - np.float64(other[i])) ** 2
    return bool(distance <= tol * tol * squares)


@kernel
def _stopping_reason(
    activation: int,
    tol: float,
    step: int,
    max_steps: int,
    length: float,
    state: NDArray[Any],
    marked: NDArray[Any],
    recalled: NDArray[Any],
) -> int:
    """Take one step from `state`, given what it recalls; why to stop afterwards, or -1.

    Brent (1980): the state is marked at steps 1, 2, 4, 8, ...; a cycle of any period comes back to a mark.
    """
    if not _activate(activation, state, length, recalled):
        return _UNDEFINED
    if _is_near(recalled, state, tol):
        return _FIXED_POINT
    copy_into(state, recalled)
    if _is_near(state, marked, tol):
        return _CYCLE
    if step == max_steps:
        return _LIMIT
    if step & (step - 1) == 0:
        copy_into(marked, state)
    return -1


@kernel
def _settle_rows(
    start: int,
    stop: int,
    keys: NDArray[Any],
    bias: float,
    signs: NDArray[np.int8],
    linear: float,
    scale: float,
    mean: float,
    center: NDArray[Any],
    weights: NDArray[Any],
    activation: int,
    max_steps: int,
    tol: float,
    lengths: NDArray[np.float64],
    states: NDArray[Any],
    steps: NDArray[np.int64],
    reasons: NDArray[np.int8],
) -> None:
    """Settle keys in a few slots: a key that is done leaves its slot to the next one.

    What a key goes through does not depend on the keys beside it, to the last bit.
    """
    p, (rank, d) = signs.shape[2], weights.shape
    padded, x, y = np.zeros(p, keys.dtype), np.empty(p, keys.dtype), np.empty(p, keys.dtype)
    centred = np.empty(d, keys.dtype)
    n_slots = min(_SLOTS, stop - start)
    state, marked = np.empty((n_slots, d), keys.dtype), np.empty((n_slots, d), keys.dtype)
    folded, recalled = np.empty((n_slots, rank), keys.dtype), np.empty((n_slots, d), keys.dtype)
    key_in = np.empty(n_slots, np.int64)
    n_active, waiting = 0, start
    while n_active or waiting < stop:
        while n_active < n_slots and waiting < stop:
            copy_into(state[n_active], keys[waiting])
            copy_into(marked[n_active], keys[waiting])
            key_in[n_active], steps[waiting] = waiting, 0
            n_active += 1
            waiting += 1
        for slot in range(n_active):
            for i in range(d):
                centred[i] = state[slot, i] - center[i]
            fold_key(centred, bias, signs, linear, scale, mean, folded[slot], padded, x, y)
        weighted_row_sums(folded[:n_active], weights, recalled[:n_active])
        for slot in range(n_active - 1, -1, -1):  # downward: the last slot is done when it fills an empty one
            n = key_in[slot]
            reason = _stopping_reason(
                activation, tol, steps[n] + 1, max_steps, lengths[n], state[slot], marked[slot], recalled[slot]
            )
            if reason in (-1, _CYCLE, _LIMIT):
                steps[n] += 1
            if reason >= 0:
                reasons[n] = reason
                copy_into(states[n], state[slot])
                n_active -= 1
                key_in[slot] = key_in[n_active]
                copy_into(state[slot], state[n_active])
                copy_into(marked[slot], marked[n_active])


def settle(cell: Cell, keys: NDArray[Any], activation: str, max_steps: int, tol: float) -> Settled:
    """Settle checked keys (N, key_dim); see `AssociativeMemory.settle`."""
    key_dim, value_dim = cell.features.key_dim, cell.shape.value_dim
    if value_dim != key_dim:
        raise ValueError(
            f"settle needs values as long as keys, since a recall becomes the next key; this memory has "
            f"key_dim={key_dim} and value_dim={value_dim}; build it with value_dim={key_dim}"
        )
    chosen = ACTIVATIONS.index(checks.as_choice("activation", activation, ACTIVATIONS))
    limit = min(checks.as_size("max_steps", max_steps), 2**62)
    nearness = 0.0 if chosen == _SIGN else checks.as_number("tol", tol, 0.0, 1.0)
    rows = checks.to_dtype(keys, cell.shape.dtype)
    if chosen == _SIGN:
        checks.refuse_zeros_and_ones([rows], 'activation "sign"')
    view = cell.view()
    states, steps = np.empty_like(rows), np.empty(len(rows), np.int64)
    reasons, lengths = np.empty(len(rows), np.int8), np.linalg.norm(rows.astype(np.float64), axis=1)
    center = np.zeros(key_dim, rows.dtype)
    if cell.features.center is not None:
        center += cell.features.center
    given = (rows, *cell.features.kernel_arguments, center, view.weights, chosen, limit, nearness, lengths)
    min_rows = max(1, _MIN_WORK // view.weights.size)
    run_in_row_blocks(_settle_rows, len(rows), min_rows, *given, states, steps, reasons)
    return Settled(states, steps, np.array(REASONS)[reasons])
