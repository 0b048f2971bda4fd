"""Questions asked once: single flight, lifetimes, bounds and deadlines, with accounts that behave badly on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.fakes import metrics, sample
from worker.aws import AccountClosedError, Accounts
from worker.enrich.answers import Answers
from worker.enrich.fact import FAULT_SECONDS, Answer, Call
from worker.enrich.lookups import AT_ONCE, Deadline, Lookups

pytestmark = pytest.mark.virtual_time

START = datetime(2026, 1, 1, tzinfo=UTC)


class Accounts_:  # noqa: N801  # worker.aws.Accounts, as far as lookups use it
    """One client for everything, whose every method is `answer(operation, **params)`; an account in `closed` cannot be entered."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.calls: list[tuple[str | None, str]] = []
        self.entered: list[str | None] = []
        self.closed: set[str | None] = set()
        self.under_way = self.most_under_way = 0

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        self.entered.append(account)
        if account in self.closed:
            raise AccountClosedError(f"account {account} is not ours")
        return Client(self, account)


class Client:
    def __init__(self, accounts: Accounts_, account: str | None) -> None:
        self.accounts, self.account = accounts, account

    def __getattr__(self, operation: str) -> Any:
        async def call(**params: Any) -> Any:
            accounts = self.accounts
            accounts.calls.append((self.account, operation))
            accounts.under_way += 1
            accounts.most_under_way = max(accounts.most_under_way, accounts.under_way)
            try:
                return await accounts.answer(operation, **params)
            finally:
                accounts.under_way -= 1

        return call


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def lookups(accounts: Accounts_, clock: Clock | None = None, most_answers: int = 100) -> Lookups:
    return Lookups(cast("Accounts", accounts), clock or Clock(), metrics().calls, most_answers=most_answers)


def call(name: str = "ann", account: str | None = "111122223333", lifetime_seconds: float = 30) -> Call:
    return Call(account, "iam", "get_user", lifetime_seconds, {"UserName": name})


async def ask(asked: Lookups, question: Call, seconds: float = 5.0, since: datetime | None = None) -> Answer:
    return await asked.ask(question, Deadline(asyncio.get_running_loop().time() + seconds, seconds), since)


async def at_once(operation: str, **params: Any) -> Any:
    await asyncio.sleep(0)
    return {"User": params, "ResponseMetadata": {"RequestId": "1"}}


