"""One rule file: from its text to compiled rules and everything that is wrong with them. Pure.

In go a path (for messages) and the text of a file with one or several YAML documents, each a Sigma rule for AWS CloudTrail; out come its
`CompiledRule`s and a `RuleFault` for each thing that would keep a rule from meaning what it says, with the line as near as can be told.
One bad document spoils no other. Beside Sigma's own keys a rule may carry `remediation`, `runbook` and `tests`: docs/rules.md.
A newcomer who teaches rules a new key checks its shape in `_extras`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sigma.exceptions import SigmaError
from sigma.rule import SigmaDetectionItem, SigmaRule

from worker.detect import document
from worker.detect.demands import Demands
from worker.detect.document import Document, Place, RuleFault
from worker.detect.fields import Event
from worker.detect.sigma import Predicate, compile_rule, item_faults
from worker.detect.values import UnsupportedError
from worker.model import Level, Rule, stable_id

NOT_RULES = {
    "correlation": "correlation rules are not supported: a rule here looks at one event",
    "filter": "Sigma filters are not supported: write the exception into the rule's condition",
    "action": "collection actions (global, reset, repeat) are not supported: write each rule out",
}
TEXTS = ("id", "description", "level", "status")
LISTS = ("references", "falsepositives", "tags")
EXACT = frozenset({"detection", "tests"})
ACTION = re.compile(r"[a-z]+(-[a-z]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sample:
    """An event that its rule's author wrote beside the rule, and whether the rule is to match it."""

    name: str
    match: bool
    event: Event
    line: int | None = None


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule ready to match. `demands` is how it is indexed: every event that matches fulfils one of these."""

    rule: Rule
    predicate: Predicate
    demands: Demands
    path: str
    line: int | None = None
    samples: tuple[Sample, ...] = ()

    def matches(self, event: Event) -> bool:
        """Whether the rule's condition holds. What it raises is a fault of the rule, never "no match"."""
        return self.predicate(event)

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """The demands that are a literal eventSource with a literal eventName, in lower case."""
        return frozenset((source, name) for source, name, _ in self.demands if source is not None and name is not None)


def read(path: str, text: str) -> tuple[tuple[CompiledRule, ...], tuple[RuleFault, ...]]:
    """Every good rule in a file's text, and every fault. Empty documents are passed over."""
    documents, faults = document.read(path, text)
    rules = tuple(rule for one in documents if (rule := _rule(one)) is not None)
    return rules, (*(fault for one in documents for fault in one.faults), *faults)


def _rule(doc: Document) -> CompiledRule | None:
    data = doc.data
    if doc.faults:
        return None
    if not isinstance(data, dict) or not data.keys() & {"title", "logsource", "detection", *NOT_RULES}:
        doc.fault("this is no Sigma rule: it has none of title, logsource and detection")
        return None
    unsupported = [key for key in NOT_RULES if key in data]
    if unsupported:
        doc.fault(NOT_RULES[unsupported[0]], unsupported[0])
        return None
    doc.spelling(EXACT)
    samples, remediation, runbook = _extras(doc)
    _metadata(doc)
    _logsource(doc)
    _detection(doc)
    rule = None if doc.faults else _parse(doc)
    if rule is None or doc.faults:
        return None
    try:
        matcher = compile_rule(rule)
    except (SigmaError, UnsupportedError) as fault:
        doc.fault(f"condition: {fault}", "detection", "condition")
        return None
    return CompiledRule(
        rule=Rule(
            id=str(rule.id) if rule.id is not None else stable_id("rule", rule.title),
            title=rule.title,
            level=Level(rule.level.name.lower()) if rule.level is not None else Level.INFORMATIONAL,
            description=(rule.description or "").strip(),
            tags=tuple(str(tag) for tag in rule.tags),
            references=tuple(rule.references),
            falsepositives=tuple(rule.falsepositives),
            remediation=remediation,
            runbook=runbook,
        ),
        predicate=matcher.matches,
        demands=matcher.demands,
        path=doc.path,
        line=doc.line("title"),
        samples=samples,
    )


def _parse(doc: Document) -> SigmaRule | None:
    """The rule as pySigma reads it, when nothing in it is beyond us."""
    try:
        rule = SigmaRule.from_dict(doc.data, collect_errors=True)
    except Exception as fault:  # noqa: BLE001  # pySigma trips over some shapes; whichever, it is the file's fault
        doc.fault(f"pySigma cannot read this rule: {type(fault).__name__}: {fault}")
        return None
    for error in rule.errors:
        doc.fault(str(error), _key(error))
    if rule.errors:
        return None
    for item in item_faults(rule):
        doc.fault(f"{item.field or 'keywords'}: {item.text}", "detection", item.detection, *_steps(doc, item.detection, item.field))
    return rule


