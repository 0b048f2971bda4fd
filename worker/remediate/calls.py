"""The calls that actions make to change something: what the worker wants to see of CloudTrail whatever the rules are, to confirm each.

Data alone, so that a worker that watches need not load the actions. Whoever adds a step to an action adds its API here.
"""

from __future__ import annotations

from worker.model import Interest

CALLS = {
    "iam": (
        "AddRoleToInstanceProfile",
        "CreateInstanceProfile",
        "DeleteAccessKey",
        "DeleteAccountPasswordPolicy",
        "DeleteInstanceProfile",
        "DeleteRolePolicy",
        "DeleteUserPolicy",
        "PutRolePolicy",
        "PutUserPolicy",
        "RemoveRoleFromInstanceProfile",
        "UpdateAccessKey",
        "UpdateAccountPasswordPolicy",
        "UpdateLoginProfile",
    ),
    "ec2": ("AssociateIamInstanceProfile", "DisassociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation"),
}
"""By service, as AWS spells them."""
INTEREST = Interest(frozenset((f"{service}.amazonaws.com", api.lower()) for service, apis in CALLS.items() for api in apis))
