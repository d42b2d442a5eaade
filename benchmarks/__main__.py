"""Run one benchmark: ``python -m benchmarks projection``."""

import importlib
import sys

BENCHMARKS = {
    "speed": "recalls and writes against the fastest alternatives; [words that the names must contain]",
    "crossovers": "from how many keys on a frozen memory recalls by a matrix product",
    "scale": "time and memory against rank, pairs and value length (ten minutes, 11 GB)",
    "readme": "write the table of the last run of speed into the README",
    "projection": "Hadamard projection against the product with the explicit matrix",
    "exactness": "how exact stored pairs and recalls of other keys are, and what a write and a recall take",
    "deletion": "how exact 10 000 stores, replacements and deletions leave a memory",
    "drift": "a mapping that rotates: forgetting by age against windows and padasip",
    "capacity": "errors of associative memories at equal storage",
    "confidence": "coverage of intervals, novelty, and how exact edits and leave-one-out residuals are",
    "continual": "classes learned one after the other, and streams in one pass, beside what others do",
    "distributed": "bytes and seconds of storing on several processes, and what many machines would take",
    "basins": "bits recovered by settling from flipped ones, beside Hopfield networks",
    "importing": "what importing the package costs beside its dependencies",
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        names = "\n".join(f"  {name:12} {what}" for name, what in BENCHMARKS.items())
        sys.exit(f"usage: python -m benchmarks NAME, where NAME is one of\n{names}")
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main()
