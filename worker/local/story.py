"""The story the demo tells: who is in it, what they did when, and what a worker that understood it must have found.

In go a seed, the moment it is told and the cast (the ids that AWS gave to the people and things in it); out come the objects that
CloudTrail would have put into S3, in two parts, and the ids of the events that matter. Pure: the same input gives the same bytes.

Three weeks ago a fleet's instance profile is set up in one account, and a batch system's in another. Today somebody signs in without MFA
as a CI user that nobody remembered and that may do everything, makes an access key, is refused at one profile, and takes the fleet's role and profile away. In the
other account a Terraform apply replaces the batch profile under a change number. To add a scene, write its records and name it in `told`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from worker.local.background import BROWSER, TERRAFORM, Host, Household, hum
from worker.local.delivery import Delivery, StoredObject, deliver, digest, folder_marker
from worker.local.records import Caller, Record, api_call, assumed_role, console_sign_in, create_date, iam_user, unique_id

WEB_ACCOUNT = "111122223333"
BATCH_ACCOUNT = "444455556666"

USER = "ci-legacy"
USER_POLICY = "AdministratorAccess"
"""What nobody took the trouble to narrow down, as in life."""
FLEET = "web-fleet"
"""The name of the fleet's role and of its instance profile, as the EC2 console would name them, and of its launch template and Auto Scaling group."""
FLEET_PATH = "/fleet/"
FLEET_TAGS = {"Environment": "production", "Owner": "team-web", "CostCenter": "4711"}
OUT_OF_REACH = "payments-api"

DEPLOYER = "terraform-deploy"
BATCH = "batch-nodes"
BATCH_TAGS = {"Environment": "production", "Owner": "team-data", "Change": "CHG0048213"}
CHANGE = "CHG0048213"
CHANGE_PATTERN = "CHG[0-9]{7}"

ATTACKER_ADDRESS = "198.51.100.23"
ATTACKER_AGENT = "aws-cli/2.22.12 md/awscrt#0.22.0 ua/2.0 os/linux#6.11.2-amd64 md/arch#x86_64 lang/python#3.12.6 md/pyimpl#CPython"

PAST_RECORDS = 40
PRESENT_RECORDS = 150


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of the fleet."""

    id: str
    region: str
    name: str


@dataclass(frozen=True, slots=True)
class Cast:
    """The ids that AWS gave to the people and things in the story."""

    user_id: str
    new_key_id: str
    fleet_role_id: str
    fleet_profile_id: str
    fleet: tuple[Instance, ...]
    deployer_role_id: str
    batch_role_id: str
    batch_profile_id: str
    new_batch_profile_id: str


@dataclass(frozen=True, slots=True)
class Scene:
    """An event of the story that must become a finding. `title` says it in words for people."""

    event_id: str
    title: str


@dataclass(frozen=True, slots=True)
class Told:
    """What must have been understood: every scene of the attack, its last deed, and the honest deed that looks like it."""

    attack: tuple[Scene, ...]
    deed: Scene
    honest_deed: Scene


@dataclass(frozen=True, slots=True)
class Story:
    """What happened before, what happens today (told after the past has been read), and what is to be understood from it."""

    past: Delivery
    present: Delivery
    cast: Cast
    told: Told


def tell(seed: int, now: datetime, cast: Cast) -> Story:
    """The story as of `now` (UTC), with this cast."""
    dice = Random(seed)  # noqa: S311  # a story is to be repeatable, not secret
    now = now.replace(microsecond=0)
    web, batch = _households(dice, cast)
    long_ago, today = now - timedelta(days=21), now - timedelta(minutes=95)

    past = _fleet_is_set_up(dice, long_ago, cast) + _batch_is_set_up(dice, long_ago + timedelta(minutes=20), cast)
    for household in (web, batch):
        past += hum(dice, household, long_ago, long_ago + timedelta(minutes=50), PAST_RECORDS // 2)

    attack = _attack(dice, now - timedelta(minutes=34), cast)
    replacement = _replacement(dice, now - timedelta(minutes=48), cast)
    noise = [record for household in (web, batch) for record in hum(dice, household, today, now - timedelta(minutes=10), PRESENT_RECORDS)]

    scenes = tuple(Scene(record["eventID"], title) for record, title in attack)
    honest = next(record for record in replacement if record["eventName"] == "DeleteInstanceProfile")
    return Story(
        past=deliver(dice, past),
        present=_with_what_is_no_log(dice, now, deliver(dice, [record for record, _ in attack] + replacement + noise)),
        cast=cast,
        told=Told(scenes, scenes[-1], Scene(honest["eventID"], f"{DEPLOYER} replaces {BATCH}")),
    )


def _households(dice: Random, cast: Cast) -> tuple[Household, Household]:
    hosts = tuple(Host(instance.id, instance.region, FLEET, cast.fleet_role_id) for instance in cast.fleet)
    workers = tuple(Host(f"i-0{dice.getrandbits(64):016x}", "us-east-1", BATCH, cast.batch_role_id) for _ in range(2))
    return (
        Household(WEB_ACCOUNT, hosts, ("acme-web-assets", "acme-web-logs"), (FLEET, OUT_OF_REACH)),
        Household(BATCH_ACCOUNT, workers, ("acme-lake-raw", "acme-lake-curated", "acme-batch-scratch"), (BATCH, DEPLOYER)),
    )


def _with_what_is_no_log(dice: Random, now: datetime, delivery: Delivery) -> Delivery:
    """A trail's bucket holds things that are no log. They lie among the rest, as they would."""
    hour = now.replace(minute=0, second=0)
    others: tuple[StoredObject, ...] = (digest(dice, WEB_ACCOUNT, "us-east-1", hour), folder_marker(BATCH_ACCOUNT))
    middle = len(delivery.objects) // 2
    return replace(delivery, objects=delivery.objects[:middle] + others + delivery.objects[middle:])


