"""Snapshots of an embedded AWS teach profile memory what no record told, one worker for all, and a closed account stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from tests.enrich.aws import client
from tests.enrich.test_facts_live import made_profile, run_instance
from tests.fakes import sample
from worker.aws import Accounts
from worker.enrich import snapshots
from worker.enrich.profile import fold
from worker.enrich.recollection import Recollection, recollect
from worker.enrich.snapshots import Snapshots
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.sqlite import SqliteStore
from worker.state.store import StoreError

OWN, MEMBER, CLOSED = "000000000000", "111122223333", "999999999999"
HERE = ("us-east-1", "eu-west-1")


class House:
    """A worker's parts around the embedded AWS, with a clock that is set by hand and a list of what AWS is asked."""

    def __init__(self, store: SqliteStore, metrics: Metrics) -> None:
        self.store, self.metrics = store, metrics
        self.now = datetime.now(UTC) + timedelta(minutes=10)
        self.asked: list[str] = []
        self.refused: dict[str, str] = {}

    def snapshots(self, owner: str = "one", **more: Any) -> Snapshots:
        settings = Settings(**{"member_role_name": "trailmend", "accounts": (MEMBER,), "regions": HERE, **more})
        return Snapshots(Listening(AioSession(), settings, self), self.store, settings, self.metrics, lambda: self.now, owner)

    async def take(self, **more: Any) -> None:
        taking = self.snapshots(**more)
        async with taking._accounts:
            await taking.take()
        self.now += timedelta(hours=1)

    async def recollect(self, name: str, account: str = OWN) -> Recollection:
        return await recollect(self.store, account, name)

    def counted(self, outcome: str) -> float:
        return sample(self.metrics, "snapshots_total", outcome=outcome)


class Listening(Accounts):
    """Accounts that tell what is asked, and refuse what they are told to."""

    def __init__(self, session: AioSession, settings: Settings, house: House) -> None:
        super().__init__(session, settings)
        self.house = house

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        if account == CLOSED:
            raise ClientError({"Error": {"Code": "ExpiredToken", "Message": "no"}}, "AssumeRole")
        made = await super().client(service, account, region)
        made.meta.events.register("before-call", self._heard, unique_id="house")
        return made

    def _heard(self, model: Any, **_: Any) -> None:
        self.house.asked.append(model.name)
        if (code := self.house.refused.get(model.name)) is not None:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, model.name)


@pytest.fixture
async def house(embedded_aws: str, metrics: Metrics) -> AsyncIterator[House]:
    store = await SqliteStore.open(":memory:")
    yield House(store, metrics)
    await store.close()


async def test_a_snapshot_tells_what_was_there_before_the_log(house: House) -> None:
    """Role, path, tags and instances of our own account and of a member, each with the moment of the listing."""
    arn = made_profile(OWN, "web", "web-role", "/fleet/")["Arn"]
    made_profile(MEMBER, "db", "db-role")
    users = {run_instance(OWN, region, arn) for region in HERE}
    at = house.now
    await house.take()
    web = await house.recollect("web")
    life = fold(web.events, None).life
    assert life is not None
    assert (life.role, life.path, life.tags, life.complete) == ("web-role", "/fleet/", {"change": "CHG0042"}, True)
    assert life.role_at == life.path_at == life.tags_at == at
    assert {use.instance for use in web.uses} == users
    assert {(use.region, use.since, use.until, use.how) for use in web.uses} == {(region, None, None, "Snapshot") for region in HERE}
    assert fold((await house.recollect("db", MEMBER)).events, None).as_value()["roles"] == ["db-role"]
    assert house.counted("complete") == 2


async def test_what_a_later_snapshot_misses_has_ended(house: House) -> None:
    """A profile and an instance that went without a record: dated by the snapshot, which is as close as it can be told."""
    arn = made_profile(OWN, "web", "web-role")["Arn"]
    user = run_instance(OWN, "us-east-1", arn)
    await house.take(accounts=(OWN,))
    iam = client("iam")
    iam.remove_role_from_instance_profile(InstanceProfileName="web", RoleName="web-role")
    iam.delete_instance_profile(InstanceProfileName="web")
    client("ec2").terminate_instances(InstanceIds=[user])
    gone_by = house.now
    await house.take(accounts=(OWN,))
    web = await house.recollect("web")
    value = fold(web.events, None).as_value()
    assert (value["exists"], value["last_role"]["name"], value["tags"]) == (False, "web-role", {"change": "CHG0042"})
    assert [(use.instance, use.until) for use in web.uses] == [(user, gone_by)]


async def test_a_quiet_account_costs_a_listing_and_no_tags(house: House) -> None:
    """The second time nothing is learnt but that all was seen, and what is asked is one call for the profiles and two a region."""
    made_profile(OWN, "web", "web-role")
    await house.take(accounts=(OWN,))
    assert house.asked.count("ListInstanceProfileTags") == 1
    house.asked.clear()
    before = await house.recollect("web")
    await house.take(accounts=(OWN,))
    listed = ["ListInstanceProfiles", *["DescribeInstances", "DescribeIamInstanceProfileAssociations"] * len(HERE)]
    assert sorted(name for name in house.asked if name != "GetCallerIdentity") == sorted(listed)
    assert len(await house.store.recall(OWN, "web")) == 1
    later = (await house.recollect("web")).events
    assert (len(before.events), [event.time for event in later]) == (1, [before.events[0].time, house.now - timedelta(hours=1)])


