"""The commands `capacity`, `plan` and `sign-loss`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final

import matplotlib as mpl
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from assocmem import information
from assocmem.capacity import CapacityTable, label_of, measure
from assocmem.memory import AssociativeMemory
from assocmem.planning import plan
from assocmem.rules import Ridge, Rule, as_rule

DEFAULT_RULES = "hebbian,delta,ridge,ridge@0.9,rls"
DEFAULT_LOADS = "0.05,0.1,0.2,0.4,0.6,0.8,0.9,1.1,1.25,1.5,2"


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--{name} is {text!r}; expected numbers with commas, for example 0.5,1") from None


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
    queries: Annotated[int, typer.Option(help="Pairs asked for in every memory.")] = 1024,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    seed: Annotated[int, typer.Option(help="The same seed gives the same table.")] = 0,
    processes: Annotated[int, typer.Option(help="Trials side by side.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for capacity.csv, .json and .png.")] = Path(),
) -> None:
    """Measure what memories recall at every load, beside what the laws predict."""
    console = Console()
    chosen = {label_of(rule): rule for rule in map(_rule_of, rules.split(","))}
    table = CapacityTable(())
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console) as progress:
        for label, rule in chosen.items():
            task = progress.add_task(label, total=None)
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
                progress=lambda done, total, task=task: progress.update(task, completed=done, total=total),  # type: ignore[misc]
            )
    console.print(_capacity_table(table))
    console.print(
        f"{table.agreement('hebbian', 'ridge'):.1%} of the 99 % intervals of hebbian and ridge contain the prediction, "
        f"{table.agreement():.1%} of all"
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "capacity.csv").write_text(table.to_csv(), encoding="utf-8")
    (out / "capacity.json").write_text(table.to_json(), encoding="utf-8")
    _plots().save_figure(
        _plots().capacity_figure(table, chosen, key_dim=key_dim, expansion=expansion, value_dim=value_dim),
        out / "capacity.png",
    )
    console.print(f"written: {out / 'capacity.csv'}, {out / 'capacity.json'}, {out / 'capacity.png'}")


def _plots() -> Any:
    mpl.use("Agg")  # files only: must not need a display
    from assocmem import capacity_plots

    return capacity_plots


def _capacity_table(table: CapacityTable) -> Table:
    shown = Table(title="recall error, measured with its 99 % interval and predicted")
    for heading in (
        "rule",
        "cosine",
        "load",
        "pairs",
        "measured",
        "99 % interval",
        "predicted",
        "bits/weight",
        "limit",
    ):
        shown.add_column(heading, justify="left" if heading == "rule" else "right")
    for point in table.points:
        mark = "" if np.isnan(point.predicted) or point.agrees else " ✗"
        shown.add_row(
            point.rule,
            f"{point.query_cosine:g}",
            f"{point.load:.3g}",
            str(point.n_pairs),
            f"{point.measured:.4f}",
            f"{point.low:.4f} … {point.high:.4f}",
            f"{point.predicted:.4f}{mark}",
            f"{point.bits_per_weight:.3f}",
            f"{point.share_of_limit:.1%}",
        )
    return shown


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
    )
    shown = Table(title="plan", show_header=False)
    for field in fields(answer):
        entry = getattr(answer, field.name)
        number = f"{entry:.4g}" if isinstance(entry, float) else f"{entry:,}" if isinstance(entry, int) else str(entry)
        shown.add_row(field.name.replace("_", " "), number)
    Console().print(shown)


def sign_loss_command(
    key_dim: Annotated[int, typer.Option(help="Length d of a key.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of keys, values and projection.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for sign-loss.png.")] = Path(),
) -> None:
    """Show what aligned weights hide of the signs of their inputs, and what cures it."""
    if key_dim < 2:
        raise ValueError(f"--key-dim is {key_dim}; expected at least 2; pass a larger one")
    console = Console()
    _print_losses(console)
    expansions = (1, 2, 4, 8)
    aligned = [_aligned(key_dim, expansion, seed) for expansion in expansions]
    shown = Table(title="aligned share of units, ridge at load 0.5", show_lines=False)
    for heading in ("expansion", "measured", "arctan law", "mean loss, bits"):
        shown.add_column(heading, justify="right")
    for expansion, (measured, law, loss) in zip(expansions, aligned, strict=True):
        shown.add_row(str(expansion), f"{measured:.3f}", f"{law:.3f}", f"{loss:.3f}")
    console.print(shown)
    pairs = sorted({max(1, round(key_dim * share)) for share in (0.5, 0.8, 1.0, 1.1, 1.25, 1.5, 2.0, 2.4)})
    antipodal = [
        (
            n,
            information.antipodal_error(n, key_dim, seed=seed),
            information.antipodal_error(n, key_dim, bias=1.0, seed=seed),
        )
        for n in pairs
    ]
    shown = Table(title=f"antipodal keys x and −x, d = {key_dim}, expansion 4: relative recall error")
    for heading in ("pairs", "without bias", "with bias 1"):
        shown.add_column(heading, justify="right")
    for n, plain, biased in antipodal:
        shown.add_row(str(n), f"{plain:.4f}", f"{biased:.4f}")
    console.print(shown)
    out.mkdir(parents=True, exist_ok=True)
    figure = _plots().sign_loss_figure(expansions, [entry[:2] for entry in aligned], antipodal, key_dim)
    _plots().save_figure(figure, out / "sign-loss.png")
    console.print(f"written: {out / 'sign-loss.png'}")


def _print_losses(console: Console) -> None:
    shown = Table(title="bits lost of the sign of z")
    shown.add_column("weights")
    shown.add_column("bits", justify="right")
    for ratio in (1.0, 1.5, 2.0, 4.0, 10.0):
        shown.add_row(f"equal signs, ratio {ratio:g}", f"{float(information.sign_loss(ratio, 1.0)):.4f}")
    shown.add_row("opposite signs, or one weight 0", "0.0000")
    shown.add_row("mean of independent Gaussian weights", f"{information.mean_sign_loss():.4f}")
    shown.add_row("bound on that mean", f"{information.SIGN_LOSS_BOUND:.4f}")
    console.print(shown)
    shown = Table(title="bits of z ~ N(0, 1), in bins of 0.01, that a unit passes")
    shown.add_column("unit")
    shown.add_column("bits", justify="right")
    shown.add_row("threshold", f"{information.threshold_information():.3f}")
    shown.add_row("ReLU", f"{information.relu_information(0.01):.3f}")
    shown.add_row("CReLU", f"{information.crelu_information(0.01):.3f}")
    console.print(shown)


def _aligned(key_dim: int, expansion: int, seed: int) -> tuple[float, float, float]:
    """Measured share, share by the law and mean loss of a ridge memory at load 0.5."""
    memory = AssociativeMemory(key_dim, 8, expansion=expansion, seed=seed)
    rng = np.random.default_rng(seed)
    n = memory.rank // 2
    memory.store(rng.standard_normal((n, key_dim)), rng.standard_normal((n, 8)))
    report = information.sign_report(memory)
    return float(report.aligned.mean()), float(report.aligned_by_law.mean()), float(report.loss.mean())


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "capacity": capacity_command,
    "plan": plan_command,
    "sign-loss": sign_loss_command,
}
