"""A library of rule files: from folders of YAML to one rulebook, or to everything that is wrong with them.

In go folders (and files); out comes one frozen `Rulebook` or one `RuleFaults` with every fault of every file. Reading the folders is the
only I/O here; `build` is pure. A document is told by its own keys what it is: a rule, a correlation, a Sigma filter, suppressions,
placeholders, or levels. What refers to others is followed once all are known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from worker.detect import correlation_file, document, levels, placeholders, rulefile, sigma_filter, suppression
from worker.detect.correlation import Correlation
from worker.detect.correlation_file import Draft
from worker.detect.document import Document, Place, RuleFault
from worker.detect.rulebook import Rulebook, index
from worker.detect.rulefile import CompiledRule
from worker.detect.sigma_filter import SigmaFilter

SHIPPED = Path(__file__).parent / "rules"
"""The rules that come with the program."""

SUFFIXES = (".yml", ".yaml")
EXACT = frozenset({"detection", "filter", "tests", "correlation", "suppressions", "placeholders"})
"""Where a word that YAML takes for something else would change a meaning."""
KINDS = ("correlation", "filter", "suppressions", "placeholders", "levels")
"""The keys that tell a document which is no plain rule."""


class RuleFaults(ValueError):  # noqa: N818  # it carries faults, all of them at once
    """Rules cannot be loaded. `faults` has each thing wrong, in the order of the files and their lines."""

    def __init__(self, faults: Iterable[RuleFault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.path, fault.line or 0, fault.text)))
        super().__init__("\n".join(str(fault) for fault in self.faults))


def load(folders: Sequence[Path], *, shipped: bool = True) -> Rulebook:
    """Every rule in the folders (and files), recursively, after the shipped ones. Raises `RuleFaults`.

    A file reached twice is read once. Hidden files and folders are passed over: a mounted ConfigMap holds each rule a second time
    in one.
    """
    texts: list[tuple[str, str]] = []
    faults: list[RuleFault] = []
    for path in files([SHIPPED, *folders] if shipped else folders, faults):
        try:
            texts.append((str(path), path.read_text("utf-8-sig")))
        except (OSError, UnicodeDecodeError) as fault:
            faults.append(RuleFault(str(path), None, f"this file cannot be read: {fault}"))
    return build(texts, faults)


def build(texts: Iterable[tuple[str, str]], faults: Iterable[RuleFault] = ()) -> Rulebook:
    """The rulebook of some files, each a path (for messages) and its text. Raises `RuleFaults`, with `faults` among them."""
    faults = list(faults)
    documents: list[Document] = []
    kinds: dict[str, list[Document]] = {kind: [] for kind in ("rule", *KINDS)}
    for path, text in texts:
        read, wrong = document.read(path, text)
        faults += wrong
        documents += read
        for doc in read:
            kind = _kind(doc)
            if not doc.faults:
                kinds[kind].append(doc)
    words = placeholders.gather(kinds["placeholders"])
    rules = [rule for doc in kinds["rule"] if (rule := rulefile.read(doc, words)) is not None]
    drafts = [draft for doc in kinds["correlation"] if (draft := correlation_file.read(doc)) is not None]
    filters = [one for doc in kinds["filter"] if (one := sigma_filter.read(doc, words)) is not None]
    suppressions = [one for doc in kinds["suppressions"] for one in suppression.read(doc)]
    suppression.distinct(suppressions)
    overrides = [one for doc in kinds["levels"] for one in levels.read(doc)]
    faults += [fault for doc in documents for fault in doc.faults]
    faults += _doubles([*rules, *drafts])
    if faults:  # references to what could not be read would be faults too
        raise RuleFaults(faults)
    names = _names([*rules, *drafts])
    rules = _narrowed(rules, filters, names)
    correlations = _resolved(drafts, names)
    suppressed = tuple(
        suppression.resolve(one, {reference: _find(one.doc, reference, names, *one.place) for reference in one.references or ()})
        for one in suppressions
    )
    named = {one.reference: _find(one.doc, one.reference, names, *one.place) for one in overrides if one.reference != levels.EVERY}
    house = levels.tables(overrides, named)
    faults += [fault for doc in documents for fault in doc.faults]
    if faults:
        raise RuleFaults(faults)
    rules = [replace(one, rule=levels.applied(one.rule, house)) for one in rules]
    correlations = [replace(one, rule=levels.applied(one.rule, house)) for one in correlations]
    return index(rules, correlations, suppressed, house)


def _kind(doc: Document) -> str:
    """What a document is, by its keys; one that is nothing of ours gets a fault."""
    data = doc.data
    if doc.faults or not isinstance(data, dict) or not data.keys() & {"title", "logsource", "detection", "action", *KINDS}:
        if not doc.faults:
            doc.fault("this is no Sigma rule: it has none of title, logsource and detection")
        return "rule"
    if "action" in data:
        doc.fault("collection actions (global, reset, repeat) are none of Sigma 2: write each rule out", "action")
    doc.spelling(EXACT)
    kinds = [kind for kind in ("detection", *KINDS) if kind in data]
    if len(kinds) > 1:
        doc.fault(f"{' and '.join(kinds)} cannot stand in one document: part them by a line of ---", kinds[1])
    return next((kind for kind in KINDS if kind in kinds), "rule")


# References.


def _names(rules: Iterable[CompiledRule | Draft]) -> Mapping[str, tuple[str, ...]]:
    """The ids that each id, name and title leads to. An id comes before a name, a name before a title."""
    rules = list(rules)
    names: dict[str, tuple[str, ...]] = {}
    for called in (
        [(one.rule.id, one.rule.id) for one in rules],
        [(one.name, one.rule.id) for one in rules if one.name],
        [(one.rule.title, one.rule.id) for one in rules],
    ):
        fresh: dict[str, tuple[str, ...]] = {}
        for name, rule in called:
            if name not in names:
                fresh[name] = (*fresh.get(name, ()), rule)
        names |= fresh
    return names


def _find(doc: Document, reference: str, names: Mapping[str, tuple[str, ...]], *place: Place) -> str:
    """The id that a reference leads to; empty, with a fault in the document, where it leads nowhere or to several."""
    found = names.get(reference) or names.get(reference.lower(), ())
    if len(found) == 1:
        return found[0]
    several = (
        f"{len(found)} rules ({', '.join(found)}): name it by its id"
        if found
        else "no rule: it is no id, name or title of any that is loaded"
    )
    doc.fault(f"'{reference}' leads to {several}", *place)
    return ""


def _doubles(rules: Iterable[CompiledRule | Draft]) -> Iterator[RuleFault]:
    first: dict[str, CompiledRule | Draft] = {}
    for rule in rules:
        other = first.setdefault(rule.rule.id, rule)
        if other is not rule:
            yield RuleFault(rule.path, rule.line, f"its id {rule.rule.id} is also that of {other.path}:{other.line}")


def _narrowed(rules: Sequence[CompiledRule], filters: Sequence[SigmaFilter], names: Mapping[str, tuple[str, ...]]) -> list[CompiledRule]:
    """The rules, each within the filters that name it or any rule."""
    known = {rule.rule.id for rule in rules}
    named: dict[str, list[SigmaFilter]] = {}
    for one in filters:
        ids = known if one.references is None else {_find(one.doc, reference, names, "filter", "rules") for reference in one.references}
        for rule in ids:
            if rule and rule not in known:
                one.doc.fault(f"{rule} is a correlation: filter the rules that it watches", "filter", "rules")
            named.setdefault(rule, []).append(one)
    return [rule.within([one.matcher for one in named[rule.rule.id]]) if rule.rule.id in named else rule for rule in rules]


def _resolved(drafts: Sequence[Draft], names: Mapping[str, tuple[str, ...]]) -> list[Correlation]:
    """The correlations, those that others watch before these. Circles are faults."""
    resolved: dict[str, Correlation] = {}
    for draft in drafts:
        ids = {one: _find(draft.doc, one, names, "correlation", "rules") for one in draft.references}
        ids |= {one: found[0] for one in draft.aliased - ids.keys() if len(found := names.get(one, ())) == 1}
        if all(ids.values()) and (made := correlation_file.resolve(draft, ids)) is not None:
            resolved[draft.rule.id] = made
    sorter = TopologicalSorter({one: [rule for rule in made.rules if rule in resolved] for one, made in resolved.items()})
    try:
        return [resolved[one] for one in sorter.static_order()]
    except CycleError as fault:
        circle = fault.args[1]
        draft = next(draft for draft in drafts if draft.rule.id == circle[0])
        draft.doc.fault(f"it watches itself: {' watches '.join(reversed(circle))}", "correlation", "rules")
        return []


# Files.


def files(folders: Iterable[Path], faults: list[RuleFault]) -> Iterator[Path]:
    """Every rule file once, each folder's in the order of their names; what cannot be looked into is added to the faults."""
    seen: set[tuple[int, int]] = set()
    for folder in folders:
        for path in _within(folder, faults):
            try:
                told = path.stat()
            except OSError:  # whoever reads it tells what is wrong
                yield path
                continue
            if (told.st_dev, told.st_ino) not in seen:
                seen.add((told.st_dev, told.st_ino))
                yield path


def _within(folder: Path, faults: list[RuleFault]) -> list[Path]:
    try:
        if folder.is_file():
            return [folder]
        if folder.is_dir():
            return sorted(_walk(folder, faults))
        faults.append(RuleFault(str(folder), None, "there is no such file or folder"))
    except OSError as fault:
        faults.append(RuleFault(str(folder), None, f"this cannot be looked into: {fault.strerror}"))
    return []


def _walk(folder: Path, faults: list[RuleFault]) -> Iterator[Path]:
    def unreadable(fault: OSError) -> None:
        faults.append(RuleFault(str(fault.filename), None, f"this folder cannot be read: {fault.strerror}"))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if name.endswith(SUFFIXES) and not name.startswith("."))
