"""The credential report of an account, row by row: pure.

In goes the CSV as IAM gives it; out comes what it says of each user, and of root under `<root_account>`. What does not apply (`N/A`), was
never seen (`no_information`) or is not told of root (`not_supported`) is None, and so is a column that a report lacks; nothing raises.
Columns: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from typing import Any

ROOT = "<root_account>"
MOST_ROWS = 10_000
"""Twice as many users as an account may have by default."""


def rows_of(content: bytes) -> Mapping[str, Mapping[str, Any]]:
    """Each row by its user's name; `MOST_ROWS` of them at most. What cannot be read as CSV has no rows."""
    rows: dict[str, Mapping[str, Any]] = {}
    try:
        for cells in csv.DictReader(StringIO(content.decode("utf-8-sig", "replace"), newline="")):
            if (name := cells.get("user")) and len(rows) < MOST_ROWS:
                rows[name] = _row(cells)
    except csv.Error:
        return rows  # a cell longer than any that IAM writes: what stands before it is read
    return rows


def _row(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "arn": _text(cells, "arn"),
        "created": _time(cells, "user_creation_time"),
        "password": {
            "enabled": _truth(cells, "password_enabled"),
            "last_used": _time(cells, "password_last_used"),
            "last_changed": _time(cells, "password_last_changed"),
            "next_rotation": _time(cells, "password_next_rotation"),
        },
        "mfa_active": _truth(cells, "mfa_active"),
        "access_keys": [_key(cells, f"access_key_{number}_") for number in (1, 2)],
        "signing_certificates": [
            {"active": _truth(cells, f"cert_{number}_active"), "last_rotated": _time(cells, f"cert_{number}_last_rotated")}
            for number in (1, 2)
        ],
    }


def _key(cells: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        "active": _truth(cells, f"{prefix}active"),
        "last_rotated": _time(cells, f"{prefix}last_rotated"),
        "last_used": _time(cells, f"{prefix}last_used_date"),
        "last_used_region": _text(cells, f"{prefix}last_used_region"),
        "last_used_service": _text(cells, f"{prefix}last_used_service"),
    }


def _text(cells: Mapping[str, Any], column: str) -> str | None:
    told = cells.get(column)
    return told if isinstance(told, str) and told not in ("", "N/A", "no_information", "not_supported") else None


def _truth(cells: Mapping[str, Any], column: str) -> bool | None:
    return {"true": True, "false": False}.get((_text(cells, column) or "").lower())


def _time(cells: Mapping[str, Any], column: str) -> str | None:
    """A time in UTC, as the other facts have it."""
    try:
        moment = datetime.fromisoformat(_text(cells, column) or "")
        return (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return None
