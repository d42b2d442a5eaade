"""Memory and control groups: what this process may use, and the refusal of what does not fit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path("/")

_WITHOUT_A_LOOK = 2**24  # bytes that are allocated without asking whether the machine has them, which takes a while


def control_groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of this process's control group and of its ancestors, for cgroup v1 and v2; some may not exist.

    In a container the path can be that of the host; the walk then ends at the mount point, which is the container's.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in (names, controller) if names else ("", "unified"):
            for n in range(len(parts), -1, -1):
                yield root.joinpath("sys/fs/cgroup", mount, *parts[:n])


def _numbers(path: Path) -> dict[str, int]:
    """Lines of a name and a number, as in meminfo and memory.stat; empty if there is no such file."""
    found = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, *rest = line.split()
            if rest and rest[0].isdigit():
                found[name.rstrip(":")] = int(rest[0])
    return found


def _number(path: Path) -> int | None:
    """The one number that a file holds; None for "max" and for a file that is not there."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _group_headroom(group: Path) -> int | None:
    """Bytes that a control group may still allocate, or None if it has no limit; cached files give way."""
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    prefix = ""
    if limit is None or used is None:
        limit, used = _number(group / "memory.limit_in_bytes"), _number(group / "memory.usage_in_bytes")
        prefix = "total_"
    if limit is None or used is None:
        return None
    stat = _numbers(group / "memory.stat")
    cached = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
    return max(limit - used + cached, 0)


def available_bytes(root: Path = ROOT) -> int | None:
    """Bytes that this process can still allocate: memory and swap, within its control groups; None if unknown."""
    meminfo = _numbers(root / "proc/meminfo")
    bounds = [_group_headroom(group) for group in control_groups("memory", root)]
    if "MemAvailable" in meminfo:
        bounds.append(1024 * (meminfo["MemAvailable"] + meminfo.get("SwapFree", 0)))
    else:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # macOS knows only the total, Windows neither
            name = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
            bounds.append(os.sysconf(name) * os.sysconf("SC_PAGE_SIZE"))
    return min((bound for bound in bounds if bound is not None), default=None)


def readable(n_bytes: int) -> str:
    """A number of bytes in a unit that leaves few digits.

    >>> readable(528 * 2**30), readable(100)
    ('528 GiB', '100 bytes')
    """
    for power, unit in ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if n_bytes >> power:
            amount = n_bytes / 2**power
            return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"
    return f"{n_bytes} bytes"


def refuse_if_too_large(what: str, bytes_needed: int, alternatives: Callable[[], str]) -> None:
    """Refuse work that needs more memory than this process can still allocate.

    Parameters
    ----------
    what : str
        Subject of the message, for example "a memory of rank 20480".
    bytes_needed : int
        At the peak, beyond what is allocated already.
    alternatives : function without arguments
        One or two sentences on what would fit; called only for the refusal.

    Raises
    ------
    MemoryError
        Before anything is allocated.
    """
    if bytes_needed <= _WITHOUT_A_LOOK:
        return
    available = available_bytes()
    if available is None or bytes_needed <= available:
        return
    raise MemoryError(
        f"{what} needs {readable(bytes_needed)} ({bytes_needed} bytes), but {readable(available)} ({available} bytes) "
        f"are available to this process. {alternatives()}"
    )
