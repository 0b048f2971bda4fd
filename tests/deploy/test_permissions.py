"""Who may do what in the deployed stack: the trail, the bucket, the worker and the executor, each no more than it needs."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name
from cfnlint.decode import decode

from tests.everything import AROUND, ENVIRONMENT, granted
from worker.addresses import Place
from worker.aws import Accounts, session
from worker.least_policy import least
from worker.model import JournalEntry
from worker.modes import Lock
from worker.remediate.archive import Archive
from worker.remediate.export import Export
from worker.roles import Role
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import Claim

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "000000000000"
BUCKET = f"trailmend-{ACCOUNT}-us-east-1"
TRAIL = "arn:aws:cloudtrail:us-east-1:{}:trail/{}"
READING = ("Get", "List", "Describe", "Lookup", "GenerateCredentialReport")
"""How actions that change nothing begin; one has IAM draw up what it has."""
WITHOUT_RESOURCE = {"iam:DeleteAccountPasswordPolicy", "iam:UpdateAccountPasswordPolicy"}
"""What IAM knows no resource for: an account has one password policy."""
ASKED = ("iam", "ec2", "cloudtrail", "organizations", "autoscaling", "batch", "elasticbeanstalk")
"""The services that facts are asked of."""


def deploy(name: str = "trailmend", **parameters: str) -> Mapping[str, str]:
    """Deploy a template as a stack of its own name; answers its outputs."""
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(ROOT / "deploy" / "cloudformation" / f"{name}.yaml").read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (told,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in told["Outputs"]}


def document(told: Any) -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads(told) if isinstance(told, str) else told
    return read


def policy(name: str) -> Mapping[str, Any]:
    """A managed policy of a template with every optional statement in it.

    Read from the file, because MiniStack makes a template's managed policies and cannot tell them again (GetPolicyVersion fails).
    """
    read, faults = decode(str(ROOT / "deploy" / "cloudformation" / "trailmend.yaml"))
    assert read is not None, faults
    policy = document(json.dumps(read["Resources"][name]["Properties"]["PolicyDocument"]))
    return {"Statement": [one["Fn::If"][1] if "Fn::If" in one else one for one in policy["Statement"]]}


def attribute(url: str, name: Any) -> str:
    return boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]


def bucket_policy(bucket: str = BUCKET) -> Mapping[str, Any]:
    return document(boto3.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])


def statement(policy: Mapping[str, Any], sid: str) -> Mapping[str, Any]:
    (found,) = [one for one in policy["Statement"] if one.get("Sid") == sid]
    return document(found)


def actions(policy: Mapping[str, Any], *services: str) -> set[str]:
    """The allowed actions of some services."""
    told = [one["Action"] for one in policy["Statement"]]
    every = {action for one in told for action in ([one] if isinstance(one, str) else one)}
    return {action for action in every if action.split(":")[0] in services}


def calls(service: str, folder: str, spellings: Callable[[str], Sequence[str]] = lambda name: [xform_name(name)]) -> set[str]:
    """The actions of a service that the code of a folder of `worker` names, as a method of a client or in the spellings given."""
    names = botocore.session.get_session().get_service_model(service).operation_names
    spelt = {word: f"{service}:{name}" for name in names for word in spellings(name)}
    return {spelt[word] for word in words(ROOT / "worker" / folder) if word in spelt}


def in_a_step(name: str) -> Sequence[str]:
    """As a method that reads, or as a step's name that AWS spells."""
    return [name, xform_name(name)]


def words(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Attribute):
                yield node.attr


