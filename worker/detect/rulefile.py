"""One Sigma rule: from its document to a `CompiledRule` and everything that is wrong with it. Pure.

In goes a `Document` that holds a rule for AWS CloudTrail; faults that would keep the rule from meaning what it says go into it, with the
line as near as can be told. Beside Sigma's own keys a rule may carry ours: `heading.py` and docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sigma.rule import SigmaRule

from worker.detect import detection, heading
from worker.detect.demands import Demands
from worker.detect.detection import Placeholders
from worker.detect.document import Document
from worker.detect.fields import Event
from worker.detect.heading import Sample
from worker.detect.sigma import Matcher, both_match
from worker.model import Rule


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule ready to match. `name` is what correlations and filters may call it, beside its id and title."""

    rule: Rule
    matcher: Matcher
    path: str
    line: int | None = None
    name: str | None = None
    samples: tuple[Sample, ...] = ()

    def matches(self, event: Event) -> bool:
        """Whether the rule's condition holds. What it raises is a fault of the rule, never "no match"."""
        return self.matcher.matches(event)

    @property
    def demands(self) -> Demands:
        """How the rule is indexed: every event that matches fulfils one of these."""
        return self.matcher.demands

    def within(self, filters: Iterable[Matcher]) -> CompiledRule:
        """The same rule, matching only what all these filters let through as well."""
        matcher = both_match([self.matcher, *filters])
        return CompiledRule(self.rule, matcher, self.path, self.line, self.name, self.samples)


def read(doc: Document, placeholders: Placeholders) -> CompiledRule | None:
    """The rule in a document; None, with the faults in the document, where it cannot be evaluated exactly."""
    own = heading.own(doc)
    heading.check(doc)
    check_logsource(doc)
    detection.check(doc)
    parsed = None if doc.faults else _parse(doc)
    matcher = None if parsed is None else detection.compiled(doc, "detection", parsed.detection, placeholders)
    if parsed is None or matcher is None:
        return None
    return CompiledRule(heading.rule(parsed, own), matcher, doc.path, doc.line("title"), parsed.name, own.samples)


def _parse(doc: Document) -> SigmaRule | None:
    """The rule as pySigma reads it, when it finds no fault."""
    try:
        parsed = SigmaRule.from_dict(doc.data, collect_errors=True)
    except Exception as fault:  # noqa: BLE001  # pySigma trips over some shapes; whichever, it is the file's fault
        doc.fault(f"pySigma cannot read this rule: {type(fault).__name__}: {fault}")
        return None
    for error in parsed.errors:
        doc.fault(str(error), heading.fault_key(error))
    return None if parsed.errors else parsed


def check_logsource(doc: Document) -> None:
    """Faults for a rule or filter that is not for CloudTrail."""
    logsource = doc.data.get("logsource")
    if not isinstance(logsource, dict):
        doc.fault("a rule needs a logsource (product: aws, service: cloudtrail)", "logsource")
        return
    product, service, category = (logsource.get(key) for key in ("product", "service", "category"))
    if str(product).lower() != "aws" or str(service or "cloudtrail").lower() != "cloudtrail" or category is not None:
        told = ", ".join(f"{key}: {logsource[key]}" for key in ("category", "product", "service") if key in logsource)
        doc.fault(f"only rules for product: aws, service: cloudtrail are taken; this one is for {told or 'nothing'}", "logsource")
