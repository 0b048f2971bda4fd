"""The tests that rules carry inside: pure.

In goes a rulebook, out comes one `SampleResult` for every sample of every rule. A sample is matched as a record of the worker's own would be,
index and all, so a rule that is never asked fails its test too.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.detect.correlation import Correlation
from worker.detect.heading import Sample
from worker.detect.offline import findings
from worker.detect.rulebook import Rulebook
from worker.detect.rulefile import CompiledRule
from worker.model import Origin, Record


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What became of one sample; `text` says what went wrong, and is None when nothing did."""

    rule: CompiledRule | Correlation
    sample: Sample
    text: str | None = None

    @property
    def passed(self) -> bool:
        return self.text is None


def run(rulebook: Rulebook) -> tuple[SampleResult, ...]:
    """Run every sample, in the order of rules and samples. Never raises."""
    every: list[CompiledRule | Correlation] = [*rulebook.rules, *rulebook.correlations]
    return tuple(SampleResult(rule, sample, _wrong(rulebook, rule, sample)) for rule in every for sample in rule.samples)


def _wrong(rulebook: Rulebook, rule: CompiledRule | Correlation, sample: Sample) -> str | None:
    records = [Record(event, Origin(path=rule.path)) for event in sample.events]
    if isinstance(rule, CompiledRule):
        try:
            matched = any(one is rule and one.matches(record.event) for record in records for one in rulebook.candidates(record))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this rule's alone
            return f"the rule raised {type(error).__name__}: {error}"
    else:
        matched = any(finding.rule.id == rule.rule.id for finding in findings(rulebook, records))
    if matched == sample.match:
        return None
    return "the rule matches, and should not" if matched else "the rule does not match, and should"
