"""Run a benchmark, ``python -m benchmarks NAME [--tiny] [words]``, or all of them tiny: ``python -m benchmarks tiny``.

A benchmark is a module with `main()`; one with comparisons takes words by which they are chosen. With ``--tiny`` the
constants in its dictionary `TINY` replace those of the same names, everything is timed once, and results are written
into a temporary folder: it takes a second, and shows that the benchmark still runs.
"""

import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

if "tiny" in sys.argv or "--tiny" in sys.argv:  # before NumPy: products are too small for threads
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from benchmarks import timing

BENCHMARKS = {
    "speed": "recalls and writes against the fastest alternatives; [words that the names must contain]",
    "crossovers": "number of keys from which a frozen memory recalls by a matrix product",
    "scale": "time and memory against rank, pairs and value length (ten minutes, 11 GB)",
    "readme": "write the table of the last run of speed into the README",
    "projection": "Hadamard projection against the product with the explicit matrix",
    "exactness": "accuracy of recalls, and of every operation over hard families of keys beside the bound",
    "deletion": "accuracy of a memory after 10 000 stores, replacements and deletions",
    "drift": "a mapping that rotates: decay against windows and padasip",
    "capacity": "errors of associative memories at equal storage",
    "confidence": "coverage of intervals, novelty, and accuracy of edits and leave-one-out residuals",
    "continual": "classes learned one after the other, and streams in one pass, compared with other methods",
    "distributed": "bytes and seconds of storing on several processes, and an estimate for many machines",
    "basins": "bits recovered by settling from flipped ones, compared with Hopfield networks",
    "real": "diagnoses and plans for real keys, beside what is measured; [--mnist FOLDER] [--words FILE]",
    "penalty": "the closed formula of the penalty for noisy queries, on real keys; the same options",
    "centred": "what a center is worth on real keys; the same options",
    "theory": "tables of the theory page: codewords, classes, finite sizes, whitening, two penalties, lengths",
    "sharing": "frozen recalls on shared, pinned and busy processors, against one thread",
    "importing": "time to import the package, compared with its dependencies",
}
WITH_WORDS = ("speed", "real", "penalty", "centred")
PEERS = ("dask", "distributed", "matplotlib", "padasip", "sklearn", "torch", "torchhd")


def run(name: str, *, tiny: bool = False, words: tuple[str, ...] = ()) -> bool:
    """Run a benchmark; False, and a line that says so, if a package that it needs is not installed."""
    try:
        module = importlib.import_module(f"benchmarks.{name}")
        with tempfile.TemporaryDirectory() as folder:
            if tiny:
                timing.once()
                for part in (module, *getattr(module, "PARTS", ())):  # others of which it prints the tables too
                    shrink(vars(part), Path(folder))
            module.main(*([words] if name in WITH_WORDS else []))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PEERS:
            raise
        print(f"{name}: skipped, since {package} is not installed: pip install 'assocmem[bench]'")
        return False
    return True


PATHS = (type(Path()),)


def shrink(constants: dict[str, Any], folder: Path) -> None:
    """Make the constants of a benchmark tiny, and move the files that it writes into a folder."""
    constants.update(constants.get("TINY", {}))
    constants.update({key: Path(folder, old.name) for key, old in constants.items() if type(old) in PATHS})


def run_all_tiny() -> int:
    """Run every benchmark with tiny sizes; the number of those that failed."""
    failed = []
    for name in BENCHMARKS:
        print(f"--- {name}", flush=True)
        try:
            run(name, tiny=True)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all of them ran")
    return len(failed)


def main() -> None:
    """Read the command line."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--tiny"]
    name, words = (arguments or [""])[0], tuple(arguments[1:])
    if name == "tiny" and not words:
        sys.exit(1 if run_all_tiny() else 0)
    if name not in BENCHMARKS or (words and name not in WITH_WORDS):
        names = "\n".join(f"  {each:12} {what}" for each, what in BENCHMARKS.items())
        sys.exit(f"usage: python -m benchmarks NAME [--tiny], or tiny for all of them tiny; NAME is one of\n{names}")
    run(name, tiny="--tiny" in sys.argv, words=words)


if __name__ == "__main__":
    main()
