"""What a demo's run came to, and whether it is what the story tells: pure.

In go the findings as the file sink wrote them, the tasks as the task queue holds them, the worker's metrics as text and the story; out come
totals and a list of everything that is missing. Nothing is taken on trust: a finding counts only for the event it names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from worker.local.story import BATCH, FLEET, USER, Story

Json = Mapping[str, Any]

RESTORE = "restore-instance-profile"
DEACTIVATE = "deactivate-access-key"
CRITICAL = "critical"
FLEET_BAND = "1-10"
LOUD = frozenset({"high", CRITICAL})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out. `seconds` is from the first upload to the drained queue, both parts of the story together."""

    findings: Sequence[Json]
    tasks: Sequence[Json]
    dead_letters: int
    totals: Mapping[str, float]
    seconds: float


def get(value: Any, *path: str) -> Any:
    """A nested member, or None where a step is missing or no object."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def totals(exposition: str) -> Mapping[str, float]:
    """Each sample of a Prometheus text exposition by its name, summed over its labels."""
    sums: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return sums


def of_event(findings: Iterable[Json], event_id: str) -> list[Json]:
    """The findings of one event, which several rules may have made."""
    return [finding for finding in findings if get(finding, "event", "id") == event_id]


def fact(finding: Json, name: str) -> Any:
    """The value of a known fact, else None."""
    told = get(finding, "facts", name)
    return get(told, "value") if get(told, "status") == "known" else None


def instances(finding: Json) -> list[Json]:
    """The instances that depend on the profile, as far as the finding knows them."""
    value = fact(finding, "instances")
    listed = value.get("instances") if isinstance(value, Mapping) else value
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def dependents(finding: Json) -> list[Json]:
    """What launches with the profile, and the templates that name it, as far as the finding knows them."""
    listed = get(fact(finding, "dependents"), "dependents")
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


EXPLAINING = frozenset({"authorised", "replaced", "dry-run"})
"""Circumstances in which nobody is needed. That a change is named is the caller's word alone."""


def explained(finding: Json) -> bool:
    """Whether the finding explains itself: its caller is authorised, what was taken was put back, or nothing was changed."""
    told = get(finding, "circumstances")
    return isinstance(told, list) and any(one in EXPLAINING for one in told)


def missing(outcome: Outcome, story: Story) -> list[str]:
    """What the story tells and the outcome does not show; empty when all came out as told."""
    lost = [f"no finding says that {scene.title}" for scene in story.told.attack if not of_event(outcome.findings, scene.event_id)]
    ids = [get(finding, "id") for finding in outcome.findings]
    if len(ids) != len(set(ids)):
        lost.append(f"{len(ids) - len(set(ids))} findings were told more than once")
    lost += _about_deed(outcome, story) + _about_chain(outcome, story) + _about_honest_deed(outcome, story)
    if not _tasks(outcome, DEACTIVATE, story.cast.new_key_id):
        lost.append(f"no task takes the attacker's new access key {story.cast.new_key_id} away")
    if outcome.dead_letters:
        lost.append(f"{outcome.dead_letters} messages went to the dead-letter queue")
    return lost


def _about_deed(outcome: Outcome, story: Story) -> list[str]:
    lost: list[str] = []
    found = of_event(outcome.findings, story.told.deed.event_id)
    seen = {instance.get("id") for finding in found for instance in instances(finding)}
    lost += [
        f"the finding does not name instance {instance.name} ({instance.id})" for instance in story.cast.fleet if instance.id not in seen
    ]
    launching = {(one.get("kind"), one.get("name")) for finding in found for one in dependents(finding)}
    lost += [
        f"the finding does not name the {words} {FLEET}, which launches with it"
        for kind, words in (("auto-scaling-group", "Auto Scaling group"), ("launch-template", "launch template"))
        if (kind, FLEET) not in launching
    ]
    if not any(get(fact(finding, "impact"), "band") == FLEET_BAND for finding in found):
        lost.append(f"no finding knows that {FLEET_BAND} running instances depend on {FLEET}")
    tasks = _tasks(outcome, RESTORE, FLEET)
    if not any(get(task, "finding", "event", "id") == story.told.deed.event_id for task in tasks):
        lost.append(f"no task on the task queue restores {FLEET}")
    if not any(get(task, "params", "role") == FLEET for task in tasks):
        lost.append(f"no task knows that {FLEET} held the role {FLEET}")
    if not any(get(fact(finding, "permissions"), "administrator", "is") is True for finding in found):
        lost.append(f"no finding knows that {USER} is an administrator")
    if any(explained(finding) for finding in found):
        lost.append("the attacker's deed was taken for a harmless one")
    return lost


def _about_chain(outcome: Outcome, story: Story) -> list[str]:
    deed = story.told.deed.event_id
    chains = [
        finding
        for finding in outcome.findings
        if deed in {get(event, "id") for event in get(finding, "correlation", "events") or ()} and get(finding, "level") == CRITICAL
    ]
    return [] if len(chains) == 1 else [f"{len(chains)} findings, and not one, tell the attacker's steps together"]


def _about_honest_deed(outcome: Outcome, story: Story) -> list[str]:
    lost: list[str] = []
    found = of_event(outcome.findings, story.told.honest_deed.event_id)
    if not found:
        lost.append(f"no finding says that {story.told.honest_deed.title}")
    if not any(get(fact(finding, "authorised"), "authorised") is True for finding in found):
        lost.append(f"no finding knows that the one who replaced {BATCH} was authorised")
    if not any(get(fact(finding, "replaced"), "replaced") is True for finding in found):
        lost.append(f"no finding knows that {BATCH} was put back")
    if not any(one.get("action") == RESTORE for finding in found for one in finding.get("withheld", ())):
        lost.append(f"the restore of {BATCH} was not withheld")
    lost += [
        f"it would call somebody out for an honest deed: {get(finding, 'rule', 'title')}"
        for finding in found
        if get(finding, "level") in LOUD
    ]
    if _tasks(outcome, RESTORE, BATCH):
        lost.append(f"a task would restore {BATCH}, which needs no restoring")
    return lost


def _tasks(outcome: Outcome, action: str, name: str) -> list[Json]:
    return [task for task in outcome.tasks if task.get("action") == action and get(task, "target", "name") == name]
