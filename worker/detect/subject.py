"""Who acted, and what was acted on, as a CloudTrail record tells it: pure.

In goes a `Record`, whose members may be missing or of any type; out come an `Actor` and a `Subject`, never an exception. What the record
does not tell stays None. Members: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html
The event source decides what a name means: other services have a `DeleteInstanceProfile` too.
A newcomer adds a kind of subject with a function and a line in `subject_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.model import Actor, Record, Subject

OWN_USER = frozenset(
    {
        "ChangePassword",
        "CreateAccessKey",
        "CreateLoginProfile",
        "DeactivateMFADevice",
        "DeleteAccessKey",
        "DeleteLoginProfile",
        "UpdateAccessKey",
    }
)
"""IAM calls that act on the caller where they name no user."""

ACCESS_KEY = frozenset({"CreateAccessKey", "DeleteAccessKey", "UpdateAccessKey"})
PASSWORD_POLICY = frozenset({"DeleteAccountPasswordPolicy", "UpdateAccountPasswordPolicy"})
ASSOCIATION = frozenset({"AssociateIamInstanceProfile", "DisassociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation"})

ROOT = "root"
ROOT_MFA = "root-account-mfa-device"
HIDDEN_NAME = "HIDDEN_DUE_TO_SECURITY_REASONS"
"""What CloudTrail writes for the name in a failed sign-in, which may be a password typed into the wrong box."""

NOTHING: Mapping[str, Any] = {}

DEEPEST = 8
"""EC2 wraps an association's members twice at most; deeper is not its writing."""


def actor_of(record: Record) -> Actor:
    """Who made the call."""
    identity = _object(record.event.get("userIdentity"))
    session_context = _object(identity.get("sessionContext"))
    issuer = _object(session_context.get("sessionIssuer"))
    identity_type, arn = _text(identity.get("type")), _text(identity.get("arn"))
    account = _text(identity.get("accountId")) or _text(issuer.get("accountId")) or _arn_part(arn, 4)
    name, session = _text(identity.get("userName")), None
    resource = (_arn_part(arn, 5) or "").split("/")
    if identity_type == "AssumedRole":
        session = resource[-1] if resource[0] == "assumed-role" and len(resource) > 2 else _session_of(identity)
        name = _text(issuer.get("userName")) or (resource[1] if resource[0] == "assumed-role" and len(resource) > 1 else None)
    elif identity_type == "Root":
        name = ROOT
    elif identity_type == "AWSService":
        name = _text(identity.get("invokedBy"))
    elif identity_type == "IdentityCenterUser":
        name = name or record.text("userIdentity", "onBehalfOf", "userId")
    elif identity_type == "FederatedUser":
        session = resource[-1] if resource[0] == "federated-user" and len(resource) > 1 else None
        name = name or session
    return Actor(
        type=identity_type or "Unknown",
        arn=arn,
        name=None if name == HIDDEN_NAME else name,
        account=account,
        session=session,
        issuer_arn=_text(issuer.get("arn")),
        source_identity=_text(session_context.get("sourceIdentity")),
        access_key_id=_text(identity.get("accessKeyId")),
        mfa=_mfa(record, identity_type, session_context),
        source_ip=record.text("sourceIPAddress"),
        user_agent=record.text("userAgent"),
    )


def subject_of(record: Record) -> Subject:
    """What was acted on. Where the record names nothing, `Subject("unknown")`; for anything else that root did, root itself."""
    found = None
    if record.source == "iam.amazonaws.com":
        found = _iam(record)
    elif record.source == "ec2.amazonaws.com" and record.name in ASSOCIATION:
        found = _association(record)
    elif record.source == "signin.amazonaws.com":
        found = _signed_in(record)
    if found is not None:
        return found
    if record.text("userIdentity", "type") == "Root":
        return Subject("root", ROOT, record.text("userIdentity", "arn"), record.account)
    return Subject("unknown", account=record.account)


# IAM.


def _iam(record: Record) -> Subject | None:
    if record.name.endswith("InstanceProfile"):
        name = record.text("requestParameters", "instanceProfileName")
        told = record.text("responseElements", "instanceProfile", "arn")
        path = record.text("responseElements", "instanceProfile", "path") or record.text("requestParameters", "path")
        return _instance_profile(record, name or _last(told), told, path)
    if record.name in PASSWORD_POLICY:
        return Subject("account", record.account, account=record.account)
    if record.name in ACCESS_KEY:
        return _access_key(record)
    if record.name == "DeleteVirtualMFADevice" or (record.name == "DeactivateMFADevice" and _user_name(record) is None):
        return _mfa_device(record)
    return _user(record, _user_name(record))


def _instance_profile(record: Record, name: str | None, arn: str | None, path: str | None = None) -> Subject:
    if arn is None and name is not None and record.account is not None:
        arn = f"arn:{_partition(record)}:iam::{record.account}:instance-profile{path or '/'}{name}"
    return Subject("instance-profile", name, arn, record.account)


