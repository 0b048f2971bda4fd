"""The templates are right by cfn-lint, and the stack deploys on the embedded AWS and carries a notice from bucket to queue."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "cloudformation"
OUTPUTS = {
    "LogBucketName",
    "QueueUrl",
    "DeadLetterQueueUrl",
    "TaskQueueUrl",
    "TaskDeadLetterQueueUrl",
    "WorkerPolicyArn",
    "ExecutorPolicyArn",
}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, which are kept as their arguments."""


def _argument(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _argument)


@pytest.mark.parametrize("name", ["trailmend.yaml", "member-role.yaml"])
def test_templates_have_no_fault(name):
    """cfn-lint finds neither errors nor warnings."""
    done = subprocess.run([Path(sys.executable).with_name("cfn-lint"), FOLDER / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def deploy(stack: str = "trailmend") -> dict[str, str]:
    cloud = boto3.client("cloudformation")
    template = (FOLDER / "trailmend.yaml").read_text()
    cloud.create_stack(StackName=stack, TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
    cloud.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return {one["OutputKey"]: one["OutputValue"] for one in cloud.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]}


def test_the_stack_deploys_and_a_new_object_is_told(embedded_aws):
    """What users deploy gives the documented outputs, and an object in the bucket becomes a message on the queue."""
    outputs = deploy()
    assert outputs.keys() == OUTPUTS
    boto3.client("s3").put_object(Bucket=outputs["LogBucketName"], Key="AWSLogs/a.json.gz", Body=b"x")
    sqs = boto3.client("sqs")
    bodies = []
    for _ in range(5):
        told = sqs.receive_message(QueueUrl=outputs["QueueUrl"], MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        bodies += [json.loads(message["Body"]) for message in told]
    keys = [record["s3"]["object"]["key"] for body in bodies for record in body.get("Records", [])]
    assert keys == ["AWSLogs/a.json.gz"]


def test_a_message_that_is_never_deleted_is_redriven(embedded_aws):
    """After MaxReceiveCount receives a message is on the dead-letter queue."""
    outputs = deploy()
    sqs = boto3.client("sqs")
    sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody="poison")
    dead: list[str] = []
    for _ in range(12):
        for message in sqs.receive_message(QueueUrl=outputs["QueueUrl"], MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            sqs.change_message_visibility(QueueUrl=outputs["QueueUrl"], ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        told = sqs.receive_message(QueueUrl=outputs["DeadLetterQueueUrl"], MaxNumberOfMessages=10).get("Messages", [])
        dead += [message["Body"] for message in told]
        if "poison" in dead:
            return
    raise AssertionError("it was not redriven")


ABOUT = ("iam:", "ec2:", "cloudtrail:", "autoscaling:", "batch:", "elasticbeanstalk:")


def _allowed(document: object) -> set[str]:
    found: set[str] = set()
    if isinstance(document, dict):
        action = document.get("Action")
        for one in action if isinstance(action, list) else [action]:
            if isinstance(one, str) and re.fullmatch(r"[a-z0-9]+:[A-Za-z*]+", one):
                found.add(one)
        for value in document.values():
            found |= _allowed(value)
    elif isinstance(document, list):
        for value in document:
            found |= _allowed(value)
    return found


def test_the_member_role_allows_what_the_policies_allow():
    """In a member account Trailmend may make the calls about people and instances that it may make at home, and no other."""
    home = yaml.load((FOLDER / "trailmend.yaml").read_text(), _Loader)["Resources"]
    member = yaml.load((FOLDER / "member-role.yaml").read_text(), _Loader)["Resources"]
    at_home = _allowed(home["WorkerPolicy"]) | _allowed(home["ExecutorPolicy"])
    there = _allowed(member["MemberRole"]["Properties"]["Policies"])
    assert {action for action in at_home if action.startswith(ABOUT)} == there
