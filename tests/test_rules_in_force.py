"""Rules are exchanged whole, between messages, and only for a set without fault."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import LogCapture

from tests.conftest import PATIENCE_SECONDS
from tests.fakes import NOON, MemoryQueue, MemorySink, sample
from worker.budget import Budget
from worker.correlator import Correlator
from worker.detect.library import RuleFaults, load
from worker.detect.rulebook import Rulebook
from worker.dispatch.outbox import Outbox
from worker.enrich import profile
from worker.ingest.objects import ObjectError
from worker.ingest.trail import Bounds
from worker.model import EnrichedFinding, Finding, LogObject, Notice
from worker.observe.metrics import Metrics
from worker.own_records import OwnRecords
from worker.pipeline import Parts, Pipeline
from worker.remediate import calls
from worker.rules_in_force import RulesInForce, on_disk
from worker.service import Service
from worker.state.sqlite import SqliteStore

BROKEN = "title: Broken\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  condition: nothing\n"

ANY = "title: Any\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  s: {eventName|contains: Any}\n  condition: s\n"
"""A rule that no index helps."""


def rule(event: str, title: str = "") -> str:
    """A rule for one event."""
    return (
        f"title: {title or event}\nlogsource: {{product: aws, service: cloudtrail}}\n"
        f"detection:\n  selection: {{eventSource: iam.amazonaws.com, eventName: {event}}}\n  condition: selection\n"
    )


class Looks:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self._asleep, self._woken = asyncio.Event(), asyncio.Event()

    async def sleep(self, _: float) -> None:
        self._asleep.set()
        await self._woken.wait()
        self._woken.clear()

    async def __call__(self, count: int = 1) -> None:
        """Let the watch look so often, and do whatever it makes of it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(count):
                await self._asleep.wait()
                self._asleep.clear()
                self._woken.set()
                await self._asleep.wait()


class House:
    """Rules of a folder, watched, with their metrics and log."""

    def __init__(self, folder: Path, read: Callable[[], Rulebook] | None = None, watched: Sequence[Path] | None = None) -> None:
        self.capture, self.look = LogCapture(), Looks()
        self.metrics = Metrics(CollectorRegistry(), structlog.wrap_logger(None, processors=[self.capture]))
        read = read or partial(load, [folder], shipped=False)
        self.rules = RulesInForce(read, [folder] if watched is None else watched, self.metrics, lambda: NOON, self.look.sleep)

    @property
    def titles(self) -> list[str]:
        return sorted(one.rule.title for one in self.rules.book.rules)

    def told(self, event: str) -> list[Mapping[str, Any]]:
        return [entry for entry in self.capture.entries if entry["event"] == event]

    def reloads(self, outcome: str) -> float:
        return sample(self.metrics, "rules_reloads_total", outcome=outcome)

    @property
    def refused(self) -> float:
        return sample(self.metrics, "rules_refused")


@asynccontextmanager
async def watching(house: House) -> AsyncIterator[Looks]:
    """The watch, for as long as the context lasts."""
    watch = asyncio.create_task(house.rules.watch())
    try:
        yield house.look
    finally:
        assert not watch.done(), watch
        watch.cancel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "rules"
    found.mkdir()
    (found / "one.yml").write_text(rule("One"))
    return found


# On change.


async def test_what_is_loaded_at_the_start_is_told(folder):
    """Counts, time and rules without index; nothing was reloaded yet, and both outcomes are there to be seen at 0."""
    (folder / "any.yml").write_text(ANY)
    house = House(folder)
    assert (sample(house.metrics, "rules"), sample(house.metrics, "rules_unindexed"), sample(house.metrics, "correlations")) == (2, 1, 0)
    assert sample(house.metrics, "rules_loaded_timestamp_seconds") == NOON.timestamp()
    assert house.metrics.registry.get_sample_value("trailmend_rules_reloads_total", {"outcome": "ok"}) == 0
    assert house.metrics.registry.get_sample_value("trailmend_rules_reloads_total", {"outcome": "refused"}) == 0
    assert len(house.told("rules_loaded")) == len(house.told("rule_unindexed")) == 1


