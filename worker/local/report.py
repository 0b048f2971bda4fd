"""The outcome of a demo for a person: rich renderables, which read as well in a pipe.

In goes the outcome (findings and tasks as JSON, as any consumer of the worker would see them), out goes print. Findings that need somebody
stand apart from those that explain themselves, and what is merely worth a record is summed up in a line. Everything from a record is data:
it is printed as text, never as markup, and without characters that a terminal would obey.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from worker.local.outcome import Json, Outcome, explained, fact, get, instances
from worker.model import Level
from worker.printing import together

STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "bold yellow", "low": "cyan", "informational": "dim"}
WORTH_A_BLOCK = Level.MEDIUM
IAM_ARN = re.compile(r"\barn:[a-z-]+:(?:iam|sts)::[0-9]{12}:", re.ASCII)


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


def plain(value: Any) -> str:
    """A value from a record as text that a terminal can be given; `?` for what is not there."""
    if value is None or value == "":
        return "?"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))


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
    return [_block(finding, seen) for finding in findings]


def _block(finding: Json, seen: set[Any]) -> RenderableType:
    level = str(get(finding, "level"))
    time = plain(get(finding, "event", "time"))
    head = Text.assemble(
        (time[11:19] + " ", "bold"), (f" {level} ", STYLES.get(level, "")), " ", (plain(get(finding, "rule", "title")), "bold")
    )
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", no_wrap=True, min_width=8)
    lines.add_column(overflow="fold")
    for label, text in _lines(finding, seen):
        lines.add_row(label, Text(text))
    return Group(head, Padding(lines, (0, 0, 0, 2), expand=False))


def _lines(finding: Json, seen: set[Any]) -> Iterator[tuple[str, str]]:
    """The rows of a block. What is known of an actor is said once, at its first appearance in a section."""
    yield "what", _what(finding)
    if get(finding, "correlation", "events"):
        yield "together", together(finding["correlation"])
    yield "who", _who(finding)
    actor = get(finding, "actor", "arn")
    state = _user_state(fact(finding, "user"))
    if state and actor not in seen:
        yield "who can", state
    seen.add(actor)
    yield "why", _why(finding)
    used = sorted(instances(finding), key=lambda one: str(one.get("name")))
    if used:
        yield "depends", ", ".join(_instance(one) for one in used)
    held = _held(fact(finding, "profile"))
    if held and get(finding, "event", "name") in ("DeleteInstanceProfile", "RemoveRoleFromInstanceProfile"):
        yield "held", held
        if remembered := get(fact(finding, "profile"), "instances"):
            yield "recalls", ", ".join(_remembered(one) for one in remembered)
    for task in finding.get("tasks") or ():
        yield "task", f"{plain(get(task, 'action'))} {plain(get(task, 'target', 'name'))}"
    for one in finding.get("withheld") or ():
        yield "no task", f"{plain(get(one, 'action'))}: {_short(get(one, 'reason'))}"


def _what(finding: Json) -> str:
    event, subject = finding.get("event") or {}, finding.get("subject") or {}
    owner = f" of {plain(subject.get('owner'))}" if subject.get("owner") else ""
    name = f"{plain(subject.get('type'))} {plain(subject.get('name'))}{owner}"
    failed = f", failed with {plain(event.get('error_code'))}" if event.get("error_code") else ""
    return f"{plain(event.get('name'))} on {name}, account {plain(event.get('account'))}{failed}"


def _who(finding: Json) -> str:
    actor = finding.get("actor") or {}
    told = actor.get("mfa")
    # A role's session is seldom made with MFA, and its absence says nothing.
    mfa = ", with MFA" if told else ", without MFA" if told is False and actor.get("type") != "AssumedRole" else ""
    session = f", session {plain(actor.get('session'))}" if actor.get("session") else ""
    return (
        f"{plain(actor.get('type'))} {plain(actor.get('name'))}{session}{mfa}, from {plain(actor.get('source_ip'))} "
        f"with {_agent(actor.get('user_agent'))}"
    )


def _agent(agent: Any) -> str:
    """The part of a user agent by which people know it."""
    text = plain(agent)
    return next((name for name in ("Terraform", "CloudFormation", "Firefox", "Chrome") if name in text), text.split(" ", 1)[0])


def _user_state(user: Any) -> str:
    if not isinstance(user, Mapping):
        return ""
    parts = []
    password = user.get("console_password")
    if password is not None:
        parts.append("sign in with a password" if get(password, "exists") else "not sign in: no password")
    devices = user.get("mfa_devices")
    if isinstance(devices, list):
        parts.append(f"{len(devices) or 'no'} MFA device{'' if len(devices) == 1 else 's'}")
    keys = user.get("access_keys")
    if isinstance(keys, list):
        active = [plain(get(key, "id")) for key in keys if get(key, "status") == "Active"]
        parts.append(
            f"{len(active)} active access key{'' if len(active) == 1 else 's'} ({', '.join(active)})" if active else "no active access key"
        )
    return "; ".join(parts)


def _why(finding: Json) -> str:
    authorised = fact(finding, "authorised")
    documented = fact(finding, "documented")
    replaced = fact(finding, "replaced")
    parts = []
    if isinstance(authorised, Mapping):
        parts.append(f"authorised ({_short(authorised.get('because'))})" if authorised.get("authorised") else "not authorised")
    else:
        parts.append("authorised or not: unknown")
    if isinstance(documented, Mapping):
        parts.append(f"documented ({_change(documented)})" if documented.get("documented") else "no change number")
    if isinstance(replaced, Mapping) and get(finding, "event", "name") == "DeleteInstanceProfile":
        after = replaced.get("after_seconds")
        seconds = f" after {after:g} s" if isinstance(after, int | float) else ""
        parts.append(f"made again by {_short(replaced.get('by'))}{seconds}" if replaced.get("replaced") else "not made again")
    return "; ".join(parts)


def _change(documented: Mapping[str, Any]) -> str:
    return f"{plain(documented.get('change'))} in the {plain(documented.get('where'))}"


def _short(value: Any) -> str:
    """Words with the ARNs in them cut down to what tells them apart here."""
    return IAM_ARN.sub("", plain(value))


def _instance(one: Mapping[str, Any]) -> str:
    name = f"{plain(one.get('name'))} " if one.get("name") else ""
    return f"{name}{plain(one.get('id'))} ({plain(one.get('region'))}, {plain(one.get('state'))})"


def _remembered(one: Mapping[str, Any]) -> str:
    until = f" until {plain(one.get('until'))[:16]}" if one.get("until") else ""
    since = f"since {plain(one.get('since'))[:16]}" if one.get("since") else "found by a snapshot"
    return f"{plain(one.get('id'))} ({plain(one.get('region'))}, {since}{until})"


def _held(profile: Any) -> str:
    if not isinstance(profile, Mapping):
        return ""
    roles, last = profile.get("roles"), get(profile, "last_role", "name")
    role = ", ".join(map(plain, roles)) if isinstance(roles, list) and roles else plain(last)
    tags = profile.get("tags")
    told = ", ".join(f"{plain(key)}={plain(value)}" for key, value in tags.items()) if isinstance(tags, Mapping) and tags else "no tags"
    return f"role {role}, path {plain(profile.get('path'))}, {told}"


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
