"""Who is behind a role session: found in the finding's own events or in event history, over several roles and accounts, or not found."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tests.enrich.aws import MEMBER, OWN, Canned
from tests.occurrences import together
from worker.aws import Accounts
from worker.detect.subject import actor_of
from worker.enrich.investigator import Investigator
from worker.enrich.session import MOST_LINKS, MOST_LOOKUPS, MOST_SESSIONS
from worker.model import Fact, FactSource, FactStatus, Finding, Origin, Record
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store

pytestmark = pytest.mark.virtual_time

AT = "2026-01-02T03:04:05Z"
OPENED = "2026-01-02T03:00:00Z"
TOKEN = "IQoJb3JpZ2luX2VjEC0a-a-session-token"


def key(number: int) -> str:
    return f"ASIA{number:016d}".replace("0", "A").replace("1", "B")


def role(number: int, account: str = OWN, **context: Any) -> dict[str, Any]:
    """A session of role `role-<number>` with its key."""
    name = f"role-{number}"
    issuer = {"type": "Role", "arn": f"arn:aws:iam::{account}:role/{name}", "accountId": account, "userName": name}
    return {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{account}:assumed-role/{name}/run",
        "accountId": account,
        "accessKeyId": key(number),
        "sessionContext": {"sessionIssuer": issuer, "attributes": {"creationDate": OPENED, "mfaAuthenticated": "false"}, **context},
    }


EVE = {"type": "IAMUser", "arn": f"arn:aws:iam::{OWN}:user/eve", "accountId": OWN, "userName": "eve", "accessKeyId": "AKIA" + "E" * 16}


def opening(who: Any, number: int, name: str = "AssumeRole") -> dict[str, Any]:
    """The record of the call by which somebody got the key of session `number`, session token and all."""
    credentials = {"accessKeyId": key(number), "sessionToken": TOKEN, "expiration": "Jan 2, 2026, 4:00:00 AM"}
    return {
        "eventSource": "sts.amazonaws.com",
        "eventName": name,
        "eventTime": OPENED,
        "eventID": f"opening-{number}-{name}",
        "userIdentity": who,
        "responseElements": {"credentials": credentials},
        "recipientAccountId": OWN,
    }


def history(*records: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """LookupEvents over these records, by the key that each handed out."""

    def answer(params: Any) -> dict[str, Any]:
        (attribute,) = params["LookupAttributes"]
        assert attribute["AttributeKey"] == "ResourceName"
        opened = datetime(2026, 1, 2, 3, tzinfo=UTC).timestamp()
        assert params["StartTime"] < opened < params["EndTime"]
        found = [one for one in records if attribute["AttributeValue"] in json.dumps(one["responseElements"])]
        return {"Events": [{"EventName": one["eventName"], "CloudTrailEvent": json.dumps(one)} for one in found]}

    return answer


@pytest.fixture
def learn(embedded_aws: str, store: Any, metrics: Metrics, make_finding: Callable[..., Finding]) -> Callable[..., Any]:
    """The fact about a call of these sessions, by one investigator."""

    async def run(cloud: Canned, *identities: Any, finding: Finding | None = None, **event: Any) -> Fact:
        asked = Settings(regions=("eu-west-1",))
        investigator = Investigator(cast("Accounts", cloud), cast("Store", store), asked, metrics, lambda: datetime.now(UTC))
        fact: Fact | None = None
        for identity in identities:
            whole = {"userIdentity": identity, "awsRegion": "eu-west-1", "eventTime": AT, **event}
            made = finding or make_finding(actor=actor_of(Record(whole, Origin(path="x"))), **whole)
            fact = (await investigator.investigate(made)).facts["session"]
        assert fact is not None
        return fact

    return run


def names(fact: Fact) -> list[str]:
    return [link["name"] for link in fact.value["chain"]]


async def test_a_user_who_assumed_the_role_is_named(learn: Any) -> None:
    """With the key it used, when it did, and that it begins there; asked in the event's region."""
    cloud = Canned("cloudtrail", lookup_events=history(opening(EVE, 1)))
    fact = await learn(cloud, role(1, sourceIdentity="alice"))
    assert (fact.status, fact.source, fact.reason) == (FactStatus.KNOWN, FactSource.LIVE, None)
    assert [fact.value[name] for name in ("role", "session", "source_identity", "opened_at", "open_seconds")] == [
        *("role-1", "run", "alice", OPENED, 245)
    ]
    link = {"type": "IAMUser", "arn": EVE["arn"], "name": "eve", "account": OWN, "session": None, "access_key_id": EVE["accessKeyId"]}
    assert fact.value["chain"] == [{**link, "at": OPENED, "source": "live"}]
    assert fact.value["complete"] is True
    assert ("cloudtrail", OWN, "eu-west-1") in cloud.places


