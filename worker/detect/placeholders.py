"""Placeholders: the lists of values that rules name with `expand` and that every house fills in for itself. Pure.

In go `Document`s with a `placeholders` mapping, each name with a value or a list of them; out come all of them. A rule says
`userIdentity.userName|expand: '%break_glass_users%'`, and a file beside it `placeholders: {break_glass_users: [ops-1, ops-2]}`.
What becomes of a value that names one stands in `expansion.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from worker.detect.detection import Placeholders
from worker.detect.document import Document


def gather(documents: Iterable[Document]) -> Placeholders:
    """Every placeholder by its name. What is no text or number, or is given twice, is a fault in its document."""
    gathered: dict[str, tuple[str, ...]] = {}
    for doc in documents:
        told = doc.data["placeholders"]
        if len(doc.data) > 1:
            doc.fault("placeholders stand in a document of their own")
        if not isinstance(told, dict):
            doc.fault("placeholders must be a mapping of names to values", "placeholders")
            continue
        for name, value in told.items():
            values = value if isinstance(value, list) else [value]
            if not isinstance(name, str) or not name or "%" in name or "\\" in name:
                doc.fault(f"'{name}' is no name of a placeholder: rules could not write it between two %", "placeholders")
            elif not values or not all(isinstance(one, (str, int)) and not isinstance(one, bool) and one != "" for one in values):
                doc.fault(f"the placeholder {name} must be text, or a list of texts, none of them empty", "placeholders", name)
            elif name in gathered:
                doc.fault(f"the placeholder {name} is given in two places", "placeholders", name)
            else:
                gathered[name] = tuple(str(one) for one in values)
    return gathered
