"""What rules find in a record, and correlations in several."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from worker.model.ids import stable_id
from worker.model.record import Record


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


CIRCUMSTANCES = ("authorised", "documented", "replaced", "dry-run", "unused", "wide")
"""What may explain a finding: its actor may do that, a change was announced, what was deleted was made again, nothing was changed at all,
nothing depends on it. And what makes one worse: `wide`, more than ten running instances depend on it."""

WORSE = frozenset({"wide"})
"""The circumstances that raise a level, where nothing explains the finding; all others lower it."""


CONDITIONS = ("in-use",)
"""What a rule may want to be known before it is told at all: that instances run which use the profile."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding says about the rule that made it. `remediation` names the actions the rule's author asks for.

    `level_when` holds the level that a finding takes instead in a circumstance; its keys are `CIRCUMSTANCES`. `only_when` holds those of
    `CONDITIONS` without which a finding is not told.
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
    only_when: tuple[str, ...] = ()

    @property
    def levels(self) -> Mapping[str, Level]:
        """The level of every circumstance that has one. A dry run is informational unless the rule says otherwise."""
        return {"dry-run": Level.INFORMATIONAL, **self.level_when}

    def level_in(self, circumstances: Collection[str]) -> Level:
        """The level that a finding takes in these circumstances: docs/rules.md, Levels.

        Those that explain it lower the rule's level, the lowest counting. Where none of them has a level, those that make it worse raise it,
        the highest counting. A level on the wrong side of the rule's own changes nothing.
        """
        levels = [(one in WORSE, level) for one, level in self.levels.items() if one in circumstances]
        explained = [level for worse, level in levels if not worse]
        if explained:
            return min(self.level, *explained, key=lambda level: level.rank)
        return max([self.level, *(level for _, level in levels)], key=lambda level: level.rank)


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
class Census:
    """How many sightings a window holds from one time to another, by what conditions count of them: the rule that saw them, and their values.

    `untold` is how many there are besides, of which the store cannot tell that; `latest` is the time of the last of all.
    """

    counts: Mapping[tuple[str, tuple[str, ...]], int]
    untold: int = 0
    latest: datetime | None = None


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
        return stable_id("correlated", self.rule, self.window, self.start.isoformat())


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
