"""Checkpoints: a run that is stopped or killed ends as one that is not, bit for bit."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import assocmem.cell
from assocmem import AssociativeMemory, RecursiveLeastSquares, Ridge
from tests.helpers import FIRST_KEYS, FIRST_VALUES, RULES, memory_of_first, pairs, relative
from tests.operations import killable
from tests.operations.streams import (
    KEY_DIM,
    VALUE_DIM,
    StoppedError,
    batches,
    every_rule,
    new_memory,
    npy_files,
    same_bits,
    stopping_after,
)


@every_rule
@given(stops=st.lists(st.integers(0, 6), max_size=4), in_batches=st.booleans(), before=st.sampled_from([0, 300]))
def test_a_run_that_is_stopped_ends_as_one_that_is_not(name, stops, in_batches, before, tmp_path_factory):
    keys, values = pairs(510, KEY_DIM, VALUE_DIM)
    path = tmp_path_factory.mktemp("run") / "checkpoint"
    memory, plain = new_memory(RULES[name][0], "float32"), new_memory(RULES[name][0], "float32")
    for each in (memory, plain):
        each.store(*pairs(before, KEY_DIM, VALUE_DIM, seed=1))
    plain.store_from((keys, values), every=100)
    for count in [*stops, 10**6]:
        source = batches(keys, values, 70) if in_batches else (keys, values)
        assert memory.n_stored == before
        try:
            memory.store_from(source, every=100, checkpoint=path, progress=stopping_after(count))
        except StoppedError:
            continue
        break
    assert same_bits(memory, plain)


def test_a_finished_run_stores_nothing_twice(tmp_path):
    keys, values = pairs(250, KEY_DIM, VALUE_DIM)
    path = tmp_path / "run"
    first, again = new_memory(), new_memory()
    first.store_from((keys, values), every=100, checkpoint=path)
    written_at = path.stat().st_mtime_ns
    first.store_from((keys, values), every=100, checkpoint=path)  # in the same process
    again.store_from((keys, values), every=100, checkpoint=path)  # in another
    assert path.stat().st_mtime_ns == written_at
    assert first.n_stored == again.n_stored == 250
    assert same_bits(first, again)
    again.store(keys[0], values[0])  # and the memory is its own
    assert first.n_stored == 250


def test_an_empty_source(tmp_path):
    for source in ((np.empty((0, KEY_DIM)), np.empty((0, VALUE_DIM))), []):
        memory = new_memory()
        for _ in range(2):
            memory.store_from(source, checkpoint=tmp_path / "run")
        assert memory.n_stored == 0
        (tmp_path / "run").unlink()


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    keys, values = pairs(250, KEY_DIM, VALUE_DIM)
    path = tmp_path / "run"
    with pytest.raises(StoppedError):
        new_memory().store_from((keys, values), every=100, checkpoint=path, progress=stopping_after(2))
    bytes_before = path.read_bytes()
    fuller = new_memory()
    fuller.store(keys[0], values[0])
    for memory, source, every, what in (
        (new_memory("hebbian"), (keys, values), 100, "rule, rule_parameters, fingerprint"),
        (new_memory(dtype="float32"), (keys, values), 100, "dtype, fingerprint"),
        (new_memory(), (keys[:240], values[:240]), 100, "number of pairs"),
        (new_memory(), (keys, -values), 100, "first pairs"),
        (new_memory(), (keys, values), 50, "every"),
        (fuller, (keys, values), 100, "pairs before the run"),
    ):
        twin = memory.copy()
        with pytest.raises(ValueError, match=rf"is of a run with other [\w, ]*{what}"):
            memory.store_from(source, every=every, checkpoint=path)
        assert same_bits(memory, twin)
    assert path.read_bytes() == bytes_before


def test_a_source_that_ends_before_its_checkpoint_is_refused(tmp_path):
    keys, values = pairs(500, KEY_DIM, VALUE_DIM)
    with pytest.raises(StoppedError):
        new_memory().store_from(
            batches(keys, values, 50), every=100, checkpoint=tmp_path / "run", progress=stopping_after(4)
        )
    with pytest.raises(ValueError, match="the source ended after 300 pairs, before those that the checkpoint has"):
        new_memory().store_from(batches(keys[:300], values[:300], 50), every=100, checkpoint=tmp_path / "run")


def test_checkpoints_that_cannot_be_used_are_refused_before_any_work(tmp_path):
    source = pairs(500, KEY_DIM, VALUE_DIM)
    with pytest.raises(FileNotFoundError, match=r"there is no directory .*create it"):
        new_memory().store_from(source, checkpoint=tmp_path / "absent" / "run")
    with pytest.raises(IsADirectoryError, match="is a directory; expected the name of a file"):
        new_memory().store_from(source, checkpoint=tmp_path)
    new_memory().save(tmp_path / "memory")
    with pytest.raises(ValueError, match="holds a memory; expected a checkpoint"):
        new_memory().store_from(source, checkpoint=tmp_path / "memory")
    new_memory().store_from(source, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="holds a checkpoint; expected a memory"):
        AssociativeMemory.load(tmp_path / "run")


def test_recalls_from_within_a_source_see_what_was_there_before():
    keys, values = pairs(600, KEY_DIM, VALUE_DIM)
    memory = new_memory()
    memory.store(keys[:5], values[:5])
    before = memory.recall(keys)

    def source():
        for batch in batches(keys, values, 50):
            assert np.array_equal(memory.recall(keys), before)
            yield batch

    memory.store_from(source(), every=100)
    assert memory.n_stored == 605
    with pytest.raises(RuntimeError, match="from inside another write"):
        memory.store_from(memory.store(keys[0], values[0]) for _ in range(3))


def test_blocks_do_not_depend_on_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(assocmem.cell, "CHUNK_BYTES", 1)
    keys, values = pairs(1000, KEY_DIM, VALUE_DIM)
    one, other = new_memory(), new_memory()
    one.store_from((keys, values))
    other.store_from((keys, values), checkpoint=tmp_path / "run")
    assert same_bits(one, other)


def test_a_checkpoint_holds_what_was_forgotten_since_unless_it_is_removed(tmp_path):
    keys, values = pairs(50, KEY_DIM, VALUE_DIM)
    run, memory = tmp_path / "run", new_memory()
    memory.store_from((keys, values), checkpoint=run, every=20)
    memory.forget(keys[0], values[0])
    kept = new_memory()
    kept.store_from((keys, values), checkpoint=run, every=20)
    assert kept.n_stored == 50
    again = kept.copy()
    again.store_from((keys, values), checkpoint=run, every=20, keep_checkpoint=False)  # a finished run: nothing twice
    assert same_bits(again, kept)
    assert list(tmp_path.iterdir()) == []
    fresh = new_memory()
    fresh.store_from((keys, values), checkpoint=run, every=20, keep_checkpoint=False)
    assert same_bits(fresh, kept)
    assert list(tmp_path.iterdir()) == []
    fresh.store_from((keys, values), checkpoint=run, every=20, keep_checkpoint=False)
    assert fresh.n_stored == 100  # with the file went the knowledge that they are stored
    fresh.store_from((keys, values), keep_checkpoint=False)  # no file, nothing to remove
    with pytest.raises(TypeError, match="keep_checkpoint must be True or False, got 'no'"):
        fresh.store_from((keys, values), checkpoint=run, keep_checkpoint="no")
    assert fresh.n_stored == 150


KILLED_AT = """
import os, sys
from pathlib import Path
from tests.operations import killable
folder, left = Path(sys.argv[1]), [int(sys.argv[2])]
def die(n_done):
    left[0] -= n_done
    if left[0] < 0:
        os._exit(9)