async def test_a_faulty_set_does_not_start(folder):
    """At the start there is nothing older to keep: the faults are the caller's."""
    (folder / "broken.yml").write_text(BROKEN)
    with pytest.raises(RuleFaults):
        House(folder)


async def test_a_new_rule_is_in_force_when_two_looks_agree(folder):
    """The first look sees that something changes, the second that it has ended; counts and rules without index are told anew."""
    house = House(folder)
    async with watching(house) as look:
        await look(3)
        assert house.reloads("ok") == 0
        (folder / "any.yml").write_text(ANY)
        await look()
        assert house.titles == ["One"]
        await look()
        assert house.titles == ["Any", "One"]
        await look(3)
    assert house.reloads("ok") == len(house.told("rules_reloaded")) == len(house.told("rule_unindexed")) == 1
    assert (sample(house.metrics, "rules"), sample(house.metrics, "rules_unindexed")) == (2, 1)


async def test_a_rule_taken_away_is_no_longer_in_force(folder):
    """Deleting a file is how a rule is retired."""
    (folder / "two.yml").write_text(rule("Two"))
    house = House(folder)
    async with watching(house) as look:
        (folder / "two.yml").unlink()
        await look(2)
    assert house.titles == ["One"]


async def test_a_houses_levels_are_taken_up_and_refused_like_rules(folder):
    """A row changes the level of what is found from then on; one that leads nowhere leaves the rows before it in force."""
    house = House(folder)
    async with watching(house) as look:
        (folder / "levels.yml").write_text("levels: {One: {wide: critical}}\n")
        await look(2)
        assert house.rules.book.rules[0].rule.level_when == {"wide": "critical"}
        (folder / "levels.yml").write_text("levels:\n  Nobody: {wide: low}\n")
        await look(2)
        assert house.rules.book.rules[0].rule.level_when == {"wide": "critical"}
        (fault,) = house.told("rule_fault")
        assert (fault["file"], fault["line"], house.refused) == (str(folder / "levels.yml"), 2, 1)
        (folder / "levels.yml").unlink()
        await look(2)
    assert house.rules.book.rules[0].rule.level_when == {}


async def test_a_file_that_is_still_being_written_is_left_alone(folder):
    """While each look sees it grow, nothing is read, though the half of it would be a fault; then it is read once."""
    house = House(folder)
    text = rule("Two")
    async with watching(house) as look:
        with (folder / "two.yml").open("w") as stream:
            for part in (text[:20], text[20:60], text[60:90], text[90:]):
                stream.write(part)
                stream.flush()
                await look()
                assert (house.reloads("ok"), house.reloads("refused")) == (0, 0)
        await look(3)
    assert house.titles == ["One", "Two"]
    assert (house.reloads("ok"), house.reloads("refused")) == (1, 0)


async def test_a_config_map_exchanged_by_its_link_is_a_change(tmp_path):
    """As the kubelet does it: a new folder, and `..data` renamed over; size and time of the file are as before."""
    mount = tmp_path / "mount"
    for name, event in (("..2026_1", "One"), ("..2026_2", "Two")):
        (mount / name).mkdir(parents=True)
        (mount / name / "rule.yml").write_text(rule(event))
        os.utime(mount / name / "rule.yml", (1, 1))
    (mount / "..data").symlink_to("..2026_1")
    (mount / "rule.yml").symlink_to("..data/rule.yml")
    house = House(mount)
    assert house.titles == ["One"]
    async with watching(house) as look:
        (mount / "..data_tmp").symlink_to("..2026_2")
        (mount / "..data_tmp").rename(mount / "..data")
        shutil.rmtree(mount / "..2026_1")
        await look(2)
    assert house.titles == ["Two"]


