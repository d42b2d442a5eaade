"""Cleaning up keys: recall again and again until a stored pattern is reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem import _checks
from assocmem._core import MemoryCore, Progress, report
from assocmem._jit import kernel, reduction, run_in_row_blocks
from assocmem.crelu import fold_key
from assocmem.hadamard import copy_into
from assocmem.noise import expect_noisy_rows
from assocmem.recall import weighted_row_sums

ACTIVATIONS: Final = ("sign", "normalize", "clip")
_SIGN, _NORMALIZE, _CLIP = range(3)

REASONS: Final = ("fixed point", "cycle", "limit", "lost")
_FIXED_POINT, _CYCLE, _LIMIT, _LOST = range(4)

# Flipped signs beyond half of them would be the other pattern, and half of them tell nothing of the key.
MOST_NOISE: Final = 0.49

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
        Why the key was left there: "fixed point", "cycle", "limit" (of the steps) or "lost" (the recall was zero, or
        beyond the range of numbers: the state is the last one before it).
    """

    states: NDArray[Any]
    steps: NDArray[np.int64]
    reasons: NDArray[np.str_]


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
        return _LOST
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
            fold_key(state[slot], bias, signs, linear, scale, mean, folded[slot], padded, x, y)
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


# -------------------------------------------------------------------------------------------------------- public


class Cleanup(MemoryCore):
    """Memories of patterns that recall themselves, and patterns stored as attractors."""

    def settle(self, keys: ArrayLike, activation: str = "sign", *, max_steps: int = 100, tol: float = 1e-6) -> Settled:
        """Recall, apply an activation, and repeat with the result as the key, until nothing changes any more.

        For memories of patterns that are their own values. Patterns stored with ``store(patterns, patterns,
        noise=0.1)`` are fixed points that attract keys from far away. Every key takes its own steps, whatever keys are
        beside it; keys that are done leave the work, and keys are shared out over threads.

        Parameters
        ----------
        keys : (N, key_dim) or (key_dim,)
            Where to start.
        activation : {"sign", "normalize", "clip"}
            What turns a recalled value into the next state: its signs, where that of 0 is the sign of the state
            before; the same direction with the length of the key; or its entries cut to [-1, 1].
        max_steps : int
            Recalls for one key at most.
        tol : float in [0, 1]
            For "normalize" and "clip": states are equal if their distance is at most this share of their length.
            Signs are compared exactly.

        Returns
        -------
        Settled
            `states` (N, key_dim) or (key_dim,), and for every key the `steps` taken and the `reasons` to stop: a
            "fixed point", which recalls itself; a "cycle" of two or more states, of which one is returned; the
            "limit" of the steps; or "lost", if zero was recalled (as from an empty memory) or a number out of range.

        Raises
        ------
        TypeError, ValueError
            If keys and values differ in length, the keys are unusable, as in `recall`, or a parameter is.

        References
        ----------
        Hopfield (1982), "Neural networks and physical systems with emergent collective computational abilities".
        "clip": Anderson, Silverstein, Ritz and Jones (1977), the brain-state-in-a-box. Cycles of any period are found
        with one state of memory: Brent (1980), "An improved Monte Carlo factorization algorithm".

        Examples
        --------
        >>> import numpy as np
        >>> from assocmem import AssociativeMemory
        >>> rng = np.random.default_rng(0)
        >>> patterns = rng.choice([-1.0, 1.0], (32, 64))
        >>> memory = AssociativeMemory(key_dim=64, value_dim=64)
        >>> memory.store(patterns, patterns, noise=0.1)
        >>> noisy = patterns * rng.choice([-1.0, 1.0], patterns.shape, p=[0.1, 0.9])
        >>> settled = memory.settle(noisy)
        >>> bool((settled.states == patterns).all()), set(settled.reasons.tolist())
        (True, {'fixed point'})
        """
        if self.value_dim != self.key_dim:
            raise ValueError(
                f"the memory has key_dim={self.key_dim} and value_dim={self.value_dim}; expected equal lengths, since "
                f"what is recalled becomes the next key; build it with value_dim={self.key_dim}"
            )
        chosen = ACTIVATIONS.index(_checks.as_choice("activation", activation, ACTIVATIONS))
        limit = min(_checks.as_size("max_steps", max_steps), 2**62)
        nearness = 0.0 if chosen == _SIGN else _checks.as_number("tol", tol, 0.0, 1.0)
        table, single = _checks.as_table("keys", keys, self.key_dim)
        self._check_keys(table)
        rows = _checks.to_dtype(table, self.dtype)
        states, steps = np.empty_like(rows), np.empty(len(rows), np.int64)
        reasons, lengths = np.empty(len(rows), np.int8), np.linalg.norm(rows.astype(np.float64), axis=1)
        with self._reading() as weights:
            given = (rows, *self.features.kernel_arguments, weights, chosen, limit, nearness, lengths)
            min_rows = max(1, _MIN_WORK // weights.size)
            run_in_row_blocks(_settle_rows, len(rows), min_rows, *given, states, steps, reasons)
        names = np.array(REASONS)[reasons]
        return Settled(states[0], steps[0], names[0]) if single else Settled(states, steps, names)

    # -------------------------------------------------------------------------------------------------- noise

    def _checked_noise(self, noise: float) -> float:
        share = _checks.as_number("noise", noise, 0.0, MOST_NOISE)
        if share:
            self.rule.refuse_noise()
        return share

    def _noisy_chunks(
        self, key_table: NDArray[Any], value_table: NDArray[Any], noise: float
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]]:
        """Mean features, values, and summed variances of the features, chunk by chunk, of checked pairs."""
        for start in range(0, len(key_table), self._chunk_rows):
            rows = _checks.to_dtype(key_table[start : start + self._chunk_rows], self.dtype)
            targets = _checks.to_dtype(value_table[start : start + self._chunk_rows], self.dtype)
            means, variances = expect_noisy_rows(self.features, rows, noise)
            yield means, targets, variances

    def _store_noisy(
        self, key_table: NDArray[Any], value_table: NDArray[Any], noise: float, progress: Progress | None
    ) -> None:
        """Store checked pairs under all noisy versions of their keys."""
        with self._writing:
            state = self._copied_state()  # an interruption leaves the old one
            for means, targets, variances in self._noisy_chunks(key_table, value_table, noise):
                self.rule.store(state, means, targets)
                self.rule.add_variances(state, variances)
                state["n_noisy"] += len(means)
                report(progress, len(means))
            self._publish(state)

    def _forget_noisy(self, key_table: NDArray[Any], value_table: NDArray[Any], noise: float) -> None:
        """Forget checked pairs that were stored with noise."""
        varied = np.zeros(self.rank)

        def blocks() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
            for means, targets, variances in self._noisy_chunks(key_table, value_table, noise):
                varied[:] += variances
                yield means, targets

        with self._writing:
            self._flush()
            if len(key_table) > self._state["n_noisy"]:
                raise ValueError(
                    f"{len(key_table)} pairs are to be forgotten with noise, and {int(self._state['n_noisy'])} were "
                    f"stored with noise; expected what was stored; forget the others without noise"
                )
            left = self.rule.forget(self._state, blocks())
            if left["n_stored"]:
                self.rule.add_variances(left, -varied)
                left["n_noisy"] -= len(key_table)
                self.rule.verify(self._state, left)
            self._publish(left)
