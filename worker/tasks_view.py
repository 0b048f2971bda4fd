"""Tasks for people: a table of all and of what waits, one with its lines, and what is asked about one. Pure; what is somebody else's text is printed as such."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from worker.model import Approval
from worker.printing import plain
from worker.remediate.approvals import Standing, agreeing, standing
from worker.remediate.history import History, Seen
from worker.remediate.steps import Done, Step


def tasks_table(histories: Iterable[History]) -> Table:
    """A row for each task, the latest one last."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("TIME (UTC)", "OUTCOME", "ACTION", "TARGET", "ACCOUNT", "UNDO", "ID"):
        table.add_column(title, no_wrap=title in ("TIME (UTC)", "OUTCOME", "ID"), overflow="fold")
    for one in sorted(histories, key=lambda one: one.at):
        target = one.task["target"]
        undo = "yes" if isinstance(one.done(), Done) else "-"
        cells = (
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            one.outcome,
            one.task["action"],
            f"{target['type']} {target['name']}",
            target["account"],
            undo,
        )
        table.add_row(*map(plain, cells), plain(one.id))
    return table


def waiting_table(approvals: Iterable[Approval], now: datetime) -> Table:
    """A row for each task that waits, the one whose time is up first at the top."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("WAITING FOR", "TIME LEFT", "ACTION", "TARGET", "ACCOUNT", "ID"):
        table.add_column(title, no_wrap=title in ("WAITING FOR", "TIME LEFT", "ID"), overflow="fold")
    for one in approvals:
        target = one.task["target"]
        cells = (_wanted(one, now), _left(one, now), one.task["action"], f"{target['type']} {target['name']}", target["account"])
        table.add_row(*map(plain, cells), plain(one.id))
    return table


def asked(approval: Approval, now: datetime) -> Iterator[Text]:
    """What somebody must know who is to agree: who did what, the plan, whom it hits, and how it is undone."""
    task, target, finding = approval.task, approval.task["target"], approval.task["finding"]
    event, actor = finding["event"], finding["actor"]
    yield Text()
    yield Text.assemble(f"{task['action']} on {target['type']} ", plain(target["name"]), f" in {target['account']} waits for people:")
    yield from _members(
        {
            "because": finding["rule"]["title"],
            "event": f"{event['name']} by {actor['arn'] or actor['name'] or actor['type']} at {event['time']}",
            "about": " ".join(str(finding["subject"].get(name)) for name in ("type", "name") if finding["subject"].get(name)),
        }
    )
    yield Text("What is to be done", style="bold")
    for step in approval.steps:
        yield _step(step["says"], irreversible=step["irreversible"])
    yield Text("Whom it hits", style="bold")
    for effect in approval.effects:
        yield Text.assemble("  - ", plain(effect))
    yield Text("How it is undone", style="bold")
    yield Text.assemble("  ", plain(approval.undoing))
    yield Text("What people say", style="bold")
    for one in approval.decisions:
        yield Text.assemble(f"  {one.at:%Y-%m-%d %H:%M:%S}  {one.answer.value}  ", plain(one.approver), ": ", plain(one.why))
    yield Text(f"  {_wanted(approval, now)}, {_left(approval, now)} left (until {approval.expires_at:%Y-%m-%d %H:%M:%SZ})")
    yield Text(f"  trailmend tasks approve {approval.id}")
    yield Text(f"  trailmend tasks reject {approval.id}")


def _wanted(approval: Approval, now: datetime) -> str:
    stands = standing(approval, now)
    if stands is not Standing.WAITING:
        return {Standing.APPROVED: "executor"}.get(stands, stands.value)
    missing = approval.needed - len(agreeing(approval))
    return "1 person" if missing == 1 else f"{missing} people"


def _left(approval: Approval, now: datetime) -> str:
    minutes = max(0, int((approval.expires_at - now).total_seconds() // 60))
    return f"{minutes // 60} h {minutes % 60:02} min"


def told(history: History, seen: Seen) -> Iterator[Text]:
    """All that the journal tells of a task, line by line, and what CloudTrail has told of its calls."""
    task, target, finding = history.task, history.task["target"], history.task["finding"]
    yield from _members(
        {
            "task": history.id,
            "action": task["action"],
            "target": f"{target['type']} {target['name']} in {target['account']}",
            "params": task["params"] or None,
            "rule": finding["rule"]["title"],
            "event": f"{finding['event']['name']} by {finding['actor']['arn'] or finding['actor']['name'] or finding['actor']['type']}",
            "asked for": task["created_at"],
        }
    )
    for line in history.lines:
        body = line.body
        yield Text()
        yield Text(f"{line.at:%Y-%m-%d %H:%M:%S}  {line.outcome}", style="bold")
        yield from _members({"reason": body["reason"], "by": body["executor"]["arn"]})
        for answer in _answers(body.get("approver")):
            yield from _members({"approver": answer})
        for step in body["plan"] or ():
            yield _step(step["says"], irreversible=step.get("irreversible", False))
        for effect in body.get("effects") or ():
            yield from _members({"hits": effect})
        yield from _members({name: body[name] for name in ("before", "after", "request_ids") if body[name]})
    done = history.done()
    yield Text()
    if history.request_ids:
        yield Text.assemble("CloudTrail: ", seen.in_words)
    yield (
        Text(f"It can be undone: trailmend tasks undo {history.id}") if isinstance(done, Done) else Text.assemble("No undo: ", plain(done))
    )


def shown(history: History, steps: Sequence[Step]) -> Iterator[Text]:
    """What an undo would do, before anybody agrees to it."""
    target = history.task["target"]
    yield Text.assemble(f"Undo of {history.task['action']} on {target['type']} ", plain(target["name"]), f" in {target['account']}:")
    for step in steps:
        yield _step(step.says, irreversible=step.irreversible)
    if not steps:
        yield Text("  nothing is to be done: live state is as before")


def _answers(approver: Any) -> Iterator[str]:
    """Who agreed, as a line of the journal has it: nobody, whoever asked for an undo, or who answered what waited."""
    if isinstance(approver, str):
        yield approver
    for one in approver if isinstance(approver, list) else ():
        yield f"{one['arn']} said {one['answer']}: {one['why']}"


def _step(says: str, *, irreversible: bool) -> Text:
    return Text.assemble("  - ", plain(says), (" (irreversible)", "bold red") if irreversible else "")


def _members(values: Mapping[str, Any]) -> Iterator[Text]:
    return (Text.assemble(f"  {name:<12}", plain(value)) for name, value in values.items() if value is not None)
