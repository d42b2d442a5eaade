"""The program's output: encodings, pipes, widths and full disks; the work that was done is never lost to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")

from assocmem import AssociativeMemory

PROGRAM = [sys.executable, "-c", "from assocmem.commands.cli import main; main()"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    keys, values = rng.standard_normal((60, 10)), rng.standard_normal((60, 3))
    np.save("schlüssel.npy", keys)
    np.save("values.npy", values)
    memory = AssociativeMemory(10, 3)
    memory.store(keys, values)
    memory.save("Gedächtnis µ 记忆")
    return tmp_path


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, check=False, env={**os.environ, "TERM": "dumb", **environment}
    )


def in_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a pipeline whose first program is assocmem, and fail with that program's exit status."""
    program = f"{sys.executable} -c 'from assocmem.commands.cli import main; main()'"
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + command.replace("assocmem", program)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_characters_that_the_encoding_lacks_are_replaced(folder: Path, encoding: str) -> None:
    out = "записано µ 记忆"
    arguments = ["store", "--keys", "schlüssel.npy", "--values", "values.npy", "--out", out]
    ended = run(*arguments, PYTHONIOENCODING=encoding)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "60 pairs stored" in ended.stdout.decode(encoding)
    assert AssociativeMemory.load(out).n_stored == 60


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
@pytest.mark.parametrize(
    "pipeline",
    [
        "assocmem info Ged* | head -1",
        "(sleep 0.1; assocmem --version 2>&1) | true",
        "(sleep 0.1; assocmem store --keys s*.npy --values values.npy --out new) | true",
    ],
)
def test_a_reader_that_leaves_ends_the_program_quietly(folder: Path, pipeline: str) -> None:
    ended = in_shell(pipeline)
    assert ended.stderr == ""
    assert ended.returncode in ((0, 1) if "head" in pipeline else (1,))
    assert Path("new").exists() == ("store" in pipeline)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("command", ["--version"])
def test_output_that_cannot_be_written_is_said_in_one_line(folder: Path, command: str) -> None:
    ended = in_shell(f"assocmem {command} > /dev/full")
    assert ended.returncode == 2
    assert ended.stderr.startswith("assocmem: ")
    assert "No space left" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
def test_closed_output_does_not_stop_the_work(folder: Path) -> None:
    ended = in_shell("assocmem store --keys s*.npy --values values.npy --out new >&-")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert AssociativeMemory.load("new").n_stored == 60


def test_a_width_of_0_is_ignored(folder: Path) -> None:
    ended = run("info", "Gedächtnis µ 记忆", COLUMNS="0")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"Ridge(alpha=0.0)" in ended.stdout
