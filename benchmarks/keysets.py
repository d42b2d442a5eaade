"""Real keys that benchmarks read: small sets that come with scikit-learn, and MNIST and word vectors if given."""

import argparse
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_sample_image

Keys = np.ndarray  # (N, key_dim) float64, in random order

PATCH, STEP = 8, 5  # side of a patch of the photograph, and distance of neighbours, which overlap a little


def random_keys(rng: np.random.Generator, key_dim: int = 96, n: int = 6000) -> Keys:
    """Keys with random directions, of a length that is no power of two."""
    return rng.standard_normal((n, key_dim))


def digits(rng: np.random.Generator) -> Keys:
    """The 1,797 handwritten digits of scikit-learn, (N, 64), from 0 to 1."""
    return rng.permutation(load_digits().data / 16)


def photograph(rng: np.random.Generator) -> Keys:
    """Grey patches (N, 64) of a photograph, from 0 to 1, without their mean."""
    image = load_sample_image("china.jpg").mean(axis=2) / 255
    windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH))[::STEP, ::STEP]
    patches = windows.reshape(-1, PATCH * PATCH)
    patches = patches - patches.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(patches, axis=1)
    return rng.permutation(patches[lengths > 1e-3])


def mnist(rng: np.random.Generator, folder: Path) -> Keys:
    """The training images (60000, 784) in a folder of the usual idx files, also .gz, scaled to unit length."""
    found = sorted(folder.glob("train-images*idx3-ubyte*"))
    if not found:
        raise FileNotFoundError(f"{folder} has no train-images-idx3-ubyte or .gz of it: give the folder of MNIST")
    data = read_bytes(found[0])
    shape = tuple(int.from_bytes(data[start : start + 4], "big") for start in (4, 8, 12))
    if data[:4] != b"\x00\x00\x08\x03" or len(data) != 16 + int(np.prod(shape)):
        raise ValueError(f"{found[0]} is no idx file of images in bytes")
    images = np.frombuffer(data, np.uint8, offset=16).reshape(shape[0], -1) / 255
    return rng.permutation(images / np.linalg.norm(images, axis=1, keepdims=True))


def words(rng: np.random.Generator, file: Path) -> Keys:
    """The vectors of a text file, also .gz, with one word and its numbers a line, as GloVe's."""
    lines = read_bytes(file).decode("utf-8").splitlines()
    return rng.permutation(np.array([line.split(" ")[1:] for line in lines], dtype=np.float64))


def read_bytes(path: Path) -> bytes:
    """The contents of a file, decompressed if its name ends in .gz."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def key_sets(mnist_folder: Path | None = None, words_file: Path | None = None) -> dict[str, Callable[..., Keys]]:
    """Functions of a random generator that return the keys of each set, by the names to print."""
    sets: dict[str, Callable[..., Keys]] = {"random": random_keys, "digits": digits, "photograph": photograph}
    if words_file is not None:
        sets["words"] = lambda rng: words(rng, words_file)
    if mnist_folder is not None:
        sets["MNIST"] = lambda rng: mnist(rng, mnist_folder)
    return sets


def sets_named(options: tuple[str, ...]) -> dict[str, Callable[..., Keys]]:
    """The small sets, and the large ones for which --mnist FOLDER and --words FILE are given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks NAME")
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="with the idx files of MNIST, also .gz")
    parser.add_argument("--words", type=Path, metavar="FILE", help="lines of a word and its vector, also .gz")
    given = parser.parse_args(options)
    return key_sets(given.mnist, given.words)
