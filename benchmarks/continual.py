"""Learning without forgetting, on real data: classes one after the other, and streams in one pass.

Ten digit classes come in five tasks of two, and no image is seen again. Accuracy is that on unseen images of all
classes so far, without being told the task. Every method sees the same unit-length images, in the same order.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.linalg import solve
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import Ridge as BatchRidge
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

from assocmem import AssociativeMemory, Ridge
from benchmarks.timing import machine, table

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

SEEDS = range(5)
EXPANSION, ALPHA = 16, 0.1  # D = 1088
ONE_HOT = np.eye(10)
SHADES = ("black", "0.3", "0.55", "C0", "C9", "C1", "C3")
PICTURE = Path(__file__).parent.parent / "docs" / "continual.png"
AGREEMENT = 1e-8
TINY: dict[str, object] = {"SEEDS": range(1), "EXPANSION": 1}


class Learner(ABC):
    """A classifier that is given one task after the other."""

    @abstractmethod
    def learn(self, keys: Floats, labels: Labels) -> None:
        """Learn a task, up to the first possible prediction."""

    @abstractmethod
    def scores(self, keys: Floats) -> Floats:
        """Return one number for every key and class."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes kept from task to task, without those that a seed reproduces."""


class Memory(Learner):
    """A memory of this package: the sums of the ridge rule."""

    def __init__(self, seed: int, alpha: float | str = ALPHA) -> None:
        rule = Ridge(alpha=alpha)
        self.memory = AssociativeMemory(64, 10, expansion=EXPANSION, rule=rule, whiten=False, seed=seed)

    def learn(self, keys: Floats, labels: Labels) -> None:
        self.memory.store(keys, ONE_HOT[labels])
        self.memory.recall(keys[0])  # solves

    def scores(self, keys: Floats) -> Floats:
        return self.memory.recall(keys)

    @property
    def nbytes(self) -> int:
        return self.memory.nbytes


class ChoosingMemory(Memory):
    """The same with the penalty of least generalised cross-validation score, from the sums alone."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, "gcv")


class Joint(Memory):
    """Every pair so far, kept and fitted anew: the reference for learning without forgetting."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed
        self.kept: list[tuple[Floats, Labels]] = []

    def learn(self, keys: Floats, labels: Labels) -> None:
        self.kept.append((keys, labels))
        self.memory = Memory(self.seed).memory
        super().learn(np.concatenate([k for k, _ in self.kept]), np.concatenate([v for _, v in self.kept]))

    @property
    def nbytes(self) -> int:
        return self.memory.nbytes + sum(keys.nbytes + labels.nbytes for keys, labels in self.kept)


class RanPAC(Learner):
    """The head of RanPAC, phase 2, on frozen inputs: random ReLU features, their Gram matrix, class prototypes.

    Per task, the penalty is the one among 10⁻⁸ … 10⁸ of which a solution from four fifths of the task's pairs has the
    least squared error on the last fifth; then all pairs are added to the sums. As many features as the memory has
    dimensions, so that both keep the same numbers.

    References
    ----------
    McDonnell, Gong, Parvaneh, Abbasnejad and van den Hengel (2023), "RanPAC: Random Projections and Pre-trained Models
    for Continual Learning", NeurIPS 36, algorithm 1 and appendix.
    """

    penalties = 10.0 ** np.arange(-8, 9)

    def __init__(self, seed: int) -> None:
        n_features = Memory(seed).memory.rank
        self.rng = np.random.default_rng(seed)
        self.directions = self.rng.standard_normal((64, n_features))
        self.gram, self.prototypes = np.zeros((n_features, n_features)), np.zeros((n_features, 10))

    def learn(self, keys: Floats, labels: Labels) -> None:
        features, targets = self.features(keys), ONE_HOT[labels]
        order = self.rng.permutation(len(keys))
        known, held_out = np.split(order, [round(0.8 * len(keys))])
        gram, prototypes = features[known].T @ features[known], features[known].T @ targets[known]
        losses = []
        for penalty in self.penalties:
            guess = features[held_out] @ self.solution(gram, prototypes, penalty)
            losses.append(np.mean((guess - targets[held_out]) ** 2))
        self.gram += features.T @ features
        self.prototypes += features.T @ targets
        self.weights = self.solution(self.gram, self.prototypes, self.penalties[np.argmin(losses)])

    def features(self, keys: Floats) -> Floats:
        return np.maximum(keys @ self.directions, 0.0)

    @staticmethod
    def solution(gram: Floats, prototypes: Floats, penalty: float) -> Floats:
        return np.asarray(solve(gram + penalty * np.eye(len(gram)), prototypes, assume_a="sym"))

    def scores(self, keys: Floats) -> Floats:
        return self.features(keys) @ self.weights

    @property
    def nbytes(self) -> int:
        return self.gram.nbytes + self.prototypes.nbytes


