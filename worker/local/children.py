"""The processes a demo starts, and their end: whatever happens, none outlives it.

Each child runs a module of ours in a session of its own, so that Ctrl-C in the terminal reaches only us and we stop the children in order;
its output goes to a file. It gets an environment of a few named variables: nothing of the caller's AWS settings, credentials or proxies.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import worker

PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


class Child:
    """One running module. `grace_seconds` is what it gets to end by itself when it is told to."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, grace_seconds: float) -> None:
        self.name = name
        self._grace_seconds = grace_seconds
        self.process = process
        self.log = log

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def tail(self, lines: int = 15) -> str:
        """The end of what it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> int:
        """SIGTERM, time to finish, then SIGKILL; answers the exit status (negative: the signal that ended it)."""
        if not self.ended:
            self.process.terminate()
        try:
            return self.process.wait(self._grace_seconds)
        except subprocess.TimeoutExpired:
            return -9
        finally:
            # Also when a second Ctrl-C cut the wait short.
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


class Children:
    """Starts children and stops them in reverse, by their process ids, when its block is left. `folder` takes their files."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {name: environment[name] for name in PASSED_ON if name in environment}
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            while self._children:
                self._children[-1].stop()
                self._children.pop()
        finally:
            for child in self._children:
                with suppress(ProcessLookupError):
                    child.process.kill()

    def start(self, name: str, *arguments: str, variables: Mapping[str, str], grace_seconds: float = 10.0) -> Child:
        """Run `python -m ARGUMENTS` with these variables besides the named ones."""
        package_home = str(Path(worker.__file__).parent.parent)
        environment = self._environment | {
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "PYTHONUNBUFFERED": "1",
            # The child is to find this very package, not one that happens to be called so where the demo was started (hence -P).
            "PYTHONPATH": os.pathsep.join(filter(None, (package_home, self._environment.get("PYTHONPATH")))),
            **variables,
        }
        log = self._folder / f"{name}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                [sys.executable, "-P", "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        child = Child(name, process, log, grace_seconds)
        self._children.append(child)
        return child
