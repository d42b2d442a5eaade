"""Fair timing: alternatives in turn in one process, medians of pairwise ratios, and a line on the machine."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import scipy


def machine() -> str:
    """One line: processor, threads, versions."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    return (
        f"{processor}, {numba.config.NUMBA_NUM_THREADS} threads, Python {platform.python_version()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}, numba {numba.__version__}"
    )


def peak_bytes() -> float:
    """Peak memory of this process; getrusage() would include its parent's before the program started."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024.0 * int(lines["VmHWM"].split()[0])
    import resource

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if platform.system() == "Darwin" else 1024)


# Threads of OpenBLAS spin for tens of milliseconds after a product before they sleep, and would slow the next call.
PAUSE = 0.1
TIMED_ONCE = False


def once() -> None:
    """From now on, time single calls without pauses or warm-up: for ``--tiny``, whose figures mean nothing."""
    global PAUSE, TIMED_ONCE
    PAUSE, TIMED_ONCE = 0.0, True


def rounds(wanted: int) -> int:
    """Number of times that alternatives take turns."""
    return 1 if TIMED_ONCE else wanted


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Mean seconds of one of `repeats` consecutive calls, after a pause and as many calls that are not timed."""
    time.sleep(PAUSE)
    if TIMED_ONCE:
        repeats = 1
    else:  # sleeping threads wake, the processor speeds up: the steady state is compared
        for _ in range(repeats):
            call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], n_rounds: int = 15, repeats: int = 1
) -> tuple[float, float, float]:
    """Median seconds of both, measured in turn after a warm-up, and the median of the ratios theirs / ours."""
    for call in (ours, theirs):
        seconds(call, max(1, repeats // 10))
    times = np.array([(seconds(ours, repeats), seconds(theirs, repeats)) for _ in range(rounds(n_rounds))])
    return (*np.median(times, axis=0).tolist(), float(np.median(times[:, 1] / times[:, 0])))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
