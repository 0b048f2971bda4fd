"""Which event source and name a condition demands: the algebra behind the rule index, pure.

A demand is a pair (eventSource, eventName) in lower case, None standing for any. A condition's demands are a set of which every event
that it matches fulfils at least one; they may let through more events than match, never fewer. Only literal ASCII values of the fields
`eventSource` and `eventName` make a demand: wildcards, patterns, negations and anything else demand nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from worker.model import Interest

Demand = tuple[str | None, str | None]
Demands = frozenset[Demand]

NOTHING: Demands = frozenset({(None, None)})
"""No demand: any event may match."""

MOST_PAIRS = 4096
"""An AND of two long lists is indexed by one of them when their product has more pairs than this."""


def literal(field: str, folded: str) -> Demands:
    """What `field: value` demands. Names spelt otherwise than CloudTrail's may be members of their own, so they demand nothing."""
    if not folded.isascii():
        return NOTHING
    if field == "eventSource":
        return frozenset({(folded, None)})
    if field == "eventName":
        return frozenset({(None, folded)})
    return NOTHING


def either(parts: Iterable[Demands]) -> Demands:
    """The demands of an OR."""
    union = frozenset[Demand]().union(*parts)
    if (None, None) in union:
        return NOTHING
    return frozenset(
        (source, name)
        for source, name in union
        if not (source is not None and name is not None and ((source, None) in union or (None, name) in union))
    )


def both(parts: Iterable[Demands]) -> Demands:
    """The demands of an AND. Empty when the parts contradict each other, so that no event can match."""
    whole = NOTHING
    for part in parts:
        if len(whole) * len(part) > MOST_PAIRS:
            whole = min(whole - NOTHING or part, part - NOTHING or whole, key=len)
            continue
        whole = either([frozenset(pair for left in whole for right in part if (pair := _meet(left, right)) is not None)])
    return whole


def interest(demands: Iterable[Demands]) -> Interest:
    """What the reader must build records for, so that conditions with these demands see every event they may match."""
    every = [demand for part in demands for demand in part]
    return Interest(
        pairs=frozenset((source, name) for source, name in every if source is not None and name is not None),
        sources=frozenset(source for source, name in every if source is not None and name is None),
        names=frozenset(name for source, name in every if source is None and name is not None),
        everything=(None, None) in every,
    )


def _meet(left: Demand, right: Demand) -> Demand | None:
    if any(one is not None and other is not None and one != other for one, other in zip(left, right, strict=True)):
        return None
    (source, name), (other_source, other_name) = left, right
    return (other_source if source is None else source, other_name if name is None else name)