async def test_a_file_rewritten_with_its_old_size_and_time_is_a_change(folder):
    """As by a copy that preserves times."""
    before = (folder / "one.yml").stat()
    house = House(folder)
    async with watching(house) as look:
        (folder / "one.yml").write_text(rule("Two"))
        os.utime(folder / "one.yml", ns=(before.st_atime_ns, before.st_mtime_ns))
        after = (folder / "one.yml").stat()
        assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
        await look(2)
    assert house.titles == ["Two"]


async def test_what_changes_while_it_is_read_is_read_again(folder):
    """The set in force is never older than what has been lying there for two looks."""
    fresh = iter(["Two", "Three"])

    def read() -> Rulebook:
        book = load([folder], shipped=False)
        if event := next(fresh, None):
            (folder / "one.yml").write_text(rule(event, f"Called {event}"))
        return book

    house = House(folder, read)
    async with watching(house) as look:
        await look(2)
        assert house.titles == ["Called Two"]
        await look(2)
        assert house.titles == ["Called Three"]
        await look(3)
    assert house.reloads("ok") == 2


# Refusals.


async def test_a_set_with_faults_is_refused_whole_until_it_is_mended(folder):
    """The old rules stay, good new ones beside the faulty are not taken, each fault is logged with file and line, and the gauge says so."""
    house = House(folder)
    old = house.rules.book
    async with watching(house) as look:
        (folder / "two.yml").write_text(rule("Two"))
        (folder / "broken.yml").write_text(f"{BROKEN}---\n{BROKEN.replace('Broken', 'Also broken')}")
        await look(2)
        assert house.rules.book is old
        assert (house.refused, house.reloads("refused"), sample(house.metrics, "rules")) == (1, 1, 1)
        faults = [(fault["file"], fault["line"], fault["log_level"]) for fault in house.told("rule_fault")]
        assert len(faults) == house.told("rules_refused")[0]["faults"] >= 2
        assert {(file, level) for file, _, level in faults} == {(str(folder / "broken.yml"), "error")}
        assert {line > 4 for _, line, _ in faults} == {True, False}, "one in each document"
        assert all(fault["detail"] for fault in house.told("rule_fault"))
        await look(3)
        assert house.reloads("refused") == 1, "what has not changed is not tried again"
        (folder / "broken.yml").write_text(rule("Mended"))
        await look(2)
    assert house.titles == ["Mended", "One", "Two"]
    assert (house.refused, house.reloads("ok")) == (0, 1)


async def test_a_set_that_is_put_back_is_taken(folder):
    """Undoing the change that was refused ends the refusal, even when all is as it was at first."""
    house = House(folder)
    async with watching(house) as look:
        (folder / "broken.yml").write_text(BROKEN)
        await look(2)
        assert house.refused == 1
        (folder / "broken.yml").unlink()
        await look(2)
    assert (house.refused, house.titles) == (0, ["One"])


async def test_a_folder_that_vanishes_is_a_fault_of_the_set(folder):
    """The rules stay, the fault names the folder, and its return is taken up."""
    house = House(folder)
    async with watching(house) as look:
        folder.rename(folder.with_name("away"))
        await look(2)
        assert (house.titles, house.refused) == (["One"], 1)
        assert [fault["file"] for fault in house.told("rule_fault")] == [str(folder)]
        folder.with_name("away").rename(folder)
        await look(2)
    assert (house.titles, house.refused) == (["One"], 0)


async def test_a_link_to_nothing_is_a_fault_of_the_set(folder):
    """A file that is listed and cannot be read: the rules stay, and the fault names it."""
    house = House(folder)
    async with watching(house) as look:
        (folder / "two.yml").symlink_to("not-there.yml")
        await look(2)
    assert (house.titles, house.refused) == (["One"], 1)
    assert [fault["file"] for fault in house.told("rule_fault")] == [str(folder / "two.yml")]


