"""The fact `identity`: what the caller is, in one word of a closed list and in a line for people, as the record tells it.

`identify` is pure: a record and its actor go in, whose members may be missing or of any type, and a JSON-ready value comes out, never an
exception. Only what AWS itself writes decides: paths of roles that customers cannot make, and members of `sessionContext`. A session's name
is chosen by whoever opens it, and is shown as a name alone. Members:
https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html
A newcomer's kind is a line in `KINDS`, in `_kind` and in `_noun`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from worker.enrich.fact import Case, FactKind, seconds_since, stamp
from worker.enrich.role import SERVICE_LINKED
from worker.glob import Glob
from worker.model import Actor, Fact, FactSource, Finding, Record
from worker.settings import Settings

KINDS = {
    "root": "the account's root user",
    "iam-user": "IAM user",
    "assumed-role": "role",
    "service-linked-role": "service-linked role",
    "ec2-instance": "an EC2 instance in role",
    "identity-center-user": "Identity Center user",
    "saml-user": "SAML user",
    "web-identity-user": "web identity",
    "federated-user": "federated user",
    "directory-user": "directory user",
    "aws-service": "AWS service",
    "aws-account": "somebody in AWS account",
    "anonymous": "an anonymous caller",
    "unknown": "an unknown caller",
}
"""Every kind, and how its name is introduced."""

TYPES = {
    "Root": "root",
    "IAMUser": "iam-user",
    "FederatedUser": "federated-user",
    "SAMLUser": "saml-user",
    "WebIdentityUser": "web-identity-user",
    "IdentityCenterUser": "identity-center-user",
    "Directory": "directory-user",
    "AWSService": "aws-service",
}
NAMELESS = frozenset({"root", "anonymous", "unknown"})
WITH_MFA = frozenset({"root", "iam-user"})
"""Whose sessions tell by a missing MFA that it was not used; a role's session is seldom opened with MFA, and its absence says nothing."""

IDENTITY_CENTER = Glob("arn:*:iam::*:role/aws-reserved/sso.amazonaws.com/*", cased=True)
"""Only Identity Center makes roles under this path. https://docs.aws.amazon.com/singlesignon/latest/userguide/permissionsetsconcept.html"""
RESERVED_NAME = "AWSReservedSSO_"
SERVICE = ".amazonaws.com"
ANONYMOUS = "ANONYMOUS_PRINCIPAL"

CREDENTIALS = {
    "sign-in": "signing in",
    "console-session": "in a console session",
    "long-term-key": "with a long-term access key",
    "temporary-key": "with temporary credentials",
}


def identify(record: Record, actor: Actor) -> dict[str, Any]:
    """What is documented as the value of `identity` in docs/facts.md."""
    kind, federated = _kind(record, actor), _federated(record, actor)
    opened = moment(record.text("userIdentity", "sessionContext", "attributes", "creationDate"))
    value = {
        "kind": kind,
        "name": actor.name,
        "account": actor.account,
        "cross_account": None if actor.account is None or record.account is None else actor.account != record.account,
        "credential": _credential(record, actor),
        "mfa": actor.mfa,
        "session": actor.session,
        "opened_at": stamp(opened),
        "open_seconds": None if record.time is None else seconds_since(opened, record.time),
        "source_identity": actor.source_identity,
        "person": _person(kind, actor, federated),
        "permission_set": _permission_set(kind, actor),
        "federated": federated,
        "on_behalf_of": _on_behalf_of(record),
        "issued_to": record.text("userIdentity", "inScopeOf", "credentialsIssuedTo"),
        "invoked_by": record.text("userIdentity", "invokedBy"),
    }
    return {**value, "words": _words(value)}


def _kind(record: Record, actor: Actor) -> str:
    if actor.type == "AssumedRole":
        if SERVICE_LINKED.fits(actor.issuer_arn):
            return "service-linked-role"
        if IDENTITY_CENTER.fits(actor.issuer_arn):
            return "identity-center-user"
        if record.text("userIdentity", "sessionContext", "webIdFederationData", "federatedProvider"):
            return "web-identity-user"
        if record.get("userIdentity", "sessionContext", "ec2RoleDelivery") is not None:
            return "ec2-instance"
        return "assumed-role"
    if actor.type == "AWSAccount":
        return "anonymous" if actor.account == ANONYMOUS else "aws-account"
    if actor.type == "Unknown" and actor.arn is None and actor.name is None and actor.access_key_id is None:
        # What a service does by itself in somebody's account comes with no more identity than this.
        invoked_by = record.text("userIdentity", "invokedBy") or ""
        return "aws-service" if invoked_by.endswith(SERVICE) else "unknown"
    return TYPES.get(actor.type, "unknown")


