"""Rules for people: a table of all, one as its author would tell it, and what became of it for an event. Pure: values in, rich text out.

Lines are made to be searched: one thing a line, never folded. As in `printing.py`, everything from a rule or a record is printed as text
without control characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from worker.detect import catalogue
from worker.detect.catalogue import Entry
from worker.detect.correlation import Correlation
from worker.detect.explanation import Claim, Node, Outcome, missing
from worker.detect.fields import json_text
from worker.detect.groups import Seen
from worker.detect.levels import of_rule
from worker.detect.rulebook import Rulebook
from worker.detect.rulefile import CompiledRule
from worker.detect.suppression import Suppression
from worker.model import CIRCUMSTANCES, Record, Rule
from worker.printing import level, plain

MOST_EVENTS = 40
"""Indexed events that are named before the others are counted."""
MOST_FOUND = 3
LONGEST_FOUND = 80
"""Values of a field, and characters of one, that are shown of an event."""
MOST_SIGHTINGS = 20
"""Sightings of one group that are shown; the first ones."""


def rules_table(rulebook: Rulebook) -> Table:
    """Rules and correlations as rows: level, what it finds, what it is asked of, whether that is everything, how many tests, its id."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("LEVEL", "RULE", "EVENTS", "UNINDEXED", "TESTS", "ID"):
        table.add_column(title, overflow="fold")
    titles = catalogue.titles(rulebook)
    for one in catalogue.entries(rulebook):
        marks = _marks(rulebook, one)
        marked = Text.assemble(plain(one.rule.title), (f" ({', '.join(marks)})" if marks else "", "dim"))
        if isinstance(one, CompiledRule):
            unindexed = one in rulebook.unindexed
            events = "every record" if unindexed else ", ".join(_events(one))
        else:
            unindexed, events = False, f"{one.kind} of {', '.join(titles[rule] for rule in one.rules)}"
        table.add_row(
            level(one.rule.level.value), marked, plain(events), "yes" if unindexed else "", str(len(one.samples)), plain(one.rule.id)
        )
    return table


def _marks(rulebook: Rulebook, entry: Entry) -> list[str]:
    marks = ["silent"] if entry.rule.id in rulebook.silent else []
    return [*marks, "filtered"] if isinstance(entry, CompiledRule) and entry.matcher.filters else marks


def _events(rule: CompiledRule) -> list[str]:
    return sorted(_event(*demand) for demand in rule.demands)


def _event(source: str | None, name: str | None, identity: str | None) -> str:
    by = f" by {identity}" if identity is not None else ""
    return f"{(source or '*').removesuffix('.amazonaws.com')}:{name or '*'}{by}"


# One rule.


def told(rulebook: Rulebook, entry: Entry, now: datetime) -> Iterator[Text]:
    """All that there is to say about a rule or correlation, as lines."""
    rule = entry.rule
    yield Text.assemble((plain(rule.title).plain, "bold"))
    yield _line("id", rule.id)
    if entry.name:
        yield _line("name", entry.name)
    yield from _levels(rulebook, rule)
    if rule.only_when:
        yield _line("told only when", ", ".join(rule.only_when))
    yield _line("file", f"{entry.path}:{entry.line}")
    for label, texts in (
        ("description", (rule.description,)),
        ("tags", (", ".join(rule.tags),)),
        ("reference", rule.references),
        ("false positives", ("; ".join(rule.falsepositives),)),
        ("remediation", (", ".join(rule.remediation),)),
        ("runbook", (rule.runbook or "",)),
    ):
        yield from (_line(label, text) for text in texts if text)
    yield _line("tests", str(len(entry.samples)))
    titles = catalogue.titles(rulebook)
    if isinstance(entry, CompiledRule):
        yield _line("index", _indexed(entry))
        yield from (_line("narrowed by", name) for name in entry.matcher.filters)
    else:
        yield from _correlation(entry, titles)
    yield from (_line("watched by", f"{one.rule.title} ({one.rule.id})") for one in rulebook.watching.get(rule.id, ()))
    if rule.id in rulebook.silent:
        yield _line("silent", "it only serves correlations and makes no findings of its own")
    yield from (_line("suppressed by", _suppression(one, now)) for one in catalogue.suppressions(rulebook, entry))
    if isinstance(entry, CompiledRule):
        yield Text("condition", style="bold")
        yield from _tree(entry.matcher.tree, 1)


def _levels(rulebook: Rulebook, rule: Rule) -> Iterator[Text]:
    """The table of levels in force, a circumstance a line, with the place of what this house wrote into it."""
    yield Text.assemble(_label("level"), level(rule.level.value))
    house = of_rule(rule, rulebook.house)
    for circumstance in CIRCUMSTANCES:
        if circumstance in rule.levels:
            by = f", by {house[circumstance].told_at}" if circumstance in house else ""
            yield Text.assemble(_label(f"when {circumstance}"), level(rule.levels[circumstance].value), plain(by) if by else "")


def _correlation(correlation: Correlation, titles: dict[str, str]) -> Iterator[Text]:
    yield _line("kind", str(correlation.kind))
    yield from (_line("watches", f"{titles[rule]} ({rule})") for rule in correlation.rules)
    yield _line("group by", ", ".join(correlation.group_by) or "nothing: all records together")
    yield _line("timespan", str(correlation.timespan))
    yield _line("condition", correlation.told)
    yield _line("judged", "once its timespan is over (closing)" if correlation.closing else "as soon as it is fulfilled (open)")


def _label(label: str) -> Text:
    return Text(f"  {label:<16}", style="dim")


def _line(label: str, text: str) -> Text:
    return Text.assemble(_label(label), plain(" ".join(text.split())))


