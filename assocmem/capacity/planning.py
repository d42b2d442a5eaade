"""Planning: which memory holds so many pairs with so little error, or how many pairs a budget of bytes holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from assocmem.capacity.samples import KeySample, refuse_unpredictable
from assocmem.cell import PENDING
from assocmem.core import checks
from assocmem.laws.prediction import KINDS, pairs_within, predicted_error
from assocmem.laws.sample import SampleTooSmallError
from assocmem.memory import AssociativeMemory
from assocmem.rules import RecursiveLeastSquares, Rule, as_rule
from assocmem.rules.arrays import Shape

LARGEST_KEY_DIM = 2**20

# Beyond m = d²/4 units the measured error is more than a tenth above the law: no plan relies on it there.
UNITS_PER_SQUARED_KEY_DIM = 0.25

# A sample tells also beyond, but the features of more units than products of two key coordinates add little; and sums
# of a larger rank do not fit into the memory of most machines.
UNITS_WITH_SAMPLE, LARGEST_RANK = 1.0, 2**16


@dataclass(frozen=True)
class Plan:
    """A memory that satisfies a request, before it is built.

    `penalty` is relative, α / (D · mean ‖x‖²), and `rule` holds it in the form that `AssociativeMemory` takes: for
    "rls" as an alpha for keys of the mean square of the sample, or of norm 1 without one. `sample_size` is the number
    of sample keys from which the error is predicted, 0 if it is by the laws for keys with random directions. Sizes are
    in bytes, operations in additions and multiplications a pair; `solve_operations` come once, at the first recall
    after a store. Solving needs another `rank`² · 8 bytes while it runs.
    """

    key_dim: int
    value_dim: int
    expansion: int
    rank: int
    rule: Rule
    dtype: str
    kind: str
    query_cosine: float
    pairs: int
    load: float
    penalty: float
    predicted_error: float
    bytes_in_memory: int
    bytes_on_disk: int
    store_operations: int
    recall_operations: int
    solve_operations: int
    sample_size: int = 0

    def build(self, seed: int = 0) -> AssociativeMemory:
        """Return the empty memory."""
        return AssociativeMemory(
            self.key_dim, self.value_dim, expansion=self.expansion, rule=self.rule, seed=seed, dtype=self.dtype
        )


@dataclass(frozen=True)
class _Request:
    """The conditions that every candidate must satisfy."""

    key_dim: int
    value_dim: int
    error: float
    kind: str
    query_cosine: float
    rule: Rule
    dtype: np.dtype[Any]
    sample: KeySample | None = None

    @property
    def padded(self) -> int:
        return int(2 ** (self.key_dim - 1).bit_length())

    @property
    def most_blocks(self) -> int:
        if self.sample is None:
            return max(1, int(UNITS_PER_SQUARED_KEY_DIM * self.key_dim**2 / self.padded))
        return max(1, int(min(UNITS_WITH_SAMPLE * self.key_dim**2, LARGEST_RANK) / self.padded))

    def shape(self, expansion: int) -> Shape:
        return Shape(self.key_dim, expansion, True, self.value_dim, self.dtype)

    def tuned(self, expansion: int, pairs: int) -> tuple[Rule, float]:
        """The rule with its best penalty, and that penalty relative to D."""
        rule, penalty = self.rule.tuned(self.query_cosine, pairs, self.shape(expansion))
        if self.sample is not None and isinstance(rule, RecursiveLeastSquares) and rule.alpha is not None:
            rule = replace(rule, alpha=rule.alpha * self.sample.mean_square)
        return rule, penalty

    def predicted(self, expansion: int, pairs: int) -> float:
        if self.sample is not None:
            penalty = self.tuned(expansion, pairs)[1]
            return self.sample.error(self.rule, pairs, expansion, penalty, self.kind, self.value_dim)
        return predicted_error(
            self.rule,
            pairs / self.shape(expansion).rank,
            self.query_cosine,
            self.kind,
            key_dim=self.key_dim,
            expansion=expansion,
            value_dim=self.value_dim,
            penalty=self.tuned(expansion, pairs)[1],
        )

    def known_error(self, expansion: int, pairs: int) -> float:
        """The predicted error; NaN where the sample is too small to tell."""
        try:
            return self.predicted(expansion, pairs)
        except SampleTooSmallError:
            return math.nan

    def suffices(self, expansion: int, pairs: int) -> bool:
        """Whether the error is allowed, also where more pairs than the sample tells about have too large a one."""
        try:
            return self.predicted(expansion, pairs) <= self.error
        except SampleTooSmallError as refusal:
            if self.known_error(expansion, refusal.known) > self.error:
                return False
            raise

    def most_pairs(self, expansion: int) -> int:
        """Largest number of pairs up to which the error is known and allowed; 0 if it is not even for one."""
        rank = self.shape(expansion).rank
        return pairs_within(self.error, lambda pairs: self.known_error(expansion, pairs), 1, rank)

    def sizes(self, expansion: int) -> tuple[int, int]:
        """Bytes in memory and on disk."""
        cost, item = self.rule.cost(self.shape(expansion)), self.dtype.itemsize
        weights = self.shape(expansion).rank * self.value_dim * item
        only_weights = cost.state_bytes <= weights
        # Weights that are solved for, or converted from a state in float64, are arrays of their own.
        solved = 0 if only_weights or (cost.solve_operations == 0 and item == 8) else weights
        pending = PENDING * (self.key_dim + self.value_dim) * item
        signs = 3 * expansion * self.padded
        return cost.state_bytes + solved + pending + signs, cost.state_bytes + (0 if only_weights else weights)


@np.errstate(under="ignore")
def plan(
    key_dim: int,
    value_dim: int,
    pairs: int | None = None,
    *,
    error: float = 0.01,
    kind: str = "sign",
    query_cosine: float = 1.0,
    rule: str | Rule = "ridge",
    dtype: DTypeLike = "float64",
    memory_bytes: int | None = None,
    keys: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> Plan:
    """Size a memory: the smallest that holds `pairs`, or the one within `memory_bytes` that holds the most.

    By the laws for keys with random directions; with a sample of keys, by what the sample tells about keys like it.

    Parameters
    ----------
    key_dim, value_dim : int
        Lengths of keys and values; for kind "onehot" value_dim is the number of classes.
    pairs : int, optional
        Pairs to hold; give this, or memory_bytes, or both.
    error : float in (0, 1]
        Largest error allowed: of the kind below.
    kind : {"sign", "gaussian", "onehot"}
        Share of wrong signs of ±1 values, mean squared error of values of variance 1, share of wrong classes.
    query_cosine : float in (0, 1]
        Cosine of the queries to the stored keys. With a cosine of 1 no penalty is used, and a sample of n keys then
        tells about at most n pairs.
    rule : {"ridge", "rls", "delta", "hebbian"} or a rule object
        Penalties of "ridge" and "rls" are chosen for the queries, whatever the object says.
    dtype : {"float64", "float32"}
        As for `AssociativeMemory`.
    memory_bytes : int, optional
        Bytes that the memory may take.
    keys : (n, key_dim), optional
        A sample of keys like those to be stored, drawn from them at random, for "ridge", "rls" and "hebbian". Some
        hundreds take seconds, 2000 a minute; of more, 2000 at equal distances are used. Near-duplicates, such as
        overlapping patches of an image, are rarer in a small sample than among the stored keys, and not foreseen. Keys
        of unequal lengths share one penalty: scaled to one length they may need a far smaller memory. For a memory with
        a center, pass the sample without it, sample − center.
    queries : (n, key_dim), optional
        A noisy query for each sample key, in the same order, if the noise is not isotropic; the penalty is then chosen
        for their mean cosine, in the place of `query_cosine`.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If no expansion satisfies the request, with the nearest that one does; if the sample is too small to tell.

    Examples
    --------
    >>> best = plan(key_dim=128, value_dim=16, pairs=500, error=0.01, query_cosine=0.9)
    >>> best.expansion, best.rank, round(best.load, 2), best.predicted_error <= 0.01
    (19, 2560, 0.2, True)
    >>> plan(key_dim=128, value_dim=16, memory_bytes=10**7).pairs
    1201

    Real keys are correlated, and a sample of them tells what random ones would not:

    >>> rng = np.random.default_rng(0)
    >>> sample = rng.standard_normal((300, 16)) @ rng.standard_normal((16, 64)) + rng.standard_normal((300, 64))
    >>> plan(64, 16, 100, error=0.05, query_cosine=0.9).expansion
    3
    >>> best = plan(64, 16, 100, error=0.05, query_cosine=0.9, keys=sample)
    >>> best.expansion, round(best.predicted_error, 3)
    (6, 0.046)
    """
    size = checks.as_size("key_dim", key_dim)
    cosine = checks.as_number("query_cosine", query_cosine, 0.0, 1.0, open_low=True)
    chosen = _with_law(as_rule(rule))
    sample = _sample_of(keys, size, queries, cosine, chosen)
    request = _Request(
        key_dim=size,
        value_dim=checks.as_size("value_dim", value_dim, 2 if kind == "onehot" else 1),
        error=checks.as_number("error", error, 0.0, 1.0, open_low=True),
        kind=checks.as_choice("kind", kind, KINDS),
        query_cosine=cosine if sample is None else sample.query_cosine,
        rule=chosen,
        dtype=checks.as_dtype(dtype),
        sample=sample,
    )
    budget = None if memory_bytes is None else checks.as_size("memory_bytes", memory_bytes)
    if pairs is not None:
        return _smallest(request, checks.as_size("pairs", pairs), budget)
    if budget is None:
        raise ValueError("neither pairs nor memory_bytes is given: give at least one of them")
    return _fullest(request, budget)


def _with_law(rule: Rule) -> Rule:
    if rule.law(0.5, 1.0, 0.0, 0.0) is None:
        raise ValueError(
            f"no law is known for the error of {rule}: plan for 'ridge', 'rls', 'delta' or 'hebbian' with decay=1.0"
        )
    return rule


def _sample_of(
    keys: ArrayLike | None, key_dim: int, queries: ArrayLike | None, query_cosine: float, rule: Rule
) -> KeySample | None:
    if keys is None:
        if queries is not None:
            raise ValueError("queries were given without keys: pass the sample keys that they are noisy versions of")
        return None
    refuse_unpredictable(rule)
    return KeySample(keys, key_dim, queries, query_cosine)


def _smallest(request: _Request, pairs: int, budget: int | None) -> Plan:
    expansion = _smallest_expansion(request, pairs)
    if expansion is None:
        raise ValueError(_alternatives(request, pairs))
    answer = _answer(request, expansion, pairs)
    if budget is not None and answer.bytes_in_memory > budget:
        raise ValueError(
            f"{pairs} pairs at an error of {request.error:g} need {answer.bytes_in_memory} bytes (expansion "
            f"{expansion}), more than the {budget} allowed. Allow more, or store fewer pairs: "
            f"{_best_within(request, budget)[1]} fit into the budget"
        )
    return answer


def _smallest_expansion(request: _Request, pairs: int) -> int | None:
    """The smallest expansion with an error within the bound; None if there is none.

    With a sample not all are tried: errors fall with the expansion but for small steps, so doublings bracket it.
    """
    if request.sample is None:
        every = range(1, request.most_blocks + 1)
        return next((each for each in every if request.suffices(each, pairs)), None)
    past = 0
    for within in _doublings(request.most_blocks):
        if request.suffices(within, pairs):
            while within - past > 1:
                middle = (past + within) // 2
                past, within = (past, middle) if request.suffices(middle, pairs) else (middle, within)
            return within
        past = within
    return None


def _doublings(most: int) -> Iterator[int]:
    """1, 2, 4 and so on, and the largest."""
    expansion = 1
    while expansion < most:
        yield expansion
        expansion *= 2
    yield most


def _fullest(request: _Request, budget: int) -> Plan:
    expansion, pairs = _best_within(request, budget)
    if expansion == 0:
        raise ValueError(
            f"memory_bytes must be at least {request.sizes(1)[0]}, the smallest memory for these keys and values with "
            f"rule {request.rule.name!r}, got {budget}. Allow more, or plan for a smaller key_dim or value_dim"
        )
    if pairs == 0:
        raise ValueError(_alternatives(request, 1))
    request.predicted(expansion, pairs + 1)  # where the sample is too small to tell, it says so
    return _answer(request, expansion, pairs)


def _best_within(request: _Request, budget: int) -> tuple[int, int]:
    """The expansion within a budget that holds the most pairs, and their number; (0, 0) if none fits.

    With a sample not all are tried: pairs grow with the expansion but for the last ones.
    """
    expansions = range(1, request.most_blocks + 1)
    fitting = [expansion for expansion in expansions if request.sizes(expansion)[0] <= budget]
    if request.sample is not None and fitting:
        fitting = list(_doublings(fitting[-1]))
    return max(((each, request.most_pairs(each)) for each in fitting), key=lambda found: found[1], default=(0, 0))


def _alternatives(request: _Request, pairs: int) -> str:
    """Say that no memory satisfies a request, and which request would be: fewer pairs, a larger error, longer keys."""
    most = request.most_blocks
    expansions = {1, max(1, most // 2), most} if request.sample is None else set(_doublings(most))
    held = max(request.most_pairs(expansion) for expansion in expansions)
    errors = [request.known_error(expansion, pairs) for expansion in expansions]
    reached = min((error for error in errors if not math.isnan(error)), default=math.nan)
    possible = f"up to {held} pairs" if held else "queries nearer to the stored keys"
    if request.sample is not None:
        return (
            f"no memory satisfies this: {pairs} pairs of keys like the sample at an error of {request.error:g} are "
            f"more than any expansion up to {most} holds. Possible are {possible}"
        ) + ("" if math.isnan(reached) else f", or an error of {reached:.3g}")
    longer = request
    while longer.key_dim < LARGEST_KEY_DIM:
        longer = replace(longer, key_dim=2 * longer.key_dim)
        if min(longer.predicted(longer.most_blocks, pairs), longer.predicted(1, pairs)) <= request.error:
            possible += f", or key_dim={longer.key_dim}"
            break
    return (
        f"no memory satisfies this: {pairs} pairs with keys of length {request.key_dim} at an error of "
        f"{request.error:g} are more than any expansion up to {most} holds, beyond which the laws are no longer "
        f"accurate. Possible are {possible}, or an error of {reached:.3g}"
    )


def _answer(request: _Request, expansion: int, pairs: int) -> Plan:
    shape = request.shape(expansion)
    rule, penalty = request.tuned(expansion, pairs)
    cost = rule.cost(shape)
    in_memory, on_disk = request.sizes(expansion)
    fold = 3 * expansion * request.padded * request.padded.bit_length()
    return Plan(
        key_dim=request.key_dim,
        value_dim=request.value_dim,
        expansion=expansion,
        rank=shape.rank,
        rule=rule,
        dtype=request.dtype.name,
        kind=request.kind,
        query_cosine=request.query_cosine,
        pairs=pairs,
        load=pairs / shape.rank,
        penalty=penalty,
        predicted_error=request.predicted(expansion, pairs),
        bytes_in_memory=in_memory,
        bytes_on_disk=on_disk,
        store_operations=fold + cost.store_operations,
        recall_operations=fold + 2 * shape.rank * request.value_dim,
        solve_operations=cost.solve_operations,
        sample_size=0 if request.sample is None else request.sample.size,
    )
