"""Diagnosis of a memory in use: how full it is, how well it recalls, and for how many more pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assocmem.cell import Cell
from assocmem.core import checks
from assocmem.laws import Recalled
from assocmem.laws.prediction import KINDS, MOST_PAIRS, errors_of, pairs_within, predicted_error
from assocmem.laws.real_keys import pretended_error
from assocmem.operations import from_sums, rehearsal
from assocmem.operations.rehearsal import Sample
from assocmem.rules import Hebbian
from assocmem.rules.base import AdditiveRule
from assocmem.rules.ridge import ONE_PENALTY, Ridge
from assocmem.rules.solve import LARGEST_RATIO

SAMPLE, SUMS, LAW, NONE = "sample", "sums", "law", "none"
MOST_TIMES = 1e6  # as many pairs as there are, up to which room is looked for in a spectrum
LONG_MEAN = 0.25  # of the mean squared length of the keys, from which their mean is worth subtracting
TELLING = 1.5  # times the pairs stored, of which a memory must be able to tell to be its own sample
FEWEST = 60  # pairs whose error is known well enough to match the law with it

_WHAT = {
    "sign": ("wrong signs", "{:.2%}"),
    "gaussian": ("squared error", "{:.3g}"),
    "onehot": ("wrong classes", "{:.2%}"),
}
_SOURCES = {
    SAMPLE: "pretending to store each key of the sample, with a value that does not depend on the key",
    SUMS: "the sums that the memory keeps of its keys and values",
    LAW: "the law for keys with random directions; for real keys, diagnose(keys=...) tells",
    NONE: "nothing, since no law is known here; diagnose(keys=...) tells",
}
_ROOM = {LAW: ", by the law for keys with random directions"}


@dataclass(frozen=True)
class Diagnosis:
    """Load, predicted errors and room of a memory; `print` shows them in a few lines.

    Parameters
    ----------
    n_stored, rank : int
        Pairs stored, and D.
    load : float
        N / D.
    clean_error, noisy_error : float
        Predicted error for queries that equal a stored key, and for noisy ones; NaN where nothing predicts it.
    query_cosine : float
        Cosine of the noisy queries; of queries that were given, the mean.
    kind : str
        That of the errors: "sign", "gaussian" or "onehot".
    source : str
        What predicts them: "sample" (keys that were given), "sums" (what the memory knows of its keys and values),
        "law" (for keys with random directions), or "none".
    centred : bool
        Whether the memory has a center, so that cosines are those of keys and queries without it.
    error, pairs_left : float, int or None
        Error allowed for noisy queries, and the number of further pairs of the kind up to which it stays within that
        all the way, for values that do not depend on keys; None where nothing predicts it.
    room_source : str
        What predicts that: with "sums" and "sample" the memory is a sample of what it would hold, as far as it can
        tell. With fewer pairs than the rank next to no penalty, and beyond a rank of 4,096, it is "law": that for
        random keys, which is less sure, from the number of them on that would have the error that there is.
    effective_rank : float
        Directions that the keys use, Σ s/(s + α) over the eigenvalues of G, for a penalty of at least 1e-6 of their
        mean; NaN for rules without a Gram matrix.
    unseen_error : float
        Expected squared error of values under unseen keys of the kind, as a share of the squares of the values: 1 or
        more if values do not depend on keys. NaN where nothing is left over to tell from: with fewer pairs than
        directions, where the past fades, and for rules without a Gram matrix.
    condition : float
        That of `AssociativeMemory.solution`: estimated condition number of the matrix that was factorised; NaN for
        rules that solve nothing.
    warning : str
        Empty unless a predicted error is above the one allowed, or a prediction lacks something.
    """

    n_stored: int
    rank: int
    load: float
    clean_error: float
    noisy_error: float
    query_cosine: float
    kind: str
    source: str
    centred: bool
    error: float
    pairs_left: int | None
    room_source: str
    effective_rank: float
    unseen_error: float
    condition: float
    warning: str

    def __str__(self) -> str:
        what, form = _WHAT[self.kind]
        used = "" if math.isnan(self.effective_rank) else f", {self.effective_rank:,.1f} directions in use"
        errors = ["unknown" if math.isnan(each) else form.format(each) for each in (self.clean_error, self.noisy_error)]
        left = "unknown" if self.pairs_left is None else f"{self.pairs_left:,} more pairs, of values unrelated to keys,"
        unseen = (
            "unknown" if math.isnan(self.unseen_error) else f"{self.unseen_error:.3g} times the squares of the values"
        )
        return "\n".join([
            f"stored         {self.n_stored:,} pairs in rank {self.rank:,}: load {self.load:.3g}{used}",
            f"{what:<15}{errors[0]} for stored keys, {errors[1]} for queries at cosine {self.query_cosine:.3g}"
            f"{' after centring' if self.centred else ''}",
            f"predicted by   {_SOURCES[self.source]}",
            f"room           {left} until {form.format(self.error)} at that cosine{_ROOM.get(self.room_source, '')}",
            f"unseen keys    squared error {unseen}",
            f"warning        {self.warning or 'none'}",
        ])  # fmt: skip


def diagnose(
    cell: Cell, keys: ArrayLike | None, queries: ArrayLike | None, query_cosine: float, error: float, kind: str
) -> Diagnosis:
    """Diagnose a memory; see `AssociativeMemory.diagnose`."""
    cosine = checks.as_number("query_cosine", query_cosine, 0.0, 1.0)
    allowed = checks.as_number("error", error, 0.0, 1.0, open_low=True)
    kind = checks.as_choice("kind", kind, KINDS)
    sample = checked_sample(cell, keys, queries, cosine)
    with cell.writing:
        return Diagnosing(cell, kind, cosine if sample is None else sample.query_cosine, allowed, sample).result()


def checked_sample(cell: Cell, keys: ArrayLike | None, queries: ArrayLike | None, query_cosine: float) -> Sample | None:
    """The sample that is given, with its queries, or None; refused if they do not fit."""
    if keys is None:
        if queries is not None:
            raise ValueError("queries are given without keys; pass the keys that they are noisy versions of as keys=")
        return None
    table = directions(cell, "keys", checks.as_table("keys", keys, cell.features.key_dim)[0])
    if not len(table):
        raise ValueError("keys have no rows; pass a sample of keys like the stored ones, some hundreds if possible")
    if queries is None:
        return Sample(table, None, query_cosine).some(rehearsal.MOST).drawn()
    asked = checks.read_array("queries", queries)
    if asked.ndim not in (2, 3) or asked.shape[:: asked.ndim - 1] != table.shape or not asked.size:
        n, d = table.shape
        raise ValueError(
            f"queries have shape {asked.shape}; expected ({n}, {d}), one noisy version of each of the {n} keys, or "
            f"({n}, q, {d}), q versions of each"
        )
    asked = asked.reshape(len(table), -1, table.shape[1])
    asked = np.stack([directions(cell, "queries", asked[:, version]) for version in range(asked.shape[1])], axis=1)
    return Sample(table, asked, rehearsal.mean_cosine(table, asked)).some(rehearsal.MOST)


def directions(cell: Cell, name: str, keys: NDArray[Any]) -> NDArray[Any]:
    """Keys or queries without the center, in the memory's dtype; refused where noise has no direction to turn."""
    rows = cell.features.centred(checks.to_dtype(keys, cell.shape.dtype))
    checks.refuse_nonfinite(name, rows)
    if not (some := rows.any(axis=1)).all():
        what = "all zeros" if cell.features.center is None else "the center of the memory"
        raise ValueError(
            f"row {int(np.argmin(some))} of {name} is {what}, a key without a direction that noise could turn; drop it"
        )
    checks.refuse_bad_keys(rows, 0.0, centred=cell.features.center is not None)
    return rows


