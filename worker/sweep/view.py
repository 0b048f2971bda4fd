"""A sweep for people and for programs: what it would do, what it would not and why, and what became of it. Pure; what is somebody else's text is printed as such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from worker.printing import plain
from worker.sweep.sweep import Row, Survey, Unread
from worker.sweep.swept import SWEPT

UNCHANGEABLE = (
    "the password policy does not let users change their own passwords: "
    "whoever must choose a new one and lacks iam:ChangePassword cannot sign in to the console."
)


def survey_told(survey: Survey) -> Iterator[RenderableType]:
    """The plan, then what is held, what could not be read, and how much there is of each."""
    planned = survey.planned
    held = [row for row in survey.rows if row.prospect.verdict != "planned"]
    if planned:
        yield _table("WOULD DO", planned, _steps)
    if held:
        yield Text("\nIs not done:", style="bold")
        yield _table("WHY NOT", held, lambda row: plain(row.prospect.why))
    for account in survey.unchangeable:
        yield Text(f"\nIn account {account} {UNCHANGEABLE}", style="yellow")
    yield from _unread(survey.unread)
    yield Text()
    yield Text(f"{survey.users} users looked at; {_actions(planned)}")
    for verdict, count in sorted(Counter(row.prospect.verdict for row in held).items()):
        yield Text(f"{count} {verdict}: {_by_action(row for row in held if row.prospect.verdict == verdict)}")


def endings_told(rows: Sequence[Row]) -> Iterator[RenderableType]:
    """What was not done of what was agreed to, and how much was."""
    failed = [row for row in rows if not row.done]
    if failed:
        yield _table("NOT DONE BECAUSE", failed, _ending)
    for outcome, count in sorted(Counter(row.ending.outcome for row in rows if row.ending is not None).items()):
        yield Text(f"{count} {outcome}: {_by_action(row for row in rows if row.ending is not None and row.ending.outcome == outcome)}")
    if any(row.done for row in rows):
        yield Text("Each can be undone: `trailmend tasks list` has their ids, and `trailmend tasks undo ID` undoes one.")


def row_as_dict(row: Row) -> dict[str, Any]:
    """A row as JSON-ready value: `kind` is plan, or outcome once it has one."""
    target, ending = row.want.target, row.ending
    told: dict[str, Any] = {
        "kind": "plan" if ending is None else "outcome",
        "task": row.errand.task.id,
        "account": target.account,
        "action": row.want.action,
        "target": {"type": target.type, "name": target.name, "arn": target.arn},
        "params": dict(row.want.params),
        "because": row.want.because,
        "verdict": row.prospect.verdict,
        "why": row.prospect.why,
        "steps": [step.as_dict() for step in row.steps],
    }
    return told if ending is None else told | {"outcome": ending.outcome, "reason": ending.reason}


def unread_as_dict(unread: Unread) -> Mapping[str, Any]:
    """What could not be looked at, as JSON-ready value."""
    return {"kind": "unread", "account": unread.account, "user": unread.user, "why": unread.why}


def _table(title: str, rows: Iterable[Row], cell: Any) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("ACCOUNT", no_wrap=True)
    for name, ratio in (("USER", 2), ("ACTION", 3), ("BECAUSE", 5), (title, 6)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for row in rows:
        target = row.want.target
        table.add_row(
            plain(target.account),
            plain(target.name if target.type == "user" else None),
            Text(row.want.action),
            plain(row.want.because),
            cell(row),
        )
    return table


def _steps(row: Row) -> Text:
    return Text("\n").join(
        Text.assemble(plain(step.says), (" (irreversible)", "bold red") if step.irreversible else "") for step in row.steps
    )


def _ending(row: Row) -> Text:
    return Text("-") if row.ending is None else Text.assemble((row.ending.outcome, "bold"), " ", plain(row.ending.reason))


def _unread(unread: Sequence[Unread]) -> Iterator[Text]:
    if unread:
        yield Text("\nCould not be looked at:", style="bold")
    for one in unread:
        yield Text.assemble(f"  {one.account} ", plain(one.user), "  ", plain(one.why))


def _actions(rows: Sequence[Row]) -> str:
    return f"{len(rows)} to do: {_by_action(rows)}" if rows else "nothing is to be done"


def _by_action(rows: Iterable[Row]) -> str:
    counts = Counter(row.want.action for row in rows)
    return ", ".join(f"{counts[action]} {action}" for action in SWEPT if counts[action])