async def test_a_role_that_assumed_a_role_is_followed_back(learn: Any) -> None:
    """Link by link to the service that began, the nearest first."""
    service = {"type": "AWSService", "invokedBy": "lambda.amazonaws.com"}
    cloud = Canned("cloudtrail", lookup_events=history(opening(role(2), 1), opening(role(3), 2), opening(service, 3)))
    fact = await learn(cloud, role(1))
    assert names(fact) == ["role-2", "role-3", "lambda.amazonaws.com"]
    assert (fact.value["chain"][0]["session"], fact.value["complete"]) == ("run", True)


@pytest.mark.parametrize(
    ("who", "name", "kind"),
    [
        ({"type": "SAMLUser", "userName": "bob@example.com"}, "AssumeRoleWithSAML", "SAMLUser"),
        ({"type": "WebIdentityUser", "userName": "repo:acme/web"}, "AssumeRoleWithWebIdentity", "WebIdentityUser"),
    ],
)
async def test_an_identity_from_outside_is_named(learn: Any, who: Any, name: str, kind: str) -> None:
    """By the call that is theirs."""
    fact = await learn(Canned("cloudtrail", lookup_events=history(opening(who, 1, name))), role(1))
    assert [(link["type"], link["name"]) for link in fact.value["chain"]] == [(kind, who["userName"])]


@pytest.mark.parametrize("told", [True, False])
async def test_a_caller_of_another_account_is_looked_up_there(learn: Any, told: bool) -> None:
    """The role's account is told the account alone; where the other one tells no more, that is said."""
    stranger = {"type": "AWSAccount", "accountId": MEMBER, "principalId": "AIDAX"}
    there = {**EVE, "accountId": MEMBER, "arn": f"arn:aws:iam::{MEMBER}:user/eve"}
    asked: list[str] = []

    def answer(params: Any) -> dict[str, Any]:
        asked.append("here" if not asked else "there")
        return history(*([opening(stranger, 1)] if asked[-1] == "here" else [opening(there, 1)] if told else []))(params)

    cloud = Canned("cloudtrail", lookup_events=answer)
    fact = await learn(cloud, role(1))
    (link,) = fact.value["chain"]
    assert ("cloudtrail", MEMBER, "eu-west-1") in cloud.places
    assert (link["type"], link["account"], fact.value["complete"]) == ("IAMUser" if told else "AWSAccount", MEMBER, told)
    assert (f"who in account {MEMBER} it was" in (fact.reason or "")) is not told


async def test_event_history_is_not_asked_for_what_the_finding_holds(learn: Any) -> None:
    """A correlation's own AssumeRole tells it, and so do members that AWS writes into every record of a session."""
    deed = {
        "eventSource": "iam.amazonaws.com",
        "eventName": "DeleteInstanceProfile",
        "eventTime": AT,
        "userIdentity": role(1),
        "eventID": "d",
    }
    finding = together([Record({**one, "recipientAccountId": OWN}, Origin(path="x")) for one in (opening(EVE, 1), deed)])
    cloud = Canned("cloudtrail")
    fact = await learn(cloud, role(1), finding=finding)
    assert (fact.source, names(fact), fact.value["chain"][0]["source"]) == (FactSource.EVENT, ["eve"], "event")
    for context, name in (
        ({"ec2RoleDelivery": "2.0"}, "ec2.amazonaws.com"),
        ({"webIdFederationData": {"federatedProvider": "p", "attributes": {"p:sub": "acme"}}}, "acme"),
    ):
        fact = await learn(cloud, role(1, **context))
        assert (names(fact), fact.value["complete"], fact.source) == ([name], True, FactSource.EVENT)
    assert cloud.asked["lookup_events"] == 0


async def test_a_person_of_identity_center_ends_the_chain(learn: Any) -> None:
    """Who is behind such a role stands in its records, also in the middle of a chain."""
    person = role(2)
    person["arn"] = person["arn"].replace("/run", "/alice@example.com")
    person["sessionContext"]["sessionIssuer"]["arn"] = f"arn:aws:iam::{OWN}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_A_0"
    cloud = Canned("cloudtrail", lookup_events=history(opening(person, 1)))
    fact = await learn(cloud, role(1))
    assert [(link["type"], link["name"]) for link in fact.value["chain"]] == [
        ("AssumedRole", "role-2"),
        ("IdentityCenterUser", "alice@example.com"),
    ]
    assert cloud.asked["lookup_events"] == 1


