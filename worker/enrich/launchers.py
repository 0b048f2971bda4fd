"""What launches EC2 instances, read out of AWS's answers: with which instance profile, by which template, configuration or setting. Pure.

In go members of answers as botocore gives them; out come `Group`s (Auto Scaling groups, by whatever they belong to), what each template
version and launch configuration names, and the JSON entries of the fact `dependents`. Sources, all of the API references:
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AutoScalingGroup.html and API_MixedInstancesPolicy.html,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeLaunchTemplateVersions.html,
https://docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html,
https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/command-options-general.html (aws:autoscaling:launchconfiguration).

An EKS node group is told by its Auto Scaling group, which EKS tags with its name: EKS's own API tells the node group's role and not the
profile (https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSServiceRoleForAmazonEKSNodegroup.html). A newcomer reads one
more kind of answer into entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from worker.enrich.fact import tags_of
from worker.enrich.instances import environment_of

GROUP, NODES, ENVIRONMENT = "auto-scaling-group", "eks-node-group", "beanstalk-environment"
BATCH, TEMPLATE, CONFIGURATION = "batch-compute-environment", "launch-template", "launch-configuration"
KINDS = {
    GROUP: "Auto Scaling group",
    NODES: "EKS node group",
    ENVIRONMENT: "Beanstalk environment",
    BATCH: "Batch compute environment",
    TEMPLATE: "launch template",
    CONFIGURATION: "launch configuration",
}
"""What people call them, in the order in which they are listed: first what launches by itself."""
LAUNCHING = frozenset({GROUP, NODES, ENVIRONMENT, BATCH})
"""What launches by itself; a template or launch configuration waits for somebody to launch from it."""

DEFAULT, LATEST = "$Default", "$Latest"
BEANSTALK_TAG = "elasticbeanstalk:environment-name"
BEANSTALK_OPTION = ("aws:autoscaling:launchconfiguration", "IamInstanceProfile")

Spec = tuple[str, str]
"""A launch template by its id (its name where AWS tells no id), and the version asked of it: a number, `$Default` or `$Latest`."""


@dataclass(frozen=True, slots=True)
class Group:
    """An Auto Scaling group: what it is for people (`kind`, `name`), and what it launches with, of which any may be chosen at a launch."""

    kind: str
    name: str
    group: str
    specs: tuple[Spec, ...]
    configuration: str | None
    environment: str | None
    desired: int | None
    most: int | None


def group_of(told: Mapping[str, Any]) -> Group | None:
    """The group in an `AutoScalingGroup`; None for one that is being deleted (it has a `Status`) and so launches nothing more."""
    if told.get("Status"):
        return None
    tags, name = tags_of(told.get("Tags")), str(told.get("AutoScalingGroupName"))
    kind, known_as = GROUP, name
    if "eks:nodegroup-name" in tags:
        kind, known_as = NODES, f"{tags.get('eks:cluster-name', '?')}/{tags['eks:nodegroup-name']}"
    elif BEANSTALK_TAG in tags:
        kind, known_as = ENVIRONMENT, tags[BEANSTALK_TAG]
    return Group(
        kind,
        known_as,
        name,
        tuple(dict.fromkeys(_specs(told))),
        told.get("LaunchConfigurationName") or None,
        environment_of(tags),
        told.get("DesiredCapacity"),
        told.get("MaxSize"),
    )


def _specs(told: Mapping[str, Any]) -> Iterator[Spec]:
    """Every template version that a launch of the group may use: an override's own, else that of the whole policy."""
    mixed = (told.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
    whole = mixed.get("LaunchTemplateSpecification") or told.get("LaunchTemplate") or {}
    for chosen in mixed.get("Overrides") or [{}]:
        spec = chosen.get("LaunchTemplateSpecification") or whole
        template = spec.get("LaunchTemplateId") or spec.get("LaunchTemplateName")
        if template:
            yield str(template), str(spec.get("Version") or DEFAULT)


@dataclass(frozen=True, slots=True)
class Template:
    """One version of a launch template: which (`version` is its number), whether it is the default, and the profile it names, if any."""

    id: str
    name: str
    version: int
    default: bool
    profile: str | None

    @property
    def label(self) -> str:
        return f"launch template {self.name} version {self.version}"


def without_user_data(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of launch template versions or launch configurations what is read here: their user data is large, and may hold secrets."""
    version = ("LaunchTemplateId", "LaunchTemplateName", "VersionNumber", "DefaultVersion")
    kept: dict[str, Any] = {}
    if (versions := answer.get("LaunchTemplateVersions")) is not None:
        named = [(one, (one.get("LaunchTemplateData") or {}).get("IamInstanceProfile")) for one in versions]
        kept["LaunchTemplateVersions"] = [
            {**{name: one[name] for name in version if name in one}, "LaunchTemplateData": {"IamInstanceProfile": profile}}
            for one, profile in named
        ]
    if (configurations := answer.get("LaunchConfigurations")) is not None:
        configuration = ("LaunchConfigurationName", "IamInstanceProfile")
        kept["LaunchConfigurations"] = [{name: one[name] for name in configuration if name in one} for one in configurations]
    return kept


def template_of(told: Mapping[str, Any]) -> Template:
    """A `LaunchTemplateVersion`."""
    profile = (told.get("LaunchTemplateData") or {}).get("IamInstanceProfile") or {}
    id_, name = str(told.get("LaunchTemplateId")), str(told.get("LaunchTemplateName"))
    return Template(id_, name, int(told["VersionNumber"]), bool(told.get("DefaultVersion")), profile.get("Arn") or profile.get("Name"))


def by_spec(templates: Iterable[Template]) -> dict[Spec, Template]:
    """Template versions under each spec that means them. Of each template its default and latest version must be among them."""
    found: dict[Spec, Template] = {}
    for one in sorted(templates, key=lambda one: one.version):
        for known_as in (one.id, one.name):
            found[known_as, str(one.version)] = found[known_as, LATEST] = one
            if one.default:
                found[known_as, DEFAULT] = one
    return found


def profile_of_configuration(told: Mapping[str, Any]) -> tuple[str, str | None]:
    """The name of a `LaunchConfiguration`, and the name or ARN of the profile in it."""
    return str(told.get("LaunchConfigurationName")), told.get("IamInstanceProfile") or None


def profile_of_batch(told: Mapping[str, Any]) -> str | None:
    """The profile that a Batch `ComputeEnvironmentDetail` launches with: what it calls the instance role is a profile's name or ARN."""
    if told.get("status") in ("DELETING", "DELETED"):
        return None
    return (told.get("computeResources") or {}).get("instanceRole") or None


def profiles_of_settings(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The profiles that a Beanstalk environment is set to, by DescribeConfigurationSettings: as deployed, and as a draft would have it.

    Nothing else is kept of the answer: settings hold what an application is given as its environment, passwords among them.
    """
    options = (option for settings in told.get("ConfigurationSettings", ()) for option in settings.get("OptionSettings", ()))
    named = [one for one in options if (one.get("Namespace"), one.get("OptionName")) == BEANSTALK_OPTION and one.get("Value")]
    return {"profiles": [str(one["Value"]) for one in named]}


def entry(
    kind: str,
    name: str,
    region: str,
    through: str,
    *,
    id: str | None = None,  # noqa: A002  # the name it has in the value
    partly: bool = False,
    group: Group | None = None,
) -> dict[str, Any]:
    """One of `dependents`. `through` says in words by what it names the profile, `partly` that some of its launches do without."""
    return {
        "kind": kind,
        "name": name,
        "id": id,
        "region": region,
        "through": through,
        "partly": partly,
        "group": None if group is None else group.group,
        "environment": None if group is None else group.environment,
        "desired": None if group is None else group.desired,
        "most": None if group is None else group.most,
    }
