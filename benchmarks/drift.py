"""A stream whose mapping rotates slowly: error over time with a decay, with windows, and of padasip's RLS."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from padasip.filters import FilterRLS

from assocmem import AssociativeMemory, DeltaRule, RecursiveLeastSquares, Ridge
from benchmarks.timing import machine, table

KEY_DIM, VALUE_DIM, EXPANSION = 8, 2, 4  # rank 40: padasip multiplies D × D matrices for every pair and output
PAIRS, BURN_IN, PERIOD, NOISE, ALPHA = 6000, 1000, 6000, 0.1, 1e-2
FACTORS = (0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.998)
WINDOWS = (25, 50, 75, 100, 150, 200, 300, 400, 800)
RATES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
TINY = {"PAIRS": 60, "BURN_IN": 20, "FACTORS": (0.98, 0.99), "WINDOWS": (25,), "RATES": (0.2,), "SMOOTHED": 10}
SMOOTHED = 200
PICTURE = Path(__file__).parent.parent / "docs" / "drift.png"

Predictor = Callable[[np.ndarray, np.ndarray], np.ndarray]


def stream(seed: int) -> tuple[AssociativeMemory, np.ndarray, np.ndarray]:
    """Keys of length 1, and values that a rotating linear map of their features gives, of variance 1, with noise."""
    rng = np.random.default_rng(seed)
    memory = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION)
    keys = rng.standard_normal((PAIRS, KEY_DIM))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    begin, end = rng.standard_normal((2, memory.rank, VALUE_DIM)) / np.sqrt(memory.rank)
    angle = 2 * np.pi * np.arange(PAIRS)[:, None] / PERIOD
    features = memory.features.fold(keys)
    values = np.cos(angle) * (features @ begin) + np.sin(angle) * (features @ end)
    return memory, keys, values + NOISE * rng.standard_normal(values.shape)


def memory_with(rule) -> Predictor:
    """Recall a key, then store the pair."""
    memory = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION, rule=rule)

    def step(key, value):
        recalled = memory.recall(key)
        memory.store(key, value)
        return recalled

    return step


def window_of(length: int) -> Predictor:
    """A memory that forgets the pair stored `length` steps ago: an exact window."""
    memory, held = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION, rule=Ridge(ALPHA)), deque()

    def step(key, value):
        recalled = memory.recall(key)
        memory.store(key, value)
        held.append((key, value))
        if len(held) > length:
            memory.forget(*held.popleft())
        return recalled

    return step


def padasip_with(factor: float) -> Predictor:
    """One filter for every output, on the same folded features."""
    features = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION).features
    filters = [FilterRLS(n=KEY_DIM + EXPANSION * 8, mu=factor, eps=ALPHA, w="zeros") for _ in range(VALUE_DIM)]

    def step(key, value):
        folded = features.fold(key[None])[0]
        recalled = np.array([each.predict(folded) for each in filters])
        for each, target in zip(filters, value, strict=True):
            each.adapt(target, folded)
        return recalled

    return step


def squared_errors(predictor: Predictor, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean squared error of each prediction, made before the pair was stored."""
    return np.array([np.mean((predictor(k, v) - v) ** 2) for k, v in zip(keys, values, strict=True)])


def best_of(make, settings, keys, values) -> tuple[float, np.ndarray]:
    """The setting of least error after the burn-in, in hindsight, and its errors."""
    errors = {setting: squared_errors(make(setting), keys, values) for setting in settings}
    chosen = min(errors, key=lambda setting: errors[setting][BURN_IN:].mean())
    return chosen, errors[chosen]


def contest(keys: np.ndarray, values: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Every method at the setting that is best for it in hindsight."""

    def effective(factor: float) -> str:
        return f"factor {factor:g}, {(1 + factor) / (1 - factor):.0f} effective pairs"

    results = {"no decay": (f"alpha {ALPHA:g}", squared_errors(memory_with(Ridge(ALPHA)), keys, values))}
    factor, errors = best_of(lambda f: memory_with(Ridge(ALPHA, decay=f)), FACTORS, keys, values)
    results["ridge, decay"] = (effective(factor), errors)
    factor, errors = best_of(lambda f: memory_with(RecursiveLeastSquares(ALPHA, f)), FACTORS, keys, values)
    results["rls, decay"] = (effective(factor), errors)
    results["padasip, the same factor"] = (
        effective(factor),
        squared_errors(padasip_with(factor), keys, values),
    )
    length, errors = best_of(window_of, WINDOWS, keys, values)
    results["ridge, best window"] = (f"{length} pairs, which it must keep", errors)
    rate, errors = best_of(lambda r: memory_with(DeltaRule(r)), RATES, keys, values)
    results["delta"] = (f"rate {rate:g}", errors)
    return results


# Three of them coincide: the widest lies at the bottom, the dotted one on top.
STYLES = {
    "no decay": {"color": "tab:blue"},
    "delta": {"color": "tab:brown"},
    "padasip, the same factor": {"color": "gold", "linewidth": 6},
    "rls, decay": {"color": "tab:red", "linewidth": 2.5},
    "ridge, decay": {"color": "black", "linestyle": ":"},
    "ridge, best window": {"color": "tab:purple"},
}


def draw(results: dict[str, tuple[str, np.ndarray]], path: Path) -> None:
    """Errors over time, averaged over SMOOTHED pairs."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, style in STYLES.items():
        setting, errors = results[name]
        smooth = np.convolve(errors, np.ones(SMOOTHED) / SMOOTHED, "valid")
        axes.plot(np.arange(len(smooth)) + SMOOTHED, smooth, label=f"{name} ({setting})", **{"linewidth": 1.3, **style})
    axes.axhline(NOISE**2, color="grey", linestyle="--", linewidth=1, label="noise of the values")
    axes.set(
        yscale="log",
        xlabel="pairs stored",
        ylabel="squared error of the next pair",
        title=f"A mapping that rotates once in {PERIOD} pairs, D = {KEY_DIM + EXPANSION * 8}",
    )
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path)


def main() -> None:
    print(machine())
    _, keys, values = stream(seed=0)
    results = contest(keys, values)
    rows = [
        [name, setting, f"{errors[BURN_IN:].mean():.4f}", f"{errors[BURN_IN:].mean() / NOISE**2:.2f}"]
        for name, (setting, errors) in results.items()
    ]
    print(table(["rule", "best setting in hindsight", "squared error of the next pair", "times the noise"], rows))
    ours, theirs = (results[name][1] for name in ("rls, decay", "padasip, the same factor"))
    print(f"largest difference of squared errors between rls and padasip: {np.abs(ours - theirs).max():.1e}")
    draw(results, PICTURE)
    print(f"drawn: {PICTURE.name}")
