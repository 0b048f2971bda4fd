"""The templates that users deploy: right for CloudFormation, and at work on the embedded AWS."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name
from cfnlint.decode import decode

from worker.aws import Accounts, session
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import Claim

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "deploy" / "cloudformation"
ACCOUNT = "000000000000"
BUCKET = f"trailmend-logs-{ACCOUNT}-us-east-1"


def template(name: str = "trailmend.yaml") -> Mapping[str, Any]:
    read, faults = decode(str(TEMPLATES / name))
    assert read is not None, faults
    assert not faults
    plain: Mapping[str, Any] = json.loads(json.dumps(read))
    return plain


def deploy(name: str = "trailmend.yaml", **parameters: str) -> Mapping[str, str]:
    """Deploy a template as a stack; answers its outputs."""
    cloudformation = boto3.client("cloudformation")
    stack = Path(name).stem
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=(TEMPLATES / name).read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    (told,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in told["Outputs"]}


def policy(arn: str) -> Mapping[str, Any]:
    document: Any = boto3.client("iam").get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    read: Mapping[str, Any] = json.loads(document) if isinstance(document, str) else document
    return read


def actions(document: Mapping[str, Any], *services: str) -> set[str]:
    """The allowed actions of some services."""
    allowed: set[str] = set()
    for statement in document["Statement"]:
        action = statement["Action"]
        allowed |= {action} if isinstance(action, str) else set(action)
    return {action for action in allowed if action.split(":")[0] in services}


def statement(document: Mapping[str, Any], sid: str) -> Mapping[str, Any]:
    (found,) = [one for one in document["Statement"] if one.get("Sid") == sid]
    read: Mapping[str, Any] = found
    return read


def calls(*folders: str) -> set[str]:
    """The IAM and EC2 actions that the code of some folders of `worker` names, as a method or as AWS spells them."""
    operations: dict[str, str] = {}
    for service in ("iam", "ec2"):
        for name in botocore.session.get_session().get_service_model(service).operation_names:
            operations[name] = operations[xform_name(name)] = f"{service}:{name}"
    return {operations[word] for folder in folders for word in words(ROOT / "worker" / folder) if word in operations}


def words(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Attribute):
                yield node.attr


def receive(url: str, *, visible_after_seconds: int = 60) -> list[Mapping[str, Any]]:
    """What a queue delivers within a second, or as soon as it delivers anything."""
    answer = boto3.client("sqs").receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=visible_after_seconds
    )
    return list(answer.get("Messages", []))


@pytest.mark.parametrize("name", ["trailmend.yaml", "member-role.yaml"])
def test_the_templates_have_nothing_for_cfn_lint_to_say(name: str) -> None:
    """cfn-lint reports neither an error nor a warning nor a remark."""
    run = subprocess.run(
        [sys.executable, "-m", "cfnlint", "--include-checks", "I", "--", str(TEMPLATES / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr


def test_a_new_log_object_is_announced_on_the_queue(embedded_aws: str) -> None:
    """After deploying with no parameter at all, an object put under any prefix comes as a notification that names it."""
    outputs = deploy()
    assert set(outputs) == {"LogBucketName", "QueueUrl", "DeadLetterQueueUrl", "TaskQueueUrl", "WorkerPolicyArn", "ExecutorPolicyArn"}
    assert outputs["LogBucketName"] == BUCKET
    key = "AWSLogs/o-abc123/111122223333/CloudTrail/us-east-1/2026/01/02/111122223333_CloudTrail_us-east-1_x.json.gz"
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"x")
    bodies = [json.loads(message["Body"]) for _ in range(3) for message in receive(outputs["QueueUrl"])]
    told = [record["s3"] for body in bodies for record in body.get("Records", ())]
    assert [(one["bucket"]["name"], one["object"]["key"]) for one in told] == [(BUCKET, key)]


def test_the_bucket_can_be_named(embedded_aws: str) -> None:
    """LogBucketName names the bucket, and the queue admits that one."""
    outputs = deploy(LogBucketName="acme-cloudtrail")
    assert outputs["LogBucketName"] == "acme-cloudtrail"
    admitted = statement(queue_policy(outputs["QueueUrl"]), "NotificationsOfTheLogBucket")
    assert admitted["Condition"]["ArnEquals"] == {"aws:SourceArn": "arn:aws:s3:::acme-cloudtrail"}


def queue_policy(url: str) -> Mapping[str, Any]:
    told: Mapping[str, Any] = json.loads(
        boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    )
    return told


def test_a_message_that_nobody_finishes_is_redriven(embedded_aws: str) -> None:
    """Received five times and never deleted, a message leaves the queue for the dead-letter queue, with its body as it was."""
    outputs = deploy()
    sqs = boto3.client("sqs")
    # MiniStack's CloudFormation leaves RedrivePolicy out, where AWS's does not: what the template says is put on by hand.
    redrive = template()["Resources"]["LogQueue"]["Properties"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["LogDeadLetterQueue", "Arn"]}
    dead = sqs.get_queue_attributes(QueueUrl=outputs["DeadLetterQueueUrl"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sqs.set_queue_attributes(
        QueueUrl=outputs["QueueUrl"],
        Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": redrive["maxReceiveCount"]})},
    )
    while receive(outputs["QueueUrl"]):
        continue  # the bucket's s3:TestEvent
    sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody="poison")
    for _ in range(5):
        assert [message["Body"] for message in receive(outputs["QueueUrl"], visible_after_seconds=0)] == ["poison"]
    assert receive(outputs["QueueUrl"]) == []
    assert [message["Body"] for message in receive(outputs["DeadLetterQueueUrl"])] == ["poison"]


def test_each_queue_keeps_its_dead_letters_longer_than_its_messages() -> None:
    """A redriven message keeps its age: with 14 days in the dead-letter queue, some are left whatever it waited before."""
    resources = template()["Resources"]
    for queue, dead in (("LogQueue", "LogDeadLetterQueue"), ("TaskQueue", "TaskDeadLetterQueue")):
        redrive = resources[queue]["Properties"]["RedrivePolicy"]
        assert redrive == {"deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]}, "maxReceiveCount": 5}
        assert resources[dead]["Properties"]["MessageRetentionPeriod"] == 14 * 86400
        assert resources[queue]["Properties"]["MessageRetentionPeriod"] <= 7 * 86400


def test_the_queue_admits_the_log_bucket_alone(embedded_aws: str) -> None:
    """Only S3, for this bucket of this account, may send; every queue and the bucket refuse what does not come by TLS."""
    outputs = deploy()
    document = queue_policy(outputs["QueueUrl"])
    allowed = [one for one in document["Statement"] if one["Effect"] == "Allow"]
    (admitted,) = allowed
    assert admitted["Principal"] == {"Service": "s3.amazonaws.com"}
    assert admitted["Action"] == "sqs:SendMessage"
    assert admitted["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{BUCKET}"},
    }
    bucket = json.loads(boto3.client("s3").get_bucket_policy(Bucket=BUCKET)["Policy"])
    queues = [queue_policy(outputs[name]) for name in ("QueueUrl", "DeadLetterQueueUrl", "TaskQueueUrl")]
    for guarded in (bucket, *queues):
        deny = statement(guarded, "TlsOnly")
        assert (deny["Effect"], deny["Principal"], deny["Condition"]) == ("Deny", "*", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_bucket_takes_the_logs_of_one_trail_alone(embedded_aws: str) -> None:
    """CloudTrail may write for the trail that was named, whichever account of the organisation it belongs to."""
    trail = "arn:aws:cloudtrail:eu-west-1:111122223333:trail/organisation"
    deploy(TrailArn=trail)
    bucket = json.loads(boto3.client("s3").get_bucket_policy(Bucket=BUCKET)["Policy"])
    for sid in ("CloudTrailAclCheck", "CloudTrailWrite"):
        one = statement(bucket, sid)
        assert one["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
        assert one["Condition"]["StringEquals"]["aws:SourceArn"] == trail


def test_the_trail_that_can_be_made_is_the_one_that_may_write() -> None:
    """The bucket policy's own trail is spelt from the same account, region and name as the trail that CreateTrail makes."""
    resources = template()["Resources"]
    assert resources["Trail"]["Condition"] == "MakesTrail"
    assert resources["Trail"]["Properties"]["TrailName"] == {"Ref": "AWS::StackName"}
    writes = statement(resources["LogBucketPolicy"]["Properties"]["PolicyDocument"], "CloudTrailWrite")
    own = writes["Condition"]["StringEquals"]["aws:SourceArn"]["Fn::If"][2]["Fn::Sub"]
    assert own == "arn:${AWS::Partition}:cloudtrail:${AWS::Region}:${AWS::AccountId}:trail/${AWS::StackName}"


