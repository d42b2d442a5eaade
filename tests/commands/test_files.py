"""The kinds of files that the commands take: archives, Parquet, standard input and output, frozen memories."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

import assocmem
from assocmem import AssociativeMemory, FrozenMemory
from assocmem.commands import cli
from tests.commands.test_cli import assert_refused, succeeded
from tests.helpers import pairs

KEYS, VALUES = pairs(60, 10, 3)


def run(*arguments: str, content: bytes | None = None) -> Any:
    return CliRunner().invoke(cli.build(), list(arguments), input=content)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("keys.npy", KEYS)
    np.save("VALUES.NPY.npy", VALUES)
    Path("VALUES.NPY.npy").rename("VALUES.NPY")
    np.savez("pairs.npz", keys=KEYS, values=VALUES)
    np.savez("KEYS.npz", KEYS)
    Path("KEYS.npz").rename("KEYS.NPZ")
    return tmp_path


def memory_of_pairs() -> AssociativeMemory:
    memory = AssociativeMemory(10, 3)
    memory.store(KEYS, VALUES)
    return memory


def assert_stored(*options: str, content: bytes | None = None) -> None:
    assert "60 pairs stored" in succeeded(run("store", *options, "--out", "memory", content=content))
    assert np.allclose(AssociativeMemory.load("memory").recall(KEYS), memory_of_pairs().recall(KEYS), atol=1e-9)


def test_one_array_may_be_named_twice(folder):
    """Keys that are their own values."""
    succeeded(run("store", "--keys", "keys.npy", "--values", "keys.npy", "--out", "memory"))
    assert np.allclose(AssociativeMemory.load("memory").recall(KEYS), KEYS)


def write_parquet(folder: Path) -> None:
    """Pairs in one file, in a folder of two, and keys and values apart, a column for every number."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"key": KEYS.tolist(), "value": VALUES.tolist()})
    parquet.write_table(table, "pairs.PARQUET")
    (folder / "parts").mkdir()
    parquet.write_table(table[:20], "parts/a.parquet")
    parquet.write_table(table[20:], "parts/b.pq")
    parquet.write_table(pyarrow.table({f"k{i}": column for i, column in enumerate(KEYS.T)}), "keys.pq")
    parquet.write_table(pyarrow.table({"a": VALUES[:, 0], "b": VALUES[:, 1:].tolist()}), "values.pq")


@pytest.mark.parametrize(
    "options",
    [
        ["--keys", "pairs.npz"],
        ["--keys", "pairs.npz", "--values", "pairs.npz", "--checkpoint", "run"],
        ["--keys", "KEYS.NPZ", "--values", "VALUES.NPY"],
    ],
)
def test_archives_are_stored(folder: Path, options: list[str]) -> None:
    assert_stored(*options)


@pytest.mark.parametrize(
    "options",
    [
        ["--keys", "pairs.PARQUET"],
        ["--keys", "parts"],
        ["--keys", "pairs.PARQUET", "--values", "pairs.PARQUET", "--checkpoint", "run"],
        ["--keys", "pairs.PARQUET", "--values", "VALUES.NPY"],
        ["--keys", "keys.pq", "--values", "values.pq"],
        ["--keys", "keys.npy", "--values", "values.pq", "--value-columns", "a,b"],
    ],
)
def test_parquet_is_stored(folder: Path, options: list[str]) -> None:
    write_parquet(folder)
    assert_stored(*options)


def test_the_library_takes_the_same_names(folder: Path) -> None:
    write_parquet(folder)
    for source in ("pairs.PARQUET", "parts"):
        memory = AssociativeMemory(10, 3)
        memory.store_from(source)
        assert np.allclose(memory.recall(KEYS), memory_of_pairs().recall(KEYS), atol=1e-9)


def test_files_that_lack_a_part_are_refused(folder: Path) -> None:
    write_parquet(folder)
    out = ["--out", "memory"]
    assert_refused(run("store", "--keys", "keys.npy", *out), "keys.npy holds one array", "--values")
    assert_refused(run("store", "--keys", "KEYS.NPZ", *out), "arrays ['arr_0']", "expected keys")
    assert_refused(run("store", "--keys", "keys.pq", *out), "no column key")
    assert_refused(run("store", "--keys", "pairs.npz", "--key-columns", "a", *out), "columns are for Parquet")
    np.savez("objects.npz", keys=np.array([None]), values=VALUES)
    Path("broken.npz").write_bytes(Path("pairs.npz").read_bytes()[:1000])
    Path("text.parquet").write_text("1,2\n3,4\n")
    for name in ("objects.npz", "broken.npz", "text.parquet"):
        refused = run("store", "--keys", name, *out)
        assert_refused(refused, name)
        assert "pickle" not in refused.stderr
    assert not Path("memory").exists()


def as_npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_standard_input_and_output_are_npy(folder: Path) -> None:
    assert_stored("--keys", "-", content=Path("pairs.npz").read_bytes())
    assert_stored("--keys", "-", "--values", "VALUES.NPY", content=as_npy(KEYS))
    for keys in (KEYS, KEYS[0]):
        ended = run("recall", "memory", "--keys", "-", "--out", "-", content=as_npy(keys))
        assert ended.exit_code == 0, ended.output
        assert np.allclose(np.load(io.BytesIO(ended.stdout_bytes)), memory_of_pairs().recall(keys), atol=1e-9)
    refused = run("recall", "memory", "--keys", "-", "--out", "-", content=b"1,2\n3,4\n")
    assert_refused(refused, "standard input is text, for example CSV", ".npy", "numpy.loadtxt")
    assert_refused(run("info", "-"), "expected the name of a file")
    assert_refused(run("store", "--keys", "pairs.npz", "--out", "-"), "expected the name of a file")
    assert not Path("-").exists()


def test_standard_streams_through_pipes(folder: Path) -> None:
    memory_of_pairs().save("memory")
    command = [sys.executable, "-m", "assocmem", "recall", "memory", "--keys", "-", "--out", "-"]
    ended = subprocess.run(command, input=as_npy(KEYS), capture_output=True, check=True)
    assert np.array_equal(np.load(io.BytesIO(ended.stdout)), memory_of_pairs().recall(KEYS))
    assert ended.stderr == b""


@pytest.mark.parametrize("precision", ["float32", "float64", "int8"])
def test_frozen_memories_are_made_recalled_and_shown(folder: Path, precision: str) -> None:
    memory_of_pairs().save("memory")
    shown = succeeded(run("freeze", "memory", "frozen", "--precision", precision, "--sample", "keys.npy"))
    assert f"{precision} weights" in shown
    assert "on the sample" in shown
    frozen = FrozenMemory.load("frozen")
    assert frozen.precision == precision
    succeeded(run("recall", "frozen", "--keys", "keys.npy", "--out", "answers.npy"))
    assert np.array_equal(np.load("answers.npy"), frozen.recall(KEYS))
    shown = succeeded(run("info", "frozen"))
    assert precision in shown.split()
    assert_refused(run("freeze", "frozen", "other"), "frozen memory", "expected a memory")
    assert_refused(run("freeze", "memory", "memory"), "both read and written")
    assert_refused(run("freeze", "memory", "other", "--precision", "float16"), "float16", "int8")


def test_the_package_runs_as_a_module(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-m", "assocmem", "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"assocmem {assocmem.__version__}\n"
