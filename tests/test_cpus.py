"""As many processes as there are whole processors to use, and one at least."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cpus import usable

V1 = "/sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("affinity", "files", "expected"),
    [
        pytest.param(4, {}, 4, id="no cgroups"),
        pytest.param(4, {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 4, id="no limit"),
        pytest.param(4, {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2, id="two"),
        pytest.param(4, {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2, id="two and a half are two"),
        pytest.param(4, {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1, id="a half is one"),
        pytest.param(2, {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "800000 100000\n"}, 2, id="never more than there are"),
        pytest.param(
            8,
            {
                "/proc/self/cgroup": "0::/kubepods/pod1/c1\n",
                "/sys/fs/cgroup/kubepods/pod1/c1/cpu.max": "max 100000\n",
                "/sys/fs/cgroup/kubepods/pod1/cpu.max": "300000 100000\n",
            },
            3,
            id="the pod's limit above the container's",
        ),
        pytest.param(
            8, {"/proc/self/cgroup": "0::/../../host/path\n", "/sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3, id="the host's path"
        ),
        pytest.param(
            8,
            {
                "/proc/self/cgroup": "12:pids:/docker/x\n4:cpu,cpuacct:/docker/x\n",
                f"{V1}/cpu.cfs_quota_us": "400000\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            4,
            id="version 1",
        ),
        pytest.param(
            8,
            {"/proc/self/cgroup": "4:cpu,cpuacct:/\n", f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"},
            8,
            id="version 1 without a limit",
        ),
        pytest.param(8, {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "100000 0\n"}, 8, id="a period of nothing"),
    ],
)
def test_the_containers_limit_counts(affinity, files, expected):
    """By either version of cgroups, at whichever level it stands."""
    assert usable(affinity, files.get) == expected


@given(st.integers(1, 64), st.text(max_size=40), st.text(max_size=12))
def test_whatever_the_kernel_says_there_is_a_number(affinity, groups, limit):
    """Rubbish in a file is no limit."""
    assert 1 <= usable(affinity, lambda path: groups if path == "/proc/self/cgroup" else limit) <= affinity
