"""Write the speeds of the last run into README.md (five rows) and docs/speed.md (all), between comments that say so."""

import json
from pathlib import Path
from typing import Any, Final

from benchmarks import contest
from benchmarks.contest import amount, markdown
from benchmarks.timing import table

ROOT: Final = Path(__file__).parent.parent
README, SPEED = ROOT / "README.md", ROOT / "docs" / "speed.md"
SOURCES: Final = (README, SPEED, contest.RESULTS)  # with --tiny, the paths above are those of copies to write

CHOSEN: Final = {
    "one key, float32, d=1024 k=8 v=4096": "recall of one key, d=1024, D=9216, v=4096",
    "one key, int8, d=1024 k=8 v=4096": "the same from 8-bit weights",
    "ridge, 20 000 pairs, d=512 k=8 v=64, float32: keys to weights": "ridge, 20,000 pairs, D=4608, v=64",
    "recursive least squares, one pair, D=2048": "rls, one pair, D=2048",
    "Hebbian, 4096 pairs, D=4608 v=256": "hebbian, 4096 pairs, D=4608, v=256",
}


def five_rows(found: dict[str, Any]) -> str:
    """The table of the README, from the results of a run."""
    results = {result["name"]: result for result in found["results"]}
    missing = [name for name in CHOSEN if name not in results]
    if missing:
        raise ValueError(f"the results lack {missing}; run python -m benchmarks speed, or choose other rows")
    rows = []
    for name, shown in CHOSEN.items():
        result = results[name]
        ours, theirs = (amount(result[side], result["unit"]) for side in ("ours", "theirs"))
        rows.append([shown, ours, f"{theirs} ({result['fastest']})", f"{result['ratio']:.2f}"])
    machine = ", ".join(found["machine"].split(", ")[:2])
    return table(["", "assocmem", "fastest other", "times faster"], rows) + f"\n\n{machine}\n"


def with_table(text: str, found: str) -> str:
    """The text with another table between the comments."""
    before, begin, rest = text.partition("<!-- speed, by python -m benchmarks readme -->\n")
    _, end, after = rest.partition("<!-- end of speed -->")
    if not (begin and end):
        raise ValueError("the page lacks the two comments around the table of speed: put them back")
    return f"{before}{begin}\n{found}\n{end}{after}"


def main() -> None:
    readme, speed, results = (path.read_text(encoding="utf-8") for path in SOURCES)
    found = json.loads(results)
    README.write_text(with_table(readme, five_rows(found)), encoding="utf-8")
    SPEED.write_text(with_table(speed, markdown(found)), encoding="utf-8")
