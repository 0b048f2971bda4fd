"""What launches with an instance profile: each call against what answers it best, an embedded AWS, moto, or stubs of botocore's own shapes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from tests.enrich.borrowed import Borrowed
from tests.fakes import metrics
from worker.aws import Accounts
from worker.enrich import dependents
from worker.enrich.dependents import DEPENDENTS
from worker.enrich.fact import Case
from worker.enrich.instances import is_profile
from worker.enrich.launchers import group_of, profiles_of_settings, without_user_data
from worker.enrich.lookups import Deadline, Lookups
from worker.model import Fact, FactSource, FactStatus, Finding, Subject
from worker.settings import Settings

OWN, MEMBER, MOTO = "000000000000", "111122223333", "123456789012"
WEB = Subject("instance-profile", "web")
Make = Callable[..., Finding]


def arn(account: str, resource: str = "web") -> str:
    return f"arn:aws:iam::{account}:instance-profile/{resource}"


def client(service: str, account: str = OWN, region: str = "us-east-1") -> Any:
    return boto3.client(service, region_name=region, aws_access_key_id=account, aws_secret_access_key="x")  # type: ignore[call-overload]


def template(ec2: Any, name: str, *profiles: Mapping[str, str] | None) -> str:
    """A launch template with a version for each; the first stays the default."""
    data = [{"ImageId": "ami-1", **({} if profile is None else {"IamInstanceProfile": profile})} for profile in profiles]
    id_ = str(ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data[0])["LaunchTemplate"]["LaunchTemplateId"])
    for one in data[1:]:
        ec2.create_launch_template_version(LaunchTemplateId=id_, LaunchTemplateData=one)
    return id_


def group(autoscaling: Any, name: str, tags: Mapping[str, str] | None = None, **launch: Any) -> None:
    told = [{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in (tags or {}).items()]
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=0, MaxSize=4, DesiredCapacity=2, AvailabilityZones=["us-east-1a"], Tags=told, **launch
    )


def told(fact: Fact) -> list[tuple[str, str, str, str]]:
    return [(one["kind"], one["name"], one["region"], one["through"]) for one in fact.value["dependents"]]


# Against the embedded AWS.


async def test_groups_and_templates_of_a_deleted_profile_are_found_in_every_region(
    embedded_aws: str, make_finding: Make, investigate: Any
) -> None:
    """By name, by ARN and whatever its path; a profile whose name only begins so, or of another account, is not taken along."""
    here, there = client("ec2"), client("ec2", region="eu-west-1")
    web = template(here, "web", {"Name": "web"})
    old = template(there, "old", {"Arn": arn(OWN, "apps/web")}, {"Name": "web2"})
    template(here, "other", {"Name": "web2"}, {"Arn": arn(MEMBER)}, None)
    template(here, "fresh", None, {"Arn": arn(OWN)})
    group(client("autoscaling"), "web-fleet", {"Environment": "prod"}, LaunchTemplate={"LaunchTemplateId": web, "Version": "$Latest"})
    group(client("autoscaling", region="eu-west-1"), "old-fleet", LaunchTemplate={"LaunchTemplateId": old})
    group(client("autoscaling"), "others", LaunchTemplate={"LaunchTemplateName": "other", "Version": "$Default"})
    fact = (await investigate(make_finding(subject=WEB), regions=()))["dependents"]
    assert (fact.status, fact.source, fact.reason) == (FactStatus.KNOWN, FactSource.LIVE, None)
    assert told(fact) == [
        ("auto-scaling-group", "old-fleet", "eu-west-1", "launch template old version 1"),
        ("auto-scaling-group", "web-fleet", "us-east-1", "launch template web version 1"),
        ("launch-template", "old", "eu-west-1", "its default version 1"),
        ("launch-template", "fresh", "us-east-1", "its latest version 2"),
        ("launch-template", "web", "us-east-1", "its default and latest version 1"),
    ]
    assert (fact.value["total"], fact.value["launching"]) == (5, 2)
    assert fact.value["by_kind"] == {"auto-scaling-group": 2, "launch-template": 3}
    fleet = fact.value["dependents"][1]
    assert (fleet["group"], fleet["environment"], fleet["desired"], fleet["most"], fleet["partly"]) == ("web-fleet", "prod", 2, 4, False)
    assert {"us-east-1", "eu-west-1"} <= set(fact.value["regions"])
    assert (fact.value["regions_unknown"], fact.value["unknown"]) == ([], {})


async def test_a_version_that_a_group_is_pinned_to_is_asked_for(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """Neither the default nor the latest version names the profile; the one in between that the group uses does."""
    pinned = template(client("ec2"), "web", None, {"Name": "web"}, None)
    group(client("autoscaling"), "pinned", LaunchTemplate={"LaunchTemplateId": pinned, "Version": "2"})
    group(client("autoscaling"), "moved-on", LaunchTemplate={"LaunchTemplateId": pinned, "Version": "$Latest"})
    fact = (await investigate(make_finding(subject=WEB)))["dependents"]
    assert told(fact) == [("auto-scaling-group", "pinned", "us-east-1", "launch template web version 2")]


async def test_batch_environments_name_it_by_name_or_arn(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """What Batch calls the instance role is a profile; in the member account that the finding is about."""
    client("iam", MEMBER).create_role(RoleName="trailmend", AssumeRolePolicyDocument=json.dumps({"Statement": []}))
    for name, role in (("by-name", "web"), ("by-arn", arn(MEMBER, "x/web")), ("other", "web2")):
        client("batch", MEMBER).create_compute_environment(
            computeEnvironmentName=name,
            type="MANAGED",
            computeResources={"type": "EC2", "maxvCpus": 4, "subnets": ["subnet-1"], "instanceRole": role},
        )
    fact = (await investigate(make_finding(subject=WEB, recipientAccountId=MEMBER)))["dependents"]
    assert told(fact) == [("batch-compute-environment", name, "us-east-1", "its instance role") for name in ("by-arn", "by-name")]


async def test_a_service_that_is_not_there_is_named_and_harms_nothing_else(embedded_aws: str, make_finding: Make, investigate: Any) -> None:
    """The embedded AWS has no Elastic Beanstalk: its part is unknown and says so, the group that it owns is found all the same."""
    web = template(client("ec2"), "web", {"Name": "web"})
    group(client("autoscaling"), "awseb-1", {"elasticbeanstalk:environment-name": "shop"}, LaunchTemplate={"LaunchTemplateId": web})
    fact = (await investigate(make_finding(subject=WEB)))["dependents"]
    assert told(fact)[0] == ("beanstalk-environment", "shop", "us-east-1", "launch template web version 1")
    assert fact.value["dependents"][0]["group"] == "awseb-1"
    assert list(fact.value["unknown"]) == ["Beanstalk environments in us-east-1"]
    assert fact.reason.startswith("Beanstalk environments in us-east-1: elasticbeanstalk:describe_environments in account")


# Against moto, which knows launch configurations and mixed policies.


@pytest.fixture
def moto_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Borrowed]:
    """An empty moto in this process."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield Borrowed(lambda service, region: boto3.client(service, region_name=region or "us-east-1"))  # type: ignore[call-overload]


