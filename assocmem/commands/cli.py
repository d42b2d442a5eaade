"""The command line: a function and an entry in `COMMANDS` for every command, here and in `commands.capacity`.

Typer turns the signature of the function into options. Commands raise what the package raises; `reporting` turns every
error that a user can cause into one line and exit status 2.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

import assocmem
from assocmem import AssociativeMemory, FrozenMemory
from assocmem.cell import CHUNK_BYTES
from assocmem.commands import arrays, warming
from assocmem.core import checks, files
from assocmem.rules import Rule, as_rule

try:
    import matplotlib as mpl  # noqa: F401, for the commands with pictures
    import typer
    from rich.console import Console

    from assocmem.commands.terminal import (
        pairs_table,
        plain_table,
        prepare_output,
        progress_bar,
        readable_bytes,
        undelivered,
        watched,
    )

    HAS_EXTRA = True
except ImportError:
    HAS_EXTRA = False

if TYPE_CHECKING:
    from assocmem.commands.demo import Restoration, Result

FAILURE: Final = 2
SMALLEST_CHUNK: Final = 256  # keys that are recalled at a time, however long they are
PIPE_CLOSED: Final = 1  # what Python's documentation advises, and click and rich do
EXTRA: Final = ("matplotlib", "rich", "sklearn", "typer")
NEEDS: Final = "the command line needs: python -m pip install 'assocmem[demo]'"


# ------------------------------------------------------------------------------------------------ commands


def demo(
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("assocmem-demo.png"),
    seed: Annotated[int, typer.Option(help="Seed of the split, the damage and the projection.", min=0)] = 0,
) -> None:
    """Classify and restore real handwritten digits, and draw a picture."""
    from assocmem.commands import demo as digits
    from assocmem.commands import plots

    refuse_unwritable(out)
    picture_format = plots.picture_format(out)
    results: list[Result] = []
    with progress_bar() as progress:
        task = progress.add_task("restoring digits", total=digits.N_METHODS + 2)
        restoration = digits.restore(seed)
        with files.replacing(out) as temporary:
            plots.draw_image_rows(temporary, picture_format, *restoration_rows(restoration), side=digits.SIDE)
        progress.update(task, advance=1, description="comparing methods")
        for result in digits.compare(seed):
            results.append(result)
            progress.advance(task)
        progress.update(task, description="cross-validating")
        accuracies = digits.cross_validate(seed=seed)
        progress.advance(task)
    print_comparison(results, accuracies)
    print_restoration(restoration, out)


def store(
    keys: Annotated[
        Path, typer.Option(help="Keys, (N, key_dim): .npy, .npz, Parquet, Arrow, or - for standard input.")
    ],
    out: Annotated[Path, typer.Option(help="The memory to write.")],
    values: Annotated[
        Path | None, typer.Option(help="Values, (N, value_dim), in such a file; default the file of the keys.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="hebbian, delta, ridge or rls; default ridge.")] = None,
    expansion: Annotated[int | None, typer.Option(help="Random orthogonal blocks; default 4.")] = None,
    bias: Annotated[float | None, typer.Option(help="Constant that extends every key; default none.")] = None,
    center: Annotated[
        Path | None, typer.Option(help="Vector to subtract from every key, (key_dim,): .npy or .npz, as keys' mean.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Penalty of ridge and rls; default the rule's.")] = None,
    no_whiten: Annotated[bool, typer.Option("--no-whiten", help="Literal CReLU features.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the projection; default 0.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float64 or float32; default float64.")] = None,
    into: Annotated[Path | None, typer.Option(help="A saved memory to store into, instead of a new one.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file from which a killed run resumes when started again.")
    ] = None,
    key_columns: Annotated[str | None, typer.Option(help="Columns of Parquet, with commas; default key.")] = None,
    value_columns: Annotated[str | None, typer.Option(help="Columns of Parquet; default value.")] = None,
) -> None:
    """Store pairs from files in a memory, a new or a saved one."""
    arrays.refuse_standard(out, into, checkpoint)
    inputs = [path for path in (keys, values, center) if path is not None]
    refuse_unwritable(out, *inputs)
    if checkpoint is not None:
        refuse_unwritable(checkpoint, *inputs, out, *([into] if into else []))
    pairs = arrays.Pairs(keys, values, split(key_columns), split(value_columns))
    options: dict[str, Any] = {
        "rule": chosen_rule(rule, alpha),
        "expansion": expansion,
        "bias": bias,
        "center": None if center is None else arrays.picked(arrays.open_file(center), center, "center"),
        "seed": seed,
        "dtype": dtype,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if no_whiten:
        given["whiten"] = False
    if into is None:
        refuse_unlike(*pairs.shapes)
        memory = AssociativeMemory(*(shape[-1] for shape in pairs.shapes), **given)
    elif given:
        raise ValueError(
            f"--into was given together with {', '.join(sorted(given))}, which the memory in {into} has already fixed. "
            f"Leave that out, or store in a new memory"
        )
    else:
        memory = AssociativeMemory.load(into)
    with watched("storing", len(pairs)) as advance:
        pairs.store_in(memory, advance, checkpoint)
    memory.save(out)
    load = memory.n_stored / memory.rank
    print(f"{memory.n_stored} pairs stored, load {load:.3g}, {readable_bytes(out.stat().st_size)} in {out}")


def recall(
    file: Annotated[Path, typer.Argument(help="A memory that was saved, or a frozen one.", show_default=False)],
    keys: Annotated[
        Path, typer.Option(help="Keys, (N, key_dim): .npy, .npz, Parquet, Arrow, or - for standard input.")
    ],
    out: Annotated[Path, typer.Option(help="The .npy file of values to write, (N, value_dim), or - for output.")],
    key_columns: Annotated[
        str | None, typer.Option(help="Columns of Parquet, with commas; default key, or all.")
    ] = None,
) -> None:
    """Recall the values of keys, from files to a .npy file."""
    if out != arrays.STANDARD:
        refuse_unwritable(out, keys, file)
    memory = arrays.load_memory(file)
    key_rows = arrays.read_rows(keys, "keys", split(key_columns))
    key_table, single = checks.as_table("keys", key_rows, memory.key_dim)
    if out == arrays.STANDARD:
        values = memory.recall(key_table)
        arrays.write_standard(values[0] if single else values)
        return
    with files.replacing(out) as temporary, watched("recalling", len(key_table)) as advance:
        write_recalls(Path(temporary), memory, key_table, single, advance)
    print(f"values of {len(key_table)} key(s) in {out}")


def freeze(
    file: Annotated[Path, typer.Argument(help="A memory that was saved.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The frozen memory to write.", show_default=False)],
    precision: Annotated[str, typer.Option(help="float32, float64 or int8.")] = "float32",
    sample: Annotated[Path | None, typer.Option(help="Keys on which to measure what rounding costs.")] = None,
) -> None:
    """Freeze a memory: read-only, for the fastest recall."""
    arrays.refuse_standard(file, out)
    refuse_unwritable(out, file, *([sample] if sample else []))
    memory = AssociativeMemory.load(file)
    frozen = memory.freeze(precision, sample=None if sample is None else arrays.read_rows(sample, "keys"))
    frozen.save(out)
    loss = "" if frozen.loss is None else f", relative error {frozen.loss:.2g} on the sample"
    print(f"{frozen.precision} weights of {memory.n_units} units{loss}, {readable_bytes(out.stat().st_size)} in {out}")


def info(
    file: Annotated[Path, typer.Argument(help="A memory that was saved, or a frozen one.", show_default=False)],
    keys: Annotated[
        Path | None, typer.Option(help="Keys like the stored ones, (n, key_dim), from which errors are predicted.")
    ] = None,
) -> None:
    """Show the configuration, the size and the diagnosis of a memory."""
    memory = arrays.load_memory(file)
    center = memory.features.center
    rows: dict[str, object] = {
        "key_dim": memory.key_dim,
        "value_dim": memory.value_dim,
        "expansion": memory.features.expansion,
        "whiten": memory.features.whiten,
        "bias": memory.features.bias,
        "center": "none" if center is None else f"norm {np.linalg.norm(center):.3g}",
        "seed": memory.features.seed,
        "dtype": memory.dtype.name,
        "n_units": memory.features.n_units,
        "in memory": readable_bytes(memory.nbytes),
        "on disk": readable_bytes(file.stat().st_size),
    }
    if isinstance(memory, FrozenMemory) and keys is not None:
        raise ValueError(f"{file} is frozen, and has no diagnosis; give --keys with the memory that it is of")
    print(f"{file}:")
    if isinstance(memory, FrozenMemory):
        Console().print(pairs_table([("frozen weights", memory.precision), *rows.items()]))
        return
    diagnosis = memory.diagnose(keys=None if keys is None else arrays.read_rows(keys, "keys"))
    rows["condition"] = f"{diagnosis.condition:.3g}"
    Console().print(pairs_table([("rule", memory.rule), *rows.items()]))
    print(diagnosis)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "demo": demo,
    "store": store,
    "recall": recall,
    "freeze": freeze,
    "info": info,
    "warm-up": warming.warm_up,
}


# --------------------------------------------------------------------------------------------- the program


def main() -> None:
    """Run the command line; entry point of the console script `assocmem`."""
    if not HAS_EXTRA:
        refuse_missing_extra()
    prepare_output()
    status: Any = 0
    failure = None
    try:
        build()()
    except SystemExit as end:
        status = end.code
    except OSError as error:  # of the output: the errors of commands are reported
        failure = error
    failure = undelivered() or failure
    if failure is not None and not status:
        status = PIPE_CLOSED if isinstance(failure, BrokenPipeError) else FAILURE
        if status == FAILURE:
            print(f"assocmem: the output could not be written: {failure}", file=sys.stderr)
    raise SystemExit(status)


def build() -> typer.Typer:
    """Return the program: one subcommand for every entry of `COMMANDS`, here and in `commands.capacity`."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, add_completion=False)
    app.callback()(program)
    from assocmem.commands import capacity  # needs the extra, which `main` has looked for

    for name, command in {**COMMANDS, **capacity.COMMANDS}.items():
        app.command(name)(reporting(command))
    return app


