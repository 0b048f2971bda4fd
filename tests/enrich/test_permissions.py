"""What users and roles hold: by themselves, by their groups, within boundaries; asked one by one and out of one answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast
from urllib.parse import quote

import pytest

from tests.enrich.aws import MEMBER, OWN, Canned, client, refused
from worker.aws import Accounts
from worker.enrich.grants import HANDFUL
from worker.enrich.investigator import Investigator
from worker.model import Actor, Fact, FactSource, FactStatus, Finding, Subject
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store

Make = Callable[..., Finding]

ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
)


def policy(effect: str = "Allow", action: Any = "*", resource: Any = "*") -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource}]})


def by(name: str = "eve", account: str = OWN) -> Actor:
    return Actor("IAMUser", f"arn:aws:iam::{account}:user/{name}", name, account)


async def test_an_administrator_by_its_name(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """AdministratorAccess is known by its ARN; a user without groups or inline policies has none, which is not unknown."""
    iam = client("iam")
    iam.create_user(UserName="eve", Path="/staff/")
    iam.attach_user_policy(UserName="eve", PolicyArn=ADMIN)
    fact = (await investigate(make_finding(actor=by())))["permissions"]
    assert (fact.status, fact.source, fact.reason) == (FactStatus.KNOWN, FactSource.LIVE, None)
    value = fact.value
    assert value["attached_policies"] == [{"name": "AdministratorAccess", "arn": ADMIN, "of": "user eve"}]
    assert (value["groups"], value["inline_policies"], value["permissions_boundary"]) == ([], [], None)
    assert (value["type"], value["arn"], value["evidence"]) == ("user", f"arn:aws:iam::{OWN}:user/staff/eve", "calls")
    assert value["administrator"] == {
        "is": True,
        "because": "AdministratorAccess of user eve allows everything",
        "exceptions": [],
    }
    assert "iam:PutUserPolicy" in value["can_escalate"]


async def test_an_administrator_by_its_groups(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """A group's own policy in its version in force, and an inline one that denies something."""
    iam = client("iam")
    iam.create_user(UserName="eve")
    for group in ("ops", "staff"):
        iam.create_group(GroupName=group)
        iam.add_user_to_group(GroupName=group, UserName="eve")
    arn = iam.create_policy(PolicyName="ops", PolicyDocument=policy(action="s3:*"))["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy(), SetAsDefault=True)
    iam.attach_group_policy(GroupName="ops", PolicyArn=arn)
    iam.put_group_policy(GroupName="staff", PolicyName="no-billing", PolicyDocument=policy("Deny", "billing:*"))
    value = (await investigate(make_finding(actor=by())))["permissions"].value
    assert sorted(value["groups"]) == ["ops", "staff"]
    assert value["attached_policies"] == [{"name": "ops", "arn": arn, "of": "group ops"}]
    assert value["inline_policies"] == [{"name": "no-billing", "of": "group staff"}]
    assert value["administrator"]["is"] is True
    assert value["administrator"]["because"] == "ops of group ops allows everything"
    assert value["administrator"]["exceptions"] == ["inline policy no-billing of group staff"]


async def test_one_who_can_make_itself_an_administrator(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Not one by its inline policy, but it may write itself another; and may give its own policy a new version."""
    iam = client("iam")
    iam.create_user(UserName="eve")
    iam.put_user_policy(
        UserName="eve", PolicyName="self", PolicyDocument=policy(action="iam:PutUserPolicy", resource=f"arn:aws:iam::{OWN}:user/*")
    )
    arn = iam.create_policy(PolicyName="mine", PolicyDocument=policy(action="iam:CreatePolicyVersion", resource="arn:aws:iam::*:policy/m*"))
    iam.attach_user_policy(UserName="eve", PolicyArn=arn["Policy"]["Arn"])
    value = (await investigate(make_finding(actor=by())))["permissions"].value
    assert value["administrator"] == {"is": False, "because": "no policy of 2 allows everything", "exceptions": []}
    assert value["can_escalate"] == ["iam:CreatePolicyVersion", "iam:PutUserPolicy"]


async def test_a_role_and_the_user_it_was_done_to(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """The role behind the session, inline; and the owner of the key, each in its account."""
    client("iam", MEMBER).create_role(RoleName="trailmend", AssumeRolePolicyDocument=TRUST)
    client("iam", MEMBER).create_user(UserName="bob")
    iam = client("iam")
    iam.create_role(RoleName="ci", AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName="ci", PolicyName="all", PolicyDocument=policy())
    actor = Actor("AssumedRole", name="ci", account=OWN, session="run", issuer_arn=f"arn:aws:iam::{OWN}:role/ci")
    finding = make_finding("DeleteAccessKey", actor=actor, subject=Subject("access-key", "AKIA1", owner="bob"), recipientAccountId=MEMBER)
    facts = await investigate(finding)
    mine, its = facts["permissions"].value, facts["subject_permissions"].value
    assert (mine["type"], mine["groups"], mine["administrator"]["because"]) == (
        "role",
        [],
        "inline policy all of role ci allows everything",
    )
    assert (its["type"], its["name"], its["account"], its["administrator"]["is"]) == ("user", "bob", MEMBER, False)
    assert its["administrator"]["because"] == "no policy allows anything"


async def test_gone_and_withheld(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """A deleted user is gone; in an account that cannot be entered nothing is known, and the reason says what to set."""
    facts = await investigate(make_finding(actor=by("bob")))
    assert facts["permissions"].status is FactStatus.GONE
    fact = (await investigate(make_finding(actor=by("bob", MEMBER)), member_role_name=None))["permissions"]
    assert fact.status is FactStatus.UNKNOWN
    assert "TRAILMEND_MEMBER_ROLE_NAME" in fact.reason


async def test_a_service_linked_role_is_not_looked_into(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Its policies are AWS's own."""
    arn = f"arn:aws:iam::{OWN}:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
    assert "permissions" not in await investigate(make_finding(actor=Actor("AssumedRole", name="AWSServiceRoleForRDS", issuer_arn=arn)))


@pytest.fixture
def learn(embedded_aws: str, store: Any, metrics: Metrics, make_finding: Make) -> Callable[..., Any]:
    """Facts about calls of these users from an AWS that answers as told, by one investigator."""

    async def run(cloud: Canned, *names: str, clock: Callable[[], datetime] = lambda: datetime(2026, 1, 2, 4, tzinfo=UTC)) -> list[Fact]:
        settings = Settings(regions=("us-east-1",))
        investigator = Investigator(cast("Accounts", cloud), cast("Store", store), settings, metrics, clock)
        return [(await investigator.investigate(make_finding(actor=by(name)))).facts["permissions"] for name in names]

    return run


def user_detail(name: str, **more: Any) -> dict[str, Any]:
    arn = f"arn:aws:iam::{OWN}:user/{name}"
    return {"UserName": name, "UserId": "AIDA" + "X" * 16, "Path": "/", "Arn": arn, "CreateDate": datetime(2026, 1, 1, tzinfo=UTC), **more}


def empty_account(**answers: Any) -> Canned:
    """Every user exists and holds nothing; whoever else is asked about may not be looked into."""
    known: dict[str, Any] = {
        "get_user": lambda params: {"User": user_detail(params["UserName"])},
        "list_groups_for_user": lambda _: {"Groups": [], "IsTruncated": False},
        "list_attached_user_policies": lambda _: {"AttachedPolicies": []},
        "list_user_policies": lambda _: {"PolicyNames": []},
    }
    return Canned("iam", **{**known, **answers})


def details(names: list[str], **more: Any) -> Any:
    group = {
        "GroupName": "ops",
        "Arn": f"arn:aws:iam::{OWN}:group/ops",
        "AttachedManagedPolicies": [{"PolicyName": "ops", "PolicyArn": OPS}],
    }
    version = {"VersionId": "v2", "IsDefaultVersion": True, "Document": policy()}
    old = {"VersionId": "v1", "IsDefaultVersion": False, "Document": policy(action="s3:*")}
    return lambda _: {
        "UserDetailList": [user_detail(name, GroupList=["ops"]) for name in names],
        "GroupDetailList": [group],
        "RoleDetailList": [],
        "Policies": [{"PolicyName": "ops", "Arn": OPS, "PolicyVersionList": [old, version]}],
        "IsTruncated": False,
        **more,
    }


OPS = f"arn:aws:iam::{OWN}:policy/ops"
CROWD = [f"user-{n}" for n in range(HANDFUL + 3)]


async def test_a_crowd_is_asked_about_with_one_question(learn: Any) -> None:
    """The first few are asked about one by one, the rest out of one answer for the account, which says so and judges as well."""
    cloud = empty_account(get_account_authorization_details=details(CROWD))
    ticks = count()
    facts = await learn(cloud, *CROWD, *CROWD[:1], clock=lambda: datetime(2026, 1, 2, 4, tzinfo=UTC) + timedelta(milliseconds=next(ticks)))
    assert [fact.value["evidence"] for fact in facts] == ["calls"] * HANDFUL + ["account-details"] * 4
    assert cloud.asked["get_account_authorization_details"] == 1
    assert cloud.asked["list_groups_for_user"] == HANDFUL
    value = facts[HANDFUL].value
    assert (value["name"], value["groups"]) == (CROWD[HANDFUL], ["ops"])
    assert value["attached_policies"] == [{"name": "ops", "arn": OPS, "of": "group ops"}]
    assert value["administrator"]["because"] == "ops of group ops allows everything"
    assert [fact.source for fact in facts[HANDFUL:]] == [FactSource.LIVE] + [FactSource.CACHE] * 3


@pytest.mark.parametrize("answer", ["denied", "too large", "newer"])
async def test_a_crowd_is_asked_about_one_by_one_where_there_is_no_other_way(
    learn: Any, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Denied, cut short, or without somebody who was made since: what one question does not answer is asked as before."""
    monkeypatch.setattr("worker.enrich.grants.MOST_ENTRIES", 3 if answer == "too large" else 5000)
    told = CROWD[::-1] if answer == "too large" else CROWD[:-1]
    answers = {} if answer == "denied" else {"get_account_authorization_details": details(told)}
    cloud = empty_account(**answers)
    facts = await learn(cloud, *CROWD[:HANDFUL], CROWD[-1])
    assert cloud.asked["get_account_authorization_details"] == 1
    assert (facts[-1].value["evidence"], facts[-1].value["groups"], facts[-1].reason) == ("calls", [], None)


async def test_a_crowd_disperses(learn: Any) -> None:
    """Whoever was asked about long ago counts no more."""
    now = [datetime(2026, 1, 2, 4, tzinfo=UTC)]

    def clock() -> datetime:
        now[0] += timedelta(seconds=1)
        return now[0]

    cloud = empty_account(get_account_authorization_details=details(CROWD))

    async def later() -> None:
        for name in CROWD:
            now[0] += timedelta(minutes=5)
            await learn(cloud, name, clock=clock)

    await later()
    assert cloud.asked["get_account_authorization_details"] == 0


@pytest.mark.parametrize("operation", ["list_groups_for_user", "list_attached_user_policies", "list_user_policies"])
async def test_a_list_that_is_withheld_may_hold_anything(learn: Any, operation: str) -> None:
    """Nobody is called harmless by what could not be read: no verdict, null for the part, and its name with the reason."""
    cloud = empty_account()
    del cloud.answers[operation]
    (fact,) = await learn(cloud, "eve")
    assert (fact.status, fact.value["administrator"]["is"]) == (FactStatus.KNOWN, None)
    assert [fact.value[part] for part in ("groups", "attached_policies", "inline_policies")].count(None) == 1
    assert len(fact.value["unknown"]) == 1
    assert "AccessDenied" in (fact.reason or "")


async def test_a_boundary_is_read_and_limits(learn: Any) -> None:
    """A boundary that allows EC2 alone; one that could not be read leaves it open; documents come decoded, or as AWS sends them."""
    bound = f"arn:aws:iam::{OWN}:policy/bound"
    boundary = {"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": bound}
    answers = {
        "get_user": lambda params: {"User": user_detail(params["UserName"], PermissionsBoundary=boundary)},
        "list_attached_user_policies": lambda _: {"AttachedPolicies": [{"PolicyName": "AdministratorAccess", "PolicyArn": ADMIN}]},
        "get_policy": lambda params: {"Policy": {"Arn": params["PolicyArn"], "DefaultVersionId": "v7"}},
        "get_policy_version": lambda params: {
            "PolicyVersion": {"VersionId": params["VersionId"], "Document": quote(policy(action="ec2:*")), "IsDefaultVersion": True}
        },
    }
    (fact,) = await learn(empty_account(**answers), "eve")
    assert (fact.value["permissions_boundary"], fact.value["administrator"]["is"]) == (bound, False)
    assert "limited by a permissions boundary" in fact.value["administrator"]["because"]
    assert fact.value["can_escalate"] == []
    del answers["get_policy"]
    (fact,) = await learn(empty_account(**answers), "eve")
    assert fact.value["administrator"]["is"] is None
    assert list(fact.value["unknown"]) == [f"policy {bound}"]


async def test_what_is_read_of_one_principal_is_bounded(learn: Any) -> None:
    """More inline policies than anybody has: forty are read, and the rest leave the verdict open."""
    document = {"UserName": "eve", "PolicyName": "p", "PolicyDocument": policy(action="s3:*")}
    cloud = empty_account(
        list_user_policies=lambda _: {"PolicyNames": [f"p{n}" for n in range(60)]},
        get_user_policy=lambda params: {**document, "PolicyName": params["PolicyName"]},
    )
    (fact,) = await learn(cloud, "eve")
    assert cloud.asked["get_user_policy"] == 40
    assert (len(fact.value["inline_policies"]), fact.value["administrator"]["is"]) == (60, None)


async def test_a_user_that_is_gone_is_gone_whatever_else_is_said(learn: Any) -> None:
    """NoSuchEntity for the user itself decides."""

    def gone(_: Any) -> Any:
        raise refused("NoSuchEntity")

    (fact,) = await learn(empty_account(get_user=gone), "eve")
    assert (fact.status, fact.value) == (FactStatus.GONE, None)
