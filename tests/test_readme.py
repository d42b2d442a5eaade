"""The code, the links, the commands and the tables of the README and of the pages in docs/ are right."""

import importlib
import json
import os
import re
from pathlib import Path

import pytest

from assocmem import rules
from benchmarks import __main__ as benchmarks
from benchmarks import contest, readme

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page):
    return page.read_text(encoding="utf-8")


def names(pages):
    return [page.relative_to(ROOT).as_posix() for page in pages]


def anchors(page):
    """The fragments by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def registry():
    """Rules that a page registers are forgotten afterwards."""
    known = dict(rules.RULES)
    yield
    rules.RULES.clear()
    rules.RULES.update(known)


@pytest.mark.parametrize("page", WITH_CODE, ids=names(WITH_CODE))
def test_python_blocks_run_one_after_the_other(page, tmp_path, monkeypatch, registry):
    monkeypatch.chdir(tmp_path)
    if "import dask" in text_of(page):
        pytest.importorskip("dask.array")
    namespace = {"__name__": "page"}
    for block in re.finditer(r"```python\n(.*?)```", text_of(page), re.DOTALL):
        first = text_of(page).count("\n", 0, block.start(1))
        exec(compile("\n" * first + block[1], str(page), "exec"), namespace)


def test_the_readme_and_the_guides_have_code():
    assert {"README.md", "docs/guide.md", "docs/rules.md"} <= set(names(WITH_CODE))


def test_the_readme_has_at_most_900_words():
    assert len(text_of(README).split()) <= 900


def test_the_readme_begins_with_its_two_commands():
    blocks = re.findall(r"```(\w+)\n(.*?)```", text_of(README), re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "sh", "python"]
    assert blocks[0][1].endswith("assocmem demo\n")
    assert blocks[1][1].endswith("-m pytest\n")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(text_of(page)):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target), link


def test_every_page_is_linked_from_the_readme():
    linked = {os.path.normpath(ROOT / link.partition("#")[0]) for link in LINK.findall(text_of(README))}
    pages = {os.path.normpath(page) for page in (*PAGES[1:], *(ROOT / "examples").glob("*.py"))}
    assert pages <= linked


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_benchmarks_that_are_named_exist(page):
    named = set(re.findall(r"python -m benchmarks ([\w-]+)", text_of(page)))
    assert named <= {*benchmarks.BENCHMARKS, "tiny"}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_commands_that_are_named_exist(page):
    pytest.importorskip("typer")
    commands = {
        **importlib.import_module("assocmem.commands.cli").COMMANDS,
        **importlib.import_module("assocmem.commands.capacity").COMMANDS,
    }
    named = re.findall(r"(?:`|^|&& )assocmem ([\w-]+)", text_of(page), re.MULTILINE)
    assert set(named) <= set(commands)


def test_extras_that_are_named_exist():
    defined = set(re.findall(r"^(\w+) =$", text_of(ROOT / "setup.cfg").split("extras_require]")[1], re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"extra `(\w+)`", text_of(page))) <= defined


# ---------------------------------------------------------------------------------------------- tables of speed


def test_tables_of_speed_are_those_of_the_last_run():
    found = json.loads(text_of(contest.RESULTS))
    assert readme.with_table(text_of(README), readme.five_rows(found)) == text_of(README)
    assert readme.with_table(text_of(readme.SPEED), contest.markdown(found)) == text_of(readme.SPEED)


def test_another_run_changes_its_rows_and_nothing_else(tmp_path, monkeypatch):
    found = json.loads(text_of(contest.RESULTS))
    changed = "recursive least squares, one pair, D=2048"
    next(result for result in found["results"] if result["name"] == changed).update(ours=4.321, ratio=98.76)
    results = tmp_path / "speed.json"
    results.write_text(json.dumps(found), encoding="utf-8")
    monkeypatch.setattr(readme, "SOURCES", (README, readme.SPEED, results))
    committed = {"README": README, "SPEED": readme.SPEED}
    for name in committed:
        monkeypatch.setattr(readme, name, tmp_path / f"{name}.md")
    readme.main()
    for name, page in committed.items():
        before, after = (text_of(path).splitlines() for path in (page, tmp_path / f"{name}.md"))
        (row,) = [line for old, line in zip(before, after, strict=True) if old != line]
        assert "4.32 s" in row
        assert "98.76" in row


def test_a_page_without_the_comments_and_a_run_without_a_row_are_refused():
    with pytest.raises(ValueError, match="comments around the table"):
        readme.with_table("# Speed\n", "")
    with pytest.raises(ValueError, match="the results lack"):
        readme.five_rows({"results": [], "machine": ""})
