"""The fact `dependents`: what launches instances with the instance profile, in every region, and so fails at its next launch without it.

Of a region AWS is asked four things, whichever profile it is about, so that a storm of deletions in an account costs one set of answers:
its Auto Scaling groups, its launch configurations, the default and latest version of all its launch templates, its Batch compute
environments. Only what those leave open is asked for one by one: other template versions that a group is pinned to, and how Beanstalk
environments are set, where there are any. What is read out of the answers stands in `launchers.py`. A part that AWS does not tell is named
under `unknown` with its reason and harms no other; a region that tells nothing at all is in `regions_unknown`.

Instances that run now are the fact `instances`; fleets and Spot requests are not looked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.enrich.fact import Answer, Call, Case, FactKind
from worker.enrich.instances import REGIONS_CALLS, is_profile, no_regions, regions_of
from worker.enrich.launchers import (
    BATCH,
    CONFIGURATION,
    DEFAULT,
    ENVIRONMENT,
    KINDS,
    LATEST,
    LAUNCHING,
    TEMPLATE,
    Group,
    Spec,
    Template,
    by_spec,
    entry,
    group_of,
    profile_of_batch,
    profile_of_configuration,
    profiles_of_settings,
    template_of,
    without_user_data,
)
from worker.enrich.profile import about_profile, profile_of
from worker.model import Fact, FactSource

FACT_CALLS = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeLaunchConfigurations",
    "ec2:DescribeLaunchTemplateVersions",
    "batch:DescribeComputeEnvironments",
    "elasticbeanstalk:DescribeEnvironments",
    "elasticbeanstalk:DescribeConfigurationSettings",
)

DEPENDENTS_SECONDS = 60.0
MOST_LISTED = 100
"""As for instances: a finding travels in one message, and the count is told in full."""
MOST_TEMPLATES = 4000
"""Template versions that are read of a region: two of each of 2,000 templates."""
MOST_PINNED = 40
MOST_ENVIRONMENTS = 25
"""Of a region, what is asked for one by one."""
MOST_REASONS = 5
"""Parts whose reasons are told in a fact's own; `unknown` has them all."""

GROUPS, CONFIGURATIONS, TEMPLATES = "Auto Scaling groups", "launch configurations", "launch templates"
PINNED, BATCHES, ENVIRONMENTS = "launch template versions", "Batch compute environments", "Beanstalk environments"

# The largest pages that AWS gives; what a service hides from the console because another one manages it launches all the same.
WHOLE: Mapping[str, tuple[str, str, str, Mapping[str, Any], int]] = {
    GROUPS: ("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", {"IncludeInstances": False, "MaxRecords": 100}, 1000),
    CONFIGURATIONS: ("autoscaling", "describe_launch_configurations", "LaunchConfigurations", {"MaxRecords": 100}, 1000),
    TEMPLATES: (
        "ec2",
        "describe_launch_template_versions",
        "LaunchTemplateVersions",
        {"Versions": [DEFAULT, LATEST], "IncludeManagedResources": True, "MaxResults": 200},
        MOST_TEMPLATES,
    ),
    BATCHES: ("batch", "describe_compute_environments", "computeEnvironments", {"maxResults": 100}, 1000),
}
"""What is asked of every region: service, operation, the member that holds the list, parameters, and how much of it is read."""


