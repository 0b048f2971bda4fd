"""The fact `instances`: which EC2 instances use the instance profile, in every region, and so lose their credentials without it.

An instance keeps the ARN of its profile after the profile is deleted, so this is asked of EC2 and needs no memory. Names of instance
profiles are unique in an account whatever their path, so the ARN is matched by account and name: a path that nobody remembers is no
obstacle. Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from worker.enrich.fact import Answer, Call, Case, FactKind, missing, stamp, tags_of
from worker.enrich.profile import about_profile, profile_of
from worker.model import Fact, FactSource

INSTANCES_SECONDS = 30.0
REGIONS_SECONDS = 3600.0
MOST_LISTED = 100
"""A task travels in one message; the count is told in full."""
STATES = ("running", "pending", "stopping", "stopped", "shutting-down", "terminated")
ENVIRONMENT_TAGS = frozenset({"environment", "env", "stage"})


async def _learn(case: Case) -> Fact:
    named = profile_of(case.finding)
    if named is None:
        return INSTANCES.unknown(case.clock(), "the record names no instance profile, or no account")
    account, name = named
    regions: Sequence[str] = case.settings.regions
    if not regions:
        told = await case.ask(Call(account, "ec2", "describe_regions", REGIONS_SECONDS, standing=True))
        if told.fault is not None:
            return INSTANCES.unknown(told.at, f"{told.fault.text}; TRAILMEND_REGIONS can name the regions")
        regions = sorted(region["RegionName"] for region in told.value["Regions"])
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


def _instances(account: str, name: str, region: str) -> Call:
    """Filtered by EC2 to spare the account, and again by us: `*` for partition and path lets more through than we mean."""
    arn = f"arn:*:iam::{account}:instance-profile*/{name}"
    params = {"Filters": [{"Name": "iam-instance-profile.arn", "Values": [arn]}]}
    return Call(account, "ec2", "describe_instances", INSTANCES_SECONDS, params, region, gather="Reservations")


def _using(answer: Answer, account: str, name: str, region: str) -> list[dict[str, Any]]:
    every = (instance for reservation in answer.value.get("Reservations", ()) for instance in reservation.get("Instances", ()))
    return [_instance(instance, region) for instance in every if _names(instance, account, name)]


def _names(instance: Mapping[str, Any], account: str, name: str) -> bool:
    arn = str((instance.get("IamInstanceProfile") or {}).get("Arn", ""))
    _, _, service, _, owner, resource = [*arn.split(":", 5), *[""] * 6][:6]
    kind, _, path = resource.partition("/")
    return (service, owner, kind, path.rpartition("/")[2]) == ("iam", account, "instance-profile", name)


def _instance(instance: Mapping[str, Any], region: str) -> dict[str, Any]:
    """`profile_id` tells instances of a deleted profile from those of one made again under its name."""
    tags = tags_of(instance.get("Tags"))
    return {
        "id": instance.get("InstanceId"),
        "region": region,
        "state": instance.get("State", {}).get("Name"),
        "name": tags.get("Name"),
        "environment": next((tag for key, tag in tags.items() if key.lower() in ENVIRONMENT_TAGS), None),
        "launched": stamp(instance.get("LaunchTime")),
        "profile_id": instance["IamInstanceProfile"].get("Id"),
    }


INSTANCES = FactKind("instances", FactSource.LIVE, about_profile, _learn)
