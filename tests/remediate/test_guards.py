"""The guards, as tables: who is spared, who is refused, when nothing is changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model import Target
from worker.modes import Mode
from worker.remediate.guards import Identity, Judgement, Limits, Stance, identity, judge, judge_loss, judge_touched

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OWN_ROLE = identity("arn:aws:sts::111111111111:assumed-role/mender/trailmend")
OWN_USER = identity("arn:aws:iam::111111111111:user/tools/mender")
OWN_BOTH = replace(identity("arn:aws:sts::111111111111:assumed-role/Member/trailmend"), base=("role", "mender"))
"""Where our own account is entered by a role as well."""
LIMITS = Limits(Mode.AUTO, (), timedelta(hours=1))


def judged(target: Target, params: dict[str, Any] | None = None, **changed: Any) -> Judgement:
    asked: dict[str, Any] = {"finding": {}, "created_at": NOW, "now": NOW, "own": OWN_ROLE, "limits": LIMITS, **changed}
    return judge(target, params or {}, **asked)


def user(name: str = "mallory", arn: str | None = None, account: str = "111111111111") -> Target:
    return Target("user", name, account, arn)


PROFILE = Target("instance-profile", "web", "111111111111", "arn:aws:iam::111111111111:instance-profile/a/b/web")
KEY = Target("access-key", "AKIA0123456789ABCDEF", "111111111111")


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        ("arn:aws:sts::111111111111:assumed-role/mender/trailmend", ("111111111111", "role", "mender")),
        ("arn:aws-cn:iam::111111111111:user/a/b/mender", ("111111111111", "user", "mender")),
        ("arn:aws:iam::111111111111:root", ("111111111111", "other", "root")),
        ("arn:aws:sts::111111111111:federated-user/x", ("111111111111", "other", "x")),
        ("", ("", "other", "")),
        ("arn:aws:iam", ("", "other", "")),
    ],
)
def test_our_own_identity_is_read_from_its_arn(arn: str, expected: tuple[str, str, str]) -> None:
    """Roles by their name without path and session, users by their name without path."""
    own = identity(arn)
    assert (own.account, own.kind, own.name) == expected


@pytest.mark.parametrize(
    ("target", "params", "own", "reason"),
    [
        (user("mender"), {}, OWN_USER, "own-identity"),
        (user("MENDER"), {}, OWN_USER, "own-identity"),
        (KEY, {"user": "mender"}, OWN_USER, "own-identity"),
        (PROFILE, {"role": "mender"}, OWN_ROLE, "own-identity"),
        (Target("role", "mender", "111111111111"), {}, OWN_ROLE, "own-identity"),
        (Target("role", "Member", "111111111111"), {}, OWN_BOTH, "own-identity"),
        (Target("role", "mender", "111111111111"), {}, OWN_BOTH, "own-identity"),
        (Target("account", "111111111111", "111111111111", "arn:aws:iam::111111111111:root"), {}, OWN_ROLE, "root"),
        (user("root"), {}, OWN_ROLE, "root"),
        (user("<root_account>"), {}, OWN_ROLE, "root"),
        (KEY, {"user": "root"}, OWN_ROLE, "root"),
        (user(arn="arn:aws:iam::111111111111:root"), {}, OWN_ROLE, "root"),
        (user(arn="arn:aws:iam::111111111111:role/mallory"), {}, OWN_ROLE, "arn-mismatch"),
        (user(arn="arn:aws:iam::222222222222:user/mallory"), {}, OWN_ROLE, "arn-mismatch"),
        (user(arn="mallory"), {}, OWN_ROLE, "arn-mismatch"),
        (user(arn=""), {}, OWN_ROLE, "arn-mismatch"),
    ],
)
def test_what_is_refused(target: Target, params: dict[str, Any], own: Identity, reason: str) -> None:
    """Our own user, our own role, root in every disguise, and an ARN that is not the target's; in shadow as well."""
    for mode in (Mode.AUTO, Mode.SHADOW):
        answer = judged(target, params, own=own, limits=Limits(mode, ("*",), timedelta(hours=1)))
        assert (answer.stance, answer.reason) == (Stance.REFUSE, reason)


@pytest.mark.parametrize(
    ("target", "params", "own"),
    [
        (user("mender", account="222222222222"), {}, OWN_USER),
        (user("mender"), {}, OWN_ROLE),
        (PROFILE, {"role": "mender"}, OWN_USER),
        (PROFILE, {"role": None}, OWN_ROLE),
        (user("rooter"), {}, OWN_ROLE),
        (user("mender"), {}, OWN_BOTH),
        (Target("role", "mender", "222222222222"), {}, OWN_BOTH),
    ],
)
def test_what_only_looks_like_us_or_root_may_be_acted_on(target: Target, params: dict[str, Any], own: Identity) -> None:
    """The same name in another account, of another kind, or with letters more."""
    assert judged(target, params, own=own).stance is Stance.ACT


@pytest.mark.parametrize("pattern", ["mallory", "Mallory", "mal*", "m?llory", "arn:aws:iam::111111111111:user/*", "*:user/ops/mallory"])
def test_exempt_patterns_match_names_and_arns(pattern: str) -> None:
    """Globs on the name or the ARN, without regard to case."""
    limits = Limits(Mode.AUTO, ("nobody", pattern), timedelta(hours=1))
    arn = "arn:aws:iam::111111111111:user/ops/mallory"
    assert judged(user(arn=arn), limits=limits).stance is Stance.EXEMPT
    touched = judge_touched([arn], OWN_ROLE, limits)
    assert touched is not None
    assert touched.stance is Stance.EXEMPT


def test_live_arns_of_others_say_nothing() -> None:
    """No pattern and not us: None; us: refused."""
    assert judge_touched(["arn:aws:iam::111111111111:user/mallory", "nonsense", ""], OWN_ROLE, LIMITS) is None
    own = judge_touched(["arn:aws:iam::111111111111:role/a/mender"], OWN_ROLE, LIMITS)
    assert own is not None
    assert own.stance is Stance.REFUSE
    for name in ("mender", "a/Member"):
        both = judge_touched([f"arn:aws:iam::111111111111:role/{name}"], OWN_BOTH, LIMITS)
        assert both is not None
        assert both.stance is Stance.REFUSE


@given(age=st.timedeltas(timedelta(days=-400), timedelta(days=400)), mode=st.sampled_from([Mode.AUTO, Mode.SHADOW]))
def test_acting_needs_auto_and_a_young_task(age: timedelta, mode: Mode) -> None:
    """ACT exactly when the mode is auto and the age is between five minutes ahead and the limit."""
    answer = judged(user(), now=NOW + age, limits=Limits(mode, (), timedelta(hours=1)))
    young = timedelta(minutes=-5) <= age <= timedelta(hours=1)
    assert (answer.stance is Stance.ACT) == (mode is Mode.AUTO and young)
    assert answer.stance in (Stance.ACT, Stance.TELL)


def test_what_could_not_be_undone_needs_the_operators_leave() -> None:
    """Without the setting it is only told; with it nothing speaks against."""
    told = judge_loss(LIMITS)
    assert told is not None
    assert (told.stance, told.reason) == (Stance.TELL, "irreversible")
    assert judge_loss(Limits(Mode.AUTO, (), timedelta(hours=1), irreversible=True)) is None
