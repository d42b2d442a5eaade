"""Learning rules, and their registry."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from assocmem.rules.arrays import Shape
from assocmem.rules.base import AdditiveRule, Rule, Solved, State
from assocmem.rules.delta import DeltaRule
from assocmem.rules.hebbian import Hebbian
from assocmem.rules.ridge import Ridge
from assocmem.rules.rls import RecursiveLeastSquares

__all__ = [
    "RULES",
    "AdditiveRule",
    "DeltaRule",
    "Hebbian",
    "RecursiveLeastSquares",
    "Ridge",
    "Rule",
    "Shape",
    "Solved",
    "State",
    "as_rule",
    "register",
]

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Hebbian, DeltaRule, Ridge, RecursiveLeastSquares)}

AnyRule = TypeVar("AnyRule", bound=type[Rule])


def register(rule: AnyRule) -> AnyRule:
    """Make a learning rule known by its name, to `AssociativeMemory` and to the files that it saves.

    Parameters
    ----------
    rule : class
        A frozen dataclass of numbers that subclasses `Rule` or `AdditiveRule`, with a `name` of its own. It is
        returned, so that this is also a decorator.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from assocmem import AssociativeMemory, Rule, Solved, State, register
    >>> @dataclass
    ... class Means(State):
    ...     weights: np.ndarray
    >>> @register
    ... @dataclass(frozen=True)
    ... class MeanRule(Rule):
    ...     name = "mean"
    ...     def start(self, shape):
    ...         return Means(shape, np.zeros((shape.rank, shape.value_dim)))
    ...     def store(self, state, features, values):
    ...         state.weights += features.T @ values
    ...         state.n_stored += len(features)
    ...     def solve(self, state):
    ...         return Solved(state.weights / max(state.n_stored, 1))
    >>> memory = AssociativeMemory(key_dim=2, value_dim=1, rule="mean")
    >>> memory.store([1.0, 2.0], [3.0])
    >>> memory.n_stored
    1
    """
    if not (isinstance(rule, type) and issubclass(rule, Rule) and dataclasses.is_dataclass(rule)):
        raise TypeError(f"rule must be a dataclass that subclasses assocmem.Rule, got {rule!r}")
    name = getattr(rule, "name", None)
    if not isinstance(name, str) or not name:
        raise TypeError(f"{rule.__name__}.name must be a string that names the rule in files, got {name!r}")
    known = RULES.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (rule.__module__, rule.__qualname__):
        raise ValueError(f"the name {name!r} belongs to the rule {known.__qualname__}; give {rule.__name__} another")
    RULES[name] = rule
    return rule


def as_rule(rule: str | Rule) -> Rule:
    """Return a rule given as an object or by name, or refuse."""
    if isinstance(rule, Rule):
        return rule
    known = ", ".join(repr(name) for name in RULES)
    if not isinstance(rule, str):
        raise TypeError(f"rule must be one of {known} or a rule object such as Ridge(alpha=1.0), got {rule!r}")
    if rule not in RULES:
        raise ValueError(f"rule must be one of {known} or a rule object, got {rule!r}; check the spelling")
    return RULES[rule]()
