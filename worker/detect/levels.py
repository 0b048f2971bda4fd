"""Tables of levels: which level a finding takes in which circumstance, as a rule's author wrote it and as a house changes it. Pure.

In goes a `Document` with `levels`, a mapping of rules (by id, name or title, or `*` for every one) to rows `{circumstance: level}`; out come
rules with those rows over their own, so that nobody copies a rule to change when it pages. What stands under a rule's own name comes
before what stands under `*`. Faults go into the document. How the rows combine is `Rule.level_in`: docs/rules.md, Levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from worker.detect.document import Document, Place
from worker.model import CIRCUMSTANCES, Level, Rule

EVERY = "*"


@dataclass(frozen=True, slots=True)
class Override:
    """What a document says of one rule, or of every one; `reference` is as it is written there."""

    reference: str
    rows: Mapping[str, Level]
    doc: Document
    place: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A level of a house's own, and the file and line where it stands."""

    level: Level
    told_at: str


Tables = Mapping[str, Mapping[str, Row]]
"""The rows that a house sets, by circumstance, under each rule's id and under `*`."""


def rows(doc: Document, told: Any, *place: Place) -> Mapping[str, Level]:
    """A mapping of circumstances to levels; empty, with the faults in the document, where it is none."""
    levels = [one.value for one in Level]
    called = place[0] if len(place) == 1 else f"what {place[0]} has for '{place[-1]}'"
    if not isinstance(told, dict):
        doc.fault(f"{called} must be a mapping of {', '.join(CIRCUMSTANCES)} to levels", *place)
        return {}
    before = len(doc.faults)
    for circumstance, level in told.items():
        if circumstance not in CIRCUMSTANCES:
            doc.fault(f"{place[0]} knows {', '.join(CIRCUMSTANCES)}, not '{circumstance}'", *place, circumstance)
        if level not in levels:
            doc.fault(f"'{level}' is none of the levels {', '.join(levels)}", *place, circumstance)
    return {} if len(doc.faults) > before else {circumstance: Level(level) for circumstance, level in told.items()}


def read(doc: Document) -> Iterator[Override]:
    """What a document says of the levels of rules."""
    told = doc.data["levels"]
    if len(doc.data) > 1:
        doc.fault("levels stand in a document of their own")
    if not isinstance(told, dict):
        doc.fault("levels must be a mapping of rules, or * for every one, to {circumstance: level}", "levels")
        return
    for reference, table in told.items():
        if not isinstance(reference, str):
            doc.fault(f"'{reference}' is no id, name or title of a rule: put it in quotes", "levels")
            continue
        yield Override(reference, rows(doc, table, "levels", reference), doc, ("levels", reference))


def tables(overrides: Iterable[Override], ids: Mapping[str, str]) -> Tables:
    """The rows of each rule; `ids` has the id that each reference leads to. A row that is given twice is a fault in the later document."""
    found: dict[str, dict[str, Row]] = {}
    for one in overrides:
        table = found.setdefault(ids.get(one.reference, one.reference), {})
        for circumstance, level in one.rows.items():
            before = table.get(circumstance)
            if before is not None:
                one.doc.fault(
                    f"the level of '{circumstance}' for {one.reference} also stands at {before.told_at}", *one.place, circumstance
                )
            else:
                table[circumstance] = Row(level, f"{one.doc.path}:{one.doc.line(*one.place, circumstance)}")
    return found


def of_rule(rule: Rule, house: Tables) -> Mapping[str, Row]:
    """The rows that a house sets for a rule, those for every rule among them."""
    return {**house.get(EVERY, {}), **house.get(rule.id, {})}


def applied(rule: Rule, house: Tables) -> Rule:
    """The rule with a house's rows over its own."""
    own = of_rule(rule, house)
    return replace(rule, level_when={**rule.level_when, **{name: row.level for name, row in own.items()}}) if own else rule
