"""Run one benchmark: ``python -m benchmarks projection``."""

import importlib
import sys

BENCHMARKS = {
    "projection": "Hadamard projection against the product with the explicit matrix",
    "exactness": "how exact stored pairs and recalls of other keys are, and what a write and a recall take",
    "capacity": "errors of associative memories at equal storage",
    "basins": "bits recovered by settling from flipped ones, beside Hopfield networks",
    "importing": "what importing the package costs beside its dependencies",
}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in BENCHMARKS:
        names = "\n".join(f"  {name:12} {what}" for name, what in BENCHMARKS.items())
        sys.exit(f"usage: python -m benchmarks NAME, where NAME is one of\n{names}")
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main()
