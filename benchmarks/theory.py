"""Tables of docs/theory.md that no other command shows: where the laws hold, and by how much they miss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import special, stats

from assocmem import AssociativeMemory, CReLUFeatures, laws
from assocmem.capacity import noisy_keys
from benchmarks.keysets import key_sets
from benchmarks.timing import table

Array = NDArray[np.float64]

KEY_DIM, EXPANSION, VALUE_DIM = 128, 3, 64
TRIALS, LABELLINGS = 12, 8
CODEBOOKS = (20, 64, 200, 1000)
CLASSES = ((2, 1), (10, 1), (100, 4), (100, 8))  # number of classes, load
SIZES = ((8, 1500), (16, 500), (33, 80), (64, 50), (128, 25))  # key_dim, trials
LOADS_BEYOND = (1.1, 1.5)
KEY_SETS: Callable[..., dict[str, Callable[..., Array]]] = key_sets
TINY: dict[str, object] = {
    "TRIALS": 2,
    "LABELLINGS": 2,
    "KEY_DIM": 8,
    "CODEBOOKS": (4,),
    "CLASSES": ((2, 1),),
    "SIZES": ((8, 2),),
    "KEY_SETS": lambda *folders: {"random": lambda rng: rng.standard_normal((200, 16))},
}


def random_keys(rng: np.random.Generator, n: int, key_dim: int) -> Array:
    """Keys of length 1 with random directions."""
    keys = rng.standard_normal((n, key_dim))
    return np.asarray(keys / np.linalg.norm(keys, axis=1, keepdims=True))


def features_of(rng: np.random.Generator, key_dim: int, expansion: int = EXPANSION) -> CReLUFeatures:
    """Whitened features with another projection each time."""
    return CReLUFeatures(key_dim, expansion, seed=int(rng.integers(2**31)))


def solved(stored: Array, values: Array, penalty: Array | float) -> Array:
    """Ridge weights; the penalty is one number, or one for every feature."""
    gram = stored.T @ stored
    gram[np.diag_indices_from(gram)] += penalty
    return np.asarray(scipy.linalg.solve(gram, stored.T @ values, assume_a="pos"))


def measured(errors: Sequence[float], digits: int = 4) -> str:
    """The mean over independent trials, and 2.6 standard errors of it."""
    spread = 2.6 * float(np.std(errors, ddof=1)) / math.sqrt(len(errors))
    return f"{np.mean(errors):.{digits}f} ± {spread:.{digits}f}"


# ------------------------------------------------------------------------------------------- classes and codewords


def hebbian_shares(rng: np.random.Generator, load: float, asked: int = 1536) -> Array:
    """What every stored value contributes to the recalls of stored keys, (asked, N)."""
    features = features_of(rng, KEY_DIM)
    folded = features.fold(random_keys(rng, round(load * features.rank), KEY_DIM))
    return folded[:asked] @ folded.T / np.sum(folded**2, axis=1)


def hebbian_law(load: float) -> laws.Recalled:
    """The law of the same, with the correlation of the features."""
    return laws.hebbian_law(load).scaled(laws.feature_correlation(KEY_DIM, EXPANSION))


def wrong_codeword(law: laws.Recalled, n_codewords: int, length: int, *, from_codebook: bool) -> float:
    """Share of recalls nearest to a wrong one of random ±1 codewords, whether or not the other values are codewords."""
    more = 1 + (length - 1) / n_codewords if from_codebook else 1.0
    degrees = (length - 1) * more**2
    offset = float(law.mean) * math.sqrt(length / (float(law.variance) * more))
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    spread = np.sqrt(stats.chi2.ppf((np.arange(64) + 0.5) / 64, degrees) / degrees)
    highest = stats.t.cdf((offset + nodes[:, None]) / spread, degrees) ** (n_codewords - 1)
    return 1 - float(weights @ highest.mean(axis=1) / weights.sum())


def codewords(load: float = 3.0) -> str:
    """Values of 64 signs from codebooks of C: the other stored values random, or from the codebook too."""
    rng = np.random.default_rng(0)
    errors: dict[tuple[int, bool], list[float]] = {(c, own): [] for c in CODEBOOKS for own in (False, True)}
    for _ in range(TRIALS):
        shares = hebbian_shares(rng, load)
        own = np.diag(shares).copy()
        shares[np.diag_indices_from(shares)] = 0.0
        for n_codewords, from_codebook in errors:
            codebook = rng.choice([-1.0, 1.0], (n_codewords, VALUE_DIM))
            chosen = rng.integers(n_codewords, size=len(own))
            right = codebook[chosen]
            others = right if from_codebook else rng.choice([-1.0, 1.0], right.shape)
            scores = (own[:, None] * right + shares @ others) @ codebook.T
            errors[n_codewords, from_codebook].append(float(np.mean(scores.argmax(axis=1) != chosen)))
    rows = []
    for n_codewords in CODEBOOKS:
        row = [f"{n_codewords}"]
        for own_values in (False, True):
            law = wrong_codeword(hebbian_law(load), n_codewords, VALUE_DIM, from_codebook=own_values)
            row += [measured(errors[n_codewords, own_values]), f"{law:.4f}"]
        rows.append(row)
    return table(["C", "other values independent", "law", "from the codebook", "law"], rows)


def classes() -> str:
    """Wrong classes of a Hebbian memory, for classes of equal sizes and for random labels."""
    rng, rows = np.random.default_rng(0), []
    for n_classes, load in CLASSES:
        errors: list[list[float]] = []
        for _ in range(TRIALS):
            shares, wrong = hebbian_shares(rng, load, asked=512), []
            pairs = shares.shape[1]
            for _ in range(LABELLINGS):
                equal = rng.permutation(np.arange(pairs) % n_classes)
                wrong.append([wrong_class(shares, labels) for labels in (equal, rng.integers(n_classes, size=pairs))])
            errors.append(list(np.mean(wrong, axis=0)))
        law = hebbian_law(load)
        predicted = [float(law.wrong_class(n_classes)), float(law.wrong_class(n_classes, pairs))]
        by_size = [[error[side] for error in errors] for side in (0, 1)]
        cells = [text for side in (0, 1) for text in (measured(by_size[side]), f"{predicted[side]:.4f}")]
        rows.append([f"{n_classes}", f"{load:g}", f"{pairs / n_classes:.0f}", *cells])
    return table(["C", "load", "pairs per class", "equal sizes", "law", "random labels", "law"], rows)


def wrong_class(shares: Array, labels: NDArray[np.intp]) -> float:
    recalled = shares @ np.eye(labels.max() + 1)[labels]
    return float(np.mean(recalled.argmax(axis=1) != labels[: len(recalled)]))


# -------------------------------------------------------------------------------------------------- finite sizes


def finite_size(outputs: int = 256) -> str:
    """Wrong signs of stored pairs beyond load 1, minimum norm, and how far three predictions are off."""
    rng, rows = np.random.default_rng(0), []
    for key_dim, trials in SIZES:
        row = [f"{key_dim}"]
        for load in LOADS_BEYOND:
            errors, pairs, rank = [], 0, 0
            for _ in range(trials):
                features = features_of(rng, key_dim)
                rank, pairs = features.rank, round(load * features.rank)
                folded = features.fold(random_keys(rng, pairs, key_dim))
                values = rng.choice([-1.0, 1.0], (pairs, outputs))
                errors.append(float(np.mean((folded @ solved(folded, values, 1e-9 * pairs)) * values < 0)))
            law = laws.ridge_law(pairs / rank)
            corrected = law.scaled(laws.feature_correlation(key_dim, EXPANSION))
            leverages = stats.beta.ppf((np.arange(10_000) + 0.5) / 10_000, rank / 2, (pairs - rank) / 2)
            finite = float(special.ndtr(-np.sqrt(leverages / (1 - leverages))).mean())
            predictions = (float(law.sign_error), float(corrected.sign_error), finite)
            off = [f"{predicted / np.mean(errors) - 1:+.1%}" for predicted in predictions]
            row += [measured(errors, 5), " / ".join(off)]
        rows.append(row)
    header = [name for load in LOADS_BEYOND for name in (f"load {load:g}", "law / corrected / by leverage")]
    return table(["d", *header], rows)


# ----------------------------------------------------------------------------------------------------- whitening


def whitening(n: int = 1000) -> str:
    """Mean feature cosine of two keys and their crosstalk, times D, for directions that are not random."""
    rng = np.random.default_rng(0)
    sparse = rng.standard_normal((n, KEY_DIM))
    sparse[np.argsort(rng.random(sparse.shape), axis=1) >= 4] = 0.0  # four entries other than 0
    rows = []
    for name, keys in {
        "random": random_keys(rng, n, KEY_DIM),
        "four entries other than 0": sparse,
        "all entries positive": np.abs(random_keys(rng, n, KEY_DIM)),
    }.items():
        features = features_of(rng, KEY_DIM)
        folded = features.fold(keys)
        folded /= np.linalg.norm(folded, axis=1, keepdims=True)
        cosines = (folded @ folded.T)[~np.eye(n, dtype=bool)]
        rows.append([name, f"{cosines.mean():.4f}", f"{np.mean(cosines**2) * features.rank:.2f}"])
    return table(["keys", "mean feature cosine", "D · mean square"], rows)


def whitened_or_not() -> str:
    """Wrong signs of stored pairs with and without whitening, and by how much recalls are off without the offset."""
    rows = []
    for rule, load in (("hebbian", 0.2), ("ridge", 0.5)):
        for whiten in (True, False):
            wrong, off = [], []
            for seed in range(TRIALS):
                rng = np.random.default_rng(seed)
                memory = AssociativeMemory(KEY_DIM, 16, expansion=EXPANSION, rule=rule, whiten=whiten, seed=seed)
                keys = random_keys(rng, round(load * memory.rank), KEY_DIM)
                values = rng.choice([-1.0, 1.0], (len(keys), 16))
                memory.store(keys, values)
                recalled = memory.recall(keys)
                literal = memory.features.expand(keys) @ memory.weights.reshape(-1, 16)
                wrong.append(float(np.mean(recalled * values < 0)))
                off.append(float(np.sqrt(np.mean((literal - recalled) ** 2))))
            rows.append([f"{rule}, load {load:g}", "yes" if whiten else "no", measured(wrong), measured(off)])
    return table(["rule", "whitened", "wrong signs", "off without the offset"], rows)


# ------------------------------------------------------------------------------------------ weight of the odd part


def shares_of(cosine: float) -> tuple[float, float]:
    """ρ and e(ρ), what is left of the linear and of the even features of a query."""
    even = (math.sqrt(1 - cosine**2) + cosine * math.asin(cosine) - 1) / (math.pi / 2 - 1)
    return cosine, even


def odd_part(
    mnist_folder: Path | None = None, words_file: Path | None = None, cosine: float = 0.9, trials: int = 3
) -> str:
    """Wrong signs of noisy queries at two loads: one penalty, one for either part, and store(query_cosine=)."""
    rows = []
    for name, read in KEY_SETS(mnist_folder, words_file).items():
        keys = read(np.random.default_rng(0))
        for expansion in (1,) if keys.shape[1] > 500 else (1, 4):
            errors = [
                np.mean([_odd_part(keys, expansion, load, cosine, seed) for seed in range(trials)], axis=0)
                for load in (0.25, 0.5)
            ]
            rows.append(
                [f"{name}, k = {expansion}", *(f"{low:.4f}, {high:.4f}" for low, high in zip(*errors, strict=True))]
            )
    return table(["keys", "one penalty", "one for either part", "store(query_cosine=0.9)"], rows)


def _odd_part(keys: Array, expansion: int, load: float, cosine: float, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    key_dim = keys.shape[1]
    memory = AssociativeMemory(key_dim, 32, expansion=expansion, seed=seed)
    keys = rng.permutation(keys)[: round(load * memory.rank)]
    values = rng.choice([-1.0, 1.0], (len(keys), 32))
    queries = noisy_keys(keys, cosine, rng)
    stored, asked = memory.features.fold(keys), memory.features.fold(queries)
    size = len(keys) * float(np.mean(np.sum(keys**2, axis=1)))
    kappa = float(laws.feature_cosine(cosine, key_dim, expansion))
    left = np.repeat(shares_of(cosine), [key_dim, memory.rank - key_dim])
    one = asked @ solved(stored, values, size * (1 - kappa**2) / kappa**2)
    either = asked / left @ solved(stored, values, size * (1 - left**2) / left**2)
    memory.store(keys, values, query_cosine=cosine)
    return [float(np.mean(recalled * values < 0)) for recalled in (one, either, memory.recall(queries))]


def lengths(cosine: float = 0.9, loads: Sequence[float] = (0.1, 0.25, 0.5)) -> str:
    """Wrong signs of queries at a cosine to keys as they are, of different lengths, and to the same of length 1."""
    rows = []
    for name, read in KEY_SETS().items():
        keys = read(np.random.default_rng(0))
        for kind, rows_of in (
            ("as they are", keys),
            ("of length 1", keys / np.linalg.norm(keys, axis=1, keepdims=True)),
        ):
            wrong = [np.mean([_odd_part(rows_of, 1, load, cosine, seed)[0] for seed in range(3)]) for load in loads]
            rows.append([f"{name}, {kind}", *(f"{error:.4f}" for error in wrong)])
    return table(["keys", *(f"load {load:g}" for load in loads)], rows)


def main() -> None:
    for name in (codewords, classes, finite_size, whitening, whitened_or_not, odd_part, lengths):
        print(f"{(name.__doc__ or '').strip()}\n\n{name()}\n", flush=True)