async def learnt(
    finding: Finding, accounts: Any, *, seconds: float = 60.0, regions: tuple[str, ...] = ("us-east-1",), lookups: Lookups | None = None
) -> Fact:
    """The fact alone, asked of some accounts, or of lookups that have their answers already."""
    asked, until = lookups or looking(accounts), Deadline(asyncio.get_running_loop().time() + seconds, seconds)

    async def fact(_: str) -> Fact | None:
        raise AssertionError("it needs no other fact")

    case = Case(finding, Settings(regions=regions), None, now, lambda call: asked.ask(call, until, finding.record.time), fact)  # type: ignore[arg-type]
    return await DEPENDENTS.learn(case)


def now() -> datetime:
    return datetime.now(UTC)


def looking(accounts: Any) -> Lookups:
    return Lookups(cast("Accounts", accounts), now, metrics().calls)


def about_web(make_finding: Make, account: str = MOTO) -> Finding:
    return make_finding(subject=WEB, recipientAccountId=account)


async def test_launch_configurations_and_their_groups(moto_aws: Borrowed, make_finding: Make) -> None:
    """A group by what its launch configuration names, and the configuration itself."""
    autoscaling = client("autoscaling")
    for name, named in (("old", "web"), ("by-arn", arn(MOTO, "apps/web")), ("other", "web2")):
        autoscaling.create_launch_configuration(
            LaunchConfigurationName=name, ImageId="ami-1", InstanceType="t2.micro", IamInstanceProfile=named
        )
        group(autoscaling, f"{name}-fleet", LaunchConfigurationName=name)
    fact = await learnt(about_web(make_finding), moto_aws)
    assert told(fact) == [
        ("auto-scaling-group", "by-arn-fleet", "us-east-1", "launch configuration by-arn"),
        ("auto-scaling-group", "old-fleet", "us-east-1", "launch configuration old"),
        ("launch-configuration", "by-arn", "us-east-1", "its instance profile"),
        ("launch-configuration", "old", "us-east-1", "its instance profile"),
    ]


