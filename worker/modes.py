"""What the executor does with a task."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """What the executor does with a task: nothing, say what it would do, or do it."""

    OFF = "off"
    SHADOW = "shadow"
    AUTO = "auto"
