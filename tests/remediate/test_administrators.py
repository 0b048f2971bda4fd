"""Who is an administrator and who may come in as one, as tables: pure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.remediate.administrators import Loss, Roster, admitted, by_plan
from worker.remediate.guards import identity
from worker.remediate.steps import Step

ACCOUNT = "111111111111"
OWN = identity(f"arn:aws:sts::{ACCOUNT}:assumed-role/mender/trailmend")
ALL = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
WITH_MFA = {"Statement": [{**ALL["Statement"][0], "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}]}
NOTHING = {"Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
ADMINISTRATOR = "arn:aws-us-gov:iam::aws:policy/AdministratorAccess"
OWN_POLICY = f"arn:aws:iam::{ACCOUNT}:policy/everything"


def attached(arn: str) -> dict[str, Any]:
    return {"AttachedManagedPolicies": [{"PolicyName": arn.rsplit("/", 1)[-1], "PolicyArn": arn}]}


def inline(document: Any, kind: str = "User", name: str = "p") -> dict[str, Any]:
    return {f"{kind}PolicyList": [{"PolicyName": name, "PolicyDocument": document}]}


def roster(*users: dict[str, Any], groups: Any = (), roles: Any = (), policies: Any = ()) -> Roster:
    return Roster({"UserDetailList": users, "GroupDetailList": groups, "RoleDetailList": roles, "Policies": policies})


EVERYTHING = {
    "Arn": OWN_POLICY,
    "PolicyVersionList": [{"IsDefaultVersion": False, "Document": NOTHING}, {"IsDefaultVersion": True, "Document": ALL}],
}


@pytest.mark.parametrize(
    ("told", "administrator"),
    [
        ({}, False),
        (attached(ADMINISTRATOR), True),
        (attached(OWN_POLICY), True),
        (attached(f"arn:aws:iam::{ACCOUNT}:policy/unread"), None),
        (inline(ALL), True),
        (inline(WITH_MFA), None),
        ({"GroupList": ["admins"]}, True),
        ({"GroupList": ["staff"]}, False),
        ({"GroupList": ["unknown"]}, None),
        ({**attached(ADMINISTRATOR), **inline(NOTHING)}, False),
        ({**inline(ALL), "PermissionsBoundary": {"PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/unread"}}, None),
        ({**inline(ALL), "PermissionsBoundary": {"PermissionsBoundaryArn": OWN_POLICY}}, True),
    ],
)
def test_what_makes_a_user_an_administrator(told: dict[str, Any], administrator: bool | None) -> None:
    """By itself or by a group, within its boundary; what cannot be read, or depends on a condition, is neither yes nor no."""
    groups = [{"GroupName": "admins", **attached(ADMINISTRATOR)}, {"GroupName": "staff"}]
    told_of = roster({"UserName": "Mallory", **told}, groups=groups, policies=[EVERYTHING])
    assert told_of.administrator("mallory") is administrator
    assert list(told_of.others()) == (["Mallory"] if administrator else [])


def test_nobody_knows_a_user_who_is_not_told_of() -> None:
    """Newer than the answer, or gone: not taken for harmless."""
    assert roster().administrator("mallory") is None


def trust(principal: Any, **members: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **members}]}


SAML, OIDC = f"arn:aws:iam::{ACCOUNT}:saml-provider/corp", f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
EKS = f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/1"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (trust({"AWS": "arn:aws:iam::222222222222:root"}), ("account 222222222222", ())),
        (trust({"AWS": ["222222222222"]}), ("account 222222222222", ())),
        (trust({"AWS": "arn:aws:iam::222222222222:user/bob"}, Action=["sts:TagSession", "sts:*"]), ("account 222222222222", ())),
        (trust({"Federated": SAML}, Action="sts:AssumeRoleWithSAML"), (SAML, ())),
        (trust({"Federated": [OIDC]}, Action="sts:AssumeRoleWithWebIdentity"), (OIDC, ())),
        (trust("*"), ("anybody", ())),
        (trust({"AWS": "*"}), ("anybody", ())),
        (trust({"AWS": [f"arn:aws:iam::{ACCOUNT}:user/ops/alice", f"arn:aws:iam::{ACCOUNT}:user/bob"]}), (None, ("alice", "bob"))),
        (trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}), (None, ())),
        (trust({"AWS": ACCOUNT}), (None, ())),
        (trust({"AWS": f"arn:aws:iam::{ACCOUNT}:role/ops"}), (None, ())),
        (trust({"AWS": "AIDAEXAMPLEOFONEWHOISGONE"}), (None, ())),
        (trust({"Service": "ec2.amazonaws.com"}), (None, ())),
        (trust({"Federated": EKS}, Action="sts:AssumeRoleWithWebIdentity"), (None, ())),
        (trust({"Federated": "cognito-identity.amazonaws.com"}, Action="sts:AssumeRoleWithWebIdentity"), (None, ())),
        (trust({"AWS": "222222222222"}, Action="sts:TagSession"), (None, ())),
        (trust({"AWS": "222222222222"}, Condition={"StringEquals": {"sts:ExternalId": "x"}}), (None, ())),
        (trust({"AWS": "222222222222"}, Effect="Deny"), (None, ())),
        (None, (None, ())),
        ({"Statement": "x"}, (None, ())),
    ],
)
def test_whom_a_trust_policy_lets_in(policy: Any, expected: Any) -> None:
    """People from outside, and users by their names; no machine, no vendor, and nobody where anything is denied."""
    assert admitted(policy, ACCOUNT) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(st.sampled_from(["Statement", "Effect", "Action", "Principal", "AWS", "Federated", "Condition"]), v)
        ),
        max_leaves=12,
    )
)
def test_no_trust_policy_makes_the_reader_fail(policy: Any) -> None:
    """Anything at all is read, and lets somebody in only where something is allowed."""
    outside, users = admitted(policy, ACCOUNT)
    assert "Allow" in str(policy) or (outside, users) == (None, ())


def test_only_roles_that_are_administrators_are_ways_in_and_ours_is_none() -> None:
    """Of three roles that an identity provider may assume, one is an administrator and is not our own."""
    door = {"AssumeRolePolicyDocument": trust({"Federated": SAML}, Action="sts:AssumeRoleWithSAML")}
    told = roster(
        roles=[
            {"RoleName": "reader", **door},
            {"RoleName": "Mender", **door, **attached(ADMINISTRATOR)},
            {"RoleName": "break-glass", **door, **attached(ADMINISTRATOR)},
            {"RoleName": "machine", "AssumeRolePolicyDocument": trust({"Service": "ec2.amazonaws.com"}), **attached(ADMINISTRATOR)},
        ]
    )
    assert [one.role for one in told.entrances(ACCOUNT, OWN)] == ["break-glass"]


def test_what_a_plan_takes_from_whom() -> None:
    """Keys, everything, everything until MFA; calls that give or change nothing of that take nothing."""
    of = {"UserName": "mallory"}
    steps = [
        Step("iam", "UpdateAccessKey", {**of, "AccessKeyId": "A", "Status": "Inactive"}, ""),
        Step("iam", "UpdateAccessKey", {**of, "AccessKeyId": "B", "Status": "Active"}, ""),
        Step("iam", "DeleteAccessKey", {**of, "AccessKeyId": "C"}, ""),
        Step("iam", "UpdateLoginProfile", {**of, "PasswordResetRequired": True}, ""),
        Step("iam", "DeleteUserPolicy", {"UserName": "bob", "PolicyName": "TrailmendQuarantine"}, ""),
        Step("iam", "PutUserPolicy", {"UserName": "carol", "PolicyName": "TrailmendEnforceMfa"}, ""),
        Step("iam", "PutUserPolicy", {"UserName": "dave", "PolicyName": "TrailmendQuarantine"}, ""),
        Step("iam", "PutRolePolicy", {"RoleName": "web", "PolicyName": "TrailmendRevokeOlderSessions"}, ""),
    ]
    assert by_plan(steps) == {
        "mallory": Loss(keys=frozenset({"A", "C"})),
        "carol": Loss(until_mfa=True),
        "dave": Loss(denied=True),
    }


@pytest.mark.parametrize(
    ("name", "held"), [("TrailmendQuarantine", Loss(denied=True)), ("TrailmendEnforceMfa", Loss(until_mfa=True)), ("p", Loss())]
)
def test_what_we_hold_already(name: str, held: Loss) -> None:
    """By the names of our own policies."""
    assert roster({"UserName": "mallory", **inline(NOTHING, name=name)}).held("mallory") == held
