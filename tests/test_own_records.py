"""A record is ours where its request id was written down, or where it is the first of a call that was intended and never answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON, metrics, sample
from worker.model import Expectation, Intention, Origin, Record, is_marked
from worker.observe.metrics import Metrics
from worker.own_records import OwnRecords
from worker.state.sqlite import SqliteStore
from worker.state.store import StoreError

ACCOUNT = "111122223333"
TASK = "0f0e0d0c-0000-5000-8000-000000000001"
PARAMETERS = {"UserName": "ada", "PolicyName": "MfaFirst", "PolicyDocument": "{}"}
TOLD = {"userName": "ada", "policyName": "MfaFirst", "policyDocument": "{ }"}
INTENDED = Intention.of("enforce-mfa", TASK, "0123456789abcdef" * 2, NOON, ACCOUNT, "iam", "PutUserPolicy", PARAMETERS)


@dataclass
class Watch:
    """Processes on one store, each with metrics of its own, and the time."""

    store: SqliteStore
    now: datetime = NOON

    def process(self, owner: str) -> tuple[OwnRecords, Metrics]:
        counted = metrics()
        return OwnRecords(self.store, counted, lambda: self.now, owner), counted

    async def expect(self, request_id: str = "r-1") -> Expectation:
        call = Expectation(request_id, TASK, "enforce-mfa", ACCOUNT, "PutUserPolicy", NOON + timedelta(hours=1))
        await self.store.expect(call, "executor", NOON)
        return call


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    store = await SqliteStore.open(":memory:")
    yield Watch(store)
    await store.close()


def record(request_id: str = "r-1", agent: object = "trailmend", **changed: object) -> Record:
    told = {
        "eventSource": "iam.amazonaws.com",
        "eventName": "PutUserPolicy",
        "eventTime": NOON.isoformat(),
        "recipientAccountId": ACCOUNT,
        "requestID": request_id,
        "userAgent": agent,
        "requestParameters": TOLD,
        **changed,
    }
    return Record(told, Origin(path="test"))


def outcomes(of: Metrics) -> dict[str, float]:
    told = ("confirmed", "unconfirmed", "late")
    return {one: n for one in told if (n := sample(of, "remediations_confirmed_total", action="enforce-mfa", outcome=one))}


async def test_what_is_told_in_time_is_confirmed_and_never_unconfirmed(watch: Watch) -> None:
    """By the first of all processes that see it."""
    await watch.expect()
    (one, counted), (other, none) = watch.process("one"), watch.process("other")
    assert await one.among([record(), record("r-2")]) == {"r-1"}
    assert await other.among([record()]) == {"r-1"}
    watch.now += timedelta(days=1)
    await one.miss()
    assert (outcomes(counted), outcomes(none)) == ({"confirmed": 1}, {})


async def test_what_is_not_told_in_time_is_unconfirmed_once_and_late_if_it_comes_after_all(watch: Watch) -> None:
    """Not a moment before its time, and whoever looks."""
    await watch.expect()
    (one, counted), (other, none) = watch.process("one"), watch.process("other")
    watch.now += timedelta(minutes=59)
    await one.miss()
    assert outcomes(counted) == {}
    watch.now += timedelta(minutes=1)
    for process in (one, other, one):
        await process.miss()
    assert (outcomes(counted), outcomes(none)) == ({"unconfirmed": 1}, {})
    for process in (other, one):
        assert await process.among([record()]) == {"r-1"}
    assert (outcomes(counted), outcomes(none)) == ({"unconfirmed": 1}, {"late": 1})


async def test_what_was_missed_while_its_record_was_read_is_late(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """So unconfirmed and late always go together."""
    call = await watch.expect()
    one, counted = watch.process("one")
    assert await watch.store.miss(call)
    real, stale = watch.store.expected, [[call]]

    async def expected(ids: list[str]) -> object:
        return stale.pop() if stale else await real(ids)

    monkeypatch.setattr(watch.store, "expected", expected)
    assert await one.among([record()]) == {"r-1"}
    assert outcomes(counted) == {"late": 1}


async def test_the_first_record_of_a_call_that_was_never_answered_is_ours_and_no_other(watch: Watch) -> None:
    """It may come again; whoever reads the token in CloudTrail and shows it with a call of their own is found out."""
    await watch.store.settle([INTENDED.key], "executor", NOON)
    one, counted = watch.process("one")
    agent = f"aiobotocore/3 trailmend {INTENDED.agent}"
    assert await one.among([record("r-1", agent)]) == {"r-1"}
    assert await one.among([record("r-2", agent)]) == frozenset()
    assert await one.among([record("r-1", agent), record("r-2", agent)]) == {"r-1"}
    assert outcomes(counted) == {"confirmed": 1}


@pytest.mark.parametrize(
    "changed",
    [
        {"eventName": "CreateAccessKey"},
        {"eventSource": "ec2.amazonaws.com"},
        {"requestParameters": {**TOLD, "userName": "eve"}},
        {"requestParameters": {**TOLD, "policyName": "AdminAll"}},
        {"requestParameters": None},
        {"recipientAccountId": "444455556666"},
        {"eventTime": (NOON + timedelta(minutes=6)).isoformat()},
        {"eventTime": (NOON - timedelta(minutes=2)).isoformat()},
        {"eventTime": "yesterday"},
        {"userAgent": INTENDED.agent.replace("0123", "3210")},
        {"userAgent": INTENDED.agent + "0"},
        {"userAgent": INTENDED.agent.replace("enforce", "restore")},
    ],
)
async def test_what_was_intended_is_one_call_and_soon(changed: dict[str, object], watch: Watch) -> None:
    """Another API, account, time or token is somebody else's call."""
    await watch.store.settle([INTENDED.key], "executor", NOON)
    one, _ = watch.process("one")
    assert await one.among([record("r-9", **{"userAgent": INTENDED.agent, **changed})]) == frozenset()
    assert await one.among([record("r-1", INTENDED.agent)]) == {"r-1"}


