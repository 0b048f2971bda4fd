"""The values that travel through the pipe, from a notification to a task.

Each is frozen and linked to what it came from, so that whoever holds a task can still name the record, the object and the bucket
behind it. This file imports nothing of ours. A newcomer adds a value here when it crosses from one stage to the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

NAMESPACE = UUID("6d1d0b6e-4a4c-5f0e-9a55-2f0a3f6f7d11")
"""Every id of ours is a UUIDv5 in this namespace: the same cause gives the same id, whoever computes it and how often."""


def stable_id(*parts: str) -> str:
    """The UUIDv5 of the parts, in order. Parts are length-prefixed, so that no two lists of parts collide by joining."""
    return str(uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))


class Level(StrEnum):
    """Severity, as the Sigma specification orders it."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for informational to 4 for critical, for sorting."""
        return list(Level).index(self)


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

    `reason` (one of a closed set) says why it was left; `retry_after_seconds` asks for it back sooner than its visibility ends.
    """

    delete: bool
    reason: str | None = None
    retry_after_seconds: float | None = None


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


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding says about the rule that made it. `remediation` names the actions the rule's author asks for.

    `level_when` holds the level that a finding takes instead when a fact explains it; its keys are `CIRCUMSTANCES`.
    """

    id: str
    title: str
    level: Level
    description: str = ""
    tags: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    falsepositives: tuple[str, ...] = ()
    remediation: tuple[str, ...] = ()
    runbook: str | None = None
    level_when: Mapping[str, Level] = field(default_factory=dict)


CIRCUMSTANCES = ("authorised", "documented", "replaced", "dry-run")
"""What may explain a finding: its actor may do that, a change was announced, what was deleted was made again, nothing was changed at all."""

DRY_RUN = "DryRunOperation"
"""EC2's error code for a call that only asked whether it would be allowed, and would have been; CloudTrail writes `Client.` before it."""


def is_dry_run(error_code: str | None) -> bool:
    """Whether a call with this error code was a dry run, which changes nothing and is no failure."""
    return error_code is not None and error_code.rpartition(".")[2] == DRY_RUN


@dataclass(frozen=True, slots=True)
class Actor:
    """Who made the call. `type` is CloudTrail's `userIdentity.type` (IAMUser, AssumedRole, Root, AWSService, ...), or Unknown.

    For an assumed role, `name` is the role's, `session` the session's name and `issuer_arn` the role's ARN.
    """

    type: str
    arn: str | None = None
    name: str | None = None
    account: str | None = None
    session: str | None = None
    issuer_arn: str | None = None
    source_identity: str | None = None
    access_key_id: str | None = None
    mfa: bool | None = None
    source_ip: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What was acted on. `type` is one of instance-profile, user, access-key, instance, account, root, unknown.

    `owner` is the IAM user an access key belongs to.
    """

    type: str
    name: str | None = None
    arn: str | None = None
    account: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One record that a correlation watches, within the window (the correlation and one group of values) that it belongs to.

    `rule` is the id of the rule or correlation that saw it and `item` what counts as one: the record, or the occurrence of an inner
    correlation. `values` are those of the field that is counted or measured, `time` is the event's own (UTC).
    """

    window: str
    rule: str
    item: str
    time: datetime
    record: Record
    group: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells it from the others of its window, however often and by whichever worker it is seen."""
        return stable_id("sighting", self.rule, self.item, self.record.key)


@dataclass(frozen=True, slots=True)
class Closing:
    """A span of a window that can only be judged once it is over: from `start` on, when nothing of it is to be expected after `due_at`."""

    correlation: str
    window: str
    start: datetime
    due_at: datetime

    @property
    def key(self) -> str:
        return stable_id("closing", self.correlation, self.window, self.start.isoformat())


def occurrence_id(rule: str, window: str, start: datetime) -> str:
    """The id of what a correlation finds in one span of a window, whoever finds it: there is one at most."""
    return stable_id("correlated", rule, window, start.isoformat())


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What a correlation (`rule` is its id) found: in the span of its window that begins at `start`, `sightings` are those that fulfil it.

    They stand by time, the one that completed them last.
    """

    rule: str
    window: str
    start: datetime
    group: Mapping[str, str]
    sightings: tuple[Sighting, ...]

    @property
    def id(self) -> str:
        return occurrence_id(self.rule, self.window, self.start)


