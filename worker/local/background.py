"""The hum of two accounts: the reads that fill a trail while nothing happens.

In go seeded dice, a span of time and who is at home; out come records of agents on instances, AWS services, infrastructure plans, a cost
report and people looking around. None of them changes anything, so no rule has a reason to speak; a few are denied, as always.
A newcomer adds a habit as a function that yields records, and names it in `hum` with its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from worker.local.records import Caller, Record, api_call, assumed_role, aws_service, iam_user, unique_id

AGENT = "aws-sdk-go/1.55.5 (go1.22.12; linux; amd64) amazon-ssm-agent/"
BOTO = "Boto3/1.35.36 md/Botocore#1.35.36 ua/2.0 os/linux#6.1.109 md/arch#x86_64 lang/python#3.11.9 md/pyimpl#CPython cfg/retry-mode#legacy"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
TERRAFORM = (
    "APN/1.0 HashiCorp/1.0 Terraform/1.9.8 (+https://www.terraform.io) terraform-provider-aws/5.76.0 "
    "(+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go-v2/1.32.4 ua/2.1 os/linux lang/go#1.23.2 md/GOARCH#amd64"
)


@dataclass(frozen=True, slots=True)
class Host:
    """An instance with an agent on it."""

    instance_id: str
    region: str
    role: str
    role_id: str


@dataclass(frozen=True, slots=True)
class Household:
    """An account with what makes noise in it."""

    account: str
    hosts: tuple[Host, ...]
    buckets: tuple[str, ...]
    roles: tuple[str, ...]


Habit = Callable[[Random, Household, datetime], Iterator[Record]]


def hum(dice: Random, household: Household, begin: datetime, end: datetime, count: int) -> list[Record]:
    """At least `count` records between two moments."""
    habits: Sequence[tuple[Habit, int]] = (
        (_agent_reports, 6 if household.hosts else 0),
        (_instance_reads_its_settings, 4 if household.hosts else 0),
        (_service_assumes_role, 3),
        (_config_looks_at_bucket, 4),
        (_plan_refreshes, 3),
        (_person_looks_around, 2),
        (_cost_report, 1),
    )
    records: list[Record] = []
    while len(records) < count:
        (habit,) = dice.choices([habit for habit, _ in habits], [weight for _, weight in habits])
        records += habit(dice, household, begin + (end - begin) * dice.random())
    return records


def _on_instance(dice: Random, household: Household, at: datetime) -> tuple[Host, Caller]:
    host = dice.choice(household.hosts)
    number = Random(host.instance_id).randrange(4, 250)  # noqa: S311  # an address that stays with its instance
    caller = assumed_role(
        household.account,
        host.role,
        host.role_id,
        host.instance_id,
        unique_id(dice, "ASIA"),
        address=f"203.0.113.{number}",
        agent=AGENT,
        since=at - timedelta(minutes=dice.randrange(5, 300)),
        on_instance=True,
    )
    return host, caller


def _agent_reports(dice: Random, household: Household, at: datetime) -> Iterator[Record]:
    host, caller = _on_instance(dice, household, at)
    report = {
        "instanceId": host.instance_id,
        "agentVersion": "3.3.987.0",
        "agentStatus": "Active",
        "platformType": "Linux",
        "platformName": "Amazon Linux",
        "platformVersion": "2023",
        "iPAddress": f"10.0.{dice.randrange(1, 4)}.{dice.randrange(4, 250)}",
        "agentName": "amazon-ssm-agent",
    }
    yield api_call(dice, caller, at, "ssm", "UpdateInstanceInformation", report, region=host.region)
    yield api_call(
        dice,
        caller,
        at + timedelta(seconds=1),
        "ssm",
        "ListInstanceAssociations",
        {"instanceId": host.instance_id, "maxResults": 20},
        region=host.region,
        read_only=True,
    )


def _instance_reads_its_settings(dice: Random, household: Household, at: datetime) -> Iterator[Record]:
    host, caller = _on_instance(dice, household, at)
    names = [f"/{host.role}/{name}" for name in dice.sample(("database/url", "session/secret", "feature/flags", "cache/url"), k=2)]
    for second, name in enumerate(names):
        call = {"name": name, "withDecryption": True}
        yield api_call(dice, caller, at + timedelta(seconds=second), "ssm", "GetParameter", call, region=host.region, read_only=True)
    context = {"encryptionContext": {"PARAMETER_ARN": f"arn:aws:ssm:{host.region}:{household.account}:parameter{names[0]}"}}
    yield api_call(
        dice, caller, at, "kms", "Decrypt", {**context, "encryptionAlgorithm": "SYMMETRIC_DEFAULT"}, region=host.region, read_only=True
    )


def _service_assumes_role(dice: Random, household: Household, at: datetime) -> Iterator[Record]:
    service, role = dice.choice((("autoscaling", "AutoScaling"), ("config", "Config"), ("guardduty", "AmazonGuardDuty")))
    name = f"AWSServiceRoleFor{role}"
    arn = f"arn:aws:iam::{household.account}:role/aws-service-role/{service}.amazonaws.com/{name}"
    role_id = unique_id(Random(arn), "AROA")  # noqa: S311  # one id a role
    key_id = unique_id(dice, "ASIA")
    yield api_call(
        dice,
        aws_service(household.account, f"{service}.amazonaws.com"),
        at,
        "sts",
        "AssumeRole",
        {"roleArn": arn, "roleSessionName": role, "durationSeconds": 1800},
        {
            "credentials": {"accessKeyId": key_id, "expiration": f"{at + timedelta(minutes=30):%b %d, %Y %I:%M:%S %p}"},
            "assumedRoleUser": {
                "assumedRoleId": f"{role_id}:{role}",
                "arn": f"arn:aws:sts::{household.account}:assumed-role/{name}/{role}",
            },
        },
        read_only=True,
    )


def _config_looks_at_bucket(dice: Random, household: Household, at: datetime) -> Iterator[Record]:
    role = "aws-service-role/config.amazonaws.com/AWSServiceRoleForConfig"
    caller = assumed_role(
        household.account,
        role,
        unique_id(Random(household.account + role), "AROA"),  # noqa: S311  # one id a role
        "AWSConfig-Describe",
        unique_id(dice, "ASIA"),
        address="config.amazonaws.com",
        agent="config.amazonaws.com",
        since=at - timedelta(seconds=1),
    )
    bucket = dice.choice(household.buckets)
    asked = (
        ("GetBucketAcl", "acl"),
        ("GetBucketPolicy", "policy"),
        ("GetBucketEncryption", "encryption"),
        ("GetBucketVersioning", "versioning"),
    )
    for name, parameter in dice.sample(asked, k=dice.randrange(1, 4)):
        call = {"bucketName": bucket, "Host": f"{bucket}.s3.us-east-1.amazonaws.com", parameter: ""}
        yield api_call(dice, caller, at, "s3", name, call, read_only=True)


def _plan_refreshes(dice: Random, household: Household, at: datetime) -> Iterator[Record]:
    caller = assumed_role(
        household.account,
        "terraform-plan",
        unique_id(Random(household.account + "plan"), "AROA"),  # noqa: S311  # one id a role
        f"plan-{dice.randrange(1000, 9999)}",
        unique_id(dice, "ASIA"),
        address="192.0.2.40",
        agent=TERRAFORM,
        since=at - timedelta(seconds=9),
    )
    role = dice.choice(household.roles)
    for service, name, parameters in (
        ("sts", "GetCallerIdentity", None),
        ("iam", "GetRole", {"roleName": role}),
        ("iam", "ListRolePolicies", {"roleName": role}),
        ("iam", "GetInstanceProfile", {"instanceProfileName": role}),
        ("ec2", "DescribeVpcs", {"vpcSet": {}, "filterSet": {}}),
        ("ec2", "DescribeRouteTables", {"routeTableIdSet": {}, "filterSet": {}}),
    ):
        if dice.random() < 0.7:
            yield api_call(dice, caller, at + timedelta(seconds=dice.randrange(4)), service, name, parameters, read_only=True)


def _person_looks_around(dice: Random, household: Household, at: datetime) -> Iterator[Record]:
    person = dice.choice(("amara.osei", "jonas.lindqvist", "mei.tanaka"))
    caller = assumed_role(
        household.account,
        "aws-reserved/sso.amazonaws.com/AWSReservedSSO_ReadOnly_6b1f0c2d9e3a4b57",
        unique_id(Random(household.account + "sso"), "AROA"),  # noqa: S311  # one id a role
        f"{person}@example.com",
        unique_id(dice, "ASIA"),
        address=f"192.0.2.{dice.randrange(100, 120)}",
        agent=BROWSER,
        since=at - timedelta(minutes=dice.randrange(1, 50)),
    )
    region = dice.choice(("us-east-1", "us-east-1", "eu-west-1"))
    running = {"items": [{"name": "instance-state-name", "valueSet": {"items": [{"value": "running"}]}}]}
    yield api_call(
        dice,
        caller,
        at,
        "ec2",
        "DescribeInstances",
        {"maxResults": 100, "instancesSet": {}, "filterSet": running},
        region=region,
        read_only=True,
    )
    if dice.random() < 0.3:
        told = (
            f"User: {caller.identity['arn']} is not authorized to perform: s3:ListAllMyBuckets because no identity-based policy allows it"
        )
        yield api_call(dice, caller, at, "s3", "ListBuckets", None, error=("AccessDenied", told), read_only=True)


def _cost_report(dice: Random, household: Household, at: datetime) -> Iterator[Record]:
    steady = Random(household.account + "cost")  # noqa: S311  # the same user and key every time
    user_id, key_id = unique_id(steady, "AIDA"), unique_id(steady, "AKIA")
    caller = iam_user(household.account, "cost-report", user_id, key_id, address="192.0.2.61", agent=BOTO)
    yield api_call(dice, caller, at, "sts", "GetCallerIdentity", None, read_only=True)
    yield api_call(dice, caller, at, "s3", "ListBuckets", {"Host": "s3.amazonaws.com"}, read_only=True)
    yield api_call(dice, caller, at, "iam", "ListUsers", None, read_only=True)
