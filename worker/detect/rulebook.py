"""The rulebook: every rule, indexed by the event source, name and type of identity it demands.

In go folders of rule files, out comes one frozen `Rulebook` or one `RuleFaults` with everything that is wrong with them; reading
the folders is the only I/O here. A record is then asked of only those rules that its eventSource, eventName and userIdentity.type could satisfy, with the
same answer as if it were asked of all. A newcomer adds a rule as a YAML file in `rules/` or in a folder of their own: docs/rules.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from worker.detect import rulefile
from worker.detect.demands import ANYTHING, Demand, interest
from worker.detect.document import RuleFault
from worker.detect.rulefile import CompiledRule, Sample
from worker.detect.subject import actor_of, subject_of
from worker.model import Finding, Interest, Record

__all__ = ["SHIPPED", "CompiledRule", "Matches", "RuleError", "RuleFault", "RuleFaults", "Rulebook", "Sample", "index", "load"]

SHIPPED = Path(__file__).parent / "rules"
"""The rules that come with the program."""

SUFFIXES = (".yml", ".yaml")


class RuleFaults(ValueError):  # noqa: N818  # it carries faults, all of them at once
    """Rules cannot be loaded. `faults` has each thing wrong, in the order of the files and their lines."""

    def __init__(self, faults: tuple[RuleFault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule that raised on a record: not "no match", but not known."""

    rule_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Matches:
    """What the rules say of one record: findings in the order of the rules, and the rules that could not say."""

    findings: tuple[Finding, ...] = ()
    errors: tuple[RuleError, ...] = ()


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Rules in a stable order. `interest` is what records must be built for; `unindexed` are the rules that every record is asked of."""

    rules: tuple[CompiledRule, ...]
    interest: Interest
    unindexed: tuple[CompiledRule, ...]
    positions: Mapping[Demand, tuple[int, ...]] = field(repr=False)

    def match(self, record: Record) -> Matches:
        """What the rules say of a record. Never raises: a rule that does is among the errors and spoils no other."""
        findings: list[Finding] = []
        errors: list[RuleError] = []
        for compiled in self.candidates(record):
            rule = compiled.rule
            try:
                if compiled.matches(record.event):
                    findings.append(Finding(rule, record, actor_of(record), subject_of(record)))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is this rule's alone
                errors.append(RuleError(rule.id, f"{type(error).__name__}: {error}"))
        return Matches(tuple(findings), tuple(errors))

    def candidates(self, record: Record) -> Iterator[CompiledRule]:
        """The rules that may match a record, in order: those its source, name and identity satisfy, or all where one is no text."""
        source, name, identity = record.event.get("eventSource"), record.event.get("eventName"), record.identity_type
        if not isinstance(source, str) or not isinstance(name, str) or identity is None:
            return iter(self.rules)
        told = ((source.lower(), None), (name.lower(), None), (identity.lower(), None))
        found = [chosen for demand in product(*told) if (chosen := self.positions.get(demand))]
        if len(found) <= 1:
            return (self.rules[position] for positions in found for position in positions)
        return (self.rules[position] for position in sorted({position for positions in found for position in positions}))


def load(folders: Sequence[Path], *, shipped: bool = True) -> Rulebook:
    """Every rule in the folders (and files), recursively, after the shipped ones.

    A file reached twice is read once. Hidden files and folders are passed over: a mounted ConfigMap holds each rule a second time
    in one. Raises `RuleFaults` with every fault of every file.
    """
    rules: list[CompiledRule] = []
    faults: list[RuleFault] = []
    for path in _files([SHIPPED, *folders] if shipped else folders, faults):
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as fault:
            faults.append(RuleFault(str(path), None, f"this file cannot be read: {fault}"))
            continue
        read, wrong = rulefile.read(str(path), text)
        rules += read
        faults += wrong
    first: dict[str, CompiledRule] = {}
    for rule in rules:
        other = first.setdefault(rule.rule.id, rule)
        if other is not rule:
            faults.append(RuleFault(rule.path, rule.line, f"its id {rule.rule.id} is also that of {other.path}:{other.line}"))
    if faults:
        raise RuleFaults(tuple(sorted(faults, key=lambda fault: (fault.path, fault.line or 0, fault.text))))
    return index(rules)


def index(rules: Iterable[CompiledRule]) -> Rulebook:
    """The rulebook of some rules, in their order."""
    rules = tuple(rules)
    positions: dict[Demand, list[int]] = {}
    for position, rule in enumerate(rules):
        for demand in rule.demands:
            positions.setdefault(demand, []).append(position)
    return Rulebook(
        rules=rules,
        interest=interest(rule.demands for rule in rules),
        unindexed=tuple(rule for rule in rules if ANYTHING in rule.demands),
        positions={demand: tuple(places) for demand, places in positions.items()},
    )


def _files(folders: Iterable[Path], faults: list[RuleFault]) -> Iterator[Path]:
    """Every rule file once, each folder's in the order of their names."""
    seen: set[Path] = set()
    for folder in folders:
        if folder.is_file():
            found = [folder]
        elif folder.is_dir():
            found = sorted(_walk(folder, faults))
        else:
            faults.append(RuleFault(str(folder), None, "there is no such file or folder"))
            continue
        for path in found:
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                yield path


def _walk(folder: Path, faults: list[RuleFault]) -> Iterator[Path]:
    def unreadable(fault: OSError) -> None:
        faults.append(RuleFault(str(fault.filename), None, f"this folder cannot be read: {fault.strerror}"))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if name.endswith(SUFFIXES) and not name.startswith("."))
