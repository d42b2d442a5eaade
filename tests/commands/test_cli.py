"""The command line: every command end to end, and every refusal as one line with exit status 2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

import assocmem
from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from assocmem.commands import cli
from assocmem.commands.terminal import readable_bytes

N, KEY_DIM, VALUE_DIM = 60, 10, 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    np.save("keys.npy", rng.standard_normal((N, KEY_DIM)))
    np.save("values.npy", rng.standard_normal((N, VALUE_DIM)))
    np.save("queries.npy", rng.standard_normal((20, KEY_DIM)))
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.build(), list(arguments))


def store(*options: str, out: str = "memory") -> Any:
    return run("store", "--keys", "keys.npy", "--values", "values.npy", "--out", out, *options)


def succeeded(result: Any) -> str:
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def assert_refused(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("assocmem: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.fixture
def pairs(folder: Path) -> tuple[Any, Any, Any]:
    return np.load("keys.npy"), np.load("values.npy"), np.load("queries.npy")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {}),
        (["--rule", "hebbian", "--no-whiten"], {"rule": "hebbian", "whiten": False}),
        (["--rule", "delta", "--dtype", "float32"], {"rule": "delta", "dtype": "float32"}),
        (["--alpha", "0.5", "--bias", "1.5", "--seed", "7"], {"rule": Ridge(alpha=0.5), "bias": 1.5, "seed": 7}),
        (["--rule", "rls", "--alpha", "2", "--expansion", "2"], {"rule": RecursiveLeastSquares(2.0), "expansion": 2}),
    ],
)
def test_store_and_recall_equal_the_api(
    pairs: tuple[Any, Any, Any], options: list[str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assocmem.cell.CHUNK_BYTES", 1)
    monkeypatch.setattr("assocmem.cell.PENDING", 64)
    keys, values, queries = pairs
    memory = AssociativeMemory(KEY_DIM, VALUE_DIM, **expected)
    memory.store(keys, values)
    assert f"{N} pairs stored, load {N / memory.rank:.3g}" in succeeded(store(*options))
    assert "20 key" in succeeded(run("recall", "memory", "--keys", "queries.npy", "--out", "answers.npy"))
    answers = np.load("answers.npy")
    assert answers.dtype == memory.dtype
    np.testing.assert_allclose(
        answers, memory.recall(queries), rtol=0, atol=1e-9 if memory.dtype == np.float64 else 1e-4
    )
    loaded = AssociativeMemory.load("memory")
    assert repr(loaded) == repr(memory)
    assert (loaded.features.bias, loaded.features.seed) == (memory.features.bias, memory.features.seed)
    assert (loaded.features.whiten, loaded.dtype) == (memory.features.whiten, memory.dtype)
    assert sorted(os.listdir()) == ["answers.npy", "keys.npy", "memory", "queries.npy", "values.npy"]


def test_store_into_a_memory_goes_on_with_it(pairs: tuple[Any, Any, Any]) -> None:
    keys, values, queries = pairs
    np.save("more_keys.npy", queries.astype(">f4"))
    np.save("more_values.npy", np.arange(20 * VALUE_DIM).reshape(20, VALUE_DIM, order="F"))
    succeeded(store("--alpha", "1"))
    more = ["--keys", "more_keys.npy", "--values", "more_values.npy"]
    assert "80 pairs stored" in succeeded(run("store", *more, "--into", "memory", "--out", "memory"))
    memory = AssociativeMemory(KEY_DIM, VALUE_DIM, rule=Ridge(alpha=1.0))
    memory.store(keys, values)
    memory.store(np.load("more_keys.npy"), np.load("more_values.npy"))
    np.testing.assert_allclose(AssociativeMemory.load("memory").recall(keys), memory.recall(keys), atol=1e-10)


def test_a_finished_store_with_a_checkpoint_stores_nothing_twice(pairs: tuple[Any, Any, Any]) -> None:
    keys, values, _ = pairs
    succeeded(store("--alpha", "1"))
    for _ in range(2):
        again = succeeded(store("--into", "memory", "--checkpoint", "run"))
        assert f"{2 * N} pairs stored" in again
    memory = AssociativeMemory(KEY_DIM, VALUE_DIM, rule=Ridge(alpha=1.0))
    for _ in range(2):
        memory.store(keys, values)
    np.testing.assert_allclose(AssociativeMemory.load("memory").recall(keys), memory.recall(keys), atol=1e-10)


def test_one_pair_and_no_keys_keep_their_shapes(pairs: tuple[Any, Any, Any]) -> None:
    keys, values, _ = pairs
    np.save("keys.npy", keys[0])
    np.save("values.npy", values[0])
    assert "1 pairs stored" in succeeded(store())
    succeeded(run("recall", "memory", "--keys", "keys.npy", "--out", "answer.npy"))
    np.testing.assert_allclose(np.load("answer.npy"), values[0], atol=1e-9)
    np.save("queries.npy", keys[:0])
    succeeded(run("recall", "memory", "--keys", "queries.npy", "--out", "answers.npy"))
    assert np.load("answers.npy").shape == (0, VALUE_DIM)


def test_info_shows_configuration_and_sizes(folder: Path) -> None:
    succeeded(store("--alpha", "0.25", "--bias", "2", "--seed", "5"))
    memory = AssociativeMemory.load("memory")
    shown = succeeded(run("info", "memory"))
    for word in ("Ridge(alpha=0.25)", "2.0", "float64", str(memory.rank), str(N), readable_bytes(memory.nbytes)):
        assert word in shown
    assert readable_bytes(os.path.getsize("memory")) in shown


def test_version_and_help(folder: Path) -> None:
    assert succeeded(run("--version")) == f"assocmem {assocmem.__version__}\n"
    for command in ("demo", "store", "recall", "info"):
        assert command in succeeded(run("--help"))
        succeeded(run(command, "--help"))


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (35_887_208, "35.9 MB"), (2e9, "2 GB")]
)
def test_bytes_are_readable(count: int, expected: str) -> None:
    assert readable_bytes(count) == expected


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rule", "hopfield"], ["hopfield", "'hebbian', 'delta', 'ridge', 'rls'"]),
        (["--rule", "hebbian", "--alpha", "1"], ["hebbian", "no penalty"]),
        (["--alpha", "-1"], ["alpha", "-1"]),
        (["--expansion", "0"], ["expansion"]),
        (["--expansion", "1000000000000"], []),
        (["--bias", "nan"], ["bias"]),
        (["--dtype", "float16"], ["float16", "float32"]),
        (["--seed", "-1"], ["seed"]),
        (["--into", "nowhere"], ["nowhere"]),
        (["--into", "keys.npy"], ["keys.npy"]),
        (["--into", "keys.npy", "--seed", "1"], ["--into", "seed"]),
        (["--into", "keys.npy", "--no-whiten"], ["--into", "whiten"]),
    ],
)
def test_store_refuses_options(folder: Path, options: list[str], words: list[str]) -> None:
    assert_refused(store(*options), *words)
    assert not Path("memory").exists()


@pytest.mark.parametrize(
    ("keys", "values", "words"),
    [
        (np.ones((4, 2)), np.ones((3, 2)), ["4 keys came with 3 values"]),
        (np.ones((4, 2)), np.ones(4), ["(4, 2)", "(N, 1)"]),
        (np.ones((4, 2, 2)), np.ones((4, 2, 2)), ["(4, 2, 2)"]),
        (np.array(1.0), np.ones(2), ["keys.npy", "single number"]),
        (np.ones((4, 2), complex), np.ones((4, 2)), ["complex128"]),
        (np.full((4, 2), "a"), np.ones((4, 2)), ["<U1"]),
        (np.ones((4, 0)), np.ones((4, 2)), ["key_dim"]),
        (np.array([[1.0, 2.0], [0.0, 0.0]]), np.ones((2, 1)), ["key 1 is all zeros"]),
        (np.array([[1.0, 2.0], [np.nan, 0.0]]), np.ones((2, 1)), ["keys row 1"]),
        (np.array([[None, 1]]), np.ones((1, 1)), ["keys.npy", "Python objects"]),
    ],
)
def test_store_refuses_arrays(folder: Path, keys: Any, values: Any, words: list[str]) -> None:
    np.save("keys.npy", keys)
    np.save("values.npy", values)
    assert_refused(store(), *words)
    assert not Path("memory").exists()


def test_refusals_name_the_row_of_the_file(pairs: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assocmem.cell.CHUNK_BYTES", 1)
    monkeypatch.setattr("assocmem.cell.PENDING", 16)
    keys, _, _ = pairs
    keys[40] = 0.0
    np.save("keys.npy", keys)
    assert_refused(store(), "key 40 is all zeros")
    assert not Path("memory").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00", b"\x80\x04K\x01."])
def test_files_that_are_not_arrays_are_refused(folder: Path, content: bytes) -> None:
    Path("keys.npy").write_bytes(content)
    assert_refused(store(), "keys.npy", "numpy.save")


def test_missing_files_and_directories_are_refused(folder: Path) -> None:
    values = ["--values", "values.npy"]
    assert_refused(run("store", "--keys", "none.npy", *values, "--out", "memory"), "no file none.npy")
    assert_refused(run("store", "--keys", "none.npz", *values, "--out", "memory"), "no file none.npz")
    assert_refused(run("store", "--keys", "none.parquet", *values, "--out", "memory"), "no file none.parquet")
    assert_refused(store(out="none/memory"), "no directory none")
    assert_refused(store(out="."), "is a directory")
    assert_refused(store(out="keys.npy"), "both read and written")


def test_a_failed_store_leaves_the_old_memory(folder: Path) -> None:
    succeeded(store())
    before = Path("memory").read_bytes()
    np.save("keys.npy", np.full((N, KEY_DIM), np.inf))
    assert_refused(store(), "keys row 0")
    assert Path("memory").read_bytes() == before


def test_recall_refuses_and_writes_nothing(folder: Path) -> None:
    succeeded(store())
    np.save("wide.npy", np.ones((3, KEY_DIM + 1)))
    np.save("zero.npy", np.zeros((3, KEY_DIM)))
    names = sorted(os.listdir())
    out = ["--out", "answers.npy"]
    assert_refused(run("recall", "none", "--keys", "queries.npy", *out), "no file none")
    assert_refused(run("recall", "keys.npy", "--keys", "queries.npy", *out), "keys.npy is not a memory")
    assert_refused(run("recall", "memory", "--keys", "none.npy", *out), "no file none.npy")
    assert_refused(run("recall", "memory", "--keys", "wide.npy", *out), f"(3, {KEY_DIM + 1})", f"(N, {KEY_DIM})")
    assert_refused(run("recall", "memory", "--keys", "zero.npy", *out), "key 0 is all zeros")
    assert_refused(run("recall", "memory", "--keys", "queries.npy", "--out", "memory"), "both read and written")
    assert sorted(os.listdir()) == names


def test_info_predicts_from_a_sample_of_keys(folder: Path) -> None:
    succeeded(store("--alpha", "0.25"))
    np.save("sample.npy", np.random.default_rng(9).standard_normal((50, KEY_DIM)))
    memory = AssociativeMemory.load("memory")
    assert str(memory.diagnose()) in succeeded(run("info", "memory"))
    shown = succeeded(run("info", "memory", "--keys", "sample.npy"))
    assert str(memory.diagnose(keys=np.load("sample.npy"))) in shown
    succeeded(run("freeze", "memory", "frozen"))
    assert_refused(run("info", "frozen", "--keys", "sample.npy"), "frozen is frozen, and has no diagnosis")


def test_info_refuses_what_is_not_a_memory(folder: Path) -> None:
    assert_refused(run("info", "none"), "no file none")
    assert_refused(run("info", "keys.npy"), "keys.npy is not a memory")
    succeeded(store())
    content = Path("memory").read_bytes()
    Path("memory").write_bytes(content[: len(content) // 2])
    assert_refused(run("info", "memory"), "truncated")


# ---------------------------------------------------------------------------------------------- the program

WITHOUT = """
import sys
for name in {missing}: sys.modules[name] = None
from assocmem.commands import cli
sys.argv = ["assocmem", *{arguments}]
cli.main()
"""


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [(["typer"], []), (["rich"], ["--version"]), (["matplotlib"], ["demo"]), (["sklearn"], ["demo"])],
)
def test_a_missing_extra_is_named_in_one_line(folder: Path, missing: list[str], arguments: list[str]) -> None:
    program = WITHOUT.format(missing=missing, arguments=arguments)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == cli.NEEDS + "\n"


def test_importing_the_package_imports_none_of_the_extras() -> None:
    extras = ["assocmem.commands.cli", "assocmem.commands.demo", "assocmem.commands.plots", *cli.EXTRA]
    program = f"import sys, assocmem; print([name for name in {extras} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_a_center_is_subtracted_from_every_key(pairs: tuple[Any, Any, Any]) -> None:
    keys, values, queries = pairs
    np.save("mean.npy", keys.mean(axis=0))
    np.savez("mean.npz", center=keys.mean(axis=0))
    memory = AssociativeMemory(KEY_DIM, VALUE_DIM, center=keys.mean(axis=0))
    memory.store(keys, values)
    for file in ("mean.npy", "mean.npz"):
        succeeded(store("--center", file))
        assert np.array_equal(AssociativeMemory.load("memory").features.center, memory.features.center)
        succeeded(run("recall", "memory", "--keys", "queries.npy", "--out", "answers.npy"))
        np.testing.assert_allclose(np.load("answers.npy"), memory.recall(queries), rtol=0, atol=1e-9)
    succeeded(run("freeze", "memory", "frozen"))
    norm = f"norm {np.linalg.norm(keys.mean(axis=0)):.3g}"
    for file in ("memory", "frozen"):
        assert norm in succeeded(run("info", file))
    succeeded(store(out="plain"))
    assert any(line.split() == ["center", "none"] for line in succeeded(run("info", "plain")).splitlines())


def test_other_centers_are_refused(folder: Path) -> None:
    np.save("wide.npy", np.ones(KEY_DIM + 1))
    assert_refused(store("--center", "wide.npy"), "center", f"({KEY_DIM},)", f"({KEY_DIM + 1},)")
    assert_refused(store("--center", "absent.npy"), "absent.npy")
    np.save("mean.npy", np.ones(KEY_DIM))
    succeeded(store("--center", "mean.npy"))
    assert_refused(store("--center", "mean.npy", "--into", "memory"), "--into", "center")
    assert_refused(store("--center", "mean.npy", out="mean.npy"), "mean.npy", "read and written")
    np.save("queries.npy", np.ones((2, KEY_DIM)))
    refused = run("recall", "memory", "--keys", "queries.npy", "--out", "answers.npy")
    assert_refused(refused, "key 0", "equals the center", "bias")
