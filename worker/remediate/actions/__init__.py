"""One file an action. A newcomer writes the file and adds its action here; nothing is found by itself."""

from worker.remediate.actions.deactivate_access_key import DeactivateAccessKey
from worker.remediate.actions.deactivate_unused_access_keys import DeactivateUnusedAccessKeys
from worker.remediate.actions.delete_inactive_access_keys import DeleteInactiveAccessKeys
from worker.remediate.actions.enforce_mfa import EnforceMfa
from worker.remediate.actions.enforce_password_policy import EnforcePasswordPolicy
from worker.remediate.actions.quarantine_user import QuarantineUser
from worker.remediate.actions.reattach_role import ReattachRole
from worker.remediate.actions.require_password_reset import RequirePasswordReset
from worker.remediate.actions.restore_instance_profile import RestoreInstanceProfile
from worker.remediate.actions.revoke_role_sessions import RevokeRoleSessions
from worker.remediate.steps import Action

ACTIONS: tuple[Action, ...] = (
    RequirePasswordReset(),
    EnforcePasswordPolicy(),
    EnforceMfa(),
    DeactivateAccessKey(),
    DeactivateUnusedAccessKeys(),
    DeleteInactiveAccessKeys(),
    QuarantineUser(),
    RevokeRoleSessions(),
    RestoreInstanceProfile(),
    ReattachRole(),
)