@dataclass(slots=True)
class _Region:
    """One region while it is looked into: what names the profile there, what is not known and why, and the answers that told it."""

    case: Case
    account: str
    profile: str
    name: str
    found: list[dict[str, Any]] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    async def look(self) -> None:
        """Ask and read everything. Does not raise for what AWS refuses."""
        listed = dict(zip(WHOLE, await asyncio.gather(*(self._list(part) for part in WHOLE)), strict=True))
        templates = [template_of(one) for one in listed[TEMPLATES]]
        configurations = dict(profile_of_configuration(one) for one in listed[CONFIGURATIONS])
        groups = [group for one in listed[GROUPS] if (group := group_of(one)) is not None]
        versions = await self._pinned(groups, by_spec(templates))
        self.found += [told for group in groups if (told := self._launching(group, versions, configurations)) is not None]
        self.found += [
            entry(BATCH, str(one.get("computeEnvironmentName")), self.name, "its instance role")
            for one in listed[BATCHES]
            if self._is(profile_of_batch(one))
        ]
        self.found += self._templates(templates)
        self.found += [
            entry(CONFIGURATION, name, self.name, "its instance profile") for name, named in configurations.items() if self._is(named)
        ]
        if GROUPS in self.unknown or any(group.kind == ENVIRONMENT for group in groups):
            await self._environments()

    def _is(self, named: str | None) -> bool:
        return is_profile(named, self.account, self.profile)

    async def _ask(self, part: str, service: str, operation: str, params: Mapping[str, Any], **how: Any) -> Mapping[str, Any]:
        """The answer's value; empty, with the reason under `unknown`, where there is none."""
        # Nothing that IAM does changes these answers, so they serve for events from after them too.
        call = Call(self.account, service, operation, DEPENDENTS_SECONDS, params, self.name, standing=True, **how)
        answer = await self.case.ask(call)
        if answer.fault is not None:
            self.unknown[part] = answer.fault.text
            return {}
        self.answers.append(answer)
        return answer.value

    async def _list(self, part: str) -> Sequence[Mapping[str, Any]]:
        service, operation, member, params, most = WHOLE[part]
        read = without_user_data if part in (TEMPLATES, CONFIGURATIONS) else None
        told = await self._ask(part, service, operation, params, gather=member, most=most, read=read)
        if told.get("more"):
            self.unknown[part] = f"more than the {most} that are read"
        listed: Sequence[Mapping[str, Any]] = told.get(member, ())
        return listed

    async def _pinned(self, groups: Sequence[Group], known: Mapping[Spec, Template]) -> Mapping[Spec, Template]:
        """The template versions known, and those that groups use beside them."""
        wanted = [spec for spec in dict.fromkeys(spec for group in groups for spec in group.specs) if spec not in known]
        if len(wanted) > MOST_PINNED:
            self.unknown[PINNED] = f"{len(wanted) - MOST_PINNED} more than the {MOST_PINNED} that are asked for one by one"
        told = await asyncio.gather(*(self._version(spec) for spec in wanted[:MOST_PINNED]))
        return {**known, **{spec: one for spec, one in zip(wanted, told, strict=False) if one is not None}}

    async def _version(self, spec: Spec) -> Template | None:
        template, version = spec
        known_by = "LaunchTemplateId" if template.startswith("lt-") else "LaunchTemplateName"
        params = {known_by: template, "Versions": [version]}
        told = await self._ask(PINNED, "ec2", "describe_launch_template_versions", params, read=without_user_data)
        return next((template_of(one) for one in told.get("LaunchTemplateVersions", ())), None)

    def _launching(
        self, group: Group, versions: Mapping[Spec, Template], configurations: Mapping[str, str | None]
    ) -> dict[str, Any] | None:
        if group.configuration is not None and self._is(configurations.get(group.configuration)):
            return entry(group.kind, group.name, self.name, f"launch configuration {group.configuration}", group=group)
        used = [versions[spec].label for spec in group.specs if spec in versions and self._is(versions[spec].profile)]
        if not used:
            return None
        through = ", ".join(dict.fromkeys(used))
        return entry(group.kind, group.name, self.name, through, partly=len(used) < len(group.specs), group=group)

    def _templates(self, templates: Sequence[Template]) -> list[dict[str, Any]]:
        """A template once, with those of its two versions that name the profile."""
        naming: dict[str, list[Template]] = {}
        latest = {one.id: one.version for one in sorted(templates, key=lambda one: one.version)}
        for one in dict.fromkeys(templates):
            if self._is(one.profile):
                naming.setdefault(one.id, []).append(one)
        return [
            entry(TEMPLATE, found[0].name, self.name, ", ".join(_version_words(one, latest[id_]) for one in found), id=id_)
            for id_, found in naming.items()
        ]

    async def _environments(self) -> None:
        """The Beanstalk environments that are set to the profile: a rebuild makes their group anew from these settings."""
        told = await self._ask(ENVIRONMENTS, "elasticbeanstalk", "describe_environments", {"IncludeDeleted": False}, gather="Environments")
        seen = {one["name"] for one in self.found if one["kind"] == ENVIRONMENT}
        rest = [one for one in told.get("Environments", ()) if one.get("EnvironmentName") not in seen and one.get("Status") != "Terminated"]
        if told.get("more") or len(rest) > MOST_ENVIRONMENTS:
            self.unknown[ENVIRONMENTS] = f"more than the {MOST_ENVIRONMENTS} that are asked for one by one"
        names = [(str(one.get("ApplicationName")), str(one.get("EnvironmentName"))) for one in rest[:MOST_ENVIRONMENTS]]
        settings = await asyncio.gather(*(self._settings(*both) for both in names))
        self.found += [
            entry(ENVIRONMENT, name, self.name, "its setting IamInstanceProfile")
            for (_, name), told in zip(names, settings, strict=True)
            if any(self._is(named) for named in told.get("profiles", ()))
        ]

    async def _settings(self, application: str, environment: str) -> Mapping[str, Any]:
        params = {"ApplicationName": application, "EnvironmentName": environment}
        return await self._ask(ENVIRONMENTS, "elasticbeanstalk", "describe_configuration_settings", params, read=profiles_of_settings)


