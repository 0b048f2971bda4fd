"""What a fact is made of: the kind (name, source, when it applies, how it is learnt), the case it is learnt for, and a question to AWS.

A file a subject (`user.py`, `role.py`, `profile.py`, ...) defines its kinds; `investigator.py` lists them. A kind is handed a `Case` and
does no I/O of its own: it asks through `Case.ask`, and every answer is a value, also the failed ones. A newcomer's fact is one function
`(Case) -> Fact`, one `FactKind`, and one line in the investigator's tuple.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from worker.aws import AwsFault
from worker.enrich.crowd import Crowd
from worker.model import Fact, FactSource, FactStatus, Finding
from worker.settings import Settings
from worker.state.store import Store

ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
"""An account id. Records are untrusted, and an account we look up becomes a client that stays open."""

IAM_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: no `*`, no `/`, so a name is safe in a filter."""

FAULT_SECONDS = 10.0
"""How long a failure is taken for the answer: long enough to spare a throttled or unreachable account, short enough to notice a mended one."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question to AWS: an aiobotocore method and its parameters, in an account (None: our own) and region (None: our own).

    An answer may be given again for `lifetime_seconds`, to `standing` questions (which no watched event changes) also when it is from
    before the event. Where AWS fails, it may stand in for `stand_in_seconds` more, and from before the event, marked as stale; 0 where an old state
    would mislead. A failure is taken for the answer for `fault_seconds` at most. With `gather`, every page is read and the lists under that member, or
    each of those members, are joined, up to `most` entries together. `read` makes of an answer, or of each page, what is kept of it: a pure
    function, the same for all calls of an operation, that leaves out what is not wanted or must not be kept.
    """

    account: str | None
    service: str
    operation: str
    lifetime_seconds: float
    params: Mapping[str, Any] = field(default_factory=dict)
    region: str | None = None
    standing: bool = False
    gather: str | tuple[str, ...] | None = None
    most: int = 1000
    stand_in_seconds: float = 900.0
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    fault_seconds: float = FAULT_SECONDS

    @property
    def gathered(self) -> tuple[str, ...]:
        """The members whose lists are joined."""
        return () if self.gather is None else (self.gather,) if isinstance(self.gather, str) else self.gather


@dataclass(frozen=True, slots=True)
class Answer:
    """What AWS said at `at`: the response without its metadata, or the fault. A gathered answer is `{member: [...], "more": bool}`.

    `cached`: it was said before this question was asked. `stale` tells why an answer past its lifetime is given all the same: nothing newer
    was to be had.
    """

    at: datetime
    value: Mapping[str, Any]
    fault: AwsFault | None = None
    cached: bool = False
    stale: str | None = None

    @property
    def gone(self) -> bool:
        """AWS said that there is no such thing."""
        return self.fault is not None and self.fault.kind == "gone"


@dataclass(frozen=True, slots=True)
class Case:
    """What a fact is learnt from. `ask` never raises; `fact` answers another fact of the same finding, learnt once for all who ask.

    `crowd` remembers who was asked about for earlier findings.
    """

    finding: Finding
    settings: Settings
    store: Store
    clock: Callable[[], datetime]
    ask: Callable[[Call], Awaitable[Answer]]
    fact: Callable[[str], Awaitable[Fact | None]]
    crowd: Crowd = field(default_factory=Crowd)


@dataclass(frozen=True, slots=True)
class FactKind:
    """One kind of fact. `source` is what an unanswered fact is said to have been asked of, `calls` what it may ask of AWS."""

    name: str
    source: FactSource
    applies: Callable[[Finding, Settings], bool]
    learn: Callable[[Case], Awaitable[Fact]]
    calls: tuple[str, ...] = ()

    def known(self, value: Any, at: datetime, *, source: FactSource | None = None, reason: str | None = None) -> Fact:
        """The answer. With a reason it is known in part, and the reason says what is missing and why."""
        return Fact(self.name, FactStatus.KNOWN, value, at, source or self.source, reason)

    def told(self, value: Any, answers: Sequence[Answer], reason: str | None = None) -> Fact:
        """What these answers of AWS tell together: as old as the oldest of them, and live only if all are."""
        reasons = [*([reason] if reason else []), *dict.fromkeys(answer.stale for answer in answers if answer.stale is not None)]
        source = FactSource.CACHE if any(answer.cached for answer in answers) else self.source
        return self.known(value, min(answer.at for answer in answers), source=source, reason="; ".join(reasons) or None)

    def gone(self, answer: Answer) -> Fact:
        """AWS says that what was asked about no longer exists."""
        return Fact(self.name, FactStatus.GONE, None, answer.at, FactSource.CACHE if answer.cached else self.source, answer.stale)

    def unknown(self, at: datetime, reason: str) -> Fact:
        """No answer was to be had, and why."""
        return Fact(self.name, FactStatus.UNKNOWN, None, at, self.source, reason)


def stamp(moment: Any) -> str | None:
    """A time as CloudTrail writes it (`2023-07-10T12:07:24Z`); None for anything that is no time."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(moment, datetime) else None


def seconds_since(moment: Any, at: datetime) -> int | None:
    """How long ago a moment was, in whole seconds; 0 for one that a fast clock puts ahead, None for anything that is no time."""
    return max(0, int((at - moment).total_seconds())) if isinstance(moment, datetime) else None


def tags_of(tags: Any) -> dict[str, str]:
    """AWS's list of `{"Key", "Value"}` as a mapping."""
    return {str(tag["Key"]): str(tag.get("Value", "")) for tag in tags or ()}


def missing(parts: Mapping[str, str]) -> str | None:
    """The reason of a fact that is known in part: which parts are not, and why. None when nothing is missing."""
    return "; ".join(f"{part}: {why}" for part, why in parts.items()) or None