def _access_key(record: Record) -> Subject:
    key = record.text("requestParameters", "accessKeyId") or record.text("responseElements", "accessKey", "accessKeyId")
    owner = _user_name(record) or record.text("responseElements", "accessKey", "userName")
    return Subject("access-key", key, account=record.account, owner=owner)


def _mfa_device(record: Record) -> Subject | None:
    """The device, under its serial number: nothing says whose a virtual one was, though it often bears its user's name."""
    serial = record.text("requestParameters", "serialNumber")
    if serial is None:
        return None
    if _last(serial) == ROOT_MFA:
        return Subject("root", ROOT, f"arn:{_partition(record)}:iam::{record.account}:root" if record.account else None, record.account)
    return Subject("unknown", _last(serial), serial, record.account)


def _user_name(record: Record) -> str | None:
    """The user that an IAM call names, or its caller where it names none and acts on the caller."""
    named = record.text("requestParameters", "userName")
    if named is None and record.name in OWN_USER and record.text("userIdentity", "type") == "IAMUser":
        return record.text("userIdentity", "userName")
    return named


def _user(record: Record, name: str | None) -> Subject | None:
    if name is None:
        return None
    arn = record.text("responseElements", "user", "arn")
    if arn is None and record.text("userIdentity", "type") == "IAMUser" and record.text("userIdentity", "userName") == name:
        arn = record.text("userIdentity", "arn")  # it knows the user's path, which the call does not tell
    if arn is None and record.account is not None:
        arn = f"arn:{_partition(record)}:iam::{record.account}:user/{name}"
    return Subject("user", name, arn, record.account)


# EC2 and sign-in.


def _association(record: Record) -> Subject:
    """The profile where request or answer names it, else the instance.

    CloudTrail wraps these calls: `requestParameters.AssociateIamInstanceProfileRequest.IamInstanceProfile.Name`, and in the answer
    `responseElements.AssociateIamInstanceProfileResponse.iamInstanceProfileAssociation.iamInstanceProfile.arn`.
    """
    request, answer = record.get("requestParameters"), record.get("responseElements")
    arn: str | None = None
    for part in (request, answer):
        profile = _within(part, "iaminstanceprofile")
        named = _within(profile, "name")
        arn = _text(_within(profile, "arn")) or arn
        if isinstance(named, str) and named:
            told = _text(_within(_within(answer, "iaminstanceprofile"), "arn"))
            return _instance_profile(record, named, arn or told)
    if arn is not None:
        return _instance_profile(record, _last(arn), arn)
    instance = _text(_within(request, "instanceid")) or _text(_within(answer, "instanceid"))
    region = record.region
    known = instance is not None and region is not None and record.account is not None
    return Subject(
        "instance",
        instance,
        f"arn:{_partition(record)}:ec2:{region}:{record.account}:instance/{instance}" if known else None,
        record.account,
    )


def _signed_in(record: Record) -> Subject | None:
    if record.text("userIdentity", "type") != "IAMUser":
        return None
    name = record.text("userIdentity", "userName")
    return _user(record, None if name == HIDDEN_NAME else name)


# Reading.


def _within(value: Any, name: str, depth: int = 0) -> Any:
    """The first member of that name, case aside, in nested objects; nearer ones first."""
    if not isinstance(value, Mapping) or depth > DEEPEST:
        return None
    for key, member in value.items():
        if key.lower() == name:
            return member
    for member in value.values():
        found = _within(member, name, depth + 1)
        if found is not None:
            return found
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, (dict, Mapping)) else NOTHING


def _arn_part(arn: str | None, number: int) -> str | None:
    """One of an ARN's six parts: arn, partition, service, region, account, resource."""
    parts = (arn or "").split(":", 5)
    return parts[number] or None if len(parts) == 6 and parts[0] == "arn" else None


def _last(arn: str | None) -> str | None:
    return arn.rsplit("/", 1)[-1] or None if arn else None


def _partition(record: Record) -> str:
    """`aws`, `aws-us-gov`, `aws-cn`, ...: the caller's, else the region's."""
    told = _arn_part(record.text("userIdentity", "arn"), 1)
    if told is not None:
        return told
    region = record.region or ""
    return {"us-gov": "aws-us-gov", "cn": "aws-cn"}.get(region.rsplit("-", 2)[0], "aws")


def _session_of(identity: Mapping[str, Any]) -> str | None:
    """The session's name from the principal's id, `AROA...:name`."""
    principal = _text(identity.get("principalId")) or ""
    return principal.partition(":")[2] or None


def _mfa(record: Record, identity_type: str | None, session_context: Mapping[str, Any]) -> bool | None:
    """Whether the session was opened with MFA. A console sign-in of a user or root tells it elsewhere, before there is a session."""
    told = _object(session_context.get("attributes")).get("mfaAuthenticated")
    if told is None and identity_type in ("IAMUser", "Root"):
        told = record.get("additionalEventData", "MFAUsed")
    if isinstance(told, bool):
        return told
    return {"true": True, "false": False, "yes": True, "no": False}.get(told.lower()) if isinstance(told, str) else None
