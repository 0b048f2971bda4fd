"""The reader of task messages: whatever comes, it answers with a task in good form or one of its reasons."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.remediate.world import NOW, task
from worker.dispatch.plan import LEAST_PASSWORD_POLICY
from worker.dispatch.wire import task_as_dict
from worker.model import Actor, EnrichedFinding, Finding, Level, Origin, Record, Rule, Subject, Target, Task
from worker.remediate.actions import ACTIONS
from worker.remediate.actions.reattach_role import admits_ec2
from worker.remediate.tasks import REASONS, TaskReader, TaskRefusedError

READER = TaskReader(ACTIONS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=8
)
RESTORE = {
    "path": "/a/",
    "role": "web",
    "tags": {"k": "v"},
    "instances": [{"instance_id": "i-0123456789abcdef0", "region": "eu-west-1", "state": None}],
}
GOOD = [
    task("deactivate-access-key", "access-key", "AKIA0123456789ABCDEF", {"user": "mallory"}),
    task("require-password-reset", "user", "mallory@example.com"),
    task("enforce-mfa", "user", "a+b=c,d.e@f_g-h"),
    task("restore-instance-profile", "instance-profile", "web", RESTORE),
    task("reattach-role", "instance-profile", "web", {"role": "web"}),
    task("enforce-password-policy", "account", "000000000000", dict(LEAST_PASSWORD_POLICY)),
    task("deactivate-unused-access-keys", "user", "mallory", {"days": 45}),
    task("delete-inactive-access-keys", "user", "mallory", {"days": 45}),
    task("quarantine-user", "user", "mallory"),
    task("revoke-role-sessions", "role", "web", arn="arn:aws:iam::000000000000:role/ops/web"),
]


@pytest.mark.parametrize("value", GOOD)
def test_a_good_task_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    """Id, action, target, params, finding and time come back, and the journal's form says the same."""
    read = READER.read(json.dumps(value))
    told = read.as_dict()
    assert told == {key: value[key] for key in told}


def refusal(body: str) -> TaskRefusedError | None:
    try:
        READER.read(body)
    except TaskRefusedError as refused:
        return refused
    return None


@pytest.mark.parametrize(("levels", "deep"), [(50, False), (51, True), (1000, True)])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"x":', "}")])
def test_lists_and_objects_within_each_other_are_counted(pair: tuple[str, str], levels: int, deep: bool) -> None:
    """Before a schema is held to it, whose reader would go down with it."""
    refused = refusal(pair[0] * levels + ("" if pair[0] == "[" else "1") + pair[1] * levels)
    assert refused is not None
    assert (refused.reason, "within each other" in str(refused)) == ("wrong-schema", deep)


@pytest.mark.parametrize("value", [{"id": {1, 2}}, {"params": {"x": float}}])
def test_what_cannot_be_written_is_refused(value: dict[str, Any]) -> None:
    """A task of the store's that no JSON could be made of."""
    with pytest.raises(TaskRefusedError) as refused:
        READER.take_up({**GOOD[1], **value})
    assert refused.value.reason == "wrong-schema"


@given(st.text() | VALUES.map(json.dumps))
def test_no_text_makes_the_reader_fail_otherwise(body: str) -> None:
    """Text and JSON of any kind: refused with a reason of the closed set."""
    with pytest.raises(TaskRefusedError) as refused:
        READER.read(body)
    assert refused.value.reason in REASONS


@given(value=st.sampled_from(GOOD), path=st.lists(st.integers(0, 20), min_size=1, max_size=4), put=VALUES)
def test_no_changed_member_makes_the_reader_fail_otherwise(value: dict[str, Any], path: list[int], put: Any) -> None:
    """A good task with any member at any depth replaced by anything is read or refused, and never with another error."""
    changed = json.loads(json.dumps(value))
    place: Any = changed
    for step in path[:-1]:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        inner = place[keys[step % len(keys)]] if keys else None
        if not isinstance(inner, dict | list) or not inner:
            break
        place = inner
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    place[keys[path[-1] % len(keys)]] = put
    refused = refusal(json.dumps(changed))
    assert refused is None or refused.reason in REASONS
    assert len(str(refused)) < 600


@pytest.mark.parametrize(
    "change",
    [
        {"path": "a/"},
        {"path": "/a"},
        {"path": "/a/\n"},
        {"path": "/" + "a" * 600 + "/"},
        {"role": ""},
        {"role": "web\n"},
        {"role": "arn:aws:iam::111111111111:role/web"},
        {"tags": {"k": 1}},
        {"tags": {"": "v"}},
        {"tags": {str(n): "" for n in range(51)}},
        {"instances": [{"instance_id": "i-0123456789abcdef0", "region": "evil.example/#"}]},
        {"instances": [{"instance_id": "i-0123456789abcdef0", "region": "us-east-1\n"}]},
        {"instances": [{"instance_id": "i-*", "region": "us-east-1"}]},
        {"instances": [{"instance_id": "i-0123456789abcdef0"}]},
    ],
)
def test_params_that_no_aws_could_have_are_refused(change: dict[str, Any]) -> None:
    """A region becomes part of a host name, and a name part of a call: each is held to its letters to the last one."""
    value = task("restore-instance-profile", "instance-profile", "web", {**RESTORE, **change})
    with pytest.raises(TaskRefusedError) as refused:
        READER.read(json.dumps(value))
    assert refused.value.reason == "wrong-params"


def statement(**members: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole", **members}


@pytest.mark.parametrize(
    ("statements", "admits"),
    [
        ([statement()], True),
        (statement(), True),
        (
            [statement(Principal={"Service": ["lambda.amazonaws.com", "ec2.amazonaws.com"]}, Action=["sts:AssumeRole", "sts:TagSession"])],
            True,
        ),
        ([statement(Action="sts:*")], True),
        ([statement(Principal={"Service": "ec2.amazonaws.com.cn"})], True),
        ([statement(), statement(Effect="Deny")], False),
        ([statement(Effect="Deny")], False),
        ([statement(Principal={"Service": "lambda.amazonaws.com"})], False),
        ([statement(Principal="*")], False),
        ([statement(Principal={"AWS": "*"})], False),
        ([statement(Action="sts:TagSession")], False),
        ([], False),
        (None, False),
        (["x", 1, {}], False),
    ],
)
def test_which_trust_policies_admit_ec2(statements: Any, admits: bool) -> None:
    """Only an Allow that names EC2's service for AssumeRole, and no Deny that does."""
    assert admits_ec2({"Version": "2012-10-17", "Statement": statements}) is admits


@given(VALUES)
def test_no_trust_policy_makes_the_reader_of_it_fail(trust: Any) -> None:
    """Anything at all is no admission."""
    assert admits_ec2(trust) is False


def test_what_dispatch_writes_is_what_the_reader_reads() -> None:
    """A task by way of dispatch's own wire form comes back with the same id, target and params."""
    event = {"eventSource": "iam.amazonaws.com", "eventName": "DeleteInstanceProfile", "recipientAccountId": "111111111111"}
    arn = "arn:aws:iam::111111111111:instance-profile/a/web"
    finding = Finding(
        Rule("r", "A rule", Level.HIGH),
        Record(event, Origin(path="x")),
        Actor("IAMUser"),
        Subject("instance-profile", "web", arn, "111111111111"),
    )
    written = Task("restore-instance-profile", Target("instance-profile", "web", "111111111111", arn), RESTORE, EnrichedFinding(finding))
    read = READER.read(json.dumps(task_as_dict(written, NOW)))
    assert (read.id, read.target, read.params, read.created_at) == (written.id, written.target, RESTORE, NOW)