def test_the_worker_may_make_the_calls_it_makes_and_no_others() -> None:
    """Its actions of each service that facts are asked of are those that they ask; it sends to the task queue and never reads it."""
    worker = policy("WorkerPolicy")
    assert actions(worker, *ASKED) == set().union(*(calls(service, "enrich") for service in ASKED))
    assert actions(worker, "s3") == {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"}
    on_tasks = [one["Action"] for one in worker["Statement"] if "TaskQueue" in json.dumps(one["Resource"])]
    assert on_tasks == ["sqs:SendMessage"]


def test_the_worker_may_tell_the_sinks_that_are_named_and_do_nothing_else_there() -> None:
    """One action for each kind of sink, on the one that a parameter names; without it, none."""
    told = {
        one["Resource"]["Ref"]: one["Action"]
        for one in policy("WorkerPolicy")["Statement"]
        if "Ref" in one["Resource"] and "Sink" in json.dumps(one)
    }
    assert told == {
        "SinkQueueArn": "sqs:SendMessage",
        "SinkTopicArn": "sns:Publish",
        "SinkEventBusArn": "events:PutEvents",
        "SinkStateMachineArn": "states:StartExecution",
    }


def test_the_executor_may_make_the_calls_it_makes_and_no_others() -> None:
    """Its IAM and EC2 actions are those of the actions, and what AWS demands beside CreateInstanceProfile with tags and AddRole."""
    executor = policy("ExecutorPolicy")
    demanded = {"iam:TagInstanceProfile", "iam:PassRole"}
    inline = {f"iam:{verb}{kind}Policy" for verb in ("Put", "Delete") for kind in ("User", "Role")}
    named = calls("iam", "remediate", in_a_step) | calls("ec2", "remediate", in_a_step)
    by_hand = {"iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "iam:DeleteVirtualMFADevice"}
    assert actions(executor, "iam", "ec2") == (named - by_hand) | demanded | inline
    assert statement(executor, "PassRolesToEc2")["Condition"] == {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}}


def every_action(told: Any) -> set[str]:
    """The actions in a policy, or in any number of them, conditional ones too."""
    if isinstance(told, list):
        return set().union(*map(every_action, told))
    if not isinstance(told, dict):
        return set()
    named = told.get("Action", ())
    return {*([named] if isinstance(named, str) else named)}.union(*map(every_action, told.values()))


def test_the_templates_allow_what_the_policy_command_prints() -> None:
    """With everything enabled, the same actions for worker and executor, and in member accounts for both: to look, and to mend as well."""
    assert every_action(policy("WorkerPolicy")) == granted(Role.WORKER)
    assert every_action(policy("ExecutorPolicy")) == granted(Role.EXECUTOR)
    read, faults = decode(str(ROOT / "deploy" / "cloudformation" / "member-role.yaml"))
    assert read is not None, faults
    look, mend = json.loads(json.dumps(read["Resources"]["MemberRole"]["Properties"]["Policies"]))
    shadow = Settings.from_environment({**ENVIRONMENT, "TRAILMEND_REMEDIATION_MODE": "shadow"})
    looking = every_action(list(least(Role.MEMBER_EXECUTOR, shadow, AROUND).documents)) | granted(Role.MEMBER_WORKER)
    assert every_action(look) == looking
    assert every_action([look, mend["Fn::If"]]) == granted(Role.MEMBER_WORKER) | granted(Role.MEMBER_EXECUTOR)


async def test_the_journal_bucket_is_one_that_the_export_can_lock_its_objects_in(embedded_aws: str) -> None:
    """A journal is exported to the bucket that JournalBucketName makes; the executor's policy allows the calls that takes, and no others there.

    That the bucket has Object Lock is read from the file, because MiniStack makes a template's bucket without it.
    """
    deploy(JournalBucketName="trailmend-journal")
    place = Place("trailmend-journal", "")
    store = await open_store("sqlite:///:memory:", None)
    await store.append(JournalEntry("task", datetime(2026, 1, 2, tzinfo=UTC), "started", {}))
    async with Accounts(session({"AWS_REGION": "us-east-1"}), Settings()) as accounts:
        archive = Archive(accounts, place, Lock.NONE)
        assert await Export(store, archive, timedelta(days=1), lambda: datetime.now(UTC)).once() == 1
        assert [one.versions for one in await archive.kept()] == [1]
    await store.close()
    read, faults = decode(str(ROOT / "deploy" / "cloudformation" / "trailmend.yaml"))
    assert read is not None, faults
    assert read["Resources"]["JournalBucket"]["Properties"]["ObjectLockEnabled"] is True
    once = statement(bucket_policy(place.bucket), "WrittenOnce")
    assert (once["Effect"], once["Action"], once["Condition"]) == ("Deny", "s3:PutObject", {"Null": {"s3:if-none-match": "true"}})
    executor = policy("ExecutorPolicy")
    written = {"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:PutObjectRetention"}
    assert set(statement(executor, "ExportJournal")["Action"]) == written
    assert actions(executor, "s3") == {*written, "s3:ListBucket", "s3:ListBucketVersions"}


def test_the_executor_may_quarantine_and_heed_a_stop_and_no_more_of_either() -> None:
    """It sends to the dead-letter queue of tasks and to a sink that is named, learns where the former is, and reads the one parameter that is named."""
    executor = policy("ExecutorPolicy")
    assert actions(executor, "ssm") == {"ssm:GetParameter"}
    assert statement(executor, "HeedTheStop")["Resource"]["Fn::Sub"].endswith(":parameter${StopParameterName}")
    sending = [one["Resource"] for one in executor["Statement"] if "sqs:SendMessage" in one["Action"]]
    assert sending == [{"Ref": "SinkQueueArn"}, {"Fn::GetAtt": ["TaskDeadLetterQueue", "Arn"]}]
    assert statement(executor, "WatchDeadLetters")["Action"] == ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"]


def test_every_thing_may_be_read_and_none_changed(embedded_aws: str) -> None:
    """No allowed action has a wildcard, and `*` as a resource is for reading alone, and for what has none, at home and in member accounts."""
    deploy("member-role", TrustedRoleArns=f"arn:aws:iam::{ACCOUNT}:role/one", ExternalId="0123456789abcdef", Mend="true")
    iam = boto3.client("iam")
    names = iam.list_role_policies(RoleName="TrailmendMember")["PolicyNames"]
    member = [document(iam.get_role_policy(RoleName="TrailmendMember", PolicyName=name)["PolicyDocument"]) for name in names]
    assert len(member) == 2
    for one in (policy("WorkerPolicy"), policy("ExecutorPolicy"), *member):
        for allowed in one["Statement"]:
            named = [allowed["Action"]] if isinstance(allowed["Action"], str) else allowed["Action"]
            assert not [action for action in named if "*" in action]
            changing = {action for action in named if not action.split(":")[1].startswith(READING)}
            assert allowed["Resource"] != "*" or changing <= WITHOUT_RESOURCE, allowed


@pytest.mark.parametrize(
    ("parameters", "trail"),
    [({}, TRAIL.format(ACCOUNT, "trailmend")), ({"TrailArn": TRAIL.format("111122223333", "all")}, TRAIL.format("111122223333", "all"))],
)
def test_the_bucket_takes_the_logs_of_one_trail_alone(embedded_aws: str, parameters: dict[str, str], trail: str) -> None:
    """CloudTrail writes on behalf of the trail that was named, else of the one that CreateTrail makes, and of no stranger's."""
    deploy(**parameters)
    for sid in ("CloudTrailMayLook", "CloudTrailMayWrite"):
        one = statement(bucket_policy(), sid)
        assert one["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
        assert one["Condition"]["StringEquals"]["aws:SourceArn"] == trail


def test_the_queue_takes_the_notifications_of_the_log_bucket_alone(embedded_aws: str) -> None:
    """S3 alone may send, for this bucket of this account."""
    told = document(attribute(deploy()["QueueUrl"], "Policy"))
    (admitted,) = [one for one in told["Statement"] if one["Effect"] == "Allow"]
    assert (admitted["Principal"], admitted["Action"]) == ({"Service": "s3.amazonaws.com"}, "sqs:SendMessage")
    assert admitted["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{BUCKET}"},
    }


def test_nothing_is_said_in_the_clear(embedded_aws: str) -> None:
    """The buckets and every queue, dead-letter queues too, refuse a request that does not come by TLS."""
    deploy(JournalBucketName="trailmend-journal")
    urls = boto3.client("sqs").list_queues()["QueueUrls"]
    assert len(urls) == 4
    for guarded in (bucket_policy(), bucket_policy("trailmend-journal"), *(document(attribute(url, "Policy")) for url in urls)):
        deny = statement(guarded, "OnlyOverTls")
        assert (deny["Effect"], deny["Principal"], deny["Condition"]) == ("Deny", "*", {"Bool": {"aws:SecureTransport": "false"}})


def test_dead_letters_are_kept_longer_than_messages(embedded_aws: str) -> None:
    """A redriven message keeps its age: one that waited as long as its queue allows still has days left on the dead-letter queue."""
    outputs = deploy()
    dead = int(attribute(outputs["DeadLetterQueueUrl"], "MessageRetentionPeriod"))
    assert dead == 14 * 86400
    for name in ("QueueUrl", "TaskQueueUrl"):
        assert dead - int(attribute(outputs[name], "MessageRetentionPeriod")) >= 7 * 86400


async def test_the_state_table_is_the_one_the_store_wants(embedded_aws: str) -> None:
    """A claim is won, settled and recognised in the table that StateTableName makes; both policies allow the calls that takes."""
    deploy(StateTableName="trailmend-state")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    async with Accounts(session({"AWS_REGION": "us-east-1"}), Settings()) as accounts:
        store = await open_store("dynamodb://trailmend-state", accounts)
        assert await store.claim("key", "one", now, timedelta(minutes=1)) is Claim.WON
        await store.settle(["key"], "one", now)
        assert await store.claim("key", "two", now, timedelta(minutes=1)) is Claim.SETTLED
        await store.close()
    for name in ("WorkerPolicy", "ExecutorPolicy"):
        kept = statement(policy(name), "KeepState")
        assert kept["Resource"]["Fn::Sub"].endswith(":table/${StateTableName}")
        # A transaction is allowed by the actions that it is made of: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
        named = {"dynamodb:TransactWriteItems"}
        assert set(kept["Action"]) == {action for action in calls("dynamodb", "state") if "Table" not in action} - named
