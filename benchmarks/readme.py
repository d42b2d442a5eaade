"""Write the tables of the last runs into the README, between the comments that name them."""

import json
from pathlib import Path

from benchmarks.contest import RESULTS, markdown

README = Path(__file__).parent.parent / "README.md"


def with_tables(text: str) -> str:
    """The text with its table of speed taken from the last run's results."""
    table = markdown(json.loads(RESULTS.read_text(encoding="utf-8")))
    before, begin, rest = text.partition("<!-- speed, by python -m benchmarks readme -->\n")
    _, end, after = rest.partition("<!-- end of speed -->")
    if not (begin and end):
        raise ValueError("README.md lacks the comments between which the table of speed stands; put them back")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main() -> None:
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