class TunedRanPAC(RanPAC):
    """The same with the one penalty that is best in hindsight on the unseen images: the cost of selecting it."""

    penalties = np.array([1.0])


class Gradient(Learner):
    """Logistic regression by scikit-learn's stochastic gradient descent: `passes` passes over every task."""

    passes = 5

    def __init__(self, seed: int) -> None:
        self.model = SGDClassifier(loss="log_loss", random_state=seed)

    def features(self, keys: Floats) -> Floats:
        return keys

    def learn(self, keys: Floats, labels: Labels) -> None:
        inputs = self.features(keys)
        for _ in range(self.passes):
            self.model.partial_fit(inputs, labels, classes=np.arange(10))

    def scores(self, keys: Floats) -> Floats:
        return np.asarray(self.model.decision_function(self.features(keys)))

    @property
    def nbytes(self) -> int:
        return int(self.model.coef_.nbytes + self.model.intercept_.nbytes)


class GradientOnFeatures(Gradient):
    """The same on the CReLU features of the memory."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.crelu = Memory(seed).memory.features

    def features(self, keys: Floats) -> Floats:
        return self.crelu.expand(keys)


LEARNERS: dict[str, type[Learner]] = {
    "assocmem, ridge": Memory,
    "assocmem, ridge, penalty by GCV": ChoosingMemory,
    "joint fit of all images so far": Joint,
    "RanPAC head": RanPAC,
    "RanPAC head, penalty in hindsight": TunedRanPAC,
    "SGD classifier on the memory's features": GradientOnFeatures,
    "SGD classifier on pixels": Gradient,
}


def digits(seed: int) -> list[Any]:
    """Keys and labels, for learning and for testing: 1,400 and 397 images of unit length."""
    images, labels = load_digits(return_X_y=True)
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    return train_test_split(images, labels, test_size=397, random_state=seed, stratify=labels)  # type: ignore[no-any-return]


def class_incremental(seed: int) -> dict[str, tuple[list[float], float, int]]:
    """Accuracy after every task, seconds of learning, bytes kept: of every learner; ours is checked against joint."""
    keys, queries, labels, answers = digits(seed)
    tasks = np.random.default_rng(seed).permutation(10).reshape(5, 2)
    found: dict[str, tuple[list[float], float, int]] = {}
    final = {}
    for name, make in LEARNERS.items():
        learner, accuracies, seconds = make(seed), [], 0.0
        for t, task in enumerate(tasks):
            now, asked = np.isin(labels, task), np.isin(answers, tasks[: t + 1])
            start = time.perf_counter()
            learner.learn(keys[now], labels[now])
            seconds += time.perf_counter() - start
            accuracies.append(float(np.mean(learner.scores(queries[asked]).argmax(axis=1) == answers[asked])))
        found[name] = accuracies, seconds, learner.nbytes
        final[name] = learner.scores(queries)
    difference = np.abs(final["assocmem, ridge"] - final["joint fit of all images so far"]).max()
    assert difference < AGREEMENT, difference
    print(f"seed {seed}: largest difference from the joint fit {difference:.1e}")
    return found


def compare() -> None:
    """Print the table of accuracies and draw the picture."""
    for make in LEARNERS.values():  # compiles, and wakes the threads
        learner = make(0)
        learner.learn(digits(0)[0][:300], digits(0)[2][:300])
    runs = [class_incremental(seed) for seed in SEEDS]
    rows, curves = [], {}
    for name in LEARNERS:
        accuracy = np.array([run[name][0] for run in runs])
        seconds = np.median([run[name][1] for run in runs])
        curves[name] = accuracy
        last = f"{accuracy[:, -1].min():.1%} to {accuracy[:, -1].max():.1%}"
        rows.append(
            [name, *(f"{a:.1%}" for a in accuracy.mean(axis=0)), last, f"{seconds:.2f}", size(runs[0][name][2])]
        )
    headings = ["method", *(f"{2 * t} classes" for t in range(1, 6)), "10 classes, range", "seconds", "kept"]
    print(table(headings, rows))
    draw(curves).savefig(PICTURE)
    print(PICTURE)


def size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count > 1e6 else f"{count / 1e3:.0f} kB"


def draw(curves: dict[str, Floats]) -> Figure:
    """Mean accuracy over the classes so far, with the range over the seeds: all of it, and where most methods are."""
    figure = Figure(figsize=(11, 5.2), dpi=110, layout="constrained")
    classes = np.arange(2, 11, 2)
    looks = list(zip("osD^<vP", ("-", "-.", ":", "--", "-.", "--", ":"), SHADES, strict=True))
    for axes, (low, step) in zip(figure.subplots(1, 2), ((0.0, 0.2), (0.88, 0.02)), strict=True):
        for (name, accuracy), (marker, dashes, shade) in zip(curves.items(), looks, strict=True):
            style: dict[str, Any] = {"marker": marker, "linestyle": dashes, "color": shade}
            axes.plot(classes, accuracy.mean(axis=0), label=name, **style)
            axes.fill_between(classes, accuracy.min(axis=0), accuracy.max(axis=0), color=shade, alpha=0.1, linewidth=0)
        ticks = np.arange(low, 1.001, step)
        axes.set(xlabel="digit classes seen so far", ylim=(low, 1 + 0.03 * (1 - low)))
        axes.set_xticks(classes)
        axes.set_yticks(ticks, [f"{share:.0%}" for share in ticks])
    figure.axes[0].set_ylabel("accuracy on all of them, unseen images")
    figure.axes[1].set_title("enlarged", fontsize=10)
    figure.suptitle("Five tasks of two classes, none seen again: mean and range of five runs", fontsize=12)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def stream_rows() -> list[list[str]]:
    """One pass over each data set in chunks, against scikit-learn's Ridge on the same features of all data at once."""
    rows = []
    for name, load in (("breast cancer", load_breast_cancer), ("wine", load_wine), ("digits", load_digits)):
        inputs, labels = load(return_X_y=True)
        inputs = (inputs - inputs.mean(axis=0)) / np.maximum(inputs.std(axis=0), 1e-9)
        one_hot = np.eye(labels.max() + 1)
        keys, queries, known, answers = train_test_split(inputs, labels, random_state=0, stratify=labels)
        memory = AssociativeMemory(
            keys.shape[1], len(one_hot), expansion=EXPANSION, rule=Ridge(alpha=1.0), whiten=False, bias=1.0
        )
        start = time.perf_counter()
        memory.store_from((keys[i : i + 10], one_hot[known[i : i + 10]]) for i in range(0, len(keys), 10))
        recalled = memory.recall(queries)
        streamed = time.perf_counter() - start
        start = time.perf_counter()
        batch = BatchRidge(1.0, fit_intercept=False).fit(memory.features.expand(keys), one_hot[known])
        expected = batch.predict(memory.features.expand(queries))
        fitted = time.perf_counter() - start
        accuracies = [float(np.mean(scores.argmax(axis=1) == answers)) for scores in (recalled, expected)]
        difference = np.abs(recalled - expected).max()
        assert difference < AGREEMENT, (name, difference)
        rows.append(
            [name, f"{len(keys)}", f"{memory.rank}", *(f"{a:.1%}" for a in accuracies), f"{difference:.1e}",
             f"{streamed:.3f}", f"{fitted:.3f}", size(memory.nbytes), size(memory.features.expand(keys).nbytes)]
        )  # fmt: skip
    return rows


def main() -> None:
    """Print both tables and draw docs/continual.png."""
    print(machine())
    compare()
    print("\none pass in chunks of ten pairs in random order, against scikit-learn's Ridge on all of the same features")
    headings = ["data", "pairs", "D", "accuracy", "batch", "largest difference", "s", "batch s", "kept", "batch keeps"]
    print(table(headings, stream_rows()))