class Diagnosing:
    """One diagnosis of the current state of a cell; inside `writing`."""

    def __init__(self, cell: Cell, kind: str, query_cosine: float, error: float, sample: Sample | None) -> None:
        self.cell, self.rule, self.state = cell, cell.rule, cell.current()
        self.kind, self.cosine, self.error, self.sample = kind, query_cosine, error, sample
        if isinstance(self.rule, Ridge) and self.rule.per_output and self.state.n_stored:
            raise ValueError(ONE_PENALTY.format(rule=self.rule))
        self.solution = cell.solution()
        self.n, self.shape = self.state.n_stored, self.state.shape
        self.sums = from_sums.sums_to_tell_from(self.rule, self.state)
        self.source = self.found_source()

    def found_source(self) -> str:
        """What predicts the errors."""
        if self.sample is not None:
            noisy = self.state.sums.n_noisy if self.state.sums is not None else 0
            if noisy:
                raise ValueError(
                    f"{noisy} pairs were stored with noise, and sample keys would be stored without; diagnose a memory "
                    f"whose pairs were stored without query_cosine, or without keys"
                )
            return SAMPLE
        if self.sums is not None and self.sums.knows_keys:
            return SUMS
        return NONE if math.isnan(self.by_law(max(self.n, 1), self.cosine)) else LAW

    def result(self) -> Diagnosis:
        """The diagnosis."""
        clean, noisy = self.errors()
        left, room_source = self.room(noisy)
        effective = from_sums.freedom(self.cell) if self.has_gram else math.nan
        return Diagnosis(
            n_stored=self.n,
            rank=self.shape.rank,
            load=self.n / self.shape.rank,
            clean_error=clean,
            noisy_error=noisy,
            query_cosine=self.cosine,
            kind=self.kind,
            source=self.source,
            centred=self.cell.features.center is not None,
            error=self.error,
            pairs_left=left,
            room_source=room_source,
            effective_rank=effective,
            unseen_error=math.nan if self.sums is None else from_sums.unseen_error(self.cell, effective),
            condition=self.solution.condition,
            warning=self.warning(clean, noisy),
        )

    @property
    def has_gram(self) -> bool:
        """Whether there is a Gram matrix of something."""
        return self.state.sums is not None and self.n > 0 and self.state.sums.level > 0.0

    # ------------------------------------------------------------------------------------------------------ errors

    def errors(self) -> tuple[float, float]:
        """Errors for stored keys and for noisy queries."""
        if self.source == SAMPLE:
            return self.by_sample(self.recalls[0]), self.by_sample(self.recalls[1])
        if self.source == SUMS:
            return self.by_sums(1.0), self.by_sums(self.cosine)
        return (self.by_law(self.n, 1.0), self.by_law(self.n, self.cosine)) if self.n else (0.0, 0.0)

    @cached_property
    def recalls(self) -> tuple[rehearsal.Recalls, rehearsal.Recalls]:
        """Recalls of the sample, clean and noisy."""
        assert self.sample is not None
        return rehearsal.recalls(self.cell, self.sample)

    def by_sample(self, found: rehearsal.Recalls, growth: float = 1.0) -> float:
        """Error of recalls whose crosstalk has grown."""
        sizes = rehearsal.value_sizes(self.rule, self.state)
        return pretended_error(self.kind, found.shares, growth * found.crosstalk, sizes)

    def by_sums(self, cosine: float) -> float:
        """Error of the stored pairs."""
        return self.mean_error(from_sums.recalled(self.cell, cosine))

    def mean_error(self, law: Recalled) -> float:
        """Mean error of recalls of a law; a class that is recalled with the wrong sign is as good as not recalled."""
        if self.kind == "onehot":
            law = replace(law, mean=np.maximum(law.mean, 0.0))
        return float(np.mean(errors_of(law, self.kind, self.shape.value_dim)))

    def by_law(self, pairs: int, cosine: float) -> float:
        """Error of so many pairs of random keys; NaN where no law is known."""
        if not self.shape.whiten:
            return math.nan
        sizes = {"key_dim": self.shape.key_dim, "expansion": self.shape.expansion, "value_dim": self.shape.value_dim}
        load, penalty = pairs / self.shape.rank, self.penalty(pairs) * pairs / self.shape.rank
        return predicted_error(self.rule, load, cosine, self.kind, **sizes, penalty=penalty)

    def penalty(self, pairs: int) -> float:
        """α for so many pairs, as a share of the mean eigenvalue of G for as many."""
        level = 0.0 if self.state.sums is None else self.state.sums.level
        known = pairs == self.n or self.rule.alpha_is_expensive
        alpha = self.solution.alpha if known else self.rule.alpha_for(self.state, pairs)
        return min((alpha or 0.0) / level, LARGEST_RATIO) * self.n / pairs if level > 0.0 else 0.0

    # -------------------------------------------------------------------------------------------------------- room

    def room(self, noisy: float) -> tuple[int | None, str]:
        """Further pairs until the error allowed, None where nothing tells, and what tells."""
        if not math.isnan(noisy) and noisy > self.error:
            return 0, self.source
        if math.isnan(noisy) and self.source == SUMS:
            return None, NONE
        predicted, source = self.predicted_for_more(noisy)
        if math.isnan(predicted(max(self.n, 1))):
            return None, NONE
        most = MOST_PAIRS if source == LAW else int(MOST_TIMES * self.n)
        found = pairs_within(self.error, predicted, max(self.n, 1), self.shape.rank, most)
        return max(found - self.n, 0), source

    def predicted_for_more(self, noisy: float) -> tuple[Callable[[int], float], str]:
        """The error at the cosine for any number of pairs, and what predicts it."""
        if self.source == SAMPLE and isinstance(self.rule, Hebbian) and self.rule.decay == 1.0 and self.n:
            return lambda pairs: self.by_sample(self.recalls[1], math.sqrt(pairs / self.n)), SAMPLE
        if self.source in (SAMPLE, SUMS) and self.sums is not None and self.shape.rank <= from_sums.LARGEST_SPECTRUM:
            most = from_sums.decomposed(self.cell).spectrum.most_pairs(self.share(self.n))
            if most >= TELLING * self.n:  # otherwise these pairs cannot tell of more at so small a penalty
                return self.by_spectrum(), self.source
        return self.by_matched_law(noisy), LAW

    def by_matched_law(self, noisy: float) -> Callable[[int], float]:
        """The law for random keys, from the number of them on that would have the error that there is."""
        scale = 1.0
        if self.source in (SAMPLE, SUMS) and self.sums is not None and noisy > 0.0 and self.n >= FEWEST:
            alike = pairs_within(noisy, lambda pairs: self.by_law(pairs, self.cosine), 1, self.shape.rank)
            scale = max(alike, 1) / self.n
        return lambda pairs: self.by_law(max(round(pairs * scale), 1), self.cosine)

    def share(self, pairs: int) -> float:
        """α for so many pairs, as a share of the mean eigenvalue of the G that there is."""
        return self.penalty(pairs) * pairs / self.n

    def by_spectrum(self) -> Callable[[int], float]:
        """The error for any number of pairs, with the memory as a sample of them."""
        spectrum = from_sums.decomposed(self.cell).spectrum
        own = None if self.sample is not None else from_sums.stored_keys(self.cell, self.cosine)
        others = None if self.sample is None else from_sums.sample_keys(self.cell, self.sample)

        def predicted(pairs: int) -> float:
            like = spectrum.equivalent(pairs, self.share(pairs))
            if like is None:
                return math.nan
            law = others.law(spectrum, like) if others is not None else own.law(spectrum, like, pairs)  # type: ignore[union-attr]
            return self.mean_error(law)

        return predicted

    # ----------------------------------------------------------------------------------------------------- warnings

    def warning(self, clean: float, noisy: float) -> str:
        """What is above the error allowed, and what to do; and what a prediction lacks."""
        found = [self.passed(clean, noisy)]
        if self.source == SAMPLE and (self.rule.fading is not None or not isinstance(self.rule, AdditiveRule)):
            found.append(
                f"under {self.rule} the errors are those of the newest pair; older pairs are recalled worse, as far as "
                f"later ones have changed the weights"
            )
        if self.source == SUMS and math.isnan(noisy):
            found.append(
                "the keys are too unlike Gaussian ones of their mean and covariance, for example in their lengths, for "
                "the sums to tell the errors of noisy queries; diagnose(keys=...) tells"
            )
        if self.source == LAW and self.sums is not None:
            found.append(
                "the file of these pairs is of a format that held no sum of the keys, so that errors are those of keys "
                "with random directions; diagnose(keys=...) tells, or store the pairs again"
            )
        return "; ".join(filter(None, found))

    def remedy(self) -> str:
        """What makes errors smaller."""
        sums, center = self.sums, ""
        if sums is not None and sums.knows_keys and self.cell.features.center is None:
            mean = float(np.sum(sums.key_sum**2)) / self.n
            squares = float(np.trace(sums.gram[: len(sums.key_sum), : len(sums.key_sum)]))
            if mean > LONG_MEAN * squares:
                center = "subtract the mean of the keys, with center= or before, "
        return f"{center}build a memory with a larger expansion, or forget pairs"

    def passed(self, clean: float, noisy: float) -> str:
        """Which error is above the one allowed; empty if none is."""
        n, rank, error = self.n, self.shape.rank, self.error
        remedy = self.remedy()
        form = _WHAT[self.kind][1]
        if not (clean > error or noisy > error):
            return ""
        exact = self.state.sums is not None and self.penalty(max(n, 1)) == 0.0
        if n > rank and exact:
            return f"past capacity: {n} pairs in rank {rank} can no longer be recalled exactly; {remedy}"
        if n > rank and self.state.sums is not None and clean > error:
            return (
                f"{n} pairs in rank {rank} are a least-squares fit, with {form.format(clean)} error for stored keys; "
                f"for values that do not depend on the keys {remedy}"
            )
        if clean > error and self.source == SAMPLE:
            return (
                f"{form.format(clean)} error for values that do not depend on their keys; classes and other values "
                f"that do are recalled better, as a diagnosis without keys tells; for the former {remedy}"
            )
        if clean > error and self.penalty(max(n, 1)) > 0.0:
            return f"the penalty leaves {form.format(clean)} error for the stored keys themselves; {remedy}"
        if clean > error:
            return f"past capacity: {form.format(clean)} error even for the stored keys themselves; {remedy}"
        cure = f"give the rule a penalty, for example Ridge(query_cosine={self.cosine:.3g}), or " if exact else ""
        return f"{form.format(noisy)} error for queries at cosine {self.cosine:.3g}; {cure}{remedy}"
