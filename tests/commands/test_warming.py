"""The command `warm-up`: afterwards nothing that a memory is asked is compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

from assocmem.commands import cli
from assocmem.core.jit import JIT_DISABLED

PROGRAM = """
import numpy as np
from assocmem import AssociativeMemory, FrozenMemory
from assocmem.commands import warming

warming.compile_all()
before = {name: set(loop.signatures) for name, loop in warming.loops().items()}
rng = np.random.default_rng(1)
for dtype in ("float64", "float32"):
    for rule in ("hebbian", "delta", "ridge", "rls"):
        center = [0.5] * 6 if rule == "delta" else None
        options = {"whiten": False, "bias": 1.0, "center": center, "dtype": dtype}
        memory = AssociativeMemory(6, 3, expansion=3, rule=rule, **options)
        keys, values = rng.standard_normal((90, 6)).astype(dtype), rng.standard_normal((90, 3))
        keys.flags.writeable = False
        memory.store(keys, values)
        memory.store_from((keys, values))
        memory.recall(keys[7])
        memory.recall(keys.tolist())
        if rule in ("ridge", "rls"):
            memory.recall(keys, return_confidence=True)
            memory.forget(keys[:9], values[:9])
    memory.save("memory")
    loaded = AssociativeMemory.load("memory")
    loaded.recall(keys[0])
    for precision in ("float32", "float64", "int8"):
        frozen = loaded.freeze(precision)
        frozen.save("frozen")
        for served in (frozen, FrozenMemory.load("frozen")):
            served.recall(keys[0])
            served.recall(keys)
for name, loop in warming.loops().items():
    for signature in set(loop.signatures) - before[name]:
        print(name, signature)
"""


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_nothing_is_compiled_after_the_warm_up(tmp_path: Path) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # nothing here is worth a second thread
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert ended.stdout == ""


@pytest.mark.skipif(JIT_DISABLED, reason="nothing is compiled")
def test_the_command_says_how_long_it_took_and_where_the_cache_lies() -> None:
    result = CliRunner().invoke(cli.build(), ["warm-up"])
    assert result.exit_code == 0, result.output
    assert "loops compiled" in result.stdout
    assert " s\ncache: " in result.stdout
