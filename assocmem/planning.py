"""Planning: which memory holds so many pairs with so little error, or how many pairs a budget of bytes holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from assocmem import _checks, laws
from assocmem._core import PENDING
from assocmem.memory import AssociativeMemory
from assocmem.prediction import KINDS, predicted_error
from assocmem.rules import DeltaRule, Hebbian, RecursiveLeastSquares, Ridge, Rule, as_rule

MOST_PAIRS = 10**15
LARGEST_KEY_DIM = 2**20

# Beyond m = d²/4 units the measured error is more than a tenth above the law: no plan relies on it there.
UNITS_PER_SQUARED_KEY_DIM = 0.25


@dataclass(frozen=True)
class Plan:
    """A memory that does what was wished for, before it is built.

    `penalty` is relative, α / (D · mean ‖x‖²), and `rule` holds it in the form that `AssociativeMemory` takes: for
    "rls" as an alpha for keys of norm 1. Sizes are in bytes, operations in additions and multiplications a pair;
    `solve_operations` come once, at the first recall after a store. Solving also needs `rank`² · 8 bytes for the time
    being.
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

    def build(self, seed: int = 0) -> AssociativeMemory:
        """Return the empty memory."""
        return AssociativeMemory(
            self.key_dim, self.value_dim, expansion=self.expansion, rule=self.rule, seed=seed, dtype=self.dtype
        )


@dataclass(frozen=True)
class _Wish:
    """What every candidate is judged by."""

    key_dim: int
    value_dim: int
    error: float
    kind: str
    query_cosine: float
    rule: Rule
    dtype: np.dtype[Any]

    @property
    def padded(self) -> int:
        return int(2 ** (self.key_dim - 1).bit_length())

    @property
    def most_blocks(self) -> int:
        return max(1, int(UNITS_PER_SQUARED_KEY_DIM * self.key_dim**2 / self.padded))

    def rank(self, expansion: int) -> int:
        return self.key_dim + expansion * self.padded

    def penalty(self, expansion: int, pairs: int) -> float:
        if not isinstance(self.rule, (Ridge, RecursiveLeastSquares)):
            return 0.0
        cosine = (self.query_cosine, self.key_dim, expansion)
        load = pairs / self.rank(expansion)
        best = laws.best_penalty(load, laws.feature_cosine(*cosine), laws.feature_cosine_gap(*cosine))
        return min(float(best), 1e300)

    def predicted(self, expansion: int, pairs: int) -> float:
        return predicted_error(
            self.rule,
            pairs / self.rank(expansion),
            self.query_cosine,
            self.kind,
            key_dim=self.key_dim,
            expansion=expansion,
            value_dim=self.value_dim,
            penalty=self.penalty(expansion, pairs),
        )

    def most_pairs(self, expansion: int) -> int:
        """Return the largest number of pairs within the error; 0 if not even one is."""
        if self.predicted(expansion, 1) > self.error:
            return 0
        low, high = 1, 2
        while high < MOST_PAIRS and self.predicted(expansion, high) <= self.error:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.predicted(expansion, middle) <= self.error else (low, middle)
        return low

    def sizes(self, expansion: int) -> tuple[int, int]:
        """Bytes in memory and on disk."""
        rank, item = self.rank(expansion), self.dtype.itemsize
        layout = self.rule.full_layout(rank, self.value_dim, self.dtype)
        state = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in layout.values())
        weights = rank * self.value_dim * item
        # Hebbian and delta weights are the state itself; the others keep what they solved for.
        solved = weights if isinstance(self.rule, Ridge) or (item == 4 and "solution" in layout) else 0
        pending = PENDING * (self.key_dim + self.value_dim) * item
        on_disk = state + (0 if "weights" in layout else weights)
        return state + solved + pending + 3 * expansion * self.padded, on_disk


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
) -> Plan:
    """Size a memory by the laws: the smallest that holds `pairs`, or the most that fits into `memory_bytes`.

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
        Cosine of the queries to the stored keys.
    rule : {"ridge", "rls", "delta", "hebbian"} or a rule object
        Penalties of "ridge" and "rls" are chosen, whatever the object says.
    dtype : {"float64", "float32"}
        As for `AssociativeMemory`.
    memory_bytes : int, optional
        Bytes that the memory may take.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        If a parameter is unusable, or no memory does this; the message says what would.

    Examples
    --------
    >>> best = plan(key_dim=128, value_dim=16, pairs=500, error=0.01, query_cosine=0.9)
    >>> best.expansion, best.rank, round(best.load, 2), best.predicted_error <= 0.01
    (19, 2560, 0.2, True)
    >>> plan(key_dim=128, value_dim=16, memory_bytes=10**7).pairs
    1201
    """
    wish = _Wish(
        key_dim=_checks.as_size("key_dim", key_dim),
        value_dim=_checks.as_size("value_dim", value_dim, 2 if kind == "onehot" else 1),
        error=_checks.as_number("error", error, 0.0, 1.0, open_low=True),
        kind=_checks.as_choice("kind", kind, KINDS),
        query_cosine=_checks.as_number("query_cosine", query_cosine, 0.0, 1.0, open_low=True),
        rule=_with_law(as_rule(rule)),
        dtype=_checks.as_dtype(dtype),
    )
    budget = None if memory_bytes is None else _checks.as_size("memory_bytes", memory_bytes)
    if pairs is not None:
        return _smallest(wish, _checks.as_size("pairs", pairs), budget)
    if budget is None:
        raise ValueError("neither pairs nor memory_bytes is given; expected one of them; say what to plan for")
    return _fullest(wish, budget)


