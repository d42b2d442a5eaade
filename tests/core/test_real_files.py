"""Files and buffers as they are: memory maps, pipes, full disks, links, mounts, processes that were killed."""

import copy
import errno
import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors

from assocmem import AssociativeMemory
from assocmem.cell import Cell
from assocmem.core import files
from assocmem.rules import blas
from tests.helpers import pairs
from tests.test_memory import compiled

RULES = ["ridge", "rls", "delta", "hebbian"]


# ------------------------------------------------------------------------------------ arrays of other owners


def mapped(memory, path):
    joblib = pytest.importorskip("joblib")
    joblib.dump(memory, path)
    return joblib.load(path, mmap_mode="r")


def immutable(memory, path):
    """As dask and Ray hand over: the arrays lie in the bytes of a message."""
    buffers = []
    content = pickle.dumps(memory, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=[bytes(buffer.raw()) for buffer in buffers])


def misaligned(memory, path):
    buffers = []
    content = pickle.dumps(memory, protocol=5, buffer_callback=buffers.append)
    shifted = [memoryview(bytearray(b"x" + bytes(buffer.raw())))[1:] for buffer in buffers]
    return pickle.loads(content, buffers=shifted)


def transposed(memory, path):
    """With arrays that are not C-contiguous."""
    strange = copy.copy(memory)
    for group in (strange._cell._state, strange._cell._state.sums):
        for name, array in [] if group is None else group._entries():
            if isinstance(array, np.ndarray) and array.ndim == 2:
                setattr(group, name, np.asfortranarray(array))
    return pickle.loads(pickle.dumps(strange))


def arrays_of(group):
    for _, entry in group._entries():
        if isinstance(entry, np.ndarray):
            yield entry
        elif hasattr(entry, "_entries"):
            yield from arrays_of(entry)


def are_owned(arrays):
    return all(type(array) is np.ndarray and array.flags.carray for array in arrays)


@pytest.mark.parametrize("received", [mapped, immutable, misaligned, transposed])
@pytest.mark.parametrize("rule", RULES)
def test_a_memory_owns_its_arrays_whatever_buffers_they_came_in(rule, received, tmp_path):
    keys, values = pairs(40, 8, 3)
    memory = AssociativeMemory(8, 3, rule=rule, ledger=rule != "delta")
    memory.store(keys, values)
    if rule in ("ridge", "rls"):
        memory.edit(keys[0], values[1], preserve=keys[2])
    twin = received(memory, tmp_path / "memory")
    assert are_owned(arrays_of(twin._cell._state))
    assert are_owned(arrays_of(twin.copy()._cell._state))
    use(memory, keys, values)
    n_compiled = compiled()
    use(twin, keys, values)
    assert compiled() == n_compiled
    assert np.array_equal(twin.recall(keys), memory.recall(keys))


def use(memory, keys, values):
    for n in (1, 5, 40):
        memory.store(keys[:n] + 1, values[:n])
        memory.recall(keys)
        if memory.rule.name != "delta":
            memory.forget(keys[1], values[1])
            memory.store(keys[1], values[1])


@pytest.mark.parametrize("received", [mapped, immutable, misaligned])
@pytest.mark.parametrize("precision", ["float64", "float32", "int8"])
def test_a_frozen_memory_owns_its_arrays(precision, received, tmp_path):
    keys, values = pairs(40, 8, 3)
    memory = AssociativeMemory(8, 3)
    memory.store(keys, values)
    frozen = memory.freeze(precision)
    expected = frozen.recall(keys), frozen.recall(keys[0])
    n_compiled = compiled()
    twin = received(frozen, tmp_path / "frozen")
    assert are_owned([twin.weights, twin.scale, twin.offset])
    assert twin.weights.ctypes.data % 64 == 0
    assert np.array_equal(twin.recall(keys), expected[0])
    assert np.array_equal(twin.recall(keys[0]), expected[1])
    assert compiled() == n_compiled


def test_a_loaded_memory_owns_its_arrays(tmp_path):
    keys, values = pairs(20, 8, 3)
    for rule in RULES:
        memory = AssociativeMemory(8, 3, rule=rule)
        memory.store(keys, values)
        memory.save(tmp_path / rule)
        assert are_owned(arrays_of(AssociativeMemory.load(tmp_path / rule)._cell._state))


WRITING_TO_A_MAP = """
import sys
import numpy as np
from assocmem.rules import blas
np.save(sys.argv[1], np.eye(64))
matrix, ones = np.load(sys.argv[1], mmap_mode="r"), np.ones((1, 64))
for change in (
    lambda: blas.add_product(matrix, ones, ones),
    lambda: blas.add_outer(matrix, ones[0], ones[0]),
    lambda: blas.add_gram(matrix, ones),
    lambda: blas.add_gram(matrix, np.ones((2, 64))),
    lambda: blas.cholesky(matrix),
    lambda: blas.invert_from_cholesky(matrix),
):
    try:
        change()
    except ValueError as error:
        assert "read-only" in str(error), error
    else:
        raise AssertionError("nothing was refused")
assert np.array_equal(np.load(sys.argv[1]), np.eye(64))
"""


