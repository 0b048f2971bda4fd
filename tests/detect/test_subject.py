"""Who acted and what was acted on, read from every kind of identity and call, and from anything an attacker may write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.detect.subject import actor_of, subject_of
from worker.model import Actor, Origin, Record, Subject

ACCOUNT = "111122223333"
IAM, EC2, SIGNIN = "iam.amazonaws.com", "ec2.amazonaws.com", "signin.amazonaws.com"
BOB = {"type": "IAMUser", "userName": "bob", "arn": f"arn:aws:iam::{ACCOUNT}:user/staff/bob", "accountId": ACCOUNT}
ROOT = {"type": "Root", "arn": f"arn:aws:iam::{ACCOUNT}:root", "accountId": ACCOUNT}
ISSUER = {"type": "Role", "arn": f"arn:aws:iam::{ACCOUNT}:role/ops/Deploy", "accountId": ACCOUNT, "userName": "Deploy"}
ROLE = {
    "type": "AssumedRole",
    "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/Deploy/CHG0012345",
    "accountId": ACCOUNT,
    "accessKeyId": "ASIAEXAMPLE",
    "principalId": "AROAEXAMPLE:CHG0012345",
    "sessionContext": {"sessionIssuer": ISSUER, "sourceIdentity": "alice", "attributes": {"mfaAuthenticated": "true"}},
}


def record(**members: Any) -> Record:
    return Record(members, Origin(path="x"))


ACTORS: list[tuple[str, dict[str, Any], Actor]] = [
    ("a user", {"userIdentity": BOB}, Actor("IAMUser", BOB["arn"], "bob", ACCOUNT)),
    (
        "a role",
        {"userIdentity": ROLE, "sourceIPAddress": "203.0.113.7", "userAgent": "terraform"},
        Actor(
            "AssumedRole",
            arn=str(ROLE["arn"]),
            name="Deploy",
            account=ACCOUNT,
            session="CHG0012345",
            issuer_arn=ISSUER["arn"],
            source_identity="alice",
            access_key_id="ASIAEXAMPLE",
            mfa=True,
            source_ip="203.0.113.7",
            user_agent="terraform",
        ),
    ),
    (
        "a role without its issuer",
        {"userIdentity": {"type": "AssumedRole", "arn": ROLE["arn"], "sessionContext": {"sessionIssuer": {}}}},
        Actor("AssumedRole", str(ROLE["arn"]), "Deploy", ACCOUNT, session="CHG0012345"),
    ),
    (
        "a role known by its principal alone",
        {"userIdentity": {"type": "AssumedRole", "principalId": "AROAEXAMPLE:i-0123"}},
        Actor("AssumedRole", session="i-0123"),
    ),
    ("root", {"userIdentity": {**ROOT, "userName": "the alias"}}, Actor("Root", ROOT["arn"], "root", ACCOUNT)),
    (
        "a service",
        {"userIdentity": {"type": "AWSService", "invokedBy": "autoscaling.amazonaws.com"}},
        Actor("AWSService", name="autoscaling.amazonaws.com"),
    ),
    ("another account", {"userIdentity": {"type": "AWSAccount", "accountId": "999900001111"}}, Actor("AWSAccount", account="999900001111")),
    (
        "a user of IAM Identity Center",
        {"userIdentity": {"type": "IdentityCenterUser", "accountId": ACCOUNT, "onBehalfOf": {"userId": "9067-1a"}}},
        Actor("IdentityCenterUser", name="9067-1a", account=ACCOUNT),
    ),
    (
        "a federated user",
        {"userIdentity": {"type": "FederatedUser", "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/eve"}},
        Actor("FederatedUser", f"arn:aws:sts::{ACCOUNT}:federated-user/eve", "eve", ACCOUNT, session="eve"),
    ),
    ("nobody", {}, Actor("Unknown")),
    ("an identity that is none", {"userIdentity": ["x"]}, Actor("Unknown")),
    (
        "a sign-in tells MFA elsewhere",
        {"userIdentity": {"type": "IAMUser", "userName": "bob"}, "additionalEventData": {"MFAUsed": "No"}},
        Actor("IAMUser", name="bob", mfa=False),
    ),
    (
        "a role's sign-in tells nothing of MFA",
        {"userIdentity": {"type": "AssumedRole"}, "additionalEventData": {"MFAUsed": "No"}},
        Actor("AssumedRole"),
    ),
    (
        "a name that may be a password",
        {"userIdentity": {"type": "IAMUser", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"}},
        Actor("IAMUser"),
    ),
    (
        "MFA as a bool, and as nonsense",
        {"userIdentity": {"type": "IAMUser", "sessionContext": {"attributes": {"mfaAuthenticated": "perhaps"}}}},
        Actor("IAMUser"),
    ),
]


@pytest.mark.parametrize(("members", "actor"), [pytest.param(*case[1:], id=case[0]) for case in ACTORS])
def test_the_actor(members: dict[str, Any], actor: Actor):
    """Each kind of identity gives the same few answers, and None for what it does not tell."""
    assert actor_of(record(**members)) == actor


def call(source: str, name: str, request: Any = None, response: Any = None, identity: Any = BOB, **more: Any) -> dict[str, Any]:
    told = {"eventSource": source, "eventName": name, "awsRegion": "eu-west-1", "recipientAccountId": ACCOUNT, "userIdentity": identity}
    return {**told, "requestParameters": request, "responseElements": response, **more}


def profile(name: str | None = "web", arn: str | None = f"arn:aws:iam::{ACCOUNT}:instance-profile/web") -> Subject:
    return Subject("instance-profile", name, arn, ACCOUNT)


def user(name: str, arn: str | None = None) -> Subject:
    return Subject("user", name, arn or f"arn:aws:iam::{ACCOUNT}:user/{name}", ACCOUNT)


NAMED = {"instanceProfileName": "web"}
ASSOCIATED = {
    "iamInstanceProfileAssociation": {
        "instanceId": "i-0abc",
        "iamInstanceProfile": {"arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/a/web"},
    }
}
DEEP = f"arn:aws:iam::{ACCOUNT}:instance-profile/a/web"
GOV = {**BOB, "arn": f"arn:aws-us-gov:iam::{ACCOUNT}:user/bob"}

SUBJECTS: list[tuple[str, dict[str, Any], Subject]] = [
    ("a profile", call(IAM, "DeleteInstanceProfile", NAMED), profile()),
    ("a profile, denied", call(IAM, "DeleteInstanceProfile"), profile(None, None)),
    ("a profile with a path", call(IAM, "CreateInstanceProfile", {**NAMED, "path": "/a/"}), profile(arn=DEEP)),
    ("a profile that the answer knows", call(IAM, "CreateInstanceProfile", NAMED, {"instanceProfile": {"arn": DEEP}}), profile(arn=DEEP)),
    (
        "a profile in GovCloud",
        call(IAM, "DeleteInstanceProfile", NAMED, identity=GOV),
        profile(arn=f"arn:aws-us-gov:iam::{ACCOUNT}:instance-profile/web"),
    ),
    (
        "a profile in China, deleted by a service",
        call(IAM, "DeleteInstanceProfile", NAMED, identity={"type": "AWSService"}, awsRegion="cn-north-1"),
        profile(arn=f"arn:aws-cn:iam::{ACCOUNT}:instance-profile/web"),
    ),
    ("another service's profile", call("dms.amazonaws.com", "DeleteInstanceProfile", NAMED), Subject("unknown", account=ACCOUNT)),
    (
        "an association by name",
        call(EC2, "AssociateIamInstanceProfile", {"AssociateIamInstanceProfileRequest": {"IamInstanceProfile": {"Name": "web"}}}),
        profile(),
    ),
    (
        "an association by ARN",
        call(EC2, "AssociateIamInstanceProfile", {"AssociateIamInstanceProfileRequest": {"IamInstanceProfile": {"Arn": DEEP}}}),
        profile(arn=DEEP),
    ),
    (
        "an association whose answer knows more",
        call(
            EC2,
            "ReplaceIamInstanceProfileAssociation",
            {"ReplaceIamInstanceProfileAssociationRequest": {"IamInstanceProfile": {"Name": "web"}, "AssociationId": "iip-1"}},
            {"ReplaceIamInstanceProfileAssociationResponse": ASSOCIATED},
        ),
        profile(arn=DEEP),
    ),
    (
        "an association without wrapping",
        call(EC2, "DisassociateIamInstanceProfile", {"associationId": "iip-1"}, ASSOCIATED),
        profile(arn=DEEP),
    ),
    (
        "an association that names only the instance",
        call(EC2, "AssociateIamInstanceProfile", {"AssociateIamInstanceProfileRequest": {"InstanceId": "i-0abc"}}),
        Subject("instance", "i-0abc", f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/i-0abc", ACCOUNT),
    ),
    ("an association, denied", call(EC2, "DisassociateIamInstanceProfile"), Subject("instance", account=ACCOUNT)),
    (
        "a key made for another",
        call(IAM, "CreateAccessKey", {"userName": "eve"}, {"accessKey": {"accessKeyId": "AKIA1", "userName": "eve"}}),
        Subject("access-key", "AKIA1", None, ACCOUNT, "eve"),
    ),
    (
        "a key made for oneself",
        call(IAM, "CreateAccessKey", None, {"accessKey": {"accessKeyId": "AKIA1"}}),
        Subject("access-key", "AKIA1", None, ACCOUNT, "bob"),
    ),
    ("a key that is there", call(IAM, "UpdateAccessKey", {"accessKeyId": "AKIA2"}), Subject("access-key", "AKIA2", None, ACCOUNT, "bob")),
    (
        "a key of root's has no user",
        call(IAM, "CreateAccessKey", None, {"accessKey": {"accessKeyId": "AKIA1"}}, ROOT),
        Subject("access-key", "AKIA1", None, ACCOUNT),
    ),
    ("a user", call(IAM, "CreateLoginProfile", {"userName": "eve"}), user("eve")),
    ("the calling user, whose path is known", call(IAM, "DeactivateMFADevice", {"userName": "bob"}), user("bob", BOB["arn"])),
    ("the calling user, not named", call(IAM, "DeleteLoginProfile"), user("bob", BOB["arn"])),
    ("a user denied by a role", call(IAM, "DeleteLoginProfile", identity=ROLE), Subject("unknown", account=ACCOUNT)),
    ("a policy's user", call(IAM, "PutUserPolicy", {"userName": "eve", "policyName": "p"}), user("eve")),
    (
        "a virtual MFA device",
        call(IAM, "DeleteVirtualMFADevice", {"serialNumber": f"arn:aws:iam::{ACCOUNT}:mfa/eve"}),
        Subject("unknown", "eve", f"arn:aws:iam::{ACCOUNT}:mfa/eve", ACCOUNT),
    ),
    (
        "root's MFA device",
        call(IAM, "DeactivateMFADevice", {"serialNumber": f"arn:aws:iam::{ACCOUNT}:mfa/root-account-mfa-device"}, identity=ROOT),
        Subject("root", "root", f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT),
    ),
    ("the password policy", call(IAM, "DeleteAccountPasswordPolicy"), Subject("account", ACCOUNT, None, ACCOUNT)),
    ("a user's sign-in", call(SIGNIN, "ConsoleLogin", None, {"ConsoleLogin": "Success"}), user("bob", BOB["arn"])),
    ("root's sign-in", call(SIGNIN, "ConsoleLogin", identity=ROOT), Subject("root", "root", ROOT["arn"], ACCOUNT)),
    ("a role's sign-in", call(SIGNIN, "ConsoleLogin", identity=ROLE), Subject("unknown", account=ACCOUNT)),
    (
        "a sign-in with a name that may be a password",
        call(SIGNIN, "ConsoleLogin", identity={"type": "IAMUser", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"}),
        Subject("unknown", account=ACCOUNT),
    ),
    ("anything that root did", call("s3.amazonaws.com", "DeleteBucket", {}, identity=ROOT), Subject("root", "root", ROOT["arn"], ACCOUNT)),
    ("anything else", call("s3.amazonaws.com", "DeleteBucket", {"bucketName": "b"}), Subject("unknown", account=ACCOUNT)),
    ("nothing at all", {}, Subject("unknown")),
]


@pytest.mark.parametrize(("members", "subject"), [pytest.param(*case[1:], id=case[0]) for case in SUBJECTS])
def test_the_subject(members: dict[str, Any], subject: Subject):
    """Each kind of call gives what it acted on, as far as the record tells; the event source decides."""
    assert subject_of(record(**members)) == subject


SEEN = [
    "userIdentity",
    "type",
    "arn",
    "userName",
    "sessionContext",
    "sessionIssuer",
    "attributes",
    "mfaAuthenticated",
    "accountId",
    "principalId",
]
SEEN += [
    "requestParameters",
    "responseElements",
    "instanceProfileName",
    "serialNumber",
    "accessKey",
    "IamInstanceProfile",
    "Name",
    "InstanceId",
]
TEXTS = [
    IAM,
    EC2,
    SIGNIN,
    "DeleteInstanceProfile",
    "CreateAccessKey",
    "DisassociateIamInstanceProfile",
    "DeactivateMFADevice",
    "AssumedRole",
    "Root",
    "FederatedUser",
    "arn:aws:sts::1:assumed-role",
    "arn::::",
    "/",
    ":",
    "",
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(TEXTS) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(SEEN), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from([*SEEN, "eventSource", "eventName", "awsRegion", "recipientAccountId"]), ANYTHING, max_size=8))
def test_nothing_that_a_record_holds_raises(members: dict[str, Any]):
    """Members of any type, or missing, give an actor and a subject whose every member is text, truth or None."""
    actor, subject = actor_of(record(**members)), subject_of(record(**members))
    assert isinstance(actor.type, str)
    assert actor.mfa in (True, False, None)
    assert all(value is None or isinstance(value, str) for value in (actor.name, actor.arn, actor.session, actor.account, subject.name))
    assert subject.type in {"instance-profile", "user", "access-key", "instance", "account", "root", "unknown"}