async def test_what_was_not_found_is_said_to_be_so(learn: Any) -> None:
    """Asked in both regions, in vain: the session's own members are known, the chain is not."""
    cloud = Canned("cloudtrail", lookup_events=history())
    fact = await learn(cloud, role(1))
    assert (fact.status, fact.value["chain"], fact.value["complete"]) == (FactStatus.KNOWN, [], False)
    assert "quarter of an hour behind" in fact.reason
    assert cloud.asked["lookup_events"] == 2
    fact = await learn(Canned("cloudtrail"), role(1))
    assert "AccessDenied" in fact.value["unknown"]["chain"]


@pytest.mark.parametrize(
    "identity",
    [
        {**role(1), "accessKeyId": None},
        {**role(1), "accessKeyId": "AKIA" + "X" * 16},
        {**role(1), "accessKeyId": "ASIA'; drop"},
        {**role(1), "accountId": "../..", "arn": None},
        role(1, attributes={"creationDate": "yesterday"}),
    ],
)
async def test_a_record_that_tells_too_little_asks_nothing(learn: Any, identity: Any) -> None:
    """No key of a session, no account or no time: there is nothing to look for."""
    cloud = Canned("cloudtrail", lookup_events=history())
    fact = await learn(cloud, identity)
    assert (fact.value["chain"], fact.value["complete"], cloud.asked["lookup_events"]) == ([], False, 0)
    assert "the record names no" in fact.reason


@pytest.mark.parametrize("region", ["x.evil.example", "us-nowhere-1", "ap-south-1"])
async def test_a_region_that_is_none_of_the_accounts_opens_no_client(learn: Any, region: str) -> None:
    """Regions are attacker-written, and there is no end of what looks like one: only those of the account are gone to."""
    cloud = Canned("cloudtrail", lookup_events=history())
    await learn(cloud, role(1), awsRegion=region)
    assert {region for service, _, region in cloud.places if service == "cloudtrail"} == {None}


async def test_a_chain_without_end_is_cut(learn: Any) -> None:
    """So many links, or so many questions, and it says that there is more."""
    cloud = Canned("cloudtrail", lookup_events=history(*(opening(role(n + 1), n) for n in range(1, 20))))
    fact = await learn(cloud, role(1))
    assert (len(fact.value["chain"]), fact.value["complete"]) == (MOST_LINKS, False)
    assert f"more than {MOST_LINKS} roles" in fact.reason
    around = Canned("cloudtrail", lookup_events=history(opening(role(2), 1), opening(role(1), 2)))
    assert len((await learn(around, role(1))).value["chain"]) == MOST_LINKS
    assert around.asked["lookup_events"] <= MOST_LOOKUPS


async def test_a_flood_of_sessions_is_not_looked_up(learn: Any) -> None:
    """CloudTrail answers two questions a second: beyond what that allows in a minute, the chain is unknown and says why."""
    cloud = Canned("cloudtrail", lookup_events=history(*(opening(EVE, n) for n in range(1, MOST_SESSIONS + 3))))
    fact = await learn(cloud, *(role(n) for n in range(1, MOST_SESSIONS + 2)))
    assert cloud.asked["lookup_events"] == MOST_SESSIONS
    assert f"more than {MOST_SESSIONS} sessions" in fact.reason


@pytest.mark.parametrize("event", ["", "null", "[]", "{not json", '{"eventName": ["AssumeRole"]}', json.dumps({"eventName": "AssumeRole"})])
async def test_history_that_cannot_be_read_is_no_trouble(learn: Any, event: str) -> None:
    """It tells nothing."""
    cloud = Canned("cloudtrail", lookup_events=lambda _: {"Events": [{"CloudTrailEvent": event}, {}]})
    fact = await learn(cloud, role(1))
    assert (fact.status, fact.value["chain"]) == (FactStatus.KNOWN, [])


async def test_the_token_that_was_handed_out_is_not_kept(
    embedded_aws: str, store: Any, metrics: Metrics, make_finding: Callable[..., Finding]
) -> None:
    """It stands in the record that is read, and in nothing that is made of it: no fact, no cached answer."""
    cloud = Canned("cloudtrail", lookup_events=history(opening(EVE, 1)))
    investigator = Investigator(cast("Accounts", cloud), cast("Store", store), Settings(), metrics, lambda: datetime.now(UTC))
    whole = {"userIdentity": role(1), "eventTime": AT}
    facts = (await investigator.investigate(make_finding(actor=actor_of(Record(whole, Origin(path="x"))), **whole))).facts
    assert names(facts["session"]) == ["eve"]
    assert TOKEN not in repr(facts) + repr(investigator._lookups._answers._good)
