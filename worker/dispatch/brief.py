"""A finding, or a task that waits for people, in a few lines: pure.

In goes either as JSON (`wire.py`), out come a title and a text: how bad, who, what, with what impact, what next, and where the runbook is; or what is to be
done, whom it hits, how it is undone, until when it waits and what to type. Names and
agents in it are somebody else's words: they are cut, kept to one line, and what a chat would take for a call to everybody is taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST_CHARACTERS = 200
MOST_STEPS = 5
"""Of a plan, in what somebody reads on a telephone."""
_CALLS = re.compile(r"@(?=channel|here|everyone|all\b|room)", re.IGNORECASE)
_BRACKETS = str.maketrans("<>", "()")


def title(finding: Mapping[str, Any]) -> str:
    """How bad, what, and of whom."""
    if _waits(finding):
        target = _of(finding, "target")
        about = " ".join(_said(target.get(name)) for name in ("type", "name"))
        return f"APPROVAL WANTED {_said(finding.get('action'))}: {about} in {_said(target.get('account'))}"
    subject = _of(finding, "subject")
    where = _said(subject.get("account") or _of(finding, "event").get("account"))
    about = f": {_said(subject['name'])}" if subject.get("name") else ""
    update = "Update: " if finding.get("update") else ""
    return (
        f"{update}{_said(finding.get('level')).upper()} {_said(_of(finding, 'rule').get('title'))}{about}{f' in {where}' if where else ''}"
    )


def text(finding: Mapping[str, Any]) -> str:
    """The lines below the title."""
    lines = _asking(finding) if _waits(finding) else _lines(finding)
    return "\n".join(f"{name}: {told}" for name, told in lines if told)


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


def _asking(approval: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    finding = _of(approval, "finding")
    actor, event, rule = (_of(finding, name) for name in ("actor", "event", "rule"))
    yield "Because", f"{_said(rule.get('level')).upper()} {_said(rule.get('title'))}"
    yield "Who", " ".join(_said(one) for one in (actor.get("type"), actor.get("arn") or actor.get("name")) if one)
    yield "What", f"{_said(event.get('name'))} at {_said(event.get('time')) or 'an unknown time'}"
    plan = approval.get("plan") or []
    for step in plan[:MOST_STEPS]:
        yield "Plan", _said(step.get("says")) + (" (irreversible)" if step.get("irreversible") else "")
    more = int(approval.get("steps") or 0) - min(len(plan), MOST_STEPS)
    yield "Plan", f"{more} steps more" if more > 0 else ""
    for effect in approval.get("effects") or ():
        yield "Hits", _said(effect)
    yield "Undo", _said(approval.get("undoing"))
    people = approval.get("needed")
    yield "Until", f"{_said(approval.get('expires_at'))}, {people} {'person has' if people == 1 else 'people have'} to agree"
    yield "Type", _said(_of(approval, "commands").get("approve"))
    yield "Runbook", _said(rule.get("runbook"))


def _waits(told: Mapping[str, Any]) -> bool:
    return told.get("schema") == "trailmend.approval/1"


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
