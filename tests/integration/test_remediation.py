"""From the log of a deletion to the profile restored: worker, task queue and executor, as processes, on the embedded AWS."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from tests.conftest import PATIENCE_SECONDS, free_port
from tests.integration.conftest import deletion, log_file, until
from tests.remediate.world import task
from worker.signature import signed

TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
)


@pytest.fixture
def fleet(estate) -> str:
    """An instance that used the profile `web`, which has been deleted; the log of its life and end is on the queue."""
    iam, ec2 = boto3.client("iam"), boto3.client("ec2")
    iam.create_role(RoleName="web-role", AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName="web", Tags=[{"Key": "Owner", "Value": "team-web"}])
    iam.add_role_to_instance_profile(InstanceProfileName="web", RoleName="web-role")
    instance: str = ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "web"})["Instances"][0][
        "InstanceId"
    ]
    iam.remove_role_from_instance_profile(InstanceProfileName="web", RoleName="web-role")
    iam.delete_instance_profile(InstanceProfileName="web")

    def told(event: str, second: int, **parameters: object) -> dict[str, object]:
        named = {"instanceProfileName": "web", **parameters}
        return deletion(event, eventName=event, eventTime=f"2026-11-23T12:00:0{second}Z", requestParameters=named)

    records = [
        told("CreateInstanceProfile", 1, path="/", tags=[{"key": "Owner", "value": "team-web"}]),
        told("AddRoleToInstanceProfile", 2, roleName="web-role"),
        told("RemoveRoleFromInstanceProfile", 3, roleName="web-role"),
        told("DeleteInstanceProfile", 4),
    ]
    estate.notify(estate.put("life", log_file(*records)))
    return instance


def through(estate, mode: str, **more: str) -> None:
    """Lets the worker and then the executor work until both queues are empty."""
    # All facts at once: a task is made once, with the instances that are known then.
    worker = estate.process("run", TRAILMEND_UPDATE_SECONDS="0", TRAILMEND_ENRICH_DEADLINE_SECONDS="50", **more)
    until(lambda: estate.depth(estate.queue) == 0 and estate.depth(estate.tasks) > 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_SECONDS) == 0
    with executing(estate, TRAILMEND_REMEDIATION_MODE=mode, TRAILMEND_MAX_TASK_AGE_SECONDS=str(10**9), **more):  # the log is an old one
        until(lambda: estate.depth(estate.tasks) == 0)


@contextmanager
def executing(estate, **more: str) -> Iterator[str]:
    """The executor as a process while the context lasts; yields where it answers."""
    address = f"127.0.0.1:{free_port()}"
    executor = estate.process("remediate", TRAILMEND_HTTP_ADDRESS=address, **more)
    try:
        yield f"http://{address}"
    finally:
        executor.send_signal(signal.SIGTERM)
        assert executor.wait(PATIENCE_SECONDS) == 0


def asked(url: str) -> str:
    """What the executor answers; empty while it does not listen yet, or is not ready."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


