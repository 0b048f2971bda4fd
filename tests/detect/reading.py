"""Rule texts read as the program reads them, with the faults as a value."""

from __future__ import annotations

from worker.detect import library
from worker.detect.document import RuleFault
from worker.detect.rulefile import CompiledRule


def read(path: str, text: str) -> tuple[tuple[CompiledRule, ...], tuple[RuleFault, ...]]:
    """The rules of a file, or its faults."""
    try:
        return library.build([(path, text)]).rules, ()
    except library.RuleFaults as error:
        return (), error.faults