def _version_words(one: Template, latest: int) -> str:
    roles = [word for word, holds in (("default", one.default), ("latest", one.version == latest)) if holds]
    return f"its {' and '.join(roles)} version {one.version}"


async def _learn(case: Case) -> Fact:
    named = profile_of(case.finding)
    if named is None:
        return DEPENDENTS.unknown(case.clock(), "the record names no instance profile, or no account")
    names = await regions_of(case, named[0])
    if isinstance(names, Answer):
        return DEPENDENTS.unknown(names.at, no_regions(names))
    regions = [_Region(case, *named, name) for name in names]
    await asyncio.gather(*(region.look() for region in regions))
    unknown = _unknown(regions)
    answers = [answer for region in regions for answer in region.answers]
    if not answers:
        return DEPENDENTS.unknown(case.clock(), _reason(unknown) or "no region to ask")
    found = [one for region in regions for one in region.found]
    order = list(KINDS)
    found.sort(key=lambda one: (order.index(one["kind"]), one["region"], one["name"]))
    value = {
        "total": len(found),
        "launching": sum(one["kind"] in LAUNCHING for one in found),
        "by_kind": dict(Counter(one["kind"] for one in found)),
        "dependents": found[:MOST_LISTED],
        "regions": [region.name for region in regions if region.answers],
        "regions_unknown": sorted(region.name for region in regions if not region.answers),
        "unknown": unknown,
    }
    return DEPENDENTS.told(value, answers, _reason(unknown))


def _unknown(regions: Sequence[_Region]) -> dict[str, str]:
    """Each part that is not known and why; a region that tells nothing is one part."""
    unknown: dict[str, str] = {}
    for region in regions:
        if region.answers:
            unknown |= {f"{part} in {region.name}": why for part, why in region.unknown.items()}
        else:
            unknown[region.name] = next(iter(region.unknown.values()))
    return unknown


def _reason(unknown: Mapping[str, str]) -> str | None:
    """The first reasons in words; many regions fail for one."""
    said = [f"{part}: {why}" for part, why in list(unknown.items())[:MOST_REASONS]]
    more = f"and {len(unknown) - MOST_REASONS} parts more" if len(unknown) > MOST_REASONS else None
    return "; ".join([*said, *([more] if more else [])]) or None


DEPENDENTS = FactKind("dependents", FactSource.LIVE, about_profile, _learn, (*FACT_CALLS, *REGIONS_CALLS))