def _indexed(rule: CompiledRule) -> str:
    events = _events(rule)
    if not events:
        return "asked of no record: its parts contradict each other"
    if events == ["*:*"]:
        return "every record is decoded for it"
    more = f" and {len(events) - MOST_EVENTS} more" if len(events) > MOST_EVENTS else ""
    return f"asked of {', '.join(events[:MOST_EVENTS])}{more}"


def _suppression(suppression: Suppression, now: datetime) -> str:
    parts = {"principal": suppression.principal, "account": suppression.account, "name": suppression.name}
    scope = [f"{key} {pattern}" for key, pattern in parts.items() if pattern is not None]
    if suppression.rules is None:
        scope.insert(0, "every rule")
    ends = f"{suppression.since:%Y-%m-%d %H:%M} to {suppression.until:%Y-%m-%d %H:%M} UTC"
    state = "expired" if suppression.until <= now else "to come" if now < suppression.since else "in force"
    return f"{suppression.id} ({', '.join([*scope, ends, state])}): {suppression.reason}"


def _tree(node: Node, depth: int) -> Iterator[Text]:
    yield Text("  " * depth).append_text(_node(node))
    if not isinstance(node, Claim):
        for part in node.parts:
            yield from _tree(part, depth + 1)


def _node(node: Node) -> Text:
    name = plain(f"{node.name}: ") if node.name else Text()
    return name.append_text(plain(node.text) if isinstance(node, Claim) else Text(node.word, style="bold"))


# One rule and one event.


def judged(outcome: Outcome, record: Record, place: str, against: Suppression | None) -> Iterator[Text]:
    """What became of every part of a rule for a record, and why it did not match; `against` is the suppression of what it found."""
    result = Text("match", style="bold green") if outcome.held else Text("no match", style="bold red")
    yield Text.assemble(plain(place), ": ", _record(record), ": ", result)
    if against is not None:
        yield Text("  ").append_text(plain(f"suppressed by {against.id}: {against.reason}"))
    yield from _outcomes(outcome, 0)
    if not outcome.held:
        yield Text("  for want of: ", style="bold").append_text(Text("; ").join(map(_missing, missing(outcome))))


def failed(error: Exception, record: Record, place: str) -> Text:
    """A rule that raises on a record, which is neither a match nor none."""
    return Text.assemble(plain(place), ": ", _record(record), ": ", plain(f"the rule fails: {type(error).__name__}: {error}"))


def _outcomes(outcome: Outcome, depth: int) -> Iterator[Text]:
    mark = Text("  yes  ", style="green") if outcome.held else Text("  no   ", style="red")
    found = Text.assemble("  <- ", _found(outcome), style="dim") if outcome.found else Text()
    yield Text.assemble(mark, "  " * depth, _node(outcome.node), found)
    for part in outcome.parts:
        yield from _outcomes(part, depth + 1)


def _missing(outcome: Outcome) -> Text:
    return Text.assemble("NOT " if outcome.held else "", plain(outcome.node.text), " (", _found(outcome), ")")


def _found(outcome: Outcome) -> Text:
    """What the event holds in the fields that a claim asks: its own, and by its name one that it is compared with."""
    names = [plain("found" if number == 0 else name) for number, (name, _) in enumerate(outcome.found)]
    told = zip(names, outcome.found, strict=True)
    return Text(", ").join(Text.assemble(name, ": ", _values(values)) for name, (_, values) in told)


def _values(values: tuple[Any, ...]) -> Text:
    if not values:
        return Text("nothing")
    more = f" and {len(values) - MOST_FOUND} more" if len(values) > MOST_FOUND else ""
    return Text(", ").join(plain(_cut(value)) for value in values[:MOST_FOUND]).append(more)


def _cut(value: Any) -> str:
    if isinstance(value, str):
        text = value if value.strip() == value != "" else f"'{value}'"
    else:
        try:
            text = json_text(value)
        except RecursionError:
            text = "something nested too deeply to show"
    return text if len(text) <= LONGEST_FOUND else f"{text[:LONGEST_FOUND]}..."


def _record(record: Record) -> Text:
    stamp = f"{record.time:%Y-%m-%d %H:%M:%S}" if record.time is not None else "no time"
    return Text(" ").join([plain(stamp), plain(record.source), plain(record.name)])


# One correlation and many events.


def sighted(correlation: Correlation, seen: Seen, titles: Mapping[str, str]) -> Iterator[Text]:
    """What a correlation saw in each of its groups, and whether that fulfilled it."""
    for group in seen.groups:
        told = (
            ", ".join(f"{name} = {value}" for name, value in zip(correlation.group_by, group.values, strict=True)) or "all records together"
        )
        result = Text("fulfilled", style="bold green") if group.found else Text("not fulfilled", style="bold red")
        yield Text.assemble(plain(told), ": ", result, f" ({correlation.told})")
        for sighting in group.sightings[:MOST_SIGHTINGS]:
            counted = f"  <- {', '.join(map(_cut, sighting.values))}" if sighting.values else ""
            yield Text.assemble("  ", _record(sighting.record), "  ", plain(titles[sighting.rule]), plain(counted) if counted else "")
        if len(group.sightings) > MOST_SIGHTINGS:
            yield Text(f"  and {len(group.sightings) - MOST_SIGHTINGS} more")
        for suppression in dict.fromkeys(one for _, one in group.suppressed):
            yield Text("  ").append_text(plain(f"suppressed by {suppression.id}: {suppression.reason}"))
    if seen.ungrouped:
        yield Text(f"in no group, for want of a time or a group-by field: {seen.ungrouped}")
    if not seen.groups and not seen.ungrouped:
        yield Text("no record matches a rule that it watches")