async def test_an_answered_call_leaves_no_token_to_be_used(watch: Watch) -> None:
    """Its request id is known, so no other record is taken for it."""
    call = await watch.expect("r-2")
    await watch.store.settle([INTENDED.key], "executor", NOON)
    await watch.store.expect(replace(call, request_id="r-1"), "executor", NOON, spent=[INTENDED.spent])
    one, _ = watch.process("one")
    assert await one.among([record("r-7", INTENDED.agent)]) == frozenset()


async def test_a_call_that_is_written_down_while_its_record_is_read_is_no_strangers(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is spent between the two looks."""
    call = await watch.expect("r-2")
    await watch.store.settle([INTENDED.key], "executor", NOON)
    real, looks = watch.store.settled, 0

    async def settled(keys: list[str]) -> object:
        nonlocal looks
        known, looks = await real(keys), looks + 1
        if looks == 1:
            await watch.store.expect(replace(call, request_id="r-1"), "executor", NOON, spent=[INTENDED.spent])
        return known

    monkeypatch.setattr(watch.store, "settled", settled)
    one, counted = watch.process("one")
    assert await one.among([record("r-1", INTENDED.agent), record("r-7", INTENDED.agent)]) == {"r-1"}
    assert outcomes(counted) == {"confirmed": 1}


async def test_a_store_that_fails_is_told_and_the_watch_goes_on(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the process ends."""
    await watch.expect()
    watch.now += timedelta(hours=2)
    real, looks = watch.store.overdue, 0

    class EndError(Exception):
        pass

    async def overdue(now: datetime, limit: int) -> object:
        if looks < 3:
            raise (StoreError("down"), ValueError("a defect"))[looks - 1]
        return await real(now, limit)

    async def sleep(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks > 3:
            raise EndError

    monkeypatch.setattr(watch.store, "overdue", overdue)
    counted = metrics()
    with pytest.raises(EndError):
        await OwnRecords(watch.store, counted, lambda: watch.now, "one", sleep).watch()
    assert outcomes(counted) == {"unconfirmed": 1}
    assert sample(counted, "faults_total", stage="confirm", reason="store") == 1
    assert sample(counted, "faults_total", stage="confirm", reason="unexpected") == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda of: st.lists(of) | st.dictionaries(st.text(), of), max_leaves=8
)


@given(
    st.dictionaries(st.sampled_from(["userAgent", "userIdentity", "eventTime", "recipientAccountId", "readOnly", "eventCategory"]), JSON)
)
def test_no_record_is_too_odd_to_be_asked_about(event: dict[str, object]) -> None:
    """Marks and tokens are read from anything without raising."""
    odd = Record(event, Origin(path="test"))
    is_marked(odd)
    assert Intention.claimed_by(odd) is None


@pytest.mark.parametrize(
    ("event", "marked"),
    [
        ({"userAgent": "aiobotocore/3 trailmend"}, True),
        ({"userAgent": "aiobotocore/3 trailmend", "readOnly": True}, False),
        ({"userAgent": "aiobotocore/3 trailmend", "eventCategory": "Data"}, False),
        ({"userAgent": "aws-cli"}, False),
        ({"userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/r/trailmend"}}, True),
        ({"userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/trailmend/x"}}, False),
        ({"userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::1:user/trailmend"}}, False),
        ({"userIdentity": {"type": "AssumedRole", "sessionContext": {"sourceIdentity": "trailmend"}}}, True),
    ],
)
def test_marks_are_those_of_a_change_of_ours(event: dict[str, object], marked: bool) -> None:
    """Reads and data events of ours are not written down, and so not asked about."""
    assert is_marked(Record(event, Origin(path="test"))) is marked


def test_a_token_says_whose_call_it_is() -> None:
    """For whoever reads CloudTrail: the action and the task; and it stays far below the kilobyte that CloudTrail keeps of a user agent."""
    assert Intention.claimed_by(record(agent=f"a/1 {INTENDED.agent} b/2")) == INTENDED
    assert (INTENDED.action, INTENDED.task_id) == ("enforce-mfa", TASK)
    assert len(INTENDED.agent) < 200
