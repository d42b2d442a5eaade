"""The ledger: what is stored is a multiset of pairs, and whatever is not in it is refused, at any load."""

import copy
import json
import pickle
import signal
from collections import Counter
from functools import partial

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory, Hebbian, RecursiveLeastSquares, Ridge
from assocmem.core import files
from assocmem.rules.ledger import Ledger
from tests.helpers import pairs

RULES = {"hebbian": Hebbian(), "ridge": Ridge(), "ridge-alpha": Ridge(alpha=0.1), "rls": RecursiveLeastSquares(0.1)}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)

# The world of the property tests: every pair is three numbers, of a key, a value and an id.
KEYS, VALUES = pairs(3, 2, 2)
IDS = [None, "Ada", "Bob"]


def empty(rule="ridge", **options):
    return AssociativeMemory(2, 2, expansion=1, rule=rule, **{"ledger": True, **options})  # of rank 4


def rows(chosen):
    """Keys and values of pairs, and their ids, of which all or none must be given."""
    keys, values, ids = zip(*chosen, strict=True)
    return KEYS[list(keys)], VALUES[list(values)], None if ids[0] is None else [IDS[i] for i in ids]


def bits(memory):
    """Everything that is stored."""
    return {name: array.tobytes() for name, array in memory._cell.current().arrays().items()}


def by_id(chosen):
    """Pairs in two batches: those without an id, and those with."""
    parts = [pair for pair in chosen if pair[2] == 0], [pair for pair in chosen if pair[2] > 0]
    return [[(k, v, i or None) for k, v, i in part] for part in parts if part]


