"""A person at a terminal: what is asked of them, Ctrl-C meanwhile and afterwards, and why what they asked for was not done."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console


class AskedWronglyError(Exception):
    """What was asked for cannot be made out. The text says why."""


class NotDoneError(Exception):
    """The command did not do what it is for. The text says why."""


def ask(question: str, stdin: TextIO, about: Console) -> str:
    """The line that is typed, without the spaces around it; empty at the end of input. Raises KeyboardInterrupt."""
    about.print(question, end="", markup=False)
    if threading.current_thread() is not threading.main_thread():
        return stdin.readline().strip()  # no signal comes here
    # asyncio's own would only mark the task as cancelled, and the reading would go on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return stdin.readline().strip()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def finishing(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at a first Ctrl-C or SIGTERM, so that what is begun is brought to its end; a second one ends it as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def told() -> None:
        stop.set()
        restore()

    def restore() -> None:
        for number in signals:
            if loop.remove_signal_handler(number):
                signal.signal(number, before[number])

    for number in signals:
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        restore()
