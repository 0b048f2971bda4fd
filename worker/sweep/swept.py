"""The names of what a sweep does, in the order in which it is done. Imports nothing, for the command line needs them at once."""

PASSWORD_POLICY, PASSWORD_RESET, MFA = "enforce-password-policy", "require-password-reset", "enforce-mfa"
UNUSED_KEYS, INACTIVE_KEYS = "deactivate-unused-access-keys", "delete-inactive-access-keys"

SWEPT = (PASSWORD_POLICY, PASSWORD_RESET, MFA, UNUSED_KEYS, INACTIVE_KEYS)
"""The policy comes first, so that new passwords fall under it."""

IDLE_DAYS, LONGEST_DAYS = 45, 3650
"""After how many days a key is idle: by default (the CIS AWS Foundations Benchmark's), and at most."""