def _key(error: SigmaError) -> str:
    """The key that one of pySigma's errors is about, from the name of its class: SigmaLevelError is about `level`."""
    name = type(error).__name__.removeprefix("Sigma").removesuffix("Error").lower()
    return {"identifier": "id", "tag": "tags", "condition": "detection", "value": "tags"}.get(name, name)


def _steps(doc: Document, detection: str, field: str | None) -> tuple[Place, ...]:
    """Where within a detection a field is first named."""

    def find(definition: Any) -> tuple[Place, ...] | None:
        if isinstance(definition, dict):
            return next(((key,) for key in definition if key.split("|")[0] == field), None)
        if isinstance(definition, list):
            return next(((number, *steps) for number, part in enumerate(definition) if (steps := find(part)) is not None), None)
        return None

    return (field is not None and find(doc.data["detection"][detection])) or ()


# Shapes.


def _metadata(doc: Document) -> None:
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


def _logsource(doc: Document) -> None:
    logsource = doc.data.get("logsource")
    if not isinstance(logsource, dict):
        doc.fault("a rule needs a logsource (product: aws, service: cloudtrail)", "logsource")
        return
    product, service, category = (logsource.get(key) for key in ("product", "service", "category"))
    if str(product).lower() != "aws" or str(service or "cloudtrail").lower() != "cloudtrail" or category is not None:
        told = ", ".join(f"{key}: {logsource[key]}" for key in ("category", "product", "service") if key in logsource)
        doc.fault(f"only rules for product: aws, service: cloudtrail are taken; this one is for {told or 'nothing'}", "logsource")


def _detection(doc: Document) -> None:
    """Each item is first parsed by itself, so that every fault is told, and with its line, which pySigma does not know."""
    detection = doc.data.get("detection")
    if not isinstance(detection, dict):
        doc.fault("a rule needs a detection", "detection")
        return
    condition = detection.get("condition")
    conditions = condition if isinstance(condition, list) else [condition]
    if not conditions or not all(isinstance(one, str) and one.strip() for one in conditions):
        doc.fault("a detection needs a condition", "detection", "condition")
    if "timeframe" in detection:
        doc.fault("a timeframe goes with counting events, which is not supported", "detection", "timeframe")
    for name, definition in detection.items():
        if not isinstance(name, str):
            doc.fault(f"the name {name} of a detection must be text", "detection")
        elif name not in ("condition", "timeframe"):
            _definition(doc, definition, "detection", name)


def _definition(doc: Document, definition: Any, *place: Place) -> None:
    if definition is None or definition in ({}, []):
        doc.fault("this detection is empty", *place)
    elif isinstance(definition, list) and any(isinstance(part, (dict, list)) for part in definition):
        for number, part in enumerate(definition):
            _definition(doc, part, *place, number)
    elif isinstance(definition, dict):
        for key, value in definition.items():
            _item(doc, key, value, *place)
    else:
        _item(doc, None, definition, *place)


def _item(doc: Document, key: Any, value: Any, *place: Place) -> None:
    values = value if isinstance(value, list) else [value]
    if key is None:
        key_text, where = "keywords", place
    elif isinstance(key, str):
        key_text, where = key, (*place, key)
    else:
        doc.fault(f"the field name {key} must be text", *place)
        return
    if key is not None and "re" in key.split("|")[1:] and not all(isinstance(one, str) for one in values):
        doc.fault(f"{key_text}: a regular expression must be text", *where)
        return
    try:
        SigmaDetectionItem.from_mapping(key, value)
    except Exception as fault:  # noqa: BLE001  # as above
        doc.fault(f"{key_text}: {fault}", *where)


def _extras(doc: Document) -> tuple[tuple[Sample, ...], tuple[str, ...], str | None]:
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
        doc.fault("tests must be a list of {name, match, event}", "tests")
        tests = []
    samples = [_sample(doc, number, test) for number, test in enumerate(tests)]
    return tuple(sample for sample in samples if sample is not None), tuple(remediation), runbook


def _sample(doc: Document, number: int, test: Any) -> Sample | None:
    place = ("tests", number)
    if not isinstance(test, dict) or test.keys() != {"name", "match", "event"}:
        doc.fault("a test has exactly name, match and event", *place)
        return None
    if not isinstance(test["name"], str) or not isinstance(test["match"], bool) or not isinstance(test["event"], dict):
        doc.fault("a test's name is text, its match is true or false, its event is a mapping", *place)
        return None
    try:
        # There and back, so that a rule is tested with what JSON can hold and nothing else.
        event = orjson.loads(orjson.dumps(test["event"]))
    except (TypeError, ValueError) as fault:
        doc.fault(f"a test's event must be what JSON can hold: {fault}", *place, "event")
        return None
    return Sample(test["name"], test["match"], event, doc.line(*place))
