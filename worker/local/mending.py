"""The second act of a demo: the very executor of `trailmend remediate` works the tasks of the story, one of them once somebody has said yes.

In go the embedded AWS, the children and an executor's variables; out comes what became of each task, as the journal tells it, and what AWS
shows afterwards. A key is taken away at once, a profile is restored when the person on call has approved it, and all else is only told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.local import stage
from worker.local.children import Child, Children
from worker.local.cloud import HOME_ACCOUNT, Cloud
from worker.local.estate import make_role
from worker.local.mended import Mended
from worker.local.outcome import DEACTIVATE, RESTORE
from worker.local.story import FLEET, USER, WEB_ACCOUNT, Cast
from worker.remediate.history import History, histories
from worker.state.sqlite import SqliteStore

MODES = f"{DEACTIVATE}=auto,{RESTORE}=approve"
"""The rest is shadowed, as everything is by default."""
ON_CALL, PERSON = "on-call", "alex"
WHY = "three instances have lost their credentials, and nobody announced it"


@dataclass(frozen=True, slots=True)
class Mending:
    """Where it is done. `variables` are an executor's, whose state is the file `state` and who answers at `address`."""

    cloud: Cloud
    children: Children
    variables: Mapping[str, str]
    state: Path
    address: str

    async def mend(self, task_queue_url: str, cast: Cast) -> Mended:
        """Work the tasks on the queue to their ends. Raises `StageError`."""
        executor = self.children.start("executor", "worker", "remediate", variables=self.variables)
        await stage.answers(executor, f"http://{self.address}/readyz")
        await stage.emptied(self.cloud, task_queue_url, executor)
        waiting = [one.id for one in await self._tasks() if one.outcome == "waiting"]
        answers = [await self._approve(one) for one in waiting]
        await stage.holds(lambda: self._are_over(waiting), executor, "what was approved to be done")
        statuses = {"the executor": executor.stop()}
        statuses |= {answer.name: answer.process.returncode for answer in answers}
        verified = await self._command("verify-journal", "tasks", "verify-journal", variables=self.variables)
        statuses[verified.name] = verified.process.returncode
        return Mended(
            tasks=await self._tasks(),
            profile=await self._profile(),
            fleet=await self._fleet(cast),
            key=await self._key(cast.new_key_id),
            policies=await self._policies(),
            journal=verified.tail(1),
            shown="\n".join(answer.log.read_text() for answer in answers),
            statuses=statuses,
        )

    async def _tasks(self) -> list[History]:
        store = await SqliteStore.open(str(self.state))
        try:
            return await histories(store.journal(), "")
        finally:
            await store.close()

    async def _are_over(self, ids: Sequence[str]) -> bool:
        return all(one.outcome not in ("waiting", "started") for one in await self._tasks() if one.id in ids)

    # The person on call.

    async def _approve(self, task_id: str) -> Child:
        return await self._command(
            f"approve-{task_id}", "tasks", "approve", task_id, "--why", WHY, "--yes", variables={**self.variables, **await self._person()}
        )

    async def _person(self) -> Mapping[str, str]:
        """The credentials of somebody who is not the executor."""
        async with self.cloud.client("iam") as iam, self.cloud.client("sts") as sts:
            await make_role(iam, ON_CALL, {"AWS": f"arn:aws:iam::{HOME_ACCOUNT}:root"})
            arn = f"arn:aws:iam::{HOME_ACCOUNT}:role/{ON_CALL}"
            told = (await sts.assume_role(RoleArn=arn, RoleSessionName=PERSON))["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": told["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": told["SecretAccessKey"],
            "AWS_SESSION_TOKEN": told["SessionToken"],
        }

    async def _command(self, name: str, *arguments: str, variables: Mapping[str, str]) -> Child:
        child = self.children.start(name, "worker", *arguments, variables=variables)
        await stage.ended(child)
        return child

    # What AWS shows.

    async def _profile(self) -> Mapping[str, Any] | None:
        async with self.cloud.client("iam", WEB_ACCOUNT) as iam:
            listed = (await iam.list_instance_profiles())["InstanceProfiles"]
            if FLEET not in [one["InstanceProfileName"] for one in listed]:
                return None
            profile: Mapping[str, Any] = (await iam.get_instance_profile(InstanceProfileName=FLEET))["InstanceProfile"]
            return profile

    async def _fleet(self, cast: Cast) -> Mapping[str, str]:
        used: dict[str, str] = {}
        for region in dict.fromkeys(one.region for one in cast.fleet):
            async with self.cloud.client("ec2", WEB_ACCOUNT, region) as ec2:
                listed = (await ec2.describe_iam_instance_profile_associations())["IamInstanceProfileAssociations"]
            used |= {one["InstanceId"]: one["IamInstanceProfile"]["Id"] for one in listed if one["State"] == "associated"}
        return used

    async def _key(self, key_id: str) -> str | None:
        async with self.cloud.client("iam", WEB_ACCOUNT) as iam:
            keys = (await iam.list_access_keys(UserName=USER))["AccessKeyMetadata"]
        return next((str(one["Status"]) for one in keys if one["AccessKeyId"] == key_id), None)

    async def _policies(self) -> Sequence[str]:
        async with self.cloud.client("iam", WEB_ACCOUNT) as iam:
            names: Sequence[str] = (await iam.list_user_policies(UserName=USER))["PolicyNames"]
        return names
