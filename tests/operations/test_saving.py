"""Files: what is loaded is what was saved, what is damaged is refused, what fails leaves the old file."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from assocmem import AssociativeMemory
from assocmem.core import files
from tests.helpers import RULES, SUMS, pairs


@pytest.mark.parametrize("name", RULES)
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    bias=st.sampled_from([0.0, 0.7]),
    whiten=st.booleans(),
    n=st.sampled_from([0, 1, 20, 300]),
)
def test_loaded_is_saved_bit_for_bit_and_can_be_written_on(tmp_path_factory, name, dtype, bias, whiten, n):
    path = tmp_path_factory.mktemp("memory") / "memory.safetensors"
    memory = AssociativeMemory(6, 2, rule=RULES[name][0], dtype=dtype, bias=bias, whiten=whiten, seed=4)
    memory.store(*pairs(n, 6, 2))
    memory.save(path)
    loaded = AssociativeMemory.load(path)
    queries = pairs(9, 6, 2, seed=1)[0]
    assert repr(loaded) == repr(memory)
    assert np.array_equal(loaded.recall(queries), memory.recall(queries))
    assert np.array_equal(loaded.recall(queries[0]), memory.recall(queries[0]))
    for each in (memory, loaded):
        each.store(*pairs(5, 6, 2, seed=2))
        if name in SUMS:
            each.forget(*pairs(5, 6, 2, seed=2))
    assert np.array_equal(loaded.recall(queries), memory.recall(queries))


@pytest.fixture
def saved(tmp_path):
    memory = AssociativeMemory(6, 2, rule="ridge")
    memory.store(*pairs(20, 6, 2))
    memory.save(tmp_path / "memory.safetensors")
    return tmp_path / "memory.safetensors"


def rewrite(path, change_header=lambda header: None, change_arrays=lambda arrays: None):
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["assocmem"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change_header(header)
    change_arrays(arrays)
    safetensors.numpy.save_file(arrays, path, {"assocmem": json.dumps(header)})


SINCE_FORMAT_4 = (
    *("n_nonzero", "lost_cross", "lost", "times", "log_sizes", "inverted"),
    *("constraint_directions", "constraint_slack"),
)


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("name", ["ridge", "ridge-decay", "rls", "rls-decay", "hebbian-decay", "delta"])
def test_files_of_older_formats_load(tmp_path, name, version):
    """Format 2 called the decay `forgetting`, and constraints `fixed`; 3 knew less of rounding, 4 no sum of keys."""
    keys, values = pairs(20, 6, 2)
    memory = AssociativeMemory(6, 2, rule=RULES[name][0], bias=1.0)
    memory.store(keys, values)
    if name in ("ridge", "rls"):
        memory.edit(keys[0], values[1], preserve=keys[2])
    memory.save(tmp_path / "memory")

    def older_header(header):
        header["version"] = version
        if version == 2 and name.startswith(("ridge", "rls")):
            header["rule_parameters"]["forgetting"] = header["rule_parameters"].pop("decay")
        entries = {key: value for key, value in header.items() if key not in ("version", "kind", "fingerprint")}
        header["fingerprint"] = files.fingerprint(entries, memory.features.projection.signs)

    def older_arrays(arrays):
        arrays.pop("key_sum", None)
        if version == 4:
            return
        if "lost" in arrays:
            arrays |= {
                array: np.array(1.0) for array in ("rounding", "rounding_cross")[: 2 if "cross" in arrays else 1]
            }
        for array in SINCE_FORMAT_4:
            arrays.pop(array, None)
        for array in ("features", "values"):
            if version == 2 and f"constraint_{array}" in arrays:
                arrays[f"fixed_{array}"] = arrays.pop(f"constraint_{array}")

    rewrite(tmp_path / "memory", older_header, older_arrays)
    loaded = AssociativeMemory.load(tmp_path / "memory")
    assert loaded.rule == memory.rule
    for each in (loaded, memory):
        assert np.array_equal(each.recall(keys), memory.recall(keys))
    loaded.store(keys[5], values[6])
    memory.store(keys[5], values[6])
    assert np.array_equal(loaded.recall(keys), memory.recall(keys))


@pytest.mark.parametrize(("change", "message"), [
    ({"version": 99}, "format version 99; expected one of .*2, 3.*. Open it with the version"),
    ({"kind": "frozen"}, "holds a frozen; expected a memory"),
    ({"rule": "magic"}, "header that this version cannot use"),
    ({"key_dim": 7}, "configuration and signs are not those"),
    ({"value_dim": 3}, "configuration and signs are not those"),
    ({"seed": 1}, "configuration and signs are not those"),
    ({"dtype": "float32"}, "configuration and signs are not those"),
    ({"rule_parameters": {"beta": 1}}, "header that this version cannot use"),
])  # fmt: skip
def test_headers_that_do_not_fit_are_refused(saved, change, message):
    rewrite(saved, change_header=lambda header: header.update(change))
    with pytest.raises(ValueError, match=message):
        AssociativeMemory.load(saved)


def test_missing_surplus_and_broken_arrays_are_refused(saved):
    original = saved.read_bytes()
    for change, message in (
        (lambda arrays: arrays.pop("gram"), "gram do not match"),
        (lambda arrays: arrays["n_stored"].__setitem__((), -5), "n_stored is -5"),
        (lambda arrays: arrays.update(extra=np.ones(3)), "expected no extra"),
        (lambda arrays: arrays["cross"].__setitem__((0, 0), np.nan), "array cross holds NaN"),
    ):
        saved.write_bytes(original)
        rewrite(saved, change_arrays=change)
        with pytest.raises(ValueError, match=message):
            AssociativeMemory.load(saved)


@given(share=st.floats(0, 0.999))
def test_truncated_files_are_refused(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("memory") / "memory.safetensors"
    AssociativeMemory(3, 1).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="not a memory, or it is truncated"):
        AssociativeMemory.load(path)


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.ones(2)}, other)
    with pytest.raises(ValueError, match="without a readable assocmem header"):
        AssociativeMemory.load(other)
    text = tmp_path / "notes.txt"
    text.write_text("keys and values " * 100)
    with pytest.raises(ValueError, match="not a memory"):
        AssociativeMemory.load(text)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent; expected one that save"):
        AssociativeMemory.load(tmp_path / "absent")
    with pytest.raises(IsADirectoryError, match="is a directory; expected a file"):
        AssociativeMemory.load(tmp_path)


def test_saving_where_one_cannot_is_refused(tmp_path):
    memory = AssociativeMemory(3, 1)
    with pytest.raises(FileNotFoundError, match=r"there is no directory .*create it"):
        memory.save(tmp_path / "absent" / "memory")
    with pytest.raises(IsADirectoryError, match="is a directory; expected the name of a file"):
        memory.save(tmp_path)


def test_infinity_is_not_saved(saved):
    before = saved.read_bytes()
    memory = AssociativeMemory(3, 1, rule="hebbian")
    memory._cell.current().weights[2, 0] = np.inf
    with pytest.raises(ValueError, match=r"array weights holds NaN or infinity.*nothing was saved"):
        memory.save(saved)
    assert saved.read_bytes() == before


def test_paths_of_every_kind(saved):
    for path in (saved, str(saved), os.fsencode(saved)):
        AssociativeMemory.load(path).save(path)
        assert AssociativeMemory.load(path).n_stored == 20


def test_a_failing_save_leaves_the_old_file_and_no_rubbish(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(arrays, path, metadata):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files.safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        AssociativeMemory(3, 1).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


CRASHING_SAVE = """
import os, sys
from assocmem import AssociativeMemory
from assocmem.core import files
real = files.safetensors.numpy.save_file
def half(arrays, path, metadata):
    real(arrays, path, metadata)
    os.truncate(path, 100)
    os._exit(7)
files.safetensors.numpy.save_file = half
AssociativeMemory(3, 1).save(sys.argv[1])
"""


def test_a_crash_while_saving_leaves_the_old_file(saved):
    before = saved.read_bytes()
    crashed = subprocess.run([sys.executable, "-c", CRASHING_SAVE, str(saved)], check=False)
    assert crashed.returncode == 7
    assert saved.read_bytes() == before
    assert AssociativeMemory.load(saved).n_stored == 20


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_permissions_are_kept(saved):
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~current_umask()
    saved.chmod(0o640)
    AssociativeMemory(3, 1).save(saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
