"""What stands around a rule's detection or correlation: who it is, how bad it is, our own keys and its tests. Pure.

In goes a `Document`; faults go into it, and out come the `Rule` that findings carry and the `Sample`s. A newcomer who teaches rules a
new key checks its shape in `own`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRuleBase

from worker.detect import levels
from worker.detect.document import Document
from worker.detect.fields import Event
from worker.model import CONDITIONS, Level, Rule, stable_id

TEXTS = ("id", "name", "description", "level", "status")
LISTS = ("references", "falsepositives", "tags")
ACTION = re.compile(r"[a-z]+(-[a-z]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sample:
    """Events that a rule's author wrote beside the rule, one but for a correlation, and whether the rule is to match them."""

    name: str
    match: bool
    events: tuple[Event, ...]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """The keys that are ours and not Sigma's."""

    samples: tuple[Sample, ...] = ()
    remediation: tuple[str, ...] = ()
    runbook: str | None = None
    level_when: Mapping[str, Level] | None = None
    only_when: tuple[str, ...] = ()


def check(doc: Document) -> None:
    """Put every fault of the shapes of Sigma's own keys into the document: pySigma takes some shapes that would fail later."""
    data = doc.data
    for key in TEXTS:
        if not isinstance(data.get(key) or "", str):
            doc.fault(f"{key} must be text", key)
    for key in LISTS:
        value = data.get(key) or []
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            doc.fault(f"{key} must be a list of texts", key)
    if not isinstance(data.get("title"), str) or not data["title"].strip():
        doc.fault("a rule needs a title", "title")
    if isinstance(data.get("id"), str):
        try:
            UUID(data["id"])
        except ValueError:
            doc.fault(f"the id '{data['id']}' is no UUID", "id")


def rule(parsed: SigmaRuleBase, own: Own) -> Rule:
    """What findings say about a rule. Without an id it gets one made of its title."""
    return Rule(
        id=str(parsed.id) if parsed.id is not None else stable_id("rule", parsed.title),
        title=parsed.title,
        level=Level(parsed.level.name.lower()) if parsed.level is not None else Level.INFORMATIONAL,
        description=(parsed.description or "").strip(),
        tags=tuple(str(tag) for tag in parsed.tags),
        references=tuple(parsed.references),
        falsepositives=tuple(parsed.falsepositives),
        remediation=own.remediation,
        runbook=own.runbook,
        level_when=own.level_when or {},
        only_when=own.only_when,
    )


def fault_key(error: SigmaError) -> str:
    """The key that one of pySigma's errors is about, from the name of its class: SigmaLevelError is about `level`."""
    name = type(error).__name__.removeprefix("Sigma").removesuffix("Error").lower()
    return {"identifier": "id", "tag": "tags", "condition": "detection", "value": "tags"}.get(name, name)


def own(doc: Document, events: str = "event") -> Own:
    """Our keys, with every fault of theirs in the document. `events` is the key under which a test holds its event, or list of events."""
    remediation, runbook, tests = (doc.data.get(key) for key in ("remediation", "runbook", "tests"))
    if remediation is None:
        remediation = []
    if not isinstance(remediation, list) or not all(isinstance(name, str) and ACTION.fullmatch(name) for name in remediation):
        doc.fault("remediation must be a list of names of actions, such as restore-instance-profile", "remediation")
        remediation = []
    elif len(set(remediation)) < len(remediation):
        doc.fault("remediation names an action twice", "remediation")
    if runbook is not None and (not isinstance(runbook, str) or not runbook.strip()):
        doc.fault("runbook must be text: an address or a path", "runbook")
        runbook = None
    if tests is None:
        tests = []
    if not isinstance(tests, list):
        doc.fault(f"tests must be a list of {{name, match, {events}}}", "tests")
        tests = []
    samples = [_sample(doc, number, test, events) for number, test in enumerate(tests)]
    level_when = levels.rows(doc, doc.data.get("level_when") or {}, "level_when")
    told = tuple(sample for sample in samples if sample is not None)
    return Own(told, tuple(remediation), runbook, level_when, _only_when(doc))


def _only_when(doc: Document) -> tuple[str, ...]:
    told = doc.data.get("only_when") or []
    if not isinstance(told, list) or not all(one in CONDITIONS for one in told):
        doc.fault(f"only_when must be a list of {', '.join(CONDITIONS)}", "only_when")
        return ()
    return tuple(told)


def _sample(doc: Document, number: int, test: Any, events: str) -> Sample | None:
    place = ("tests", number)
    if not isinstance(test, dict) or test.keys() != {"name", "match", events}:
        doc.fault(f"a test has exactly name, match and {events}", *place)
        return None
    several = test[events] if events == "events" else [test[events]]
    if not isinstance(test["name"], str) or not isinstance(test["match"], bool):
        doc.fault("a test's name is text, its match is true or false", *place)
        return None
    if not isinstance(several, list) or not several or not all(isinstance(event, dict) for event in several):
        doc.fault("a test's event is a mapping, its events a list of them", *place)
        return None
    try:
        # There and back, so that a rule is tested with what JSON can hold and nothing else.
        plain = tuple(orjson.loads(orjson.dumps(event)) for event in several)
    except (TypeError, ValueError) as fault:
        doc.fault(f"a test's {events} must be what JSON can hold: {fault}", *place, events)
        return None
    return Sample(test["name"], test["match"], plain, doc.line(*place))
