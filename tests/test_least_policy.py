"""The policies that `trailmend policy` prints are valid, allow what the parts call, and nothing that is not enabled."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import botocore.session
import pytest
from cfnlint.api import lint_all
from hypothesis import given
from hypothesis import strategies as st

from tests.everything import AROUND, ENVIRONMENT, ROLES_OF, demanded, granted, policy, stated
from worker import cli
from worker.authorization import ANYTHING, ON, OTHERWISE, UnknownCallError, permissions
from worker.least_policy import MOST_CHARACTERS, Surroundings, least, packed
from worker.roles import Role
from worker.settings import Settings, SettingsError

REFERENCE: Mapping[str, Any] = json.loads(
    importlib.resources.files("cfnlint").joinpath("data", "AdditionalSpecs", "Policies.json").read_text()
)
"""The Service Authorization Reference, as cfn-lint carries it: by service, its actions with the kinds of resources that each may be held to."""
READING = ("Get", "List", "Describe", "Lookup", "GenerateCredentialReport", "BatchGet", "Query", "Scan")
WITHOUT_RESOURCE = {"iam:DeleteAccountPasswordPolicy", "iam:UpdateAccountPasswordPolicy"}
"""What IAM knows no resource for: an account has one password policy."""


def drawn(role: Role, settings: Mapping[str, str] | None = None, around: Surroundings = AROUND) -> Mapping[str, Any]:
    """The one document of a role, by the names of its statements. Settings replace those with everything enabled; an empty one takes it away."""
    (document,) = least(
        role, Settings.from_environment({**ENVIRONMENT, **{f"TRAILMEND_{name}": text for name, text in (settings or {}).items()}}), around
    ).documents
    return {statement["Sid"]: statement for statement in document["Statement"]}


def actions(of: Mapping[str, Any]) -> set[str]:
    return {action for statement in of.values() for action in statement["Action"]}


# What calls take.


def test_every_call_is_one_that_botocore_can_make() -> None:
    """No name is made up or misspelt."""
    session = botocore.session.get_session()
    for call in (*OTHERWISE, *chain.from_iterable(ON.values())):
        service, _, operation = call.partition(":")
        assert operation in session.get_service_model(service).operation_names, call


@pytest.mark.parametrize("call", sorted({*OTHERWISE, *chain.from_iterable(ON.values())}))
def test_every_action_is_held_to_what_iam_can_hold_it_to(call: str) -> None:
    """Each action exists, its kind of resource is one of those in the reference, and it is held to none only where there is none."""
    for permission in permissions(call):
        service, _, action = permission.action.partition(":")
        told = {name.lower(): told for name, told in REFERENCE[service]["Actions"].items()}[action.lower()]
        kinds = told.get("Resources", [])
        assert permission.kind in kinds if kinds else permission.kind == ANYTHING, (permission, kinds)


def test_a_call_that_nobody_has_thought_of_says_what_to_do() -> None:
    """It is no call that takes nothing."""
    with pytest.raises(UnknownCallError, match=r"s3:PutObjectAcl: add it to worker/authorization\.py"):
        permissions("s3:PutObjectAcl")


# With everything enabled.


def test_every_part_may_make_the_calls_that_it_states() -> None:
    """By the policy of somebody who runs it."""
    for part, calls in stated().items():
        roles = next(roles for begins, roles in ROLES_OF.items() if part.startswith(begins))
        if part == "worker.ingest.objects":
            roles = (*roles, Role.SCANNER)
        for call in calls:
            assert demanded(call) <= set().union(*(granted(role) for role in roles)), (part, call)


@pytest.mark.parametrize("role", Role)
def test_nothing_is_granted_that_no_part_states(role: Role) -> None:
    """An action in a policy is there because of a call."""
    every = {one.action for calls in stated().values() for call in calls for one in permissions(call)}
    assert granted(role) <= every


@pytest.mark.parametrize("role", Role)
def test_a_policy_is_one_that_iam_takes(role: Role) -> None:
    """By cfn-lint, and no larger than a managed policy may be."""
    for document in policy(role).documents:
        assert len("".join(json.dumps(document).split())) <= MOST_CHARACTERS
        properties = {"PolicyDocument": document}
        template = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Resources": {"One": {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}},
        }
        faults = [match for match in lint_all(json.dumps(template)) if match.rule.id[0] in "EW"]
        assert [str(fault) for fault in faults] == []


@pytest.mark.parametrize("role", Role)
def test_statements_are_sorted_named_and_narrow(role: Role) -> None:
    """No wildcard among the actions; `*` as a resource is for reading, and for what has none; no two statements are about the same."""
    statements = list(drawn(role).values())
    assert [one["Sid"] for one in statements] == sorted(one["Sid"] for one in statements)
    about = [(tuple(one["Resource"]), json.dumps(one.get("Condition"))) for one in statements]
    assert len(set(about)) == len(about)
    for one in statements:
        assert one["Action"] == sorted(set(one["Action"]))
        assert not [action for action in one["Action"] if "*" in action]
        changing = {action for action in one["Action"] if not action.split(":")[1].startswith(READING)}
        assert one["Resource"] != ["*"] or changing <= WITHOUT_RESOURCE


def test_a_role_is_passed_to_ec2_alone() -> None:
    """PassRole stands in a statement of its own, with its condition."""
    for role in (Role.EXECUTOR, Role.MEMBER_EXECUTOR, Role.OPERATOR):
        passing = [one for one in drawn(role).values() if "iam:PassRole" in one["Action"]]
        assert [(one["Action"], one["Condition"]) for one in passing] == [
            (["iam:PassRole"], {"StringLike": {"iam:PassedToService": "ec2.amazonaws.com*"}})
        ]


# What is enabled.


def test_the_resources_are_those_that_the_settings_name() -> None:
    """Queues by the region, account and name in their URLs; a state machine without its alias; table, bucket and key."""
    worker = drawn(
        Role.WORKER,
        {
            "TASK_SINKS": "arn:aws:states:eu-west-1:111122223333:stateMachine:triage:LIVE",
            "FINDING_SINKS": "stdout:, https://sqs.us-east-2.amazonaws.com/444455556666/found.fifo, webhook+https://example.org/",
            "WEBHOOK_SECRET": "0123456789abcdef01234567",
        },
    )
    resources = {sid: statement["Resource"] for sid, statement in worker.items()}
    sqs = "arn:aws:sqs:eu-west-1:111122223333"
    assert resources["Queue"] == [f"{sqs}:main"]
    assert resources["DeadLetterQueue"] == [f"{sqs}:*"]
    assert resources["TellQueues"] == [f"{sqs}:tasks", "arn:aws:sqs:us-east-2:444455556666:found.fifo"]
    assert resources["TellStateMachines"] == ["arn:aws:states:eu-west-1:111122223333:stateMachine:triage"]
    assert (resources["Bucket"], resources["Objects"]) == (["arn:aws:s3:::logs"], ["arn:aws:s3:::logs/*"])
    assert resources["Key"] == ["arn:aws:kms:eu-west-1:111122223333:key/1234"]
    assert resources["StateTable"] == ["arn:aws:dynamodb:eu-west-1:*:table/trailmend-state"]
    assert resources["MemberRoles"] == ["arn:aws:iam::*:role/TrailmendMember"]
    assert not {"TellTopics", "TellEventBuses"} & set(resources)


def test_an_endpoint_of_ones_own_and_another_partition() -> None:
    """Where a queue's URL names no region it is the worker's, and every ARN is of the worker's partition."""
    china = Surroundings("aws-cn", "cn-north-1")
    told = drawn(Role.EXECUTOR, {"TASK_QUEUE_URL": "http://127.0.0.1:4566/111122223333/tasks", "FINDING_SINKS": "stdout:"}, china)
    assert told["Queue"]["Resource"] == ["arn:aws-cn:sqs:cn-north-1:111122223333:tasks"]
    assert all(arn == "*" or arn.startswith("arn:aws-cn:") for one in told.values() for arn in one["Resource"])


