"""One message goes all the way or is left; each finding is told once, whatever fails in between."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.fakes import NOON, MemorySink, metrics, sample
from worker import sifting
from worker.budget import Budget
from worker.correlator import Correlator
from worker.detect.library import SHIPPED, build, load
from worker.detect.rulebook import Rulebook, index
from worker.dispatch import outbox
from worker.dispatch.outbox import Outbox
from worker.enrich import profile
from worker.ingest.objects import ObjectError
from worker.ingest.trail import Bounds
from worker.model import (
    EnrichedFinding,
    Expectation,
    Fact,
    FactSource,
    FactStatus,
    Finding,
    Level,
    LogObject,
    Message,
    Notice,
    Origin,
    Record,
)
from worker.own_records import OwnRecords
from worker.pipeline import Parts, Pipeline
from worker.remediate import calls
from worker.state.sqlite import SqliteStore
from worker.state.store import Claim, StoreError

ACCOUNT = "111122223333"
RULES = load([])


def deletion(name: str) -> dict[str, object]:
    return {
        "eventSource": "iam.amazonaws.com",
        "eventName": "DeleteInstanceProfile",
        "eventID": name,
        "eventTime": "2026-11-23T11:59:00Z",
        "recipientAccountId": ACCOUNT,
        "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/mallory", "accountId": ACCOUNT},
        "requestParameters": {"instanceProfileName": name},
    }


def message(*keys: str, receives: int = 1) -> Message:
    told = [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "logs"}, "object": {"key": key}}} for key in keys]
    return Message("m-1", json.dumps({"Records": told}), "receipt", NOON, receives)


class House:
    """A pipeline over objects and sinks in memory and a real store."""

    def __init__(self, store: SqliteStore, rules: Rulebook, owner: str = "one") -> None:
        self.objects: dict[str, bytes] = {}
        self.findings, self.tasks = MemorySink(key="findings"), MemorySink(key="tasks")
        self.metrics = metrics()
        self.quiet: set[Level] = set()
        self.pending = False
        self.investigated: Counter[str] = Counter()
        self.parts = Parts(
            rules=lambda: rules,
            correlator=Correlator(store, lambda: NOON, self.metrics, timedelta(hours=1)),
            fetch=self.fetch,
            fetch_fault=ObjectError,
            investigate=self.investigate,
            profile_interest=profile.INTEREST,
            profile_events=profile.events_of,
            own_interest=calls.INTEREST,
            own_records=OwnRecords(store, self.metrics, lambda: NOON, owner).among,
            store=store,
            outbox=Outbox([self.findings, self.tasks], store, self.metrics, lambda: NOON, owner),
            finding_sinks=lambda level: [] if level in self.quiet else [self.findings],
            task_sinks=(self.tasks,),
            metrics=self.metrics,
            clock=lambda: NOON,
            owner=owner,
            bounds=Bounds(1_000_000, 100_000),
            inflated=Budget(1_000_000),
            lease=timedelta(seconds=30),
            update_seconds=60.0,
        )
        self.pipeline = Pipeline(self.parts)

    def put(self, key: str, *names: str) -> None:
        self.objects[key] = gzip.compress(json.dumps({"Records": [deletion(name) for name in names]}).encode())

    @asynccontextmanager
    async def fetch(self, notice: Notice) -> AsyncIterator[LogObject]:
        if notice.key not in self.objects:
            raise ObjectError("object-missing", notice.key, passing=False)
        yield LogObject(notice, self.objects[notice.key])

    async def investigate(self, finding: Finding) -> EnrichedFinding:
        self.investigated[finding.subject.name or ""] += 1
        await asyncio.sleep(0.01)
        return EnrichedFinding(finding, {"user": Fact("user", FactStatus.KNOWN, {}, NOON, FactSource.LIVE, pending=self.pending)})

    def told(self) -> list[str]:
        return sorted(json.loads(item.body)["subject"]["name"] for item in self.findings.taken)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SqliteStore.open(":memory:")
    yield House(store, RULES)
    await store.close()


async def test_a_finding_and_its_task_are_told_and_the_message_deleted(house):
    """The whole way, for every object that the message names."""
    house.put("a", "one", "two")
    house.put("b", "three")
    assert (await house.pipeline(message("a", "b"))).delete
    assert house.told() == ["one", "three", "two"]
    assert len(house.tasks.taken) == 3


async def test_a_second_delivery_does_nothing(house):
    """The same message again deletes and tells nothing, and asks AWS nothing."""
    house.put("a", "one")
    await house.pipeline(message("a"))
    assert (await house.pipeline(message("a", receives=2))).delete
    assert house.told() == ["one"]
    assert house.investigated == {"one": 1}
    assert sample(house.metrics, "findings_duplicate_total") == 1


async def test_a_finding_without_all_its_facts_is_told_at_once_and_completed_by_an_update(house):
    """Its message comes back for it; the update has the finding's id, goes to every sink once and brings no second task."""
    house.put("a", "one")
    house.pending = True
    first = await house.pipeline(message("a"))
    assert (first.delete, first.reason, first.retry_after_seconds) == (False, "facts-awaited", 60)
    second = await house.pipeline(message("a", receives=2))
    assert (second.delete, second.reason, second.retry_after_seconds) == (False, "facts-awaited", 240)
    assert len(house.findings.taken) == 1
    house.pending = False
    assert (await house.pipeline(message("a", receives=3))).delete
    assert (await house.pipeline(message("a", receives=4))).delete
    told = [json.loads(item.body) for item in house.findings.taken]
    assert [(one["update"], one["complete"]) for one in told] == [(0, False), (1, True)]
    assert told[0]["id"] == told[1]["id"]
    assert len({item.id for item in house.findings.taken}) == 2
    assert len(house.tasks.taken) == 1
    assert sample(house.metrics, "findings_incomplete_total") == sample(house.metrics, "findings_updated_total", outcome="complete") == 1


