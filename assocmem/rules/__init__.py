"""Learning rules, and their registry."""

from __future__ import annotations

from typing import Final

from assocmem.rules.base import Rule
from assocmem.rules.delta import DeltaRule
from assocmem.rules.hebbian import Hebbian
from assocmem.rules.ridge import Ridge
from assocmem.rules.rls import RecursiveLeastSquares

__all__ = ["RULES", "DeltaRule", "Hebbian", "RecursiveLeastSquares", "Ridge", "Rule", "as_rule"]

RULES: Final[dict[str, type[Rule]]] = {rule.name: rule for rule in (Hebbian, DeltaRule, Ridge, RecursiveLeastSquares)}


def as_rule(rule: str | Rule) -> Rule:
    """Return a rule given as an object or by name, or refuse."""
    if isinstance(rule, Rule):
        return rule
    known = ", ".join(repr(name) for name in RULES)
    if not isinstance(rule, str):
        raise TypeError(
            f"rule is {rule!r}; expected one of {known} or a rule object; pass for example Ridge(alpha=1.0)"
        )
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; expected one of {known} or a rule object; check the spelling")
    return RULES[rule]()
