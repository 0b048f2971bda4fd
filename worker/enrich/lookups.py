"""Questions to AWS, asked once: the edge between the facts and worker.aws.

In goes a `Call`, out comes an `Answer`, always: an AWS error is an answer with a fault in the terms of `worker.aws.explain`. Of any
number of callers with the same question one asks and the others wait for its answer (single flight); answers are given again for the
lifetime the call names, failures for a shorter one, so that a chain of records about one user costs one set of calls. IAM has no
published rate, so at most `AT_ONCE` calls an account are under way. The cache holds `MOST_ANSWERS` answers; the oldest go first.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from worker.aws import AccountClosedError, Accounts, AwsFault, explain
from worker.enrich.fact import Answer, Call

L = TypeVar("L", asyncio.Lock, asyncio.Semaphore)

AT_ONCE = 8
MOST_ANSWERS = 2048
FAULT_SECONDS = 10.0
"""How long a failure is taken for the answer: long enough to spare a throttled or unreachable account, short enough to notice a mended one."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to stop waiting, in the loop's time, and the seconds it was set to, for words."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer
    until: datetime


class Lookups:
    """Asks AWS on behalf of the facts. One a process; holds answers, and no connection of its own."""

    def __init__(self, accounts: Accounts, clock: Callable[[], datetime], *, most_answers: int = MOST_ANSWERS) -> None:
        self._accounts = accounts
        self._clock = clock
        self._most_answers = most_answers
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        # Weak, because account ids come from records: a lock lives as long as somebody waits for it.
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._hands: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def ask(self, call: Call, deadline: Deadline, since: datetime | None = None, begun: datetime | None = None) -> Answer:
        """Answer a call by the deadline; past it, the answer is a fault `unreachable`.

        `since` is the time of the event in question: an answer from before it is evidence of another state, and is asked for anew. `begun`
        is when the finding in question was taken up (by default now): an answer from after it is this finding's own, whichever fact asked
        first.
        """
        key, asked_at = _key(call), begun or self._clock()
        try:
            async with asyncio.timeout_at(deadline.at), _holding(self._asking, key, asyncio.Lock):
                kept = self._kept.get(key)
                now = self._clock()
                if kept is not None and now < kept.until and (call.standing or since is None or not kept.answer.at < since <= now):
                    return kept.answer if kept.answer.at >= asked_at else replace(kept.answer, cached=True)
                answer = await self._told(call)
                self._keep(key, answer, call.lifetime_seconds, call.fault_seconds)
                return answer
        except TimeoutError:
            text = f"{_where(call)}: deadline of {deadline.seconds:g} s passed"
            answer = Answer(self._clock(), {}, AwsFault("unreachable", "Deadline", text))
            self._keep(key, answer, call.lifetime_seconds)
            return answer

    async def _told(self, call: Call) -> Answer:
        account = call.account or ""
        closed = self._kept.get(_closed(account))
        if closed is not None and self._clock() < closed.until:
            return closed.answer
        async with _holding(self._hands, account, lambda: asyncio.Semaphore(AT_ONCE)):
            at = self._clock()
            try:
                client = await self._accounts.client(call.service, call.account, call.region)
                return Answer(at, await _fetch(client, call))
            except AccountClosedError as error:
                # One refusal answers every question about the account, not only this one.
                answer = Answer(at, {}, explain(error))
                self._keep(_closed(account), answer, FAULT_SECONDS)
                return answer
            except Exception as error:  # noqa: BLE001  # whatever a client raises is an answer; explain() names it
                fault = explain(error)
                return Answer(at, {}, AwsFault(fault.kind, fault.code, f"{_where(call)}: {fault.text}"))

    def _keep(self, key: str, answer: Answer, lifetime_seconds: float, fault_seconds: float = FAULT_SECONDS) -> None:
        seconds = lifetime_seconds if answer.fault is None or answer.gone else min(lifetime_seconds, fault_seconds)
        now = self._clock()
        # A list of instances can be large: what is past its time goes at once, not only when the cache is full.
        for old in [name for name, kept in self._kept.items() if kept.until <= now]:
            del self._kept[old]
        self._kept[key] = _Kept(answer, now + timedelta(seconds=seconds))
        self._kept.move_to_end(key)
        while len(self._kept) > self._most_answers:
            self._kept.popitem(last=False)


@asynccontextmanager
async def _holding(locks: WeakValueDictionary[str, L], name: str, make: Callable[[], L]) -> AsyncIterator[None]:
    """Hold the lock of this name; it is made when nobody else holds or awaits it."""
    lock = locks.get(name)
    if lock is None:
        lock = locks[name] = make()
    async with lock:
        yield


async def _fetch(client: Any, call: Call) -> Mapping[str, Any]:
    if call.gather is None:
        answer = await getattr(client, call.operation)(**call.params)
        return _read(call, {name: value for name, value in answer.items() if name != "ResponseMetadata"})
    found: dict[str, list[Any]] = {member: [] for member in ((call.gather,) if isinstance(call.gather, str) else call.gather)}
    async for page in client.get_paginator(call.operation).paginate(**call.params):
        told = _read(call, page)
        for member, entries in found.items():
            entries.extend(told.get(member, ()))
        if sum(map(len, found.values())) > call.most:
            break
    more = sum(map(len, found.values())) > call.most
    return {**{member: entries[: call.most] for member, entries in found.items()}, "more": more}


def _read(call: Call, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    return answer if call.read is None else call.read(answer)


def _key(call: Call) -> str:
    return json.dumps([call.account, call.service, call.region, call.operation, call.params, call.gather], sort_keys=True)


def _closed(account: str) -> str:
    return f"closed {account}"


def _where(call: Call) -> str:
    where = f"account {call.account}" if call.account is not None else "our own account"
    return f"{call.service}:{call.operation} in {where}" + (f", {call.region}" if call.region is not None else "")