def test_the_worker_may_make_the_calls_it_makes_and_no_others(embedded_aws: str) -> None:
    """The IAM and EC2 actions of the worker's policy are those that the facts ask for; it sends to the task queue and never reads it."""
    outputs = deploy()
    document = policy(outputs["WorkerPolicyArn"])
    assert actions(document, "iam", "ec2") == calls("enrich")
    assert actions(document, "s3") == {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"}
    tasks = task_queue_arn(outputs)
    on_tasks = [one["Action"] for one in document["Statement"] if one["Resource"] == tasks or tasks in one["Resource"]]
    assert on_tasks == ["sqs:SendMessage"]


def task_queue_arn(outputs: Mapping[str, str]) -> str:
    told = boto3.client("sqs").get_queue_attributes(QueueUrl=outputs["TaskQueueUrl"], AttributeNames=["QueueArn"])
    return told["Attributes"]["QueueArn"]


def test_the_executor_may_make_the_calls_it_makes_and_no_others(embedded_aws: str) -> None:
    """The IAM and EC2 actions of the executor's policy are those of the actions, with what AWS demands beside them."""
    document = policy(deploy()["ExecutorPolicyArn"])
    # CreateInstanceProfile with tags asks for TagInstanceProfile, and naming a role for EC2 to use for PassRole.
    assert actions(document, "iam", "ec2") == calls("remediate") | {"iam:TagInstanceProfile", "iam:PassRole"}
    assert statement(document, "PassRolesToEc2")["Condition"] == {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}}


