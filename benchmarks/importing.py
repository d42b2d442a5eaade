"""Seconds to import the package, compared with its core dependencies alone, in fresh processes."""

import subprocess
import sys

from benchmarks.timing import machine, paired

DEPENDENCIES = "import numpy, numba, scipy.linalg, safetensors.numpy"


def main() -> None:
    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    ours, theirs, ratio = paired(lambda: run("import assocmem"), lambda: run(DEPENDENCIES))
    print(machine())
    print(f"import assocmem: {ours:.3f} s; {DEPENDENCIES}: {theirs:.3f} s; ratio {1 / ratio:.2f} (target 1.2)")
