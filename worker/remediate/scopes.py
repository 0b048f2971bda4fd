"""Whether the settings speak of actions that there are. Here, because settings know of no actions."""

from __future__ import annotations

from worker.modes import strangers
from worker.remediate.actions import ACTIONS
from worker.settings import PREFIX, Settings, SettingsError


def check_scopes(settings: Settings) -> None:
    """Raises `SettingsError` with every action that a setting names and nobody knows: what is misspelt would hold for nothing."""
    known = [action.name for action in ACTIONS]
    named = {"REMEDIATION_MODES": [scope for scope, _ in settings.remediation_modes], "TWO_APPROVERS": settings.two_approvers}
    faults = [
        f"{PREFIX}{name}: there is no action '{stranger}'; there are {', '.join(known)}"
        for name, scopes in named.items()
        for stranger in strangers(scopes, known)
    ]
    if faults:
        raise SettingsError(faults)
