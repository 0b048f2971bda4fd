"""What is judged from the event, the settings and other facts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.occurrences import deletion, together
from worker.enrich.fact import Answer, Call, Case, FactKind
from worker.enrich.verdicts import AUTHORISED, DOCUMENTED, iac_agent, judge_authority, judge_replacement
from worker.model import Actor, Fact, FactSource, FactStatus, Finding, Record, Subject
from worker.settings import Settings

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEPLOY = "arn:aws:iam::111122223333:role/deploy"
SESSION = "arn:aws:sts::111122223333:assumed-role/deploy/run-7"
LINKED = "arn:aws:iam::111122223333:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"


@pytest.mark.parametrize(
    ("actor", "patterns", "authorised"),
    [
        (Actor("IAMUser", "arn:aws:iam::111122223333:user/ann"), ("arn:aws:iam::*:user/ann",), True),
        (Actor("IAMUser", "arn:aws:iam::111122223333:user/eve"), ("arn:aws:iam::*:user/ann",), False),
        (Actor("IAMUser", "arn:aws:iam::111122223333:user/Ann"), ("arn:aws:iam::*:user/ann",), False),
        (Actor("AssumedRole", SESSION, "deploy", issuer_arn=DEPLOY), ("arn:aws:iam::*:role/deploy",), True),
        (Actor("AssumedRole", SESSION, "deploy", issuer_arn=DEPLOY), ("arn:aws:sts::*:assumed-role/deploy/run-*",), True),
        (Actor("AssumedRole", SESSION, "deploy", issuer_arn=DEPLOY), (), False),
        (Actor("AWSService"), (), True),
        (Actor("AssumedRole", issuer_arn=LINKED), (), True),
        (Actor("AssumedRole", issuer_arn=LINKED.replace("arn:aws:", "arn:aws-cn:")), (), True),
        (Actor("AssumedRole", issuer_arn="arn:aws:iam::111122223333:role/x:role/aws-service-role/y/evil"), (), False),
        (Actor("AssumedRole", "arn:aws:sts::111122223333:assumed-role/AWSServiceRoleForRDS/x", "AWSServiceRoleForRDS"), (), False),
        (Actor("AssumedRole", issuer_arn="arn:aws:iam::111122223333:role/x:role/deploy"), ("arn:aws:iam::*:role/deploy",), False),
        (Actor("Unknown"), ("*",), False),
    ],
)
def test_who_is_authorised(actor: Actor, patterns: tuple[str, ...], authorised: bool) -> None:
    """By a glob on the role's or the session's ARN, case and all; services and their own roles always; nobody unnamed."""
    assert judge_authority(actor, Settings(authorized_principals=patterns))[1] is authorised


@pytest.mark.parametrize(
    ("actor", "invoked_by", "authorised"),
    [
        (Actor("AWSService", name="rds.amazonaws.com"), "rds.amazonaws.com", True),
        (Actor("Unknown", account="111122223333"), "ec2.amazonaws.com", True),
        (Actor("Unknown", account="111122223333"), "AWS Internal", False),
        (Actor("Unknown", account="111122223333"), "evil.example.com", False),
        (Actor("Unknown", name="eve"), "ec2.amazonaws.com", False),
        (Actor("Unknown", access_key_id="AKIA1"), "ec2.amazonaws.com", False),
        (Actor("IAMUser", "arn:aws:iam::111122223333:user/eve"), "cloudformation.amazonaws.com", False),
        (Actor("AssumedRole", SESSION, "deploy", issuer_arn=DEPLOY), "cloudformation.amazonaws.com", False),
        (Actor("AssumedRole", SESSION, issuer_arn=LINKED), "rds.amazonaws.com", True),
        (Actor("AWSAccount", account="444455556666"), "lambda.amazonaws.com", False),
    ],
)
def test_a_service_is_authorised_by_itself_and_not_when_it_passes_on_a_call(actor: Actor, invoked_by: str, authorised: bool) -> None:
    """What a user does through CloudFormation is the user's doing; an event that names a service and nobody else is the service's."""
    assert judge_authority(actor, Settings(), invoked_by)[1] is authorised


ANN, EVE, AUTO = "arn:aws:iam::111122223333:user/ann", "arn:aws:iam::111122223333:user/eve", LINKED


def deed(number: int, who: str, **identity: Any) -> Record:
    return deletion(number, userIdentity={"type": "IAMUser", "arn": who, **identity})


async def learnt(kind: FactKind, finding: Finding, settings: Settings) -> Fact:
    """A fact that asks nobody."""

    async def fact(name: str) -> Fact | None:
        return about(FactStatus.KNOWN, {"tags": {"change": "CHG9999"}}, source=FactSource.MEMORY)

    async def ask(call: Call) -> Answer:
        raise AssertionError(call)

    return await kind.learn(Case(finding, settings, None, lambda: AT, ask, fact))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("records", "authorised", "because"),
    [
        ([deed(1, ANN), deed(2, ANN)], True, ANN),
        ([deed(1, EVE), deed(2, ANN)], False, EVE),
        ([deed(1, ANN), deed(2, EVE)], False, EVE),
        ([deletion(1, userIdentity={"type": "AWSService", "invokedBy": "rds.amazonaws.com"}), deed(2, ANN)], True, ANN),
        ([deed(1, "x", sessionContext={"sessionIssuer": {"arn": AUTO}}), deed(2, ANN)], True, ANN),
        ([deletion(1, userIdentity=None), deed(2, ANN)], False, "names no principal"),
    ],
)
async def test_what_a_correlation_found_is_authorised_if_all_of_it_was(records: list[Record], authorised: bool, because: str) -> None:
    """One honest call among them excuses nobody, whether it came first or last, and whoever is not authorised is named."""
    told = await learnt(AUTHORISED, together(records), Settings(authorized_principals=(ANN,)))
    assert told.value["authorised"] is authorised
    assert because in told.value["because"]


@pytest.mark.parametrize(
    ("records", "documented"),
    [
        ([deed(1, ANN, sessionContext={"sourceIdentity": "CHG1111"}), deed(2, ANN, sessionContext={"sourceIdentity": "CHG1111"})], True),
        ([deed(1, ANN), deed(2, ANN, sessionContext={"sourceIdentity": "CHG1111"})], False),
        ([deed(1, ANN, sessionContext={"sourceIdentity": "CHG1111"}), deed(2, ANN)], False),
        ([deletion(number, userIdentity={"type": "AssumedRole", "arn": f"{SESSION}-CHG2222"}) for number in (1, 2)], True),
        ([deed(1, ANN), deed(2, ANN)], False),
    ],
)
async def test_what_a_correlation_found_is_documented_if_all_of_it_was(records: list[Record], documented: bool) -> None:
    """Each event has to name a change itself: a tag of the last profile says nothing of the others."""
    assert (await learnt(DOCUMENTED, together(records), Settings(change_pattern="CHG[0-9]{4}"))).value["documented"] is documented


def test_a_user_agent_is_shown_and_authorises_nobody() -> None:
    """An attacker writes the user agent, so Terraform's name there is evidence for people only."""
    actor = Actor("IAMUser", "arn:aws:iam::111122223333:user/eve", user_agent="APN/1.0 HashiCorp/1.0 Terraform/1.5")
    assert iac_agent(actor.user_agent) == "Terraform"
    assert judge_authority(actor, Settings(authorized_principals=("arn:aws:iam::*:user/ann",)))[1] is False
    assert iac_agent("cloudformation.amazonaws.com") == "CloudFormation"
    assert iac_agent("aws-cli/2.9") is iac_agent(None) is None


