"""CloudTrail records as AWS writes them, for a story to be told with: who calls, and what the record of the call looks like.

In go a caller, a call and the dice (a seeded `random.Random`, for the ids); out comes one record as a dict, with the members, their order
and their types as in original objects of event version 1.11. Field meanings:
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

Record = dict[str, Any]

BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who makes calls: the `userIdentity` that CloudTrail records of them, and from where with what."""

    account: str
    identity: Mapping[str, Any]
    address: str
    agent: str


def stamp(moment: datetime) -> str:
    """A moment (UTC) as `eventTime` has it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def create_date(moment: datetime) -> str:
    """A moment (UTC) as IAM's `responseElements` have it: `Jul 10, 2023 12:07:17 PM`."""
    return f"{moment:%b} {moment.day}, {moment.year} {moment.hour % 12 or 12}:{moment:%M:%S %p}"


def unique_id(dice: Random, prefix: str) -> str:
    """An IAM unique id of 20 characters: AKIA, ASIA, AIDA, AROA or AIPA and 16 more."""
    return prefix + "".join(dice.choices(BASE32, k=16))


def uuid(dice: Random) -> str:
    """A version 4 UUID, as event and request ids are."""
    return str(UUID(int=dice.getrandbits(128), version=4))


def iam_user(
    account: str, name: str, user_id: str, key_id: str, *, address: str, agent: str, console_since: datetime | None = None
) -> Caller:
    """An IAM user with a key of its own, or, given when it signed in without MFA, with the key of its console session."""
    identity = {
        "type": "IAMUser",
        "principalId": user_id,
        "arn": f"arn:aws:iam::{account}:user/{name}",
        "accountId": account,
        "accessKeyId": key_id,
        "userName": name,
    }
    if console_since is not None:
        attributes = {"creationDate": stamp(console_since), "mfaAuthenticated": "false"}
        identity["sessionContext"] = {"sessionIssuer": {}, "webIdFederationData": {}, "attributes": attributes}  # type: ignore[assignment]
    return Caller(account, identity, address, agent)


def assumed_role(
    account: str,
    role: str,
    role_id: str,
    session: str,
    key_id: str,
    *,
    address: str,
    agent: str,
    since: datetime,
    mfa: bool = False,
    source_identity: str | None = None,
    on_instance: bool = False,
) -> Caller:
    """A session of a role. `on_instance` says that EC2's metadata service handed its keys out."""
    context: dict[str, Any] = {
        "sessionIssuer": {
            "type": "Role",
            "principalId": role_id,
            "arn": f"arn:aws:iam::{account}:role/{role}",
            "accountId": account,
            "userName": role.rpartition("/")[2],
        },
        "webIdFederationData": {},
        "attributes": {"creationDate": stamp(since), "mfaAuthenticated": "true" if mfa else "false"},
    }
    if source_identity is not None:
        context["sourceIdentity"] = source_identity
    if on_instance:
        context["ec2RoleDelivery"] = "2.0"
    identity = {
        "type": "AssumedRole",
        "principalId": f"{role_id}:{session}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{role.rpartition('/')[2]}/{session}",
        "accountId": account,
        "accessKeyId": key_id,
        "sessionContext": context,
    }
    return Caller(account, identity, address, agent)


def aws_service(account: str, service: str) -> Caller:
    """An AWS service acting in an account on its own behalf."""
    return Caller(account, {"type": "AWSService", "invokedBy": service}, service, service)


def api_call(
    dice: Random,
    caller: Caller,
    at: datetime,
    service: str,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    response: Mapping[str, Any] | None = None,
    *,
    region: str = "us-east-1",
    error: tuple[str, str] | None = None,
    read_only: bool = False,
) -> Record:
    """One API call. `service` is the event source's first label (`iam`); `error` is the code and message of a failed call."""
    record: Record = {
        "eventVersion": "1.11",
        "userIdentity": dict(caller.identity),
        "eventTime": stamp(at),
        "eventSource": f"{service}.amazonaws.com",
        "eventName": name,
        "awsRegion": region,
        "sourceIPAddress": caller.address,
        "userAgent": caller.agent,
    }
    if error is not None:
        record["errorCode"], record["errorMessage"] = error
    record |= {
        "requestParameters": None if parameters is None else dict(parameters),
        "responseElements": None if response is None else dict(response),
        "requestID": uuid(dice),
        "eventID": uuid(dice),
        "readOnly": read_only,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": caller.account,
        "eventCategory": "Management",
    }
    if caller.identity["type"] != "AWSService":
        endpoint = f"{service}.amazonaws.com" if service in ("iam", "sts") else f"{service}.{region}.amazonaws.com"
        record["tlsDetails"] = {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256", "clientProvidedHostHeader": endpoint}
    return record


def console_sign_in(dice: Random, caller: Caller, at: datetime, browser: str) -> Record:
    """A successful console sign-in of an IAM user without MFA. Such a record has neither a key id nor a request id.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-aws-console-sign-in-events.html
    """
    members = ("type", "principalId", "arn", "accountId", "userName")
    return {
        "eventVersion": "1.11",
        "userIdentity": {name: caller.identity[name] for name in members},
        "eventTime": stamp(at),
        "eventSource": "signin.amazonaws.com",
        "eventName": "ConsoleLogin",
        "awsRegion": "us-east-1",
        "sourceIPAddress": caller.address,
        "userAgent": browser,
        "requestParameters": None,
        "responseElements": {"ConsoleLogin": "Success"},
        "additionalEventData": {
            "LoginTo": "https://console.aws.amazon.com/console/home?hashArgs=%23&isauthcode=true",
            "MobileVersion": "No",
            "MFAUsed": "No",
        },
        "eventID": uuid(dice),
        "readOnly": False,
        "eventType": "AwsConsoleSignIn",
        "managementEvent": True,
        "recipientAccountId": caller.account,
        "eventCategory": "Management",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": "signin.aws.amazon.com",
        },
    }
