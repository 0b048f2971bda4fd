"""Every fact under one deadline, each failing alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from worker.aws import Accounts
from worker.enrich.investigator import KINDS, Investigator
from worker.model import Actor, Fact, FactStatus, Finding, Subject
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store, StoreError

pytestmark = pytest.mark.virtual_time

OWN = "000000000000"
HANGING_SECONDS = 1.0
"""A deadline for what must still be told when a call hangs."""
ANSWERS: dict[str, Any] = {
    "get_caller_identity": {"Account": OWN},
    "list_account_aliases": {"AccountAliases": ["acme"]},
    "get_user": {"User": {"UserName": "eve", "Path": "/"}},
    "list_mfa_devices": {"MFADevices": []},
    "list_access_keys": {"AccessKeyMetadata": [{"AccessKeyId": "AKIA1", "Status": "Active"}]},
    "get_access_key_last_used": {"AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}},
    "get_login_profile": {"LoginProfile": {"PasswordResetRequired": False}},
    "get_credential_report": {"Content": b"user,mfa_active\neve,false\n", "GeneratedTime": datetime(2026, 1, 2, 1, tzinfo=UTC)},
    "get_instance_profile": {"InstanceProfile": {"Roles": [], "CreateDate": datetime(2026, 1, 2, 3, 4, 9, tzinfo=UTC)}},
}
ATTACK = {
    "actor": Actor("IAMUser", f"arn:aws:iam::{OWN}:user/eve", "eve", OWN),
    "subject": Subject("instance-profile", "web"),
    "requestParameters": {"instanceProfileName": "web"},
}


class Cloud:
    """An AWS in which each operation (or region) answers, hangs or refuses as told; it counts what is asked."""

    def __init__(self, **troubles: str) -> None:
        self.troubles = troubles
        self.asked: list[str] = []
        self.under_way = 0
        self.begun = asyncio.Event()

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        return Desk(self, region)

    async def answer(self, operation: str, region: str | None) -> Any:
        self.asked.append(operation)
        self.under_way += 1
        self.begun.set()
        try:
            trouble = self.troubles.get(operation) or self.troubles.get((region or "").replace("-", "_")) or self.troubles.get("everything")
            if trouble == "hang":
                await asyncio.Event().wait()
            if trouble == "ConnectionClosed":
                raise ConnectionError("closed")
            if trouble is not None:
                raise ClientError({"Error": {"Code": trouble, "Message": "no"}}, operation)
            return ANSWERS.get(operation, {})
        finally:
            self.under_way -= 1


class Desk:
    def __init__(self, cloud: Cloud, region: str | None) -> None:
        self.cloud, self.region = cloud, region

    def __getattr__(self, operation: str) -> Any:
        return lambda **_: self.cloud.answer(operation, self.region)

    def get_paginator(self, operation: str) -> Any:
        desk = self

        class Pages:
            async def paginate(self, **_: Any) -> Any:
                await desk.cloud.answer(operation, desk.region)
                arn = f"arn:aws:iam::{OWN}:instance-profile/web"
                instance = {"InstanceId": f"i-{desk.region}", "State": {"Name": "running"}, "IamInstanceProfile": {"Arn": arn}}
                yield {"Reservations": [{"Instances": [instance]}]}

        return Pages()


@pytest.fixture
def learn(store: Any, metrics: Metrics, clock: Callable[[], datetime], make_finding: Callable[..., Finding]) -> Callable[..., Any]:
    """Investigate the attack in a cloud with these troubles."""

    async def run(cloud: Cloud, *, seconds: float = 20.0, memory: Any = store, **settings: Any) -> dict[str, Fact]:
        whole = Settings(
            **{"regions": ("us-east-1", "eu-west-1"), "enrich_deadline_seconds": seconds, "change_pattern": "CHG[0-9]+", **settings}
        )
        investigator = Investigator(cast("Accounts", cloud), cast("Store", memory), whole, metrics, clock)
        return dict((await investigator.investigate(make_finding(**ATTACK))).facts)

    return run


def counted(metrics: Metrics, fact: str, outcome: str) -> float:
    return metrics.registry.get_sample_value("trailmend_facts_total", {"fact": fact, "outcome": outcome}) or 0.0


async def test_all_that_applies_is_answered_and_counted(learn: Any, metrics: Metrics, store: Any) -> None:
    """A user's delete of a profile: these facts, each asked for once also where two facts need it."""
    cloud = Cloud()
    facts = await learn(cloud)
    told = {"user", "profile", "profile_live", "instances", "authorised", "documented", "replaced", "account", "dependents", "impact"}
    assert set(facts) == told | {"identity", "permissions", "credential_report"}
    assert cloud.asked.count("get_instance_profile") == store.recalls == 1
    assert facts["instances"].value["total"] == 2
    assert counted(metrics, "user", "known") == 1
    assert counted(metrics, "profile", "unknown") == 1
    assert "tells nothing" in (facts["profile"].reason or "")