def about(status: FactStatus, value: Any, at: datetime = AT + timedelta(minutes=5), source: FactSource = FactSource.LIVE) -> Fact:
    return Fact("about", status, value, at, source, None if status is not FactStatus.UNKNOWN else "not to be had")


GONE, SILENT = about(FactStatus.GONE, None), about(FactStatus.UNKNOWN, None)


def remembered(recreated: dict[str, Any] | None) -> Fact:
    return about(FactStatus.KNOWN, {"last_role": {"name": "web-role"}, "recreated": recreated}, source=FactSource.MEMORY)


def again(seconds: int = 2, *, exists: bool = True) -> dict[str, Any]:
    at = (AT + timedelta(seconds=seconds)).isoformat()
    return {"at": at, "by": SESSION, "principal": DEPLOY, "exists": exists, "roles": ["web-role"]}


def live(created: datetime, *roles: str) -> Fact:
    return about(FactStatus.KNOWN, {"created": created.isoformat(), "roles": list(roles)})


def test_a_replacement_told_by_the_log_names_who_made_it() -> None:
    """Same principal across sessions, two seconds later, with the same role."""
    fact = judge_replacement(AT, DEPLOY, remembered(again()), SILENT)
    assert (fact.source, fact.value) == (
        FactSource.MEMORY,
        {
            "replaced": True,
            "by": SESSION,
            "after_seconds": 2.0,
            "in_grace": True,
            "same_principal": True,
            "roles": ["web-role"],
            "same_role": True,
        },
    )
    assert judge_replacement(AT, "arn:eve", remembered(again()), SILENT).value["same_principal"] is False


