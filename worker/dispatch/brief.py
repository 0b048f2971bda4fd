"""A finding in a few lines, for people: pure.

In goes a finding as JSON (`wire.py`), out come a title and a text: how bad, who, what, with what impact, what next, and where the runbook is. Names and
agents in it are somebody else's words: they are cut, kept to one line, and what a chat would take for a call to everybody is taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST_CHARACTERS = 200
_CALLS = re.compile(r"@(?=channel|here|everyone|all\b|room)", re.IGNORECASE)
_BRACKETS = str.maketrans("<>", "()")


def title(finding: Mapping[str, Any]) -> str:
    """How bad, what, and of whom."""
    subject = _of(finding, "subject")
    where = _said(subject.get("account") or _of(finding, "event").get("account"))
    about = f": {_said(subject['name'])}" if subject.get("name") else ""
    update = "Update: " if finding.get("update") else ""
    return (
        f"{update}{_said(finding.get('level')).upper()} {_said(_of(finding, 'rule').get('title'))}{about}{f' in {where}' if where else ''}"
    )


def text(finding: Mapping[str, Any]) -> str:
    """The lines below the title."""
    return "\n".join(f"{name}: {told}" for name, told in _lines(finding) if told)


def _lines(finding: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    actor, event, rule, subject = (_of(finding, name) for name in ("actor", "event", "rule", "subject"))
    facts = _of(finding, "facts")
    identity = _said(_of(_of(facts, "identity"), "value").get("words"))
    yield "Who", identity or " ".join(_said(one) for one in (actor.get("type"), actor.get("arn") or actor.get("name")) if one)
    mfa = {"True": "with MFA", "False": "without MFA"}.get(str(actor.get("mfa")), "")
    yield "From", ", ".join(one for one in (_said(actor.get("source_ip")), mfa) if one)
    failed = f" (failed: {_said(event.get('error_code'))})" if event.get("error_code") else ""
    about = " ".join(_said(subject.get(name)) for name in ("type", "name") if subject.get(name))
    yield "What", f"{_said(event.get('name'))} on {about or 'unknown'} at {_said(event.get('time')) or 'an unknown time'}{failed}"
    together = _of(finding, "correlation").get("count")
    yield "Together", f"{together} events" if together else ""
    yield "Impact", _impact(_of(_of(facts, "impact"), "value"))
    yield "Circumstances", ", ".join(_said(one) for one in finding.get("circumstances") or ())
    yield "Next", "; ".join(_next(finding))
    yield "Runbook", _said(rule.get("runbook"))
    yield "Finding", _said(finding.get("id"))


def _impact(told: Mapping[str, Any]) -> str:
    running = told.get("running")
    if isinstance(running, int):
        return f"{running} running instances depend on it"
    return f"{_said(told.get('band'))} running instances depend on it" if told.get("band") is not None else ""


def _next(finding: Mapping[str, Any]) -> Iterator[str]:
    for task in finding.get("tasks") or ():
        yield f"{_said(task.get('action'))} was asked of the executor"
    for withheld in finding.get("withheld") or ():
        yield f"{_said(withheld.get('action'))} was withheld, {_said(withheld.get('reason'))}"
    if not finding.get("complete", True):
        yield "facts are still being asked for, an update follows"


def _of(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name)
    return value if isinstance(value, Mapping) else {}


def _said(value: object) -> str:
    """Somebody else's words on one line, harmless in a chat."""
    if value is None:
        return ""
    line = "".join(one if one.isprintable() else " " for one in str(value)[: MOST_CHARACTERS + 1]).translate(_BRACKETS)
    line = _CALLS.sub("@\u200b", line)
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}…"
