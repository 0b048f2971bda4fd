"""How many processors this process may use. `usable` is pure, from what the kernel tells in files; `processors` asks the kernel.

A container's limit is a quota of time (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`), in its own group or any above it:
https://docs.kernel.org/admin-guide/cgroup-v2.html. A part of a processor is no processor: a process more than there are would only be throttled
with the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

ROOT = PurePosixPath("/sys/fs/cgroup")


def processors() -> int:
    """Whole processors that this process may use, by its affinity and its container's limit."""
    return usable(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _text_of)


def usable(affinity: int, read: Callable[[str], str | None]) -> int:
    """Whole processors, at least one. `affinity` is on how many this process may run; `read` gives a file's text, or None where there is none."""
    limits = [limit for limit in _limits(read) if limit > 0]
    return max(1, int(min([affinity, *limits])))


def _text_of(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _limits(read: Callable[[str], str | None]) -> Iterator[float]:
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        # Inside a container the group's path is often the host's, and what is mounted is the group itself: the root is asked too.
        for folder in _upwards(group):
            if controllers == "":
                yield _v2(read(str(ROOT / folder / "cpu.max")))
            elif "cpu" in controllers.split(","):
                for mount in ("cpu", controllers):
                    base = ROOT / mount / folder
                    yield _quota(read(str(base / "cpu.cfs_quota_us")), read(str(base / "cpu.cfs_period_us")))


def _upwards(group: str) -> Iterator[PurePosixPath]:
    path = PurePosixPath(group.lstrip("/"))
    yield path
    yield from path.parents


def _v2(text: str | None) -> float:
    quota, _, period = (text or "").strip().partition(" ")
    return _quota(quota, period)


def _quota(quota: str | None, period: str | None) -> float:
    """Processors; 0 where there is no limit (`max`, -1) or nothing that makes sense."""
    try:
        return float(int(quota or "")) / float(int(period or ""))
    except (ValueError, ZeroDivisionError):
        return 0.0