@pytest.mark.parametrize(
    ("role", "settings", "gone"),
    [
        (Role.WORKER, {"STATE": "sqlite:///state.db"}, {"dynamodb:PutItem", "dynamodb:Query"}),
        (
            Role.WORKER,
            {"MEMBER_ROLE_NAME": "", "EXTERNAL_ID": ""},
            {"sts:AssumeRole", "sts:SetSourceIdentity", "organizations:ListAccounts"},
        ),
        (Role.WORKER, {"ACCOUNTS": "111122223333"}, {"organizations:ListAccounts"}),
        (Role.WORKER, {"SNAPSHOT_SECONDS": "0"}, {"iam:ListInstanceProfiles", "iam:ListInstanceProfileTags", "organizations:ListAccounts"}),
        (Role.WORKER, {"REGIONS": "eu-west-1"}, {"ec2:DescribeRegions"}),
        (Role.WORKER, {"FINDING_SINKS": "stdout:"}, {"sns:Publish", "events:PutEvents", "states:StartExecution"}),
        (Role.WORKER, {"FINDING_SINKS": "stdout:", "TASK_QUEUE_URL": ""}, {"sqs:SendMessage"}),
        (Role.MEMBER_WORKER, {"REGIONS": "eu-west-1"}, {"ec2:DescribeRegions"}),
        (Role.EXECUTOR, {"ALLOW_IRREVERSIBLE": ""}, {"iam:DeleteAccessKey"}),
        (Role.EXECUTOR, {"REMEDIATION_MODE": "shadow"}, {"iam:PassRole", "iam:PutUserPolicy", "iam:UpdateAccountPasswordPolicy"}),
        (Role.MEMBER_EXECUTOR, {"REMEDIATION_MODE": "shadow"}, {"iam:PassRole", "iam:PutUserPolicy"}),
        (Role.EXECUTOR, {"REMEDIATION_MODE": "off"}, {"iam:GetUser", "iam:PutUserPolicy", "ec2:DescribeInstances"}),
        (Role.OPERATOR, {"REMEDIATION_MODE": "off"}, {"iam:GetUser", "iam:PutUserPolicy", "ec2:DescribeInstances"}),
        (Role.OPERATOR, {"ALLOW_IRREVERSIBLE": ""}, {"iam:DeleteAccessKey"}),
        (Role.EXECUTOR, {"REMEDIATION_MODES": "enforce-mfa=off,quarantine-user=off"}, {"iam:PutUserPolicy"}),
        (Role.EXECUTOR, {"REMEDIATION_MODES": "*=shadow"}, {"iam:PassRole", "iam:PutUserPolicy", "iam:DeleteAccessKey"}),
        (Role.EXECUTOR, {"ALLOW_IRREVERSIBLE": "", "REMEDIATION_MODES": "enforce-mfa=approve"}, {"iam:DeleteAccessKey"}),
    ],
)
def test_what_is_not_enabled_is_not_granted(role: Role, settings: Mapping[str, str], gone: set[str]) -> None:
    """Each action is there with everything enabled, and goes with the setting that it is for."""
    assert gone <= actions(drawn(role))
    assert not gone & actions(drawn(role, settings))


