"""Blocks of pairs, as they are stored in a state and noted in its ledger."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from assocmem.core.interrupts import Uninterrupted
from assocmem.core.siphash import Words
from assocmem.rules.base import AdditiveRule, Rule, State


class Block(NamedTuple):
    """Features (B, D) and values (B, v) of pairs, the values None where they are to be found out.

    With noise, the variances (D,) of the features, summed over pairs; with a ledger, the digests (B, 2) of the pairs.
    """

    features: NDArray[Any]
    values: NDArray[Any] | None
    variances: NDArray[np.float64] | None = None
    digests: Words | None = None


def add(rule: Rule, state: State, block: Block) -> None:
    """Store a block in a state, and its digests in the ledger, if there is one."""
    values = cast("NDArray[Any]", block.values)
    if state.ledger is None:
        rule.store(state, block.features, values)
    else:
        digests = cast(Words, block.digests)
        state.ledger.reserve(len(digests))
        with Uninterrupted():  # the ledger has exactly the pairs that the sums have
            rule.store(state, block.features, values)
            state.ledger.add(digests)
    if block.variances is not None and state.sums is not None:
        state.sums.add_variances(block.variances)
        state.sums.n_noisy += len(block.features)


def merge(rule: AdditiveRule, state: State, other: State) -> State:
    """The state of a memory that stored the pairs of both, and the ledger of both."""
    merged = rule.merge(state, other)
    if state.ledger is not None and other.ledger is not None:
        merged.ledger = state.ledger.plus(other.ledger)
    return merged