def _with_law(rule: Rule) -> Rule:
    known = isinstance(rule, DeltaRule) or rule in (Hebbian(),)
    if not known and not (isinstance(rule, (Ridge, RecursiveLeastSquares)) and rule.forgetting == 1.0):
        raise ValueError(
            f"rule is {rule}; expected one whose error has a law; plan for 'ridge', 'rls', 'delta' or 'hebbian' "
            f"without decay or forgetting"
        )
    return rule


def _smallest(wish: _Wish, pairs: int, budget: int | None) -> Plan:
    for expansion in range(1, wish.most_blocks + 1):
        if wish.predicted(expansion, pairs) <= wish.error:
            plan = _answer(wish, expansion, pairs)
            if budget is not None and plan.bytes_in_memory > budget:
                raise ValueError(
                    f"{pairs} pairs at an error of {wish.error:g} need {plan.bytes_in_memory} bytes (expansion "
                    f"{expansion}); expected at most {budget}; allow more, or store fewer: {_affordable(wish, budget)}"
                )
            return plan
    raise ValueError(_what_would(wish, pairs))


def _fullest(wish: _Wish, budget: int) -> Plan:
    expansion, pairs = _best_within(wish, budget)
    if expansion == 0:
        raise ValueError(
            f"memory_bytes is {budget}; expected at least {wish.sizes(1)[0]}, the smallest memory for these keys and "
            f"values with rule {wish.rule.name!r}; allow more, or plan for a smaller key_dim or value_dim"
        )
    if pairs == 0:
        raise ValueError(_what_would(wish, 1))
    return _answer(wish, expansion, pairs)


def _best_within(wish: _Wish, budget: int) -> tuple[int, int]:
    """The expansion within a budget that holds the most pairs, and their number; (0, 0) if none fits."""
    fitting = [expansion for expansion in _blocks(wish) if wish.sizes(expansion)[0] <= budget]
    return max(((expansion, wish.most_pairs(expansion)) for expansion in fitting), key=lambda x: x[1], default=(0, 0))


def _blocks(wish: _Wish) -> Iterator[int]:
    return iter(range(1, wish.most_blocks + 1))


def _affordable(wish: _Wish, budget: int) -> str:
    return f"{_best_within(wish, budget)[1]} fit into the budget"


def _what_would(wish: _Wish, pairs: int) -> str:
    """Say which other wishes could be granted: fewer pairs, a larger error, or longer keys."""
    most = wish.most_blocks
    held = max(wish.most_pairs(expansion) for expansion in {1, max(1, most // 2), most})
    reached = min(wish.predicted(expansion, pairs) for expansion in {1, max(1, most // 2), most})
    advice = f"up to {held} pairs" if held else "queries nearer to the stored keys"
    key_dim = wish.key_dim
    while (key_dim := 2 * key_dim) <= LARGEST_KEY_DIM:
        longer = _Wish(**{**wish.__dict__, "key_dim": key_dim})
        if min(longer.predicted(longer.most_blocks, pairs), longer.predicted(1, pairs)) <= wish.error:
            advice += f", or key_dim={key_dim}"
            break
    return (
        f"{pairs} pairs with keys of length {wish.key_dim} at an error of {wish.error:g} are more than any expansion "
        f"up to {most} holds, beyond which the laws do not reach; expected a smaller wish; "
        f"possible are {advice}, or an error of {reached:.3g}"
    )


def _answer(wish: _Wish, expansion: int, pairs: int) -> Plan:
    rank, penalty = wish.rank(expansion), wish.penalty(expansion, pairs)
    in_memory, on_disk = wish.sizes(expansion)
    rule = wish.rule
    if isinstance(rule, Ridge):
        rule = Ridge() if wish.query_cosine == 1 else Ridge(query_cosine=wish.query_cosine)
    elif isinstance(rule, RecursiveLeastSquares):
        rule = RecursiveLeastSquares(alpha=penalty * rank or None)
    fold = 3 * expansion * wish.padded * int(wish.padded).bit_length()
    store, solve = _operations(rule, rank, wish.value_dim)
    return Plan(
        key_dim=wish.key_dim,
        value_dim=wish.value_dim,
        expansion=expansion,
        rank=rank,
        rule=rule,
        dtype=wish.dtype.name,
        kind=wish.kind,
        query_cosine=wish.query_cosine,
        pairs=pairs,
        load=pairs / rank,
        penalty=penalty,
        predicted_error=wish.predicted(expansion, pairs),
        bytes_in_memory=in_memory,
        bytes_on_disk=on_disk,
        store_operations=fold + store,
        recall_operations=fold + 2 * rank * wish.value_dim,
        solve_operations=solve,
    )


def _operations(rule: Rule, rank: int, value_dim: int) -> tuple[int, int]:
    """Operations to store a pair of features and value, and to solve once."""
    outer = 2 * rank * value_dim
    if isinstance(rule, Ridge):
        return rank * (rank + 1) + outer, rank**3 // 3 + 4 * rank**2 * value_dim
    if isinstance(rule, RecursiveLeastSquares):  # the sums, R times the features, and its update
        return 2 * rank * (rank + 1) + 2 * rank**2 + 3 * outer, 0
    return (2 if isinstance(rule, DeltaRule) else 1) * outer, 0
