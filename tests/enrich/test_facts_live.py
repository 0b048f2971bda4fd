"""Each fact against an embedded AWS, in the worker's own account and in a member account entered through its role."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.enrich.aws import MEMBER, OWN, client
from worker.enrich.profile import events_of
from worker.model import Actor, FactSource, FactStatus, Finding, Origin, Record, Subject

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}

Make = Callable[..., Finding]


def made_profile(account: str, name: str, role: str, path: str = "/") -> Any:
    iam = client("iam", account)
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=[{"Key": "team", "Value": "ops"}])
    made = iam.create_instance_profile(InstanceProfileName=name, Path=path, Tags=[{"Key": "change", "Value": "CHG0042"}])
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
    return made["InstanceProfile"]


def run_instance(account: str, region: str, profile: str, *tags: tuple[str, str]) -> str:
    ec2 = client("ec2", account, region)
    answer = ec2.run_instances(
        ImageId="ami-12345678",
        MinCount=1,
        MaxCount=1,
        IamInstanceProfile={"Arn": profile},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags]}],
    )
    return str(answer["Instances"][0]["InstanceId"])


def profile(name: str) -> Subject:
    return Subject("instance-profile", name)


async def test_a_user_without_mfa_is_told_with_password_and_keys(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Password and its reset flag, no devices (known, not unknown), and both keys with their status; no secret anywhere."""
    iam = client("iam")
    iam.create_user(UserName="eve", Path="/staff/", Tags=[{"Key": "team", "Value": "ops"}])
    iam.create_login_profile(UserName="eve", Password="Hunter2-hunter2", PasswordResetRequired=True)
    first = iam.create_access_key(UserName="eve")["AccessKey"]
    second = iam.create_access_key(UserName="eve")["AccessKey"]
    iam.update_access_key(UserName="eve", AccessKeyId=second["AccessKeyId"], Status="Inactive")
    actor = Actor("IAMUser", f"arn:aws:iam::{OWN}:user/staff/eve", "eve", OWN)
    fact = (await investigate(make_finding(actor=actor)))["user"]
    assert (fact.status, fact.source, fact.reason) == (FactStatus.KNOWN, FactSource.LIVE, None)
    assert (fact.value["path"], fact.value["tags"], fact.value["mfa_devices"]) == ("/staff/", {"team": "ops"}, [])
    assert fact.value["console_password"]["exists"] is True
    assert fact.value["console_password"]["reset_required"] is True
    assert {key["id"]: (key["status"], key["last_used"]) for key in fact.value["access_keys"]} == {
        first["AccessKeyId"]: ("Active", None),
        second["AccessKeyId"]: ("Inactive", None),
    }
    assert first["SecretAccessKey"] not in json.dumps(fact.value)


