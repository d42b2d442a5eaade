"""The commands, through typer's runner, and their pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import assocmem
from assocmem.capacity import measure, signs
from assocmem.capacity.tables import predicted_curves
from assocmem.commands import capacity, cli
from assocmem.rules import Hebbian, Ridge

STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.build(), list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})


def words(text: str) -> str:
    """The text of a refusal without the frame around it."""
    return " ".join(text.replace("│", " ").split())


SMALL = ("--key-dim", "16", "--value-dim", "4", "--expansion", "2", "--loads", "0.2,0.8", "--cosines", "1,0.9")


@pytest.mark.parametrize("kind", ["sign", "gaussian", "onehot"])
def test_capacity_prints_and_writes_what_it_measured(tmp_path: Path, kind: str) -> None:
    result = run(
        "capacity", *SMALL, "--rules", "hebbian,ridge@0.9", "--trials", "2", "--kind", kind, "--out", str(tmp_path)
    )
    assert result.exit_code == 0, result.output
    assert "of the 99 % intervals of hebbian and ridge contain the prediction" in words(result.output)
    assert "ridge@0.9" in result.output
    rows = list(csv.DictReader((tmp_path / "capacity.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["rule"] for row in rows] == 4 * ["hebbian"] + 4 * ["Ridge(query_cosine=0.9)"]
    assert [float(row["measured"]) for row in rows] == [
        row["measured"] for row in json.loads((tmp_path / "capacity.json").read_text(encoding="utf-8"))
    ]
    for row in rows:
        assert f"{float(row['measured']):.3f}" in result.output
    assert (tmp_path / "capacity.png").read_bytes()[:4] == STARTS["png"]
    curves = list(csv.DictReader((tmp_path / "capacity-curves.csv").read_text(encoding="utf-8").splitlines()))
    assert curves[0].keys() == rows[0].keys()
    assert {row["rank"] for row in rows + curves} == {"48"}
    assert {row["version"] for row in rows + curves} == {assocmem.__version__}


@pytest.mark.parametrize("cosines", ["1", "1,0.9,0.8"])
def test_the_summary_fits_a_screen_and_the_rows_are_in_the_files(tmp_path: Path, cosines: str) -> None:
    sizes = ("--key-dim", "16", "--value-dim", "2", "--expansion", "1", "--trials", "2", "--queries", "64")
    arguments = ["capacity", *sizes, "--cosines", cosines, "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.build(), arguments, env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    rows = (tmp_path / "capacity.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 5 * 11 * len(cosines.split(","))


def test_predictions_lie_in_the_intervals_and_wrong_ones_do_not() -> None:
    sample = [measure(rule, value_dim=8, loads=[0.2, 0.6, 1.25, 2.0]) for rule in ("hebbian", "ridge")]
    assert (sample[0] + sample[1]).agreement("hebbian", "ridge") >= 0.93  # 15 of 16
    wrong = sample[0].points[0]
    assert not type(wrong)(**{**wrong.__dict__, "predicted": wrong.high * 1.01}).agrees


def test_the_pictures_have_their_labels() -> None:
    from assocmem.commands import capacity_plots

    rules = {"hebbian": Hebbian(), "Ridge(query_cosine=0.9)": Ridge(query_cosine=0.9)}
    tables = [
        measure(rule, key_dim=16, value_dim=4, expansion=2, loads=[0.3, 0.8], trials=2) for rule in rules.values()
    ]
    table = tables[0] + tables[1]
    figure = capacity_plots.capacity_figure(table, predicted_curves(table, rules))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(rules)
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == [
        "query cosine 1",
        "query cosine 0.9",
        "bits recalled, query cosine 1",
    ]
    assert all(axis.get_xlabel() == "load N / D" and axis.get_ylabel() for axis in panels)
    points = [
        point
        for rule in ("hebbian", "ridge")
        for k in (1, 2)
        for point in signs.measure_signs(rule, 0.5, key_dim=8, expansion=k, trials=2)
    ]
    points += [signs.measure_antipodal(9, bias, key_dim=8, trials=2) for bias in (0.0, 1.0)]
    figure = capacity_plots.sign_loss_figure(points, signs.predicted_signs(8, [1, 2], [5, 9]), 0.5)
    assert all(
        axis.get_title() and axis.get_xlabel() and axis.get_ylabel() and axis.get_legend() for axis in figure.axes
    )


def test_plan_prints_its_answer_and_refuses_with_what_would_do() -> None:
    result = run("plan", "128", "16", "--pairs", "500", "--query-cosine", "0.9")
    assert result.exit_code == 0, result.output
    for line in ("expansion", "predicted error", "bytes on disk", "recall operations", "Ridge(query_cosine=0.9)"):
        assert line in result.output
    refused = run("plan", "16", "4", "--pairs", "100000")
    assert refused.exit_code == 2
    assert "no memory satisfies this" in words(refused.output)


@pytest.mark.parametrize("ending", list(STARTS))
def test_pictures_have_the_format_asked_for(tmp_path: Path, ending: str) -> None:
    rows = ("--loads", "0.5", "--cosines", "1", "--rules", "hebbian", "--trials", "2", "--key-dim", "8")
    result = run("capacity", *rows, "--format", ending, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert (tmp_path / f"capacity.{ending}").read_bytes().startswith(STARTS[ending])
    assert len(list(tmp_path.iterdir())) == 4


def test_plan_takes_a_sample_of_keys_and_queries_from_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((100, 3)) @ rng.standard_normal((3, 16))
    np.save(tmp_path / "keys.npy", keys)
    np.savez(tmp_path / "queries.npz", keys=keys + 0.3 * rng.standard_normal(keys.shape))
    arguments = ("plan", "16", "4", "--pairs", "20", "--error", "0.3", "--keys", str(tmp_path / "keys.npy"))
    result = run(*arguments, "--queries", str(tmp_path / "queries.npz"))
    assert result.exit_code == 0, result.output
    assert "sample size" in result.output
    assert " 100" in result.output
    refused = run("plan", "8", *arguments[2:])
    assert refused.exit_code == 2
    assert "keys have shape (100, 16); expected (N, 8)" in words(refused.output)


def test_sign_loss_prints_and_writes_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "SIGN_LOADS", (0.5, 1.5))
    result = run("sign-loss", "--key-dim", "16", "--trials", "2", "--seed", "3", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    for figure in ("0.9471", "0.8662", "0.6343", "0.3749", "0.3634", "0.5000"):
        assert figure in result.output
    assert (tmp_path / "sign-loss.png").read_bytes()[:4] == STARTS["png"]
    rows = list(csv.DictReader((tmp_path / "sign-loss.csv").read_text(encoding="utf-8").splitlines()))
    curves = list(csv.DictReader((tmp_path / "sign-loss-curves.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(json.loads((tmp_path / "sign-loss.json").read_text(encoding="utf-8")))
    assert {row["quantity"] for row in rows} == {"aligned units", "sign loss", "wrong signs", "antipodal error"}
    assert {(row["seed"], row["version"], row["trials"]) for row in rows} == {("3", assocmem.__version__, "2")}
    for row in rows:
        assert float(row["low"]) <= float(row["measured"]) <= float(row["high"])
        if row["quantity"] == "sign loss" and 0.4 < float(row["load"]) < 0.6:
            assert f"{float(row['measured']):.3f}" in result.output
    assert {row["trials"] for row in curves} == {"0"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("capacity", "--rules", "magic"), "got 'magic'"),
        (("capacity", "--loads", "much"), "must be numbers with commas"),
        (("capacity", "--kind", "colour"), "got 'colour'"),
        (("capacity", "--rules", "ridge@2"), "query_cosine must be a number in (0, 1], got 2.0"),
        (("capacity", "--format", "bmp"), "--format must be one of 'png', 'pdf', 'svg', got 'bmp'"),
        (("sign-loss", "--key-dim", "1"), "must be at least 2, got 1"),
        (("sign-loss", "--format", "bmp"), "got 'bmp'"),
        (("sign-loss", "--trials", "1"), "--trials must be an integer of at least 2, got 1"),
    ],
)
def test_wrong_options_are_refused_in_words(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in words(result.output)
