"""The outcome of a demo for a person: rich renderables, which read as well in a pipe.

In goes the outcome (findings and tasks as JSON, as any consumer of the worker would see them), out goes print. Findings that need somebody
stand apart from those that explain themselves (each is a block, `block.py`), and what is merely worth a record is summed up in a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from worker.local.block import block, plain
from worker.local.mended import Mended
from worker.local.outcome import Json, Outcome, explained, get
from worker.model import Level
from worker.remediate.history import History

WORTH_A_BLOCK = Level.MEDIUM


def show(console: Console, outcome: Outcome, metrics_url: str) -> None:
    """Print the findings, the tasks and the figures."""
    ordered = sorted(outcome.findings, key=lambda finding: (str(get(finding, "event", "time")), str(get(finding, "id"))))
    alarming, harmless, rest = _sorted_out(ordered)
    _section(console, f"What to wake up for ({len(alarming)})", "red", _blocks(alarming))
    _section(console, f"What explained itself ({len(harmless)})", "green", _blocks(harmless))
    if rest:
        titles = Counter(plain(get(finding, "rule", "title")) for finding in rest)
        summed = ", ".join(f"{title} ({count})" if count > 1 else title for title, count in titles.most_common())
        _section(console, f"Worth a record ({len(rest)})", "cyan", [Text(summed)])
    _section(console, f"Tasks on the task queue ({len(outcome.tasks)})", "magenta", [_tasks(outcome.tasks)])
    _section(console, "Figures", "blue", [_figures(outcome, metrics_url)])


def show_mended(console: Console, mended: Mended) -> None:
    """Print what the person on call was shown, what became of each task, and whether the journal is whole."""
    shown = [Text(line) for line in mended.shown.rstrip().splitlines()]
    _section(console, "What the person on call was shown before they agreed", "yellow", shown)
    _section(console, f"What became of the tasks ({len(mended.tasks)})", "magenta", [_histories(mended.tasks)])
    _section(console, "The journal", "blue", [Text(mended.journal)])


def _histories(histories: Sequence[History]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("action", "mode", "outcome", "agreed", "what was done, or would have been"):
        table.add_column(column, overflow="fold")
    for one in histories:
        first, last = one.lines[0].body, one.lines[-1].body
        steps = "\n".join(plain(step["says"]) for step in first["plan"] or ())
        agreed = "\n".join(f"{plain(who['arn'])}: {plain(who['why'])}" for who in last.get("approver") or ())
        table.add_row(*(Text(cell) for cell in (plain(one.task["action"]), plain(first["mode"]), one.outcome, agreed, steps)))
    return table


def _sorted_out(findings: Sequence[Json]) -> tuple[list[Json], list[Json], list[Json]]:
    """Those that need somebody, those that explain themselves, and the rest.

    A small thing, such as a failed try, needs somebody when whoever did it also did a greater one. A great thing that its circumstances made
    small explains itself.
    """
    alarmed_by = {get(finding, "actor", "arn") for finding in findings if not _is_small(finding, "level") and not explained(finding)}
    alarming, harmless, rest = [], [], []
    for finding in findings:
        small = _is_small(finding, "rule", "level")
        if small and not (_rank(get(finding, "level")) >= Level.LOW.rank and get(finding, "actor", "arn") in alarmed_by):
            rest.append(finding)
        elif explained(finding) or (_is_small(finding, "level") and not small):
            harmless.append(finding)
        else:
            alarming.append(finding)
    return alarming, harmless, rest


def _section(console: Console, title: str, colour: str, parts: Sequence[RenderableType]) -> None:
    console.print()
    console.print(Rule(Text(title, style=f"bold {colour}"), style=colour, align="left"))
    for part in parts or [Text("nothing", style="dim")]:
        console.print(Padding(part, (0, 0, 0, 1), expand=False))


def _is_small(finding: Json, *path: str) -> bool:
    return _rank(get(finding, *path)) < WORTH_A_BLOCK.rank


def _rank(level: Any) -> int:
    return Level(level).rank if level in set(Level) else Level.CRITICAL.rank


def _blocks(findings: Sequence[Json]) -> list[RenderableType]:
    seen: set[Any] = set()
    return [block(finding, seen) for finding in findings]


def _tasks(tasks: Sequence[Json]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("action", "target", "account", "with"):
        table.add_column(column, overflow="fold")
    for task in sorted(tasks, key=lambda task: str(task.get("created_at"))):
        params = task.get("params") or {}
        details = [f"{plain(key)} {_param(value)}" for key, value in params.items() if value and key != "deleted_at"]
        target = f"{plain(get(task, 'target', 'type'))} {plain(get(task, 'target', 'name'))}"
        table.add_row(
            *(Text(cell) for cell in (plain(task.get("action")), target, plain(get(task, "target", "account")), ", ".join(details)))
        )
    return table


def _param(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{plain(key)}={plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return f"x {len(value)}"
    return plain(value)


def _figures(outcome: Outcome, metrics_url: str) -> RenderableType:
    count = outcome.totals.get
    objects, records = count("trailmend_objects_read_total", 0.0), count("trailmend_records_total", 0.0)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    per_second = f"{records / outcome.seconds:,.0f} records/s" if outcome.seconds > 0 else ""
    passed_over = count("trailmend_skipped_total", 0.0)
    for label, text in (
        ("read", f"{objects:.0f} objects, {records:.0f} records in {outcome.seconds:.1f} s, uploads included ({per_second})"),
        ("passed over", f"{passed_over:.0f} things that are no log"),
        (
            "told once",
            f"{count('trailmend_findings_total', 0.0):.0f} findings; {count('trailmend_findings_duplicate_total', 0.0):.0f} second copies known",
        ),
        (
            "tasks",
            f"{count('trailmend_tasks_dispatched_total', 0.0):.0f} dispatched, {count('trailmend_tasks_withheld_total', 0.0):.0f} withheld",
        ),
        ("dead letters", str(outcome.dead_letters)),
        ("metrics", metrics_url),
    ):
        table.add_row(label, Text(text))
    return table