@pytest.mark.parametrize(
    "modes", ["delete-inactive-access-keys=approve", "delete-inactive-access-keys@111122223333=approve", "*@111122223333=approve"]
)
def test_what_people_may_agree_to_anywhere_is_granted(modes: str) -> None:
    """Beside accounts and actions in mode auto, in which the irreversible is withheld."""
    assert "iam:DeleteAccessKey" in actions(drawn(Role.EXECUTOR, {"ALLOW_IRREVERSIBLE": "", "REMEDIATION_MODES": modes}))


def test_a_mode_in_one_account_is_enough() -> None:
    """Off by default, and auto in an account that is named."""
    settings = {"REMEDIATION_MODE": "off", "REMEDIATION_MODES": "enforce-mfa@111122223333=auto"}
    assert "iam:PutUserPolicy" in actions(drawn(Role.EXECUTOR, settings)) & actions(drawn(Role.OPERATOR, settings))
    assert "iam:PassRole" not in actions(drawn(Role.EXECUTOR, settings)) | actions(drawn(Role.OPERATOR, settings))


def test_in_shadow_the_executor_may_change_nothing_but_its_own_things() -> None:
    """It looks, consumes its queue, keeps its state, tells people and exports its journal."""
    shadow = drawn(Role.EXECUTOR, {"REMEDIATION_MODE": "shadow"})
    own = ("Queue", "Quarantine", "StateTable", "MemberRoles", "Tell", "Journal")
    assert all(
        action.split(":")[1].startswith(READING) for sid, one in shadow.items() if not sid.startswith(own) for action in one["Action"]
    )
    assert "iam:GetUser" in actions(shadow)


