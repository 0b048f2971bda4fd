"""One file an action. A newcomer writes the file and adds its action here; nothing is found by itself."""

from worker.remediate.actions.deactivate_access_key import DeactivateAccessKey
from worker.remediate.actions.enforce_mfa import EnforceMfa
from worker.remediate.actions.reattach_role import ReattachRole
from worker.remediate.actions.require_password_reset import RequirePasswordReset
from worker.remediate.actions.restore_instance_profile import RestoreInstanceProfile
from worker.remediate.steps import Action

ACTIONS: tuple[Action, ...] = (
    DeactivateAccessKey(),
    RequirePasswordReset(),
    EnforceMfa(),
    RestoreInstanceProfile(),
    ReattachRole(),
)