async def test_a_mixed_policy_depends_by_any_of_its_overrides(moto_aws: Borrowed, make_finding: Make) -> None:
    """In part where only an override names it; not at all where every override brings a template of its own that does not."""
    ec2, autoscaling = client("ec2"), client("autoscaling")
    web, arm, other = (template(ec2, name, {"Name": named}) for name, named in (("web", "web"), ("arm", "web"), ("other", "web2")))

    def policy(whole: str, *overrides: str | None) -> Mapping[str, Any]:
        spec = {"LaunchTemplateSpecification": {"LaunchTemplateId": whole, "Version": "$Default"}}
        own = [{"LaunchTemplateSpecification": {"LaunchTemplateId": one, "Version": "1"}} if one else {} for one in overrides]
        types = [{"InstanceType": f"t{number}.micro", **one} for number, one in enumerate(own, 2)]
        return {"LaunchTemplate": {**spec, **({"Overrides": types} if types else {})}}

    group(autoscaling, "whole", MixedInstancesPolicy=policy(web))
    group(autoscaling, "partly", MixedInstancesPolicy=policy(other, None, arm))
    group(autoscaling, "not-at-all", MixedInstancesPolicy=policy(web, other, other))
    fact = await learnt(about_web(make_finding), moto_aws)
    groups = {one["name"]: (one["through"], one["partly"]) for one in fact.value["dependents"] if one["group"]}
    assert groups == {"whole": ("launch template web version 1", False), "partly": ("launch template arm version 1", True)}


async def test_a_node_group_of_eks_is_told_by_its_name(moto_aws: Borrowed, make_finding: Make) -> None:
    """EKS tags the group that it makes with cluster and node group; nobody on call knows that group by its own name."""
    nodes = template(client("ec2"), "eks-1", {"Name": "web"})
    tags = {"eks:cluster-name": "prod", "eks:nodegroup-name": "workers"}
    group(client("autoscaling"), "eks-workers-1", tags, LaunchTemplate={"LaunchTemplateId": nodes, "Version": "1"})
    one, _ = (await learnt(about_web(make_finding), moto_aws)).value["dependents"]
    assert (one["kind"], one["name"], one["group"]) == ("eks-node-group", "prod/workers", "eks-workers-1")


async def test_pages_are_read_to_the_end_and_a_storm_asks_once(moto_aws: Borrowed, make_finding: Make) -> None:
    """More groups than a page holds are all found; a second profile of the account is answered by what was told for the first."""
    web = template(client("ec2"), "web", {"Name": "web"})
    for number in range(130):
        group(client("autoscaling"), f"fleet-{number}", LaunchTemplate={"LaunchTemplateId": web})
    lookups = looking(moto_aws)
    fact = await learnt(about_web(make_finding), moto_aws, lookups=lookups)
    assert fact.value["by_kind"] == {"auto-scaling-group": 130, "launch-template": 1}
    assert (fact.value["total"], len(fact.value["dependents"])) == (131, 100)
    asked = list(moto_aws.asked)
    second = await learnt(make_finding(subject=Subject("instance-profile", "other"), recipientAccountId=MOTO), moto_aws, lookups=lookups)
    assert (second.value["total"], second.source) == (0, FactSource.CACHE)
    assert moto_aws.asked == asked


# Against stubs, which hold every parameter and answer to the service's own model.


