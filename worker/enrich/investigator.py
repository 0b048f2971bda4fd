"""Learns about a finding what whoever is on call will ask: which facts apply, all at once, under one deadline.

In goes a `Finding`, out comes the same with its facts. A fact that could not be learnt says so and why, is counted, and harms no other; one that may be learnt later
is pending, so that the finding can be completed by an update.
A newcomer's fact is one `FactKind` in a file of its own and one entry in `KINDS`. docs/facts.md has every fact's value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from worker.aws import Accounts, explain
from worker.enrich.account import ACCOUNT_FACT
from worker.enrich.credentials import CREDENTIAL_REPORT
from worker.enrich.crowd import Crowd
from worker.enrich.dependents import DEPENDENTS
from worker.enrich.fact import Answer, Call, Case, FactKind
from worker.enrich.identity import IDENTITY
from worker.enrich.impact import IMPACT
from worker.enrich.instances import INSTANCES
from worker.enrich.lookups import PASSING, Deadline, Lookups
from worker.enrich.marks import MARKS
from worker.enrich.permissions import PERMISSIONS, SUBJECT_PERMISSIONS
from worker.enrich.profile import PROFILE, PROFILE_LIVE
from worker.enrich.role import ROLE
from worker.enrich.session import SESSION
from worker.enrich.user import SUBJECT_USER, USER
from worker.enrich.verdicts import AUTHORISED, DOCUMENTED, REPLACED
from worker.model import EnrichedFinding, Fact, Finding
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store

KINDS = (
    IDENTITY,
    MARKS,
    USER,
    SUBJECT_USER,
    ROLE,
    SESSION,
    PERMISSIONS,
    SUBJECT_PERMISSIONS,
    CREDENTIAL_REPORT,
    PROFILE,
    PROFILE_LIVE,
    INSTANCES,
    AUTHORISED,
    DOCUMENTED,
    REPLACED,
    ACCOUNT_FACT,
    DEPENDENTS,
    IMPACT,
)
"""In the order in which they begin to ask: what asks most stands last."""

CALLS_SHARE = 0.9
"""Calls to AWS end at this share of the deadline, so that a fact can still tell the parts that did answer."""


class Investigator:
    """Learns facts. One a process: findings share its answers for as long as they are fresh."""

    def __init__(self, accounts: Accounts, store: Store, settings: Settings, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._lookups = Lookups(accounts, clock, metrics.calls)
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._crowd = Crowd()

    async def investigate(self, finding: Finding) -> EnrichedFinding:
        """Answer within `enrich_deadline_seconds`, whatever fails; raises nothing but cancellation."""
        begun, allowed = asyncio.get_running_loop().time(), self._settings.enrich_deadline_seconds
        calls, facts = Deadline(begun + CALLS_SHARE * allowed, allowed), Deadline(begun + allowed, allowed)
        learning: dict[str, asyncio.Task[Fact]] = {}
        taken_up = self._clock()

        def case(lacking: list[str]) -> Case:
            """What a fact is learnt from; what was not to be had for a cause that passes is added to `lacking`."""

            async def ask(call: Call) -> Answer:
                answer = await self._lookups.ask(call, calls, finding.record.time, taken_up)
                if answer.stale is not None or (answer.fault is not None and answer.fault.kind in PASSING):
                    lacking.append(call.operation)
                return answer

            async def fact(name: str) -> Fact | None:
                # Shielded: one fact giving up waiting must not take the other with it.
                other = await asyncio.shield(learning[name]) if name in learning else None
                if other is not None and other.pending:
                    lacking.append(name)
                return other

            return Case(finding, self._settings, self._store, self._clock, ask, fact, self._crowd)

        async with asyncio.TaskGroup() as group:
            for kind in KINDS:
                if kind.applies(finding, self._settings):
                    lacking: list[str] = []
                    learning[kind.name] = group.create_task(self._learn(kind, case(lacking), lacking, facts))
        return EnrichedFinding(finding, {name: task.result() for name, task in learning.items()})

    async def _learn(self, kind: FactKind, case: Case, lacking: list[str], deadline: Deadline) -> Fact:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limit = asyncio.timeout_at(deadline.at)
        try:
            async with limit:
                fact = await kind.learn(case)
        except Exception as error:  # noqa: BLE001  # one fact's failure is its own: AWS, the store or an answer of an unknown shape
            passed = limit.expired()
            if passed:
                lacking.append(kind.name)
            fact = kind.unknown(self._clock(), f"deadline of {deadline.seconds:g} s passed" if passed else explain(error).text)
        self._metrics.fact(fact, loop.time() - begun)
        return replace(fact, pending=fact.pending or bool(lacking))
