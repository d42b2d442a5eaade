"""Output to a terminal: progress, tables without frames, and sizes in readable units."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def prepare_output() -> None:
    """Let neither a character that the output's encoding lacks nor a width of 0 stop the output."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) == 0:  # rich would print lines without characters
        del os.environ["COLUMNS"]


def undelivered() -> OSError | None:
    """Write out what is buffered; return why it could not be written, and drop it."""
    failure = None
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        try:
            stream.flush()
        except OSError as error:
            failure = error
            # The interpreter would try again at its end, and report the failure then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return failure


def progress_bar() -> Progress:
    """Return a progress bar on stderr that is erased at its end, and is silent where stderr is no terminal."""
    console = Console(stderr=True)
    console.quiet = not console.is_terminal  # before 15, rich ends also a disabled bar with an empty line
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextlib.contextmanager
def watched(label: str, n_rows: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar over `n_rows` rows, and yield the function that advances it by a number of rows."""
    with progress_bar() as progress:
        task = progress.add_task(label, total=n_rows)
        yield lambda n_done: progress.advance(task, n_done)


def plain_table(*headings: str, title: str | None = None, left: int = 1) -> Table:
    """Return a table without a frame, whose first `left` columns are aligned left and the others right."""
    shown = Table(title=title, box=None, title_justify="left", title_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if index < left else "right", no_wrap=True)
    return shown


def pairs_table(rows: Sequence[tuple[str, object]]) -> Table:
    """Return a table of names and values."""
    shown = plain_table("", "", left=2)
    shown.show_header = False
    for name, value in rows:
        shown.add_row(name, str(value))
    return shown


def readable_bytes(count: int) -> str:
    """Return a number of bytes in a suitable unit."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
