"""One CloudTrail record, and which of them anybody wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from worker.model.ids import stable_id
from worker.model.message import Origin


@dataclass(frozen=True)
class Record:
    """One CloudTrail record: the full event as orjson decoded it, and where it was read.

    The event is untrusted: any member may be missing or of any type, so it is read through the accessors here, which answer None
    rather than raise. Field meanings: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
    """

    event: Mapping[str, Any]
    origin: Origin

    def get(self, *path: str) -> Any:
        """The value under nested member names, or None where a step is missing or no object."""
        value: Any = self.event
        for name in path:
            if not isinstance(value, (dict, Mapping)):  # dict alone would do; it spares the abstract class's slow look
                return None
            value = value.get(name)
        return value

    def text(self, *path: str) -> str | None:
        """Like `get`, for strings: None for anything else, and for the empty string."""
        value = self.get(*path)
        return value if isinstance(value, str) and value else None

    @property
    def name(self) -> str:
        return self.text("eventName") or ""

    @property
    def source(self) -> str:
        return self.text("eventSource") or ""

    @property
    def region(self) -> str | None:
        return self.text("awsRegion")

    @property
    def identity_type(self) -> str | None:
        """`userIdentity.type`; None where it is not told as text there: a rule may still find it under another spelling."""
        identity = self.event.get("userIdentity")
        kind = identity.get("type") if isinstance(identity, Mapping) else None
        return kind if isinstance(kind, str) else None

    @property
    def error_code(self) -> str | None:
        """The error code; for a failed console sign-in, which has none, its message's stand-in `Failure`."""
        code = self.text("errorCode")
        if code is None and self.name == "ConsoleLogin" and self.text("responseElements", "ConsoleLogin") == "Failure":
            return "Failure"
        return code

    @property
    def account(self) -> str | None:
        """The account whose resources were acted on: `recipientAccountId`, else the caller's."""
        return self.text("recipientAccountId") or self.text("userIdentity", "accountId")

    @cached_property
    def time(self) -> datetime | None:
        """When the call was made (UTC); from `@timestamp` in copies that went through logstash; None where neither parses."""
        for name in ("eventTime", "@timestamp"):
            stamp = self.text(name)
            if stamp is not None:
                try:
                    moment = datetime.fromisoformat(stamp)
                    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
                except (ValueError, OverflowError):
                    continue
        return None

    @cached_property
    def key(self) -> str:
        """What tells this event from every other, whichever channel delivered it and how often.

        The event id alone does not: some copies lack it and anonymised ones repeat one masked id for different events.
        """
        try:
            parameters = json.dumps(self.get("requestParameters"), sort_keys=True, separators=(",", ":"))
        except RecursionError:  # nested a thousand deep; the event's other members tell it apart
            parameters = ""
        identity = self.text("userIdentity", "arn") or self.text("userIdentity", "principalId") or ""
        plain = ("eventID", "eventTime", "eventSource", "eventName", "requestID", "recipientAccountId", "errorCode")
        return stable_id(*(self.text(name) or "" for name in plain), identity, parameters)


@dataclass(frozen=True, slots=True)
class Interest:
    """Which (eventSource, eventName) pairs anybody wants; the reader builds no other record.

    All strings are lower case, because Sigma compares without regard to case. `sources` and `names` are wanted with any partner, and
    `identity_types` (CloudTrail's `userIdentity.type`, such as root) with any source and name.
    """

    pairs: frozenset[tuple[str, str]] = frozenset()
    sources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    identity_types: frozenset[str] = frozenset()
    everything: bool = False

    def wants(self, source: str | None, name: str, identity_type: str | None = None) -> bool:
        """Whether a record with this event source, name and identity type may matter to anybody.

        None is what is not told as text: a rule may still find it under another spelling.
        """
        if self.everything or (source is None and (self.pairs or self.sources)):
            return True
        source, name = (source or "").lower(), name.lower()
        if (source, name) in self.pairs or name in self.names or source in self.sources:
            return True
        return bool(self.identity_types) and (identity_type is None or identity_type.lower() in self.identity_types)

    def __or__(self, other: Interest) -> Interest:
        return Interest(
            self.pairs | other.pairs,
            self.sources | other.sources,
            self.names | other.names,
            self.identity_types | other.identity_types,
            self.everything or other.everything,
        )