def _credential(record: Record, actor: Actor) -> str | None:
    if record.source == "signin.amazonaws.com" and record.text("eventType") == "AwsConsoleSignIn":
        return "sign-in"
    if record.text("sessionCredentialFromConsole") == "true":
        return "console-session"
    prefix = (actor.access_key_id or "")[:4]
    return {"AKIA": "long-term-key", "ASIA": "temporary-key"}.get(prefix)


def _federated(record: Record, actor: Actor) -> dict[str, Any] | None:
    """Who vouched for the caller outside of IAM, and for whom, where the record says so."""
    if actor.type in ("SAMLUser", "WebIdentityUser"):
        return {"provider": record.text("userIdentity", "identityProvider"), "subject": actor.name}
    provider = record.text("userIdentity", "sessionContext", "webIdFederationData", "federatedProvider")
    if provider is None:
        return None
    attributes = record.get("userIdentity", "sessionContext", "webIdFederationData", "attributes")
    named = attributes.items() if isinstance(attributes, Mapping) else ()
    subjects = [told for name, told in named if name.rpartition(":")[2] == "sub" and isinstance(told, str)]
    return {"provider": provider, "subject": next(iter(subjects), None)}


def _person(kind: str, actor: Actor, federated: Mapping[str, Any] | None) -> str | None:
    """The human being, or the workload, behind a session, as far as AWS or an identity provider vouches for it."""
    if kind == "identity-center-user":
        return actor.session or actor.name
    if federated is not None and federated["subject"]:
        return str(federated["subject"])
    return actor.name if kind == "iam-user" else actor.source_identity


def _permission_set(kind: str, actor: Actor) -> str | None:
    """Identity Center calls a permission set's role `AWSReservedSSO_<set>_<16 hexadecimal digits>`."""
    name = actor.name or ""
    if kind != "identity-center-user" or not name.startswith(RESERVED_NAME):
        return None
    return name.removeprefix(RESERVED_NAME).rpartition("_")[0] or None


def _on_behalf_of(record: Record) -> dict[str, Any] | None:
    user, store = record.text("userIdentity", "onBehalfOf", "userId"), record.text("userIdentity", "onBehalfOf", "identityStoreArn")
    return None if user is None and store is None else {"user_id": user, "identity_store": store}


def _words(value: Mapping[str, Any]) -> str:
    """One line for whoever is on call."""
    kind, name = value["kind"], value["name"]
    said = [_noun(value)]
    if kind == "identity-center-user" and value["permission_set"]:
        said.append(f"permission set {value['permission_set']}")
    elif kind in ("assumed-role", "web-identity-user", "saml-user") and value["session"]:
        said.append(f"session {value['session']}" if kind == "assumed-role" else f"role {name}")
    if value["source_identity"] and value["source_identity"] != value["person"]:
        said.append(f"source identity {value['source_identity']}")
    elif value["source_identity"] and kind == "assumed-role":
        said.append(f"opened by {value['source_identity']}")
    if kind in WITH_MFA and value["mfa"] is not None:
        said.append("with MFA" if value["mfa"] else "without MFA")
    elif value["mfa"]:
        said.append("with MFA")
    if kind in (*WITH_MFA, "federated-user") and value["credential"]:
        said.append(CREDENTIALS[value["credential"]])
    if value["cross_account"] and kind not in ("aws-account", "anonymous"):
        said.append(f"of another account, {value['account']}")
    if value["invoked_by"] and kind != "aws-service":
        said.append(f"through {value['invoked_by']}")
    return ", ".join(said)


def _noun(value: Mapping[str, Any]) -> str:
    kind = value["kind"]
    if kind in NAMELESS:
        return KINDS[kind]
    if kind == "aws-account":
        return f"{KINDS[kind]} {value['account'] or '?'}"
    if kind in ("identity-center-user", "web-identity-user", "saml-user"):
        return f"{KINDS[kind]} {value['person'] or '?'}"
    if kind == "aws-service":
        return f"{KINDS[kind]} {value['name'] or value['invoked_by'] or '?'}"
    return f"{KINDS[kind]} {value['name'] or '?'}"


def moment(text: str | None) -> datetime | None:
    """A time of a record (UTC); None for anything that is no time."""
    try:
        told = datetime.fromisoformat(text or "")
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


async def _learn(case: Case) -> Fact:
    finding = case.finding
    return IDENTITY.known(identify(finding.record, finding.actor), finding.record.time or case.clock())


def _always(_finding: Finding, _settings: Settings) -> bool:
    return True


IDENTITY = FactKind("identity", FactSource.EVENT, _always, _learn)