@pytest.mark.parametrize(
    ("memory", "now", "replaced"),
    [
        (remembered(None), GONE, False),
        (SILENT, GONE, False),
        (remembered(again(0)), SILENT, True),
        (remembered(again(exists=False)), GONE, False),
        (remembered(again()), GONE, False),
        (remembered(again()), about(FactStatus.GONE, None, AT + timedelta(seconds=5)), True),
        (remembered(again(14 * 60)), about(FactStatus.GONE, None, AT + timedelta(minutes=5)), False),
        (SILENT, live(AT, "web-role"), True),
        (SILENT, live(AT + timedelta(seconds=1)), True),
        (SILENT, live(AT - timedelta(days=9)), None),
        (remembered(None), SILENT, None),
    ],
)
def test_when_a_profile_counts_as_replaced(memory: Fact, now: Fact, replaced: bool | None) -> None:
    """Made at or after the delete and still there; gone again is not replaced, unless IAM may simply not know it yet; else unknown."""
    fact = judge_replacement(AT, DEPLOY, memory, now)
    assert (fact.value["replaced"] if fact.status is FactStatus.KNOWN else None) is replaced
    assert (fact.reason is not None) is (replaced is None)


@pytest.mark.parametrize(("seconds", "in_grace"), [(0, True), (2, True), (900, True), (901, False), (86400, False)])
def test_a_replacement_has_its_grace(seconds: int, in_grace: bool) -> None:
    """Told by the log or by IAM, a profile made again later than tools do it is there, but no replacement."""
    for fact in (
        judge_replacement(AT, DEPLOY, remembered(again(seconds)), SILENT),
        judge_replacement(AT, DEPLOY, remembered(None), live(AT + timedelta(seconds=seconds), "web-role")),
    ):
        assert (fact.value["replaced"], fact.value["in_grace"], fact.value["after_seconds"]) == (True, in_grace, seconds)
    assert judge_replacement(AT, DEPLOY, remembered(None), GONE).value["in_grace"] is None


def test_an_attacker_who_makes_the_profile_again_empty_does_not_pass_for_a_replacement() -> None:
    """The value tells that the role is not back."""
    assert judge_replacement(AT, DEPLOY, remembered(None), live(AT + timedelta(seconds=1))).value["same_role"] is False


@pytest.mark.parametrize(
    ("actor", "parameters", "tags", "expected"),
    [
        (Actor("AssumedRole", session="CHG0012345-ann"), None, None, ("CHG0012345", "session name")),
        (Actor("AssumedRole", source_identity="ann CHG7777"), None, None, ("CHG7777", "source identity")),
        (Actor("IAMUser"), {"tags": [{"key": "why", "value": "see CHG1234"}]}, None, ("CHG1234", "request tag: why")),
        (Actor("IAMUser"), {"tags": "CHG1234"}, {"ticket": "CHG5555"}, ("CHG5555", "tag of the profile as remembered: ticket")),
        (Actor("IAMUser"), {"tags": [None, {"key": [], "value": 7}]}, {}, (None, None)),
        (Actor("IAMUser"), None, None, "unknown"),
    ],
)
async def test_where_a_change_may_be_named(
    make_finding: Callable[..., Finding], actor: Actor, parameters: Any, tags: dict[str, str] | None, expected: Any
) -> None:
    """In the session, the request or the profile's tags; where the tags cannot be known, neither can the verdict."""
    finding = make_finding(actor=actor, subject=Subject("instance-profile", "web"), requestParameters=parameters)

    async def fact(name: str) -> Fact | None:
        return about(FactStatus.KNOWN, {"tags": tags}, source=FactSource.MEMORY) if name == "profile" else GONE

    async def ask(call: Call) -> Answer:
        raise AssertionError(call)

    told = await DOCUMENTED.learn(Case(finding, Settings(change_pattern="CHG[0-9]{4,}"), None, lambda: AT, ask, fact))  # type: ignore[arg-type]
    if expected == "unknown":
        assert told.status is FactStatus.UNKNOWN
    else:
        change, where = expected
        assert told.value == {"documented": change is not None, "change": change, "where": where}
