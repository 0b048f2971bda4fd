"""Sigma filters: exceptions written in Sigma, which narrow the rules that they name. Pure.

In goes a `Document` with a `filter` section, out comes a `SigmaFilter`: the matcher of its condition, which an event must fulfil beside the
rule's own, and the rules it is for. A filter may name rules or `any`; correlations are narrowed through the rules that they watch.
Specification: https://sigmahq.io/sigma-specification/specification/sigma-filters-specification.html
"""

from __future__ import annotations

from dataclasses import dataclass

from sigma.exceptions import SigmaError
from sigma.rule import SigmaDetections

from worker.detect import detection, heading, rulefile
from worker.detect.detection import Placeholders
from worker.detect.document import Document
from worker.detect.sigma import Matcher

ANY = "any"
RULES = frozenset({"rules"})


@dataclass(frozen=True, slots=True)
class SigmaFilter:
    """`references` are ids, names or titles of rules; None for all of them."""

    references: tuple[str, ...] | None
    matcher: Matcher
    doc: Document


def read(doc: Document, placeholders: Placeholders) -> SigmaFilter | None:
    """The filter in a document; None, with the faults in the document, where it cannot be evaluated exactly."""
    heading.check(doc)
    rulefile.check_logsource(doc)
    detection.check(doc, "filter", beside=RULES)
    section = doc.data.get("filter")
    if doc.faults:
        return None
    rules = section.get("rules")
    named = [rules] if isinstance(rules, str) else rules
    if not isinstance(named, list) or not named or not all(isinstance(one, str) and one for one in named):
        doc.fault("a filter names the rules it is for: any, or a list of ids, names or titles", "filter", "rules")
        return None
    if not isinstance(section["condition"], str):
        doc.fault("a filter has one condition", "filter", "condition")
        return None
    try:
        parsed = SigmaDetections.from_dict({name: value for name, value in section.items() if name not in RULES})
    except SigmaError as fault:
        doc.fault(str(fault), "filter")
        return None
    matcher = detection.compiled(doc, "filter", parsed, placeholders)
    if matcher is None:
        return None
    return SigmaFilter(None if named[0].lower() == ANY and len(named) == 1 else tuple(named), matcher, doc)
