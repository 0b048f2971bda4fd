"""What a demo's executor came to, and whether it is what was asked of it: pure.

In go the tasks as the journal tells them and what AWS shows afterwards; out comes a list of everything that is missing. Nothing is taken on trust: what
the journal says was done must show in AWS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.local.outcome import DEACTIVATE, RESTORE
from worker.local.story import FLEET, FLEET_PATH, FLEET_TAGS, USER, Cast
from worker.remediate.history import History

SHADOWED = "enforce-mfa"


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of the tasks, and what stands in AWS.

    `profile` is the fleet's as GetInstanceProfile answers it, `fleet` has the id of the profile that each instance uses, `key` is the status of the
    attacker's new key, `policies` are the names of the user's inline policies. `journal` is what `tasks verify-journal` says, `shown` what the person
    on call was shown before they agreed, `statuses` the exit statuses of all that ran, by what it was.
    """

    tasks: Sequence[History]
    profile: Mapping[str, Any] | None
    fleet: Mapping[str, str]
    key: str | None
    policies: Sequence[str]
    journal: str
    shown: str
    statuses: Mapping[str, int]


def unmended(mended: Mended, cast: Cast) -> list[str]:
    """What was to be mended and is not; empty when all came out as told."""
    return [*_of_journal(mended), *_of_profile(mended, cast), *_of_user(mended, cast)]


def _of_journal(mended: Mended) -> Iterator[str]:
    yield from (f"{what} ended with status {status}" for what, status in mended.statuses.items() if status)
    wanted = {RESTORE: ["waiting", "started", "applied"], DEACTIVATE: ["started", "applied"], SHADOWED: ["shadowed"]}
    told = {one.task["action"]: [line.outcome for line in one.lines] for one in mended.tasks}
    for action, outcomes in wanted.items():
        if told.get(action) != outcomes:
            yield f"the journal tells of {action}: {', '.join(told.get(action, ())) or 'nothing'}, and not {', '.join(outcomes)}"


def _of_profile(mended: Mended, cast: Cast) -> Iterator[str]:
    profile = mended.profile
    if profile is None:
        yield f"instance profile {FLEET} was not made again"
        return
    held = [role["RoleName"] for role in profile["Roles"]], profile["Path"], {tag["Key"]: tag["Value"] for tag in profile.get("Tags", ())}
    if held != ([FLEET], FLEET_PATH, FLEET_TAGS):
        yield f"instance profile {FLEET} has not its role, path and tags again: {held}"
    yield from (
        f"instance {one.name} ({one.id}) does not use the new {FLEET}"
        for one in cast.fleet
        if mended.fleet.get(one.id) != profile["InstanceProfileId"]
    )


def _of_user(mended: Mended, cast: Cast) -> Iterator[str]:
    if mended.key != "Inactive":
        yield f"access key {cast.new_key_id} of {USER} is {mended.key or 'gone'}, and not inactive"
    if mended.policies:
        yield f"{USER} was touched, though {SHADOWED} is shadowed: {', '.join(mended.policies)}"
