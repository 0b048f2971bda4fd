"""What the executor does with a task, and how its journal's export is kept."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """What the executor does with a task: nothing, say what it would do, or do it."""

    OFF = "off"
    SHADOW = "shadow"
    AUTO = "auto"


class Lock(StrEnum):
    """How S3 keeps what is exported: from everybody, from everybody without a permission of its own, or as the bucket does by itself.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
    """

    COMPLIANCE = "compliance"
    GOVERNANCE = "governance"
    NONE = "none"