def show_version(wanted: bool) -> None:
    """Show the version and exit, if wanted."""
    if wanted:
        print(f"assocmem {assocmem.__version__}")
        raise typer.Exit


def program(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Associative memory of fixed size: an online least-squares map from keys to values."""


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the errors that a user can cause turned into one line and exit status 2."""

    @functools.wraps(command)
    def reported(**arguments: Any) -> None:
        try:
            command(**arguments)
        except ModuleNotFoundError as error:
            if error.name is None:  # the package's own words about another extra
                refuse(error)
            if error.name.partition(".")[0] not in EXTRA:
                raise
            refuse_missing_extra()
        except BrokenPipeError:  # whoever read the output has seen enough
            raise typer.Exit(PIPE_CLOSED) from None
        except (ValueError, TypeError, OSError, MemoryError) as error:
            refuse(error)

    return reported


def refuse(error: Exception) -> NoReturn:
    """Print an error as one line, and exit."""
    print("assocmem: " + " ".join(str(error).split()), file=sys.stderr)
    raise typer.Exit(FAILURE) from None


def refuse_missing_extra() -> NoReturn:
    """Name the extra that the command line needs, and exit."""
    print(NEEDS, file=sys.stderr)
    raise SystemExit(FAILURE)


# ------------------------------------------------------------------------------------- arguments and files


def split(names: str | None) -> list[str] | None:
    """Return names with commas as a list, None if none are given."""
    return None if names is None else names.split(",")


def refuse_unlike(keys: tuple[int, ...], values: tuple[int, ...]) -> None:
    """Refuse shapes of unlike axes: a new memory takes its sizes from the last axes."""
    if len(keys) != len(values) or len(keys) > 2:
        raise ValueError(
            f"keys and values must have shapes (N, key_dim) and (N, value_dim), or (key_dim,) and (value_dim,) for one "
            f"pair, got {keys} and {values}. Reshape them, for example values to (N, 1)"
        )


def chosen_rule(name: str | None, alpha: float | None) -> Rule | None:
    """Return the rule that the options name, None if they name none, or refuse."""
    if name is None and alpha is None:
        return None
    rule = as_rule("ridge" if name is None else name)
    if alpha is None:
        return rule
    if "alpha" not in rule.parameters():
        raise ValueError(
            f"--alpha must be left out with the rule {rule.name!r}, which has no penalty, got {alpha}. "
            f"Choose ridge or rls for a penalty"
        )
    return type(rule)(**{**rule.parameters(), "alpha": alpha})


def refuse_unwritable(out: Path, *inputs: Path) -> None:
    """Refuse, before any work, an output that could not be written or would replace one of the inputs."""
    files.target_of(out)
    for path in inputs:
        if path == arrays.STANDARD:
            continue
        if out.resolve() == path.resolve() or (out.exists() and path.exists() and out.samefile(path)):
            raise ValueError(f"{out} would be both read and written, or written twice. Choose another name")


def write_recalls(
    path: Path,
    memory: AssociativeMemory | FrozenMemory,
    keys: NDArray[Any],
    single: bool,
    advance: Callable[[int], None],
) -> None:
    """Write the values of keys (N, key_dim) to a .npy file, chunk by chunk; of a single key without the first axis.

    Not through a memory map: where the disk is full, it ends the process by a signal.
    """
    row_bytes = memory.dtype.itemsize * (memory.key_dim + memory.value_dim)
    n_rows = max(SMALLEST_CHUNK, CHUNK_BYTES // row_bytes)
    shape = (memory.value_dim,) if single else (len(keys), memory.value_dim)
    described = {"descr": np.lib.format.dtype_to_descr(memory.dtype), "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, described)
        for start in range(0, len(keys), n_rows):
            chunk = checks.to_dtype(keys[start : start + n_rows], memory.dtype)
            memory.features.refuse_bad_keys(chunk, start)  # errors count keys of the whole file
            file.write(np.ascontiguousarray(memory.recall(chunk)).data)
            advance(len(chunk))


# ------------------------------------------------------------------------------------- output of the demo


def print_comparison(results: list[Result], accuracies: NDArray[np.float64]) -> None:
    """Print one row for every method, and the five-fold accuracy."""
    from assocmem.commands import demo as digits

    table = plain_table(
        *("method", "accuracy\nunseen", "error\nstored", "size", "store\ns", "recall\nµs"),
        title=f"{digits.N_STORED:,} handwritten digits stored with their labels, the others unseen",
    )
    for result in results:
        table.add_row(
            result.name,
            f"{result.accuracy:.1%}",
            f"{result.recall_error:.3g}",
            readable_bytes(result.nbytes),
            f"{result.store_seconds:.3f}",
            f"{result.recall_seconds * 1e6:.0f}",
        )
    Console().print(table)
    print(
        "error: |recalled - stored| / |stored| over the stored pairs, one-hot labels.\n"
        "store: until the first recall; recall: median of single keys; both compiled.\n"
        "size: the whole state. ridge and rls keep sums of products, with which they\n"
        "store on and forget; recall alone needs weights as large as hebbian's."
    )
    print(
        f"{len(accuracies)}-fold cross-validation of ridge: "
        f"{accuracies.mean():.1%} (folds {accuracies.min():.1%} to {accuracies.max():.1%})"
    )


def restoration_rows(restoration: Restoration) -> tuple[str, list[tuple[str, NDArray[np.float64]]]]:
    """Return the title and the labelled rows of the picture: ten damaged images and their recalls, twice."""
    rows = [
        ("half erased", restoration.half_erased),
        ("recalled", restoration.from_half_erased),
        ("noisy", restoration.noisy),
        ("recalled", restoration.from_noisy),
    ]
    title = (
        f"Damaged keys and their recalls from a memory of {len(restoration.images)} digits (relative error over all)"
    )
    return title, [(f"{label}\nerror {restoration.error(images):.2f}", images[:10]) for label, images in rows]


def print_restoration(restoration: Restoration, out: Path) -> None:
    """Print the errors before and after recall, and the name of the picture."""
    pairs = (
        ("half erased", restoration.half_erased, restoration.from_half_erased),
        ("noisy", restoration.noisy, restoration.from_noisy),
    )
    print(f"restoring {len(restoration.images)} digits, |image - stored| / |stored|:")
    for label, damaged, recalled in pairs:
        print(f"  {label}: {restoration.error(damaged):.2f}, recalled: {restoration.error(recalled):.2f}")
    print(f"picture: {out}")
