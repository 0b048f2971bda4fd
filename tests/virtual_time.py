"""An event loop whose time is virtual: where all would wait, it is at once the moment that the first of them waits for.

A test marked `virtual_time` runs on it. A timer of minutes then costs nothing, and a machine that is slow or busy makes nothing late: time stands
still while anything computes. Work in a thread is awaited truly. It is not for tests that talk to a server, whose answer nobody could wait for.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

Given = TypeVarTuple("Given")
Told = TypeVar("Told")


class _Impatient(selectors.DefaultSelector):
    """A selector that does not wait for a timer but moves the time on, `passed` seconds since it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        told = super().select(timeout if self.in_threads else 0)
        if not told:
            self.passed += timeout
        return told


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """It begins at zero seconds."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        return self._impatient.passed

    def run_in_executor(self, executor: Any, func: Callable[[*Given], Told], *args: *Given) -> asyncio.Future[Told]:
        future = super().run_in_executor(executor, func, *args)
        self._impatient.in_threads += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: object) -> None:
        self._impatient.in_threads -= 1
