"""The kernels as plain Python: what the compiler accepts and Python would not (or the other way) shows here."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SMALL = [
    "tests/features/test_crelu.py::test_features_are_the_literal_ones",
    "tests/features/test_crelu.py::test_unfolded_weights_recall_the_same",
    "tests/features/test_hadamard.py::test_projection_is_the_explicit_hadamard_product",
    "tests/features/test_hadamard.py::test_nonfinite_keys_are_refused",
    "tests/test_memory.py::test_literal_memory_is_the_oracle_on_literal_features",
    "tests/test_memory.py::test_one_key_is_recalled_like_many",
    "tests/operations/test_attractors.py::test_where_zero_is_recalled_the_sign_stays",
    "tests/operations/test_attractors.py::test_keys_that_lead_into_a_cycle_end_in_it[2]",
    "tests/operations/test_attractors.py::test_a_zero_key_with_a_bias_takes_noise",
    "tests/core/test_checks.py::test_bad_keys_are_refused_by_recall",
    "tests/core/test_checks.py::test_float32_range",
    "tests/test_frozen.py::test_both_methods_recall_the_gated_sum[5-1.5-True-float64]",
    "tests/test_frozen.py::test_both_methods_recall_the_gated_sum[2-0.0-False-int8]",
    "tests/test_frozen.py::test_frozen_recalls_what_the_memory_recalls[ridge-float32]",
]


def test_kernels_with_the_jit_off():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    # Compiled arithmetic overflows in silence; NumPy's scalars, which stand in for it here, warn.
    silence = ["-W", "ignore:overflow:RuntimeWarning", "-W", "ignore:invalid value:RuntimeWarning"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *silence, *SMALL]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert " passed" in run.stdout