def test_a_person_may_mend_by_hand_in_shadow_too() -> None:
    """The operator's policy does not follow what the executor does by itself, has no queue, and tells no sink."""
    shadow = drawn(Role.OPERATOR, {"REMEDIATION_MODE": "shadow"})
    assert shadow == drawn(Role.OPERATOR)
    executors = {
        action
        for sid, one in drawn(Role.EXECUTOR).items()
        if "Queue" in sid or sid.startswith(("Tell", "Quarantine"))
        for action in one["Action"]
    }
    assert actions(drawn(Role.EXECUTOR)) - actions(shadow) == executors
    sweeps = {"iam:ListUsers", "iam:CreateVirtualMFADevice", "iam:DeleteVirtualMFADevice", "iam:EnableMFADevice"}
    assert actions(shadow) - actions(drawn(Role.EXECUTOR)) == sweeps


@pytest.mark.parametrize(
    ("role", "name"),
    [
        (Role.WORKER, "QUEUE_URL"),
        (Role.EXECUTOR, "TASK_QUEUE_URL"),
        *((role, "MEMBER_ROLE_NAME") for role in Role if role.startswith("member")),
    ],
)
def test_a_role_that_could_not_work_has_no_policy(role: Role, name: str) -> None:
    """What it lacks is named."""
    with pytest.raises(SettingsError, match=rf"TRAILMEND_{name}: must be set for `trailmend policy --role {role}`"):
        drawn(role, {name: "", "EXTERNAL_ID": ""})


def test_a_guess_is_told() -> None:
    """Whatever no setting names is `*`, with a remark on what would narrow it."""
    told = least(Role.SCANNER, Settings(), Surroundings())
    assert [statement["Resource"] for statement in told.documents[0]["Statement"]] == [["arn:aws:s3:::*"], ["arn:aws:s3:::*/*"]]
    assert ["--bucket" in remark or "--key" in remark for remark in told.remarks] == [True, True]
    assert least(Role.SCANNER, Settings(), AROUND).remarks == ()


# Several documents.


def allowed(documents: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return sorted(
        (action, resource)
        for document in documents
        for one in document["Statement"]
        for action in one["Action"]
        for resource in one["Resource"]
    )


names = st.lists(st.text("abcdefghij", min_size=1, max_size=30), min_size=1, max_size=12, unique=True)


@given(st.lists(st.tuples(names, names), max_size=12))
def test_what_is_too_large_for_one_document_is_in_several(drawn: Sequence[tuple[list[str], list[str]]]) -> None:
    """Together they allow the same, each is small enough, no two statements of one have a name in common, and none could hold the next's first."""
    statements = [
        {"Sid": f"S{number}x", "Effect": "Allow", "Action": actions, "Resource": resources}
        for number, (actions, resources) in enumerate(drawn)
    ]
    documents = packed(statements, 400)
    assert allowed(documents) == allowed([{"Statement": statements}])
    for number, document in enumerate(documents):
        assert len(json.dumps(document, separators=(",", ":"))) <= 400
        sids = [one["Sid"] for one in document["Statement"]]
        assert len(set(sids)) == len(sids)
        if number:
            fuller = {**documents[number - 1], "Statement": [*documents[number - 1]["Statement"], document["Statement"][0]]}
            assert len(json.dumps(fuller, separators=(",", ":"))) > 400


def test_many_sinks_are_several_policies_and_that_is_said() -> None:
    """Two hundred topics are more than one managed policy holds."""
    topics = ",".join(f"arn:aws:sns:eu-west-1:111122223333:a-topic-with-a-name-{number}" for number in range(200))
    told = least(Role.WORKER, Settings.from_environment({**ENVIRONMENT, "TRAILMEND_FINDING_SINKS": topics}), AROUND)
    assert len(told.documents) > 1
    assert f"{len(told.documents)} documents" in told.remarks[-1]
    assert len([one for one in allowed(told.documents) if one[0] == "sns:Publish"]) == 200


# The command.


def test_the_command_prints_what_iam_takes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The document alone on standard output, remarks on standard error; the partition is that of AWS_REGION."""
    for name, text in {**ENVIRONMENT, "AWS_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, text)
    assert cli.main(["policy", "--role", "executor", "--dead-letter-queue", "tasks-dead"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == policy(Role.EXECUTOR).documents[0]
    assert err.startswith("trailmend: no setting names the dead-letter queue")
    monkeypatch.setenv("AWS_REGION", "us-gov-west-1")
    assert cli.main(["policy", "--role", "member-worker"]) == 0
    assert "arn:aws-us-gov:iam::*:user/*" in capsys.readouterr().out


def test_the_command_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a queue there is no worker, and the status is 2."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["policy"]) == 2
    assert capsys.readouterr().err.startswith("trailmend: TRAILMEND_QUEUE_URL: must be set")
