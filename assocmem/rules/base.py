"""The contract of a learning rule: an immutable configuration with a few functions over a state of arrays."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from assocmem.core.interrupts import Uninterrupted
from assocmem.rules.arrays import Arrays, Shape, Solution
from assocmem.rules.ledger import Ledger
from assocmem.rules.sums import Sums

if TYPE_CHECKING:
    from assocmem.laws import Recalled
    from assocmem.rules.pretending import Pretender


@dataclass
class State(Arrays):
    """What a rule keeps. Subclasses are dataclasses with further fields: arrays, numbers or groups of arrays.

    Parameters
    ----------
    shape : Shape
        Sizes of the memory.
    n_stored : int
        Pairs stored and not forgotten; `Rule.store` counts them.
    ledger : Ledger or None
        Digests of these pairs, for a memory that keeps them; rules have nothing to do with it.
    whole : bool
        False while arrays are changed in place, and for good if that was cut off.
    """

    shape: Shape
    n_stored: int = field(default=0, kw_only=True)
    ledger: Ledger | None = field(default=None, kw_only=True)
    whole: ClassVar[bool] = True

    @property
    def sums(self) -> Sums | None:
        """The sums over all pairs, for rules that keep them."""
        return None

    @property
    def is_empty(self) -> bool:
        """Whether this is what `Rule.start` returns."""
        return self.n_stored == 0

    def changing(self) -> Change:
        """A block that changes arrays in place; signals wait until its end, and an exception leaves `whole` False."""
        return Change(self)


class Change(Uninterrupted):
    """A change of a state in place, from `State.changing`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __enter__(self) -> None:
        super().__enter__()
        self._state.whole = False  # type: ignore[misc]  # shadows the class attribute, which no file holds

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None:
            self._state.whole = True  # type: ignore[misc]
        super().__exit__(*raised)


@dataclass(frozen=True)
class Solved:
    """Folded weights (rank, value_dim) that a state implies, and how they were found."""

    weights: NDArray[Any]
    solution: Solution = field(default_factory=Solution)


@dataclass(frozen=True)
class Cost:
    """Bytes of a state and of the work beside it, and additions and multiplications to store a pair and to solve."""

    state_bytes: int
    work_bytes: int = 0
    store_operations: int = 0
    solve_operations: int = 0


class Rule(ABC):
    """A learning rule. Subclasses are frozen dataclasses of a few numbers, and `start`, `store` and `solve`.

    Features (B, rank) and values (B, value_dim) are finite, contiguous and of `shape.dtype`; a rule sees no keys.
    `assocmem.register` makes a rule from outside the package known by its name.
    """

    name: ClassVar[str]

    # A rule that changes arrays only inside `with state.changing()` may say True; others store on a copy.
    in_place: ClassVar[bool] = False

    @abstractmethod
    def start(self, shape: Shape) -> State:
        """Return the state of a memory that has stored nothing; ValueError if the rule does not fit the shape."""

    @abstractmethod
    def store(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Store a block of pairs, in order, and add their number to `state.n_stored`."""

    @abstractmethod
    def solve(self, state: State) -> Solved:
        """Return the weights that the state implies; they may be an array of the state."""

    # ------------------------------------------------------------------------------- what others ask of a rule

    def alpha_for(self, state: State, n_pairs: int | None = None) -> float | None:
        """Return the penalty on the squared weights in use, or for `n_pairs` like those stored; None without one."""
        return None

    def law(self, load: float, kappa: float, gap: float, penalty: float) -> tuple[Recalled, Any] | None:
        """Return the law of recalls, and the shares of its entries if it is a mixture; None where none is known."""
        return None

    def pretender(self, state: State, weights: NDArray[Any]) -> Pretender | None:
        """Return the function that tells what would be recalled had a further pair been stored; None without one.

        The weights are those that the state implies, if they are known.
        """
        return None

    def tuned(self, query_cosine: float, n_pairs: int, shape: Shape) -> tuple[Rule, float]:
        """Return the rule with the best penalty for such queries, and that penalty by D and the mean ‖x‖²."""
        return self, 0.0

    def cost(self, shape: Shape) -> Cost:
        """Return what a memory of this shape takes."""
        numbers = shape.rank * shape.value_dim
        return Cost(numbers * shape.dtype.itemsize, store_operations=2 * numbers)

    def n_effective(self, state: State) -> float | None:
        """Return the number of equally weighted pairs that tell as much; None where pairs have no weights."""
        return float(state.n_stored)

    def error_bound(self, state: State, weights: NDArray[Any]) -> float | None:
        """Return a bound on the relative rounding of the weights; None where none is known."""
        return None

    def recompute(self, state: State) -> None:
        """Recompute the solution from the sums, discarding accumulated rounding, in a private copy."""
        return

    def refuse_unless_additive(self, action: str) -> None:
        """Raise ValueError unless the state is a sum over pairs, all of one weight."""
        raise ValueError(
            f"the rule {self.name!r} cannot {action}: its weights depend on the order of the pairs, and none is kept; "
            f"build the memory with a rule whose state is a sum, 'ridge', 'rls' or 'hebbian'"
        )

    @property
    def fading(self) -> str | None:
        """The parameter by which the past fades, such as "decay=0.9"; None if all pairs weigh the same."""
        return None

    @property
    def alpha_is_expensive(self) -> bool:
        """Whether choosing the penalty costs as much as solving, so that it is better kept with the solution."""
        return False

    @property
    def noise_cosine(self) -> float | None:
        """The cosine of noisy queries that the penalty is chosen for, if it is."""
        return None

    @property
    def adds_variances(self) -> bool:
        """Whether the rule can store a key with noise, as the mean of its features and their variances."""
        return False

    def parameters(self) -> dict[str, Any]:
        """The configuration, as plain numbers that JSON can hold."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}  # type: ignore[arg-type]


class AdditiveRule(Rule):
    """A rule whose state is a sum over pairs, so that pairs can be removed and memories merged."""

    @abstractmethod
    def remove(self, state: State, features: NDArray[Any], values: NDArray[Any]) -> None:
        """Undo `store` of a block of pairs, in a private copy of a state, and subtract from `state.n_stored`."""

    @abstractmethod
    def merge(self, state: State, other: State) -> State:
        """Return the state of a memory that stored the pairs of both."""

    def check_removed(self, before: State, after: State) -> None:
        """Raise ValueError if no pairs stored could have led from one state to the other by `remove`."""
        return

    def exchange(self, state: State, features: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> None:
        """Replace the values of pairs, in a private copy of a state."""
        self.remove(state, features, old)
        self.store(state, features, new)

    def resolve(self, state: State, before: State) -> None:
        """Recompute the solution of a private copy of a state that differs from an earlier one in values alone."""
        self.recompute(state)

    def for_parts(self) -> AdditiveRule:
        """Return the rule by which other processes gather pairs; `merge` takes its states as `other`."""
        return self

    def refuse_unless_additive(self, action: str) -> None:
        """Raise ValueError if the past fades."""
        if self.fading is not None:
            raise ValueError(
                f"{type(self).__name__}({self.fading}) cannot {action}: the weight of a pair depends on when it was "
                f"stored; build the memory with decay=1.0"
            )
