"""Tasks of the journal for people: a table of all, and one with its lines. Pure; what is somebody else's text is printed as such."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from worker.printing import plain
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
        yield from _members({"reason": body["reason"], "by": body["executor"]["arn"], "approver": body.get("approver")})
        for step in body["plan"] or ():
            yield _step(step["says"], irreversible=step.get("irreversible", False))
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


def _step(says: str, *, irreversible: bool) -> Text:
    return Text.assemble("  - ", plain(says), (" (irreversible)", "bold red") if irreversible else "")


def _members(values: Mapping[str, Any]) -> Iterator[Text]:
    return (Text.assemble(f"  {name:<12}", plain(value)) for name, value in values.items() if value is not None)
