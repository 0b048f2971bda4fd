"""Approvals in the tables of `database.py`: each function is one transaction's work on a connection of SQLite's.

Keeps the promises of `store.py` by what a statement says: a decision is added only to the asking that it answers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from worker.model import Answer, Approval, Decision
from worker.state import canonical

_DECIDE = """INSERT INTO decisions (task_id, approver, answer, why, at)
SELECT :id, :approver, :answer, :why, :at WHERE EXISTS (SELECT 1 FROM approvals WHERE task_id = :id AND asked_at = :asked)
ON CONFLICT (task_id, approver) DO UPDATE SET answer = excluded.answer, why = excluded.why, at = excluded.at
WHERE excluded.answer = :no AND answer <> :no"""


def ask(connection: sqlite3.Connection, approval: Approval, instead: Approval | None) -> bool:
    """Put an approval where none stands, or in the place of another; answers whether it was put."""
    if instead is not None and not withdraw(connection, instead):
        return False
    row = (approval.id, canonical.micros(approval.asked_at), canonical.asking(approval))
    put = connection.execute("INSERT INTO approvals VALUES (?, ?, ?) ON CONFLICT (task_id) DO NOTHING", row).rowcount
    return put == 1


def one(connection: sqlite3.Connection, task_id: str) -> Approval | None:
    """What stands for a task."""
    row = connection.execute("SELECT asking FROM approvals WHERE task_id = ?", (task_id,)).fetchone()
    if row is None:
        return None
    decided = connection.execute("SELECT approver, answer, why, at FROM decisions WHERE task_id = ?", (task_id,))
    return canonical.to_approval(row[0], [canonical.decision(*told) for told in decided])


def waiting(connection: sqlite3.Connection) -> Sequence[Approval]:
    """All that stands, what ends first first."""
    ids = [task_id for (task_id,) in connection.execute("SELECT task_id FROM approvals")]
    found = [approval for task_id in ids if (approval := one(connection, task_id)) is not None]
    return sorted(found, key=lambda approval: (approval.expires_at, approval.id))


def decide(connection: sqlite3.Connection, approval: Approval, decision: Decision) -> Approval | None:
    """Add a decision to an asking; answers it as it stands then, None where it no longer does."""
    values = {
        "id": approval.id,
        "asked": canonical.micros(approval.asked_at),
        "approver": decision.approver,
        "answer": decision.answer.value,
        "why": decision.why,
        "at": canonical.micros(decision.at),
        "no": Answer.NO.value,
    }
    connection.execute(_DECIDE, values)
    standing = one(connection, approval.id)
    return standing if standing is not None and standing.asked_at == approval.asked_at else None


def withdraw(connection: sqlite3.Connection, approval: Approval) -> bool:
    """Take an asking away with its decisions; answers whether it stood."""
    row = (approval.id, canonical.micros(approval.asked_at))
    gone = connection.execute("DELETE FROM approvals WHERE task_id = ? AND asked_at = ?", row).rowcount
    if gone:
        connection.execute("DELETE FROM decisions WHERE task_id = ?", (approval.id,))
    return gone == 1
