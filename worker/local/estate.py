"""The people and things behind the story, in the embedded AWS: made for real, then attacked and replaced for real.

In goes a `Cloud`; out comes the `Cast`, with the ids that this AWS gave. `settle` makes the estate as it stood before today, `strike` does
what the attacker and the honest deployer do to it. Whatever AWS answers with an error is raised: a demo on half an estate would lie.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from worker.local.cloud import Cloud
from worker.local.story import (
    BATCH,
    BATCH_ACCOUNT,
    BATCH_TAGS,
    DEPLOYER,
    FLEET,
    FLEET_PATH,
    FLEET_TAGS,
    OUT_OF_REACH,
    USER,
    USER_POLICY,
    WEB_ACCOUNT,
    Cast,
    Instance,
)

ADMINISTRATORS = "platform-administrators"
REGIONS = ("us-east-1", "eu-west-1")
FLEET_INSTANCES = (("us-east-1", "web-1"), ("us-east-1", "web-2"), ("eu-west-1", "web-3"))


async def settle(cloud: Cloud) -> Cast:
    """Make both accounts as they stood before today. The new key and profile of the cast are still to come."""
    web, batch = await asyncio.gather(_settle_web(cloud), _settle_batch(cloud))
    return Cast(**web, **batch, new_key_id="", new_batch_profile_id="")


async def strike(cloud: Cloud, cast: Cast) -> Cast:
    """Do to the estate what the story says was done today; answers the cast with the new ids."""
    key_id, profile_id = await asyncio.gather(_attack(cloud), _replace_batch_profile(cloud))
    return replace(cast, new_key_id=key_id, new_batch_profile_id=profile_id)


def _trust(principal: dict[str, str]) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


async def make_role(iam: Any, name: str, principal: dict[str, str]) -> str:
    """Make a role that a principal may assume; answers its id."""
    answer = await iam.create_role(RoleName=name, AssumeRolePolicyDocument=_trust(principal))
    return str(answer["Role"]["RoleId"])


async def _make_profile(iam: Any, name: str, path: str, tags: dict[str, str]) -> str:
    """A profile with the role of its own name."""
    answer = await iam.create_instance_profile(InstanceProfileName=name, Path=path, Tags=_tag_list(tags))
    await iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return str(answer["InstanceProfile"]["InstanceProfileId"])


async def _settle_web(cloud: Cloud) -> dict[str, Any]:
    async with cloud.client("iam", WEB_ACCOUNT) as iam:
        user = (await iam.create_user(UserName=USER, Tags=_tag_list({"Owner": "nobody since 2023"})))["User"]
        await iam.create_login_profile(UserName=USER, Password="Spring2023!", PasswordResetRequired=False)  # noqa: S106  # as bad as in life
        await iam.create_access_key(UserName=USER)
        await iam.attach_user_policy(UserName=USER, PolicyArn=f"arn:aws:iam::aws:policy/{USER_POLICY}")
        role_id = await make_role(iam, FLEET, {"Service": "ec2.amazonaws.com"})
        profile_id = await _make_profile(iam, FLEET, FLEET_PATH, FLEET_TAGS)
        # Somebody has to be left who can let others in again, or nobody may be held.
        await make_role(iam, ADMINISTRATORS, {"Federated": f"arn:aws:iam::{WEB_ACCOUNT}:saml-provider/sign-on"})
        await iam.attach_role_policy(RoleName=ADMINISTRATORS, PolicyArn=f"arn:aws:iam::aws:policy/{USER_POLICY}")
        await make_role(iam, OUT_OF_REACH, {"Service": "ec2.amazonaws.com"})
        await _make_profile(iam, OUT_OF_REACH, "/", {"Environment": "production", "Owner": "team-payments"})
    fleet = [await _start_instance(cloud, region, name) for region, name in FLEET_INSTANCES]
    await _scale_fleet(cloud)
    return {
        "user_id": user["UserId"],
        "fleet_role_id": role_id,
        "fleet_profile_id": profile_id,
        "fleet": tuple(fleet),
    }


async def _start_instance(cloud: Cloud, region: str, name: str) -> Instance:
    async with cloud.client("ec2", WEB_ACCOUNT, region) as ec2:
        answer = await ec2.run_instances(
            ImageId="ami-0c55b159cbfafe1f0",
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            IamInstanceProfile={"Name": FLEET},
            TagSpecifications=[{"ResourceType": "instance", "Tags": _tag_list({"Name": name, "Environment": "production"})}],
        )
    return Instance(answer["Instances"][0]["InstanceId"], region, name)


async def _scale_fleet(cloud: Cloud) -> None:
    """An Auto Scaling group that would start more of the fleet, from a template that names its profile."""
    async with cloud.client("ec2", WEB_ACCOUNT) as ec2:
        data = {"ImageId": "ami-0c55b159cbfafe1f0", "InstanceType": "t3.small", "IamInstanceProfile": {"Name": FLEET}}
        template = (await ec2.create_launch_template(LaunchTemplateName=FLEET, LaunchTemplateData=data))["LaunchTemplate"]
    async with cloud.client("autoscaling", WEB_ACCOUNT) as autoscaling:
        await autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=FLEET,
            LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"], "Version": "$Latest"},
            MinSize=2,
            MaxSize=6,
            AvailabilityZones=["us-east-1a"],
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in FLEET_TAGS.items()],
        )


async def _settle_batch(cloud: Cloud) -> dict[str, Any]:
    async with cloud.client("iam", BATCH_ACCOUNT) as iam:
        deployer_id = await make_role(iam, DEPLOYER, {"AWS": f"arn:aws:iam::{BATCH_ACCOUNT}:root"})
        role_id = await make_role(iam, BATCH, {"Service": "ec2.amazonaws.com"})
        profile_id = await _make_profile(iam, BATCH, "/", BATCH_TAGS)
    return {"deployer_role_id": deployer_id, "batch_role_id": role_id, "batch_profile_id": profile_id}


async def _attack(cloud: Cloud) -> str:
    async with cloud.client("iam", WEB_ACCOUNT) as iam:
        key = (await iam.create_access_key(UserName=USER))["AccessKey"]
        await iam.remove_role_from_instance_profile(InstanceProfileName=FLEET, RoleName=FLEET)
        await iam.delete_instance_profile(InstanceProfileName=FLEET)
    return str(key["AccessKeyId"])


async def _replace_batch_profile(cloud: Cloud) -> str:
    async with cloud.client("iam", BATCH_ACCOUNT) as iam:
        await iam.remove_role_from_instance_profile(InstanceProfileName=BATCH, RoleName=BATCH)
        await iam.delete_instance_profile(InstanceProfileName=BATCH)
        return await _make_profile(iam, BATCH, "/", BATCH_TAGS)
