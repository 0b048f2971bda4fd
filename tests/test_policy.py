"""Who is an administrator by the policies that are held, who could become one, and what nothing can be said of."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy import ADMINISTRATOR_ACCESS, ESCALATING, LIFTING, Own, Policy, judge

USER = "arn:aws:iam::111122223333:user/staff/eve"
OWN = Own("eve", {"user": [USER], "group": ["arn:aws:iam::111122223333:group/ops"], "policy": ["arn:aws:iam::111122223333:policy/mine"]})
IF_MFA = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def but(effect: str, **members: Any) -> dict[str, Any]:
    """A statement of everything, with members of one's own in place of Action or Resource."""
    kept = {name: "*" for name in ("Action", "Resource") if f"Not{name}" not in members}
    return {"Effect": effect, **kept, **members}


def held(*statements: Any, name: str = "P") -> Policy:
    return Policy(name, {"Version": "2012-10-17", "Statement": list(statements)})


@pytest.mark.parametrize(
    ("policies", "boundary", "administrator", "because"),
    [
        ([], None, False, "no policy allows anything"),
        ([Policy("AdministratorAccess", ADMINISTRATOR_ACCESS)], None, True, "AdministratorAccess allows everything"),
        ([held(allow("s3:*")), held(allow(["s3:*", "*"], ["arn:aws:s3:::a", "*"]), name="Q")], None, True, "Q allows everything"),
        ([held(allow("*:*"))], None, True, "P allows everything"),
        ([held(allow("**", "**"))], None, True, "P allows everything"),
        ([held(allow("iam:*"))], None, False, "no policy of 1 allows everything"),
        ([held(allow("*", "arn:aws:s3:::*"))], None, False, "no policy of 1 allows everything"),
        ([held(allow(Condition=IF_MFA))], None, None, "P allows everything under a condition"),
        ([held(allow(Condition={}))], None, True, "P allows everything"),
        ([held(but("Allow", NotAction=["iam:*", "organizations:*"]))], None, False, "P allows all but some of everything"),
        ([held(but("Allow", NotResource="arn:aws:s3:::secret/*"))], None, False, "P allows all but some of everything"),
        ([held(allow(), deny())], None, False, "P denies everything"),
        ([held(allow()), held(deny(), name="Q")], None, False, "Q denies everything"),
        ([held(allow()), held(but("Deny", NotAction="sts:Get*"), name="Q")], None, False, "Q denies all but some of everything"),
        ([held(allow()), held(but("Deny", NotResource="*:x"), name="Q")], None, False, "Q denies all but some of everything"),
        ([held(allow(), deny(Condition=IF_MFA))], None, True, "P allows everything"),
        ([held(allow(), deny("s3:DeleteBucket"))], None, True, "P allows everything"),
        ([held(allow())], held(allow(), name="B"), True, "P allows everything"),
        ([held(allow())], held(allow("ec2:*"), name="B"), False, "limited by a permissions boundary: no policy of 1 allows everything"),
        ([held(allow())], held(allow(Condition=IF_MFA), name="B"), None, "within a permissions boundary: B allows everything under"),
        ([held(allow())], held(deny(), name="B"), False, "B denies everything"),
        ([held(allow())], Policy("B", None), None, "B could not be read"),
        ([held(allow("s3:*"))], Policy("B", None), False, "no policy of 1 allows everything"),
        ([held(allow("s3:*")), Policy("Q", None)], None, None, "Q could not be read"),
        ([held(allow()), Policy("Q", None)], None, True, "P allows everything; Q could not be read"),
        ([held({"Effect": "Allow", "Action": "*"})], None, None, "P could not be read"),
        ([held({"Effect": "allow", "Action": "*", "Resource": "*"})], None, None, "P could not be read"),
        ([Policy("P", "{nonsense")], None, None, "P could not be read"),
        ([Policy("P", json.dumps(ADMINISTRATOR_ACCESS))], None, True, "P allows everything"),
        ([Policy("P", quote(json.dumps(ADMINISTRATOR_ACCESS)))], None, True, "P allows everything"),
    ],
)
def test_who_is_an_administrator(policies: list[Policy], boundary: Policy | None, administrator: bool | None, because: str) -> None:
    """Everything on everything, unconditionally, denied by nobody and within a boundary that allows as much; None where it depends."""
    told = judge(policies, boundary)
    assert told.administrator is administrator
    assert because in told.because


