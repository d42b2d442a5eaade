"""The demonstration: what it claims about real digits, and that it runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from assocmem.commands import cli, demo, plots

NAMES = ("hebbian", "delta", "ridge", "rls")


def test_five_fold_accuracy_of_the_documented_configuration() -> None:
    accuracies = demo.cross_validate()
    assert accuracies.shape == (5,)
    assert accuracies.mean() >= 0.985


def test_damaged_copies_never_have_the_half_erased_that_the_memory_is_asked_about() -> None:
    images = np.ones((40, demo.SIDE**2))
    lower = demo.erase_half(images, np.full(40, np.pi / 2))
    assert lower[0].reshape(8, 8)[:4].all()
    assert not lower[0].reshape(8, 8)[4:].any()
    for copies in demo.damaged_copies(images, np.random.default_rng(3)):
        assert not (copies == lower).all(axis=1).any()


def test_restored_images_are_less_than_two_thirds_as_far_from_the_stored_ones() -> None:
    restoration = demo.restore(seed=1)
    assert restoration.error(restoration.from_half_erased) < restoration.error(restoration.half_erased) / 2
    assert restoration.error(restoration.from_noisy) < restoration.error(restoration.noisy) / 1.5
    assert restoration.error(restoration.images) == 0.0


def test_demo_prints_every_method_and_draws_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "cross_validate", lambda seed: np.array([0.5, 0.75]))  # has its own test
    picture = tmp_path / "digits.png"
    result = CliRunner().invoke(cli.build(), ["demo", "--out", str(picture)])
    assert result.exit_code == 0, result.output
    for name in (*NAMES, "nearest neighbours", "linear ridge", "62.5%", "half erased", str(picture)):
        assert name in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = {
        name: float(re.search(rf"{name} [^\d]*([\d.]+)%", result.stdout).group(1)) for name in (*NAMES, "linear ridge")
    }
    assert shown["ridge"] >= 98.0 > shown["linear ridge"]
    assert abs(shown["rls"] - shown["ridge"]) <= 0.3
    assert min(shown.values()) > 50.0


@pytest.mark.parametrize("name", ["picture", "picture.doc"])
def test_demo_refuses_a_name_that_is_no_picture_before_it_works(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(cli.build(), ["demo", "--out", str(tmp_path / name)])
    assert result.exit_code == 2
    assert "the name of a picture must end in" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_row_of_a_picture_has_the_same_number_of_images(tmp_path: Path) -> None:
    rows = [("one", np.zeros((2, 4))), ("two", np.zeros((3, 4)))]
    with pytest.raises(ValueError, match="zip"):
        plots.draw_image_rows(tmp_path / "picture.png", "png", "title", rows, side=2)