async def test_facts_that_never_come_do_not_keep_a_message_for_ever(house):
    """Nor make it a dead letter: what is known at last is told, and the message deleted."""
    house.put("a", "one")
    house.pending = True
    verdicts = [await house.pipeline(message("a", receives=receives)) for receives in (1, 2, 3, 4)]
    assert [verdict.delete for verdict in verdicts] == [False, False, True, True]
    assert [json.loads(item.body)["update"] for item in house.findings.taken] == [0, 1]
    assert sample(house.metrics, "findings_updated_total", outcome="incomplete") == 1


async def test_whoever_wants_no_updates_gets_none(house):
    """The finding goes out as it is, and its message with it."""
    house.pipeline = Pipeline(replace(house.parts, update_seconds=0.0))
    house.put("a", "one")
    house.pending = True
    assert (await house.pipeline(message("a"))).delete
    assert (await house.pipeline(message("a", receives=2))).delete
    assert [json.loads(item.body)["complete"] for item in house.findings.taken] == [False]


async def test_a_message_that_came_back_for_another_reason_is_not_kept_for_facts(house):
    """With its last receives nothing is waited for, and the finding is not updated."""
    house.put("a", "one")
    house.pending = True
    assert (await house.pipeline(message("a", receives=3))).delete
    assert (await house.pipeline(message("a", receives=4))).delete
    assert [json.loads(item.body)["complete"] for item in house.findings.taken] == [False]


async def test_an_update_that_neither_sink_nor_outbox_takes_is_tried_again(house):
    """Its claim is given back, as that of a finding is."""
    house.put("a", "one")
    house.pending = True
    await house.pipeline(message("a"))
    house.pending = False
    house.findings.refuse_all = True
    with _no_room_in_the_outbox(house):
        assert (await house.pipeline(message("a", receives=2))).reason == "delivery"
    house.findings.refuse_all = False
    assert (await house.pipeline(message("a", receives=3))).delete
    assert [json.loads(item.body)["update"] for item in house.findings.taken] == [0, 1]


async def test_copies_at_the_same_moment_are_told_once(house):
    """Ten messages with the same event, all in hand at once: one finding, one task, all deleted."""
    for number in range(10):
        house.put(str(number), "one")
    verdicts = await asyncio.gather(*(house.pipeline(message(str(number))) for number in range(10)))
    assert all(verdict.delete for verdict in verdicts)
    assert (house.told(), len(house.tasks.taken)) == (["one"], 1)


