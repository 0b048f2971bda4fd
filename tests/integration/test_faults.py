"""Faults of every kind: nothing is deleted unread, nothing good is lost beside something bad, and nothing is dispatched twice."""

from __future__ import annotations

import gzip
import json
import signal
from collections import Counter

import orjson
import pytest

from tests.integration.conftest import ACCOUNT, deletion, log_file, log_key, until, until_true

BOMB = gzip.compress(b'{"Records":[' + b" " * 3_000_000)
GOOD = deletion("good")


@pytest.mark.parametrize(
    ("body", "reason", "found"),
    [
        pytest.param(b"", "empty", [], id="no bytes"),
        pytest.param(b"hello", "not-gzip", [], id="neither gzip nor JSON"),
        pytest.param(log_file(GOOD)[:-12], "truncated-gzip", [], id="truncated gzip"),
        pytest.param(
            log_file(GOOD, GOOD | {"eventID": "x" * 4000})[:-8], "truncated-gzip", ["good", "good"], id="truncated after the records"
        ),
        pytest.param(BOMB, "too-large", [], id="bomb"),
        pytest.param(gzip.compress(b'{"Records": [' + json.dumps(GOOD).encode() + b", {]}"), "invalid-json", ["good"], id="invalid JSON"),
        pytest.param(gzip.compress(b'{"Records": {}}'), "records-not-a-list", [], id="Records is no list"),
        pytest.param(log_file(GOOD, 7), "record-not-an-object", ["good"], id="record is no object"),
        pytest.param(log_file(GOOD, {"a": 1}), "record-without-event-name", ["good"], id="record without eventName"),
    ],
)
async def test_a_bad_object_is_told_counted_and_redriven(estate, body, reason, found):
    """A bad object reaches the dead-letter queue with its reason in the log, and every good record in it is found once."""
    estate.notify(estate.put("bad", body))
    async with estate.worker(TRAILMEND_MAX_INFLATED_BYTES="2000000"):
        await until_true(lambda: estate.depth(estate.dead) == 1, 60)
    assert estate.found() == found
    told = [orjson.loads(line) for line in (estate.folder / "worker.log").read_text().splitlines()]
    faults = [one for one in told if one["event"] == "fault"]
    assert {one["reason"] for one in faults} == {reason}
    assert all(one["detail"] for one in faults)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("rubbish", "notice-not-json"),
        ('{"what": "is this"}', "notice-unknown"),
        (json.dumps({"s3Bucket": "logs", "s3ObjectKey": [log_key("not-there")]}), "object-missing"),
    ],
)
async def test_a_bad_message_is_told_counted_and_redriven(estate, body, reason):
    """A message that is understood by nobody, or names an object that is not there, is never deleted unread."""
    estate.send(body)
    async with estate.worker():
        await until_true(lambda: estate.depth(estate.dead) == 1, 60)
    assert estate.bodies(estate.dead) == [body]
    assert reason in (estate.folder / "worker.log").read_text()


async def test_what_is_no_log_is_skipped_and_deleted(estate):
    """Digests, insights, folder markers and test events leave the queue, and nothing is redriven."""
    for key in (
        log_key("x").replace("/CloudTrail/", "/CloudTrail-Digest/"),
        log_key("x").replace("/CloudTrail/", "/CloudTrail-Insight/"),
        f"AWSLogs/{ACCOUNT}/",
    ):
        estate.notify(key)
    estate.send({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"})
    async with estate.worker():
        await until_true(lambda: estate.depth(estate.queue) == 0)
    assert estate.depth(estate.dead) == 0


def fill(estate, count: int) -> list[str]:
    names = [f"profile-{number:03}" for number in range(count)]
    for name in names:
        estate.notify(estate.put(name, log_file(deletion(name))))
    return names


def task_ids(estate) -> Counter[str]:
    return Counter(json.loads(body)["id"] for body in estate.bodies(estate.tasks))


def test_sigterm_in_the_middle_loses_nothing_and_doubles_nothing(estate):
    """Stopped with SIGTERM in the middle of 200 objects: exit 0, and over two runs every finding is dispatched exactly once."""
    names = fill(estate, 200)
    first = estate.process()
    until(lambda: len(estate.findings()) >= 30, 60)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    between = len(estate.findings())
    assert 30 <= between < 200
    second = estate.process()
    until(lambda: len(estate.findings()) >= 200 and estate.depth(estate.queue) == 0, 90)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    assert estate.found() == names
    assert estate.depth(estate.dead) == 0
    tasks = task_ids(estate)
    assert (len(tasks), set(tasks.values())) == (200, {1})


def test_kill_9_in_the_middle_loses_nothing(estate):
    """Killed outright: what was in hand comes back when its visibility ends, and no finding is lost."""
    estate.patience(10)
    names = fill(estate, 60)
    short = {"TRAILMEND_VISIBILITY_TIMEOUT_SECONDS": "3", "TRAILMEND_ENRICH_DEADLINE_SECONDS": "0.5"}
    first = estate.process(**short)
    until(lambda: len(estate.findings()) >= 10, 60)
    first.kill()
    first.wait(10)
    second = estate.process(**short)
    until(lambda: set(estate.found()) == set(names) and estate.depth(estate.queue) == 0, 90)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    assert estate.depth(estate.dead) == 0
    assert set(task_ids(estate).values()) <= {1, 2}


def test_a_second_signal_ends_it_at_once(estate):
    """Whoever presses Ctrl-C twice does not wait for the grace."""
    worker = estate.process()
    until(lambda: "started" in (estate.folder / "worker.log").read_text(), 30)
    worker.send_signal(signal.SIGINT)
    until(lambda: "stopping" in (estate.folder / "worker.log").read_text(), 30)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(10) in (0, 128 + signal.SIGINT)