def test_no_policy_allows_every_action_or_every_thing_to_be_changed(embedded_aws: str) -> None:
    """No allowed action has a wildcard, and `*` as a resource is for reading alone."""
    outputs = deploy()
    member = deploy("member-role.yaml", TrustedRoleArn=f"arn:aws:iam::{ACCOUNT}:role/worker", ExternalId="acme-4711", Remediate="true")
    assert member == {"MemberRoleArn": f"arn:aws:iam::{ACCOUNT}:role/trailmend-member"}
    for document in (policy(outputs["WorkerPolicyArn"]), policy(outputs["ExecutorPolicyArn"]), *member_policies().values()):
        assert not [action for action in actions(document, "iam", "ec2", "s3", "sqs", "sts", "dynamodb", "kms") if "*" in action]
        for one in document["Statement"]:
            if one["Resource"] == "*":
                verbs = [action.split(":")[1] for action in one["Action"]]
                assert all(verb.startswith(("Get", "List", "Describe")) for verb in verbs), one


def member_policies() -> Mapping[str, Mapping[str, Any]]:
    iam = boto3.client("iam")
    names = iam.list_role_policies(RoleName="trailmend-member")["PolicyNames"]
    documents: dict[str, Any] = {
        name: iam.get_role_policy(RoleName="trailmend-member", PolicyName=name)["PolicyDocument"] for name in names
    }
    return {name: json.loads(document) if isinstance(document, str) else document for name, document in documents.items()}


