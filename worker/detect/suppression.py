"""Suppressions: findings that a house does not want for now, as data with a reason and an end. Pure.

In goes a `Document` with a list of `suppressions`; out come `Suppression`s, and for a finding the first that holds. A suppressed finding
is counted under the suppression's id and told in the log, with the reason; it reaches no sink, asks for no task and is no hit for
correlations. What a correlation found is suppressed only where every one of its events is such.

Everything is judged by the events' own times, so that a redelivery and a scan of old logs say the same, and never by a clock. So a
suppression has two ends, and they lie 366 days apart at most: without a beginning it would hide the past of whoever it names.
An expired one is no fault; its events stay suppressed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from worker.detect.document import Document, Place
from worker.detect.subject import actor_of, subject_of
from worker.glob import Glob
from worker.model import Actor, Finding, Record, Subject

KEYS = ("id", "rules", "principal", "account", "name", "since", "until", "reason")
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
"""Ids are labels of a metric."""
ACCOUNT = re.compile(r"[0-9?]{12}|(?=.{1,12}$)[0-9?]*\*[0-9?*]*", re.ASCII)
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
MOMENT = re.compile(DAY.pattern + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII)
LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Suppression:
    """`references` and `rules` are None for every rule, patterns are None where anything will do.

    It holds for events from `since` on and before `until` (UTC).
    """

    id: str
    references: tuple[str, ...] | None
    principal: Glob | None
    account: Glob | None
    name: Glob | None
    since: datetime
    until: datetime
    reason: str
    doc: Document
    place: tuple[Place, ...]
    rules: frozenset[str] | None = None

    def holds(self, finding: Finding) -> bool:
        """Whether it speaks against a finding: against its event, or against every event that a correlation found."""
        if self.rules is not None and finding.rule.id not in self.rules:
            return False
        if not self._fits(finding.record, finding.actor, finding.subject):
            return False
        others = () if finding.occurrence is None else finding.occurrence.sightings
        return all(self._fits(one.record, actor_of(one.record), subject_of(one.record)) for one in others)

    def _fits(self, record: Record, actor: Actor, subject: Subject) -> bool:
        if record.time is None or not self.since <= record.time < self.until:
            return False
        # The name of a federated session is whatever its user called it.
        names = (actor.arn, actor.issuer_arn, None if actor.type == "FederatedUser" else actor.name)
        return (
            (self.principal is None or any(self.principal.fits(name) for name in names))
            and (self.account is None or self.account.fits(record.account))
            and (self.name is None or self.name.fits(subject.name))
        )


def first(suppressions: Iterable[Suppression], finding: Finding) -> Suppression | None:
    """The first suppression that speaks against a finding."""
    return next((one for one in suppressions if one.holds(finding)), None)


def distinct(suppressions: Iterable[Suppression]) -> None:
    """Put a fault into the document of each suppression whose id an earlier one has."""
    before: dict[str, Suppression] = {}
    for one in suppressions:
        other = before.setdefault(one.id, one)
        if other is not one:
            one.doc.fault(f"its id {one.id} is also that of {other.doc.path}:{other.doc.line(*other.place)}", *one.place, "id")


def resolve(suppression: Suppression, ids: Mapping[str, str]) -> Suppression:
    """The suppression with the ids that its references lead to."""
    return suppression if suppression.references is None else replace(suppression, rules=frozenset(ids.values()))


def read(doc: Document) -> Iterator[Suppression]:
    """The suppressions of a document. What is wrong with one is a fault in the document."""
    told = doc.data["suppressions"]
    if len(doc.data) > 1:
        doc.fault("suppressions stand in a document of their own")
    if not isinstance(told, list):
        doc.fault("suppressions must be a list", "suppressions")
        return
    for number, one in enumerate(told):
        found = _one(doc, one, ("suppressions", number))
        if found is not None:
            yield found


def _one(doc: Document, told: Any, place: tuple[Place, ...]) -> Suppression | None:
    before = len(doc.faults)
    if not isinstance(told, dict):
        doc.fault(f"a suppression is a mapping of {', '.join(KEYS)}", *place)
        return None
    for key in told:
        if key not in KEYS:
            doc.fault(f"a suppression has no '{key}': it has {', '.join(KEYS)}", *place, str(key))
    called, reason = told.get("id"), told.get("reason")
    if not isinstance(called, str) or not ID.fullmatch(called):
        doc.fault("a suppression needs an id of at most 64 small letters, digits and hyphens: it goes into a metric", *place, "id")
    if not isinstance(reason, str) or not reason.strip():
        doc.fault("a suppression needs its reason, as text", *place, "reason")
    references = _references(doc, told, place)
    principal, account, name = (_pattern(doc, told, key, place) for key in ("principal", "account", "name"))
    if len(doc.faults) == before and references is None and all(one is None or one.fits_all for one in (principal, account, name)):
        doc.fault("a suppression of everything is none: name rules, a principal, an account or a name", *place)
    box = _box(doc, told, place)
    if len(doc.faults) > before or box is None:
        return None
    return Suppression(str(called), references, principal, account, name, *box, " ".join(str(reason).split()), doc, place)


def _references(doc: Document, told: Mapping[Any, Any], place: tuple[Place, ...]) -> tuple[str, ...] | None:
    """None where all rules are meant. A list that was emptied is not taken for that."""
    if "rules" not in told:
        return None
    named = [told["rules"]] if isinstance(told["rules"], str) else told["rules"]
    if not isinstance(named, list) or not named or not all(isinstance(one, str) and one for one in named):
        doc.fault("rules must be a list of ids, names or titles; leave it out for every rule", *place, "rules")
        return None
    return tuple(named)


def _pattern(doc: Document, told: Mapping[Any, Any], key: str, place: tuple[Place, ...]) -> Glob | None:
    if key not in told:
        return None
    text = told[key]
    if key == "account" and isinstance(text, int) and not isinstance(text, bool):
        text = str(text)  # one whose leading zero YAML would lose was refused with the document's spelling
    if not isinstance(text, str) or not text:
        doc.fault(f"{key} must be text, in quotes; leave it out for any", *place, key)
    elif key == "account" and not ACCOUNT.fullmatch(text):
        doc.fault(f"'{text}' fits no account: they are twelve digits, or fewer with *", *place, key)
    else:
        try:
            return Glob(text)
        except ValueError as error:
            doc.fault(f"{key}: {error}", *place, key)
    return None


def _box(doc: Document, told: Mapping[Any, Any], place: tuple[Place, ...]) -> tuple[datetime, datetime] | None:
    """From when to when it holds. Without a beginning, as long before its end as may be."""
    until = _moment(told.get("until"), ends=True)
    if until is None:
        doc.fault("a suppression needs the last day on which it holds (until: 2026-12-31), or a moment", *place, "until")
        return None
    since = _moment(told["since"], ends=False) if "since" in told else until - LONGEST
    if since is None:
        doc.fault("since must be the first day on which it holds (since: 2026-11-01), or a moment", *place, "since")
        return None
    if not since < until:
        doc.fault("it ends before it begins", *place, "until")
    elif until - since > LONGEST:
        doc.fault(f"a suppression holds for {LONGEST.days} days at most: what is wanted for longer is a filter", *place, "until")
    return since, until


def _moment(told: Any, *, ends: bool) -> datetime | None:
    """The beginning or the end of the day that is told, or the moment, in UTC; within a year of either end of the calendar none."""
    if not isinstance(told, str):
        return None
    try:
        if DAY.fullmatch(told):
            moment = datetime.combine(date.fromisoformat(told) + timedelta(days=ends), time.min, UTC)
        elif MOMENT.fullmatch(told):
            moment = datetime.fromisoformat(told)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return moment if moment.year > 2 else None  # a box of 366 days has to fit before it