killable.new_memory().store_from(
    (folder / "keys.npy", folder / "values.npy"),
    checkpoint=folder / "run", every=10, keep_checkpoint=False, progress=die,
)
"""


def test_a_killed_run_leaves_its_checkpoint_and_the_last_one_removes_it(tmp_path):
    keys, values = pairs(100, KEY_DIM, VALUE_DIM)
    npy_files(tmp_path, keys, values)
    command = [sys.executable, "-c", KILLED_AT, str(tmp_path), "45"]
    assert subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode == 9
    (tmp_path / ".run.12345678.unfinished").mkdir()
    assert (tmp_path / "run").exists()
    resumed, done, plain = killable.new_memory(), [], killable.new_memory()
    resumed.store_from(
        (keys, values), checkpoint=tmp_path / "run", every=10, keep_checkpoint=False, progress=done.append
    )
    plain.store_from((keys, values), every=10)
    assert done[0] == 40
    assert same_bits(resumed, plain)
    assert {path.name for path in tmp_path.iterdir()} == {"keys.npy", "values.npy"}


# ------------------------------------------------------------------------------------------------ killing

N_KILLS = 50


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killed_at_fifty_random_moments_it_ends_with_the_same_bits(tmp_path):
    """Real processes, killed by SIGKILL at random moments and started again, until the stream has ended."""
    keys, values = pairs(2000, KEY_DIM, VALUE_DIM)
    npy_files(tmp_path, keys, values)
    plain = killable.new_memory()
    plain.store_from((keys, values), every=10)
    # A server that has loaded everything and in which nothing runs: its children start in milliseconds.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["pytest", "tests.operations.killable"])
    rng = np.random.default_rng(0)
    n_kills, n_cut_writes, resumed, longest = 0, 0, [], 0.05
    while n_kills < N_KILLS:
        (tmp_path / "memory").unlink(missing_ok=True)
        listening, started = processes.Pipe(duplex=False)
        process = processes.Process(target=killable.run, args=(tmp_path, started))
        process.start()
        started.close()  # so that a child that fails is noticed, not waited for
        resumed.append(listening.recv())  # the pairs that the checkpoint had, or those of the first block
        if len(resumed) > 1 and resumed[-1] < resumed[-2] + 30:  # on a busy machine little was done in this time
            longest = min(1.5 * longest, 2.0)
        time.sleep(rng.uniform(0, longest))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was too fast: once more from the beginning
            (tmp_path / "run").unlink()
            longest /= 2
            continue
        assert process.exitcode == -signal.SIGKILL
        n_kills += 1
        n_cut_writes += any(path.name.endswith(".unfinished") for path in tmp_path.iterdir())
    print(n_kills, n_cut_writes, resumed)
    assert len(set(resumed)) > 10
    assert n_cut_writes > 0
    resuming, done = killable.new_memory(), []
    resuming.store_from((keys, values), every=10, checkpoint=tmp_path / "run", progress=done.append)
    assert same_bits(resuming, plain)
    assert done[0] > 10
    # What a killed save() of the finished memory may leave is nothing that a later run would know of.
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".memory.")}
    assert left == {"keys.npy", "values.npy", "run"}


@pytest.mark.parametrize("rule", [Ridge(0.1), RecursiveLeastSquares(0.1)], ids=["ridge", "rls"])
def test_a_stream_into_an_edited_memory_resumes(rule, tmp_path):
    memory = memory_of_first(5, rule)
    memory.edit(FIRST_KEYS[0], [5.0, 5.0])
    again = memory.copy()
    for one in (memory, again):
        one.store_from((FIRST_KEYS[5:30], FIRST_VALUES[5:30]), checkpoint=tmp_path / "run", every=10)
    assert (again.recall(FIRST_KEYS[:9]) == memory.recall(FIRST_KEYS[:9])).all()
    assert relative(again.recall(FIRST_KEYS[0]), np.array([5.0, 5.0])) < 1e-9


def test_an_edit_of_an_empty_memory_is_another_beginning(tmp_path):
    edited, fresh = AssociativeMemory(8, 2), AssociativeMemory(8, 2)
    edited.edit(FIRST_KEYS[0], [5.0, 5.0])
    fresh.store_from((FIRST_KEYS[5:30], FIRST_VALUES[5:30]), checkpoint=tmp_path / "run", every=10)
    with pytest.raises(ValueError, match="pairs before the run"):
        edited.store_from((FIRST_KEYS[5:30], FIRST_VALUES[5:30]), checkpoint=tmp_path / "run", every=10)
    assert relative(edited.recall(FIRST_KEYS[0]), np.array([5.0, 5.0])) < 1e-9
