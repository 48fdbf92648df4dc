"""How much memory a process can still get, for each way in which Linux limits it."""

import pytest

from audiozen_core.tuning.free_memory import free_memory

GIB = 2**30


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MACHINE = {"proc/meminfo": f"MemTotal: {64 * 2**20} kB\nMemFree: 5 kB\nMemAvailable:   {32 * 2**20} kB\n"}
VERSION_2 = {
    "proc/self/cgroup": "0::/jobs/mine\n",
    "sys/fs/cgroup/jobs/memory.max": f"{16 * GIB}\n",
    "sys/fs/cgroup/jobs/memory.current": f"{10 * GIB}\n",
    "sys/fs/cgroup/jobs/memory.stat": f"anon 5\ninactive_file {2 * GIB}\n",
    "sys/fs/cgroup/jobs/mine/memory.max": "max\n",
    "sys/fs/cgroup/jobs/mine/memory.current": f"{9 * GIB}\n",
}
VERSION_1 = {
    "proc/self/cgroup": "3:cpu,cpuacct:/a\n2:memory:/slurm/job_1\n",
    "sys/fs/cgroup/memory/slurm/job_1/memory.limit_in_bytes": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory/slurm/job_1/memory.usage_in_bytes": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory/slurm/job_1/memory.stat": f"cache 5\ntotal_inactive_file {GIB // 2}\n",
}
CONTAINER = {  # it sees its own group at the root
    "proc/self/cgroup": "0::/../../docker/0123\n",
    "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
    "sys/fs/cgroup/memory.current": f"{GIB}\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (MACHINE, 32 * GIB),
        (MACHINE | VERSION_2, 8 * GIB),
        (MACHINE | VERSION_1, 3 * GIB // 2),
        (MACHINE | CONTAINER, GIB),
        (VERSION_2, 8 * GIB),
        ({}, None),
        ({**CONTAINER, "sys/fs/cgroup/memory.current": f"{3 * GIB}\n"}, 0),
    ],
)
def test_the_tightest_limit_counts(tmp_path, files, free):
    assert free_memory(write(tmp_path, files)) == free


def test_this_machine_has_memory():
    assert free_memory() > 0