class Stubs:
    """Stubbed clients of one region; what is not given answers nothing at all."""

    EMPTY: Mapping[str, Mapping[str, Any]] = {
        "describe_auto_scaling_groups": {"AutoScalingGroups": []},
        "describe_launch_configurations": {"LaunchConfigurations": []},
        "describe_launch_template_versions": {"LaunchTemplateVersions": []},
        "describe_compute_environments": {"computeEnvironments": []},
    }

    def __init__(self, **answers: Any) -> None:
        self.stubbers: dict[str, Stubber] = {}
        for service, operations in {
            "autoscaling": ("describe_auto_scaling_groups", "describe_launch_configurations"),
            "ec2": ("describe_launch_template_versions",),
            "batch": ("describe_compute_environments",),
            "elasticbeanstalk": (),
        }.items():
            made = boto3.client(service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")  # type: ignore[call-overload]
            self.stubbers[service] = Stubber(made)
            for operation in operations:
                self.then(service, operation, answers.get(operation, self.EMPTY[operation]))
            self.stubbers[service].activate()

    def then(self, service: str, operation: str, answer: Any, params: Any = None) -> None:
        if isinstance(answer, str):
            self.stubbers[service].add_client_error(operation, answer, "no")
        else:
            self.stubbers[service].add_response(operation, answer, params)

    @property
    def accounts(self) -> Borrowed:
        return Borrowed(lambda service, _: self.stubbers[service].client)

    def done(self) -> None:
        """Every answer given was asked for."""
        for one in self.stubbers.values():
            one.assert_no_pending_responses()


def a_group(name: str, **more: Any) -> dict[str, Any]:
    needed = {"MinSize": 0, "MaxSize": 1, "DesiredCapacity": 1, "DefaultCooldown": 300, "AvailabilityZones": [], "HealthCheckType": "EC2"}
    return {"AutoScalingGroupName": name, "CreatedTime": datetime(2026, 1, 1, tzinfo=UTC), **needed, **more}


def a_version(number: int, profile: str | None, **more: Any) -> dict[str, Any]:
    data = {} if profile is None else {"IamInstanceProfile": {"Name": profile}}
    return {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "web", "VersionNumber": number, "LaunchTemplateData": data, **more}


def option(name: str, value: str, namespace: str = "aws:autoscaling:launchconfiguration") -> dict[str, Any]:
    return {"OptionSettings": [{"Namespace": namespace, "OptionName": name, "Value": value}]}


def environment(name: str, status: str = "Ready") -> dict[str, Any]:
    return {"ApplicationName": "shop", "EnvironmentName": name, "Status": status}


OWNED = {"Tags": [{"Key": "elasticbeanstalk:environment-name", "Value": "blue"}]}


async def test_beanstalk_environments_are_asked_for_their_settings(make_finding: Make) -> None:
    """Those that no group told of; as deployed or as a draft would have it. One that is gone is not asked."""
    stubs = Stubs(
        describe_auto_scaling_groups={"AutoScalingGroups": [a_group("awseb-1", LaunchTemplate={"LaunchTemplateId": "lt-1"}, **OWNED)]},
        describe_launch_template_versions={"LaunchTemplateVersions": [a_version(1, "web", DefaultVersion=True)]},
    )
    names = ("blue", "green", "crimson")
    listed = [*map(environment, names), environment("gone", "Terminated")]
    stubs.then("elasticbeanstalk", "describe_environments", {"Environments": listed}, {"IncludeDeleted": False})
    for name, settings in (
        ("green", [option("IamInstanceProfile", "other"), option("IamInstanceProfile", arn(MEMBER))]),
        ("crimson", [option("IamInstanceProfile", "other"), option("ServiceRole", "web", "aws:elasticbeanstalk:environment")]),
    ):
        params = {"ApplicationName": "shop", "EnvironmentName": name}
        stubs.then("elasticbeanstalk", "describe_configuration_settings", {"ConfigurationSettings": settings}, params)
    fact = await learnt(about_web(make_finding, MEMBER), stubs.accounts)
    assert told(fact) == [
        ("beanstalk-environment", "blue", "us-east-1", "launch template web version 1"),
        ("beanstalk-environment", "green", "us-east-1", "its setting IamInstanceProfile"),
        ("launch-template", "web", "us-east-1", "its default and latest version 1"),
    ]
    assert fact.reason is None
    stubs.done()


async def test_beanstalk_tells_where_auto_scaling_does_not(make_finding: Make) -> None:
    """With the groups withheld its own API is asked; without a group that it owns it is not."""
    stubs = Stubs(describe_auto_scaling_groups="AccessDenied")
    stubs.then("elasticbeanstalk", "describe_environments", {"Environments": [environment("blue")]})
    stubs.then("elasticbeanstalk", "describe_configuration_settings", {"ConfigurationSettings": [option("IamInstanceProfile", "web")]})
    fact = await learnt(about_web(make_finding, MEMBER), stubs.accounts)
    assert told(fact) == [("beanstalk-environment", "blue", "us-east-1", "its setting IamInstanceProfile")]
    assert list(fact.value["unknown"]) == ["Auto Scaling groups in us-east-1"]
    stubs.done()
    unowned = Stubs(describe_auto_scaling_groups={"AutoScalingGroups": [a_group("mine")]})
    assert (await learnt(about_web(make_finding, MEMBER), unowned.accounts)).reason is None


async def test_what_is_asked_of_every_region(make_finding: Make) -> None:
    """All templates of a region at once, by their default and latest version; groups without their instances; the largest pages."""
    stubs = Stubs()
    for stubber in stubs.stubbers.values():
        stubber._queue.clear()  # type: ignore[attr-defined]
    stubs.then("autoscaling", "describe_auto_scaling_groups", {"AutoScalingGroups": []}, {"IncludeInstances": False, "MaxRecords": 100})
    stubs.then("autoscaling", "describe_launch_configurations", {"LaunchConfigurations": []}, {"MaxRecords": 100})
    versions = {"Versions": ["$Default", "$Latest"], "IncludeManagedResources": True, "MaxResults": 200}
    stubs.then("ec2", "describe_launch_template_versions", {"LaunchTemplateVersions": []}, versions)
    stubs.then("batch", "describe_compute_environments", {"computeEnvironments": []}, {"maxResults": 100})
    assert (await learnt(about_web(make_finding, MEMBER), stubs.accounts)).reason is None
    stubs.done()


@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("describe_auto_scaling_groups", "Auto Scaling groups"),
        ("describe_launch_configurations", "launch configurations"),
        ("describe_launch_template_versions", "launch templates"),
        ("describe_compute_environments", "Batch compute environments"),
    ],
)
async def test_one_part_withheld_leaves_the_others(make_finding: Make, operation: str, part: str) -> None:
    """The part is named with its reason; everything else that names the profile is told."""
    answers: dict[str, Any] = {
        "describe_auto_scaling_groups": {"AutoScalingGroups": [a_group("fleet", LaunchConfigurationName="lc")]},
        "describe_launch_configurations": {
            "LaunchConfigurations": [
                {
                    "LaunchConfigurationName": "lc",
                    "ImageId": "ami-1",
                    "InstanceType": "t2.micro",
                    "CreatedTime": datetime(2026, 1, 1, tzinfo=UTC),
                    "IamInstanceProfile": "web",
                }
            ]
        },
        "describe_launch_template_versions": {"LaunchTemplateVersions": [a_version(1, "web", DefaultVersion=True)]},
        "describe_compute_environments": {
            "computeEnvironments": [
                {
                    "computeEnvironmentName": "jobs",
                    "computeEnvironmentArn": "arn:aws:batch:us-east-1:111122223333:compute-environment/jobs",
                    "computeResources": {"type": "EC2", "maxvCpus": 4, "subnets": [], "instanceRole": "web"},
                }
            ]
        },
    }
    stubs = Stubs(**{**answers, operation: "AccessDenied"})
    stubs.then("elasticbeanstalk", "describe_environments", {"Environments": []})
    fact = await learnt(about_web(make_finding, MEMBER), stubs.accounts)
    lost = {
        "describe_auto_scaling_groups": {"auto-scaling-group"},
        "describe_launch_configurations": {"auto-scaling-group", "launch-configuration"},
        "describe_launch_template_versions": {"launch-template"},
        "describe_compute_environments": {"batch-compute-environment"},
    }
    every = {"auto-scaling-group", "launch-configuration", "launch-template", "batch-compute-environment"}
    assert set(fact.value["by_kind"]) == every - lost[operation]
    assert list(fact.value["unknown"]) == [f"{part} in us-east-1"]
    assert "AccessDenied" in str(fact.reason)


