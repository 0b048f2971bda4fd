"""The figures of the last `make bench`: one JSON file, each section written by its own benchmark and by no other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"


def record(section: str, rows: Sequence[Mapping[str, Any]], path: Path = RESULTS) -> None:
    """Replace a section and leave the others as they are."""
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    told = {**known, section: list(rows)}
    path.write_text(json.dumps(dict(sorted(told.items())), indent=1) + "\n", encoding="utf-8")
