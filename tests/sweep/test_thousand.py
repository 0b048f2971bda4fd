"""A thousand users: a sweep plans what the credential report says to whoever reads it independently, and leaves the exempt alone."""

import asyncio
import csv
import io
import random
from collections import Counter
from datetime import datetime, timedelta

from tests.sweep.estate import ACCOUNT, Estate, crowd

DAYS = 45
Wanted = Counter[tuple[str, str]]
"""(user, action) -> how many calls it takes."""


def reading(report: str, now: datetime) -> tuple[Wanted, set[str]]:
    """What the report says is wrong, and who is break-glass. Written from AWS's page on the report's columns and docs/remediation.md; nothing of ours is called.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html
    """
    wanted: Wanted = Counter()
    spared = set()
    for row in csv.DictReader(io.StringIO(report)):
        name = row["user"]
        if name == "<root_account>":
            continue
        if ":user/break-glass/" in row["arn"]:
            spared.add(name)
        if row["password_enabled"] == "true":
            wanted[name, "require-password-reset"] += 1
            if row["mfa_active"] == "false":
                wanted[name, "enforce-mfa"] += 1
        for key in ("access_key_1", "access_key_2"):
            made, used = row[f"{key}_last_rotated"], row[f"{key}_last_used_date"]
            if made == "N/A" or now - datetime.fromisoformat(made) < timedelta(days=DAYS):
                continue
            # A use is told some hours late, and a day is the margin for that.
            if used != "N/A" and now - datetime.fromisoformat(used) < timedelta(days=DAYS + 1):
                continue
            wanted[name, "deactivate-unused-access-keys" if row[f"{key}_active"] == "true" else "delete-inactive-access-keys"] += 1
    return wanted, spared


def of(wanted: Wanted, action: str) -> set[str]:
    return {name for name, one in wanted if one == action}


async def test_a_thousand_users_are_planned_as_the_report_says_and_mended_but_for_the_exempt(estate: Estate) -> None:
    """Every state of keys, MFA and password, drawn by a seeded chance. No column tells who must choose a new password already: those are left out."""
    users = crowd(1000, estate.now, random.Random(6))
    await estate.seed(users)
    sweep = estate.sweep(exempt_principals=("arn:aws:iam::*:user/break-glass/*",), allow_irreversible=True)
    every, spared = reading(await estate.report(), estate.now)
    for name in (one["name"] for one in users if one["marked"]):
        del every[name, "require-password-reset"]
    expected = Counter({key: count for key, count in every.items() if key[0] not in spared})
    left = Counter({key: count for key, count in every.items() if key[0] in spared})
    assert len(spared) == 50
    assert min(len(of(expected, action)) for _, action in expected) > 80, "the crowd is too much alike to show anything"

    survey = await sweep.survey([ACCOUNT])
    assert (survey.users, survey.unread) == (1000, [])
    policy, *rows = survey.rows
    assert (policy.want.action, policy.want.target.name) == ("enforce-password-policy", ACCOUNT)
    planned = Counter({(row.want.target.name, row.want.action): len(row.steps) for row in rows if row.prospect.verdict == "planned"})
    assert planned == expected
    assert Counter({(row.want.target.name, row.want.action): 1 for row in rows if row.prospect.verdict == "exempt"}).keys() == left.keys()
    assert {row.prospect.verdict for row in rows} == {"planned", "exempt"}
    assert await estate.outcomes() == []

    done = await sweep.carry_out(survey, asyncio.Event())
    assert Counter(row.ending.outcome for row in done if row.ending) == {"applied": len(expected) + 1}
    assert Counter(await estate.outcomes()) == {"started": len(done), "applied": len(done)}

    # The report again: what is left are the exempt, those who are held in ways that it does not tell, and keys made inactive just now.
    again, _ = reading(await estate.report(), estate.now)
    just_now = {name: count for (name, action), count in expected.items() if action == "deactivate-unused-access-keys"}
    assert of(again, "deactivate-unused-access-keys") == of(left, "deactivate-unused-access-keys")
    kept = Counter({name: count for (name, action), count in left.items() if action == "delete-inactive-access-keys"}) + Counter(just_now)
    assert Counter({name: count for (name, action), count in again.items() if action == "delete-inactive-access-keys"}) == kept
    policies = await estate.policies()
    assert {name for name, held in policies.items() if "TrailmendEnforceMfa" in held} == of(expected, "enforce-mfa")
    marked = {one["name"] for one in users if one["marked"]} & of(again, "require-password-reset")
    assert set(await estate.marked()) == of(expected, "require-password-reset") | marked

    # And the next sweep, of a hundred of them. The policy is strong by now, but the journal tells until when it was not.
    some = {one["name"] for one in users[:100]}
    after = await estate.sweep(exempt_principals=("arn:aws:iam::*:user/break-glass/*",)).survey([ACCOUNT], sorted(some))
    assert after.planned == []
    assert {(row.want.target.name, row.want.action) for row in after.rows} == {(name, action) for name, action in left if name in some}