async def test_an_aws_that_never_answers_costs_no_more_than_the_deadline(learn: Any, metrics: Metrics) -> None:
    """Every live fact is unknown and says that the deadline passed; what needs no AWS is answered; nothing is left running."""
    cloud, loop = Cloud(everything="hang"), asyncio.get_running_loop()
    begun = loop.time()
    facts = await learn(cloud, seconds=0.2)
    assert loop.time() - begun < 1.0
    for name in ("user", "profile_live", "instances", "account", "replaced", "documented"):
        assert facts[name].status is FactStatus.UNKNOWN
        assert counted(metrics, name, "unknown") == 1
    assert "deadline of 0.2 s passed" in (facts["user"].reason or "")
    assert facts["authorised"].value["authorised"] is False
    assert cloud.under_way == 0


async def test_a_store_that_hangs_is_left_at_the_deadline(learn: Any) -> None:
    """Memory too is under the deadline, and the live facts do not wait for it."""

    class Hanging:
        async def recall(self, account: str, profile: str) -> Any:
            await asyncio.Event().wait()

    facts = await learn(Cloud(), seconds=0.2, memory=Hanging())
    assert facts["profile"].reason == "deadline of 0.2 s passed"
    assert facts["profile_live"].status is FactStatus.KNOWN


async def test_a_store_that_fails_spoils_only_memory(learn: Any) -> None:
    """The replacement is then judged by what IAM says."""

    class Broken:
        async def recall(self, account: str, profile: str) -> Any:
            raise StoreError("trailmend.db: disk full")

    facts = await learn(Cloud(), memory=Broken())
    assert facts["profile"].status is FactStatus.UNKNOWN
    assert "disk full" in (facts["profile"].reason or "")
    assert facts["replaced"].value["replaced"] is True


@pytest.mark.parametrize("trouble", ["AccessDenied", "hang"])
async def test_one_part_of_a_user_withheld_leaves_the_others(learn: Any, trouble: str) -> None:
    """No devices known is not the same as no devices: None against an empty list, and the reason says which part."""
    fact = (await learn(Cloud(list_mfa_devices=trouble), seconds=HANGING_SECONDS if trouble == "hang" else 20.0))["user"]
    assert fact.status is FactStatus.KNOWN
    assert (fact.value["mfa_devices"], fact.value["console_password"]["exists"]) == (None, True)
    assert [key["id"] for key in fact.value["access_keys"]] == ["AKIA1"]
    assert list(fact.value["unknown"]) == ["mfa_devices"]
    assert fact.reason.startswith("mfa_devices: ")


@pytest.mark.parametrize("trouble", ["UnauthorizedOperation", "hang"])
async def test_one_region_that_fails_leaves_the_others(learn: Any, trouble: str) -> None:
    """What was found stands, and the region that did not answer is named."""
    fact = (await learn(Cloud(eu_west_1=trouble), seconds=HANGING_SECONDS if trouble == "hang" else 20.0))["instances"]
    assert [each["id"] for each in fact.value["instances"]] == ["i-us-east-1"]
    assert (fact.value["regions"], fact.value["regions_unknown"]) == (["us-east-1"], ["eu-west-1"])
    assert "eu-west-1" in fact.reason


async def test_an_answer_of_an_unknown_shape_spoils_only_its_fact(learn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS may change; a fact that cannot read it says so and the finding goes on."""
    monkeypatch.setitem(ANSWERS, "get_instance_profile", {"Surprise": 1})
    facts = await learn(Cloud())
    assert facts["profile_live"].status is FactStatus.UNKNOWN
    assert "KeyError" in (facts["profile_live"].reason or "")
    assert facts["user"].status is FactStatus.KNOWN


async def test_cancelling_an_investigation_leaves_nothing_running(learn: Any) -> None:
    """Stopping the worker ends the lookups with it."""
    cloud = Cloud(everything="hang")
    running = asyncio.create_task(learn(cloud))
    await cloud.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cloud.under_way == 0


@pytest.mark.parametrize("account", [None, "../..", 7, "1" * 13])
async def test_a_record_that_names_no_real_account_opens_no_client(
    make_finding: Callable[..., Finding], store: Any, metrics: Metrics, clock: Callable[[], datetime], account: Any
) -> None:
    """Account ids are attacker-written: only twelve digits are ever asked about."""
    cloud = Cloud()
    actor = Actor("IAMUser", name="eve/../*", account=OWN)
    finding = make_finding(actor=actor, subject=Subject("instance-profile", "*"), recipientAccountId=account)
    investigator = Investigator(cast("Accounts", cloud), cast("Store", store), Settings(), metrics, clock)
    facts = (await investigator.investigate(finding)).facts
    assert cloud.asked == []
    assert all(facts[name].status is FactStatus.UNKNOWN for name in ("user", "profile", "profile_live", "instances"))


def test_every_fact_has_its_line_in_the_document() -> None:
    """docs/facts.md names each fact that an investigation can tell."""
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "facts.md").read_text()
    assert [kind.name for kind in KINDS if f"`{kind.name}`" not in text] == []


@pytest.mark.parametrize(("trouble", "pending"), [("hang", True), ("ConnectionClosed", True), ("AccessDenied", False)])
async def test_what_may_be_had_later_is_pending_and_so_is_what_rests_on_it(learn: Any, trouble: str, pending: bool) -> None:
    """A denial lasts, and nobody waits for it; silence, throttling and broken connections pass."""
    facts = await learn(Cloud(get_instance_profile=trouble), seconds=0.4)
    assert {name: fact.pending for name, fact in facts.items() if fact.pending} == (
        {"profile_live": True, "replaced": True, "documented": True} if pending else {}
    )
