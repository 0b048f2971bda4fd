"""As whom Trailmend asks AWS: each a principal of its own, with a policy of its own."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Who runs a command: `trailmend run`, `remediate`, `tasks` by hand, or `scan` of a bucket; and what each enters a member account by."""

    WORKER = "worker"
    EXECUTOR = "executor"
    OPERATOR = "operator"
    SCANNER = "scanner"
    MEMBER_WORKER = "member-worker"
    MEMBER_EXECUTOR = "member-executor"
    MEMBER_OPERATOR = "member-operator"
