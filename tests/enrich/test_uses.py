"""What EC2's records teach about the instances of a profile, and what of it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.enrich.conftest import OWN, RememberingStore
from worker.enrich import uses
from worker.enrich.instance_events import CALLS, of_instance, users_of
from worker.enrich.offline import from_log
from worker.enrich.profile import events_of
from worker.enrich.recollection import MOST_INSTANCES, recollect
from worker.enrich.sequence import as_allowed
from worker.enrich.uses import spent
from worker.model import EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Origin, ProfileEvent, Record, Rule, Subject
from worker.settings import Settings
from worker.state.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)
ARN = f"arn:aws:iam::{OWN}:instance-profile/fleet/web"
MADE = {"associationId": "iip-assoc-1", "instanceId": "i-0000000a", "iamInstanceProfile": {"arn": ARN, "id": "AIPA1"}}
WHOLE = {"instance": "i-0000000a", "region": "eu-west-1", "profile": "web", "profile_id": "AIPA1", "association": "iip-assoc-1"}


def record(name: str, asked: Any = None, answered: Any = None, second: int = 0, **more: Any) -> Record:
    at = START + timedelta(seconds=second)
    event = {
        "eventName": name,
        "eventSource": "ec2.amazonaws.com",
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventID": f"{name}-{second}",
        "awsRegion": "eu-west-1",
        "recipientAccountId": OWN,
        "requestParameters": asked,
        "responseElements": answered,
        **more,
    }
    return Record(event, Origin(path="x"))


def run(*instances: str, profile: str = "web", second: int = 0, **more: Any) -> Record:
    named = {"arn": f"arn:aws:iam::{OWN}:instance-profile/{profile}", "id": f"AIPA-{profile}".replace("-", "")}
    items = [{"instanceId": one, "iamInstanceProfile": named} for one in instances]
    return record("RunInstances", {"iamInstanceProfile": {"name": profile}}, {"instancesSet": {"items": items}}, second, **more)


def terminate(*instances: str, second: int, **more: Any) -> Record:
    items = {"instancesSet": {"items": [{"instanceId": one} for one in instances]}}
    return record("TerminateInstances", items, items, second, **more)


def associated(name: str, asked: Any, made: Any = MADE, **more: Any) -> Record:
    answer = None if made is None else {f"{name}Response": {"iamInstanceProfileAssociation": made}}
    return record(name, {f"{name}Request": asked}, answer, **more)


@pytest.mark.parametrize(
    ("told", "under", "detail"),
    [
        (
            run("i-0000000a", profile="web"),
            "instance/i-0000000a",
            {"instance": "i-0000000a", "region": "eu-west-1", "profile": "web", "profile_id": "AIPAweb"},
        ),
        (
            record("RunInstances", {"iamInstanceProfile": {"arn": ARN}}, {"instancesSet": {"items": [{"instanceId": "i-0000000a"}]}}),
            "instance/i-0000000a",
            {"instance": "i-0000000a", "region": "eu-west-1", "profile": "web"},
        ),
        (
            record("RunInstances", {}, {"instancesSet": {"items": [{"instanceId": "i-0000000a", "iamInstanceProfile": {"arn": ARN}}]}}),
            "instance/i-0000000a",
            {"instance": "i-0000000a", "region": "eu-west-1", "profile": "web"},
        ),
        (terminate("i-0000000a", second=1), "instance/i-0000000a", {"instance": "i-0000000a", "region": "eu-west-1"}),
        (
            associated("AssociateIamInstanceProfile", {"IamInstanceProfile": {"Name": "web"}, "InstanceId": "i-0000000a"}),
            "instance/i-0000000a",
            WHOLE,
        ),
        (
            associated("AssociateIamInstanceProfile", {"IamInstanceProfile": {"Arn": ARN}, "InstanceId": "i-0000000a"}, None),
            "instance/i-0000000a",
            {"instance": "i-0000000a", "region": "eu-west-1", "profile": "web"},
        ),
        (
            associated("ReplaceIamInstanceProfileAssociation", {"IamInstanceProfile": {"Name": "web"}, "AssociationId": "iip-assoc-0"}),
            "instance/i-0000000a",
            {**WHOLE, "replaces": "iip-assoc-0"},
        ),
        (
            associated("DisassociateIamInstanceProfile", {"AssociationId": "iip-assoc-1"}),
            "instance/i-0000000a",
            {"instance": "i-0000000a", "region": "eu-west-1", "association": "iip-assoc-1"},
        ),
        (
            associated("DisassociateIamInstanceProfile", {"AssociationId": "iip-assoc-1"}, None),
            "association/iip-assoc-1",
            {"region": "eu-west-1", "association": "iip-assoc-1"},
        ),
    ],
)
def test_a_call_teaches_which_instance_and_which_profile(told: Record, under: str, detail: Any) -> None:
    """By name or ARN, of the request or the answer; with a pointer under the profile when both are told."""
    event, *pointers = events_of(told)
    assert (event.account, event.profile, event.kind, event.detail) == (OWN, under, told.name, detail)
    assert [one.profile for one in pointers] == ([users_of("web")] if "profile" in detail else [])
    json.dumps(event.detail)


@pytest.mark.parametrize(
    "silent",
    [
        terminate("i-0000000a", second=1, errorCode="Client.UnauthorizedOperation"),
        run("i-0000000a", errorCode="Client.DryRunOperation"),
        record("RunInstances", {}, None, errorCode="Client.VcpuLimitExceeded"),
        run("i-0000000a", eventTime="yesterday"),
        run("i-0000000a", recipientAccountId="../../etc"),
        run("i-0000000a", eventSource="ec2.example.com"),
        run("../i-0000000a"),
        run("i-0000000a", profile="a*b"),
        run("i-0000000a", recipientAccountId="111122223333", requestParameters=None),
        record("RunInstances", {}, {"instancesSet": {"items": [{"instanceId": "i-0000000a"}]}}),
        record("RunInstances", None, None),
        record("StopInstances", {"instancesSet": {"items": [{"instanceId": "i-0000000a"}]}}),
    ],
)
def test_what_failed_or_makes_no_sense_teaches_nothing(silent: Record) -> None:
    """Refused calls and dry runs, instances without a profile, another account's profile, other calls, and what AWS would not call so."""
    assert events_of(silent) == ()


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=9)  # fmt: skip


