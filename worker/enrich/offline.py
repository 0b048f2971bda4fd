"""The facts that the log alone can tell, for `trailmend scan`: the same facts, learnt the same way, with nobody to ask.

A finding goes in with a store that has learnt what the scan saw; out it comes with what the caller is, what is remembered of its profile,
whether the caller is authorised, whether a change is named, whether the profile was made again, by the log as far as it was read, and what
depends on it. A verdict that only AWS could give is `unknown` and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from worker.aws import AwsFault
from worker.enrich.fact import Answer, Call, Case
from worker.enrich.identity import IDENTITY
from worker.enrich.impact import IMPACT
from worker.enrich.profile import PROFILE, PROFILE_LIVE
from worker.enrich.verdicts import AUTHORISED, CONSISTENT_SECONDS, DOCUMENTED, REPLACED, judge_replacement
from worker.model import EnrichedFinding, Fact, FactSource, FactStatus, Finding
from worker.settings import Settings
from worker.state.store import Store

KINDS = (IDENTITY, PROFILE, AUTHORISED, DOCUMENTED, REPLACED, IMPACT)
NOBODY = AwsFault("unreachable", "Offline", "AWS was not asked: the log alone does not tell")


async def from_log(
    finding: Finding, store: Store, settings: Settings, clock: Callable[[], datetime], read_to: datetime | None = None
) -> EnrichedFinding:
    """The finding with what the log tells, whose last record of the account is of `read_to`. Raises `StoreError`."""
    facts: dict[str, Fact] = {}

    async def ask(_: Call) -> Answer:
        return Answer(clock(), {}, NOBODY)

    async def fact(name: str) -> Fact | None:
        return facts.get(name) or PROFILE_LIVE.unknown(clock(), NOBODY.text)

    case = Case(finding, settings, store, clock, ask, fact)
    for kind in KINDS:
        if kind.applies(finding, settings):
            facts[kind.name] = await kind.learn(case)
    if facts.get(REPLACED.name) is not None and facts[REPLACED.name].status is FactStatus.UNKNOWN and read_to is not None:
        facts[REPLACED.name] = _not_replaced(finding, facts, read_to) or facts[REPLACED.name]
    return EnrichedFinding(finding, facts)


def _not_replaced(finding: Finding, facts: Mapping[str, Fact], read_to: datetime) -> Fact | None:
    """That the log goes on and does not tell of a new profile; None where it ends too soon after the delete to say so."""
    at, remembered = finding.record.time, facts[PROFILE.name]
    if at is None or (read_to - at).total_seconds() < CONSISTENT_SECONDS:
        return None
    gone = Fact(PROFILE_LIVE.name, FactStatus.GONE, None, read_to, FactSource.MEMORY)
    reason = "the log that was read does not tell that it was made again; AWS was not asked"
    return replace(judge_replacement(at, None, remembered, gone), source=FactSource.MEMORY, reason=reason)
