"""Coverage of the intervals that a memory gives, novelty of digits, and accuracy of edits and residuals."""

from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from assocmem.rules import Rule
from benchmarks.timing import machine, table

SPLITS = 4
TRIALS = 4
KEY_DIM, RANK = 128, 640
EXPANSIONS, LOADS = (4, 16), (0.2, 0.5, 0.7, 0.9)
TINY = {"SPLITS": 1, "TRIALS": 1, "KEY_DIM": 32, "RANK": 160, "EXPANSIONS": (1, 1), "LOADS": (0.5,)}
NINETY = 1.6448536269514722  # 90 % of a Gaussian lies within so many deviations
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # keys and values to store, to ask for


# ---------------------------------------------------------------------------------------------------- coverage


def covered(memory: AssociativeMemory, data: Pairs) -> tuple[float, float, float]:
    """Share of values within their 90 % interval, root mean square error, root mean square deviation."""
    keys, values, queries, wanted = data
    memory.store(keys, values)
    recalled, deviation = memory.recall(queries, return_confidence=True)
    error = np.abs(recalled - wanted)
    # Constant values are recalled to rounding, with a deviation of rounding.
    inside = error <= np.maximum(NINETY * deviation, 1e-9)
    return float(inside.mean()), float(np.sqrt(np.mean(error**2))), float(np.sqrt(np.mean(deviation**2)))


def coverage_row(what: str, build: Callable[[], AssociativeMemory], draw: Callable[[int], Pairs], n: int) -> list[str]:
    memory = build()
    data = [draw(seed) for seed in range(n)]
    shares, errors, deviations = np.array([covered(build(), each) for each in data]).T
    rule = repr(memory.rule).replace("(alpha=None, decay=1.0)", "()")
    load = len(data[0][0]) / memory.rank
    return [
        what, rule, f"{load:.2f}", f"{shares.mean():.3f}", f"{shares.min():.3f} to {shares.max():.3f}",
        f"{errors.mean():.3f}", f"{deviations.mean():.3f}",
    ]  # fmt: skip


def digits_row(target: str, rule: Rule, expansion: int) -> list[str]:
    images, labels = load_digits(return_X_y=True)
    keys, values = (
        (images / 16, np.eye(10)[labels]) if target == "labels" else (images[:, :32] / 16, images[:, 32:] / 16)
    )

    def draw(seed: int) -> Pairs:
        order = np.random.default_rng(seed).permutation(len(keys))
        stored, asked = order[:1200], order[1200:]
        return keys[stored], values[stored], keys[asked], values[asked]

    return coverage_row(
        f"digits, {target}",
        lambda: AssociativeMemory(keys.shape[1], values.shape[1], expansion=expansion, bias=1.0, rule=rule),
        draw,
        SPLITS,
    )


def synthetic_row(kind: str, rule: Rule, load: float) -> list[str]:
    """Gaussian keys, 8 values: unrelated to the keys, linear or a network of them, with noise."""

    def draw(seed: int) -> Pairs:
        rng = np.random.default_rng(seed)
        n, n_asked = round(load * RANK), 500
        keys, noise = rng.standard_normal((n + n_asked, KEY_DIM)), rng.standard_normal((n + n_asked, 8))
        if kind == "noisy keys, unrelated values":
            lengths = np.linalg.norm(keys[:n], axis=1, keepdims=True)
            other = rng.standard_normal((n, KEY_DIM))
            other -= (other * keys[:n]).sum(axis=1, keepdims=True) * keys[:n] / lengths**2
            other *= lengths / np.linalg.norm(other, axis=1, keepdims=True)
            return keys[:n], noise[:n], 0.9 * keys[:n] + np.sqrt(1 - 0.9**2) * other, noise[:n]
        if kind == "linear":
            values = keys @ rng.standard_normal((KEY_DIM, 8)) / np.sqrt(KEY_DIM) + 0.3 * noise
        elif kind == "network":
            hidden = np.tanh(2 * keys @ rng.standard_normal((KEY_DIM, 64)) / np.sqrt(KEY_DIM))
            values = hidden @ rng.standard_normal((64, 8)) / 8 + 0.1 * noise
        else:
            values = noise
        return keys[:n], values[:n], keys[n:], values[n:]

    return coverage_row(kind, lambda: AssociativeMemory(KEY_DIM, 8, rule=rule), draw, TRIALS)


# ----------------------------------------------------------------------------------------------------- novelty