def refusing(code: str) -> Callable[..., Any]:
    async def answer(operation: str, **_: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

    return answer


async def never(operation: str, **_: Any) -> Any:
    await asyncio.Event().wait()


async def test_one_question_of_many_at_the_same_time_is_asked_once() -> None:
    """Twenty callers, one call, one answer, without the response's metadata."""
    accounts = Accounts_(at_once)
    asked = lookups(accounts)
    answers = await asyncio.gather(*(ask(asked, call()) for _ in range(20)))
    assert len(accounts.calls) == 1
    assert {str(answer.value) for answer in answers} == {"{'User': {'UserName': 'ann'}}"}


async def test_a_caller_who_gives_up_leaves_the_others_an_answer() -> None:
    """The one who was asking is cancelled; the next in line asks itself."""
    gate = asyncio.Event()

    async def slow(operation: str, **params: Any) -> Any:
        await gate.wait()
        return {"User": params}

    asked = lookups(Accounts_(slow))
    first = asyncio.create_task(ask(asked, call()))
    await asyncio.sleep(0)
    second = asyncio.create_task(ask(asked, call()))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert (await second).fault is None


async def test_an_answer_lives_as_long_as_its_call_says() -> None:
    """Given again within the lifetime, asked anew after it, and never for another account or name."""
    accounts, clock = Accounts_(at_once), Clock()
    asked = lookups(accounts, clock)
    await ask(asked, call())
    clock.now += timedelta(seconds=29)
    assert (await ask(asked, call())).at == START
    clock.now += timedelta(seconds=1)
    assert (await ask(asked, call())).at == clock.now
    await ask(asked, call("bob"))
    await ask(asked, call(account=None))
    assert len(accounts.calls) == 4


async def test_an_answer_from_before_the_event_is_no_evidence_about_it() -> None:
    """Asked anew, except standing questions; an event from the future changes nothing."""
    accounts, clock = Accounts_(at_once), Clock()
    asked = lookups(accounts, clock)
    standing = Call(None, "iam", "list_account_aliases", 30, standing=True)
    await ask(asked, call())
    await ask(asked, standing)
    clock.now += timedelta(seconds=10)
    await ask(asked, call(), since=START + timedelta(seconds=5))
    await ask(asked, call(), since=START + timedelta(seconds=5))
    await ask(asked, standing, since=START + timedelta(seconds=5))
    await ask(asked, call(), since=START + timedelta(days=365))
    assert len(accounts.calls) == 3


async def test_a_refusal_is_an_answer_in_our_terms_and_soon_asked_again() -> None:
    """It is told with the place, and kept for a shorter time; gone is kept like any answer."""
    for code, kind in (("AccessDenied", "denied"), ("NoSuchEntity", "gone"), ("Odd", "refused")):
        accounts, clock = Accounts_(refusing(code)), Clock()
        asked = lookups(accounts, clock)
        answer = await ask(asked, call())
        assert answer.fault is not None
        assert answer.fault.kind == kind
        assert "account 111122223333" in answer.fault.text
        assert answer.gone is (kind == "gone")
        clock.now += timedelta(seconds=FAULT_SECONDS)
        await ask(asked, call())
        assert len(accounts.calls) == (1 if kind == "gone" else 2)


async def test_a_closed_account_is_tried_once_for_all_questions() -> None:
    """Entering it means a call to STS each time: one refusal answers every question for a while."""
    accounts, clock = Accounts_(at_once), Clock()
    accounts.closed = {"111122223333"}
    asked = lookups(accounts, clock)
    for name in ("ann", "bob", "cy"):
        answer = await ask(asked, call(name))
        assert answer.fault is not None
        assert (answer.fault.kind, answer.fault.text) == ("denied", "account 111122223333 is not ours")
    assert accounts.entered == ["111122223333"]
    assert (await ask(asked, call(account=None))).fault is None
    clock.now += timedelta(seconds=FAULT_SECONDS)
    accounts.closed = set()
    assert (await ask(asked, call("ann"))).fault is None


async def test_a_closed_account_is_told_of_once_however_many_stood_at_its_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line in the log for each question would be thirty for each finding."""
    of, told = metrics(), list[str]()
    monkeypatch.setattr(of.calls, "account_closed", lambda account, _: told.append(account))

    class Door:
        async def client(self, *_: Any) -> Any:
            await asyncio.sleep(0)
            raise AccountClosedError("no")

    asked = Lookups(cast("Accounts", Door()), Clock(), of.calls)
    answers = await asyncio.gather(*(ask(asked, call(f"user-{n}")) for n in range(30)))
    assert {answer.fault.kind for answer in answers if answer.fault is not None} == {"denied"}
    assert told == ["111122223333"]


async def test_no_more_than_the_bound_are_under_way_in_one_account() -> None:
    """Fifty different questions; other accounts have hands of their own."""
    accounts = Accounts_(at_once)
    asked = lookups(accounts)
    await asyncio.gather(*(ask(asked, call(f"user-{n}")) for n in range(50)))
    assert accounts.most_under_way == AT_ONCE
    await asyncio.gather(*(ask(asked, call(f"user-{n}", account)) for n in range(100, 120) for account in ("111111111111", "222222222222")))
    assert accounts.most_under_way == 2 * AT_ONCE


async def test_the_cache_is_bounded_and_lets_go_of_what_is_past_its_time() -> None:
    """Names come from records: a flood of them must not fill the memory."""
    accounts, clock = Accounts_(at_once), Clock()
    asked = lookups(accounts, clock, most_answers=10)
    for n in range(50):
        await ask(asked, call(f"user-{n}"))
    assert len(asked._answers) == 10
    clock.now += timedelta(hours=1)
    await ask(asked, call("last"))
    assert len(asked._answers) == 1
    assert (len(asked._asking), len(asked._hands)) == (0, 0)


async def test_silence_ends_at_the_deadline_and_is_not_waited_for_again_at_once() -> None:
    """An endpoint that never answers costs one deadline, then a quick no for a while; nothing is left running."""
    accounts, clock = Accounts_(never), Clock()
    asked = lookups(accounts, clock)
    answer = await ask(asked, call(), seconds=0.05)
    assert answer.fault is not None
    assert answer.fault.kind == "unreachable"
    assert "deadline of 0.05 s passed" in answer.fault.text
    assert (await ask(asked, call(), seconds=60)).fault == answer.fault
    assert (len(accounts.calls), accounts.under_way) == (1, 0)


async def test_what_is_throttled_is_tried_again_within_the_budget_and_told_as_such() -> None:
    """Not by every caller at its own pace, but as the account's budget allows: some few tries in the time of one question."""
    accounts = Accounts_(refusing("Throttling"))
    asked = lookups(accounts)
    answers = await asyncio.gather(*(ask(asked, call(f"user-{n}"), seconds=1.5) for n in range(AT_ONCE)))
    assert {answer.fault.kind for answer in answers if answer.fault is not None} == {"throttled"}
    assert all(answer.fault is not None and "deadline of 1.5 s passed" in answer.fault.text for answer in answers)
    assert 2 <= len(accounts.calls) <= AT_ONCE + 5


async def test_what_fails_in_passing_is_tried_again_at_once() -> None:
    """A connection that breaks, or a server that fails, once."""
    troubles: list[Exception] = [
        ConnectionError("broken"),
        ClientError(cast("Any", {"Error": {"Code": "ServiceFailure"}, "ResponseMetadata": {"HTTPStatusCode": 503}}), "GetUser"),
    ]

    async def poorly(operation: str, **params: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return {"User": params}

    accounts = Accounts_(poorly)
    assert (await ask(lookups(accounts), call())).fault is None
    assert len(accounts.calls) == 3


@pytest.mark.parametrize(("offered", "kind", "tries"), [(False, "refused", 1), (True, "unreachable", 3)])
async def test_a_service_that_a_region_lacks_is_no_trouble_that_passes(
    monkeypatch: pytest.MonkeyPatch, offered: bool, kind: str, tries: int
) -> None:
    """Its endpoint has no address, today and tomorrow: to wait for it would keep every finding incomplete. An endpoint that there is may be back."""

    async def nowhere(*_: Any, **__: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://batch.xx-new-1.amazonaws.com")

    async def offers(*_: Any) -> bool:
        return offered

    accounts = Accounts_(nowhere)
    monkeypatch.setattr(accounts, "offers", offers, raising=False)
    answer = await ask(lookups(accounts), Call("111122223333", "batch", "describe_compute_environments", 30, region="xx-new-1"))
    assert answer.fault is not None
    assert (answer.fault.kind, len(accounts.calls)) == (kind, tries)


async def test_an_older_answer_stands_in_where_none_is_to_be_had_and_says_so() -> None:
    """Past its lifetime and from before the event, but not for ever, and never where an old state would mislead."""
    failing = False

    async def sometimes(operation: str, **params: Any) -> Any:
        if failing:
            raise ConnectionError("no route")
        return {"User": params}

    clock = Clock()
    asked = lookups(Accounts_(sometimes), clock)
    careful = replace(call("bob"), stand_in_seconds=0)
    for question in (call(), careful):
        await ask(asked, question)
    failing = True
    clock.now += timedelta(seconds=100)
    answer = await ask(asked, call(), since=clock.now)
    assert (answer.at, answer.cached, answer.fault) == (START, True, None)
    assert answer.stale is not None
    assert answer.stale.startswith("as of 100 s before it could not be asked again (iam:get_user in account 111122223333")
    assert (await ask(asked, careful, since=clock.now)).fault is not None
    clock.now += timedelta(hours=1)
    assert (await ask(asked, call(), since=clock.now)).fault is not None


async def test_a_denial_is_news_and_no_reason_for_an_old_answer() -> None:
    """Who is denied what it was told before learns that."""
    denied = False

    async def later_denied(operation: str, **params: Any) -> Any:
        if denied:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)
        return {"User": params}

    clock = Clock()
    asked = lookups(Accounts_(later_denied), clock)
    await ask(asked, call())
    denied = True
    clock.now += timedelta(seconds=100)
    answer = await ask(asked, call())
    assert answer.fault is not None
    assert answer.fault.kind == "denied"


async def test_every_page_is_a_call_of_the_budget() -> None:
    """A list of many pages cannot pass it."""

    class Pages:
        async def paginate(self, **_: Any) -> Any:
            for page in range(3):
                yield {"Roles": [page]}

    class Desk:
        def get_paginator(self, _: str) -> Pages:
            return Pages()

    class OneDesk:
        async def client(self, *_: Any) -> Desk:
            return Desk()

    of = metrics()
    asked = Lookups(cast("Accounts", OneDesk()), Clock(), of.calls)
    answer = await ask(asked, Call("111122223333", "iam", "list_roles", 30, gather="Roles"))
    assert answer.value == {"Roles": [0, 1, 2], "more": False}
    assert sample(of, "aws_calls_total", service="iam", outcome="ok") == 3


async def test_an_api_that_hangs_holds_up_no_other_of_the_account() -> None:
    """Each has hands of its own; and after some silence nobody waits for it any more."""

    async def answer(operation: str, **params: Any) -> Any:
        if operation == "get_user":
            await asyncio.Event().wait()
        return {}

    accounts = Accounts_(answer)
    asked = lookups(accounts)
    hanging = [asyncio.create_task(ask(asked, call(f"user-{n}"), seconds=0.4)) for n in range(3 * AT_ONCE)]
    await asyncio.sleep(0)
    assert (await ask(asked, Call("111122223333", "ec2", "describe_regions", 30))).fault is None
    await asyncio.gather(*hanging)
    calls = len(accounts.calls)
    silent = await ask(asked, call("one more"), seconds=60)
    assert silent.fault is not None
    assert silent.fault.code == "Silent"
    assert len(accounts.calls) == calls


async def test_answers_and_calls_are_counted() -> None:
    """Live, from the cache, stale or none; and how many accounts are closed just now."""
    of, clock, accounts = metrics(), Clock(), Accounts_(at_once)
    accounts.closed = {"222222222222"}
    asked = Lookups(cast("Accounts", accounts), clock, of.calls)
    await ask(asked, call())
    clock.now += timedelta(seconds=1)
    assert (await ask(asked, call())).cached
    await ask(asked, call(account="222222222222"))
    counted = {source: sample(of, "aws_answers_total", source=source) for source in ("live", "cache", "stale", "none")}
    assert counted == {"live": 1, "cache": 1, "stale": 0, "none": 1}
    assert sample(of, "aws_calls_total", service="iam", outcome="ok") == 1
    assert sample(of, "accounts_closed") == 1
    accounts.closed = set()
    await ask(asked, call("bob", account="222222222222"))
    assert sample(of, "accounts_closed") == 1, "nobody looks again so soon"
    clock.now += timedelta(seconds=FAULT_SECONDS)
    await ask(asked, call("bob", account="222222222222"))
    assert sample(of, "accounts_closed") == 0


async def test_an_account_that_sts_will_not_let_us_enter_just_now_is_not_hammered() -> None:
    """Entering is a call too, and refused ones are spaced out."""
    accounts = Accounts_(at_once)

    async def throttled(*_: Any) -> Any:
        accounts.entered.append("tried")
        raise ClientError({"Error": {"Code": "Throttling", "Message": "slow down"}}, "AssumeRole")

    accounts.client = throttled  # type: ignore[assignment,method-assign]
    answer = await ask(lookups(accounts), call(), seconds=1.0)
    assert answer.fault is not None
    assert answer.fault.kind == "throttled"
    assert len(accounts.entered) <= 3


async def test_an_account_that_is_slow_to_enter_holds_up_no_other() -> None:
    """Nor does it hold up its own findings past their deadline."""
    accounts = Accounts_(at_once)
    enter = accounts.client

    async def slowly(service: str, account: str | None = None, region: str | None = None) -> Any:
        if account == "222222222222":
            await asyncio.Event().wait()
        return await enter(service, account, region)

    accounts.client = slowly  # type: ignore[method-assign]
    asked = lookups(accounts)
    waiting = [asyncio.create_task(ask(asked, call(f"user-{n}", "222222222222"), seconds=0.3)) for n in range(2 * AT_ONCE)]
    await asyncio.sleep(0)
    others = await asyncio.gather(*(ask(asked, call(f"user-{n}")) for n in range(20)))
    assert not any(answer.fault for answer in others)
    assert not any(one.done() for one in waiting)
    assert {answer.fault.kind for answer in await asyncio.gather(*waiting) if answer.fault is not None} == {"unreachable"}


class Paged:
    """A client whose one paginated operation answers with these pages, and counts those that were read."""

    def __init__(self, *pages: Any) -> None:
        self.pages, self.read = pages, 0

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        return self

    def get_paginator(self, operation: str) -> Any:
        return self

    async def paginate(self, **params: Any) -> Any:
        for page in self.pages:
            self.read += 1
            yield page


async def test_lists_under_several_members_are_joined_and_bounded_together() -> None:
    """Each by its own name; a member that a page lacks is empty; what is over the bound says so, and no further page is read."""
    pages = ({"Users": [1, 2], "Groups": [3]}, {"Users": [4], "Roles": [9]}, {"Users": [5]})
    whole = Call(None, "iam", "get_account_authorization_details", 30, gather=("Users", "Groups"))
    answer = await ask(lookups(cast("Any", Paged(*pages))), whole)
    assert answer.value == {"Users": [1, 2, 4, 5], "Groups": [3], "more": False}
    paged = Paged(*pages)
    answer = await ask(lookups(cast("Any", paged)), replace(whole, most=3))
    assert (answer.value["more"], paged.read) == (True, 2)


async def test_what_is_not_wanted_of_an_answer_is_not_kept() -> None:
    """What `read` leaves out is in no answer and in no cache; a page is read before it is joined."""
    token = "a session token"

    async def told(operation: str, **_: Any) -> Any:
        return {"Secret": token, "Id": 1}

    asked = lookups(Accounts_(told))
    question = Call(None, "sts", "anything", 30, read=lambda answer: {"Id": answer["Id"]})
    assert (await ask(asked, question)).value == {"Id": 1}
    assert token not in repr(list(asked._answers._good.values()))
    pages = lookups(cast("Any", Paged({"Users": [{"Id": 1, "Secret": token}]})))
    gathering = Call(None, "iam", "list_users", 30, gather="Users", read=lambda page: {"Users": [one["Id"] for one in page["Users"]]})
    assert (await ask(pages, gathering)).value == {"Users": [1], "more": False}


async def test_an_answer_that_cannot_be_read_is_a_fault() -> None:
    """AWS may change; nobody falls over it."""
    answer = await ask(lookups(Accounts_(at_once)), Call(None, "iam", "get_user", 30, read=lambda answer: answer["Surprise"]))
    assert answer.fault is not None
    assert answer.fault.code == "KeyError"


async def test_a_failure_is_kept_as_long_as_its_call_says() -> None:
    """A report in the making is asked for again within a second; other failures are not."""
    accounts, clock = Accounts_(refusing("ReportInProgress")), Clock()
    asked = lookups(accounts, clock)
    for seconds, calls in ((0.5, 1), (1.0, 2)):
        await ask(asked, Call(None, "iam", "get_credential_report", 600, fault_seconds=1.0))
        clock.now += timedelta(seconds=seconds)
        await ask(asked, Call(None, "iam", "get_credential_report", 600, fault_seconds=1.0))
        assert len(accounts.calls) == calls


async def test_an_answer_that_another_fact_of_the_same_finding_got_is_not_called_cached() -> None:
    """Said after the finding was taken up; for a later finding it is from the cache."""
    clock = Clock()
    asked = lookups(Accounts_(at_once), clock)
    taken_up = clock.now
    clock.now += timedelta(seconds=1)
    await ask(asked, call())
    clock.now += timedelta(seconds=1)
    deadline = Deadline(asyncio.get_running_loop().time() + 5, 5)
    assert (await asked.ask(call(), deadline, None, taken_up)).cached is False
    assert (await asked.ask(call(), deadline)).cached is True


@pytest.mark.parametrize("gather", [None, "Roles"])
async def test_large_answers_are_bounded_by_what_they_weigh(gather: str | None) -> None:
    """A list of few entries may be large, and so may an answer that is no list: names in questions come from records."""
    kept, now = Answers(most_bytes=1_000_000), START
    for n in range(50):
        value = {"Roles": [{"Document": "x" * 90_000}]}
        kept.keep(str(n), Call(None, "iam", "list_roles", 30, gather=gather), Answer(now, value), now)
    assert 5 <= len(kept) <= 11
    kept.sweep(now + timedelta(hours=1))
    assert (len(kept), kept._bytes) == (0, 0)
