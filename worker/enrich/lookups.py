"""Questions to AWS, asked once and with manners: the edge between the facts and worker.aws.

In goes a `Call`, out comes an `Answer`, always: an AWS error is an answer with a fault in the terms of `worker.aws.explain`. Of any number of callers with
the same question one asks and the others wait for its answer (single flight); what is kept of it, and when it may be given again, is decided in
`answers.py`. Each API of an account (and region, where it has any) has a budget of calls (`call_budget.py`) and `AT_ONCE` hands: no call is made beyond
either, tries and pages included, and one account or API that is slow, closed or throttled holds up no other. What is throttled or fails in
passing is tried again until the finding's deadline.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import orjson

from worker.aws import AccountClosedError, Accounts, AwsFault, explain
from worker.enrich.answers import MOST_ANSWERS, Answers
from worker.enrich.call_budget import OTHERS, RATES, CallBudget
from worker.enrich.fact import FAULT_SECONDS, Answer, Call
from worker.observe.calls import Calls

L = TypeVar("L", asyncio.Lock, asyncio.Semaphore)

AT_ONCE = 8
MOST_BUDGETS = 10_000
"""Budgets remembered. Accounts come from records, and each has one for every API and region."""
MOST_TRIES = 3
"""Of a call that gets no answer. What is throttled is tried until the deadline, as the budget allows."""
FIRST_RETRY_SECONDS = 0.2
ONE_CALL_SHARE = 0.5
"""Of the deadline, for one question: what is asked because of its answer needs time too."""
SILENCE_SECONDS = 1.0
"""A call that was under way for so long when its deadline passed was not answered."""
SWEEP = timedelta(seconds=5)
CLOSED = timedelta(hours=1)
"""For so long after the last try an account counts as one that cannot be entered."""
PASSING = frozenset({"throttled", "unreachable"})
"""Faults after which the same question may be answered later."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to stop waiting, in the loop's time, and the seconds it was set to, for words."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Asking:
    """A question that is being asked, and what went wrong on the way so far."""

    call: Call
    budget: CallBudget
    deadline: Deadline
    trouble: list[AwsFault] = field(default_factory=list)