def test_a_deny_of_something_is_an_exception() -> None:
    """It is named, also where it holds under a condition alone, and so is one of the boundary's."""
    told = judge(
        [held(allow()), held(deny("s3:*"), name="Q"), held(deny(Condition=IF_MFA), name="R")], held(allow(), deny("ec2:*"), name="B")
    )
    assert (told.administrator, told.exceptions) == (True, ("Q", "R", "B"))


@pytest.mark.parametrize(
    ("statements", "boundary", "expected"),
    [
        ([allow("iam:PutUserPolicy")], None, ["iam:PutUserPolicy"]),
        ([allow("IAM:putuser*", USER)], None, ["iam:PutUserPolicy"]),
        ([allow("iam:PutUserPolicy", "arn:aws:iam::111122223333:user/staff/bob")], None, []),
        ([allow("iam:PutUserPolicy", "arn:aws:iam::*:user/*/${aws:username}")], None, ["iam:PutUserPolicy"]),
        ([allow("iam:PutUserPolicy", Condition=IF_MFA)], None, []),
        ([allow("iam:CreateAccessKey", USER)], None, []),
        ([allow("iam:CreateAccessKey")], None, ["iam:CreateAccessKey"]),
        ([allow("iam:*", "arn:aws:iam::111122223333:policy/mine")], None, ["iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion"]),
        ([allow("iam:*", "arn:aws:iam::111122223333:group/*")], None, ["iam:AttachGroupPolicy", "iam:PutGroupPolicy"]),
        ([allow("iam:*"), deny("iam:Put*"), deny("iam:*Profile"), deny("iam:Update*")], None, "without"),
        ([allow("iam:PutUserPolicy"), deny("iam:*", USER)], None, ["iam:PutUserPolicy"]),
        ([allow("iam:PutUserPolicy", USER), deny("iam:*", USER)], None, []),
        ([allow("iam:PutUserPolicy"), deny("iam:*", Condition=IF_MFA)], None, ["iam:PutUserPolicy"]),
        ([allow("iam:*")], [allow("ec2:*")], []),
        ([allow("iam:*")], [allow("iam:DeleteUser*", USER)], ["iam:DeleteUserPermissionsBoundary"]),
        ([allow()], [allow(), deny("iam:Put*")], "bounded"),
        ([but("Allow", NotAction=["iam:*"])], None, []),
        ([but("Allow", NotAction=["s3:*"])], None, "all"),
        ([but("Allow", NotResource="arn:aws:iam::111122223333:user/*")], None, ["group and policy"]),
    ],
)
def test_by_which_actions_it_could_gain_power(statements: list[Any], boundary: list[Any] | None, expected: Any) -> None:
    """Allowed for sure on everything or on what is its own, not denied for sure, and within the boundary."""
    bound = None if boundary is None else held(*boundary, name="B")
    told = judge([held(*statements)], bound, OWN).can_escalate
    every = sorted({**ESCALATING, **(LIFTING if boundary else {})})
    shut_out = ("iam:Put", "iam:Update", "iam:CreateLoginProfile")
    wanted = {
        "all": every,
        "without": [one for one in every if not one.startswith(shut_out)],
        "bounded": [one for one in every if not one.startswith("iam:Put")],
    }.get(str(expected), expected)
    if wanted == ["group and policy"]:
        wanted = [one for one in every if ESCALATING.get(one) in ("group", "policy")]
    assert list(told) == wanted


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["*", "Allow", "Deny", "iam:*", "arn:aws:iam::*", "${aws:username}", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Statement", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"]), inner, max_size=5
        )
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=3), st.none() | JSON)
def test_nothing_that_a_document_holds_raises(documents: list[Any], boundary: Any) -> None:
    """Whatever AWS, or somebody in its place, answers: a verdict in words, and only a known action may be named."""
    told = judge(
        [Policy(f"P{n}", document) for n, document in enumerate(documents)], None if boundary is None else Policy("B", boundary), OWN
    )
    assert told.administrator in (True, False, None)
    assert told.because
    assert set(told.can_escalate) <= set(ESCALATING) | set(LIFTING)


@given(st.lists(JSON, max_size=3))
def test_what_denies_everything_leaves_nobody_powerful(documents: list[Any]) -> None:
    """Beside whatever else: neither an administrator, nor one who could become one."""
    told = judge([*(Policy(f"P{n}", document) for n, document in enumerate(documents)), held(deny(), name="Stop")], None, OWN)
    assert (told.administrator, told.can_escalate) == (False, ())


def test_a_pattern_longer_than_any_name_is_no_trouble() -> None:
    """It fits nothing."""
    assert judge([held(allow("iam:PutUserPolicy", "arn:aws:iam::" + "?" * 3000))], None, OWN).can_escalate == ()