@contextmanager
def _no_room_in_the_outbox(house: House) -> Iterator[None]:
    """The store takes everything but deliveries."""

    async def fail(*_: object) -> None:
        raise StoreError("disk full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house.parts.store, "post", fail)
        yield


async def test_a_sink_that_is_down_keeps_no_message(house):
    """What it does not take waits in the outbox, and comes to it once it is up: once, however often the message comes by."""
    house.put("a", "one")
    house.tasks.refuse_all = True
    assert (await house.pipeline(message("a"))).delete
    assert (await house.pipeline(message("a", receives=2))).delete
    assert (house.told(), house.tasks.taken) == (["one"], [])
    house.tasks.refuse_all = False
    for _ in range(2):
        await house.parts.outbox.drain(house.tasks)
    assert (house.told(), len(house.tasks.taken)) == (["one"], 1)


async def test_a_worker_that_dies_between_outbox_and_claim_posts_nothing_twice(house):
    """What is in the outbox is settled with it: the message comes back, the sink is up again, and it still comes once."""
    house.put("a", "one")
    house.tasks.refuse_all = True
    settle = house.parts.store.settle

    async def dies(keys: Sequence[str], *more: Any) -> None:
        if not any("|" in key for key in keys):  # the finding's own claim
            raise StoreError("killed")
        await settle(keys, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house.parts.store, "settle", dies)
        assert not (await house.pipeline(message("a"))).delete
    house.tasks.refuse_all = False
    assert (await house.pipeline(message("a", receives=2))).delete
    assert (house.told(), house.tasks.taken) == (["one"], [])
    await house.parts.outbox.drain(house.tasks)
    assert (house.told(), len(house.tasks.taken)) == (["one"], 1)


async def test_sinks_that_hang_hang_at_the_same_time(house, monkeypatch):
    """However many they are, a finding is handed over well within its lease."""
    monkeypatch.setattr(outbox, "PUT_SECONDS", 0.3)

    class Hanging(MemorySink):
        async def put(self, items):
            await asyncio.Event().wait()
            return await super().put(items)

    house.put("a", "one")
    sinks = [Hanging(key=f"sink-{number}") for number in range(10)]
    began = asyncio.get_running_loop().time()
    assert (await Pipeline(replace(house.parts, finding_sinks=lambda _: sinks))(message("a"))).delete
    assert asyncio.get_running_loop().time() - began < 2
    assert sum(one.count for one in await house.parts.store.backlogs()) == 10


async def test_a_finding_that_goes_to_nobody_is_done(house):
    """By its level it is routed to no sink: its tasks go out all the same, and the message is deleted."""
    house.put("a", "one")
    house.quiet = set(Level)
    assert (await house.pipeline(message("a"))).delete
    assert (house.told(), len(house.tasks.taken)) == ([], 1)


async def test_where_neither_sink_nor_outbox_takes_it_the_message_is_left_and_nothing_repeated(house):
    """What the other sink took is not put there again when the message comes back."""
    house.put("a", "one")
    house.tasks.refuse_all = True
    with _no_room_in_the_outbox(house):
        verdict = await house.pipeline(message("a"))
    assert (verdict.delete, verdict.reason) == (False, "delivery")
    assert house.told() == ["one"]
    assert sample(house.metrics, "deliveries_total", sink="memory", outcome="failed") == 1
    house.tasks.refuse_all = False
    assert (await house.pipeline(message("a", receives=2))).delete
    assert (house.told(), len(house.tasks.taken)) == (["one"], 1)


async def test_anothers_claim_leaves_the_message_until_its_lease_has_ended(house):
    """A finding in another worker's hands is not told here, and its message comes back: soon, should it be told by then, and after the lease, should it not."""
    house.put("a", "one")
    (finding,) = RULES.match(Record(deletion("one"), Origin(path="a"))).findings
    assert await house.parts.store.claim(finding.id, "other", NOON, timedelta(seconds=30)) is Claim.WON
    verdicts = [await house.pipeline(message("a", receives=receives)) for receives in (1, 2, 3, 4)]
    assert [(verdict.delete, verdict.reason) for verdict in verdicts] == [(False, "busy")] * 4
    assert [verdict.retry_after_seconds for verdict in verdicts] == [5, 10, 30, 30]
    later = Pipeline(replace(house.parts, clock=lambda: NOON + timedelta(seconds=31)))
    assert (await later(message("a", receives=2))).delete
    assert house.told() == ["one"]


async def test_whoever_loses_the_claim_on_the_way_tells_nothing(house):
    """An investigation longer than the lease may lose the finding to another worker; it is then told by that one alone."""
    house.put("a", "one")

    async def slow(finding: Finding) -> EnrichedFinding:
        later = NOON + timedelta(seconds=31)
        assert await house.parts.store.claim(finding.id, "other", later, timedelta(seconds=30)) is Claim.WON
        return EnrichedFinding(finding)

    verdict = await Pipeline(replace(house.parts, investigate=slow))(message("a"))
    assert (verdict.delete, verdict.reason, house.told()) == (False, "busy", [])


class _Broken:
    """A store that answers nothing."""

    def __getattr__(self, name):
        async def fail(*_, **__):
            raise StoreError("disk full")

        return fail


async def test_a_store_that_fails_leaves_the_message(house):
    """Without claims nobody knows what was told, so nothing is."""
    house.put("a", "one")
    verdict = await Pipeline(replace(house.parts, store=_Broken()))(message("a", receives=3))
    assert (verdict.delete, verdict.reason, verdict.retry_after_seconds) == (False, "store", 120)
    assert house.told() == []


async def test_a_missing_object_hides_no_other(house):
    """The good object of a message is read, and the message is left for the missing one."""
    house.put("a", "one")
    verdict = await house.pipeline(message("a", "gone"))
    assert (verdict.delete, verdict.reason) == (False, "object-missing")
    assert house.told() == ["one"]


async def test_a_rule_that_raises_is_counted_and_leaves_the_message(house):
    """A rule's defect is never "no match": the other rules' findings are told, and the message is left for when it is mended."""
    house.put("a", "one")
    rules, record = house.parts.rules(), Record(deletion("one"), Origin(path="a"))

    def raising(_: object) -> bool:
        raise RecursionError("too deep")

    sound = next(one for one in rules.candidates(record) if not one.matches(record.event))
    broken = replace(sound, matcher=replace(sound.matcher, matches=raising))
    book = index([broken if one is sound else one for one in rules.rules])
    verdict = await Pipeline(replace(house.parts, rules=lambda: book))(message("a"))
    assert (verdict.delete, verdict.reason) == (False, "rule-error")
    assert house.told() == ["one"]
    assert sample(house.metrics, "rule_errors_total", rule=broken.rule.id) == 1


async def test_a_cancelled_message_frees_its_claims(house):
    """A worker that is stopped in the middle lets another win the finding at once."""
    house.put("a", "one")
    begun = asyncio.Event()

    async def endless(_: Finding) -> EnrichedFinding:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    working = asyncio.create_task(_run(Pipeline(replace(house.parts, investigate=endless)), message("a")))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    other = Pipeline(replace(house.parts, owner="two"))
    assert (await other(message("a", receives=2))).delete
    assert house.told() == ["one"]


async def test_stopping_between_a_sinks_word_and_ours_tells_nothing_twice(house):
    """Cancelled while a sink takes the finding: what it took is settled, and the next delivery does not repeat it."""
    house.put("a", "one")
    putting, go = asyncio.Event(), asyncio.Event()

    class Slow(MemorySink):
        async def put(self, items):
            taken = await super().put(items)
            putting.set()
            await go.wait()
            return taken

    slow = Slow(key="findings")
    working = asyncio.create_task(_run(Pipeline(replace(house.parts, finding_sinks=lambda _: (slow,))), message("a")))
    await putting.wait()
    working.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert (await Pipeline(replace(house.parts, finding_sinks=lambda _: (slow,), owner="two"))(message("a", receives=2))).delete
    assert (len(slow.taken), len(house.tasks.taken)) == (1, 1)


async def test_a_record_that_breaks_us_hides_no_other(house):
    """A defect on one record leaves the message and tells the findings of all the others."""
    house.put("a", "one", "two")

    def odd(record):
        if record.text("eventID") == "one":
            raise RecursionError("too deep")
        return profile.events_of(record)

    verdict = await Pipeline(replace(house.parts, profile_events=odd))(message("a"))
    assert (verdict.delete, verdict.reason) == (False, "unexpected")
    assert house.told() == ["two"]


DELETIONS: dict[str, Any] = {
    "title": "Three profiles gone",
    "correlation": {
        "type": "event_count",
        "rules": ["Instance profile deleted"],
        "group-by": ["userIdentity.arn"],
        "timespan": "5m",
        "condition": {"gte": 3},
        "generate": True,
    },
}


def with_shipped(*documents: object) -> Rulebook:
    """The shipped rule for deleted profiles, and more documents."""
    texts = [(SHIPPED / "instance_profile_deleted.yml").read_text(), *(json.dumps(one) for one in documents)]
    return build((f"{number}.yml", text) for number, text in enumerate(texts))


async def test_what_several_workers_saw_is_told_once(tmp_path):
    """Three deletions at three workers on one store, each message delivered twice: one finding for all of them, beside each one's own."""
    houses = [
        House(await SqliteStore.open(str(tmp_path / "state.db")), with_shipped(DELETIONS), owner) for owner in ("one", "two", "three")
    ]
    for number, house in enumerate(houses):
        house.put("a", f"profile-{number}")
    for receives in (1, 2):
        verdicts = await asyncio.gather(*(house.pipeline(message("a", receives=receives)) for house in houses))
        # One may meet the finding in another's hands; its message comes back.
        assert all(verdict.delete or verdict.reason == "busy" for verdict in verdicts)
    told = Counter(json.loads(item.body)["rule"]["title"] for house in houses for item in house.findings.taken)
    assert told == {"Instance profile deleted": 3, "Three profiles gone": 1}
    for house in houses:
        await house.parts.store.close()


async def test_a_closing_correlation_is_told_when_its_span_is_over():
    """What can only be known afterwards is told by `close_due`, once, and kept due while neither sink nor outbox takes it."""
    closing = {**DELETIONS, "correlation": {**DELETIONS["correlation"], "condition": {"eq": 2}}}
    house, now = House(await SqliteStore.open(":memory:"), with_shipped(closing)), [NOON]
    correlator = Correlator(house.parts.store, lambda: now[0], house.metrics, timedelta(hours=1))
    pipeline = Pipeline(replace(house.parts, correlator=correlator, clock=lambda: now[0]))
    house.put("a", "one", "two")
    assert (await pipeline(message("a"))).delete
    await pipeline.close_due()
    assert house.told() == ["one", "two"]
    now[0] += timedelta(hours=2)
    house.findings.refuse_all = True
    with _no_room_in_the_outbox(house):
        await pipeline.close_due()
    assert house.told() == ["one", "two"]
    house.findings.refuse_all = False
    for _ in range(2):
        await pipeline.close_due()
    assert len(house.told()) == 3
    await house.parts.store.close()


async def test_a_closing_correlation_that_awaits_facts_is_not_investigated_at_every_look():
    """Its facts are looked for once a minute, as those of any finding, for ten minutes; then what is known is told."""
    closing = {**DELETIONS, "correlation": {**DELETIONS["correlation"], "condition": {"eq": 2}}}
    house, now = House(await SqliteStore.open(":memory:"), with_shipped(closing)), [NOON]
    correlator = Correlator(house.parts.store, lambda: now[0], house.metrics, timedelta(hours=1))
    pipeline = Pipeline(replace(house.parts, correlator=correlator, clock=lambda: now[0]))
    house.put("a", "one", "two")
    assert (await pipeline(message("a"))).delete
    house.pending = True
    house.investigated.clear()
    now[0] += timedelta(hours=1, minutes=6)
    for _ in range(60):
        await pipeline.close_due()
        now[0] += timedelta(seconds=15)
    assert [json.loads(item.body)["update"] for item in house.findings.taken if json.loads(item.body)["correlation"]] == [0, 1]
    assert house.investigated.total() <= 12
    assert await house.parts.store.due(now[0], 10) == []
    await house.parts.store.close()


async def test_one_span_that_cannot_be_told_holds_up_no_other():
    """A closing finding whose facts raise stays due, and the next one is told all the same."""
    closing = {**DELETIONS, "correlation": {**DELETIONS["correlation"], "group-by": ["eventID"], "condition": {"eq": 1}}}
    house, now = House(await SqliteStore.open(":memory:"), with_shipped(closing)), [NOON]

    async def odd(finding: Finding) -> EnrichedFinding:
        if finding.occurrence is not None and finding.subject.name == "one":
            raise ValueError("odd")
        return EnrichedFinding(finding)

    correlator = Correlator(house.parts.store, lambda: now[0], house.metrics, timedelta(hours=1))
    pipeline = Pipeline(replace(house.parts, correlator=correlator, clock=lambda: now[0], investigate=odd))
    house.put("a", "one", "two")
    await pipeline(message("a"))
    now[0] += timedelta(hours=3)
    await pipeline.close_due()
    assert house.told() == ["one", "two", "two"]
    assert len(await house.parts.store.due(now[0], 10)) == 1
    await house.parts.store.close()


async def test_a_suppressed_finding_reaches_nobody_and_is_counted(house):
    """What a suppression speaks against is neither told nor mended; it is counted under the suppression's id."""
    against = {"suppressions": [{"id": "build-7", "principal": "*:user/mallory", "until": "2026-12-31", "reason": "migration"}]}
    book = with_shipped(against)
    house.put("a", "one")
    assert (await Pipeline(replace(house.parts, rules=lambda: book))(message("a"))).delete
    assert (house.told(), house.tasks.taken) == ([], [])
    (rule,) = book.rules
    assert sample(house.metrics, "findings_suppressed_total", rule=rule.rule.id, suppression="build-7") == 1


@pytest.mark.parametrize(
    ("facts", "verdicts", "told"),
    [
        ({"instances": (FactStatus.UNKNOWN, None, True)}, [False, False, True], ["one"]),
        ({"instances": (FactStatus.UNKNOWN, None, False)}, [True], []),
        ({"instances": (FactStatus.KNOWN, {"by_state": {}}, False), "session": (FactStatus.UNKNOWN, None, True)}, [True], []),
    ],
    ids=["a passing cause", "a lasting cause", "known, but not something else"],
)
async def test_no_finding_is_lost_because_what_it_wants_could_not_be_asked_in_passing(house, facts, verdicts, told):
    """Whoever keeps EC2 busy must not keep it quiet: it is waited for, and then told. What else is unknown is not waited for."""
    compiled = with_shipped().rules[0]
    wanting = replace(compiled, rule=replace(compiled.rule, only_when=("in-use",)))
    made = {
        name: Fact(name, status, value, NOON, FactSource.LIVE, None if value else "no", pending)
        for name, (status, value, pending) in facts.items()
    }

    async def investigate(finding: Finding) -> EnrichedFinding:
        return EnrichedFinding(finding, made)

    pipeline = Pipeline(replace(house.parts, rules=lambda: index([wanting]), investigate=investigate))
    house.put("a", "one")
    answers = [await pipeline(message("a", receives=receives)) for receives in range(1, len(verdicts) + 1)]
    assert ([answer.delete for answer in answers], house.told()) == (verdicts, told)


@pytest.mark.parametrize("in_use", [False, True])
async def test_a_finding_that_wants_something_known_is_told_only_then(house, in_use):
    """Without an instance that is known to use the profile it is settled untold, counted once, and its tasks with it; else it is told."""
    compiled = with_shipped().rules[0]
    wanting = replace(compiled, rule=replace(compiled.rule, only_when=("in-use",)))
    users = [{"since": None, "until": None}] if in_use else []
    told = Fact("profile", FactStatus.KNOWN, {"instances": users}, NOON, FactSource.MEMORY)

    async def investigate(finding: Finding) -> EnrichedFinding:
        return EnrichedFinding(finding, {"profile": told})

    pipeline = Pipeline(replace(house.parts, rules=lambda: index([wanting]), investigate=investigate))
    house.put("a", "one")
    for receives in (1, 2):
        assert (await pipeline(message("a", receives=receives))).delete
    assert (house.told(), len(house.tasks.taken)) == ((["one"], 1) if in_use else ([], 0))
    assert sample(house.metrics, "findings_untold_total", rule=compiled.rule.id, condition="in-use") == (not in_use)
    assert sample(house.metrics, "findings_total", rule=compiled.rule.id, level="high") == in_use
    assert sample(house.metrics, "findings_duplicate_total") == 1


async def _run(pipeline, one):
    return await pipeline(one)


def claiming(body: bytes, size: int) -> bytes:
    """A gzip whose trailer tells another size."""
    return body[:-4] + size.to_bytes(4, "little")


@pytest.mark.parametrize("claim", [10, 200_000])
async def test_an_object_that_claims_less_than_it_has_is_read_with_room_for_all(house, claim):
    """Whether it claims to be small or middling: what is in it is told, and its fault too."""
    pad = {"eventSource": "ec2.amazonaws.com", "eventName": "DescribeInstances", "eventID": "pad", "x": "y" * 900_000}
    body = gzip.compress(json.dumps({"Records": [deletion("one"), pad]}).encode())
    house.objects["a"] = claiming(body, claim)
    verdict = await house.pipeline(message("a"))
    assert (verdict.delete, verdict.reason, house.told()) == (False, "corrupt-gzip", ["one"])


async def test_what_larger_objects_inflate_to_is_held_within_the_budget(house, monkeypatch):
    """Twenty objects of 300 kB at once in a budget of a million bytes: never more than three are read at a time, and all are."""
    most = 0
    for number in range(20):
        records = [deletion(f"n{number}"), *({**deletion("x"), "eventName": "DescribeInstances", "pad": "y" * 1000} for _ in range(220))]
        house.objects[str(number)] = gzip.compress(json.dumps({"Records": records}).encode())
    sift = sifting.sift

    def watched(*arguments):
        nonlocal most
        most = max(most, house.parts.inflated.taken)
        return sift(*arguments)

    monkeypatch.setattr("worker.pipeline.sift", watched)
    verdicts = await asyncio.gather(*(house.pipeline(message(str(number))) for number in range(20)))
    assert all(verdict.delete for verdict in verdicts)
    assert len(house.told()) == 20
    assert 250_000 < most <= 1_000_000
    assert house.parts.inflated.taken == 0


async def test_a_large_object_full_of_wanted_records_does_not_hold_up_the_loop(house, monkeypatch):
    """While 30,000 records that a rule wants are judged, whatever else is due on the loop comes to its turn."""
    one = json.dumps({**deletion("one"), "eventName": "DeleteUser", "errorCode": "AccessDenied"})
    house.objects["a"] = gzip.compress(('{"Records":[' + ",".join([one] * 30_000) + "]}").encode(), 1)
    parts = replace(house.parts, bounds=Bounds(20_000_000, 100_000), inflated=Budget(20_000_000))
    turns = meanwhile = 0
    sift = sifting.sift

    def watched(*arguments):
        nonlocal meanwhile
        before = turns
        sifted = sift(*arguments)
        meanwhile += turns - before
        return sifted

    monkeypatch.setattr("worker.pipeline.sift", watched)
    work = asyncio.create_task(Pipeline(parts)(message("a")))
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert (await work).delete
    assert meanwhile >= 10


# Our own calls.


def own_call(request_id: str, name: str = "DeleteInstanceProfile", **changed: object) -> dict[str, object]:
    """The record of a call that says it is ours."""
    return {**deletion("web"), "eventName": name, "requestID": request_id, "userAgent": "aiobotocore/3 trailmend", **changed}


def log(*records: dict[str, object]) -> bytes:
    return gzip.compress(json.dumps({"Records": records}).encode())


async def expect(house: House, request_id: str, due_at: datetime = NOON + timedelta(hours=1)) -> Expectation:
    call = Expectation(request_id, "task", "restore-instance-profile", ACCOUNT, "DeleteInstanceProfile", due_at)
    await house.parts.store.expect(call, "executor", NOON)
    return call


async def test_of_our_own_call_no_finding_is_made_and_it_is_confirmed_once(house):
    """However often its record comes by, and at however many workers."""
    await expect(house, "r-1")
    house.objects["a"] = log(own_call("r-1"), deletion("other"))
    other = House(house.parts.store, load([]), "two")
    other.objects = house.objects
    for one in (house, other, house):
        assert (await one.pipeline(message("a"))).delete
    assert [*house.told(), *other.told()] == ["other"]
    confirmed = [
        sample(one.metrics, "remediations_confirmed_total", action="restore-instance-profile", outcome="confirmed")
        for one in (house, other)
    ]
    assert confirmed == [1, 0]
    assert sample(house.metrics, "records_own_total", call="known") == 2


@pytest.mark.parametrize(
    "marks",
    [
        {},
        {"userAgent": "curl", "userIdentity": {"type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/trailmend"}},
        {
            "userAgent": "curl",
            "userIdentity": {
                "type": "AssumedRole",
                "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/x",
                "sessionContext": {"sourceIdentity": "trailmend"},
            },
        },
    ],
)
@pytest.mark.parametrize("request_id", ["r-2", None, 7, {"r": 1}])
async def test_who_only_says_that_a_call_is_ours_is_found_like_anybody(marks, request_id, house):
    """User agent, session name and source identity are anybody's to claim; AWS gives the request id. It is counted beside."""
    await expect(house, "r-1")
    house.objects["a"] = log(own_call("r-1", **{"requestID": request_id, **marks}))
    assert (await house.pipeline(message("a"))).delete
    assert house.told() == ["web"]
    assert sample(house.metrics, "records_own_total", call="unknown") == 1
    assert sample(house.metrics, "remediations_confirmed_total", action="restore-instance-profile", outcome="confirmed") == 0


async def test_our_own_call_is_confirmed_whatever_the_rules_are(house):
    """Without any rule its record is read all the same."""
    await expect(house, "r-1")
    bare = House(house.parts.store, index([]))
    bare.objects["a"] = log(own_call("r-1", "UpdateLoginProfile"))
    assert (await bare.pipeline(message("a"))).delete
    assert sample(bare.metrics, "remediations_confirmed_total", action="restore-instance-profile", outcome="confirmed") == 1


async def test_the_profile_memory_learns_from_our_own_calls(house):
    """A restored profile that is deleted again is remembered with what the restore gave it."""
    await expect(house, "r-1")
    house.objects["a"] = log(own_call("r-1", "CreateInstanceProfile", requestParameters={"instanceProfileName": "web", "path": "/fleet/"}))
    assert (await house.pipeline(message("a"))).delete
    assert house.told() == []
    assert [one.detail["path"] for one in await house.parts.store.recall(ACCOUNT, "web")] == ["/fleet/"]


async def test_correlations_do_not_count_our_own_calls(house):
    """Many restores undone at once are no attack."""
    user = {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/executor", "accountId": ACCOUNT, "userName": "executor"}
    records = [
        own_call(f"r-{n}", requestParameters={"instanceProfileName": f"p-{n}"}, eventID=f"e-{n}", userIdentity=user) for n in range(6)
    ]
    for record in records:
        await expect(house, str(record["requestID"]))
    house.objects["a"] = log(*records)
    assert (await house.pipeline(message("a"))).delete
    assert house.findings.taken == []
    house.objects["b"] = log(*({**record, "requestID": None} for record in records))
    await house.pipeline(message("b"))
    rules = {json.loads(item.body)["rule"]["title"] for item in house.findings.taken}
    assert len(rules) > 1


async def test_while_the_store_cannot_say_whose_a_call_is_it_is_not_told_and_comes_back(house, monkeypatch):
    """Its message is left; what stands beside it goes its way."""
    await expect(house, "r-1")

    async def down(_: object) -> frozenset[str]:
        raise StoreError("down")

    house.objects["a"] = log(own_call("r-1"), deletion("other"))
    failing = House(house.parts.store, load([]))
    failing.parts = replace(failing.parts, own_records=down)
    failing.pipeline, failing.objects = Pipeline(failing.parts), house.objects
    verdict = await failing.pipeline(message("a"))
    assert (verdict.delete, verdict.reason) == (False, "store")
    assert failing.told() == ["other"]
    assert (await house.pipeline(message("a", receives=2))).delete
    assert house.told() == []