class Lookups:
    """Asks AWS on behalf of the facts. One a process; holds answers, and no connection of its own."""

    def __init__(self, accounts: Accounts, clock: Callable[[], datetime], metrics: Calls, *, most_answers: int = MOST_ANSWERS) -> None:
        self._accounts = accounts
        self._clock = clock
        self._metrics = metrics
        self._answers = Answers(most_answers)
        self._closed: dict[str, Answer] = {}
        self._budgets: OrderedDict[str, CallBudget] = OrderedDict()
        self._swept_at = clock()
        # Weak, because account ids come from records: a lock lives as long as somebody waits for it.
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._hands: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        metrics.count_closed(lambda: len(self._closed))

    async def ask(self, call: Call, deadline: Deadline, since: datetime | None = None, begun: datetime | None = None) -> Answer:
        """Answer a call by the deadline; past it, the answer is a fault, `throttled` or `unreachable`.

        `since` is the time of the event in question: an answer from before it is evidence of another state, and is asked for anew. `begun`
        is when the finding in question was taken up (by default now): an answer from after it is this finding's own, whichever fact asked
        first.
        """
        key, now = _key(call), self._clock()
        asked_at = begun or now
        answer = self._answers.fresh(key, call, since, now)
        if answer is None:
            answer = await self._shared(key, call, deadline, since, asked_at)
        elif answer.at < asked_at:
            answer = replace(answer, cached=True)
        self._sweep()
        if answer.fault is not None and answer.fault.kind in PASSING:
            answer = self._answers.stand_in(key, answer, self._clock()) or answer
        self._metrics.answered(_source(answer))
        return answer

    async def _shared(self, key: str, call: Call, deadline: Deadline, since: datetime | None, asked_at: datetime) -> Answer:
        """Ask, unless somebody else is asking the same; then his answer."""
        asking = _Asking(call, self._budget(call), deadline)
        try:
            async with (
                asyncio.timeout_at(min(deadline.at, _now() + ONE_CALL_SHARE * deadline.seconds)),
                _holding(self._asking, key, asyncio.Lock),
            ):
                answer = self._answers.fresh(key, call, since, self._clock())
                if answer is None:
                    answer = await self._told(asking)
                    self._answers.keep(key, call, answer, self._clock())
                elif answer.at < asked_at:
                    answer = replace(answer, cached=True)
                return answer
        except TimeoutError:
            kind, why = (asking.trouble[-1].kind, f"; {asking.trouble[-1].text}") if asking.trouble else ("unreachable", "")
            answer = Answer(
                self._clock(), {}, AwsFault(kind, "Deadline", f"{_where(call)}: deadline of {deadline.seconds:g} s passed{why}")
            )
            self._answers.keep(key, call, answer, self._clock())
            return answer

    async def _told(self, asking: _Asking) -> Answer:
        """What AWS says, tried again while that may help."""
        call, unanswered = asking.call, 0
        account = call.account or ""
        if self._is_closed(account):
            return self._closed[account]
        async with _holding(self._hands, _api(call), lambda: asyncio.Semaphore(AT_ONCE)):
            while True:
                if asking.budget.silent(_now()):
                    text = f"{_where(call)}: the API has left several calls unanswered and is asked again in a while"
                    return Answer(self._clock(), {}, AwsFault("unreachable", "Silent", text))
                answer = await self._tried(asking)
                if answer.fault is None or answer.fault.kind not in PASSING:
                    return answer
                asking.trouble.append(answer.fault)
                if answer.fault.kind == "unreachable":
                    unanswered += 1
                    if unanswered == MOST_TRIES:
                        return answer
                    await asyncio.sleep(FIRST_RETRY_SECONDS * 2 ** (unanswered - 1))
                else:
                    await asyncio.sleep(asking.budget.pause(_now()))

    async def _tried(self, asking: _Asking) -> Answer:
        """One try, as a value."""
        call, at, entered = asking.call, self._clock(), False
        try:
            client = await self._accounts.client(call.service, call.account, call.region)
            entered = True
            self._closed.pop(call.account or "", None)
            return Answer(at, await self._fetched(client, asking))
        except AccountClosedError as error:
            # One refusal answers every question about the account, and is told once: many may have stood at its door.
            account = call.account or ""
            if not self._is_closed(account):
                self._closed[account] = Answer(at, {}, explain(error))
                self._metrics.account_closed(account, str(error))
            return self._closed[account]
        except Exception as error:  # noqa: BLE001  # whatever a client raises is an answer; explain() names it
            fault = explain(error)
            if fault.kind == "throttled" and not entered:  # by STS: to ask again at once would not help
                asking.budget.throttled(_now(), _now())
            if fault.code == "EndpointConnectionError" and call.region and not await self._accounts.offers(call.service, call.region):
                fault = replace(fault, kind="refused")  # the region lacks the service, and will tomorrow
            return Answer(at, {}, replace(fault, text=f"{_where(call)}: {fault.text}"))

    async def _fetched(self, client: Any, asking: _Asking) -> Mapping[str, Any]:
        call = asking.call
        if call.gather is None:
            method = getattr(client, call.operation)
            answer = await self._called(asking, lambda: method(**call.params))
            return _read(call, {name: value for name, value in answer.items() if name != "ResponseMetadata"})
        found: dict[str, list[Any]] = {member: [] for member in call.gathered}
        pages = aiter(client.get_paginator(call.operation).paginate(**call.params))
        try:
            while sum(map(len, found.values())) <= call.most:
                page = _read(call, await self._called(asking, lambda: anext(pages)))
                for member, entries in found.items():
                    entries.extend(page.get(member, ()))
        except StopAsyncIteration:
            asking.budget.give_back()
        more = sum(map(len, found.values())) > call.most
        return {**{member: entries[: call.most] for member, entries in found.items()}, "more": more}

    async def _called(self, asking: _Asking, made: Callable[[], Awaitable[Any]]) -> Any:
        """One call within the budget, which learns from how it went."""
        budget, began, outcome = asking.budget, _now(), "ok"
        waiting = AwsFault("throttled", "Turn", "its turn within the budget of calls had not come")
        asking.trouble.append(waiting)
        while (wait := budget.take(_now())) > 0:  # noqa: ASYNC110  # the time is known, and no event would tell more
            await asyncio.sleep(wait)
        asking.trouble.remove(waiting)
        called_at = _now()
        self._metrics.awaited(called_at - began)
        try:
            return await made()
        except asyncio.CancelledError:
            # What was called just before the deadline had no time to answer.
            outcome = "unreachable" if _now() - called_at >= min(SILENCE_SECONDS, asking.deadline.seconds / 4) else "cancelled"
            raise
        except StopAsyncIteration:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = explain(error).kind
            raise
        finally:
            if outcome == "unreachable":
                budget.unanswered(_now())
            elif outcome != "cancelled":
                budget.answered()
            if outcome == "throttled":
                budget.throttled(called_at, _now())
            if outcome != "cancelled":
                self._metrics.made(asking.call.service, outcome)

    def _budget(self, call: Call) -> CallBudget:
        api = _api(call)
        budget = self._budgets.pop(api, None) or CallBudget(RATES.get(call.service, OTHERS), _now())
        self._budgets[api] = budget
        if len(self._budgets) > MOST_BUDGETS:
            self._budgets.popitem(last=False)
        return budget

    def _is_closed(self, account: str) -> bool:
        closed = self._closed.get(account)
        return closed is not None and self._clock() < closed.at + timedelta(seconds=FAULT_SECONDS)

    def _sweep(self) -> None:
        """What is past its time goes soon, not only when the cache is full: lists of instances can be large."""
        now = self._clock()
        if now - self._swept_at >= SWEEP:
            self._swept_at = now
            self._answers.sweep(now)
            self._closed = {account: answer for account, answer in self._closed.items() if now < answer.at + CLOSED}


@asynccontextmanager
async def _holding(locks: WeakValueDictionary[str, L], name: str, make: Callable[[], L]) -> AsyncIterator[None]:
    """Hold the lock of this name; it is made when nobody else holds or awaits it."""
    lock = locks.get(name)
    if lock is None:
        lock = locks[name] = make()
    async with lock:
        yield


def _now() -> float:
    return asyncio.get_running_loop().time()


def _read(call: Call, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    return answer if call.read is None else call.read(answer)


def _key(call: Call) -> str:
    told = (call.account, call.service, call.region, call.operation, call.params, call.gather)
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()


def _api(call: Call) -> str:
    return f"{call.account or ''} {call.service} {call.region or ''}"


def _where(call: Call) -> str:
    where = f"account {call.account}" if call.account is not None else "our own account"
    return f"{call.service}:{call.operation} in {where}" + (f", {call.region}" if call.region is not None else "")


def _source(answer: Answer) -> str:
    if answer.stale is not None:
        return "stale"
    if answer.fault is not None and not answer.gone:
        return "none"
    return "cache" if answer.cached else "live"