def _tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _profile_created(dice: Random, caller: Caller, at: datetime, name: str, path: str, profile_id: str) -> Record:
    profile = {
        "instanceProfileName": name,
        "instanceProfileId": profile_id,
        "arn": f"arn:aws:iam::{caller.account}:instance-profile{path}{name}",
        "path": path,
        "roles": [],
        "tags": [],
        "createDate": create_date(at),
    }
    return api_call(
        dice, caller, at, "iam", "CreateInstanceProfile", {"instanceProfileName": name, "path": path}, {"instanceProfile": profile}
    )


def _role_call(dice: Random, caller: Caller, at: datetime, name: str, profile: str) -> Record:
    return api_call(dice, caller, at, "iam", name, {"instanceProfileName": profile, "roleName": profile})


def _tagged(dice: Random, caller: Caller, at: datetime, profile: str, tags: dict[str, str]) -> Record:
    return api_call(dice, caller, at, "iam", "TagInstanceProfile", {"instanceProfileName": profile, "tags": _tag_list(tags)})


def _terraform(dice: Random, account: str, role: str, role_id: str, session: str, at: datetime) -> Caller:
    key_id = unique_id(dice, "ASIA")
    since = at - timedelta(minutes=2)
    return assumed_role(account, role, role_id, session, key_id, address="192.0.2.40", agent=TERRAFORM, since=since)


def _fleet_is_set_up(dice: Random, at: datetime, cast: Cast) -> list[Record]:
    caller = _terraform(dice, WEB_ACCOUNT, "platform-deploy", unique_id(dice, "AROA"), "CHG0046650-apply", at)
    records = [
        _profile_created(dice, caller, at, FLEET, FLEET_PATH, cast.fleet_profile_id),
        _role_call(dice, caller, at + timedelta(seconds=1), "AddRoleToInstanceProfile", FLEET),
        _tagged(dice, caller, at + timedelta(seconds=2), FLEET, FLEET_TAGS),
    ]
    return records + [_instance_started(dice, caller, at + timedelta(seconds=20 + n), i, cast) for n, i in enumerate(cast.fleet)]


def _instance_started(dice: Random, caller: Caller, at: datetime, instance: Instance, cast: Cast) -> Record:
    arn = f"arn:aws:iam::{WEB_ACCOUNT}:instance-profile{FLEET_PATH}{FLEET}"
    tags: dict[str, Any] = {"items": [{"resourceType": "instance", "tags": _tag_list({"Name": instance.name})}]}
    image = {"imageId": "ami-0c55b159cbfafe1f0"}
    parameters = {
        "instancesSet": {"items": [{**image, "minCount": 1, "maxCount": 1}]},
        "instanceType": "t3.small",
        "iamInstanceProfile": {"name": FLEET},
        "tagSpecificationSet": tags,
    }
    started = {
        "instanceId": instance.id,
        **image,
        "instanceState": {"code": 0, "name": "pending"},
        "instanceType": "t3.small",
        "iamInstanceProfile": {"arn": arn, "id": cast.fleet_profile_id},
    }
    response = {"requestId": unique_id(dice, ""), "instancesSet": {"items": [started]}}
    return api_call(dice, caller, at, "ec2", "RunInstances", parameters, response, region=instance.region)


