"""One Sigma correlation rule: from its document to a `Correlation` and everything that is wrong with it. Pure.

In goes a `Document` with a `correlation` section, out comes a `Draft`; once all rules are known, `resolve` follows its references. Faults that
would keep it from meaning what it says go into the document.
Specification: https://sigmahq.io/sigma-specification/specification/sigma-correlation-rules-specification.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)

from worker.detect import heading
from worker.detect.correlation import OPERATORS, Correlation, Kind, Threshold, Watch
from worker.detect.document import Document
from worker.detect.fields import reader
from worker.detect.heading import Sample
from worker.model import Rule, stable_id

LONGEST_TIMESPAN = timedelta(days=366)

COUNTING = frozenset({Kind.EVENT_COUNT, Kind.VALUE_COUNT, Kind.TEMPORAL})
TEMPORAL = frozenset({Kind.TEMPORAL, Kind.TEMPORAL_ORDERED})

RISING = frozenset({"gt", "gte"})
"""Once true of a count, true of every higher one."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A correlation whose references are not yet known to lead anywhere. `references` are as written: ids, names or titles."""

    parsed: SigmaCorrelationRule
    rule: Rule
    references: tuple[str, ...]
    samples: tuple[Sample, ...]
    doc: Document

    @property
    def name(self) -> str | None:
        """What correlations may call it, beside its id and title."""
        return self.parsed.name

    @property
    def aliased(self) -> frozenset[str]:
        """The references that its aliases are for, as written."""
        return frozenset(one.reference for alias in self.parsed.aliases.aliases.values() for one in alias.mapping)

    @property
    def path(self) -> str:
        return self.doc.path

    @property
    def line(self) -> int:
        return self.doc.line("title")


def read(doc: Document) -> Draft | None:
    """The correlation in a document; None, with the faults in the document, where it cannot be evaluated exactly."""
    own = heading.own(doc, "events")
    heading.check(doc)
    section = doc.data["correlation"]
    if not isinstance(section, dict):
        doc.fault("correlation must be a mapping with type, rules, timespan and condition", "correlation")
    else:
        _check(doc, section)
    if doc.faults:
        return None
    try:
        parsed = SigmaCorrelationRule.from_dict(doc.data, collect_errors=True)
        for error in parsed.errors:
            doc.fault(str(error), "correlation")
    except Exception as fault:  # noqa: BLE001  # pySigma trips over some shapes; whichever, it is the file's fault
        doc.fault(f"correlation: {fault}", "correlation")
    if doc.faults:
        return None
    extended = parsed.condition if isinstance(parsed.condition, SigmaExtendedCorrelationCondition) else None
    named = extended.get_referenced_rules() if parsed.rules is None and extended is not None else None
    references = tuple(named if named is not None else [one.reference for one in parsed.rules or ()])
    draft = Draft(parsed, heading.rule(parsed, own), references, own.samples, doc)
    _check_meaning(draft)
    return None if doc.faults else draft


def _check(doc: Document, section: Mapping[str, Any]) -> None:
    """Shapes that pySigma takes and that would mean something else, or fail later."""
    known = {"type", "rules", "generate", "group-by", "timespan", "aliases", "condition"}
    for key in section:
        if key not in known:
            doc.fault(f"a correlation has no '{key}': it has {', '.join(sorted(known))}", "correlation", key)
    for key in ("rules", "group-by"):
        value = section.get(key)
        if isinstance(value, list) and not (value and all(isinstance(one, str) and one for one in value)):
            doc.fault(f"{key} must be a list of texts", "correlation", key)
    condition = section.get("condition")
    if isinstance(condition, dict):
        for key, value in condition.items():
            if key in OPERATORS and (isinstance(value, bool) or not isinstance(value, (int, float))):
                doc.fault(f"{key} must be a number", "correlation", "condition", key)
            if key == "percentile" and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100):
                doc.fault("percentile must be a whole number from 0 to 100", "correlation", "condition", key)
            if key == "field" and not (
                isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(f, str) for f in value))
            ):
                doc.fault("field must be text, or a list of texts", "correlation", "condition", key)


def _check_meaning(draft: Draft) -> None:
    parsed, doc = draft.parsed, draft.doc
    kind, condition = Kind(parsed.type.name.lower()), parsed.condition
    if not draft.references:
        doc.fault("a correlation needs rules to watch", "correlation", "rules")
    if len(set(draft.references)) < len(draft.references) and kind is not Kind.TEMPORAL_ORDERED:
        doc.fault("rules names a rule twice", "correlation", "rules")
    if parsed.timespan.seconds > LONGEST_TIMESPAN.total_seconds():
        doc.fault(f"a timespan of more than {LONGEST_TIMESPAN.days} days is not supported", "correlation", "timespan")
    place = ("correlation", "condition")
    if isinstance(condition, SigmaCorrelationCondition):
        for text in _threshold_faults(kind, condition, len(draft.references)):
            doc.fault(text, *place)
    elif kind is Kind.TEMPORAL_ORDERED and not _is_sequence(condition.parsed):
        doc.fault("a condition of temporal_ordered may only join rules with `and`: `or` and `not` have no order", *place)
    elif kind is Kind.TEMPORAL_ORDERED and tuple(condition.get_referenced_rules()) != draft.references:
        doc.fault("rules and condition name the rules in different orders: leave one of them away", *place)


