"""What a finding supports: all that the planner asks for, and of what a forger may write nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON
from tests.remediate.world import ACCOUNT, NOW, task
from worker.detect.library import load
from worker.detect.subject import actor_of, subject_of
from worker.dispatch.plan import PLANNERS, plan
from worker.dispatch.wire import task_body
from worker.model import EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Origin, ProfileEvent, Record, Rule
from worker.remediate.actions import ACTIONS
from worker.remediate.support import SUPPORT, remembered
from worker.remediate.tasks import TaskReader, TaskRefusedError

READER = TaskReader(ACTIONS)
PLANNING = Rule("r", "A rule", Level.HIGH, remediation=tuple(PLANNERS))
NAMES = st.text("abcW=,.@_-", min_size=1, max_size=3) | st.none() | st.just("x" * 3000)
ACCOUNTS = st.sampled_from(["111122223333", "444455556666", "1", None])
IDENTITIES = st.builds(
    lambda type_, name, account, issuer: {
        "type": type_,
        "userName": name,
        "accountId": account,
        "arn": f"arn:aws:iam::{account}:user/{name}",
        "sessionContext": {"sessionIssuer": {"userName": issuer, "accountId": account, "arn": f"arn:aws:iam::{account}:role/a/{issuer}"}},
    },
    st.sampled_from(["IAMUser", "AssumedRole", "Root", "AWSService", "FederatedUser"]),
    NAMES,
    ACCOUNTS,
    NAMES,
)
EVENTS = st.builds(
    lambda name, identity, account, user, key, profile, role: {
        "eventSource": "iam.amazonaws.com",
        "eventName": name,
        "eventTime": "2026-11-23T12:00:00Z",
        "userIdentity": identity,
        "recipientAccountId": account,
        "requestParameters": {"userName": user, "accessKeyId": key, "instanceProfileName": profile, "roleName": role},
    },
    st.sampled_from(
        [
            "CreateAccessKey",
            "UpdateAccessKey",
            "CreateLoginProfile",
            "DeactivateMFADevice",
            "ChangePassword",
            "DeleteInstanceProfile",
            "RemoveRoleFromInstanceProfile",
            "DeleteAccountPasswordPolicy",
            "UpdateAccountPasswordPolicy",
        ]
    ),
    IDENTITIES,
    ACCOUNTS,
    NAMES,
    NAMES,
    NAMES,
    NAMES,
)


def refusal(body: str | bytes) -> TaskRefusedError | None:
    try:
        READER.receive(body if isinstance(body, str) else body.decode())
    except TaskRefusedError as refused:
        return refused
    return None


@given(EVENTS)
def test_all_that_the_planner_asks_for_is_supported(event: dict[str, Any]) -> None:
    """Whatever the record, by way of the wire: a task may be refused for names that no IAM has, and never for want of support."""
    record = Record({name: value for name, value in event.items() if value is not None}, Origin(path="x"))
    facts = {"profile": Fact("profile", FactStatus.KNOWN, {"roles": ["web"], "path": "/"}, NOON, FactSource.MEMORY)}
    found = EnrichedFinding(Finding(PLANNING, record, actor_of(record), subject_of(record)), facts)
    for planned in plan(found).tasks:
        refused = refusal(task_body(planned, NOON, ()))
        assert refused is None or refused.reason in ("wrong-params", "wrong-schema"), refused


def test_the_shipped_rules_ask_for_what_their_findings_support() -> None:
    """Every task of every sample of every rule is taken as it is, and each action that rules may name is among those tried above."""
    taken = set()
    rules = load([])
    for rule in rules.rules:
        for event in (event for sample in rule.samples if sample.match for event in sample.events):
            for one in rules.match(Record(event, Origin(path="x"))).findings:
                facts = {"profile": Fact("profile", FactStatus.KNOWN, {"roles": ["web"]}, NOON, FactSource.MEMORY)}
                for planned in plan(EnrichedFinding(one, facts)).tasks:
                    assert refusal(task_body(planned, NOON, ())) is None
                    taken.add(planned.action)
    assert len(taken) >= 5


def test_every_action_says_what_supports_it() -> None:
    """A newcomer without a line there could be asked for by nobody."""
    assert set(SUPPORT) == {action.name for action in ACTIONS} == set(PLANNERS)


RESTORE = {"path": "/", "role": "web", "tags": {}, "instances": []}
KEY = "AKIA0123456789ABCDEF"
GOOD = {
    "deactivate-access-key": task("deactivate-access-key", "access-key", KEY, {"user": "mallory"}),
    "require-password-reset": task("require-password-reset", "user", "mallory"),
    "enforce-mfa": task("enforce-mfa", "user", "mallory"),
    "restore-instance-profile": task("restore-instance-profile", "instance-profile", "web", RESTORE),
    "reattach-role": task("reattach-role", "instance-profile", "web", {"role": "web"}),
    "enforce-password-policy": task("enforce-password-policy", "account", ACCOUNT, {"symbols": True}),
    "deactivate-unused-access-keys": task("deactivate-unused-access-keys", "user", "mallory", {"days": 45}),
    "delete-inactive-access-keys": task("delete-inactive-access-keys", "user", "mallory", {"days": 45}),
    "quarantine-user": task("quarantine-user", "user", "mallory"),
    "revoke-role-sessions": task("revoke-role-sessions", "role", "web"),
}
OF_ACTOR = ("quarantine-user", "revoke-role-sessions")
OF_EVENT = ("restore-instance-profile", "reattach-role", "enforce-password-policy")


def lies() -> list[tuple[str, str, str, Any]]:
    """Of each action, each member of its finding that supports it, with something else in it."""
    found: list[tuple[str, str, str, Any]] = []
    for action in GOOD:
        part = "actor" if action in OF_ACTOR else "subject"
        found += [(action, part, "type", "instance"), (action, part, "account", "111111111111"), (action, part, "account", None)]
        found += [(action, "event", "error_code", "AccessDenied")]
        if action != "enforce-password-policy":  # an account is named by its id
            found += [(action, part, "name", "bystander"), (action, part, "name", None)]
        if action in OF_EVENT:
            found.append((action, "event", "name", "GetUser"))
    return [*found, ("deactivate-access-key", "subject", "owner", "bystander"), ("deactivate-access-key", "subject", "owner", None)]


@pytest.mark.parametrize("action", GOOD)
def test_a_finding_supports_its_own_target(action: str) -> None:
    """The tasks that are spoilt below are good ones."""
    assert refusal(json.dumps(GOOD[action])) is None


@pytest.mark.parametrize(("action", "part", "member", "put"), lies())
def test_a_target_that_the_finding_does_not_tell_of_is_unsupported(action: str, part: str, member: str, put: Any) -> None:
    """One member of the finding differs: refused, and the refusal names it; from the journal, which we wrote, it is read all the same."""
    body = GOOD[action]
    finding = body["finding"]
    spoilt = {**body, "finding": {**finding, part: {**finding[part], member: put}}}
    refused = refusal(json.dumps(spoilt))
    assert refused is not None
    assert refused.reason == "unsupported"
    assert f"finding.{part}" in str(refused)
    assert READER.read(json.dumps(spoilt)).id == body["id"]


def event(kind: str, **detail: Any) -> ProfileEvent:
    return ProfileEvent(ACCOUNT, "web", NOW, f"{kind}{detail}", kind, detail)


@pytest.mark.parametrize(
    ("memory", "role", "taken"),
    [
        ([], "admin", True),
        ([event("RemoveRoleFromInstanceProfile", role="web"), event("DeleteInstanceProfile")], "web", True),
        ([event("RemoveRoleFromInstanceProfile", role="web"), event("DeleteInstanceProfile")], "WEB", True),
        ([event("RemoveRoleFromInstanceProfile", role="web"), event("DeleteInstanceProfile")], "admin", False),
        ([event("AddRoleToInstanceProfile", role="old"), event("Snapshot", role="web")], "old", True),
        ([event("Snapshot", role=None)], "admin", False),
        ([event("DeleteInstanceProfile")], "admin", False),
        ([event("DeleteInstanceProfile")], None, True),
    ],
)
@pytest.mark.parametrize("action", ["restore-instance-profile", "reattach-role"])
def test_a_role_that_a_profile_never_held_is_not_put_into_it(
    action: str, memory: list[ProfileEvent], role: str | None, *, taken: bool
) -> None:
    """Where anything is remembered of the profile, only a role that is remembered too; where nothing is, the task's word counts."""
    target = READER.read(json.dumps(GOOD[action])).target
    assert (remembered(action, target, {"role": role}, memory) is None) is taken
    assert remembered("enforce-mfa", target, {"role": "admin"}, memory) is None
