"""Findings and rules for people: rich tables from JSON-ready findings. Pure of any I/O but the console handed in.

Everything from a record is somebody else's text: it is printed as text, never as markup, and without control characters, so that no log
line can move the cursor of whoever reads it at 3 a.m.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker import __version__
from worker.detect.rulebook import Rulebook
from worker.model import Level
from worker.observe.ocsf import as_ocsf

LEVELS = tuple(one.value for one in Level)
LEVEL_STYLE = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan", "informational": "dim"}
PIPED_WIDTH = 200
"""Columns where standard output is no terminal: wide enough that nothing is cut for grep."""


def console(stream: TextIO) -> Console:
    """A console on a stream; plain and wide where it is no terminal."""
    return Console(file=stream, width=None if stream.isatty() else PIPED_WIDTH, highlight=False)


def plain(value: object) -> Text:
    """Somebody else's text, safe to print: no markup, no control characters; a dash for nothing."""
    if value is None or value == "":
        return Text("-", style="dim")
    return Text("".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value)))


def level(name: str) -> Text:
    """A level in its colour; the longest one short."""
    return Text("info" if name == Level.INFORMATIONAL else name, style=LEVEL_STYLE.get(name, ""))


def findings_table(findings: Iterable[Mapping[str, Any]]) -> Table:
    """Findings as rows: when, how bad, what was found, who from where, on what in which account, and what else is known."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("TIME (UTC)", no_wrap=True)
    table.add_column("LEVEL", no_wrap=True)
    for title, ratio in (("FINDING", 4), ("WHO", 4), ("WHAT", 5), ("REMARKS", 5)):
        table.add_column(title, ratio=ratio, overflow="fold")
    for finding in findings:
        event, actor, subject = finding["event"], finding["actor"], finding["subject"]
        table.add_row(
            plain((event["time"] or "").replace("T", " ").removesuffix("Z")),
            level(finding["rule"]["level"]),
            plain(finding["rule"]["title"]),
            Text("\nfrom ").join([plain(who(actor)), plain(actor["source_ip"])]),
            Text("\nin ").join([plain(f"{subject['type']} {subject['name'] or ''}".strip()), plain(event["account"])]),
            plain("; ".join(remarks(finding))),
        )
    return table


def print_findings(findings: Sequence[Mapping[str, Any]], form: str, stream: TextIO, now: datetime) -> None:
    """Print findings as `table`, `jsonl` or `ocsf`, one a line in the last two."""
    if form == "table":
        people = console(stream)
        people.print(findings_table(findings))
        levels = Counter(finding["rule"]["level"] for finding in findings)
        told = ", ".join(f"{levels[one]} {one}" for one in reversed(LEVELS) if levels[one])
        people.print(f"\n{len(findings)} findings{': ' if told else ''}{told}")
        return
    for finding in findings:
        value = as_ocsf(finding, __version__, now) if form == "ocsf" else finding
        stream.write(orjson.dumps(value, default=str).decode() + "\n")
    stream.flush()


def rules_table(rulebook: Rulebook) -> Table:
    """Rules as rows: level, what it finds, the events it is indexed by, how many tests it carries, its id."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("LEVEL", "RULE", "EVENTS", "TESTS", "ID"):
        table.add_column(title, overflow="fold")
    for rule in rulebook.rules:
        events = sorted(_event(*demand) for demand in rule.demands)
        shown = "unindexed: every record" if rule in rulebook.unindexed else ", ".join(events)
        table.add_row(level(rule.rule.level.value), plain(rule.rule.title), plain(shown), str(len(rule.samples)), plain(rule.rule.id))
    return table


def _event(source: str | None, name: str | None, identity: str | None) -> str:
    by = f" by {identity}" if identity is not None else ""
    return f"{(source or '*').removesuffix('.amazonaws.com')}:{name or '*'}{by}"


def who(actor: Mapping[str, Any]) -> str:
    """The caller in as few words as tell it from others."""
    name = actor["name"] or actor["arn"] or ""
    session = f" ({actor['session']})" if actor.get("session") else ""
    return f"{actor['type']} {name}{session}".strip()


def remarks(finding: Mapping[str, Any]) -> list[str]:
    """What the facts say about a finding, in words."""
    said: list[str] = []
    if finding["event"]["error_code"]:
        said.append(f"failed: {finding['event']['error_code']}")
    profile = _value(finding, "profile")
    last_role = profile.get("last_role")
    if finding["event"]["name"] == "DeleteInstanceProfile" and isinstance(last_role, Mapping):
        said.append(f"its role was {last_role.get('name')}")
    replaced = _value(finding, "replaced")
    if replaced.get("replaced"):
        after = replaced.get("after_seconds")
        said.append("made again" if after is None else f"made again {after:.0f} s later")
    authorised = _value(finding, "authorised")
    if authorised.get("authorised"):
        said.append(f"authorised: {authorised.get('because')}")
    elif authorised.get("iac_agent"):
        said.append(f"user agent says {authorised['iac_agent']}")
    documented = _value(finding, "documented")
    if documented.get("documented"):
        said.append(f"change {documented.get('change')}")
    return said


def _value(finding: Mapping[str, Any], fact: str) -> Mapping[str, Any]:
    value = finding["facts"].get(fact, {}).get("value")
    return value if isinstance(value, Mapping) else {}
