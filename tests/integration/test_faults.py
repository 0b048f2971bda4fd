"""Faults of every kind: nothing is deleted unread, nothing good is lost beside something bad, and nothing is dispatched twice."""

from __future__ import annotations

import gzip
import json
import signal
from collections import Counter

import orjson

from tests.conftest import PATIENCE_SECONDS
from tests.integration.conftest import ACCOUNT, deletion, log_file, log_key, until, until_true

GOOD = [deletion(f"good-{number}") for number in range(8)]
BAD_OBJECTS: dict[str, tuple[bytes, str, list[str]]] = {
    "no bytes": (b"", "empty", []),
    "neither gzip nor JSON": (b"hello", "not-gzip", []),
    "truncated gzip": (log_file(GOOD[0])[:-12], "truncated-gzip", []),
    "truncated after its records": (log_file(GOOD[1])[:-8], "truncated-gzip", ["good-1"]),
    "bomb": (gzip.compress(b'{"Records":[' + b" " * 3_000_000), "too-large", []),
    "invalid JSON": (gzip.compress(b'{"Records": [' + json.dumps(GOOD[2]).encode() + b", {]}"), "invalid-json", ["good-2"]),
    "Records is no list": (gzip.compress(b'{"Records": {}}'), "records-not-a-list", []),
    "record is no object": (log_file(GOOD[3], 7), "record-not-an-object", ["good-3"]),
    "record without eventName": (log_file(GOOD[4], {"a": 1}), "record-without-event-name", ["good-4"]),
}
BAD_MESSAGES = {
    "rubbish": "notice-not-json",
    '{"what": "is this"}': "notice-unknown",
    json.dumps({"s3Bucket": "logs", "s3ObjectKey": [log_key("not-there")]}): "object-missing",
}


async def test_every_bad_input_is_told_counted_and_redriven(estate):
    """Each reaches the dead-letter queue with its reason and place in the log, and every good record beside it is found, once."""
    for name, (body, _, _) in BAD_OBJECTS.items():
        estate.notify(estate.put(name, body))
    for message in BAD_MESSAGES:
        estate.send(message)
    async with estate.worker(TRAILMEND_MAX_INFLATED_BYTES="2000000"):
        await until_true(lambda: estate.depth(estate.dead) == len(BAD_OBJECTS) + len(BAD_MESSAGES))
    assert estate.depth(estate.queue) == 0
    assert estate.found() == sorted(good for _, _, found in BAD_OBJECTS.values() for good in found)
    told = [orjson.loads(line) for line in (estate.folder / "worker.log").read_text().splitlines()]
    faults = [one for one in told if one["event"] == "fault"]
    assert all(one["detail"] for one in faults)
    for name, (_, reason, _) in BAD_OBJECTS.items():
        assert {one["reason"] for one in faults if one.get("key") == log_key(name)} == {reason}, name
    in_messages = {one["reason"] for one in faults if "key" not in one}
    assert in_messages >= {"notice-not-json", "notice-unknown"}
    assert {one["reason"] for one in faults if one.get("key") == log_key("not-there")} == {"object-missing"}
    assert set(estate.bodies(estate.dead)) >= BAD_MESSAGES.keys()


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
    until(lambda: len(estate.findings()) >= 30)
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE_SECONDS) == 0
    between = len(estate.findings())
    assert 30 <= between < 200
    second = estate.process()
    until(lambda: len(estate.found()) >= 200 and estate.depth(estate.queue) == 0)
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_SECONDS) == 0
    assert estate.found() == names
    assert len(estate.found_together()) == 1  # two hundred deletions by one principal within a second
    assert estate.depth(estate.dead) == 0
    tasks = task_ids(estate)
    assert (len(tasks), set(tasks.values())) == (200, {1})


def test_kill_9_in_the_middle_loses_nothing(estate):
    """Killed outright: what was in hand comes back when its visibility ends, and no finding is lost."""
    estate.patience(10)
    names = fill(estate, 60)
    short = {
        "TRAILMEND_VISIBILITY_TIMEOUT_SECONDS": "3",
        "TRAILMEND_ENRICH_DEADLINE_SECONDS": "0.5",
        "TRAILMEND_UPDATE_SECONDS": "0",
    }
    first = estate.process(**short)
    until(lambda: len(estate.findings()) >= 10)
    first.kill()
    first.wait(PATIENCE_SECONDS)
    second = estate.process(**short)
    until(lambda: set(estate.found()) == set(names) and estate.depth(estate.queue) == 0)
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_SECONDS) == 0
    assert estate.depth(estate.dead) == 0
    assert set(task_ids(estate).values()) <= {1, 2}


def test_a_second_signal_ends_it_at_once(estate):
    """Whoever presses Ctrl-C twice does not wait for the grace."""
    worker = estate.process()
    until(lambda: "started" in (estate.folder / "worker.log").read_text())
    worker.send_signal(signal.SIGINT)
    until(lambda: "stopping" in (estate.folder / "worker.log").read_text())
    worker.send_signal(signal.SIGINT)
    assert worker.wait(10) in (0, 128 + signal.SIGINT)
