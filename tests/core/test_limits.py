"""Limits of control groups and of memory, read from files in a folder that stands for the root."""

import pytest

from assocmem.core import limits
from assocmem.core.threads import usable_processors

GIB = 2**30


def fake(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_smallest_quota_of_the_group_and_its_ancestors_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert usable_processors(tmp_path) == 64  # no files: no limits
    fake(tmp_path, {"proc/self/cgroup": "0::/task/job\n", "sys/fs/cgroup/task/job/cpu.max": "max 100000\n"})
    assert usable_processors(tmp_path) == 64
    fake(tmp_path, {"sys/fs/cgroup/task/cpu.max": "250000 100000\n"})
    assert usable_processors(tmp_path) == 3
    fake(tmp_path, {"sys/fs/cgroup/task/job/cpu.max": "1000 100000\n"})
    assert usable_processors(tmp_path) == 1


def test_quotas_of_version_1_also_where_the_path_is_that_of_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    fake(tmp_path, {"proc/self/cgroup": "4:cpu,cpuacct:/docker/0123\n3:memory:/\n"})
    folder = "sys/fs/cgroup/cpu,cpuacct/"
    fake(tmp_path, {folder + "cpu.cfs_quota_us": "-1\n", folder + "cpu.cfs_period_us": "100000\n"})
    assert usable_processors(tmp_path) == 64
    fake(tmp_path, {folder + "cpu.cfs_quota_us": "400000\n"})
    assert usable_processors(tmp_path) == 4


def test_available_bytes_are_the_least_of_machine_and_groups(tmp_path):
    fake(tmp_path, {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable:  8388608 kB\nSwapFree: 1048576 kB\n"})
    assert limits.available_bytes(tmp_path) == 9 * GIB
    fake(tmp_path, {"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/memory.max": "max\n"})
    assert limits.available_bytes(tmp_path) == 9 * GIB
    job = "sys/fs/cgroup/job/memory."
    fake(tmp_path, {job + "max": f"{4 * GIB}\n", job + "current": f"{3 * GIB}\n"})
    assert limits.available_bytes(tmp_path) == GIB
    fake(tmp_path, {job + "stat": f"anon 5\ninactive_file {GIB}\nactive_file 7\n"})  # the kernel drops cached files
    assert limits.available_bytes(tmp_path) == 2 * GIB + 7
    fake(tmp_path, {"proc/self/cgroup": "3:memory:/old\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000\n"})
    fake(tmp_path, {"sys/fs/cgroup/memory/memory.usage_in_bytes": "6000\n"})
    assert limits.available_bytes(tmp_path) == 0


def test_what_does_not_fit_is_refused_with_bytes_and_alternatives(monkeypatch):
    monkeypatch.setattr(limits, "available_bytes", lambda: 2 * GIB)
    limits.refuse_if_too_large("this", 2 * GIB, lambda: pytest.fail("asked for alternatives"))
    with pytest.raises(
        MemoryError, match=rf"^A memory needs 528 GiB .*but 2 GiB \({2 * GIB} bytes\) are .*\. Take less"
    ):
        limits.refuse_if_too_large("A memory", 528 * GIB, lambda: "Take less")
    monkeypatch.setattr(limits, "available_bytes", lambda: None)
    limits.refuse_if_too_large("this", 2**80, lambda: "")
