"""Ids: the same cause gives the same id, whoever computes it and how often."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("6d1d0b6e-4a4c-5f0e-9a55-2f0a3f6f7d11")
"""Every id of ours is a UUIDv5 in this namespace: the same cause gives the same id, whoever computes it and how often."""


def stable_id(*parts: str) -> str:
    """The UUIDv5 of the parts, in order. Parts are length-prefixed, so that no two lists of parts collide by joining."""
    return str(uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))
