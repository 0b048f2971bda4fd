"""Every action a rule names ends as a task, or as withheld with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import NOON
from worker.dispatch.plan import PLANNERS, plan
from worker.model import Actor, EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Origin, Record, Rule, Subject

PROFILE = Subject("instance-profile", "web", "arn:aws:iam::111122223333:instance-profile/web", "111122223333")
USER = Subject("user", "alice", None, "111122223333")
KEY = Subject("access-key", "AKIAEXAMPLE", None, "111122223333", owner="alice")


def found(action: str, name: str, subject: Subject, facts: dict[str, Any] | None = None, **event: Any) -> EnrichedFinding:
    record = Record({"eventName": name, "eventSource": "iam.amazonaws.com", "eventTime": "2026-11-23T12:00:00Z", **event}, Origin(path="x"))
    rule = Rule("rule", "A rule", Level.HIGH, remediation=(action,))
    told = {
        name: value if isinstance(value, Fact) else Fact(name, FactStatus.KNOWN, value, NOON, FactSource.LIVE)
        for name, value in (facts or {}).items()
    }
    return EnrichedFinding(Finding(rule, record, Actor("IAMUser"), subject), told)


REMEMBERED = {"path": "/team/", "roles": [], "last_role": {"name": "web-role"}, "tags": {"owner": "web"}}


def test_a_deleted_profile_is_restored_with_all_that_is_remembered():
    """The task carries path, role, tags and instances, because after the delete nobody else can tell them."""
    facts = {"profile": REMEMBERED, "instances": {"instances": [{"id": "i-1", "region": "eu-west-1", "state": "running"}]}}
    (task,) = plan(found("restore-instance-profile", "DeleteInstanceProfile", PROFILE, facts)).tasks
    assert (task.target.type, task.target.name, task.target.account) == ("instance-profile", "web", "111122223333")
    assert task.params == {
        "path": "/team/",
        "role": "web-role",
        "tags": {"owner": "web"},
        "instances": [{"instance_id": "i-1", "region": "eu-west-1", "state": "running"}],
        "deleted_at": "2026-11-23T12:00:00+00:00",
    }


def test_where_ec2_does_not_answer_the_remembered_instances_get_it_back():
    """Those that still use it and whose region is known; what EC2 does answer, even nothing, counts for more."""
    users = [
        {"id": "i-1", "region": "eu-west-1", "until": None},
        {"id": "i-2", "region": "eu-west-1", "until": "2026-01-02T03:04:05Z"},
        {"id": "i-3", "region": None, "until": None},
    ]
    subject, remembered = PROFILE, {**REMEMBERED, "instances": users}
    for facts, told in (({}, ["i-1"]), ({"instances": {"instances": []}}, [])):
        (task,) = plan(found("restore-instance-profile", "DeleteInstanceProfile", subject, {"profile": remembered, **facts})).tasks
        assert [one["instance_id"] for one in task.params["instances"]] == told


def test_a_profile_made_again_without_its_role_is_still_restored():
    """An empty profile of the same name does not help the instances, and may be an attacker's."""
    facts = {"profile": REMEMBERED, "replaced": {"replaced": True, "by": "x", "same_role": False}}
    assert plan(found("restore-instance-profile", "DeleteInstanceProfile", PROFILE, facts)).tasks


@pytest.mark.parametrize(
    ("action", "name", "subject", "params"),
    [
        ("reattach-role", "RemoveRoleFromInstanceProfile", PROFILE, {"role": "web-role"}),
        ("deactivate-access-key", "CreateAccessKey", KEY, {"user": "alice"}),
        ("require-password-reset", "CreateLoginProfile", USER, {}),
        ("enforce-mfa", "DeactivateMFADevice", USER, {}),
        ("deactivate-unused-access-keys", "CreateAccessKey", USER, {"days": 45}),
        ("delete-inactive-access-keys", "CreateAccessKey", USER, {"days": 45}),
    ],
)
def test_the_other_actions_ask_for_what_they_need(action, name, subject, params):
    """Each action has its target and parameters."""
    (task,) = plan(found(action, name, subject, requestParameters={"roleName": "web-role"})).tasks
    assert (task.action, task.target.name, task.params) == (action, subject.name, params)


def test_a_weakened_password_policy_is_raised_in_its_account():
    """The target is the account, by its id and without an ARN, and the params are what the executor's schema takes."""
    subject = Subject("account", None, None, "111122223333")
    (task,) = plan(found("enforce-password-policy", "UpdateAccountPasswordPolicy", subject)).tasks
    assert (task.target.type, task.target.name, task.target.account, task.target.arn) == ("account", "111122223333", "111122223333", None)
    assert task.params["minimum_length"] == 14


ROLE = "arn:aws:iam::444455556666:role/ops/admin"
SESSION = Actor("AssumedRole", "arn:aws:sts::444455556666:assumed-role/admin/x", "admin", "444455556666", "x", ROLE)
CALLER = Actor("IAMUser", "arn:aws:iam::444455556666:user/mallory", "mallory", "444455556666")