async def test_versions_are_asked_for_one_by_one_where_the_whole_list_is_withheld(make_finding: Make) -> None:
    """A group's own template tells, though the list of all does not; one that is not told either leaves its reason."""
    stubs = Stubs(
        describe_auto_scaling_groups={
            "AutoScalingGroups": [
                a_group("a", LaunchTemplate={"LaunchTemplateId": "lt-1", "Version": "3"}),
                a_group("b", LaunchTemplate={"LaunchTemplateName": "gone"}),
            ]
        },
        describe_launch_template_versions="UnauthorizedOperation",
    )
    one = {"LaunchTemplateVersions": [a_version(3, "web")]}
    stubs.then("ec2", "describe_launch_template_versions", one, {"LaunchTemplateId": "lt-1", "Versions": ["3"]})
    stubs.then("ec2", "describe_launch_template_versions", "InvalidLaunchTemplateName.NotFoundException")
    fact = await learnt(about_web(make_finding, MEMBER), stubs.accounts)
    assert told(fact) == [("auto-scaling-group", "a", "us-east-1", "launch template web version 3")]
    assert list(fact.value["unknown"]) == ["launch templates in us-east-1", "launch template versions in us-east-1"]


async def test_what_is_not_read_is_said(make_finding: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds on what is read and asked for one by one leave a reason, never a silent gap."""
    monkeypatch.setattr(dependents, "MOST_PINNED", 1)
    monkeypatch.setattr(dependents, "MOST_ENVIRONMENTS", 1)
    monkeypatch.setitem(
        dependents.WHOLE,
        dependents.BATCHES,
        (*dependents.WHOLE[dependents.BATCHES][:4], 1),
    )
    pinned = [a_group(name, LaunchTemplate={"LaunchTemplateId": name, "Version": "7"}) for name in ("lt-1", "lt-2", "lt-3")]
    jobs = [{"computeEnvironmentName": name, "computeEnvironmentArn": name} for name in ("a", "b")]
    stubs = Stubs(
        describe_auto_scaling_groups={"AutoScalingGroups": [*pinned, a_group("awseb", **OWNED)]},
        describe_compute_environments={"computeEnvironments": jobs},
    )
    stubs.then("ec2", "describe_launch_template_versions", {"LaunchTemplateVersions": [a_version(7, None)]})
    stubs.then("elasticbeanstalk", "describe_environments", {"Environments": [environment("blue"), environment("green")]})
    stubs.then("elasticbeanstalk", "describe_configuration_settings", {"ConfigurationSettings": []})
    fact = await learnt(about_web(make_finding, MEMBER), stubs.accounts)
    assert fact.value["unknown"] == {
        "Batch compute environments in us-east-1": "more than the 1 that are read",
        "launch template versions in us-east-1": "2 more than the 1 that are asked for one by one",
        "Beanstalk environments in us-east-1": "more than the 1 that are asked for one by one",
    }


async def test_one_region_that_tells_nothing_leaves_the_others(make_finding: Make) -> None:
    """It is named among the regions unknown, with one reason for all of it."""
    stubs = Stubs(
        describe_auto_scaling_groups={"AutoScalingGroups": [a_group("fleet", LaunchTemplate={"LaunchTemplateId": "lt-1"})]},
        describe_launch_template_versions={"LaunchTemplateVersions": [a_version(1, "web", DefaultVersion=True)]},
    )

    class Closed(Borrowed):
        async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
            if region == "eu-west-1":
                raise OSError("no route")
            return await super().client(service, account, region)

    accounts = Closed(lambda service, _: stubs.stubbers[service].client)
    fact = await learnt(about_web(make_finding, MEMBER), accounts, regions=("eu-west-1", "us-east-1"))
    assert fact.value["total"] == 2
    assert (fact.value["regions"], fact.value["regions_unknown"]) == (["us-east-1"], ["eu-west-1"])
    assert list(fact.value["unknown"]) == ["eu-west-1"]
    assert "no route" in str(fact.reason)


async def test_nothing_told_anywhere_is_unknown(make_finding: Make) -> None:
    """In words that stay few, however many regions there are."""

    class Closed:
        async def client(self, *_: Any) -> Any:
            raise OSError("no route")

    regions = tuple(f"eu-west-{number}" for number in range(1, 10))
    fact = await learnt(about_web(make_finding, MEMBER), Closed(), regions=regions)
    assert (fact.status, fact.value) == (FactStatus.UNKNOWN, None)
    assert fact.reason is not None
    assert fact.reason.count("no route") == 5
    assert fact.reason.endswith("and 4 parts more")


async def test_past_the_deadline_it_tells_what_it_has(make_finding: Make) -> None:
    """Batch hangs; the group that Auto Scaling told stands, and Batch's part says why it is missing."""
    stubs = Stubs(
        describe_auto_scaling_groups={"AutoScalingGroups": [a_group("fleet", LaunchTemplate={"LaunchTemplateId": "lt-1"})]},
        describe_launch_template_versions={"LaunchTemplateVersions": [a_version(1, "web", DefaultVersion=True)]},
    )

    class Slow(Borrowed):
        async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
            if service == "batch":
                await asyncio.Event().wait()
            return await super().client(service, account, region)

    accounts = Slow(lambda service, _: stubs.stubbers[service].client)
    fact = await learnt(about_web(make_finding, MEMBER), accounts, seconds=0.3)
    assert fact.value["by_kind"] == {"auto-scaling-group": 1, "launch-template": 1}
    assert "deadline" in fact.value["unknown"]["Batch compute environments in us-east-1"]


# Reading alone.


@pytest.mark.parametrize(
    ("named", "same"),
    [
        ("web", True),
        (arn(MEMBER), True),
        (arn(MEMBER, "a/b/web"), True),
        (arn(MEMBER).replace("arn:aws:", "arn:aws-cn:"), True),
        ("web2", False),
        ("WEB", False),
        (arn(OWN), False),
        (arn(MEMBER, "web/other"), False),
        (arn(MEMBER).replace("instance-profile", "role"), False),
        (arn(MEMBER).replace(":iam:", ":ec2:"), False),
        ("arn:", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_what_names_a_profile(named: Any, same: bool) -> None:
    """A bare name is of the account it stands in; an ARN by its account and name, whatever its partition and path."""
    assert is_profile(named, MEMBER, "web") is same


def test_a_group_that_is_being_deleted_launches_nothing_more() -> None:
    """AWS gives a group a status only while it is deleted."""
    assert group_of(a_group("fleet", Status="Delete in progress")) is None
    assert group_of(a_group("fleet")) is not None


def test_specs_of_a_group_are_told_once() -> None:
    """Overrides that share a template count once, and an override without one uses the policy's."""
    spec = {"LaunchTemplateSpecification": {"LaunchTemplateName": "web"}}
    told = group_of(a_group("fleet", MixedInstancesPolicy={"LaunchTemplate": {**spec, "Overrides": [{}, spec, {}]}}))
    assert told is not None
    assert Counter(told.specs) == {("web", "$Default"): 1}


def test_settings_without_the_option_name_nothing() -> None:
    """An option of that name in another namespace is another option."""
    assert profiles_of_settings({"ConfigurationSettings": [option("IamInstanceProfile", "web", "mine"), {}]}) == {"profiles": []}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (
            {"LaunchTemplateVersions": [{**a_version(3, "web"), "LaunchTemplateData": {"UserData": "hunter2", "ImageId": "ami-1"}}]},
            {"LaunchTemplateData": {"IamInstanceProfile": None}},
        ),
        ({"LaunchConfigurations": [{"LaunchConfigurationName": "web", "UserData": "hunter2"}]}, {"LaunchConfigurationName": "web"}),
    ],
)
def test_user_data_is_dropped_as_an_answer_is_read(answer: dict[str, Any], kept: dict[str, Any]) -> None:
    """It is most of such an answer, which is kept for a quarter of an hour, and often holds secrets."""
    (entries,) = without_user_data(answer).values()
    assert kept.items() <= entries[0].items()
    assert "hunter2" not in str(entries)