PAIR = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))
OPERATION = st.tuples(
    st.sampled_from(["store", "store", "store", "forget", "replace", "merge", "save", "pickle", "recall"]),
    st.lists(PAIR, min_size=1, max_size=6),
    st.integers(0, 2),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("ledger") / "memory"


def apply(operation, memory, held, batch, new, path):
    """Do it to the memory, and to the multiset where it is allowed; returns the memory."""
    keys, values, ids = rows(batch)
    if operation == "store":
        memory.store(keys, values, ids=ids)
        held.update(batch)
    elif operation == "merge":
        other = empty(memory.rule)
        other.store(keys, values, ids=ids)
        held.update(batch)
        return memory.merge(other)
    elif operation == "save":
        memory.save(path)
        return AssociativeMemory.load(path)
    elif operation == "pickle":
        return copy.copy(pickle.loads(pickle.dumps(memory)))
    elif operation == "recall":
        memory.recall(keys)
    elif (missing := Counter(batch) - held).total() == 0:
        if operation == "forget":
            receipt = memory.forget(keys, values, ids=ids)
            assert (receipt.n_forgotten, receipt.n_left) == (len(batch), held.total() - len(batch))
        else:
            memory.replace(keys, values, np.tile(VALUES[new], (len(batch), 1)), ids=ids)
            held.update([(k, new, i) for k, _, i in batch])
        held.subtract(batch)
    else:
        first = next(row for row, pair in enumerate(batch) if Counter(batch[: row + 1])[pair] > held[pair])
        assert missing[batch[first]]
        before, wished = bits(memory), np.tile(VALUES[new], (len(batch), 1))
        call = memory.forget if operation == "forget" else partial(memory.replace, new_values=wished)
        with pytest.raises(ValueError, match=f"^pair {first} is .*nothing was changed"):
            call(keys, values, ids=ids)
        assert bits(memory) == before
    return memory


@every_rule
@given(operations=st.lists(OPERATION, max_size=12))
def test_whatever_is_done_the_memory_is_a_multiset_of_pairs(rule, operations, path):
    memory, held = empty(rule), Counter()
    for operation, chosen, new in operations:
        for batch in by_id(chosen):
            memory = apply(operation, memory, held, batch, new, path)
        assert memory.n_stored == held.total()
        assert len(memory._cell.current().ledger) == memory.n_stored
    known = empty(rule)
    for batch in by_id([(k, v, i or 0) for k, v, i in held.elements()]):
        keys, values, ids = rows(batch)
        known.store(keys, values, ids=ids)
    digests = [each._cell.current().ledger.digests for each in (memory, known)]
    assert np.array_equal(*(table[np.lexsort(table.T)] for table in digests))
    if rule != Ridge():  # whose few directions may be as good as empty
        assert np.abs(memory.weights - known.weights).max() < 1e-6


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("load", [0.5, 5])
def test_strangers_wrong_values_and_repeats_are_refused_at_any_load(rule, dtype, load):
    memory = AssociativeMemory(8, 2, expansion=2, rule=rule, ledger=True, dtype=dtype)
    n = int(load * memory.rank)
    keys, values = pairs(n + 5, 8, 2)
    memory.store(keys[:n], values[:n], ids=range(n))
    before = bits(memory)
    for row, arguments in (
        (2, {"keys": keys[[0, 1, n]], "values": values[[0, 1, n]], "ids": [0, 1, n]}),  # a stranger
        (1, {"keys": keys[[0, 1]], "values": values[[0, 2]], "ids": [0, 1]}),
        (0, {"keys": keys[:2], "values": values[:2] * (1 + 1e-6), "ids": [0, 1]}),
        (1, {"keys": keys[[3, 3]], "values": values[[3, 3]], "ids": [3, 3]}),
        (0, {"keys": keys[:2], "values": values[:2], "ids": [1, 0]}),
        (0, {"keys": keys[:2], "values": values[:2], "ids": ["0", "1"]}),
        (0, {"keys": keys[:2], "values": values[:2]}),
    ):
        with pytest.raises(ValueError, match=f"^pair {row} is "):
            memory.forget(**arguments)
        old = arguments.pop("values")
        with pytest.raises(ValueError, match=f"^pair {row} is "):
            memory.replace(old_values=old, new_values=np.zeros_like(old), **arguments)
    assert bits(memory) == before
    receipt = memory.forget(keys[:5], values[:5], ids=range(5))
    assert (receipt.n_forgotten, receipt.n_left) == (5, n - 5)
    assert receipt.digests.shape == (5, 2)
    assert receipt.error_bound == memory.error_bound
    with pytest.raises(ValueError, match=f"^pair 0 is none of the {n - 5} in the ledger.*forgotten already"):
        memory.forget(keys[:5], values[:5], ids=range(5))


def test_without_a_ledger_a_receipt_only_counts():
    keys, values = pairs(20, 8, 2)
    memory = AssociativeMemory(8, 2)
    memory.store(keys, values)
    assert repr(memory.forget(keys[0], values[0])) == "Receipt(n_forgotten=1, n_left=19, error_bound=None)"
    assert memory.forget(keys[:0], values[:0]).n_left == 19


def test_the_message_says_how_often_a_pair_is_stored():
    memory = empty()
    memory.store(KEYS[[0, 0, 1]], VALUES[[0, 0, 1]])
    with pytest.raises(
        ValueError, match=r"^pair 3 is stored 2 time\(s\), and is given once more; .*nothing was changed"
    ):
        memory.forget(KEYS[[0, 1, 0, 0]], VALUES[[0, 1, 0, 0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value_dim", [1, 2])
def test_every_way_of_storing_notes_the_same_digests(dtype, value_dim, monkeypatch):
    keys, values = pairs(700, 6, value_dim)
    values[::7] = -0.0
    form = {"expansion": 2, "ledger": True, "dtype": dtype}
    memories = [AssociativeMemory(6, value_dim, **form) for _ in range(6)]
    memories[0].store(keys, values)
    for key, value in zip(keys, values + 0.0, strict=True):
        memories[1].store(key, value)
    memories[2].store(keys, values, progress=lambda n: None)
    memories[3].store_from((keys, values), every=100)
    for start in range(0, 700, 300):
        memories[4].store(keys[start : start + 300].astype(dtype), values[start : start + 300])
    monkeypatch.setattr("assocmem.cell.CHUNK_BYTES", 1)
    memories[5].store(keys, values)
    first = memories[0]._cell.current().ledger.digests
    assert len(np.unique(first, axis=0)) == 700
    for memory in memories[1:]:
        assert np.array_equal(memory._cell.current().ledger.digests, first)
    memories[1].forget(keys[::-1], values[::-1])
    assert memories[1].n_stored == 0


def test_pairs_stored_with_noise_are_forgotten_with_the_same_noise():
    keys, values = pairs(30, 8, 2)
    memory = AssociativeMemory(8, 2, rule=Ridge(alpha=1.0), ledger=True)
    memory.store(keys, values, query_cosine=0.9)
    for cosine in (0.8, 1.0):
        with pytest.raises(ValueError, match="pair 0 is none of the 30"):
            memory.forget(keys[:3], values[:3], query_cosine=cosine)
    assert memory.forget(keys[:3], values[:3], query_cosine=0.9).n_left == 27


def test_ids_of_other_kinds_are_others():
    memory = empty()
    ids = [7, -7, 2**64 - 7, "7", "-7", "", "7 ", "é", "日本", "7" * 1000]
    for i in ids:
        memory.store(KEYS[0], VALUES[0], ids=i)
    memory.store(KEYS[0], VALUES[0])
    digests = memory._cell.current().ledger.digests
    assert len(np.unique(digests, axis=0)) == len(ids) + 1
    memory.forget(KEYS[[0, 0]], VALUES[[0, 0]], ids=np.array([-7, 7], np.int8))
    memory.forget(KEYS[[0, 0]], VALUES[[0, 0]], ids=np.array(["日本", "7"]))
    memory.forget(KEYS[0], VALUES[0], ids=np.uint64(2**64 - 7))
    assert memory.n_stored == len(ids) + 1 - 5


@pytest.mark.parametrize(("ids", "error", "message"), [
    ([1], ValueError, "2 keys came with 1 ids"),
    (["a", "b", "c"], ValueError, "2 keys came with 3 ids"),
    ([1.0, 2.0], TypeError, r"id 0 is 1.0 \(float\); expected integers or strings"),
    ([1, "a"], TypeError, r"id 1 is 'a' \(str\); expected integers or strings, all of one kind"),
    (["a", None], TypeError, "id 1 is None"),
    ([True, False], TypeError, "id 0 is True"),
    (np.array([True, False]), TypeError, "id 0 is"),
    ([b"a", b"b"], TypeError, "id 0 is b'a'"),
    ([1, 2**70], ValueError, "at most 64 bits"),
    (["a", "b\0"], ValueError, "null character"),
    (np.eye(2, dtype=int), TypeError, "id 0 is array"),
])  # fmt: skip
def test_bad_ids_are_refused_before_anything_changes(ids, error, message):
    memory = empty()
    memory.store(KEYS[:2], VALUES[:2], ids=["a", "b"])
    before = bits(memory)
    for call in (
        lambda: memory.store(KEYS[:2], VALUES[:2], ids=ids),
        lambda: memory.forget(KEYS[:2], VALUES[:2], ids=ids),
        lambda: memory.replace(KEYS[:2], VALUES[:2], VALUES[1:], ids=ids),
    ):
        with pytest.raises(error, match=message):
            call()
    assert bits(memory) == before


def test_ids_without_a_ledger_and_ledgers_without_values_are_refused():
    memory = empty(ledger=False)
    with pytest.raises(ValueError, match="this memory has no ledger to keep them; build it with ledger=True"):
        memory.store(KEYS[0], VALUES[0], ids=1)
    memory = empty()
    memory.store(KEYS[0], VALUES[0])
    with pytest.raises(ValueError, match="the ledger knows pairs by key and value"):
        memory.forget(KEYS[0])
    assert memory.n_stored == 1


@pytest.mark.parametrize("rule", ["delta", Hebbian(decay=0.9), Ridge(1.0, decay=0.9)])
def test_rules_that_cannot_forget_keep_no_ledger(rule):
    with pytest.raises(ValueError, match="cannot keep a ledger, which is for deletion"):
        empty(rule)


def test_a_ledger_is_part_of_the_configuration():
    with_one, without = empty(), empty(ledger=False)
    assert (with_one.ledger, without.ledger) == (True, False)
    assert repr(with_one).endswith("ledger=True)")
    for one, other in ((with_one, without), (without, with_one)):
        with pytest.raises(ValueError, match=r"differ in ledger \((True and False|False and True)\)"):
            one.merge(other)


def test_files_without_a_ledger_are_as_they_were(path):
    memory = empty(ledger=False)
    memory.store(KEYS, VALUES)
    memory.save(path)
    header, arrays = files.load(path, "memory")
    assert "ledger" not in header
    assert "digests" not in arrays
    entries = {name: value for name, value in header.items() if name not in ("version", "kind", "fingerprint")}
    assert header["fingerprint"] == files.fingerprint(entries, memory.features.projection.signs)
    assert not AssociativeMemory.load(path).ledger


@pytest.mark.parametrize("change", ["missing", "surplus", "turned off"])
def test_files_whose_ledger_does_not_fit_are_refused(path, change):
    memory = empty()
    memory.store(KEYS, VALUES)
    memory.save(path)
    header, arrays = files.load(path, "memory")
    digests = arrays["digests"]
    if change == "turned off":
        del header["ledger"]
    else:
        arrays["digests"] = digests[:2] if change == "missing" else np.concatenate([digests, digests])
    safetensors.numpy.save_file(arrays, path, {"assocmem": json.dumps(header)})
    message = "configuration and signs" if change == "turned off" else r"n_stored is 3, and the ledger has \d digests"
    with pytest.raises(ValueError, match=message):
        AssociativeMemory.load(path)


def test_a_stream_resumes_with_its_ledger(tmp_path):
    keys, values = pairs(500, 6, 2)
    one, other = (AssociativeMemory(6, 2, ledger=True) for _ in range(2))

    def stop(n_done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.store_from((keys, values), every=100, checkpoint=tmp_path / "run", progress=Late(3, stop))
    assert one.n_stored == 0
    one.store_from((keys, values), every=100, checkpoint=tmp_path / "run")
    other.store_from((keys, values), every=100)
    assert bits(one) == bits(other)
    assert one.forget(keys, values).n_left == 0


class Late:
    """A function that is called the n-th time."""

    def __init__(self, n, function):
        self.left, self.function = n, function

    def __call__(self, *arguments):
        self.left -= 1
        if not self.left:
            self.function(*arguments)


def test_parts_that_other_processes_gather_bring_their_digests():
    dask_array = pytest.importorskip("dask.array")
    from assocmem.operations.distributed import store

    keys, values = pairs(200, 6, 2)
    memory, known = (AssociativeMemory(6, 2, rule=RecursiveLeastSquares(0.1), ledger=True) for _ in range(2))
    memory.store(keys[:10], values[:10])
    chunks = (dask_array.from_array(table[10:], chunks=(25, -1)) for table in (keys, values))
    store(memory, *chunks)
    known.store(keys, values)
    digests = [each._cell.current().ledger.digests for each in (memory, known)]
    assert np.array_equal(*(table[np.lexsort(table.T)] for table in digests))
    assert memory.forget(keys, values).n_left == 0


def test_a_single_store_costs_the_same_at_any_size():
    ledger, rooms = Ledger.empty(), set()
    for i in range(5000):
        ledger.add(np.full((1, 2), i, np.uint64))
        rooms.add(id(ledger._room))
    assert len(rooms) < 20
    assert np.array_equal(ledger.digests[:, 0], np.arange(5000))
    assert ledger.copy()._room.shape == (5000, 2)


def test_edits_are_no_pairs():
    memory = empty(Ridge(alpha=1.0))
    memory.store(KEYS, VALUES)
    before = memory._cell.current().ledger.digests.copy()
    memory.edit(KEYS[0], VALUES[1])
    memory.edit(KEYS[1], VALUES[2], penalty=1.0)
    assert memory.n_stored == 3
    assert np.array_equal(memory._cell.current().ledger.digests, before)


def test_a_state_whose_ledger_does_not_count_its_pairs_is_not_committed():
    memory = empty()
    memory.store(KEYS, VALUES)
    state = memory._cell.copied()
    state.ledger = None
    with pytest.raises(ValueError, match=r"the ledger has 0 digests for 3 pairs.*nothing was changed"):
        memory._cell.commit(state)
    assert memory.forget(KEYS[0], VALUES[0]).n_left == 2


def test_deletion_is_provable_below_load_1_only():
    keys, values = pairs(300, 8, 2)
    memory = AssociativeMemory(8, 2, expansion=2)  # of rank 24
    memory.store(keys[:23], values[:23])
    assert memory.verify_forgotten(keys[30]).provable
    memory.edit(keys[40], values[40])  # a direction less
    assert not memory.verify_forgotten(keys[30]).provable
    full = AssociativeMemory(8, 2, expansion=2)
    full.store(keys[:200], values[:200])
    report = full.verify_forgotten(keys[200:])
    assert not report.provable
    assert report.max_copies.min() > 1  # of keys that were never stored
    noisy = AssociativeMemory(8, 2, rule=Ridge(alpha=1.0))
    noisy.store(keys[:3], values[:3], query_cosine=0.9)
    assert not noisy.verify_forgotten(keys[30:31]).provable
    assert noisy.verify_forgotten(np.empty((0, 8))).max_copies.shape == (0,)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers are POSIX's")
@pytest.mark.parametrize("size", [1, 300])
def test_alarms_at_any_moment_leave_as_many_digests_as_pairs(size):
    keys, values = pairs(3000, 6, 2)
    memory, pause = AssociativeMemory(6, 2, ledger=True), np.random.default_rng(0)
    memory.store(keys[:size], values[:size])
    memory.recall(keys[0])

    def ring(number, frame):
        raise TimeoutError

    handler, interrupted = signal.signal(signal.SIGALRM, ring), 0
    try:
        while (n := memory.n_stored) + size <= len(keys) and interrupted < 200:
            try:
                signal.setitimer(signal.ITIMER_REAL, pause.uniform(1e-6, 2e-4 if size == 1 else 1e-3))
                memory.store(keys[n : n + size], values[n : n + size])
                memory.recall(keys[0])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeoutError:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert interrupted > 5
    assert len(memory._cell.current().ledger) == memory.n_stored == n + size * (memory.n_stored > n)
    memory.forget(keys[: memory.n_stored], values[: memory.n_stored])
    assert memory.n_stored == 0