def test_matrices_that_are_read_only_are_not_written_to(tmp_path):
    """In a process of its own, for BLAS asks nobody and dies."""
    run = subprocess.run([sys.executable, "-c", WRITING_TO_A_MAP, str(tmp_path / "matrix.npy")], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_matrices_that_blas_would_copy_are_refused():
    ones = np.ones((1, 4))
    with pytest.raises(ValueError, match="not C-contiguous"):
        blas.add_product(np.zeros((4, 8))[:, ::2], ones, ones)


# ------------------------------------------------------------------------------------ what is there already

posix = pytest.mark.skipif(os.name != "posix", reason="pipes, links, owners and signals are POSIX's")


@pytest.fixture
def memory():
    stored = AssociativeMemory(6, 2)
    stored.store(*pairs(20, 6, 2))
    return stored


@posix
def test_pipes_and_devices_are_refused_before_any_work(memory, tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    frozen = memory.freeze()

    def work(*arguments):
        raise AssertionError("work was done")

    monkeypatch.setattr(Cell, "view", work)
    monkeypatch.setattr(Cell, "copied", work)
    for path in (pipe, link):
        for write in (memory.save, frozen.save, lambda path: memory.store_from(pairs(9, 6, 2), checkpoint=path)):
            with pytest.raises(FileExistsError, match="is a device, a pipe or a socket"):
                write(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@posix
def test_the_umask_is_never_changed(memory, tmp_path, monkeypatch):
    mask = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", None)
        memory.save(tmp_path / "memory")
        memory.freeze().save(tmp_path / "frozen")
    finally:
        monkeypatch.undo()
        os.umask(mask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


@posix
def test_links_are_followed(memory, tmp_path):
    for folder in ("data", "links"):
        (tmp_path / folder).mkdir()
    link, target = tmp_path / "links" / "memory", tmp_path / "data" / "memory"
    link.symlink_to("../data/memory")
    for _ in range(2):  # the target does not exist at first
        memory.save(link)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert AssociativeMemory.load(target).n_stored == memory.n_stored
        memory.store(np.ones(6), np.ones(2))
    assert os.listdir(link.parent) == os.listdir(target.parent) == ["memory"]
    run = tmp_path / "links" / "run"
    run.symlink_to("../data/run")
    memory.store_from(pairs(9, 6, 2), checkpoint=run)
    assert (target.parent / "run").is_file()
    memory.store_from(pairs(9, 6, 2), checkpoint=run, keep_checkpoint=False)
    assert os.listdir(target.parent) == ["memory"]


@posix
def test_owner_and_permissions_are_kept_where_the_system_allows_it(memory, tmp_path, monkeypatch):
    path, owners = tmp_path / "memory", []
    memory.save(path)
    path.chmod(0o600)
    real = Path.stat

    def foreign(self, **options):
        found = real(self, **options)
        return os.stat_result((*found[:4], 1234, 5678, *found[6:])) if self == path else found

    monkeypatch.setattr(Path, "stat", foreign)
    monkeypatch.setattr(os, "chown", lambda name, user, group: owners.append((user, group)))
    memory.save(path)
    assert owners == [(-1, 5678), (1234, -1)]
    assert stat.S_IMODE(real(path).st_mode) == 0o600

    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(os, "chmod", refuse)
    memory.store(np.ones(6), np.ones(2))
    memory.save(path)
    monkeypatch.undo()
    assert AssociativeMemory.load(path).n_stored == memory.n_stored


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127])
def test_names_as_long_as_the_system_takes_them(memory, tmp_path, name):
    if os.name != "posix":
        name = name[:100]
    for _ in range(2):
        memory.save(tmp_path / name)
    assert AssociativeMemory.load(tmp_path / name).n_stored == 20
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_file_that_is_mounted_by_itself_asks_for_the_folder(memory, tmp_path, monkeypatch, number):
    real = os.replace

    def mounted(source, target):
        if Path(target) == tmp_path / "memory":  # and no file of a compiler's cache
            raise OSError(number, "mounted", source, None, target)
        real(source, target)

    monkeypatch.setattr(os, "replace", mounted)
    with pytest.raises(OSError, match=r"mount the folder, not the file; nothing was changed: '.*/memory'") as raised:
        memory.save(tmp_path / "memory")
    assert raised.value.errno == number
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named_by_the_file(memory, tmp_path, monkeypatch):
    def read_only(*arguments):
        raise OSError(errno.EROFS, "Read-only file system", f"{tmp_path}/.memory.12345678.unfinished")

    monkeypatch.setattr(tempfile, "mkdtemp", read_only)
    with pytest.raises(
        OSError, match=r"its folder must be writeable \(if .* mounted.*, mount the folder\): '.*/memory'"
    ):
        memory.save(tmp_path / "memory")


# ------------------------------------------------------------------------------------ processes that were killed

KILLED = """
import os, signal, sys
from assocmem.core import files
with files.replacing(sys.argv[1]) as temporary:
    open(temporary, "wb").write(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_what_killed_processes_left_is_removed_by_the_next_save(memory, tmp_path):
    path = tmp_path / "memory"
    for other in (path, tmp_path / "memory.2"):
        assert subprocess.run([sys.executable, "-c", KILLED, str(other)], check=False).returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    memory.save(path)
    left = sorted(os.listdir(tmp_path))
    assert len(left) == 2
    assert left[0].startswith(".memory.2.")  # of another file
    assert left[1] == "memory"


def test_unfinished_files_of_running_and_of_unknown_processes_stay_until_they_are_old(memory, tmp_path):
    path = tmp_path / "memory"
    elsewhere = f".memory.{'0' * 8}{2**22 + 1:08x}abcdefgh.unfinished"  # of another machine
    for name in (elsewhere, ".memory.abcdefgh.unfinished", ".memory.strange.unfinished"):
        (tmp_path / name).mkdir()
    with files.replacing(path) as temporary:
        Path(temporary).write_bytes(b"slow")
        memory.save(path)  # as another thread of this process
        assert Path(temporary).exists()
        assert len(os.listdir(tmp_path)) == 5
    before = time.time() - 2 * 3600
    for name in os.listdir(tmp_path):
        os.utime(tmp_path / name, (before, before))
    (tmp_path / elsewhere / "memory").touch()  # still written to
    memory.save(path)
    assert sorted(os.listdir(tmp_path)) == sorted([elsewhere, ".memory.strange.unfinished", "memory"])


# ------------------------------------------------------------------------------------ disks that are full

FULL = """
import errno, os, resource, signal, sys
import numpy as np
from assocmem import AssociativeMemory
from assocmem.commands import cli
from typer.testing import CliRunner

os.chdir(sys.argv[1])
memory = AssociativeMemory.load("memory")
calls = {
    "save": lambda: memory.save("out"),
    "freeze": lambda: memory.freeze().save("out"),
    "checkpoint": lambda: memory.copy().store_from((np.eye(32), np.eye(32)), checkpoint="out"),
}
commands = {
    "recall": ["recall", "memory", "--keys", "keys.npy", "--out", "out"],
    "store": ["store", "--keys", "keys.npy", "--values", "keys.npy", "--out", "out"],
}
for call in calls.values():  # with room: what has to be compiled has been afterwards
    call()
    os.remove("out")
for arguments in commands.values():
    assert CliRunner().invoke(cli.build(), arguments).exit_code == 0
    os.rename("out", arguments[0])
assert np.array_equal(np.load("recall"), memory.recall(np.load("keys.npy")))
before = sorted(os.listdir())

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # as a full disk, only with another number of the error
for name, call in calls.items():
    try:
        call()
    except OSError as error:
        assert (error.errno, error.filename) == (errno.EFBIG, os.path.join(os.getcwd(), "out")), (name, error)
        assert "free some room" in str(error)
    else:
        raise AssertionError(name)
for name, arguments in commands.items():
    result = CliRunner().invoke(cli.build(), arguments)
    assert result.exit_code == 2, (name, result.output, result.exception)
    assert result.stderr.startswith("assocmem: [Errno") and "free some room" in result.stderr, result.stderr
    assert result.stderr.count("\\n") == 1, result.stderr
assert sorted(os.listdir()) == before
"""


@posix
def test_a_full_disk_is_reported_and_nothing_is_left(tmp_path):
    pytest.importorskip("typer")
    keys, values = pairs(300, 32, 32)
    memory = AssociativeMemory(32, 32)
    memory.store(keys, values)
    memory.save(tmp_path / "memory")
    np.save(tmp_path / "keys.npy", keys)
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()


def test_recalls_are_written_without_a_memory_map(memory, tmp_path, monkeypatch):
    """A full disk ends a process that writes to a map by SIGBUS, which no limit of a process shows."""
    pytest.importorskip("typer")
    from assocmem.commands import cli

    memory.save(tmp_path / "memory")
    keys = pairs(600, 6, 2)[0]
    np.save(tmp_path / "keys.npy", keys)
    monkeypatch.setattr(cli, "CHUNK_BYTES", 1)
    real = np.lib.format.open_memmap
    monkeypatch.setattr(np.lib.format, "open_memmap", lambda name, mode, **options: real(name, **options, mode="r"))
    cli.recall(tmp_path / "memory", tmp_path / "keys.npy", tmp_path / "values.npy")
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), memory.recall(keys), rtol=1e-9, atol=1e-12)
    keys[500] = 0
    np.save(tmp_path / "keys.npy", keys)
    with pytest.raises(ValueError, match="key 500 is all zeros"):
        cli.recall(tmp_path / "memory", tmp_path / "keys.npy", tmp_path / "other.npy")
    assert sorted(os.listdir(tmp_path)) == ["keys.npy", "memory", "values.npy"]


def test_errors_of_the_system_that_the_library_words_are_raised_as_such(memory, tmp_path, monkeypatch):
    def fail(*arguments):
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files.safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match=r"free some room.*: '.*/memory'") as raised:
        memory.save(tmp_path / "memory")
    assert raised.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []
