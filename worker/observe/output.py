"""A standard stream that several processes write whole lines to.

A pipe takes 4 KiB at once and may put another's words between longer ones, so that lines are written under a lock that all of them share, each at
once. Nothing is kept back: what `write` has taken is with the kernel.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Output:
    """Text or bytes to a file descriptor, line by line; alone, or with a lock file shared with others. Raises OSError as a file does."""

    def __init__(self, descriptor: int, lock: Path | None = None) -> None:
        self._descriptor = descriptor
        self._lock = None if lock is None else os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._begun = b""

    def write(self, data: str | bytes) -> int:
        """Write what is whole lines; the beginning of a line waits for its end."""
        self._begun += data.encode(errors="replace") if isinstance(data, str) else data
        lines, newline, rest = self._begun.rpartition(b"\n")
        self._begun = rest
        if newline:
            self._put(lines + newline)
        return len(data)

    def flush(self) -> None:
        """Nothing waits but a line without its end."""

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def _put(self, lines: bytes) -> None:
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(self._descriptor, left) :]
        finally:
            if self._lock is not None:
                fcntl.flock(self._lock, fcntl.LOCK_UN)