@given(st.sampled_from(CALLS), JSON, JSON, JSON)
def test_no_record_can_make_it_raise(name: str, asked: Any, made: Any, items: Any) -> None:
    """Whatever type a member has, reading and folding answer."""
    for parameters, answer in ((asked, made), ({f"{name}Request": asked}, {f"{name}Response": {"iamInstanceProfileAssociation": made}})):
        events = events_of(record(name, parameters, answer))
        events += events_of(
            record(name, {"iamInstanceProfile": asked, "instancesSet": {"items": items}}, {"instancesSet": {"items": items}})
        )
        json.dumps([dict(event.detail) for event in events])
        uses.uses(events)


async def remembered(store: RememberingStore, *records: Record, profile: str = "web") -> list[tuple[Any, ...]]:
    store.events += [event for one in records for event in events_of(one)]
    found = (await recollect(cast("Store", store), OWN, profile)).uses
    return [(use.instance, use.since and (use.since - START).seconds, use.until and (use.until - START).seconds, use.how) for use in found]


async def test_an_instance_is_told_until_it_is_terminated_or_given_another_profile(store: RememberingStore) -> None:
    """Those that use the profile first, then the latest that did; the other profile has the one that came to it."""
    swap = associated(
        "ReplaceIamInstanceProfileAssociation",
        {"IamInstanceProfile": {"Name": "db"}, "AssociationId": "iip-assoc-0"},
        {"associationId": "iip-assoc-2", "instanceId": "i-0000000b"},
        second=30,
    )
    told = await remembered(
        store, run("i-0000000a", "i-0000000b", "i-0000000c", second=1), swap, terminate("i-0000000c", "i-0000000f", second=40)
    )
    assert told == [
        ("i-0000000a", 1, None, "RunInstances"),
        ("i-0000000c", 1, 40, "RunInstances"),
        ("i-0000000b", 1, 30, "RunInstances"),
    ]
    assert await remembered(store, profile="db") == [("i-0000000b", 30, None, "ReplaceIamInstanceProfileAssociation")]


async def test_an_association_that_is_named_alone_ends_the_use_of_its_instance(store: RememberingStore) -> None:
    """The answer was withheld: the instance is known by the association that it was told to have."""
    begun = associated("AssociateIamInstanceProfile", {"IamInstanceProfile": {"Name": "web"}, "InstanceId": "i-0000000a"}, second=1)
    ended = associated("DisassociateIamInstanceProfile", {"AssociationId": "iip-assoc-1"}, None, second=9)
    assert await remembered(store, ended, begun) == [("i-0000000a", 1, 9, "AssociateIamInstanceProfile")]


async def test_of_a_busy_groups_instances_the_latest_are_looked_at(store: RememberingStore) -> None:
    """And it is told that there are more."""
    for number in range(MOST_INSTANCES + 5):
        store.events += events_of(run(f"i-{number:08}", second=number))
    recollected = await recollect(cast("Store", store), OWN, "web")
    assert (len(recollected.uses), recollected.cut) == (MOST_INSTANCES, True)
    assert recollected.uses[0].instance == f"i-{MOST_INSTANCES + 4:08}"


def test_an_instance_that_nothing_confirms_is_forgotten_in_the_end() -> None:
    """After 400 days, with its pointer; before, and while snapshots see it, it stays."""
    events = list(events_of(run("i-0000000a")))[:1]
    assert spent(events, START + timedelta(days=399)) == []
    assert {event.profile for event in spent(events, START + timedelta(days=401))} == {of_instance("i-0000000a"), users_of("web")}
    seen = ProfileEvent(
        OWN, of_instance("i-0000000a"), START + timedelta(days=390), "s", "Snapshot", {"instance": "i-0000000a", "profile": "web"}
    )
    assert seen not in spent([*events, seen], START + timedelta(days=401))