async def test_a_user_with_mfa_and_no_password(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """NoSuchEntity for the login profile means: no password; the device tells its kind by its serial number."""
    iam = client("iam")
    iam.create_user(UserName="ann")
    serial = iam.create_virtual_mfa_device(VirtualMFADeviceName="ann")["VirtualMFADevice"]["SerialNumber"]
    iam.enable_mfa_device(UserName="ann", SerialNumber=serial, AuthenticationCode1="123456", AuthenticationCode2="654321")
    value = (await investigate(make_finding(actor=Actor("IAMUser", name="ann", account=OWN))))["user"].value
    assert value["console_password"] == {"exists": False, **dict.fromkeys(("created", "age_seconds", "idle_seconds", "reset_required"))}
    assert [(device["serial"], device["kind"]) for device in value["mfa_devices"]] == [(serial, "virtual")]


async def test_a_user_is_told_with_how_old_everything_is(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Ages count from when AWS was asked; a key made after the event is told from one that was there, or that the event made."""
    iam = client("iam")
    made = iam.create_user(UserName="eve")["User"]["CreateDate"]
    iam.create_login_profile(UserName="eve", Password="Hunter2-hunter2")
    created = iam.create_access_key(UserName="eve")["AccessKey"]["CreateDate"]
    actor = Actor("IAMUser", name="eve", account=OWN)
    for shift, after in ((-1, True), (0, False), (3600, False)):
        time = (created + timedelta(seconds=shift)).isoformat()
        fact = (await investigate(make_finding(actor=actor, eventTime=time)))["user"]
        (key,) = fact.value["access_keys"]
        assert (key["made_after_event"], key["idle_seconds"]) == (after, None)
        asked_after = (fact.observed_at - made).total_seconds()
        for age in (fact.value["age_seconds"], key["age_seconds"], fact.value["console_password"]["age_seconds"]):
            assert 0 <= age <= asked_after + 2
    nowhen = (await investigate(make_finding(actor=actor, eventTime=None)))["user"].value["access_keys"][0]
    assert nowhen["made_after_event"] is None


async def test_a_user_that_was_deleted_is_gone(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Gone is an answer, not a failure; the same for the owner of a key as the finding's subject."""
    finding = make_finding(
        "DeleteAccessKey", actor=Actor("IAMUser", name="bob", account=OWN), subject=Subject("access-key", "AKIA1", owner="cy")
    )
    facts = await investigate(finding)
    assert facts["user"].status is facts["subject_user"].status is FactStatus.GONE
    assert (facts["user"].value, facts["user"].reason) == (None, None)


async def test_the_user_it_was_done_to_is_asked_for_in_the_records_account(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Actor and subject live in different accounts here, under one name: each is looked up in its own."""
    for account in (OWN, MEMBER):
        client("iam", account).create_user(UserName="ann", Path=f"/{account}/")
    client("iam", MEMBER).create_role(RoleName="trailmend", AssumeRolePolicyDocument=json.dumps(TRUST))
    actor = Actor("IAMUser", name="ann", account=OWN)
    facts = await investigate(make_finding("CreateLoginProfile", actor=actor, subject=Subject("user", "ann"), recipientAccountId=MEMBER))
    assert (facts["user"].value["path"], facts["subject_user"].value["path"]) == (f"/{OWN}/", f"/{MEMBER}/")


async def test_the_role_behind_a_session_tells_who_may_assume_it(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Trust, tags and path of the issuing role; and gone once it is deleted."""
    made_profile(OWN, "web", "web-role")
    actor = Actor("AssumedRole", name="web-role", account=OWN, session="i-1", issuer_arn=f"arn:aws:iam::{OWN}:role/web-role")
    fact = (await investigate(make_finding(actor=actor)))["role"]
    assert fact.value["trust"] == [
        {"effect": "Allow", "who": ["Service:ec2.amazonaws.com"], "actions": ["sts:AssumeRole"], "conditional": False}
    ]
    assert (fact.value["service_linked"], fact.value["tags"], fact.value["path"]) == (False, {"team": "ops"}, "/")
    other = Actor("AssumedRole", name="none", account=OWN, issuer_arn=f"arn:aws:iam::{OWN}:role/none")
    assert (await investigate(make_finding(actor=other)))["role"].status is FactStatus.GONE


async def test_a_living_profile_in_a_member_account(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Roles, path and tags as they are now, read in the member account."""
    client("iam", MEMBER).create_role(RoleName="trailmend", AssumeRolePolicyDocument=json.dumps(TRUST))
    made = made_profile(MEMBER, "web", "web-role", "/apps/")
    facts = await investigate(make_finding("AddRoleToInstanceProfile", subject=profile("web"), recipientAccountId=MEMBER))
    value = facts["profile_live"].value
    assert (value["arn"], value["path"], value["roles"], value["tags"]) == (made["Arn"], "/apps/", ["web-role"], {"change": "CHG0042"})
    assert facts["account"].value == {"id": MEMBER, "alias": None, "ours": False, "unknown": {}}


async def test_instances_of_a_deleted_profile_are_found_in_every_region(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """By the ARN they keep; other profiles' instances, and those of the same name in another account, are not taken along."""
    web, other = made_profile(OWN, "web", "web-role", "/apps/"), made_profile(OWN, "web2", "web2-role")
    here = run_instance(OWN, "us-east-1", web["Arn"], ("Name", "web-1"), ("Environment", "prod"))
    there = run_instance(OWN, "eu-west-1", web["Arn"])
    stopped = run_instance(OWN, "eu-west-1", web["Arn"])
    client("ec2", OWN, "eu-west-1").stop_instances(InstanceIds=[stopped])
    run_instance(OWN, "us-east-1", other["Arn"])
    run_instance(MEMBER, "us-east-1", f"arn:aws:iam::{MEMBER}:instance-profile/web")
    iam = client("iam")
    iam.remove_role_from_instance_profile(InstanceProfileName="web", RoleName="web-role")
    iam.delete_instance_profile(InstanceProfileName="web")
    facts = await investigate(make_finding(subject=profile("web")), regions=())
    assert facts["profile_live"].status is FactStatus.GONE
    value = facts["instances"].value
    found = {each["id"]: each for each in value["instances"]}
    assert set(found) == {here, there, stopped}
    assert (value["total"], value["by_state"]) == (3, {"running": 2, "stopped": 1})
    assert (found[here]["name"], found[here]["environment"], found[here]["region"]) == ("web-1", "prod", "us-east-1")
    assert [each["state"] for each in value["instances"]] == ["running", "running", "stopped"]
    assert {"us-east-1", "eu-west-1"} <= set(value["regions"])
    assert value["regions_unknown"] == []


async def test_the_profile_named_in_an_association_call_is_looked_into(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """A finding about an instance tells the profile that its association names, also when it is named by ARN."""
    made = made_profile(OWN, "web", "web-role", "/apps/")
    finding = make_finding("ReplaceIamInstanceProfileAssociation", subject=Subject("instance-profile", "web", made["Arn"]))
    assert (await investigate(finding))["profile_live"].value["roles"] == ["web-role"]


async def test_an_account_with_an_alias_is_told_by_it(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """The alias people know the account by, and that it is the worker's own."""
    client("iam").create_account_alias(AccountAlias="acme-prod")
    fact = (await investigate(make_finding()))["account"]
    assert fact.value == {"id": OWN, "alias": "acme-prod", "ours": True, "unknown": {}}


async def test_an_account_that_cannot_be_entered_leaves_reasons(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Without a member role every live fact of the account is unknown and says what to set; memory and verdicts stand."""
    facts = await investigate(make_finding(subject=profile("web"), recipientAccountId=MEMBER), member_role_name=None)
    for name in ("profile_live", "instances", "replaced"):
        assert facts[name].status is FactStatus.UNKNOWN
        assert "TRAILMEND_MEMBER_ROLE_NAME" in facts[name].reason
    assert facts["account"].value["ours"] is False
    assert "TRAILMEND_MEMBER_ROLE_NAME" in facts["account"].reason
    assert facts["authorised"].status is FactStatus.KNOWN


@pytest.mark.parametrize("role", ["web-role", None])
async def test_a_replacement_is_seen_by_what_is_there_now(
    embedded_aws: str, make_finding: Make, investigate: Any, store: Any, role: str | None
) -> None:
    """The log has the removal and delete alone; IAM has a younger profile. Made again without its role, it says so."""
    event = {
        "eventName": "RemoveRoleFromInstanceProfile",
        "eventSource": "iam.amazonaws.com",
        "eventTime": "2026-01-02T03:04:05Z",
        "recipientAccountId": OWN,
        "requestParameters": {"instanceProfileName": "web", "roleName": "web-role"},
    }
    store.events += events_of(Record(event, Origin(path="x")))
    made_profile(OWN, "web", "web-role")
    if role is None:
        client("iam").remove_role_from_instance_profile(InstanceProfileName="web", RoleName="web-role")
    finding = make_finding(subject=profile("web"), requestParameters={"instanceProfileName": "web"}, eventTime="2026-01-02T03:04:05Z")
    fact = (await investigate(finding))["replaced"]
    assert (fact.source, fact.value["replaced"], fact.value["same_role"]) == (FactSource.LIVE, True, role is not None)
    assert fact.value["roles"] == ([role] if role else [])
    assert fact.value["after_seconds"] > 0


async def test_a_change_in_the_profiles_tags_documents_it(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """The profile's own tags name the change; asked once for both facts."""
    made_profile(OWN, "web", "web-role")
    facts = await investigate(make_finding("RemoveRoleFromInstanceProfile", subject=profile("web")), change_pattern=r"CHG[0-9]{4,}")
    assert facts["documented"].value == {"documented": True, "change": "CHG0042", "where": "tag of the profile as it is now: change"}
    assert facts["documented"].source is FactSource.LIVE
