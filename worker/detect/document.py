"""One YAML document of a rule file: its data, the lines of its parts, and what is wrong with its spelling. Pure.

In go a path (for messages) and the file's text; out come `Document`s, into each of which whoever reads it puts faults. YAML is read as
pySigma reads it (version 1.1), but times stay text, as events hold them; and what version 1.1 takes for something else than it
looks like is a fault where it would change a rule's meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from sigma.exceptions import SigmaError
from sigma.rule.base import check_alias_expansion

TAG = "tag:yaml.org,2002:"

UNAMBIGUOUS = {
    "bool": re.compile(r"true|false", re.IGNORECASE),
    "int": re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII),
    "float": re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]*[1-9]", re.ASCII),
}
"""How an unquoted word or number may be spelt. YAML 1.1 also reads `No` as false, 0123 as 83, 12:30 as 750 and 1.10 as 1.1."""

Place = str | int


@dataclass(frozen=True, slots=True)
class RuleFault:
    """One thing wrong with a rule file. `line` counts from 1, as near as can be told."""

    path: str
    line: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line is not None else f"{self.path}: {self.text}"


class Document:
    """One document while it is being read. `data` is plain Python values, or None where they could not be had."""

    def __init__(self, path: str, node: yaml.Node) -> None:
        self.path = path
        self.faults: list[RuleFault] = []
        self.data: Any = None
        self._node = node
        self._twice = list(_twice(node))  # before the data are constructed, which writes what is merged (<<) among a mapping's own keys

    def line(self, *place: Place) -> int:
        """The line of a part, named by keys and positions, or of the innermost part around it that is there."""
        node, mark = self._node, self._node.start_mark
        for step in place:
            if isinstance(node, yaml.MappingNode):
                pair = next(((key, value) for key, value in node.value if key.value == step), None)
                if pair is None:
                    break
                mark, node = pair[0].start_mark, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.start_mark
            else:
                break
        return int(mark.line) + 1

    def fault(self, text: str, *place: Place) -> None:
        """Something is wrong with the part at a place."""
        self.faults.append(RuleFault(self.path, self.line(*place), text))

    def spelling(self, exact: frozenset[str]) -> None:
        """Faults for keys given twice, of which YAML keeps the last, and, under the keys in `exact`, for ambiguous words and numbers."""
        for key in self._twice:
            self._fault(key, f"the key '{key.value}' is given twice")
        top = self._node.value if isinstance(self._node, yaml.MappingNode) else []
        for node in _nodes([value for key, value in top if key.value in exact]):
            spelt = UNAMBIGUOUS.get(node.tag.removeprefix(TAG)) if isinstance(node, yaml.ScalarNode) else None
            if spelt is not None and not spelt.fullmatch(node.value):
                kind = "true or false" if node.tag == TAG + "bool" else "another number"
                self._fault(node, f"YAML reads {node.value} as {kind}: put it in quotes ('{node.value}'), or write what you mean")

    def _fault(self, node: yaml.Node, text: str) -> None:
        self.faults.append(RuleFault(self.path, int(node.start_mark.line) + 1, text))


class _Loader(yaml.CSafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012  # declared so by the base class
        first: [(tag, pattern) for tag, pattern in resolvers if tag != TAG + "timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def read(path: str, text: str) -> tuple[tuple[Document, ...], tuple[RuleFault, ...]]:
    """Every document that holds anything, up to the first that is not YAML, which is the one fault told beside theirs."""
    documents: list[Document] = []
    try:
        # The loader reads its first bytes at once, so it too may find that this is no YAML.
        loader = _Loader(text)
        try:
            while loader.check_node() and (node := loader.get_node()) is not None:
                document = Document(path, node)
                try:
                    document.data = loader.construct_document(node)
                    check_alias_expansion(document.data)
                except (yaml.YAMLError, ValueError, SigmaError) as fault:
                    document.data = None
                    document.fault(_told(fault))
                if document.data is not None or document.faults:
                    documents.append(document)
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError) as fault:
        return tuple(documents), (RuleFault(path, _line(fault, text), f"this is not YAML: {_told(fault)}"),)
    return tuple(documents), ()


def _twice(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """The keys that a mapping had before; of which one YAML would keep the last."""
    for one in _nodes([node]):
        seen: set[str] = set()
        for key, _ in one.value if isinstance(one, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != TAG + "merge":
                if key.value in seen:
                    yield key
                seen.add(key.value)


def _line(fault: Exception, text: str) -> int | None:
    if isinstance(fault, yaml.MarkedYAMLError) and fault.problem_mark is not None:
        # A quote left open is found at the end of the file; where it was opened helps more.
        opened = fault.context_mark if "quoted" in (fault.context or "") else None
        return int((opened or fault.problem_mark).line) + 1
    if isinstance(fault, yaml.reader.ReaderError):
        return text.encode("utf-8", "replace").count(b"\n", 0, fault.position) + 1
    return None


def _told(fault: Exception) -> str:
    if isinstance(fault, yaml.MarkedYAMLError):
        return ", ".join(part for part in (fault.context, fault.problem) if part)
    if isinstance(fault, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(fault).split())


def _nodes(start: list[yaml.Node]) -> Iterator[yaml.Node]:
    """Every node under some, once each, in the order of the text."""
    stack, seen = start[::-1], set[int]()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            stack.extend(part for pair in reversed(node.value) for part in reversed(pair))
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(reversed(node.value))
