"""Dask: what workers sum is what one process stores, whatever the chunks, and whatever happens to the workers."""

import os
import signal
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from assocmem import AssociativeMemory, RecursiveLeastSquares
from assocmem.operations import distributed
from tests.helpers import RULES, SUMS, pairs, relative

KEY_DIM, VALUE_DIM, N = 8, 3, 1000
MERGING = {**{name: RULES[name][0] for name in SUMS}, "rls, penalty by the first pair": RecursiveLeastSquares()}


@pytest.fixture(scope="module")
def client():
    """A cluster of two processes on this machine."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def new_memory(rule="ridge", **options):
    return AssociativeMemory(KEY_DIM, VALUE_DIM, expansion=2, rule=rule, **options)


def arrays(key_chunks=(100, KEY_DIM), value_chunks=(100, VALUE_DIM)):
    keys, values = pairs(N, KEY_DIM, VALUE_DIM)
    return da.from_array(keys, chunks=key_chunks), da.from_array(values, chunks=value_chunks)


def same_as_local(memory):
    """Whether a memory equals one that stored the pairs in this process."""
    keys, values = pairs(N, KEY_DIM, VALUE_DIM)
    local = new_memory(memory.rule)
    local.store(keys, values)
    assert memory.n_stored == N
    assert memory.alpha == local.alpha
    return relative(memory.recall(keys), local.recall(keys)) < 1e-9


def cuts(total):
    """Chunk sizes that sum to `total`."""
    inner = st.lists(st.integers(1, total - 1), max_size=8, unique=True)
    return inner.map(lambda bounds: tuple(np.diff([0, *sorted(bounds), total]).tolist()))


@pytest.mark.parametrize("name", MERGING)
@settings(max_examples=10)  # every one is a graph of hundreds of tasks
@given(key_rows=cuts(N), key_columns=cuts(KEY_DIM), value_rows=cuts(N), n_before=st.sampled_from([0, 40]))
def test_any_chunks_store_the_same(name, key_rows, key_columns, value_rows, n_before):
    before = pairs(n_before, KEY_DIM, VALUE_DIM, seed=1)
    memory, local = new_memory(MERGING[name]), new_memory(MERGING[name])
    for each in (memory, local):
        each.store(*before)
    keys, values = pairs(N, KEY_DIM, VALUE_DIM)
    with dask.config.set(scheduler="synchronous"):
        distributed.store(memory, *arrays((key_rows, key_columns), (value_rows, (1, 2))))
    local.store(keys, values)
    assert memory.n_stored == N + n_before
    assert memory.alpha == local.alpha
    assert relative(memory.recall(keys), local.recall(keys)) < 1e-9


@pytest.mark.parametrize("name", MERGING)
def test_two_processes(name, client):
    memory = new_memory(MERGING[name])
    distributed.store(memory, *arrays(), client=client)
    assert same_as_local(memory)
    memory.store(*pairs(5, KEY_DIM, VALUE_DIM, seed=2))  # and it goes on
    assert memory.n_stored == N + 5


def centred(keys, values):
    """Every chunk needs the mean of all, and the result is the keys again."""
    return keys - (keys.mean(axis=0) - keys.mean(axis=0)), values


@pytest.mark.parametrize("kind", ["persisted", "one result for all", "shuffled"])
def test_chunks_that_cannot_be_computed_apart(kind, client):
    keys, values = arrays((70, 3))
    if kind == "persisted":
        keys, values = client.persist([keys, values])
    elif kind == "shuffled":
        keys = keys.rechunk((110, 4), method="p2p")
    else:
        keys, values = centred(keys, values)
    memory = new_memory()
    distributed.store(memory, keys, values, client=client)
    assert same_as_local(memory)


def test_workers_compute_chunks_themselves_where_they_can():
    folder = distributed.Folder(None, None, None, 1)
    apart = distributed._parts(folder, *arrays(), 4)
    assert [len(part.dask) for part in apart] == [1, 1, 1, 1]
    random = da.random.default_rng(0)
    made = [random.standard_normal((N, width), chunks=(100, width)) * 2 + 1 for width in (KEY_DIM, VALUE_DIM)]
    assert [len(part.dask) for part in distributed._parts(folder, *made, 4)] == [1, 1, 1, 1]
    assert all(len(part.dask) > 10 for part in distributed._parts(folder, *centred(*arrays()), 4))


def at_first(marker, event):
    """A function of a chunk that, in whichever process comes to the fifth chunk first, has something happen once."""

    def chunk(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 5:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return block
            event()
        return block

    return chunk


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise OSError("the disk was away for a moment")


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(("name", "apart"), [("ridge", True), ("rls", False)])
def test_a_worker_is_killed_in_the_middle(name, apart, client, tmp_path):
    keys, values = arrays() if apart else centred(*arrays())
    keys = keys.map_blocks(at_first(tmp_path / "happened", die), dtype=keys.dtype)
    memory = new_memory(RULES[name][0])
    distributed.store(memory, keys, values, client=client)
    assert (tmp_path / "happened").exists()
    assert same_as_local(memory)


@pytest.mark.parametrize("apart", [True, False])
def test_a_task_is_retried(apart, client, tmp_path):
    keys, values = arrays() if apart else centred(*arrays())
    keys = keys.map_blocks(at_first(tmp_path / "happened", fail), dtype=keys.dtype)
    memory = new_memory()
    with pytest.raises(OSError, match="away for a moment"):
        distributed.store(memory, keys, values, client=client)
    assert memory.n_stored == 0
    (tmp_path / "happened").unlink()
    with dask.annotate(retries=2):
        keys = keys.map_blocks(lambda block: block)
        distributed.store(memory, keys, values, client=client)
    assert (tmp_path / "happened").exists()
    assert same_as_local(memory)


@pytest.mark.parametrize("name", SUMS)
def test_tasks_change_nothing_that_they_are_given(name):
    memory = new_memory(RULES[name][0])
    form = distributed.PairForm(memory.features, VALUE_DIM)
    folder = distributed.Folder(form, memory._cell.shape, memory.rule.for_parts(), 64)
    keys, values = pairs(200, KEY_DIM, VALUE_DIM)
    one, other = folder.fold([(keys, values)], 0), folder.fold([(values @ np.ones((VALUE_DIM, KEY_DIM)), values)], 0)
    for array in (keys, values, *one.arrays().values(), *other.arrays().values()):
        array.setflags(write=False)
    again = folder.fold([(keys, values)], 0)
    assert all(np.array_equal(array, one.arrays()[part]) for part, array in again.arrays().items())
    for _ in range(2):
        further = folder.folded_further(one, keys, values, 0)
        total = folder.rule.merge(one, other)
        assert further.n_stored == total.n_stored == 400
        for state in (further, total):
            given = [array for before in (one, other) for array in before.arrays().values()]
            assert not any(np.shares_memory(array, old) for array in state.arrays().values() for old in given)


def test_what_is_sent_does_not_grow_with_the_number_of_pairs(client):
    """Sums travel, pairs do not: at most those of every part, for eight times the pairs as well."""

    def sent(n):
        def bytes_so_far(dask_worker):
            return dask_worker.transfer_outgoing_bytes_total

        random = da.random.default_rng(0)
        made = [random.standard_normal((n, width), chunks=(n // 16, width)) for width in (KEY_DIM, VALUE_DIM)]
        before = client.run(bytes_so_far)
        memory = new_memory()
        distributed.store(memory, *made, client=client)
        assert memory.n_stored == n
        after = client.run(bytes_so_far)
        return sum(after[worker] - before[worker] for worker in after), memory.nbytes

    for n in (16_000, 128_000):
        total, state = sent(n)
        envelope = 1500  # bytes that a message takes beside its arrays
        assert state <= total <= distributed.PARTS_PER_THREAD * 2 * (state + envelope)


@pytest.mark.parametrize("name", ["hebbian-decay", "delta", "rls-decay"])
def test_rules_of_which_the_result_depends_on_order_are_refused_before_any_work(name):
    keys, values = arrays()
    keys = keys.map_blocks(lambda block: fail(), dtype=keys.dtype, meta=keys._meta)
    with pytest.raises(ValueError, match=r"cannot merge: .*depend"):
        distributed.store(new_memory(RULES[name][0]), keys, values)


@pytest.mark.parametrize(("row", "column", "what", "message"), [
    (737, 2, np.nan, "keys row 737, column 2 is nan"),
    (0, slice(None), 0.0, "key 0 is all zeros"),
])  # fmt: skip
def test_a_bad_pair_is_found_by_the_workers_and_stores_nothing(row, column, what, message, client):
    keys, values = pairs(N, KEY_DIM, VALUE_DIM)
    keys[row, column] = what
    memory = new_memory()
    memory.store(values @ np.ones((VALUE_DIM, KEY_DIM)), values)
    before = memory.recall(values @ np.ones((VALUE_DIM, KEY_DIM)))
    for rows, scheduler in ((20, client), (20, None), (300, None)):  # several chunks a part; chunks that do not match
        made = da.from_array(keys, chunks=20), da.from_array(values, chunks=rows)
        with dask.config.set(scheduler="synchronous"), pytest.raises(ValueError, match=message):
            distributed.store(memory, *made, client=scheduler)
    assert memory.n_stored == N
    assert np.array_equal(memory.recall(values @ np.ones((VALUE_DIM, KEY_DIM))), before)


def test_other_arguments_are_refused():
    keys, values = arrays()
    memory = new_memory()
    for arguments, error, message in (
        ((5, keys, values), TypeError, "memory must be an AssociativeMemory, got a int"),
        ((memory, keys, values, "tcp://x"), TypeError, "client must be a distributed.Client or None, got a str"),
        (
            (memory, np.ones((3, KEY_DIM)), values),
            TypeError,
            "keys must be a dask array, got a ndarray; use memory.store",
        ),
        ((memory, keys[0], values), ValueError, r"keys must have shape \(N, 8\), got \(8,\)"),
        ((memory, keys[:, :5], values), ValueError, r"keys have shape \(1000, 5\); expected \(N, 8\)"),
        ((memory, keys, values[:-1]), ValueError, "1000 keys came with 999 values"),
        ((memory, keys.astype(complex), values), TypeError, "keys have dtype complex128; expected real numbers"),
        ((memory, keys[keys[:, 0] > 0], values), ValueError, r"chunks of unknown sizes; .*compute_chunk_sizes"),
    ):
        with pytest.raises(error, match=message):
            distributed.store(*arguments)
    assert memory.n_stored == 0
    distributed.store(memory, keys[:0], values[:0])
    assert memory.n_stored == 0


def test_a_missing_dask_is_named():
    probe = "import sys; sys.modules['dask'] = None; import assocmem.operations.distributed"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "python -m pip install 'assocmem[dask]'" in run.stderr
