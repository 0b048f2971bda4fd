"""The detection of a rule, or of a Sigma filter: from its YAML to a matcher and everything that is wrong with it, with the line. Pure.

In goes a `Document` and the name of its section with named searches and a condition; faults go into the document. `check` looks at the
shapes, `compiled` at what pySigma made of them. What a value or a modifier means stands in `sigma.py` and `values.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigma.exceptions import SigmaError
from sigma.rule import SigmaDetectionItem, SigmaDetections

from worker.detect.document import Document, Place
from worker.detect.sigma import Matcher, as_filter, compile_detections, item_faults
from worker.detect.values import UnsupportedError

Placeholders = Mapping[str, tuple[str, ...]]


def check(doc: Document, section: str = "detection", beside: frozenset[str] = frozenset()) -> None:
    """Put every fault of a section's shape into the document; `beside` are its keys that are neither searches nor conditions.

    Each item is first parsed by itself, so that every fault is told, and with its line, which pySigma does not know.
    """
    detection = doc.data.get(section)
    if not isinstance(detection, dict):
        doc.fault(f"a {section} is needed: named searches and a condition", section)
        return
    condition = detection.get("condition")
    conditions = condition if isinstance(condition, list) else [condition]
    if not conditions or not all(isinstance(one, str) and one.strip() for one in conditions):
        doc.fault(f"a {section} needs a condition", section, "condition")
    if "timeframe" in detection:
        doc.fault("a timeframe is Sigma 1's way to count events: write a correlation", section, "timeframe")
    for name, definition in detection.items():
        if not isinstance(name, str):
            doc.fault(f"the name {name} of a search must be text", section)
        elif name not in ("condition", "timeframe") and name not in beside:
            _definition(doc, definition, section, name)


def _definition(doc: Document, definition: Any, *place: Place) -> None:
    if definition is None or definition in ({}, []):
        doc.fault("this search is empty", *place)
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


def compiled(doc: Document, section: str, detections: SigmaDetections, placeholders: Placeholders) -> Matcher | None:
    """The matcher of a section as pySigma parsed it; None, with the faults in the document, where something in it is beyond us."""
    faults = tuple(item_faults(detections, placeholders))
    for item in faults:
        steps = _steps(doc.data[section][item.detection], item.field)
        doc.fault(f"{item.field or 'keywords'}: {item.text}", section, item.detection, *steps)
    if faults:
        return None
    try:
        matcher = compile_detections(detections, placeholders)
        return matcher if section != "filter" else as_filter(matcher, f"filter '{doc.data['title']}' ({doc.path}:{doc.line('title')})")
    except (SigmaError, UnsupportedError) as fault:
        doc.fault(f"condition: {fault}", section, "condition")
        return None


def _steps(searches: Any, field: str | None) -> tuple[Place, ...]:
    """Where within a detection a field is first named."""

    def find(definition: Any) -> tuple[Place, ...] | None:
        if isinstance(definition, dict):
            return next(((key,) for key in definition if key.split("|")[0] == field), None)
        if isinstance(definition, list):
            return next(((number, *steps) for number, part in enumerate(definition) if (steps := find(part)) is not None), None)
        return None

    return (field is not None and find(searches)) or ()