async def test_a_link_to_itself_is_a_fault_of_the_set(folder):
    """The watch survives what cannot even be followed, and takes up what comes after it."""
    house = House(folder)
    async with watching(house) as look:
        (folder / "two.yml").symlink_to("two.yml")
        await look(2)
        assert (house.titles, house.refused) == (["One"], 1)
        (folder / "two.yml").unlink()
        await look(2)
    assert house.refused == 0


async def test_whatever_loading_raises_the_rules_stay(folder):
    """A defect of ours, too, is a refusal, told in the log."""
    failing = False

    def read() -> Rulebook:
        if failing:
            raise ZeroDivisionError("of ours")
        return load([folder], shipped=False)

    house = House(folder, read)
    failing = True
    await house.rules.reload()
    assert (house.titles, house.refused) == (["One"], 1)
    assert "ZeroDivisionError: of ours" in house.told("rule_fault")[0]["detail"]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["good", "other", "broken", "half", "gone", "link"]), min_size=1, max_size=6))
def test_after_any_changes_the_rules_are_the_last_good_set_that_stayed(tmp_path_factory, changes):
    """Whatever happens to a folder: what lay there unchanged for two looks is in force if it loads, and else what was in force before."""
    folder = tmp_path_factory.mktemp("rules")
    path = folder / "rule.yml"
    path.write_text(rule("First"))

    async def story() -> None:
        house = House(folder)
        expected = ["First"]
        async with watching(house) as look:
            for number, change in enumerate(changes):
                path.unlink(missing_ok=True)
                if change == "link":
                    path.symlink_to("rule.yml")
                elif change != "gone":
                    whole = rule(f"{change}{number}")
                    path.write_text({"broken": BROKEN, "half": whole[: len(whole) // 2]}.get(change, whole))
                await look(2)
                if change in ("good", "other", "gone"):
                    expected = [] if change == "gone" else [f"{change}{number}"]
                assert house.titles == expected
                assert house.refused == (change in ("broken", "half", "link"))

    asyncio.run(story())


# On request.


@asynccontextmanager
async def asked(house: House) -> AsyncIterator[asyncio.Event]:
    event = asyncio.Event()
    waiting = asyncio.create_task(house.rules.reload_when(event))
    try:
        yield event
    finally:
        assert not waiting.done(), waiting
        waiting.cancel()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.001)


async def test_who_asks_has_the_rules_read_at_once(folder):
    """Without a look, also where nothing is watched and nothing has changed."""
    house = House(folder, watched=())
    old = house.rules.book
    async with asked(house) as event:
        event.set()
        await until(lambda: house.reloads("ok") == 1)
        assert house.rules.book is not old
        event.set()
        await until(lambda: house.reloads("ok") == 2)


async def test_what_was_asked_for_is_not_read_again_by_the_watch(folder):
    """A reload on request counts for the watch too."""
    house = House(folder)
    async with watching(house) as look:
        (folder / "two.yml").write_text(rule("Two"))
        await house.rules.reload()
        await look(3)
    assert (house.titles, house.reloads("ok")) == (["One", "Two"], 1)


async def test_who_asks_while_the_rules_are_read_has_them_read_once_more(folder):
    """However often: the last one who asked sees what was there when they asked. Meanwhile the loop goes on and the old book is in force."""
    gate, reads = threading.Event(), 0
    gate.set()

    def read() -> Rulebook:
        nonlocal reads
        book = load([folder], shipped=False)
        reads += 1
        assert gate.wait(PATIENCE_SECONDS)
        return book

    house = House(folder, read)
    old = house.rules.book
    gate.clear()
    async with asked(house) as event:
        event.set()
        await until(lambda: reads == 2)
        (folder / "two.yml").write_text(rule("Two"))
        for _ in range(3):
            event.set()
            await asyncio.sleep(0)
        assert house.rules.book is old
        gate.set()
        await until(lambda: house.titles == ["One", "Two"])
        assert (reads, house.reloads("ok")) == (3, 2)


# At work.


async def test_no_message_is_dropped_while_rules_are_exchanged(folder):
    """200 messages through service, pipeline and store, over two reloads and a refusal: each is worked once and deleted.

    It is told by the rules that were in force when it was begun, for both of its records.
    """
    (folder / "one.yml").write_text(rule("DeleteInstanceProfile", "One"))
    house, queue, sink, store = House(folder), MemoryQueue(), MemorySink(), await SqliteStore.open(":memory:")
    begun: dict[str, frozenset[str]] = {}

    @asynccontextmanager
    async def fetch(notice: Notice) -> AsyncIterator[LogObject]:
        begun[notice.key] = frozenset(house.titles)
        await asyncio.sleep(0.002)
        records = [deletion(f"{notice.key}-{half}") for half in ("a", "b")]
        yield LogObject(notice, gzip.compress(orjson.dumps({"Records": records})))

    async def investigate(finding: Finding) -> EnrichedFinding:
        await asyncio.sleep(0.002)
        return EnrichedFinding(finding)

    pipeline = Pipeline(
        Parts(
            rules=lambda: house.rules.book,
            correlator=Correlator(store, lambda: NOON, house.metrics, timedelta(hours=1)),
            fetch=fetch,
            fetch_fault=ObjectError,
            investigate=investigate,
            profile_interest=profile.INTEREST,
            profile_events=profile.events_of,
            own_interest=calls.INTEREST,
            own_records=OwnRecords(store, house.metrics, lambda: NOON, "one").among,
            store=store,
            outbox=Outbox([sink], store, house.metrics, lambda: NOON, "one"),
            finding_sinks=lambda _: (sink,),
            task_sinks=(),
            metrics=house.metrics,
            clock=lambda: NOON,
            owner="one",
            bounds=Bounds(1_000_000, 100_000),
            inflated=Budget(1_000_000),
            lease=timedelta(seconds=30),
            update_seconds=0.0,
        )
    )
    service = Service(
        queue, pipeline, concurrency=8, grace_seconds=5, metrics=house.metrics, clock=lambda: datetime.now(UTC), chance=random.Random(7)
    )
    for number in range(200):
        bucket_and_key = {"bucket": {"name": "logs"}, "object": {"key": f"{number:03}"}}
        await queue.put(json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": bucket_and_key}]}))
    stop = asyncio.Event()
    life = asyncio.create_task(service.run(stop))
    for done, name, text in (
        (40, "two.yml", rule("DeleteInstanceProfile", "Two")),
        (80, "broken.yml", BROKEN),
        (120, "broken.yml", rule("DeleteInstanceProfile", "Three")),
    ):
        await until(lambda: len(queue.deleted) >= done)  # noqa: B023  # awaited here and now
        (folder / name).write_text(text)
        await house.rules.reload()
    await until(lambda: not queue.held)
    stop.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await life
    await store.close()
    assert (house.reloads("ok"), house.reloads("refused")) == (2, 1)
    assert (len(queue.deleted), queue.dead, len(house.told("message_left"))) == (200, [], 0)
    assert set(begun.values()) == {frozenset({"One"}), frozenset({"One", "Two"}), frozenset({"One", "Two", "Three"})}
    told = Counter((finding["event"]["id"], finding["rule"]["title"]) for finding in map(orjson.loads, (item.body for item in sink.taken)))
    assert told == Counter((f"{key}-{half}", title) for key, titles in begun.items() for half in ("a", "b") for title in titles)


def deletion(event_id: str) -> dict[str, object]:
    return {
        "eventSource": "iam.amazonaws.com",
        "eventName": "DeleteInstanceProfile",
        "eventID": event_id,
        "eventTime": "2026-11-23T11:59:00Z",
        "requestParameters": {"instanceProfileName": event_id},
    }


# Looking.


def test_a_look_does_not_raise(tmp_path):
    """Folders and links that lead nowhere are part of the answer."""
    (tmp_path / "loop").symlink_to("loop")
    assert on_disk([tmp_path / "loop"])
    assert on_disk([tmp_path / "nothing"]) == on_disk([tmp_path / "nothing"])
    assert on_disk([]) == frozenset()
