"""The verdict `impact`: how far it reaches when an instance profile fails, as a band for metrics and in words for whoever is on call.

In go the facts `instances`, `dependents` and `profile`; out comes one value. The band goes by the instances that run now or are about to:
they lose their credentials when those they hold expire. Stopped ones lose them when they start, and what launches fails at its next
launch: both are told beside the band. What is not known only ever makes it more: then `complete` is false and the band is the least
that it can be. Pure but for asking the other facts; asks AWS nothing. docs/rules.md tells what `unused` and `wide` do to a level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.enrich.fact import Case, FactKind
from worker.enrich.launchers import KINDS, LAUNCHING
from worker.enrich.profile import about_profile
from worker.model import BANDS, Fact, FactSource, FactStatus

STATES = ("running", "pending", "stopping", "stopped")
"""Of instances that still use a profile; what is shutting down or terminated needs none."""
WIDE = frozenset(BANDS[2:])
MOST_WORDS = 20
"""Sentences of evidence; how many more there are is told."""


def band_of(running: int) -> str:
    """The band of a number of running instances: 0, 1-10, 11-100 or, above that, 100+."""
    return BANDS[(running > 0) + (running > 10) + (running > 100)]


@dataclass(frozen=True, slots=True)
class _Use:
    """Instances by state, and those of them that are told; `whole` when no other can exist. `remembered`: the log told, not AWS."""

    states: Mapping[str, int]
    listed: Sequence[Mapping[str, Any]]
    whole: bool
    remembered: bool = False


def judge_impact(instances: Fact | None, dependents: Fact | None, remembered: Fact | None, at: datetime) -> Fact:
    """What depends on a profile, by these facts: unknown only if none of them tells anything."""
    use, launches = _use(instances, remembered), _value(dependents)
    if use is None and launches is None:
        return IMPACT.unknown(at, _missing(instances, dependents) or "nothing is known of what uses it")
    live = 0 if use is None else use.states["running"] + use.states["pending"]
    complete = use is not None and use.whole and launches is not None and dependents is not None and dependents.reason is None
    band = None if use is None else band_of(live)
    nothing = use is not None and not any(use.states[state] for state in STATES) and launches is not None and launches["total"] == 0
    value = {
        "band": band,
        "complete": complete,
        **{state: None if use is None else use.states[state] for state in STATES},
        "launches": None if launches is None else launches["launching"],
        "templates": None if launches is None else launches["total"] - launches["launching"],
        "unused": complete and nothing,
        "wide": band in WIDE,
        "evidence": _bounded([*_of_instances(use), *_of_launches(launches)]),
    }
    told_by = [remembered if use is not None and use.remembered else instances, dependents]
    facts = [fact for fact in told_by if fact is not None and fact.status is FactStatus.KNOWN]
    # What is oldest is least like now, and that is the part to be told of.
    source = min(facts, key=lambda fact: fact.observed_at).source
    reason = None if complete else _missing(instances, dependents)
    return IMPACT.known(value, min(fact.observed_at for fact in facts), source=source, reason=reason)


def _use(instances: Fact | None, remembered: Fact | None) -> _Use | None:
    """By EC2; where that is not to be had, by what the log remembers of instances, which are then at least so many."""
    told = _value(instances)
    if told is not None and instances is not None:
        return _Use(Counter(told["by_state"]), told["instances"], whole=instances.reason is None)
    # Whatever it was told to be in use may have stopped since, unseen; what is known to have ended is in the memory too.
    listed = [one for one in (_value(remembered) or {}).get("instances") or () if one.get("until") is None]
    return _Use(Counter(running=len(listed)), listed, whole=False, remembered=True) if listed else None


def _value(fact: Fact | None) -> Mapping[str, Any] | None:
    return fact.value if fact is not None and fact.status is FactStatus.KNOWN and isinstance(fact.value, Mapping) else None


def _of_instances(use: _Use | None) -> Iterator[str]:
    if use is None:
        return
    told = ", ".join(f"{use.states[state]} {state}" for state in STATES if use.states[state])
    yield f"instances that use it{', as the log remembers' if use.remembered else ''}: {told or 'none'}"
    using = [one for one in use.listed if (one.get("state") or "running") in STATES]
    part = "" if len(using) == sum(use.states[state] for state in STATES) else f" of {len(using)} of them"
    for member, words in (("region", "regions"), ("environment", "environments")):
        counted = Counter(str(one[member]) for one in using if one.get(member))
        if counted:
            yield f"{words}{part}: {', '.join(f'{name} ({count})' for name, count in counted.most_common())}"


def _of_launches(launches: Mapping[str, Any] | None) -> Iterator[str]:
    for one in launches["dependents"] if launches is not None else ():
        size = f", {one['desired']} instances wanted" if one["desired"] is not None else ""
        part = "some launches with it" if one["partly"] else "launches with it"
        verb = part if one["kind"] in LAUNCHING else "names it"
        yield f"{KINDS[one['kind']]} {one['name']} in {one['region']} {verb} ({one['through']}{size})"
    if launches is not None and launches["total"] > len(launches["dependents"]):
        yield f"{launches['total']} dependents in all"


def _bounded(words: Sequence[str]) -> list[str]:
    more = len(words) - MOST_WORDS
    return [*words[:MOST_WORDS], *([f"and {more} more"] if more > 0 else [])]


def _missing(instances: Fact | None, dependents: Fact | None) -> str | None:
    why: dict[str, list[str]] = {}
    for name, fact in (("instances", instances), ("dependents", dependents)):
        if fact is not None and fact.reason:
            why.setdefault(fact.reason, []).append(name)
    return "; ".join(f"{' and '.join(names)}: {reason}" for reason, names in why.items()) or None


async def _impact(case: Case) -> Fact:
    instances, dependents, remembered = [await case.fact(name) for name in ("instances", "dependents", "profile")]
    return judge_impact(instances, dependents, remembered, case.clock())


IMPACT = FactKind("impact", FactSource.LIVE, about_profile, _impact)