@pytest.mark.parametrize(
    ("action", "actor", "target"),
    [
        ("quarantine-user", CALLER, ("user", "mallory", "444455556666", CALLER.arn)),
        ("revoke-role-sessions", SESSION, ("role", "admin", "444455556666", ROLE)),
        ("quarantine-user", SESSION, "not-applicable"),
        ("revoke-role-sessions", CALLER, "not-applicable"),
        ("quarantine-user", Actor("IAMUser"), "unknown-target"),
        ("revoke-role-sessions", Actor("AssumedRole"), "unknown-target"),
        ("quarantine-user", Actor("Root"), "not-applicable"),
    ],
)
def test_containment_is_of_the_caller(action, actor, target):
    """Whoever did it is held, in the account they are of; what they did it to is left alone."""
    enriched = found(action, "CreateUser", USER)
    planned = plan(replace(enriched, finding=replace(enriched.finding, actor=actor)))
    if isinstance(target, str):
        assert [one.cause for one in planned.withheld] == [target]
    else:
        (task,) = planned.tasks
        assert (task.target.type, task.target.name, task.target.account, task.target.arn) == target


def gone(name: str) -> Fact:
    return Fact(name, FactStatus.GONE, None, NOON, FactSource.LIVE)


@pytest.mark.parametrize(
    ("action", "name", "subject", "facts", "event", "cause"),
    [
        ("restore-instance-profile", "DeleteInstanceProfile", PROFILE, {}, {"errorCode": "AccessDenied"}, "denied"),
        ("restore-instance-profile", "DeleteInstanceProfile", PROFILE, {}, {"errorCode": "Client.DryRunOperation"}, "dry-run"),
        (
            "restore-instance-profile",
            "DeleteInstanceProfile",
            PROFILE,
            {"authorised": {"authorised": True, "because": "x"}},
            {},
            "authorised",
        ),
        ("restore-instance-profile", "DeleteInstanceProfile", PROFILE, {"replaced": {"replaced": True, "by": "x"}}, {}, "replaced"),
        (
            "restore-instance-profile",
            "DeleteInstanceProfile",
            PROFILE,
            {"replaced": {"replaced": True, "by": None, "same_role": True}},
            {},
            "replaced",
        ),
        ("restore-instance-profile", "DeleteInstanceProfile", Subject("instance-profile", None), {}, {}, "unknown-target"),
        ("enforce-mfa", "DeactivateMFADevice", Subject("user", "alice", None, "0"), {}, {}, "unknown-target"),
        ("enforce-mfa", "DeactivateMFADevice", Subject("user", "a" * 129, None, "111122223333"), {}, {}, "unknown-target"),
        ("restore-instance-profile", "TagInstanceProfile", PROFILE, {}, {}, "not-applicable"),
        ("reattach-role", "RemoveRoleFromInstanceProfile", PROFILE, {}, {}, "unknown-target"),
        (
            "reattach-role",
            "RemoveRoleFromInstanceProfile",
            PROFILE,
            {"profile_live": gone("profile_live")},
            {"requestParameters": {"roleName": "r"}},
            "not-applicable",
        ),
        (
            "reattach-role",
            "RemoveRoleFromInstanceProfile",
            PROFILE,
            {"profile_live": {"roles": ["r"]}},
            {"requestParameters": {"roleName": "r"}},
            "replaced",
        ),
        ("deactivate-access-key", "CreateAccessKey", USER, {}, {}, "not-applicable"),
        ("deactivate-access-key", "CreateAccessKey", Subject("access-key", "AKIA", None, "111122223333"), {}, {}, "unknown-target"),
        ("enforce-password-policy", "UpdateAccountPasswordPolicy", Subject("account", None, None, None), {}, {}, "unknown-target"),
        ("enforce-password-policy", "CreateUser", USER, {}, {}, "not-applicable"),
        ("deactivate-unused-access-keys", "CreateAccessKey", KEY, {}, {}, "not-applicable"),
        ("enforce-mfa", "ConsoleLogin", Subject("root", None, None, "111122223333"), {}, {}, "not-applicable"),
        ("make-tea", "DeleteInstanceProfile", PROFILE, {}, {}, "unknown-action"),
    ],
)
def test_what_speaks_against_an_action_withholds_it(action, name, subject, facts, event, cause):
    """Nothing is asked for that would do harm or nothing, and the reason is told in words."""
    planned = plan(found(action, name, subject, facts, **event))
    assert planned.tasks == ()
    assert [one.cause for one in planned.withheld] == [cause]
    assert planned.withheld[0].reason


def test_a_dry_run_is_not_called_a_failure():
    """Nothing is asked for, because nothing was changed, and on-call reads just that."""
    (withheld,) = plan(found("reattach-role", "RemoveRoleFromInstanceProfile", PROFILE, errorCode="Client.DryRunOperation")).withheld
    assert withheld.reason == "it was a dry run: nothing was changed"


def test_the_same_finding_gives_the_same_task():
    """A task's id comes from its finding, action and target, so that a second delivery is recognised everywhere."""
    first, second = (plan(found("enforce-mfa", "DeactivateMFADevice", USER)).tasks[0] for _ in range(2))
    assert first.id == second.id
    other = plan(found("enforce-mfa", "DeactivateMFADevice", Subject("user", "bob", None, "111122223333"))).tasks[0]
    assert other.id != first.id


def test_every_action_the_shipped_rules_name_is_known():
    """No shipped rule asks for an action that nobody plans."""
    from worker.detect.library import load

    named = {action for rule in load([]).rules for action in rule.rule.remediation}
    assert named
    assert named <= PLANNERS.keys()
