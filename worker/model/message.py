"""What comes in: messages of a queue, the objects that they name, and where a record was read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a queue delivered it. `receipt` is good for this delivery alone; `receives` counts deliveries, from 1."""

    id: str
    body: str
    receipt: str
    sent_at: datetime | None = None
    receives: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of a message: delete it, or leave it to come back and at last be redriven.

    `reason` (one of a closed set) says why it was left; `retry_after_seconds` asks for it back sooner than its visibility ends. `progress` tells that
    its work was done all the same, and only something more is awaited.
    """

    delete: bool
    reason: str | None = None
    retry_after_seconds: float | None = None
    progress: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that could not be read. `reason` is one of a closed set; `detail` says what and where, of the first of `count` such."""

    reason: str
    detail: str
    count: int = 1

    def __post_init__(self) -> None:
        # Names and values in it are somebody else's, and may be megabytes long.
        object.__setattr__(self, "detail", self.detail[:500])


@dataclass(frozen=True, slots=True)
class Notice:
    """One S3 object that a notification told us of. `key` is the object's real key, already decoded; `size` is in bytes."""

    bucket: str
    key: str
    region: str | None = None
    version: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class LogObject:
    """The bytes of one object as S3 holds them (usually gzip), and the notice that named it."""

    notice: Notice
    body: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was read: a bucket and key, a path, or the SQS message that carried it inline. Exactly one is set."""

    bucket: str | None = None
    key: str | None = None
    path: str | None = None
    message: str | None = None

    def as_dict(self) -> dict[str, str]:
        """`{"bucket", "key"}`, `{"path"}` or `{"message"}`, as findings carry it."""
        if self.bucket is not None and self.key is not None:
            return {"bucket": self.bucket, "key": self.key}
        if self.path is not None:
            return {"path": self.path}
        return {"message": self.message or ""}
