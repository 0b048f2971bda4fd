"""Snapshots of the accounts in scope: what IAM and EC2 list now and then, learnt into profile memory. The edge beside `roster.py`.

One worker of a fleet takes each: the claim of a period is won once. Scope is our own account and, with `MEMBER_ROLE_NAME`, those in
`ACCOUNTS`, else all that organizations:ListAccounts names where we may ask, else our own alone; regions as for the facts. An account
that cannot be entered, or a part of one that cannot be listed, is told and counted and stops nothing else: of that part nothing is said.

Calls, for each account and snapshot: one ListInstanceProfiles for 1,000 profiles, one DescribeRegions unless `REGIONS` names them, and in
each region one DescribeIamInstanceProfileAssociations and one DescribeInstances for 1,000 instances with a profile. A listing shows no
tags: ListInstanceProfileTags is asked once for each profile that the log did not tell whole, at most `TAGS_AT_ONCE` a snapshot.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListInstanceProfiles.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeIamInstanceProfileAssociations.html
https://docs.aws.amazon.com/organizations/latest/APIReference/API_ListAccounts.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from worker.aws import AccountClosedError, Accounts, explain
from worker.enrich import roster
from worker.enrich.fact import tags_of
from worker.enrich.instance_events import profile_named
from worker.enrich.profile import fold
from worker.enrich.recollection import every
from worker.enrich.roster import News, Profile, User
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Claim, Store, StoreError

T = TypeVar("T")

SCOPE_CALLS = ("organizations:ListAccounts",)
"""In our own account; the others are asked in every one."""
LOOK_CALLS = (
    "iam:ListInstanceProfiles",
    "iam:ListInstanceProfileTags",
    "ec2:DescribeRegions",
    "ec2:DescribeInstances",
    "ec2:DescribeIamInstanceProfileAssociations",
)
AWS_CALLS = (*SCOPE_CALLS, *LOOK_CALLS)

LISTING_SECONDS = 60.0
"""What takes longer is given up, because it would show several times at once (`sequence.SETTLED_AFTER`)."""
LEASE = timedelta(minutes=15)
"""How long a snapshot of all accounts may take before another worker may take it. A worker that died is waited for as long."""
TAGS_AT_ONCE = 100
ACCOUNTS_AT_ONCE = 4
REGIONS_AT_ONCE = 8
PAGE = 1000
LIVING = ("pending", "running", "stopping", "stopped")


class Snapshots:
    """Takes snapshots. `watch` goes on for ever, `take` is one of all accounts."""

    def __init__(
        self, accounts: Accounts, store: Store, settings: Settings, metrics: Metrics, clock: Callable[[], datetime], owner: str
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._owner = owner

    async def watch(self) -> None:
        """Take one in each period, unless another worker does."""
        seconds = self._settings.snapshot_seconds
        while True:
            now = self._clock().timestamp()
            period = int(now // seconds)
            claim = Claim.BUSY
            try:
                claim = await self._take_once(f"snapshot|{seconds:g}|{period}")
            except StoreError as error:
                self._metrics.fault("snapshot", "store", detail=str(error))
            except Exception as error:  # noqa: BLE001  # a defect of ours must not take the messages in hand down with it
                self._metrics.fault("snapshot", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)
            left = (period + 1) * seconds - self._clock().timestamp()
            await asyncio.sleep(max(1.0, left if claim is not Claim.BUSY else min(left, LEASE.total_seconds())))

    async def _take_once(self, key: str) -> Claim:
        claim = await self._store.claim(key, self._owner, self._clock(), LEASE)
        if claim is Claim.WON:
            await self.take()
            await self._store.settle([key], self._owner, self._clock())
        return claim

    async def take(self) -> None:
        """Look at every account in scope. Raises `StoreError` when the store fails."""
        at_once = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

        async def one(account: str) -> None:
            async with at_once:
                await _Look(self._accounts, self._store, self._settings, self._metrics, self._clock, account).take()

        await every(one(account) for account in await self._scope())

    async def _scope(self) -> list[str]:
        """The accounts to look at; none where not even our own is known."""
        try:
            own = await self._accounts.own_account()
        except Exception as error:  # noqa: BLE001  # whatever STS raises is told; explain() names it
            self._metrics.snapshot("failed", missing={"account": explain(error).text})
            return []
        if self._settings.member_role_name is None:
            return [own]
        if self._settings.accounts:
            return list(dict.fromkeys([own, *self._settings.accounts]))
        try:
            client = await self._accounts.client("organizations")
            pages = client.get_paginator("list_accounts").paginate()
            listed = [one["Id"] async for page in pages for one in page["Accounts"] if one.get("State", one.get("Status")) == "ACTIVE"]
        except Exception as error:  # noqa: BLE001  # most accounts may not ask this, and our own is always in scope
            self._metrics.life("snapshot_scope", accounts=1, reason=f"{explain(error).text}; TRAILMEND_ACCOUNTS can name the accounts")
            return [own]
        return list(dict.fromkeys([own, *listed]))


@dataclass
class _Look:
    """One look at one account. `_faults` has the parts that could not be listed and why."""

    _accounts: Accounts
    _store: Store
    _settings: Settings
    _metrics: Metrics
    _clock: Callable[[], datetime]
    _account: str
    _faults: dict[str, str] = field(default_factory=dict)
    _calls: int = 0
    _learnt: int = 0

    async def take(self) -> None:
        outcome = "complete"
        try:
            await self._accounts.client("iam", self._account)
        except Exception as error:  # noqa: BLE001  # whatever a client raises is told; explain() names it
            outcome, self._faults = "closed" if isinstance(error, AccountClosedError) else "failed", {"account": explain(error).text}
        else:
            profiles, regions = await asyncio.gather(self._listed("profiles", self._profiles()), self._listed("regions", self._regions()))
            if profiles is not None:
                await self._note(await self._of_profiles(*profiles))
            at_once = asyncio.Semaphore(REGIONS_AT_ONCE)
            await every(self._region(region, at_once) for region in regions or ())
            outcome = "partial" if self._faults else outcome
        self._metrics.snapshot(outcome, account=self._account, calls=self._calls, learnt=self._learnt, missing=self._faults)

    async def _note(self, news: News) -> None:
        await self._store.learn(news.learn)
        await self._store.forget(news.forget)
        self._learnt += len(news.learn)

    async def _of_profiles(self, listed: Sequence[Profile], at: datetime) -> News:
        """The news of a listing, with the tags of those profiles that nobody has told whole."""
        known = await self._store.recall(self._account, roster.PROFILES)
        told: set[str] = set()
        asked: dict[str, Profile] = {}
        for profile in roster.without_tags(listed, known):
            life = fold(await self._store.recall(self._account, profile.name), None).life
            if life is not None and life.complete and life.deleted is None and life.id == profile.id:
                told.add(profile.name)
            elif len(asked) < TAGS_AT_ONCE:
                tags = await self._listed(f"tags of {profile.name}", self._tags(profile.name))
                if tags is None:
                    break  # the next one would be refused as well, or the account is throttled
                asked[profile.name] = replace(profile, tags=tags)
        return roster.of_profiles(self._account, at, [asked.get(one.name, one) for one in listed], known, told)

    async def _region(self, region: str, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            listed = await self._listed(region, self._users(region))
            if listed is not None:
                known = await self._store.recall(self._account, roster.instances_of(region))
                await self._note(roster.of_region(self._account, region, self._clock(), listed, known))

    # What AWS lists.

    async def _listed(self, part: str, listing: Coroutine[Any, Any, T]) -> T | None:
        """A listing, or None where it could not be had to its end, and then the reason is among the faults."""
        try:
            async with asyncio.timeout(LISTING_SECONDS):
                return await listing
        except TimeoutError:
            self._faults[part] = f"took longer than {LISTING_SECONDS:g} s"
        except Exception as error:  # noqa: BLE001  # whatever a client raises is told; explain() names it
            self._faults[part] = explain(error).text
        return None

    async def _pages(self, service: str, operation: str, member: str, region: str | None = None, **request: Any) -> AsyncIterator[Any]:
        client = await self._accounts.client(service, self._account, region)
        async for page in client.get_paginator(operation).paginate(PaginationConfig={"PageSize": PAGE}, **request):
            self._calls += 1
            for one in page.get(member, ()):
                yield one

    async def _profiles(self) -> tuple[list[Profile], datetime]:
        listed = [_profile(one) async for one in self._pages("iam", "list_instance_profiles", "InstanceProfiles")]
        return listed, self._clock()

    async def _tags(self, name: str) -> dict[str, str]:
        client = await self._accounts.client("iam", self._account)
        self._calls += 1
        # A profile has at most 50 tags and a page 100.
        return tags_of((await client.list_instance_profile_tags(InstanceProfileName=name))["Tags"])

    async def _regions(self) -> Sequence[str]:
        if self._settings.regions:
            return self._settings.regions
        client = await self._accounts.client("ec2", self._account)
        self._calls += 1
        return sorted(region["RegionName"] for region in (await client.describe_regions())["Regions"])

    async def _users(self, region: str) -> list[User]:
        """Every instance of a region that has a profile: what either list shows, because either may be behind the other."""
        own = {"Name": "iam-instance-profile.arn", "Values": ["arn:*"]}
        states = {"Name": "instance-state-name", "Values": list(LIVING)}
        found: dict[str, User] = {}
        async for reservation in self._pages("ec2", "describe_instances", "Reservations", region, Filters=[own, states]):
            for instance in reservation.get("Instances", ()):
                self._add(found, instance.get("InstanceId"), instance.get("IamInstanceProfile"), None)
        held = {"Name": "state", "Values": ["associating", "associated"]}
        async for one in self._pages(
            "ec2", "describe_iam_instance_profile_associations", "IamInstanceProfileAssociations", region, Filters=[held]
        ):
            self._add(found, one.get("InstanceId"), one.get("IamInstanceProfile"), one.get("AssociationId"))
        return list(found.values())

    def _add(self, found: dict[str, User], instance: Any, profile: Any, association: str | None) -> None:
        name = profile_named((profile or {}).get("Arn"), self._account)
        if isinstance(instance, str) and name is not None:
            found[instance] = User(instance, name, (profile or {}).get("Id"), association)


def _profile(one: Mapping[str, Any]) -> Profile:
    role = next((role["RoleName"] for role in one.get("Roles", ())), None)
    return Profile(one["InstanceProfileName"], one["InstanceProfileId"], one["Arn"], one["Path"], role, one.get("CreateDate"))
