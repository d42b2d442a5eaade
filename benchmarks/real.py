"""Real keys: errors measured and predicted: from a sample of keys, from the sums, by the law of random keys."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from assocmem import AssociativeMemory, Hebbian, Ridge
from assocmem.capacity import noisy_keys, predicted_error
from benchmarks import plans
from benchmarks.keysets import Keys, photograph, sets_named
from benchmarks.timing import machine, table

LOADS = (0.15, 0.3, 0.8, 2.0)
PENALTIES = (0.01, 0.1, 1.0)  # in mean eigenvalues of G
COSINES = (1.0, 0.95, 0.9, 0.8)
EXPANSIONS = {"random": (5,), "digits": (8,), "photograph": (6,), "unit photograph": (6,), "words": (4,), "MNIST": (1,)}
VALUE_DIM = 32
N_SAMPLE = 400  # keys that are not stored
N_ASKED = 1000  # stored keys that are recalled, and at least LEAST_STORED in all trials
LEAST_STORED = 200
SHOWN = (1.0, 0.9)  # cosines of the rows that are printed
LEAST_DRAWN = 1e-3
PARTS = (plans,)
PICTURE = Path(__file__).parent.parent / "docs" / "real-keys.png"
TINY = {
    "LOADS": (0.5,),
    "PENALTIES": (0.1,),
    "EXPANSIONS": {"random": (1,)},
    "VALUE_DIM": 8,
    "N_SAMPLE": 50,
    "LEAST_STORED": 50,
}


def unit_photograph(rng: np.random.Generator) -> Keys:
    """Patches of the photograph, scaled to unit length: as they are, lengths spread over three decades."""
    patches = photograph(rng)
    return patches / np.linalg.norm(patches, axis=1, keepdims=True)


class Cell(NamedTuple):
    """Wrong signs of one memory at one cosine: measured, and predicted; NaN where something does not predict."""

    keys: str
    expansion: int
    pairs: int
    rank: int
    rule: str
    cosine: float
    measured: float
    sample: float
    sums: float
    law: float


def cells(name: str, draw: Callable[..., Keys], expansion: int) -> Iterator[Cell]:
    """The cells of one set of keys, each the mean of some trials with other keys of the set if it stores few."""
    for load in LOADS:
        trials = [list(trial(name, draw(np.random.default_rng([0, 0])), expansion, load, 0))]
        n = trials[0][0].pairs if trials[0] else LEAST_STORED
        trials += [
            list(trial(name, draw(np.random.default_rng([0, seed])), expansion, load, seed))
            for seed in range(1, -(-LEAST_STORED // n))
        ]
        for same in zip(*trials, strict=True):
            yield Cell(*same[0][:6], *np.mean([cell[6:] for cell in same], axis=0).tolist())


def trial(name: str, keys: Keys, expansion: int, load: float, seed: int) -> Iterator[Cell]:
    """The cells of the first keys of a set, with a sample of the others; none if these are too few."""
    rng = np.random.default_rng([1, seed])
    plain = AssociativeMemory(keys.shape[1], VALUE_DIM, expansion=expansion)
    n = round(load * plain.rank)
    if n + N_SAMPLE > len(keys):
        return
    stored, sample = keys[:n], keys[n : n + N_SAMPLE]
    values = rng.choice([-1.0, 1.0], (n, VALUE_DIM))
    plain.store(stored, values)
    features = plain.features.fold(stored)
    level = np.einsum("ij,ij->", features, features) / plain.rank
    for share in PENALTIES:
        yield from compared(name, plain.with_rule(Ridge(share * level)), f"ridge {share:g}", stored, values, sample)
    hebbian = AssociativeMemory(keys.shape[1], VALUE_DIM, expansion=expansion, rule=Hebbian())
    hebbian.store(stored, values)
    yield from compared(name, hebbian, "hebbian", stored, values, sample)


def compared(
    name: str, memory: AssociativeMemory, rule: str, stored: Keys, values: np.ndarray, sample: Keys
) -> Iterator[Cell]:
    """Cells of a memory at every cosine."""
    rng = np.random.default_rng(1_000_003)
    asked, wanted = stored[:N_ASKED], values[:N_ASKED]
    for cosine in COSINES:
        wrong = float(np.mean(memory.recall(noisy_keys(asked, cosine, rng)) * wanted < 0))
        by_sample, alone = (memory.diagnose(keys=each, query_cosine=cosine) for each in (sample, None))
        yield Cell(
            name, memory.expansion, memory.n_stored, memory.rank, rule, cosine, wrong, by_sample.noisy_error,
            alone.noisy_error if alone.source == "sums" else np.nan, by_law(memory, stored, cosine),
        )  # fmt: skip


def by_law(memory: AssociativeMemory, stored: Keys, cosine: float) -> float:
    """What the law for keys with random directions predicts."""
    squares = float(np.mean(np.einsum("ij,ij->i", stored, stored)))
    sizes = {"key_dim": memory.key_dim, "expansion": memory.expansion, "value_dim": VALUE_DIM}
    penalty = (memory.alpha or 0.0) / memory.rank / squares
    return predicted_error(memory.rule, memory.n_stored / memory.rank, cosine, "sign", penalty=penalty, **sizes)


def is_near(predicted: float, measured: float, relative: float = 0.1, absolute: float = 0.005) -> bool:
    """Whether a prediction is within a tenth, or 0.005."""
    return abs(predicted - measured) <= max(relative * measured, absolute)


def diagnosis(sets: dict[str, Callable[..., Keys]]) -> list[Cell]:
    """Print wrong signs, measured and predicted, and how many predictions are right."""
    found = [
        cell for name, draw in sets.items() for expansion in EXPANSIONS[name] for cell in cells(name, draw, expansion)
    ]
    rows = [
        [
            cell.keys, f"{cell.expansion}", f"{cell.pairs}, {cell.rank}", cell.rule, f"{cell.cosine:g}",
            *(f"{each:.3f}" for each in (cell.measured, cell.sample, cell.sums, cell.law)),
        ]
        for cell in found
        if cell.cosine in SHOWN
    ]  # fmt: skip
    print(table(["keys", "k", "pairs, rank", "rule", "cosine", "measured", "sample", "sums", "law"], rows))
    print("penalties in mean eigenvalues of G; predictions within 10 % or 0.005:")
    for source in ("sample", "sums", "law"):
        for name in [*dict.fromkeys(cell.keys for cell in found), ""]:
            known = [c for c in found if name in ("", c.keys) and not np.isnan(getattr(c, source))]
            near = sum(is_near(getattr(c, source), c.measured) for c in known)
            print(f"  {source:8} {name or 'all':16} {near} of {len(known)}")
    return found


def draw(found: list[Cell]) -> Figure:
    """Predicted over measured wrong signs, a panel for each kind of prediction."""
    panels = {
        "sample": "from a sample of keys",
        "sums": "from the sums alone (ridge)",
        "law": "by the law for random keys",
    }
    figure = Figure(figsize=(12, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    names = list(dict.fromkeys(cell.keys for cell in found))
    for axis, (source, title) in zip(axes, panels.items(), strict=True):
        axis.plot((LEAST_DRAWN, 0.5), (LEAST_DRAWN, 0.5), color="0.6", linewidth=1)
        for name, marker in zip(names, "o^svDP", strict=False):
            cells = [cell for cell in found if cell.keys == name and not np.isnan(getattr(cell, source))]
            drawn = np.array([(cell.measured, getattr(cell, source)) for cell in cells]).reshape(-1, 2)
            axis.plot(*np.maximum(drawn, LEAST_DRAWN).T, marker, markersize=4, mfc="none", label=name)
        near = [is_near(getattr(c, source), c.measured) for c in found if not np.isnan(getattr(c, source))]
        axis.set(
            xscale="log",
            yscale="log",
            title=f"{title}: {sum(near)} of {len(near)}",
            xlabel="wrong signs, measured",
        )
    axes[0].set_ylabel("predicted")
    axes[0].legend(fontsize=8)
    return figure


def main(options: tuple[str, ...] = ()) -> None:
    """Run on the small sets, and on the large ones that are named."""
    sets = sets_named(options)
    print(machine())
    found = diagnosis(
        {name: draw for name, draw in {"unit photograph": unit_photograph, **sets}.items() if name in EXPANSIONS}
    )
    draw(found).savefig(PICTURE)
    print()
    plans.main(options)