def _threshold_faults(kind: Kind, condition: SigmaCorrelationCondition, rules: int) -> Iterator[str]:
    whole = (condition.op.name.lower(), condition.count) in (("gte", rules), ("eq", rules))
    if kind is Kind.TEMPORAL_ORDERED and not whole:
        yield f"temporal_ordered needs all its rules: leave the condition away, or write gte: {rules}"
    if kind is Kind.VALUE_PERCENTILE and condition.percentile is None:
        yield "value_percentile needs a percentile in its condition"
    if kind is not Kind.VALUE_PERCENTILE and condition.percentile is not None:
        yield f"a percentile has no use for {kind}"
    if condition.fieldref and kind in (Kind.EVENT_COUNT, *TEMPORAL):
        yield f"a field has no use for {kind}: count its values with value_count"
    if isinstance(condition.fieldref, list) and len(condition.fieldref) > 1 and kind is not Kind.VALUE_COUNT:
        yield f"{kind} measures one field"


def resolve(draft: Draft, ids: Mapping[str, str]) -> Correlation | None:
    """The correlation, its references (each key of `ids`: the id of what it leads to) followed. Faults go into its document."""
    parsed, doc = draft.parsed, draft.doc
    watched = {ids[one] for one in draft.references}
    for alias, mapping in parsed.aliases.aliases.items():
        for reference in mapping.mapping:
            if ids.get(reference.reference) not in watched:
                doc.fault(f"the alias names '{reference.reference}', which is none of the rules", "correlation", "aliases", alias)
    if doc.faults:
        return None
    kind, condition, rules = Kind(parsed.type.name.lower()), parsed.condition, tuple(ids[one] for one in draft.references)
    aliases = {
        alias: {ids[one.reference]: field for one, field in mapping.mapping.items()} for alias, mapping in parsed.aliases.aliases.items()
    }
    group_by = tuple(parsed.group_by or ())
    for name in group_by:
        for rule in rules if name in aliases else ():
            if rule not in aliases[name]:
                doc.fault(f"the alias '{name}' says nothing for one of the rules ({rule})", "correlation", "aliases", name)
                return None
    fields: tuple[str, ...] = ()
    expression, closing, threshold = None, False, Threshold("gte", len(rules))
    if isinstance(condition, SigmaCorrelationCondition):
        fieldref = condition.fieldref
        fields = tuple(fieldref) if isinstance(fieldref, list) else (fieldref,) if fieldref else ()
        threshold = Threshold(condition.op.name.lower(), condition.count, condition.percentile)
        closing = kind is not Kind.TEMPORAL_ORDERED and not (kind in COUNTING and threshold.op in RISING)
    else:
        expression = _expression(condition.parsed, ids)
        closing = _has_not(condition.parsed)
    told = _told(kind, condition, parsed, fields)
    meaning = [kind, parsed.timespan.spec, told, *rules, *group_by, orjson.dumps(aliases, option=orjson.OPT_SORT_KEYS).decode()]
    return Correlation(
        rule=draft.rule,
        kind=kind,
        rules=rules,
        watches={
            rule: Watch(
                tuple(reader(aliases.get(name, {}).get(rule, name)) for name in group_by),
                tuple(reader(aliases.get(field, {}).get(rule, field)) for field in fields),
            )
            for rule in rules
        },
        group_by=group_by,
        timespan=timedelta(seconds=parsed.timespan.seconds),
        threshold=threshold,
        expression=expression,
        closing=closing,
        generate=parsed.generate,
        fingerprint=stable_id("correlation", draft.rule.id, *meaning),
        told=told,
        path=doc.path,
        line=doc.line("title"),
        name=parsed.name,
        samples=draft.samples,
    )


# Conditions.


def _expression(node: Any, ids: Mapping[str, str]) -> Callable[[frozenset[str]], bool]:
    if isinstance(node, SigmaRuleReference):
        rule = ids[node.reference]
        return lambda seen: rule in seen
    parts = [_expression(part, ids) for part in node.args]
    if isinstance(node, CorrelationConditionNOT):
        (part,) = parts
        return lambda seen: not part(seen)
    join = all if isinstance(node, CorrelationConditionAND) else any
    return lambda seen: join(part(seen) for part in parts)


def _has_not(node: Any) -> bool:
    return isinstance(node, CorrelationConditionNOT) or any(_has_not(part) for part in getattr(node, "args", ()))


def _is_sequence(node: Any) -> bool:
    return not isinstance(node, (CorrelationConditionNOT, CorrelationConditionOR)) and all(
        _is_sequence(p) for p in getattr(node, "args", ())
    )


def _told(
    kind: Kind,
    condition: SigmaCorrelationCondition | SigmaExtendedCorrelationCondition,
    parsed: SigmaCorrelationRule,
    fields: Sequence[str],
) -> str:
    """The condition in words, for people."""
    span = f"within {parsed.timespan.spec}"
    if isinstance(condition, SigmaExtendedCorrelationCondition):
        return f"{kind}: {condition.expression} {span}"
    percentile = "" if condition.percentile is None else f" {condition.percentile}"
    of = f" of {', '.join(fields)}" if fields else ""
    return f"{kind}{percentile}{of} {condition.op.name.lower()} {condition.count} {span}"
