"""The README's code runs as printed."""

import importlib
import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_links_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link.partition("#")[0]).exists(), link


def test_the_table_of_speed_is_that_of_the_last_run():
    """Generated, never typed: python -m benchmarks readme."""
    readme = importlib.import_module("benchmarks.readme")
    assert readme.with_tables(README) == README
