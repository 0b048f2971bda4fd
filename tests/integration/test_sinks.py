"""Sinks that are down and come up again, under the whole worker: no message waits for them, nothing is lost and nothing comes twice."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import boto3

from tests.conftest import free_port
from tests.dispatch.receiver import receiving, verify
from tests.integration.conftest import deletion, log_file, until, until_true
from worker.dispatch import outbox

SECRET = "0123456789abcdefghijklmn"
RULE = """
title: The crown's profile deleted
id: 3f1c9d5e-0a54-4b57-9c8e-1f0a6f2f7b11
logsource: {product: aws, service: cloudtrail}
detection:
  crown: {eventSource: iam.amazonaws.com, eventName: DeleteInstanceProfile, requestParameters.instanceProfileName: crown}
  condition: crown
level: critical
"""


async def test_a_webhook_that_is_down_while_fifty_findings_pass_has_them_all_once_when_it_is_up(estate, monkeypatch):
    """The queue is empty and the file complete while it is down; then every finding comes, signed, under its own id, and once."""
    monkeypatch.setattr(outbox, "DRAIN_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(outbox, "FIRST_PAUSE", outbox.FIRST_PAUSE / 100)
    monkeypatch.setattr(outbox, "LONGEST_PAUSE", outbox.FIRST_PAUSE)
    monkeypatch.setattr(outbox, "SHUT_FOR", outbox.SHUT_FOR / 100)
    names = [f"profile-{number:02}" for number in range(50)]
    for name in names:
        estate.notify(estate.put(name, log_file(deletion(name))))
    async with receiving() as receiver:
        receiver.down = True
        more = {
            "TRAILMEND_FINDING_SINKS": f"file://{estate.findings_file}, hook=webhook+{receiver.url}",
            "TRAILMEND_WEBHOOK_SECRET": SECRET,
        }
        async with estate.worker(**more):
            await until_true(lambda: estate.depth(estate.queue) == 0 and len(estate.found()) == 50)
            assert receiver.taken == []
            receiver.down = False
            await until_true(lambda: len(receiver.taken) >= len(estate.findings()))
    told = Counter(headers["webhook-id"] for headers, _ in receiver.taken)
    assert set(told.values()) == {1}
    assert told.keys() == {finding["id"] for finding in estate.findings()}
    assert all(verify(SECRET.encode(), headers, body) for headers, body in receiver.taken)
    assert estate.depth(estate.dead) == 0


async def test_what_was_posted_by_one_worker_is_delivered_by_the_next(estate, monkeypatch):
    """The outbox outlives the process; the message that led to it is long gone."""
    monkeypatch.setattr(outbox, "DRAIN_EVERY_SECONDS", 0.1)
    estate.notify(estate.put("one", log_file(deletion("one"))))
    port = free_port()
    hook = {"TRAILMEND_FINDING_SINKS": f"webhook+http://127.0.0.1:{port}/hook", "TRAILMEND_WEBHOOK_SECRET": SECRET}
    async with estate.worker(**hook):
        await until_true(lambda: "delivery_posted" in (estate.folder / "worker.log").read_text() and estate.depth(estate.queue) == 0)
    async with receiving(port) as receiver, estate.worker(**hook):
        await until_true(lambda: len(receiver.taken) == 1)
    assert json.loads(receiver.taken[0][1])["subject"]["name"] == "one"
    assert len(estate.bodies(estate.tasks)) == 1


async def test_a_finding_goes_where_its_level_leads(estate):
    """A critical one to the topic too, anything lower to the file alone; tasks to a bus beside their queue."""
    rules = estate.folder / "rules"
    rules.mkdir()
    (rules / "named.yml").write_text(RULE)
    queues = {name: estate.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("pages", "asked")}
    topic = boto3.client("sns").create_topic(Name="pages")["TopicArn"]
    raw = {"RawMessageDelivery": "true"}
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=estate.arn("pages"), Attributes=raw)
    events = boto3.client("events")
    bus = events.create_event_bus(Name="tasks")["EventBusArn"]
    events.put_rule(Name="all", EventBusName="tasks", EventPattern=json.dumps({"detail-type": ["Trailmend Task"]}))
    target: Any = {"Id": "asked", "Arn": estate.arn("asked"), "InputPath": "$.detail"}
    events.put_targets(Rule="all", EventBusName="tasks", Targets=[target])
    estate.notify(estate.put("done", log_file(deletion("done"))))
    estate.notify(estate.put("crown", log_file(deletion("crown"))))
    more = {
        "TRAILMEND_FINDING_SINKS": f"archive=file://{estate.findings_file}, pages={topic}",
        "TRAILMEND_TASK_SINKS": bus,
        "TRAILMEND_ROUTES": "critical: pages, archive; high: archive; medium: archive; low: archive",
        "TRAILMEND_RULES_DIR": str(rules),
    }
    async with estate.worker(**more):
        await until_true(lambda: estate.depth(estate.queue) == 0 and len(estate.findings()) >= 3)
        until(lambda: estate.depth(queues["asked"]) == estate.depth(estate.tasks) > 0)
    levels = {finding["id"]: finding["level"] for finding in estate.findings()}
    paged = {json.loads(body)["id"] for body in estate.bodies(queues["pages"])}
    assert paged == {number for number, level in levels.items() if level == "critical"}
    assert 0 < len(paged) < len(levels)
    tasks = [json.loads(body)["id"] for body in estate.bodies(queues["asked"])]
    assert sorted(tasks) == sorted(json.loads(body)["id"] for body in estate.bodies(estate.tasks))
