"""Which event source, name and type of identity a condition demands: the algebra behind the rule index, pure.

A demand is a triple (eventSource, eventName, userIdentity.type) in lower case, None standing for any. A condition's demands are a set of
which every event that it matches fulfils at least one; they may let through more events than match, never fewer. Only literal ASCII
values of these fields make a demand: wildcards, patterns, negations and anything else demand nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from worker.model import Interest

Demand = tuple[str | None, str | None, str | None]
Demands = frozenset[Demand]

FIELDS = ("eventSource", "eventName", "userIdentity.type")

ANYTHING: Demand = (None, None, None)
NOTHING: Demands = frozenset({ANYTHING})
"""No demand: any event may match."""

MOST_PAIRS = 4096
"""An AND of two long lists is indexed by one of them when their product has more pairs than this."""


def literal(field: str, folded: str) -> Demands:
    """What `field: value` demands. Names spelt otherwise than CloudTrail's may be members of their own, so they demand nothing."""
    if not folded.isascii() or field not in FIELDS:
        return NOTHING
    source, name, identity = (folded if field == one else None for one in FIELDS)
    return frozenset({(source, name, identity)})


def either(parts: Iterable[Demands]) -> Demands:
    """The demands of an OR: their union, without those that another lets through anyway."""
    union = frozenset[Demand]().union(*parts)
    if ANYTHING in union:
        return NOTHING
    return frozenset(demand for demand in union if not any(wider in union for wider in _wider(demand)))


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
        pairs=frozenset((source, name) for source, name, _ in every if source is not None and name is not None),
        sources=frozenset(source for source, name, _ in every if source is not None and name is None),
        names=frozenset(name for source, name, _ in every if source is None and name is not None),
        identity_types=frozenset(identity for source, name, identity in every if source is name is None and identity is not None),
        everything=ANYTHING in every,
    )


def _wider(demand: Demand) -> Iterator[Demand]:
    """Every demand that lets through all that this one does, and more."""
    for kept in product((True, False), repeat=3):
        source, name, identity = (one if keep else None for one, keep in zip(demand, kept, strict=True))
        if (source, name, identity) != demand:
            yield source, name, identity


def _meet(left: Demand, right: Demand) -> Demand | None:
    if any(one is not None and other is not None and one != other for one, other in zip(left, right, strict=True)):
        return None
    source, name, identity = (other if one is None else one for one, other in zip(left, right, strict=True))
    return source, name, identity
