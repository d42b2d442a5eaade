"""Numba's cache is a help and no need: without a usable one the package compiles, and says so once."""

import importlib.util
import subprocess
import sys
import warnings

import numba
import pytest

from assocmem.core import jit

MODULE = """
from assocmem.core.jit import kernel, reduction

@kernel
def twice(x):
    return 2 * x

@reduction
def half(x):
    return x / 2
"""

NO_FOLDER = """
import warnings
from numba.core import caching

def refuse(self):
    raise PermissionError(13, "Permission denied")

caching._CacheLocator.ensure_cache_path = refuse
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import assocmem
    from assocmem.features.hadamard import copy_into
import numpy as np
out = np.zeros(2)
copy_into(out, np.ones(2))
assert out.tolist() == [1, 1]
assert not copy_into.stats.cache_path
assert [w.category for w in seen] == [UserWarning], seen
print(seen[0].message)
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Functions compiled as in a process of its own, cached in a folder of their own."""
    source = tmp_path / "loops.py"
    source.write_text(MODULE)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))

    def load():
        monkeypatch.setattr(jit, "_has_warned", False)
        spec = importlib.util.spec_from_file_location("loops", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def files(tmp_path, suffix):
    return sorted((tmp_path / "cache").rglob(f"*.{suffix}"))


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x05", b"no pickle at all"])
def test_damaged_files_are_compiled_anew_and_mended(load, tmp_path, suffix, damage):
    assert load().twice(2) == 4
    assert len(files(tmp_path, suffix)) == 1
    files(tmp_path, suffix)[0].write_bytes(damage)
    with pytest.warns(UserWarning, match=r"numba cannot use its cache .* NUMBA_CACHE_DIR"):
        assert load().twice(2) == 4
    again = load()
    assert again.twice(2) == 4
    assert list(again.twice.stats.cache_hits.values()) == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_warns_once(load):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    loops = load()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # as a full disk: a file can be made, and not written
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            results = loops.twice(2), loops.half(4.0), loops.twice(2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert results == (4, 2.0, 4.0)
    assert len(seen) == 1
    assert "OSError: [Errno" in str(seen[0].message)
    assert "NUMBA_CACHE_DIR" in str(seen[0].message)


def test_without_a_folder_for_the_cache_the_package_is_imported_and_compiles():
    run = subprocess.run([sys.executable, "-c", NO_FOLDER], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "NUMBA_CACHE_DIR" in run.stdout


def test_without_the_interpreter_lock_the_import_is_refused():
    probe = "import numba, sys; sys._is_gil_enabled = lambda: False; import assocmem"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ImportError: assocmem needs the interpreter lock" in run.stderr