@pytest.mark.parametrize(("remediate", "like"), [("false", "WorkerPolicyArn"), ("true", "ExecutorPolicyArn")])
def test_a_member_role_may_do_in_its_account_what_its_visitor_may_at_home(embedded_aws: str, remediate: str, like: str) -> None:
    """Looking needs what the worker's policy has; mending what the executor's has, beside looking."""
    outputs = deploy()
    deploy("member-role.yaml", TrustedRoleArn=f"arn:aws:iam::{ACCOUNT}:role/worker", ExternalId="acme-4711", Remediate=remediate)
    members = member_policies()
    assert set(members) == ({"look", "mend"} if remediate == "true" else {"look"})
    allowed = set().union(*(actions(document, "iam", "ec2") for document in members.values()))
    needed = actions(policy(outputs[like]), "iam", "ec2")
    assert needed <= allowed
    assert allowed - needed <= actions(members["look"], "iam", "ec2")


def test_a_member_role_is_entered_with_the_external_id_and_as_trailmend(embedded_aws: str) -> None:
    """Only the trusted role enters, with the external id, and the source identity it may set is ours (worker/aws.py sets it)."""
    deploy("member-role.yaml", TrustedRoleArn=f"arn:aws:iam::{ACCOUNT}:role/worker", ExternalId="acme-4711")
    told: Any = boto3.client("iam").get_role(RoleName="trailmend-member")["Role"]["AssumeRolePolicyDocument"]
    trust = json.loads(told) if isinstance(told, str) else told
    assert [(one["Principal"]["AWS"], one["Action"], one["Condition"]) for one in trust["Statement"]] == [
        (f"arn:aws:iam::{ACCOUNT}:role/worker", "sts:AssumeRole", {"StringEquals": {"sts:ExternalId": "acme-4711"}}),
        (f"arn:aws:iam::{ACCOUNT}:role/worker", "sts:SetSourceIdentity", {"StringEquals": {"sts:SourceIdentity": "trailmend"}}),
    ]


async def test_the_state_table_is_the_one_the_store_wants(embedded_aws: str) -> None:
    """A claim is won, settled and recognised in the table that StateTableName makes, and both policies let it."""
    outputs = deploy(StateTableName="trailmend-state")
    now = datetime(2026, 1, 2, tzinfo=UTC)
    environment = {"AWS_REGION": "us-east-1"}
    async with Accounts(session(environment), Settings()) as accounts:
        store = await open_store("dynamodb://trailmend-state", accounts)
        assert await store.claim("key", "one", now, timedelta(minutes=1)) is Claim.WON
        await store.settle(["key"], "one", now)
        assert await store.claim("key", "two", now, timedelta(minutes=1)) is Claim.SETTLED
        await store.close()
    for arn in (outputs["WorkerPolicyArn"], outputs["ExecutorPolicyArn"]):
        assert statement(policy(arn), "KeepState")["Resource"].endswith(":table/trailmend-state")


def test_the_state_table_expires_what_the_store_dates() -> None:
    """The TTL attribute and the policy's actions are those that worker/state/dynamodb.py names."""
    properties = template()["Resources"]["StateTable"]["Properties"]
    code = (ROOT / "worker" / "state" / "dynamodb.py").read_text()
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert "expires_at" in code
    model = botocore.session.get_session().get_service_model("dynamodb")
    operations = {xform_name(name): f"dynamodb:{name}" for name in model.operation_names}
    named = {operations[word] for word in words(ROOT / "worker" / "state") if word in operations}
    statements = template()["Resources"]["WorkerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (kept,) = [one["Fn::If"][1] for one in statements if "Fn::If" in one and one["Fn::If"][0] == "MakesTable"]
    assert set(kept["Action"]) == named | {"dynamodb:Query", "dynamodb:Scan"}
