"""The fact `instances`: which EC2 instances use the instance profile, in every region, and so lose their credentials without it.

An instance keeps the ARN of its profile after the profile is deleted, so this is asked of EC2 and needs no memory. Names of instance
profiles are unique in an account whatever their path, so the ARN is matched by account and name: a path that nobody remembers is no
obstacle. Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from worker.enrich.fact import Answer, Call, Case, FactKind, missing, stamp, tags_of
from worker.enrich.instance_events import profile_named
from worker.enrich.profile import about_profile, profile_of
from worker.model import Fact, FactSource

REGIONS_CALLS = ("ec2:DescribeRegions",)
"""Of whoever asks for `regions_of`."""
INSTANCES_SECONDS = 30.0
REGIONS_SECONDS = 3600.0
MOST_LISTED = 100
"""A task travels in one message; the count is told in full."""
MOST_READ = 5000
"""Instances of a profile in one region."""
KEPT = ("InstanceId", "State", "IamInstanceProfile", "LaunchTime")
STATES = ("running", "pending", "stopping", "stopped", "shutting-down", "terminated")
ENVIRONMENT_TAGS = frozenset({"environment", "env", "stage"})
TOLD_TAGS = ENVIRONMENT_TAGS | {"name"}


async def _learn(case: Case) -> Fact:
    named = profile_of(case.finding)
    if named is None:
        return INSTANCES.unknown(case.clock(), "the record names no instance profile, or no account")
    account, name = named
    regions = await regions_of(case, account)
    if isinstance(regions, Answer):
        return INSTANCES.unknown(regions.at, no_regions(regions))
    answers = await asyncio.gather(*(case.ask(_instances(account, name, region)) for region in regions))
    faults = {region: answer.fault.text for region, answer in zip(regions, answers, strict=True) if answer.fault is not None}
    if len(faults) == len(regions):
        return INSTANCES.unknown(case.clock(), missing(faults) or "no region to ask")
    cut = {region: "more instances than are read" for region, answer in zip(regions, answers, strict=True) if answer.value.get("more")}
    found = [using for region, answer in zip(regions, answers, strict=True) for using in _using(answer, account, name, region)]
    found.sort(key=lambda using: (STATES.index(using["state"]) if using["state"] in STATES else len(STATES), using["region"], using["id"]))
    value = {
        "total": len(found),
        "by_state": dict(Counter(using["state"] for using in found)),
        "instances": found[:MOST_LISTED],
        "regions": [region for region in regions if region not in faults],
        "regions_unknown": sorted(faults),
    }
    return INSTANCES.told(value, answers, missing({**faults, **cut}))


async def regions_of(case: Case, account: str) -> list[str] | Answer:
    """The regions to look into: those of the settings, else all that the account has enabled; the failed answer where that is not told."""
    if case.settings.regions:
        return list(case.settings.regions)
    told = await case.ask(Call(account, "ec2", "describe_regions", REGIONS_SECONDS, standing=True))
    return told if told.fault is not None else sorted(region["RegionName"] for region in told.value["Regions"])


def no_regions(told: Answer) -> str:
    """Why nothing is known in any region."""
    return f"{told.fault.text if told.fault else 'no region'}; TRAILMEND_REGIONS can name the regions"


def environment_of(tags: Mapping[str, str]) -> str | None:
    """The environment that tags tell, under whichever of its usual names."""
    return next((tag for key, tag in tags.items() if key.lower() in ENVIRONMENT_TAGS), None)


def is_profile(named: Any, account: str, name: str) -> bool:
    """Whether what AWS holds for an instance profile, its ARN or its bare name, means this one."""
    return named == name or profile_named(named, account) == name


def _instances(account: str, name: str, region: str) -> Call:
    """Filtered by EC2 to spare the account, and again by us: `*` for partition and path lets more through than we mean."""
    arn = f"arn:*:iam::{account}:instance-profile*/{name}"
    params = {"Filters": [{"Name": "iam-instance-profile.arn", "Values": [arn]}]}
    return Call(
        account, "ec2", "describe_instances", INSTANCES_SECONDS, params, region, gather="Instances", most=MOST_READ, read=_instances_of
    )


def _instances_of(page: Mapping[str, Any]) -> Mapping[str, Any]:
    """The instances of all reservations, of which one may hold a thousand, without most of the much that EC2 tells of each."""
    every = (instance for reservation in page.get("Reservations", ()) for instance in reservation.get("Instances", ()))
    return {"Instances": [{**{name: one.get(name) for name in KEPT}, "Tags": _told_tags(one)} for one in every]}


def _told_tags(instance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [tag for tag in instance.get("Tags") or () if str(tag.get("Key")).lower() in TOLD_TAGS]


def _using(answer: Answer, account: str, name: str, region: str) -> list[dict[str, Any]]:
    return [
        _instance(instance, region)
        for instance in answer.value.get("Instances", ())
        if is_profile((instance.get("IamInstanceProfile") or {}).get("Arn"), account, name)
    ]


def _instance(instance: Mapping[str, Any], region: str) -> dict[str, Any]:
    """`profile_id` tells instances of a deleted profile from those of one made again under its name."""
    tags = tags_of(instance.get("Tags"))
    return {
        "id": instance.get("InstanceId"),
        "region": region,
        "state": (instance.get("State") or {}).get("Name"),
        "name": tags.get("Name"),
        "environment": environment_of(tags),
        "launched": stamp(instance.get("LaunchTime")),
        "profile_id": instance["IamInstanceProfile"].get("Id"),
    }


INSTANCES = FactKind("instances", FactSource.LIVE, about_profile, _learn, ("ec2:DescribeInstances", *REGIONS_CALLS))