@dataclass(frozen=True, slots=True)
class Finding:
    """A record that a rule matched; or the last of several that a correlation found together, which are then its `occurrence`."""

    rule: Rule
    record: Record
    actor: Actor
    subject: Subject
    occurrence: Occurrence | None = None

    @property
    def id(self) -> str:
        return stable_id("finding", self.record.key, self.rule.id) if self.occurrence is None else self.occurrence.id


class FactStatus(StrEnum):
    """Known, known to be gone, or not to be had (and then `Fact.reason` says why)."""

    KNOWN = "known"
    GONE = "gone"
    UNKNOWN = "unknown"


class FactSource(StrEnum):
    """How a fact was learnt."""

    EVENT = "event"
    MEMORY = "memory"
    LIVE = "live"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Fact:
    """One answer for whoever is on call. `value` is JSON-ready; `observed_at` is when it was true, as far as we know (UTC)."""

    name: str
    status: FactStatus
    value: Any
    observed_at: datetime
    source: FactSource
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class EnrichedFinding:
    """A finding with what could be learnt within the deadline; `facts` is keyed by fact name."""

    finding: Finding
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value of a known fact, else None."""
        fact = self.facts.get(name)
        return fact.value if fact is not None and fact.status is FactStatus.KNOWN else None

    @property
    def circumstances(self) -> tuple[str, ...]:
        """Those of `CIRCUMSTANCES` that hold, as the facts and the record tell: for what a correlation found, those that hold for all of it."""
        occurrence = self.finding.occurrence
        told = {name: value for name in CIRCUMSTANCES if isinstance(value := self.value(name), Mapping)}
        holding = {name for name, value in told.items() if value.get(name) is True}
        replaced = told.get("replaced", {})
        # A profile made again without its role helps nobody, and by somebody else it is a repair. Of several deleted, it is known of the last alone.
        if occurrence is not None or replaced.get("same_role") is not True or replaced.get("same_principal") is False:
            holding.discard("replaced")
        records = [self.finding.record] if occurrence is None else [one.record for one in occurrence.sightings]
        if all(is_dry_run(record.error_code) for record in records):
            holding.add("dry-run")
        return tuple(name for name in CIRCUMSTANCES if name in holding)

    @property
    def level(self) -> Level:
        """How bad it is: the rule's level, or the lowest that the rule says for a circumstance that holds. A dry run is informational."""
        rule = self.finding.rule
        levels = {"dry-run": Level.INFORMATIONAL, **rule.level_when}
        return min([rule.level, *(levels[one] for one in self.circumstances if one in levels)], key=lambda level: level.rank)


@dataclass(frozen=True, slots=True)
class Target:
    """What a task acts on: an IAM user, access key or instance profile in an account."""

    type: str
    name: str
    account: str
    arn: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to mend. `params` is JSON-ready and holds what the action needs and live state can no longer tell."""

    action: str
    target: Target
    params: Mapping[str, Any]
    finding: EnrichedFinding

    @property
    def id(self) -> str:
        target = self.target
        return stable_id("task", self.finding.finding.id, self.action, target.type, target.account, target.name)


@dataclass(frozen=True, slots=True)
class Withheld:
    """An action that the rule asks for and the facts speak against, with the reason in words for whoever is on call.

    `cause` is one of a closed set, for the metric: denied, dry-run, authorised, replaced, not-applicable, unknown-target, unknown-action.
    """

    action: str
    cause: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way to a sink: `id` also deduplicates where the sink can, `group` orders (FIFO), `body` is UTF-8 JSON without a line break."""

    id: str
    group: str
    body: bytes


@dataclass(frozen=True, slots=True)
class ProfileEvent:
    """One thing that happened to an instance profile, as remembered: enough to tell its roles, path and tags after it is gone.

    `kind` is the CloudTrail event name; `detail` is JSON-ready (role, path, tags, tag_keys, id, actor). `key` is the record's key.
    """

    account: str
    profile: str
    time: datetime
    key: str
    kind: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the remediation journal: what was asked, what was done, and the state before and after."""

    task_id: str
    at: datetime
    outcome: str
    body: Mapping[str, Any]