async def test_launches_that_failed_are_told_with_the_life_that_they_asked_for(
    store: RememberingStore, make_finding: Callable[..., Finding]
) -> None:
    """The latest first, those after the delete too, in any order and once each; dry runs, other profiles and earlier lives are left out."""
    refused: dict[str, Any] = {"errorCode": "Client.InvalidParameterValue", "userIdentity": {"arn": f"arn:aws:iam::{OWN}:user/ci"}}
    launches = [run(second=second, **refused) for second in (50, 5, 30)]
    others = [run(profile="other", second=31, **refused), run(second=32, errorCode="Client.DryRunOperation"), run(second=1, **refused)]
    iam = {"eventSource": "iam.amazonaws.com", "asked": {"instanceProfileName": "web"}}
    await remembered(store, record("CreateInstanceProfile", second=4, **iam), *launches, *launches, *others)
    finding = removal(40, Rule("r", "Deleted", Level.HIGH), make_finding("DeleteInstanceProfile"))
    told = (await from_log(finding, cast("Store", store), Settings(), lambda: START)).value("profile")["failed_launches"]
    assert [one["at"][-4:] for one in told] == [":50Z", ":30Z", ":05Z"]
    assert {(one["by"], one["error"]) for one in told} == {(f"arn:aws:iam::{OWN}:user/ci", "Client.InvalidParameterValue")}


# What a finding says.


def removal(second: int, rule: Rule, finding: Finding) -> Finding:
    event = {**finding.record.event, "eventTime": (START + timedelta(seconds=second)).isoformat()}
    return Finding(rule, Record(event, Origin(path="x")), finding.actor, Subject("instance-profile", "web"))


IN_USE = Rule("r", "In use", Level.HIGH, only_when=("in-use",))


@pytest.mark.parametrize(("second", "lacking"), [(0, "in-use"), (5, None), (39, None), (40, "in-use"), (90, "in-use")])
async def test_in_use_is_judged_by_the_time_of_the_event(
    store: RememberingStore, make_finding: Callable[..., Finding], second: int, lacking: str | None
) -> None:
    """From the start of the first instance to the end of the last, as the log tells, with no AWS to ask; without any fact it is not known."""
    await remembered(
        store,
        run("i-0000000a", second=5),
        run("i-0000000b", second=9),
        terminate("i-0000000a", second=20),
        terminate("i-0000000b", second=40),
    )
    finding = removal(second, IN_USE, make_finding("RemoveRoleFromInstanceProfile"))
    found = await from_log(finding, cast("Store", store), Settings(), lambda: START)
    assert found.lacking == lacking
    assert EnrichedFinding(finding, {}).lacking == "in-use"


@pytest.mark.parametrize(
    ("states", "reason", "users", "lacking"),
    [
        ({"running": 1}, None, (), None),
        ({"pending": 1}, None, (), None),
        ({"stopped": 4}, None, ("i-0000000a",), "in-use"),
        ({}, None, ("i-0000000a",), "in-use"),
        ({}, "eu-west-1: denied", ("i-0000000a",), None),
        ({}, "eu-west-1: denied", (), "in-use"),
        (None, "denied", ("i-0000000a",), None),
        (None, "denied", (), "in-use"),
    ],
)
def test_what_ec2_answers_counts_for_more_than_what_is_remembered(
    make_finding: Callable[..., Finding], states: Any, reason: str | None, users: tuple[str, ...], lacking: str | None
) -> None:
    """Where EC2 answers for every region it has it; where it does not, what is remembered is enough."""
    live = Fact(
        "instances", FactStatus.UNKNOWN if states is None else FactStatus.KNOWN, {"by_state": states}, START, FactSource.LIVE, reason
    )
    spans = [{"id": one, "since": None, "until": None} for one in users]
    memory = Fact("profile", FactStatus.KNOWN, {"instances": spans}, START, FactSource.MEMORY)
    finding = removal(5, IN_USE, make_finding("RemoveRoleFromInstanceProfile"))
    assert EnrichedFinding(finding, {"instances": live, "profile": memory}).lacking == lacking


def test_records_that_fit_nowhere_do_not_have_every_order_tried() -> None:
    """Six that AWS would have refused in any order keep theirs, and soon: whoever writes thousands must not hold up the loop."""
    tried: list[ProfileEvent] = []

    def refused(_: None, event: ProfileEvent) -> bool:
        tried.append(event)
        return False

    six = tuple(ProfileEvent("1", "web", START, str(n), "RunInstances", {}) for n in range(6))
    assert as_allowed(None, six, refused, lambda state, _: state) == six
    assert len(tried) <= 250
