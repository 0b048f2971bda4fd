"""What is learnt about a finding, and what is remembered of an instance profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from worker.model.finding import CIRCUMSTANCES, Finding, Level

BANDS = ("0", "1-10", "11-100", "100+")
"""How many running instances depend on what a finding is about, as the fact `impact` tells it."""

DRY_RUN = "DryRunOperation"
"""EC2's error code for a call that only asked whether it would be allowed, and would have been; CloudTrail writes `Client.` before it."""


def is_dry_run(error_code: str | None) -> bool:
    """Whether a call with this error code was a dry run, which changes nothing and is no failure."""
    return error_code is not None and error_code.rpartition(".")[2] == DRY_RUN


class FactStatus(StrEnum):
    """Known, known to be gone, or not to be had (and then `Fact.reason` says why)."""

    KNOWN = "known"
    GONE = "gone"
    UNKNOWN = "unknown"


class FactSource(StrEnum):
    """How a fact was learnt.

    Told by the record, by earlier records, by AWS when asked for this finding (live) or for an earlier one (cache), by a report that AWS makes now and
    then (the credential report), or judged by a setting.
    """

    EVENT = "event"
    MEMORY = "memory"
    LIVE = "live"
    CACHE = "cache"
    REPORT = "report"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Fact:
    """One answer for whoever is on call. `value` is JSON-ready; `observed_at` is when it was true, as far as we know (UTC).

    `pending`: it, a part of it or a newer state could not be had now for a cause that passes, so it may be had later.
    """

    name: str
    status: FactStatus
    value: Any
    observed_at: datetime
    source: FactSource
    reason: str | None = None
    pending: bool = False


@dataclass(frozen=True, slots=True)
class EnrichedFinding:
    """A finding with what could be learnt within the deadline; `facts` is keyed by fact name.

    `update` is 0 for what is told first, and 1 for what is told once more with the facts that were pending.
    """

    finding: Finding
    facts: Mapping[str, Fact] = field(default_factory=dict)
    update: int = 0

    @property
    def pending(self) -> tuple[str, ...]:
        """The facts that may be learnt, or learnt better, later."""
        return tuple(name for name, fact in self.facts.items() if fact.pending)

    def value(self, name: str) -> Any:
        """The value of a known fact, else None."""
        fact = self.facts.get(name)
        return fact.value if fact is not None and fact.status is FactStatus.KNOWN else None

    @property
    def circumstances(self) -> tuple[str, ...]:
        """Those of `CIRCUMSTANCES` that hold, as the facts and the record tell: for what a correlation found, those that hold for all of it.

        But `wide` holds for a correlation whose last profile is widely used: the others can only add to that.
        """
        occurrence = self.finding.occurrence
        told = {name: value for name in CIRCUMSTANCES if isinstance(value := self.value(name), Mapping)}
        holding = {name for name, value in told.items() if value.get(name) is True}
        if occurrence is not None or not _is_back(told.get("replaced", {})):
            holding.discard("replaced")
        records = [self.finding.record] if occurrence is None else [one.record for one in occurrence.sightings]
        if all(is_dry_run(record.error_code) for record in records):
            holding.add("dry-run")
        impact = self.value("impact")
        if isinstance(impact, Mapping):
            if impact.get("unused") is True and occurrence is None:
                holding.add("unused")
            if impact.get("wide") is True and self.finding.record.error_code is None:  # a call that failed reaches nothing
                holding.add("wide")
        return tuple(name for name in CIRCUMSTANCES if name in holding)

    @property
    def level(self) -> Level:
        """How bad it is: the rule's level, or the one that its table of levels has for the circumstances that hold."""
        return self.finding.rule.level_in(self.circumstances)

    @property
    def lacking(self) -> str | None:
        """The first condition of the rule that is not known to hold, so that the finding is not told unless that is in doubt; else None."""
        holding = {"in-use"} if self._in_use else set()
        return next((one for one in self.finding.rule.only_when if one not in holding), None)

    @property
    def in_doubt(self) -> bool:
        """Whether what it lacks may only not be known yet, because a fact that could tell it is pending."""
        return self.lacking is not None and not {"instances", "profile"}.isdisjoint(self.pending)

    @property
    def _in_use(self) -> bool:
        """Whether instances run that use the profile: as EC2 answers, or where it does not answer for all, as is remembered of the event's time."""
        live, at = self.facts.get("instances"), self.finding.record.time
        if live is not None and live.status is FactStatus.KNOWN:
            states = live.value.get("by_state", {})
            if states.get("running") or states.get("pending"):
                return True
            if live.reason is None:
                return False
        remembered = self.value("profile") or {}
        spans = [(_moment(one["since"]), _moment(one["until"])) for one in remembered.get("instances", ())]
        return any(
            (since is None or at is None or since <= at) and (until is None or (at is not None and at < until)) for since, until in spans
        )


def _is_back(replaced: Mapping[str, Any]) -> bool:
    """Whether a profile that was made again explains its deletion.

    Without its role it helps nobody, by somebody else it is a repair, and much later it is another profile of the name. Of several deleted,
    the fact tells of the last alone.
    """
    return replaced.get("same_role") is True and replaced.get("same_principal") is not False and replaced.get("in_grace") is not False


def _moment(stamp: str | None) -> datetime | None:
    return None if stamp is None else datetime.fromisoformat(stamp)


@dataclass(frozen=True, slots=True)
class ProfileEvent:
    """One thing that happened to an instance profile or to an instance that uses one, as remembered: enough to tell its roles, path, tags and
    instances after it is gone.

    `profile` is the profile's name, or what else it is remembered under (`enrich/instance_events.py`, with a slash, which no profile's name has).
    `kind` is the CloudTrail event name, or `Snapshot` or `Missing` where a snapshot told it; `detail` is JSON-ready (role, path, tags,
    tag_keys, id, actor, instance, ...). `key` tells it from the others of the same profile: for a record, the record's key.
    """

    account: str
    profile: str
    time: datetime
    key: str
    kind: str
    detail: Mapping[str, Any]
