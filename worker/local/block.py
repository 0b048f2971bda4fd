"""One finding of a demo as a block for a person: a head and some rows, a rich renderable.

In goes a finding as JSON, as any consumer of the worker would see it. Everything from a record is data: it is printed as text, never as markup, and
without characters that a terminal would obey.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from worker.enrich.launchers import KINDS
from worker.local.outcome import Json, dependents, fact, get, instances
from worker.printing import duration, opened_by, power, together

STYLES = {"critical": "bold white on red", "high": "bold red", "medium": "bold yellow", "low": "cyan", "informational": "dim"}
IAM_ARN = re.compile(r"\barn:[a-z-]+:(?:iam|sts)::[0-9]{12}:", re.ASCII)


def block(finding: Json, seen: set[Any]) -> RenderableType:
    """The block of a finding. What is known of an actor in `seen` is not said again; this one's is added."""
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
        yield "together", plain(together(finding["correlation"]))
    yield "who", _who(finding)
    actor = get(finding, "actor", "arn")
    state = "; ".join(filter(None, (_user_state(fact(finding, "user")), _power(fact(finding, "permissions")))))
    if state and actor not in seen:
        yield "who can", state
    behind = opened_by(finding)
    if behind and actor not in seen:
        yield "behind", behind
    seen.add(actor)
    yield "why", _why(finding)
    yield from _reach(finding)
    for task in finding.get("tasks") or ():
        yield "task", f"{plain(get(task, 'action'))} {plain(get(task, 'target', 'name'))}"
    for one in finding.get("withheld") or ():
        yield "no task", f"{plain(get(one, 'action'))}: {_short(get(one, 'reason'))}"


def _reach(finding: Json) -> Iterator[tuple[str, str]]:
    """What depends on the instance profile, and what it held."""
    used = sorted(instances(finding), key=lambda one: str(one.get("name")))
    if used:
        yield "depends", ", ".join(_instance(one) for one in used)
    launching = dependents(finding)
    if launching:
        yield "launches", ", ".join(_dependent(one) for one in launching)
    impact = _impact(fact(finding, "impact"))
    if impact:
        yield "impact", impact
    held = _held(fact(finding, "profile"))
    if held and get(finding, "event", "name") in ("DeleteInstanceProfile", "RemoveRoleFromInstanceProfile"):
        yield "held", held
        if remembered := get(fact(finding, "profile"), "instances"):
            yield "recalls", ", ".join(_remembered(one) for one in remembered)
        if refused := get(fact(finding, "profile"), "failed_launches"):
            yield (
                "refused",
                f"{len(refused)} launches with it, the last at {plain(get(refused[0], 'at'))} ({plain(get(refused[0], 'error'))})",
            )


def _what(finding: Json) -> str:
    event, subject = finding.get("event") or {}, finding.get("subject") or {}
    owner = f" of {plain(subject.get('owner'))}" if subject.get("owner") else ""
    name = f"{plain(subject.get('type'))} {plain(subject.get('name'))}{owner}"
    failed = f", failed with {plain(event.get('error_code'))}" if event.get("error_code") else ""
    return f"{plain(event.get('name'))} on {name}, account {plain(event.get('account'))}{failed}"


def _who(finding: Json) -> str:
    actor = finding.get("actor") or {}
    words = get(fact(finding, "identity"), "words") or f"{plain(actor.get('type'))} {plain(actor.get('name'))}"
    return f"{plain(words)}, from {plain(actor.get('source_ip'))} with {_agent(actor.get('user_agent'))}"


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
        active = [_access_key(key) for key in keys if get(key, "status") == "Active"]
        parts.append(
            f"{len(active)} active access key{'' if len(active) == 1 else 's'} ({' and '.join(active)})"
            if active
            else "no active access key"
        )
    return "; ".join(parts)


def _access_key(key: Any) -> str:
    age = get(key, "age_seconds")
    made = f": {duration(age)} old" if isinstance(age, int) else ""
    return f"{plain(get(key, 'id'))}{made}{', made after this' if get(key, 'made_after_event') else ''}"


def _power(permissions: Any) -> str:
    """What it can do by its policies, as far as being an administrator goes, and by which."""
    if not isinstance(permissions, Mapping):
        return ""
    administrator = permissions.get("administrator")
    because = plain(get(administrator, "because"))
    if get(administrator, "is") is True:
        return f"do everything: {because}"
    return power(permissions) or (
        "nothing of an administrator" if get(administrator, "is") is False else f"perhaps do everything: {because}"
    )


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


def _dependent(one: Mapping[str, Any]) -> str:
    kind = plain(one.get("kind"))
    return f"{KINDS.get(kind, kind)} {plain(one.get('name'))} ({plain(one.get('region'))})"


def _impact(impact: Any) -> str:
    """How far it reaches, in a sentence; empty where nothing is known of it."""
    if not isinstance(impact, Mapping) or impact.get("band") is None:
        return ""
    least = "" if impact.get("complete") else "at least "
    told = [f"{least}{plain(impact.get('running'))} running (band {plain(impact['band'])})"]
    told += [f"{impact[state]} {state}" for state in ("pending", "stopping", "stopped") if impact.get(state)]
    if impact.get("launches"):
        told.append(f"{least}{plain(impact['launches'])} to fail at the next launch")
    return "nothing depends on it" if impact.get("unused") else ", ".join(told)


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


def plain(value: Any) -> str:
    """A value from a record as text that a terminal can be given; `?` for what is not there."""
    if value is None or value == "":
        return "?"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(value))