@pytest.mark.parametrize("refused", ["DescribeInstances", "DescribeIamInstanceProfileAssociations"])
async def test_what_could_not_be_listed_whole_says_nothing(house: House, refused: str) -> None:
    """An instance that a refused listing does not show has not ended; the account is counted as seen in part, and the profiles are learnt."""
    arn = made_profile(OWN, "web", "web-role")["Arn"]
    run_instance(OWN, "us-east-1", arn)
    await house.take(accounts=(OWN,))
    house.refused[refused] = "UnauthorizedOperation"
    client("iam").create_instance_profile(InstanceProfileName="new")
    await house.take(accounts=(OWN,))
    assert [use.until for use in (await house.recollect("web")).uses] == [None]
    assert fold((await house.recollect("new")).events, None).life is not None
    assert (house.counted("complete"), house.counted("partial")) == (1, 1)


async def test_an_account_that_cannot_be_entered_stops_no_other(house: House) -> None:
    """It is counted and the others are looked at; so is one that we may not enter at all."""
    made_profile(OWN, "web", "web-role")
    made_profile(MEMBER, "db", "db-role")
    await house.take(accounts=(CLOSED, MEMBER))
    assert (house.counted("failed"), house.counted("complete")) == (1, 2)
    assert (await house.recollect("db", MEMBER)).events
    house.refused["AssumeRole"] = "AccessDenied"
    await house.take(accounts=(MEMBER,))
    assert (house.counted("closed"), house.counted("complete")) == (1, 3)


@pytest.mark.parametrize(("role", "listed"), [(None, False), ("trailmend", False), ("trailmend", True)])
async def test_the_organisation_tells_the_scope_where_it_may_be_asked(
    house: House, monkeypatch: Any, role: str | None, listed: bool
) -> None:
    """Without a member role our own account alone; with one all active accounts of the organisation, or our own where that is refused."""

    class Organization:
        def get_paginator(self, _: str) -> Any:
            return self

        async def paginate(self) -> AsyncIterator[Any]:
            if not listed:
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListAccounts")
            yield {"Accounts": [{"Id": MEMBER, "State": "ACTIVE"}, {"Id": CLOSED, "State": "SUSPENDED"}]}

    taking = house.snapshots(accounts=(), member_role_name=role)
    async with taking._accounts as accounts:
        ask = accounts.client

        async def client_of(service: str, *where: Any) -> Any:
            return Organization() if service == "organizations" else await ask(service, *where)

        monkeypatch.setattr(accounts, "client", client_of)
        assert await taking._scope() == ([OWN, MEMBER] if listed else [OWN])


async def test_where_nobody_names_accounts_and_regions_both_are_asked_for(house: House) -> None:
    """Without an answer to either, our own account's profiles are learnt all the same, and its instances are missing."""
    made_profile(OWN, "web", "web-role")
    house.refused = {"ListAccounts": "AccessDeniedException", "DescribeRegions": "UnauthorizedOperation"}
    await house.take(accounts=(), regions=())
    assert {"ListAccounts", "DescribeRegions", "ListInstanceProfiles"} <= set(house.asked)
    assert house.counted("partial") == 1
    life = fold((await house.recollect("web")).events, None).life
    assert life is not None
    assert life.role == "web-role"


async def test_one_worker_of_a_fleet_takes_the_snapshot_of_a_period(house: House, monkeypatch: Any) -> None:
    """Of three that watch at once one looks; in the next period one does again."""
    looks: list[str] = []
    woken: list[asyncio.Future[None]] = []

    async def sleep(_: float) -> None:
        woken.append(asyncio.get_running_loop().create_future())
        await woken[-1]

    async def watching(count: int) -> None:
        while len(woken) < count:
            await real_sleep(0)

    real_sleep = asyncio.sleep
    monkeypatch.setattr(snapshots, "asyncio", type("Loop", (), {"sleep": staticmethod(sleep)}))
    fleet = [house.snapshots(f"worker-{n}") for n in range(3)]
    for number, one in enumerate(fleet):

        async def take(number: int = number) -> None:
            looks.append(f"worker-{number}")

        monkeypatch.setattr(one, "take", take)
    tasks = [asyncio.ensure_future(one.watch()) for one in fleet]
    await watching(3)
    assert len(looks) == 1
    house.now += timedelta(seconds=fleet[0]._settings.snapshot_seconds)
    for waiting in woken[:3]:
        waiting.set_result(None)
    await watching(6)
    assert len(looks) == 2
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_store_that_fails_is_a_counted_fault(house: House, monkeypatch: Any) -> None:
    """The watch goes on, and tries again later."""

    async def claim(*_: object) -> None:
        raise StoreError("state.db: disk full")

    monkeypatch.setattr(house.store, "claim", claim)
    taking = house.snapshots()
    async with taking._accounts:
        watching = asyncio.ensure_future(taking.watch())
        while not sample(house.metrics, "faults_total", stage="snapshot", reason="store"):
            await asyncio.sleep(0.01)
        assert not watching.done()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
