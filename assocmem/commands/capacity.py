"""The commands `capacity`, `plan` and `sign-loss`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from assocmem.capacity import CapacityTable, Point, measure, plan
from assocmem.capacity.measuring import label_of, one_blas_thread
from assocmem.capacity.signs import SignPoint, measure_antipodal, measure_signs, predicted_signs
from assocmem.capacity.tables import predicted_curves, save_rows
from assocmem.commands import arrays
from assocmem.commands.terminal import pairs_table, plain_table, progress_bar
from assocmem.core import checks, files
from assocmem.laws import sign_loss
from assocmem.rules import Ridge, Rule, as_rule

# Largest summary that fits on a screen of 80 columns and 24 lines.
SUMMARY_RULES: Final = 5
SUMMARY_LOADS: Final = 7
SUMMARY_COSINES: Final = 2

FORMATS: Final = ("png", "pdf", "svg")

ERRORS: Final = {"sign": "share of wrong signs", "gaussian": "mean squared error", "onehot": "share of wrong classes"}

DEFAULT_RULES = "hebbian,delta,ridge,ridge@0.9,rls"
DEFAULT_LOADS = "0.05,0.1,0.2,0.4,0.6,0.8,0.9,1.1,1.25,1.5,2"

SIGN_EXPANSIONS: Final = (1, 2, 4, 8)
SIGN_LOADS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 1.1, 1.5, 2.0)
SIGN_LOAD: Final = 0.5  # of the printed table, and of the panels over the expansion


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--{name} must be numbers with commas, for example 0.5,1, got {text!r}") from None


def _rule_of(text: str) -> Rule:
    """Return the rule of a name, or of ``ridge@0.9``: ridge with the best penalty for queries of cosine 0.9."""
    name, _, cosine = text.strip().partition("@")
    return Ridge(query_cosine=_numbers("rules", cosine)[0]) if cosine and name == "ridge" else as_rule(text.strip())


def capacity_command(
    rules: Annotated[str, typer.Option(help="Rules; ridge@0.9 has the best penalty for cosine 0.9.")] = DEFAULT_RULES,
    key_dim: Annotated[int, typer.Option(help="Length d of a key.")] = 128,
    value_dim: Annotated[int, typer.Option(help="Length of a value; of one-hot values: classes.")] = 8,
    expansion: Annotated[int, typer.Option(help="Random orthogonal blocks k.")] = 3,
    loads: Annotated[str, typer.Option(help="Loads N / D.")] = DEFAULT_LOADS,
    cosines: Annotated[str, typer.Option(help="Cosines of queries and stored keys; 1 is clean.")] = "1,0.9,0.8",
    kind: Annotated[str, typer.Option(help="Values: sign (±1), gaussian or onehot.")] = "sign",
    trials: Annotated[int, typer.Option(help="Memories per load.")] = 5,
    queries: Annotated[int, typer.Option(help="Pairs queried in every memory.")] = 1024,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    seed: Annotated[int, typer.Option(help="The same seed gives the same table.")] = 0,
    processes: Annotated[int, typer.Option(help="Trials that run in parallel, each with one BLAS thread.")] = 1,
    picture: Annotated[str, typer.Option("--format", help="Of the picture: png, pdf or svg.")] = "png",
    out: Annotated[Path, typer.Option(help="Folder for capacity.csv, .json, -curves.csv and the picture.")] = Path(),
) -> None:
    """Measure recall errors against load and compare them with the predicted ones."""
    from assocmem.commands.capacity_plots import capacity_figure, save_figure  # before the work: matplotlib may lack

    chosen = {text.strip(): _rule_of(text) for text in rules.split(",")}
    outputs = _outputs("capacity", picture, out)
    table = CapacityTable(())
    with progress_bar() as progress, one_blas_thread():
        task = progress.add_task("", total=None)
        for name, rule in chosen.items():
            progress.reset(task, description=name)
            table += measure(
                rule,
                key_dim=key_dim,
                value_dim=value_dim,
                expansion=expansion,
                loads=_numbers("loads", loads),
                query_cosines=_numbers("cosines", cosines),
                kind=kind,
                trials=trials,
                queries=queries,
                dtype=dtype,
                seed=seed,
                processes=processes,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    curves = predicted_curves(table, {label_of(rule): rule for rule in chosen.values()})
    figure = capacity_figure(table, curves)
    for path, rows in zip(outputs[:-1], (table, table, curves), strict=True):
        rows.save(path)
    save_figure(figure, outputs[-1])
    _print_summary(table, chosen)
    print(f"{len(table)} rows in capacity.csv and .json, curves in capacity-curves.csv and .{picture}; folder: {out}")


def _outputs(stem: str, picture: str, folder: Path) -> list[Path]:
    """Return the files to write, rows, the same as JSON, curves and picture, or refuse before any work."""
    checks.as_choice("--format", picture, FORMATS)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in (f"{stem}.csv", f"{stem}.json", f"{stem}-curves.csv", f"{stem}.{picture}")]
    for path in paths:
        files.target_of(path)
    return paths


def _print_summary(table: CapacityTable, rules: Mapping[str, Rule]) -> None:
    """Print loads down and rules across, measured and predicted, a block for each of two cosines."""
    console = Console()
    cosines = list(dict.fromkeys(point.query_cosine for point in table.points))[:SUMMARY_COSINES]
    loads = list(dict.fromkeys(point.load for point in table.points))
    n_loads = min(SUMMARY_LOADS * SUMMARY_COSINES // len(cosines), len(loads))
    shown = [loads[i] for i in np.linspace(0, len(loads) - 1, n_loads).round().astype(int)]
    print(f"{ERRORS[table.points[0].kind]}, measured and predicted, by load and cosine of the queries")
    for cosine in cosines:
        console.print(_block(table, dict(list(rules.items())[:SUMMARY_RULES]), cosine, shown))
    of_two, of_all = table.agreement("hebbian", "ridge"), table.agreement()
    print(f"{of_two:.1%} of the 99 % intervals of hebbian and ridge contain the prediction,")
    print(f"{of_all:.1%} of all (* marks the others)")


def _block(table: CapacityTable, rules: Mapping[str, Rule], cosine: float, loads: Sequence[float]) -> Table:
    shown = plain_table(f"cos {cosine:g}", *rules, left=0)
    found = {(point.rule, point.load): point for point in table.points if point.query_cosine == cosine}
    for load in loads:
        shown.add_row(f"{load:.3g}", *(_errors(found[label_of(rule), load]) for rule in rules.values()))
    return shown


def _errors(point: Point) -> str:
    mark = " " if np.isnan(point.predicted) or point.agrees else "*"
    return f"{_three_digits(point.measured)} {_three_digits(point.predicted)}{mark}"


def _three_digits(error: float) -> str:
    return f"{error:.3f}" if error < 9.9995 or np.isnan(error) else f"{error:.3g}"


def plan_command(
    key_dim: Annotated[int, typer.Argument(help="Length of a key.")],
    value_dim: Annotated[int, typer.Argument(help="Length of a value; of one-hot values: classes.")],
    pairs: Annotated[int | None, typer.Option(help="Pairs to hold.")] = None,
    memory_bytes: Annotated[int | None, typer.Option(help="Bytes that the memory may take.")] = None,
    error: Annotated[float, typer.Option(help="Largest error allowed.")] = 0.01,
    kind: Annotated[str, typer.Option(help="sign: wrong signs; gaussian: squared error; onehot: classes.")] = "sign",
    query_cosine: Annotated[float, typer.Option(help="Cosine of queries and stored keys.")] = 1.0,
    rule: Annotated[str, typer.Option(help="ridge, rls, delta or hebbian.")] = "ridge",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    keys: Annotated[Path | None, typer.Option(help="A sample of keys like those to be stored, some hundreds.")] = None,
    queries: Annotated[
        Path | None, typer.Option(help="A noisy query for each key of the sample, instead of a cosine.")
    ] = None,
) -> None:
    """Size a memory: the smallest for so many pairs, or the most pairs for so many bytes."""
    answer = plan(
        key_dim,
        value_dim,
        pairs,
        error=error,
        kind=kind,
        query_cosine=query_cosine,
        rule=rule,
        dtype=dtype,
        memory_bytes=memory_bytes,
        keys=None if keys is None else arrays.read_rows(keys, "keys"),
        queries=None if queries is None else arrays.read_rows(queries, "keys"),
    )
    rows = [(field.name.replace("_", " "), _readable(getattr(answer, field.name))) for field in fields(answer)]
    Console().print(pairs_table(rows))


def _readable(entry: object) -> str:
    return f"{entry:.4g}" if isinstance(entry, float) else f"{entry:,}" if isinstance(entry, int) else str(entry)


def sign_loss_command(
    key_dim: Annotated[int, typer.Option(help="Length d of a key.")] = 64,
    trials: Annotated[int, typer.Option(help="Memories for every rule, expansion and load.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of keys, values and projection.")] = 0,
    picture: Annotated[str, typer.Option("--format", help="Of the picture: png, pdf or svg.")] = "png",
    out: Annotated[Path, typer.Option(help="Folder for sign-loss.csv, .json, -curves.csv and the picture.")] = Path(),
) -> None:
    """Report the bits of sign that aligned weights lose, and how a bias recovers antipodal keys."""
    from assocmem.commands.capacity_plots import save_figure, sign_loss_figure

    if key_dim < 2:
        raise ValueError(f"--key-dim must be at least 2, got {key_dim}")
    checks.as_size("--trials", trials, 2)
    outputs = _outputs("sign-loss", picture, out)
    pairs = sorted({max(1, round(key_dim * share)) for share in (0.5, 0.8, 1.0, 1.1, 1.25, 1.5, 2.0, 2.4)})
    trained, antipodal = _measured_signs(key_dim, pairs, trials, seed)
    points = [point for found in (*trained.values(), *antipodal.values()) for point in found]
    curves = predicted_signs(key_dim, range(1, max(SIGN_EXPANSIONS) + 1), range(pairs[0], pairs[-1] + 1))
    figure = sign_loss_figure(points, curves, SIGN_LOAD)
    for path, rows in zip(outputs[:-1], (points, points, curves), strict=True):
        save_rows(path, SignPoint, rows)
    save_figure(figure, outputs[-1])
    Console().print(_loss_table(), _trained_table(trained[SIGN_LOAD]), _antipodal_table(*antipodal.values()), sep="\n")
    print(
        f"d = {key_dim}; {len(points)} rows in sign-loss.csv and .json, curves in sign-loss-curves.csv and .{picture}"
    )


def _measured_signs(
    key_dim: int, pairs: Sequence[int], trials: int, seed: int
) -> tuple[dict[float, list[SignPoint]], dict[float, list[SignPoint]]]:
    """Return the points of trained memories, load by load, and those of antipodal keys, bias by bias."""
    cells = [(load, rule, k) for load in SIGN_LOADS for rule in ("hebbian", "ridge") for k in SIGN_EXPANSIONS]
    trained: dict[float, list[SignPoint]] = {load: [] for load in SIGN_LOADS}
    antipodal: dict[float, list[SignPoint]] = {0.0: [], 1.0: []}
    with progress_bar() as progress, one_blas_thread():
        task = progress.add_task("sign loss", total=len(cells) + len(antipodal) * len(pairs))
        for load, rule, k in cells:
            trained[load] += measure_signs(rule, load, key_dim=key_dim, expansion=k, trials=trials, seed=seed)
            progress.advance(task)
        for bias, found in antipodal.items():
            for n in pairs:
                found.append(measure_antipodal(n, bias, key_dim=key_dim, trials=trials, seed=seed))
                progress.advance(task)
    return trained, antipodal


def _loss_table() -> Table:
    shown = plain_table("weights of one unit", "bits lost", title="sign of a projection, given its unit's output")
    for ratio in (1.0, 1.5, 2.0, 4.0, 10.0):
        shown.add_row(f"equal signs, ratio {ratio:g}", f"{float(sign_loss.sign_loss(ratio, 1.0)):.4f}")
    shown.add_row("opposite signs, or one weight 0", "0.0000")
    shown.add_row("mean over independent Gaussian weights", f"{sign_loss.mean_sign_loss():.4f}")
    shown.add_row("bound on that mean", f"{sign_loss.SIGN_LOSS_BOUND:.4f}")
    return shown


def _trained_table(points: Sequence[SignPoint]) -> Table:
    """Return rules and expansions at one load, as `measure_signs` gives them, three points each."""
    shown = plain_table(
        "rule", "k", "aligned", "law", "bits lost", "law", "wrong signs", title=f"memories at load {SIGN_LOAD:g}"
    )
    for aligned, loss, wrong in zip(points[::3], points[1::3], points[2::3], strict=True):
        numbers = aligned.measured, aligned.predicted, loss.measured, loss.predicted, wrong.measured
        shown.add_row(aligned.rule, str(aligned.expansion), *(f"{number:.3f}" for number in numbers))
    return shown


def _antipodal_table(plain: Sequence[SignPoint], biased: Sequence[SignPoint]) -> Table:
    shown = plain_table(
        "pairs", "no bias", "bias 1", title="relative error of antipodal pairs, keys x and −x, ridge", left=0
    )
    for one, other in zip(plain, biased, strict=True):
        shown.add_row(str(one.n_pairs // 2), f"{one.measured:.4f}", f"{other.measured:.4f}")
    return shown


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "capacity": capacity_command,
    "plan": plan_command,
    "sign-loss": sign_loss_command,
}
