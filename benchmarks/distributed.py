"""Storing on several processes: bytes that travel, time against one process, and what many machines would take."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a worker is one thread; before NumPy is loaded, and for the workers

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dask.array
import numpy as np
from distributed import Client, LocalCluster

from assocmem import AssociativeMemory
from assocmem._sources import PairForm
from assocmem.distributed import PARTS_PER_THREAD, Folder, store
from benchmarks.timing import machine, seconds, table

KEY_DIM, VALUE_DIM, EXPANSION = 128, 10, 7  # D = 1024
CHUNK = 4096
RULES = ("ridge", "rls", "hebbian")

BIG = {"key_dim": 768, "value_dim": 1000, "expansion": 4, "dtype": "float32"}
N_BIG, N_WORKERS = 10**9, 64
CORES = (1, 8, 32)
NETWORK = 10e9 / 8  # bytes per second of a 10 Gbit/s link


@contextmanager
def cluster(n_workers: int) -> Iterator[Client]:
    """Processes of one thread on this machine."""
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
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
        for n in (16 * CHUNK, 32 * CHUNK, 64 * CHUNK) if rule == "ridge" else (16 * CHUNK, 64 * CHUNK):
            memory = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION, rule=rule)
            keys, values = random_pairs(n)
            before = sent(client)
            store(memory, keys, values, client)
            each = (sent(client) - before) / n_workers
            part = sum(
                array.nbytes for array in memory.rule.for_parts().start(memory.rank, VALUE_DIM, memory.dtype).values()
            )
            data = (keys.nbytes + values.nbytes) / n_workers
            rows.append([rule, f"{n:,}", f"{data / 1e6:.0f}", f"{each / 1e6:.2f}", f"{each / part:.1f}"])
    return rows


def speed_rows() -> list[list[str]]:
    """Seconds of one process of one thread without dask, and of one and two workers; checked for agreement."""
    n = 64 * CHUNK
    keys, values = random_pairs(n)
    alone = AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION)
    start = time.perf_counter()
    for i in range(keys.numblocks[0]):
        alone.store(*dask.compute(keys.blocks[i], values.blocks[i], scheduler="synchronous"))
    rows = [["one process, no dask", f"{time.perf_counter() - start:.2f}"]]
    queries = np.random.default_rng(1).standard_normal((100, KEY_DIM))
    for n_workers in (1, 2):
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
    """Pairs per second that one thread folds, seconds of adding two parts, bytes of a part, seconds of solving."""
    memory = AssociativeMemory(**BIG, rule=rule)
    form = PairForm(memory.key_dim, memory.value_dim, memory.dtype, 0.0)
    folder = Folder(form, memory.features, memory.rule.for_parts(), memory._chunk_rows)
    rng = np.random.default_rng(0)
    n = 4 * memory._chunk_rows  # pairs enough for the sums to have full rank
    keys, values = (rng.standard_normal((n, width), np.float32) for width in (memory.key_dim, memory.value_dim))
    state = folder.fold([(keys, values)], 0)
    folding = seconds(lambda: folder._add(state, keys, values, 0), 1)
    adding = seconds(lambda: folder.rule.merge(state, state), 2)
    start = time.perf_counter()
    memory.rule.weights(state)
    solving = time.perf_counter() - start
    return n / folding, adding, sum(array.nbytes for array in state.values()), solving


def big_table() -> str:
    """What a thousand million pairs would take on 64 workers, from rates measured on one thread here."""
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
    print(f"\nbytes sent by a worker, two workers of one thread, d = {KEY_DIM}, D = 1024, v = {VALUE_DIM}")
    with cluster(2) as client:
        store(AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=EXPANSION), *random_pairs(2 * CHUNK), client)  # warm
        print(table(["rule", "pairs", "MB of pairs a worker", "MB sent a worker", "in parts"], traffic_rows(client)))
    print(f"\nseconds for {64 * CHUNK:,} pairs, ridge, one BLAS thread each")
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