@pytest.mark.parametrize("key", [{}, {"TRAILMEND_TASK_KEY": "a-secret-of-24-characters"}], ids=["unsigned", "signed"])
def test_in_auto_the_profile_is_restored_with_all_that_was_remembered(estate, fleet, key):
    """Role and tags are back, and the running instance is associated with the new profile; with a key the task is signed and checked."""
    through(estate, "auto", **key)
    profile = boto3.client("iam").get_instance_profile(InstanceProfileName="web")["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == ["web-role"]
    assert profile["Tags"] == [{"Key": "Owner", "Value": "team-web"}]
    associations = boto3.client("ec2").describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    assert [(one["InstanceId"], one["IamInstanceProfile"]["Id"]) for one in associations] == [(fleet, profile["InstanceProfileId"])]


def test_in_approve_people_are_told_and_the_profile_is_restored_once_one_agrees(estate, fleet):
    """They read what waits where findings go; `trailmend tasks approve` by somebody who is not the executor has it done."""
    worker = estate.process("run")
    until(lambda: estate.depth(estate.queue) == 0 and estate.depth(estate.tasks) > 0)
    modes = {"TRAILMEND_REMEDIATION_MODE": "shadow", "TRAILMEND_REMEDIATION_MODES": "*@000000000000=approve"}
    executor = estate.process("remediate", TRAILMEND_MAX_TASK_AGE_SECONDS=str(10**9), **modes)  # the log is an old one
    wanted = "restore-instance-profile"
    until(lambda: any(one.get("action") == wanted for one in estate.findings()))
    (told,) = [one for one in estate.findings() if one.get("action") == wanted]
    iam, sts = boto3.client("iam"), boto3.client("sts")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_instance_profile(InstanceProfileName="web")
    iam.create_role(RoleName="oncall", AssumeRolePolicyDocument=TRUST)
    keys = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/oncall", RoleSessionName="alice")["Credentials"]
    mine = {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"]}
    environment = {**os.environ, **estate.environment(), **mine, "AWS_SESSION_TOKEN": keys["SessionToken"]}
    command = [sys.executable, "-m", "worker", *told["commands"]["approve"].split()[1:], "--yes", "--why", "it is ours"]
    subprocess.run(command, env=environment, check=True, timeout=60)

    def restored() -> bool:
        held = boto3.client("ec2").describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
        profiles = {one["InstanceProfileId"] for one in iam.list_instance_profiles()["InstanceProfiles"] if one["Roles"]}
        return any(one["InstanceId"] == fleet and one["IamInstanceProfile"]["Id"] in profiles for one in held)

    until(restored)
    for process in (worker, executor):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_in_shadow_nothing_is_touched_and_the_plan_is_told(estate, fleet):
    """By default the executor says what it would do, and does none of it."""
    through(estate, "shadow")
    iam = boto3.client("iam")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_instance_profile(InstanceProfileName="web")
    told = [json.loads(line) for line in (estate.folder / "worker.log").read_text().splitlines()]
    assert any(one["event"] == "remediation" and one["outcome"] == "shadowed" for one in told)


def test_what_the_executor_did_is_no_finding_and_confirmed(estate, fleet):
    """CloudTrail's records of its calls, by the request ids that AWS answered, and of the same calls by somebody who only says to be us."""
    through(estate, "auto")
    with closing(sqlite3.connect(estate.folder / "state.db")) as state:
        lines = [json.loads(line) for (line,) in state.execute("SELECT line FROM journal ORDER BY number")]
    (applied,) = [line["body"] for line in lines if line["outcome"] == "applied"]
    ids = applied["request_ids"]
    assert len(ids) == len(applied["plan"]) == 3

    def told(request_id: str, number: int) -> dict[str, object]:
        named = {"eventName": "DeleteInstanceProfile", "eventID": request_id, "eventTime": f"2026-11-23T12:10:0{number}Z"}
        return deletion(f"profile-{request_id}", **named, requestID=request_id, userAgent="aiobotocore/3 trailmend")

    before = estate.found()
    claimed = ["claimed-1", "claimed-2"]
    estate.notify(estate.put("own", log_file(*(told(one, number) for number, one in enumerate([*ids, *claimed])))))
    worker = estate.process("run", TRAILMEND_UPDATE_SECONDS="0")
    until(lambda: estate.depth(estate.queue) == 0 and len(estate.found()) >= len(before) + len(claimed))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_SECONDS) == 0
    assert sorted(set(estate.found()) - set(before)) == [f"profile-{one}" for one in claimed]
    log = [json.loads(line) for line in (estate.folder / "worker.log").read_text().splitlines()]
    confirmed = [(one["request_id"], one["action"]) for one in log if one["event"] == "remediation_confirmed"]
    assert sorted(confirmed) == sorted((one, "restore-instance-profile") for one in ids)
    assert sorted(one["request_id"] for one in log if one["event"] == "own_record_unknown") == claimed


KEY = "a-secret-of-24-characters"


@pytest.fixture
def victims(estate) -> str:
    """Two users to be acted on, and a dead-letter queue behind the task queue; answers its URL."""
    for name in ("mallory", "bystander"):
        boto3.client("iam").create_user(UserName=name)
    dead: str = estate.sqs.create_queue(QueueName="dead-tasks")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": estate.arn("dead-tasks"), "maxReceiveCount": 5})
    estate.sqs.set_queue_attributes(QueueUrl=estate.tasks, Attributes={"RedrivePolicy": redrive})
    return dead


def held() -> list[str]:
    """The users who have a policy of ours."""
    iam = boto3.client("iam")
    return [name for name in ("mallory", "bystander") if iam.list_user_policies(UserName=name)["PolicyNames"]]


def test_forged_messages_are_quarantined_and_touch_nobody(estate, victims):
    """Nine that are no task of ours beside a true one that comes twice: each is on the dead-letter queue, and the true one alone is done, once."""
    now = datetime.now(UTC)

    def asked_for(user: str) -> dict[str, object]:
        return task("enforce-mfa", "user", user, created_at=now)

    true = signed(asked_for("mallory"), [KEY.encode()])
    forged: dict[str, list[Any]] = {
        "unsigned": [asked_for("bystander")],
        "wrong-signature": [
            signed(asked_for("bystander"), [b"a-secret-that-nobody-here-has"]),
            {**true, "action": "quarantine-user"},
            {**true, "created_at": (now + timedelta(seconds=1)).isoformat()},
        ],
        "wrong-schema": [signed({**asked_for("bystander"), "approved": True}, [KEY.encode()]), None],
        "unsupported": [signed({**asked_for("bystander"), "finding": asked_for("mallory")["finding"]}, [KEY.encode()])],
        "wrong-id": [signed({**asked_for("bystander"), "id": true["id"]}, [KEY.encode()])],
        "not-json": ["{"],
    }
    sent = {(reason, body if isinstance(body, str) else json.dumps(body)) for reason, bodies in forged.items() for body in bodies}
    old = signed(task("enforce-mfa", "user", "bystander", created_at=now, happened_at=now - timedelta(days=30)), [KEY.encode()])
    for body in (*(text for _, text in sorted(sent)), json.dumps(old), json.dumps(true)):
        estate.sqs.send_message(QueueUrl=estate.tasks, MessageBody=body)
    with executing(estate, TRAILMEND_REMEDIATION_MODE="auto", TRAILMEND_TASK_KEY=KEY) as url:
        until(lambda: estate.depth(estate.tasks) == 0)
        estate.sqs.send_message(QueueUrl=estate.tasks, MessageBody=json.dumps(true))  # replayed
        until(lambda: estate.depth(estate.tasks) == 0)
        metrics = asked(f"{url}/metrics")
    letters = set()
    while told := estate.sqs.receive_message(QueueUrl=victims, MaxNumberOfMessages=10, MessageAttributeNames=["All"]).get("Messages"):
        letters |= {(one["MessageAttributes"]["trailmend-refused"]["StringValue"], one["Body"]) for one in told}
    assert letters == sent
    assert held() == ["mallory"]
    for reason, bodies in forged.items():
        assert f'trailmend_tasks_refused_total{{reason="{reason}"}} {len(bodies)}.0' in metrics
    assert f'trailmend_tasks_quarantined_total{{outcome="quarantined"}} {len(sent)}.0' in metrics
    assert 'trailmend_remediations_total{action="enforce-mfa",outcome="shadowed"} 1.0' in metrics
    assert 'trailmend_remediations_total{action="enforce-mfa",outcome="duplicate"} 1.0' in metrics


def test_while_there_is_a_stop_tasks_stay_on_their_queue(estate, victims):
    """It is ready and says why it does nothing; no message is received; and when the file is gone, the task is done."""
    stop = estate.folder / "stop"
    stop.touch()
    estate.sqs.send_message(
        QueueUrl=estate.tasks, MessageBody=json.dumps(task("enforce-mfa", "user", "mallory", created_at=datetime.now(UTC)))
    )
    with executing(estate, TRAILMEND_REMEDIATION_MODE="auto", TRAILMEND_STOP_FILE=str(stop)) as url:
        until(lambda: "nothing is received from the tasks queue" in asked(f"{url}/readyz"))
        assert "trailmend_remediation_stopped 1.0" in asked(f"{url}/metrics")
        states = estate.sqs.get_queue_attributes(QueueUrl=estate.tasks, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
        assert states == {"ApproximateNumberOfMessages": "1"}
        assert held() == []
        stop.unlink()
        until(lambda: estate.depth(estate.tasks) == 0)
        assert "trailmend_remediation_stopped 0.0" in asked(f"{url}/metrics")
    assert held() == ["mallory"]
