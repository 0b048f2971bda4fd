"""The tests that rules carry inside: pure.

In goes a rulebook, out comes one `SampleResult` for every sample of every rule. A sample is matched as a record of the worker's own would be,
index and all, so a rule that is never asked fails its test too.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.detect.rulebook import CompiledRule, Rulebook, Sample
from worker.model import Origin, Record


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What became of one sample; `text` says what went wrong, and is None when nothing did."""

    rule: CompiledRule
    sample: Sample
    text: str | None = None

    @property
    def passed(self) -> bool:
        return self.text is None


def run(rulebook: Rulebook) -> tuple[SampleResult, ...]:
    """Run every sample, in the order of rules and samples. Never raises."""
    return tuple(SampleResult(rule, sample, _wrong(rulebook, rule, sample)) for rule in rulebook.rules for sample in rule.samples)


def _wrong(rulebook: Rulebook, rule: CompiledRule, sample: Sample) -> str | None:
    matches = rulebook.match(Record(sample.event, Origin(path=rule.path)))
    for error in matches.errors:
        if error.rule_id == rule.rule.id:
            return f"the rule raised {error.text}"
    matched = any(finding.rule.id == rule.rule.id for finding in matches.findings)
    if matched == sample.match:
        return None
    return "the rule matches, and should not" if matched else "the rule does not match, and should"
