"""The facts that the log alone can tell, for `trailmend scan`: the same facts, learnt the same way, with nobody to ask.

A finding goes in with a store that has learnt what the scan saw; out it comes with what the caller is, what is remembered of its profile,
whether the caller is authorised, whether a change is named, whether the profile was made again and what depends on it. A verdict that only
AWS could give is `unknown` and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from worker.aws import AwsFault
from worker.enrich.fact import Answer, Call, Case
from worker.enrich.identity import IDENTITY
from worker.enrich.impact import IMPACT
from worker.enrich.profile import PROFILE, PROFILE_LIVE
from worker.enrich.verdicts import AUTHORISED, DOCUMENTED, REPLACED
from worker.model import EnrichedFinding, Fact, Finding
from worker.settings import Settings
from worker.state.store import Store

KINDS = (IDENTITY, PROFILE, AUTHORISED, DOCUMENTED, REPLACED, IMPACT)
NOBODY = AwsFault("unreachable", "Offline", "AWS was not asked: the log alone does not tell")


async def from_log(finding: Finding, store: Store, settings: Settings, clock: Callable[[], datetime]) -> EnrichedFinding:
    """The finding with what the log tells. Raises `StoreError`."""
    facts: dict[str, Fact] = {}

    async def ask(_: Call) -> Answer:
        return Answer(clock(), {}, NOBODY)

    async def fact(name: str) -> Fact | None:
        return facts.get(name) or PROFILE_LIVE.unknown(clock(), NOBODY.text)

    case = Case(finding, settings, store, clock, ask, fact)
    for kind in KINDS:
        if kind.applies(finding, settings):
            facts[kind.name] = await kind.learn(case)
    return EnrichedFinding(finding, facts)
