"""Which mode holds for an action in an account, as an operator writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.modes import Mode, Modes, Scope, strangers
from worker.settings import Settings

PROD, TEST = "111122223333", "999999999999"
TOLD = f"deactivate-access-key=auto, restore-instance-profile@{PROD}=approve,*@{TEST}=off, *=shadow"


@pytest.mark.parametrize(
    ("action", "account", "mode"),
    [
        ("deactivate-access-key", PROD, Mode.AUTO),
        ("restore-instance-profile", PROD, Mode.APPROVE),
        ("restore-instance-profile", TEST, Mode.OFF),
        ("restore-instance-profile", "444455556666", Mode.SHADOW),
        ("deactivate-access-key", TEST, Mode.OFF),  # one names the action and one the account: the more cautious
    ],
)
def test_the_narrowest_entry_wins_and_of_equals_the_more_cautious(action: str, account: str, mode: Mode) -> None:
    """Action and account before one of them, one of them before neither."""
    settings = Settings.from_environment({"TRAILMEND_REMEDIATION_MODE": "auto", "TRAILMEND_REMEDIATION_MODES": TOLD})
    assert settings.modes.of(action, account) is mode


def test_what_no_entry_covers_has_the_default() -> None:
    """Which is TRAILMEND_REMEDIATION_MODE, and shadow where nothing is set."""
    assert Settings().modes.of("enforce-mfa", PROD) is Mode.SHADOW
    told = Settings.from_environment({"TRAILMEND_REMEDIATION_MODE": "approve", "TRAILMEND_REMEDIATION_MODES": f"*@{TEST}=auto"})
    assert told.modes.of("enforce-mfa", PROD) is Mode.APPROVE


names = st.sampled_from(["*", "a", "b"])
entries = st.lists(st.tuples(st.builds(Scope, names, names), st.sampled_from(Mode)), unique_by=lambda one: one[0])


@given(st.sampled_from(Mode), entries, st.randoms())
def test_the_order_of_entries_does_not_matter(default: Mode, overrides: list[tuple[Scope, Mode]], chance: object) -> None:
    """And no entry that covers nothing of it has a say."""
    shuffled = list(overrides)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    for action in "abc":
        for account in "abc":
            mode = Modes(default, tuple(overrides)).of(action, account)
            assert mode is Modes(default, tuple(shuffled)).of(action, account)
            covering = [one for one in overrides if one[0].covers(action, account)]
            assert mode is Modes(default, tuple(covering)).of(action, account)
            assert mode in ({one[1] for one in covering} or {default})


@given(st.sampled_from(Mode), entries)
def test_the_modes_of_an_action_anywhere_are_those_of_all_accounts(default: Mode, overrides: list[tuple[Scope, Mode]]) -> None:
    """Those that entries name, and one that none does."""
    modes = Modes(default, tuple(overrides))
    assert modes.anywhere("a") == {modes.of("a", account) for account in "abc"}


def test_actions_that_nobody_knows_are_named() -> None:
    """Each once; `*` is no stranger."""
    assert strangers([Scope("*"), Scope("a"), Scope("c"), Scope("c", PROD)], ["a", "b"]) == ["c"]