def _batch_is_set_up(dice: Random, at: datetime, cast: Cast) -> list[Record]:
    caller = _terraform(dice, BATCH_ACCOUNT, DEPLOYER, cast.deployer_role_id, "CHG0046671-apply", at)
    return [
        _profile_created(dice, caller, at, BATCH, "/", cast.batch_profile_id),
        _role_call(dice, caller, at + timedelta(seconds=1), "AddRoleToInstanceProfile", BATCH),
        _tagged(dice, caller, at + timedelta(seconds=2), BATCH, BATCH_TAGS | {"Change": "CHG0046671"}),
    ]


def _attack(dice: Random, at: datetime, cast: Cast) -> list[tuple[Record, str]]:
    signed_in = iam_user(
        WEB_ACCOUNT, USER, cast.user_id, unique_id(dice, "ASIA"), address=ATTACKER_ADDRESS, agent=BROWSER, console_since=at
    )
    with_key = iam_user(WEB_ACCOUNT, USER, cast.user_id, cast.new_key_id, address=ATTACKER_ADDRESS, agent=ATTACKER_AGENT)
    key_made = at + timedelta(minutes=3, seconds=12)
    new_key = {"userName": USER, "accessKeyId": cast.new_key_id, "status": "Active", "createDate": create_date(key_made)}
    blow = at + timedelta(minutes=8, seconds=41)

    def delete(at: datetime, profile: str, error: tuple[str, str] | None = None) -> Record:
        # A denied call's parameters are withheld from the trail.
        denied = error is not None and error[0] == "AccessDenied"
        return api_call(
            dice, with_key, at, "iam", "DeleteInstanceProfile", None if denied else {"instanceProfileName": profile}, error=error
        )

    not_allowed = (
        f"User: {with_key.identity['arn']} is not authorized to perform: iam:DeleteInstanceProfile on resource: "
        f"instance profile {OUT_OF_REACH} with an explicit deny in a service control policy"
    )
    still_in_use = "Cannot delete entity, must remove roles from instance profile first."
    return [
        (console_sign_in(dice, signed_in, at, BROWSER), f"{USER} signs in without MFA"),
        (
            api_call(dice, signed_in, key_made, "iam", "CreateAccessKey", {"userName": USER}, {"accessKey": new_key}),
            f"{USER} makes an access key",
        ),
        (
            delete(blow - timedelta(seconds=95), OUT_OF_REACH, ("AccessDenied", not_allowed)),
            f"{USER} is refused at {OUT_OF_REACH}",
        ),
        (
            delete(blow - timedelta(seconds=20), FLEET, ("DeleteConflict", still_in_use)),
            f"{USER} fails to delete {FLEET}, which still holds its role",
        ),
        (
            _role_call(dice, with_key, blow - timedelta(seconds=1), "RemoveRoleFromInstanceProfile", FLEET),
            f"{USER} takes the role out of {FLEET}",
        ),
        (delete(blow, FLEET), f"{USER} deletes {FLEET}"),
    ]


def _replacement(dice: Random, at: datetime, cast: Cast) -> list[Record]:
    caller = _terraform(dice, BATCH_ACCOUNT, DEPLOYER, cast.deployer_role_id, f"{CHANGE}-apply", at)
    return [
        _role_call(dice, caller, at, "RemoveRoleFromInstanceProfile", BATCH),
        api_call(dice, caller, at + timedelta(seconds=1), "iam", "DeleteInstanceProfile", {"instanceProfileName": BATCH}),
        _profile_created(dice, caller, at + timedelta(seconds=3), BATCH, "/", cast.new_batch_profile_id),
        _role_call(dice, caller, at + timedelta(seconds=4), "AddRoleToInstanceProfile", BATCH),
        _tagged(dice, caller, at + timedelta(seconds=5), BATCH, BATCH_TAGS),
    ]
