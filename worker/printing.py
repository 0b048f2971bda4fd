"""Findings for people: rich tables from JSON-ready findings. Pure of any I/O but the console handed in.

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
from worker.model import WORSE, Level, is_dry_run
from worker.observe.ocsf import as_ocsf

LEVELS = tuple(one.value for one in Level)
LEVEL_STYLE = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan", "informational": "dim"}
PIPED_WIDTH = 200
"""Columns where standard output is no terminal: wide enough that nothing is cut for grep."""
MOST_NAMES = 5
"""Names of events that are told of a correlation; the most frequent ones."""


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
            level(finding["level"]),
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
        levels = Counter(finding["level"] for finding in findings)
        told = ", ".join(f"{levels[one]} {one}" for one in reversed(LEVELS) if levels[one])
        people.print(f"\n{len(findings)} findings{': ' if told else ''}{told}")
        return
    for finding in findings:
        value = as_ocsf(finding, __version__, now) if form == "ocsf" else finding
        stream.write(orjson.dumps(value, default=str).decode() + "\n")
    stream.flush()


def who(actor: Mapping[str, Any]) -> str:
    """The caller in as few words as tell it from others."""
    name = actor["name"] or actor["arn"] or ""
    session = f" ({actor['session']})" if actor.get("session") else ""
    return f"{actor['type']} {name}{session}".strip()


def remarks(finding: Mapping[str, Any]) -> list[str]:
    """What the facts say about a finding, in words; first of all what changed its level and what a correlation found."""
    said: list[str] = []
    if finding["level"] != finding["rule"]["level"]:
        said.append(f"{finding['rule']['level']} by its rule, but {' and '.join(_deciding(finding))}")
    if finding["correlation"] is not None:
        said.append(together(finding["correlation"]))
    error_code = finding["event"]["error_code"]
    if error_code:
        said.append("dry run: nothing was changed" if is_dry_run(error_code) else f"failed: {error_code}")
    if (told := power(_value(finding, "permissions"))) is not None:
        said.append(f"the caller can {told}")
    if behind := opened_by(finding):
        said.append(f"behind it {behind}")
    profile = _value(finding, "profile")
    last_role = profile.get("last_role")
    if finding["event"]["name"] == "DeleteInstanceProfile" and isinstance(last_role, Mapping):
        said.append(f"its role was {last_role.get('name')}")
    said += _made_again(_value(finding, "replaced"))
    authorised = _value(finding, "authorised")
    if authorised.get("authorised"):
        said.append(f"authorised: {authorised.get('because')}")
    elif authorised.get("iac_agent"):
        said.append(f"user agent says {authorised['iac_agent']}")
    documented = _value(finding, "documented")
    if documented.get("documented"):
        said.append(f"change {documented.get('change')}")
    return said


def power(permissions: Mapping[str, Any]) -> str | None:
    """What is remarkable about what somebody can do: `do everything`, `become an administrator by iam:PutUserPolicy`; else None."""
    administrator, means = permissions.get("administrator"), permissions.get("can_escalate")
    if isinstance(administrator, Mapping) and administrator.get("is") is True:
        return "do everything"
    if not isinstance(means, list) or not means:
        return None
    more = f" and {len(means) - MOST_NAMES} more" if len(means) > MOST_NAMES else ""
    return f"become an administrator by {', '.join(map(str, means[:MOST_NAMES]))}{more}"


def opened_by(finding: Mapping[str, Any]) -> str:
    """Who is behind a role session, the nearest first: `AssumedRole ci (run-7) < IAMUser eve`; empty where that is not known."""
    chain = _value(finding, "session").get("chain")
    links = [link for link in chain if isinstance(link, Mapping)] if isinstance(chain, list) else []
    return " < ".join(str(plain(who({name: link.get(name) for name in ("type", "name", "arn", "session")}))) for link in links)


def _deciding(finding: Mapping[str, Any]) -> list[str]:
    """The circumstances that changed the level: those that lower it, or those that raise it, which count only where it is raised."""
    raised = Level(finding["level"]).rank > Level(finding["rule"]["level"]).rank
    return [one for one in finding["circumstances"] if (one in WORSE) is raised]


def together(correlation: Mapping[str, Any]) -> str:
    """What a correlation found: `5 events in 3 min 10 s: DeleteInstanceProfile x5`, and by how many, in how many accounts, if several."""
    events, count = correlation["events"], correlation["count"]
    seconds = (datetime.fromisoformat(correlation["until"]) - datetime.fromisoformat(correlation["since"])).total_seconds()
    names = Counter(event["name"] for event in events)
    named = [f"{name} x{times}" if times > 1 else name for name, times in names.most_common(MOST_NAMES)]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    last = f", the last {len(events)}" if len(events) < count else ""
    told = f"{count} event{'' if count == 1 else 's'} in {duration(seconds)}{last}: {', '.join(named)}{more}"
    for members, words in (("actor", "by {} principals"), ("account", "in {} accounts")):
        several = len({event[members] for event in events})
        told += f", {words.format(several)}" if several > 1 else ""
    return told


def duration(seconds: float) -> str:
    """A span of time in its two largest units: `3 min 10 s`."""
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        whole, left = divmod(left, length)
        if whole:
            parts.append(f"{whole} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def _made_again(replaced: Mapping[str, Any]) -> list[str]:
    if not replaced.get("replaced"):
        return []
    after = replaced.get("after_seconds")
    told = "made again" if after is None else f"made again {after:.0f} s later"
    without = " without its role" if replaced.get("same_role") is False else ""
    return [told + without + (" by another principal" if replaced.get("same_principal") is False else "")]


def _value(finding: Mapping[str, Any], fact: str) -> Mapping[str, Any]:
    facts = finding.get("facts")
    told = facts.get(fact) if isinstance(facts, Mapping) else None
    value = told.get("value") if isinstance(told, Mapping) else None
    return value if isinstance(value, Mapping) else {}
