"""An inline policy of ours on a user or a role: read, put, and taken back.

The name is ours alone, so another policy is never touched. What stood under it before comes back where a task is undone, and where somebody
has rewritten it since, nothing does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.remediate.steps import Refusal, Step, found


@dataclass(frozen=True, slots=True)
class InlinePolicy:
    """A place for a policy: `kind` is User or Role, as IAM's calls spell it."""

    kind: str
    holder: str
    name: str

    async def read(self, iam: Any) -> Mapping[str, Any] | None:
        """The document that stands there. Raises what the client raises."""
        call = iam.get_user_policy if self.kind == "User" else iam.get_role_policy
        answer = await found(call(**self._place))
        document: Mapping[str, Any] | None = None if answer is None else answer["PolicyDocument"]
        return document

    def put(self, document: Mapping[str, Any], says: str) -> Step:
        """Write a document, over whatever stands there."""
        text = json.dumps(document, separators=(",", ":"))
        return Step("iam", f"Put{self.kind}Policy", {**self._place, "PolicyDocument": text}, says)

    def taken_back(
        self, live: Mapping[str, Any] | None, left: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> Step | Refusal | None:
        """What brings back the document `before` that a task replaced by the one it `left`; None where it is back already."""
        if live == before:
            return None
        where = f"inline policy {self.name} of {self.kind.lower()} {self.holder}"
        if live != left:
            return Refusal("changed-since", f"{where} was {'rewritten' if live else 'deleted'} since")
        if before is not None:
            return self.put(before, f"write {where} as it was before")
        return Step("iam", f"Delete{self.kind}Policy", self._place, f"delete {where}")

    @property
    def _place(self) -> dict[str, str]:
        return {f"{self.kind}Name": self.holder, "PolicyName": self.name}
