"""Plans from a sample of real keys: predicted errors beside measured ones, and plans that are built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from assocmem import AssociativeMemory, Ridge
from assocmem.capacity import noisy_keys, plan
from assocmem.capacity.samples import KeySample
from assocmem.laws.sample import SampleTooSmallError
from assocmem.rules import Rule
from benchmarks.keysets import Keys, sets_named
from benchmarks.timing import table

VALUE_DIM, ASKED = 64, 500  # outputs, and stored pairs that are asked for
COSINES = (1.0, 0.95, 0.9, 0.8)

# Predictions: sample keys, loads of the memory, and penalties in mean eigenvalues.
SAMPLES, LOADS, PENALTIES = (150, 600), (0.15, 0.5, 1.0, 1.5, 3.0), (0.01, 0.1, 1.0)
RELATIVE, ABSOLUTE = 0.12, 0.007  # differences up to which a prediction is right
EXPANSIONS = {"digits": 2, "MNIST": 1}  # few keys, long keys
EXPANSION = 4

# Plans: sample keys, and what is asked for.
PLAN_SAMPLE, PLAN_PAIRS, PLAN_ERRORS, PLAN_COSINES = 400, (100, 300), (0.05, 0.15), (1.0, 0.95, 0.9)

TINY = {
    "SAMPLES": (60,),
    "LOADS": (0.5,),
    "PENALTIES": (0.1,),
    "COSINES": (1.0, 0.9),
    "EXPANSION": 1,
    "EXPANSIONS": {},
    "PLAN_SAMPLE": 60,
    "PLAN_PAIRS": (30,),
    "PLAN_ERRORS": (0.15,),
    "PLAN_COSINES": (0.9,),
}

Sets = Mapping[str, Callable[..., Keys]]


@dataclass(frozen=True)
class Prediction:
    """A measured error, and the predicted one; None where the sample is too small to tell."""

    keys: str
    sample: int
    pairs: int
    rank: int
    penalty: float
    cosine: float
    measured: float
    predicted: float | None

    @property
    def is_right(self) -> bool:
        """Whether the two agree."""
        assert self.predicted is not None
        return abs(self.predicted - self.measured) <= max(RELATIVE * self.measured, ABSOLUTE)


@dataclass(frozen=True)
class Promise:
    """What a plan promised, and what was measured when it was built and filled with other keys."""

    keys: str
    pairs: int
    cosine: float
    allowed: float
    expansion: int
    predicted: float
    measured: float

    @property
    def is_kept(self) -> bool:
        """Whether the measured error is at most what was allowed, but for the accuracy of predictions."""
        return self.measured <= self.allowed + max(RELATIVE * self.allowed, ABSOLUTE / 2)


def filled(keys: Keys, expansion: int, rule: Rule, rng: np.random.Generator) -> tuple[AssociativeMemory, np.ndarray]:
    """A memory of keys with random values of ±1, and the values."""
    memory = AssociativeMemory(keys.shape[1], VALUE_DIM, expansion=expansion, rule=rule)
    values = rng.choice([-1.0, 1.0], (len(keys), VALUE_DIM))
    memory.store(keys, values)
    return memory, values


def groups(keys: Keys, pairs: int) -> list[Keys]:
    """The first pairs; or as many groups of few pairs as `ASKED` needs, if there are enough."""
    return [keys[start : start + pairs] for start in range(0, min(ASKED, len(keys) - pairs + 1), pairs)]


def wrong_signs(memory: AssociativeMemory, queries: Keys, values: np.ndarray) -> float:
    return float((memory.recall(queries) * values < 0).mean())


# ---------------------------------------------------------------------------------------------------- predictions


def predictions(sets: Sets) -> list[Prediction]:
    """Errors of memories of up to three times their rank, and predictions from samples of other keys."""
    found = []
    for name, draw in sets.items():
        keys = draw(np.random.default_rng(0))
        expansion = EXPANSIONS.get(name, EXPANSION)
        samples = {
            (n, cosine): KeySample(keys[:n], keys.shape[1], None, cosine) for n, cosine in product(SAMPLES, COSINES)
        }
        others = keys[max(SAMPLES) :]
        for load in LOADS:
            found += predictions_at(name, others, expansion, load, samples)
    return found


def predictions_at(
    name: str, keys: Keys, expansion: int, load: float, samples: Mapping[tuple[int, float], KeySample]
) -> list[Prediction]:
    """The predictions at one load, for every penalty, cosine and sample."""
    rank = AssociativeMemory(keys.shape[1], 1, expansion=expansion).rank
    pairs = min(round(load * rank), len(keys))
    measured: dict[tuple[float, float], list[float]] = {}
    rng = np.random.default_rng(1)
    for stored in groups(keys, pairs):
        memory, values = filled(stored, expansion, Ridge(), rng)
        level = pairs * float(np.mean(memory.features.fold(stored) ** 2))
        for share, cosine in product(PENALTIES, COSINES):
            queries = noisy_keys(stored[:ASKED], cosine, rng)
            wrong = wrong_signs(memory.with_rule(Ridge(alpha=share * level)), queries, values[:ASKED])
            measured.setdefault((share, cosine), []).append(wrong)
    found = []
    for ((share, cosine), errors), size in product(measured.items(), SAMPLES):
        try:
            sample = samples[size, cosine]
            predicted = sample.error(Ridge(), pairs, expansion, share * pairs / rank, "sign", VALUE_DIM)
        except SampleTooSmallError:
            predicted = None
        found.append(Prediction(name, size, pairs, rank, share, cosine, float(np.mean(errors)), predicted))
    return found


def print_predictions(found: list[Prediction]) -> None:
    """Counts for every set, and the predictions that are furthest off."""
    rows = []
    for name, size in dict.fromkeys((each.keys, each.sample) for each in found):
        cells = [each for each in found if (each.keys, each.sample) == (name, size)]
        told = [each for each in cells if each.predicted is not None]
        right = sum(each.is_right for each in told)
        rows.append([name, f"{size}", f"{right} of {len(told)}", f"{len(cells) - len(told)}"])
    told = [each for each in found if each.predicted is not None]
    rows.append(["all", "", f"{sum(each.is_right for each in told)} of {len(told)}", f"{len(found) - len(told)}"])
    print(f"wrong signs predicted from sample keys, within {RELATIVE:.0%} or {ABSOLUTE} of the measured")
    print(table(["keys", "sample", "right", "sample too small"], rows))
    wrong = sorted((each for each in told if not each.is_right), key=lambda each: -abs(each.predicted - each.measured))
    for each in wrong[:10]:
        print(
            f"  {each.keys}, {each.sample} sample keys, {each.pairs} pairs in rank {each.rank}, "
            f"penalty {each.penalty:g}, cosine {each.cosine:g}: measured {each.measured:.4f}, "
            f"predicted {each.predicted:.4f}"
        )


# --------------------------------------------------------------------------------------------------------- plans


def promises(sets: Sets) -> tuple[list[Promise], int]:
    """Plans from a sample, built and filled with other keys; and the number of requests that plan refused."""
    found, refused = [], 0
    for name, draw in sets.items():
        keys = draw(np.random.default_rng(0))
        sample, others = keys[:PLAN_SAMPLE], keys[PLAN_SAMPLE:]
        for pairs, allowed, cosine in product(PLAN_PAIRS, PLAN_ERRORS, PLAN_COSINES):
            try:
                answer = plan(keys.shape[1], VALUE_DIM, pairs, error=allowed, query_cosine=cosine, keys=sample)
            except ValueError:
                refused += 1
                continue
            if pairs > len(others):
                continue
            rng = np.random.default_rng(2)
            errors = []
            for stored in groups(others, pairs):
                memory, values = filled(stored, answer.expansion, answer.rule, rng)
                errors.append(wrong_signs(memory, noisy_keys(stored, cosine, rng), values))
            measured = float(np.mean(errors))
            found.append(Promise(name, pairs, cosine, allowed, answer.expansion, answer.predicted_error, measured))
    return found, refused


def print_promises(found: list[Promise], refused: int) -> None:
    """The plans, and how many kept what they promised."""
    rows = [
        [
            each.keys,
            f"{each.pairs}",
            f"{each.cosine:g}",
            f"{each.allowed:g}",
            f"{each.expansion}",
            f"{each.predicted:.4f}",
            f"{each.measured:.4f}{'' if each.is_kept else ' *'}",
        ]
        for each in found
    ]
    print(f"plans from {PLAN_SAMPLE} sample keys, built and filled with other keys")
    print(table(["keys", "pairs", "cosine", "allowed", "expansion", "predicted", "measured"], rows))
    kept, strictly = sum(each.is_kept for each in found), sum(each.measured <= each.allowed for each in found)
    print(
        f"{kept} of {len(found)} kept what they promised within the accuracy of predictions, {strictly} strictly; "
        f"{refused} requests could not be satisfied, or the sample was too small to tell"
    )


def main(options: tuple[str, ...] = ()) -> None:
    """Print both tables."""
    sets = sets_named(options)
    print_predictions(predictions(sets))
    print()
    print_promises(*promises(sets))
