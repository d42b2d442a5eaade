"""Storing on several processes: bytes sent, time against one process, and an estimate for many machines."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a worker is one thread; before NumPy is loaded, and for the workers

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dask.array
import numpy as np
from distributed import Client, LocalCluster

from assocmem import AssociativeMemory
from assocmem.operations.distributed import PARTS_PER_THREAD, store
from assocmem.rules import Shape
from benchmarks.timing import machine, seconds, table

KEY_DIM, VALUE_DIM, EXPANSION = 128, 10, 7  # D = 1024
CHUNK = 4096
RULES = ("ridge", "rls", "hebbian")

BIG = {"key_dim": 768, "value_dim": 1000, "expansion": 4, "dtype": "float32"}
N_BIG, N_WORKERS = 10**9, 64
N_RATED = 8192  # pairs of which the rates are measured: enough for sums of full rank
N_SPEED = 64  # chunks
N_TRAFFIC = (16, 32, 64)
WORKERS = (1, 2)
PROCESSES = True
CORES = (1, 8, 32)
NETWORK = 10e9 / 8  # bytes per second of a 10 Gbit/s link
TINY = {
    "KEY_DIM": 8,
    "EXPANSION": 2,
    "CHUNK": 64,
    "BIG": {"key_dim": 8, "value_dim": 10, "expansion": 2, "dtype": "float32"},
    "N_RATED": 64,
    "N_SPEED": 4,
    "N_TRAFFIC": (4,),
    "WORKERS": (1,),
    "PROCESSES": False,
}


@contextmanager
def cluster(n_workers: int) -> Iterator[Client]:
    """Processes of one thread on this machine."""
    options = {"threads_per_worker": 1, "processes": PROCESSES, "dashboard_address": ":0"}
    with LocalCluster(n_workers=n_workers, **options) as processes, Client(processes, set_as_default=False) as client:
        yield client


def random_pairs(n: int) -> list[dask.array.Array]:
    """Keys and values that the workers make themselves."""
    random = dask.array.random.default_rng(0)
    return [random.standard_normal((n, width), chunks=(CHUNK, width)) for width in (KEY_DIM, VALUE_DIM)]


def sent(client: Client) -> int:
    """Bytes that the workers have sent to one another and to the client, as sizes of results."""
    return sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())


def traffic_rows(client: Client) -> list[list[str]]:
    """Bytes per worker against the number of pairs."""
    rows = []
    n_workers = len(client.nthreads())
    for rule in RULES:
        for n in [
            CHUNK * chunks for chunks in (N_TRAFFIC if rule == "ridge" else sorted({N_TRAFFIC[0], N_TRAFFIC[-1]}))
        ]:
            memory = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION, rule=rule)
            keys, values = random_pairs(n)
            before = sent(client)
            store(memory, keys, values, client)
            each = (sent(client) - before) / n_workers
            shape = Shape(KEY_DIM, EXPANSION, True, VALUE_DIM, memory.dtype)
            part = sum(array.nbytes for array in memory.rule.for_parts().start(shape).arrays().values())
            data = (keys.nbytes + values.nbytes) / n_workers
            rows.append([rule, f"{n:,}", f"{data / 1e6:.0f}", f"{each / 1e6:.2f}", f"{each / part:.1f}"])
    return rows


def speed_rows() -> list[list[str]]:
    """Seconds of one process of one thread without dask, and of one and two workers; checked for agreement."""
    n = N_SPEED * CHUNK
    keys, values = random_pairs(n)
    alone = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION)
    start = time.perf_counter()
    for i in range(keys.numblocks[0]):
        alone.store(*dask.compute(keys.blocks[i], values.blocks[i], scheduler="synchronous"))
    rows = [["one process, no dask", f"{time.perf_counter() - start:.2f}"]]
    queries = np.random.default_rng(1).standard_normal((100, KEY_DIM))
    for n_workers in WORKERS:
        with cluster(n_workers) as client:
            store(AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION), *random_pairs(2 * CHUNK), client)  # warm
            memory = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION)
            start = time.perf_counter()
            store(memory, keys, values, client)
            took = time.perf_counter() - start
        error = np.abs(memory.recall(queries) - alone.recall(queries)).max()
        assert error < 1e-9, error
        rows.append([f"{n_workers} worker{'s' * (n_workers > 1)}", f"{took:.2f}"])
    first = float(rows[0][1])
    return [[*row, f"{first / float(row[1]):.2f}"] for row in rows]


def rates(rule: str) -> tuple[float, float, int, float]:
    """Pairs per second that one thread stores, seconds of adding two parts, bytes of a part, seconds of solving."""
    memory = AssociativeMemory(**BIG, rule=rule)
    own, features = memory.rule.for_parts(), memory.features
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((N_RATED, memory.key_dim), np.float32)
    values = rng.standard_normal((N_RATED, memory.value_dim), np.float32)
    state = own.start(Shape(memory.key_dim, memory.expansion, True, memory.value_dim, memory.dtype))
    storing = seconds(lambda: own.store(state, features.fold(keys), values), 1)
    adding = seconds(lambda: own.merge(state, state), 2)
    start = time.perf_counter()
    own.solve(state)
    solving = time.perf_counter() - start
    return N_RATED / storing, adding, sum(array.nbytes for array in state.arrays().values()), solving


def big_table() -> str:
    """Estimated time for 10⁹ pairs on 64 workers, from rates measured on one thread here."""
    rows = []
    levels = np.log2(N_WORKERS)
    for rule in ("ridge", "hebbian"):
        rate, adding, nbytes, solving = rates(rule)
        for cores in CORES:
            folding = N_BIG / (N_WORKERS * cores * rate)
            sending = (PARTS_PER_THREAD * cores + levels) * nbytes / NETWORK
            adding_up = (PARTS_PER_THREAD + levels) * adding
            total = folding + sending + adding_up + solving
            rows.append(
                [rule, f"{cores}", f"{rate:,.0f}", f"{nbytes / 1e6:.0f}", f"{folding / 60:.1f}", f"{sending:.1f}",
                 f"{adding_up:.1f}", f"{solving:.1f}", f"{total / 60:.1f}"]
            )  # fmt: skip
    headings = [
        "rule",
        "cores a worker",
        "pairs/s a core",
        "MB of a part",
        "fold, min",
        "send, s",
        "add, s",
        "solve, s",
    ]
    return table([*headings, "all, min"], rows)


def main() -> None:
    print(machine())
    print(f"\nbytes sent by a worker, two workers of one thread, d = {KEY_DIM}, v = {VALUE_DIM}")
    with cluster(2) as client:
        store(AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION), *random_pairs(2 * CHUNK), client)  # warm
        print(table(["rule", "pairs", "MB of pairs a worker", "MB sent a worker", "in parts"], traffic_rows(client)))
    print(f"\nseconds for {N_SPEED * CHUNK:,} pairs, ridge, one BLAS thread each")
    print(table(["", "s", "times faster"], speed_rows()))
    print(
        f"\n{N_BIG:,} pairs on {N_WORKERS} workers, d = {BIG['key_dim']}, k = {BIG['expansion']}, "
        f"D = {AssociativeMemory(**BIG, rule='hebbian').rank}, v = {BIG['value_dim']}, {BIG['dtype']}: computed, not "
        f"measured,\nfrom the rates of one thread here and a link of 10 Gbit/s; reading the "
        f"{N_BIG * 4 * (BIG['key_dim'] + BIG['value_dim']) / 1e12:.1f} TB is not counted.\n"
        f"fold = pairs / (workers · cores · rate); send = ({PARTS_PER_THREAD} · cores + log2 workers) parts / link, if "
        f"every part is sent;\nadd = ({PARTS_PER_THREAD} + log2 workers) additions; solve = once, on one core."
    )
    print(big_table())