def novelty_rows() -> list[list[str]]:
    """AUROC of telling digits of unseen classes from unseen digits of stored classes; a split stores five classes."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    scores: dict[str, list[float]] = {}
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        known = rng.permutation(10)[:5]
        order = rng.permutation(len(images))
        is_known = np.isin(labels[order], known)
        inside, novel = order[is_known], order[~is_known]
        stored, queries = inside[:600], np.concatenate([inside[600:], novel])
        is_novel = np.isin(queries, novel)
        values = np.eye(10)[labels[stored]]
        small, large = EXPANSIONS
        cases = [(small, rule) for rule in (Ridge(), Ridge(alpha=1.0), Ridge(alpha=100.0), Ridge(alpha="gcv"))]
        for expansion, rule in [*cases, (large, Ridge()), (large, Ridge(alpha=100.0))]:
            memory = AssociativeMemory(64, 10, expansion=expansion, bias=1.0, rule=rule)
            memory.store(images[stored], values)
            name = f"leverage, {rule}, D = {memory.rank}"
            scores.setdefault(name, []).append(roc_auc_score(is_novel, memory.leverage(images[queries])))
        neighbours = NearestNeighbors(n_neighbors=5).fit(images[stored])
        distances, _ = neighbours.kneighbors(images[queries])
        for k in (1, 3, 5):
            name = f"mean distance to {k} nearest of all stored"
            scores.setdefault(name, []).append(roc_auc_score(is_novel, distances[:, :k].mean(axis=1)))
    return [
        [name, f"{np.mean(each):.3f}", f"{np.min(each):.3f} to {np.max(each):.3f}"] for name, each in scores.items()
    ]


# ---------------------------------------------------------------------------------------------------- exactness


def apart(got: np.ndarray, expected: np.ndarray) -> str:
    return f"{np.abs(got - expected).max() / np.abs(expected).max():.0e}"


def exactness_row(rule: Rule, load: float) -> list[str]:
    """Residuals against memories that never stored the pair; edits."""
    rng = np.random.default_rng(0)
    n = round(load * RANK)
    keys, values = rng.standard_normal((n, KEY_DIM)), rng.standard_normal((n, 8))

    def build(rows: np.ndarray) -> AssociativeMemory:
        memory = AssociativeMemory(KEY_DIM, 8, rule=rule)
        memory.store(keys[rows], values[rows])
        return memory

    everything = np.arange(n)
    memory = build(everything)
    residuals = memory.leave_one_out(keys[1:6], values[1:6])
    never = np.array([values[i] - build(np.delete(everything, i)).recall(keys[i]) for i in range(1, 6)])
    strange, wanted = rng.standard_normal((40, KEY_DIM)), rng.standard_normal((20, 8))
    held, in_turn = strange[20:], build(everything)
    before = memory.recall(held)
    memory.edit(strange[:20], wanted, held)
    for i in reversed(range(20)):
        in_turn.edit(strange[i], wanted[i], held)
    others = rng.standard_normal((100, KEY_DIM))
    return [
        str(rule), f"{load}", apart(residuals, never), apart(memory.recall(strange[:20]), wanted),
        apart(memory.recall(held), before), apart(in_turn.recall(others), memory.recall(others)),
    ]  # fmt: skip


def main() -> None:
    print(machine())
    rows = [
        digits_row(target, rule, expansion)
        for target in ("labels", "lower half from upper half")
        for expansion in EXPANSIONS
        for rule in (Ridge(alpha="gcv"), Ridge(alpha=1.0), Ridge())
    ]
    rows += [
        synthetic_row(kind, rule, load)
        for kind in ("unrelated values", "linear", "network")
        for rule in (Ridge(alpha="gcv"), Ridge())
        for load in LOADS
    ]
    kind = "noisy keys, unrelated values"
    rows += [synthetic_row(kind, Ridge(query_cosine=0.9), load) for load in LOADS]
    rows += [synthetic_row(kind, Ridge(), load) for load in (LOADS[0], LOADS[-1])]
    print(table(["values", "rule", "load", "within 90 %", "over splits", "error", "deviation"], rows))
    print()
    print(table(["novelty of unseen classes by", "AUROC", "over splits"], novelty_rows()))
    print()
    rules = (Ridge(), Ridge(alpha=1.0), RecursiveLeastSquares(alpha=1.0))
    header = ["rule", "load", "leave-one-out", "edited", "preserved", "at once and in turn"]
    print(table(header, [exactness_row(rule, load) for rule in rules for load in (LOADS[0], LOADS[-1])]))
