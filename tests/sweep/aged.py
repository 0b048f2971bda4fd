"""An embedded AWS with a past, as a process: `python -m tests.sweep.aged PORT`.

What MiniStack does not do is done here as IAM's documentation has it: keys and passwords have dates, uses are told, users come in pages, the credential report
has its columns, a virtual device checks its codes (RFC 6238), and calls may be denied or throttled. More IAM actions, for tests: `Seed` puts users
there whole, `Marked` tells who must choose a new password, `Trouble` says what is denied or throttled from now on.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

PAGE = 100
STEP_SECONDS = 30
Answer = tuple[int, dict[str, str], bytes]
Handler = Callable[[dict[str, Any]], Answer]

trouble: dict[str, Any] = {}
calls: list[str] = []


def code_at(seed: str, step: int) -> str:
    """The six digits of a step of 30 s, as RFC 6238 and RFC 4226 have them."""
    digest = hmac.new(base64.b32decode(seed), step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


def _mend(iam: Any) -> None:  # noqa: C901  # a list of small functions
    handlers: dict[str, Handler] = iam._IAM_HANDLERS

    def one(params: dict[str, Any], name: str) -> str:
        return str(iam._p(params, name))

    def seed(params: dict[str, Any]) -> Answer:
        for user in json.loads(one(params, "Users")):
            name, path = user["name"], user["path"]
            arn = f"arn:aws:iam::{iam.get_account_id()}:user{path}{name}"
            iam._users[name] = {
                "UserName": name,
                "Arn": arn,
                "UserId": iam._gen_id("AIDA"),
                "CreateDate": user["at"],
                "Path": path,
                "AttachedPolicies": [],
                "Tags": [],
            }
            if user["password_at"] is not None:
                iam._login_profiles[name] = {
                    "UserName": name,
                    "CreateDate": user["password_at"],
                    "PasswordResetRequired": user["marked"],
                }
            if user["mfa"]:
                serial = f"arn:aws:iam::{iam.get_account_id()}:mfa/{name}"
                iam._mfa_devices[serial] = {"SerialNumber": serial, "User": name, "EnableDate": user["at"], "Base32StringSeed": "A" * 32}
            for key in user["keys"]:
                iam._access_keys[key["id"]] = {
                    "UserName": name,
                    "AccessKeyId": key["id"],
                    "SecretAccessKey": "secret",
                    "Status": key["status"],
                    "CreateDate": key["at"],
                    "UsedAt": key["used_at"],
                }
        return iam._xml(200, "SeedResponse", "", ns="iam")  # type: ignore[no-any-return]

    def make_trouble(params: dict[str, Any]) -> Answer:
        trouble.clear()
        trouble.update(json.loads(one(params, "Trouble")))
        told = json.dumps(calls)
        calls.clear()
        return 200, {"Content-Type": "application/json"}, told.encode()

    def marked(_: dict[str, Any]) -> Answer:
        names = [name for name, profile in iam._login_profiles.items() if profile["PasswordResetRequired"]]
        return 200, {"Content-Type": "application/json"}, json.dumps(names).encode()

    def list_users(params: dict[str, Any]) -> Answer:
        names = sorted(iam._users.keys())
        start, most = int(one(params, "Marker") or 0), int(one(params, "MaxItems") or PAGE)
        members = "".join(f"<member>{iam._user_xml(name)}</member>" for name in names[start : start + most])
        more = start + most < len(names)
        marker = f"<Marker>{start + most}</Marker>" if more else ""
        body = f"<ListUsersResult><Users>{members}</Users><IsTruncated>{str(more).lower()}</IsTruncated>{marker}</ListUsersResult>"
        return iam._xml(200, "ListUsersResponse", body, ns="iam")  # type: ignore[no-any-return]

    def last_used(params: dict[str, Any]) -> Answer:
        key = iam._access_keys.get(one(params, "AccessKeyId"))
        if key is None or key.get("UsedAt") is None:
            return never_used(params)
        use = f"<LastUsedDate>{key['UsedAt']}</LastUsedDate><Region>us-east-1</Region><ServiceName>s3</ServiceName>"
        body = (
            f"<GetAccessKeyLastUsedResult><UserName>{key['UserName']}</UserName><AccessKeyLastUsed>{use}</AccessKeyLastUsed>"
            "</GetAccessKeyLastUsedResult>"
        )
        return iam._xml(200, "GetAccessKeyLastUsedResponse", body, ns="iam")  # type: ignore[no-any-return]

    def report() -> str:
        rows = [iam._CRED_REPORT_HEADER, f"<root_account>,arn:aws:iam::{iam.get_account_id()}:root,2019-01-01T00:00:00Z" + ",N/A" * 19]
        keys: dict[str, list[Any]] = {}
        for key in iam._access_keys.values():
            keys.setdefault(key["UserName"], []).append(key)
        with_mfa = {device.get("User") for device in iam._mfa_devices.values()}
        for name, user in iam._users.items():
            has_password = name in iam._login_profiles
            cells = [name, user["Arn"], user["CreateDate"], str(has_password).lower()]
            cells += ["no_information", user["CreateDate"], "N/A"] if has_password else ["N/A"] * 3
            cells.append(str(name in with_mfa).lower())
            for key in [*sorted(keys.get(name, []), key=lambda key: str(key["CreateDate"])), None, None][:2]:
                used = None if key is None else key.get("UsedAt")
                cells += ["false", "N/A"] if key is None else [str(key["Status"] == "Active").lower(), key["CreateDate"]]
                cells += [used, "us-east-1", "s3"] if used else ["N/A"] * 3
            rows.append(",".join([*cells, "false", "N/A", "false", "N/A"]))
        return "\n".join(rows)

    def make_device(params: dict[str, Any]) -> Answer:
        answer = bare_device(params)
        name = one(params, "VirtualMFADeviceName")
        device = iam._mfa_devices.get(f"arn:aws:iam::{iam.get_account_id()}:mfa/{name}")
        if answer[0] != 200 or device is None:
            return answer
        device["Base32StringSeed"] = base64.b32encode(secrets.token_bytes(40)).decode()
        body = iam._virtual_mfa_xml(device["SerialNumber"], include_user=False)
        whole = f"<CreateVirtualMFADeviceResult><VirtualMFADevice>{body}</VirtualMFADevice></CreateVirtualMFADeviceResult>"
        return iam._xml(200, "CreateVirtualMFADeviceResponse", whole, ns="iam")  # type: ignore[no-any-return]

    def enable(params: dict[str, Any]) -> Answer:
        device = iam._mfa_devices.get(one(params, "SerialNumber"))
        if device is not None:
            told = [one(params, "AuthenticationCode1"), one(params, "AuthenticationCode2")]
            now = int(time.time()) // STEP_SECONDS
            if told not in [[code_at(device["Base32StringSeed"], step + n) for n in (0, 1)] for step in range(now - 3, now + 3)]:
                return iam._error(403, "InvalidAuthenticationCode", "Authentication code for device is not valid.", ns="iam")  # type: ignore[no-any-return]
        return bare_enable(params)

    def checked(name: str, handler: Handler) -> Handler:
        def handle(params: dict[str, Any]) -> Answer:
            calls.append(name)
            every = trouble.get("throttle_every")
            if every and len(calls) % every == 0:
                return iam._error(400, "Throttling", "Rate exceeded", ns="iam")  # type: ignore[no-any-return]
            if [name, one(params, "UserName")] in trouble.get("denied", []) or [name, None] in trouble.get("denied", []):
                return iam._error(403, "AccessDenied", f"not authorized to perform iam:{name}", ns="iam")  # type: ignore[no-any-return]
            return handler(params)

        return handle

    never_used, bare_device, bare_enable = (handlers[one] for one in ("GetAccessKeyLastUsed", "CreateVirtualMFADevice", "EnableMFADevice"))
    iam._build_credential_report = report
    handlers.update(ListUsers=list_users, GetAccessKeyLastUsed=last_used, CreateVirtualMFADevice=make_device, EnableMFADevice=enable)
    handlers.update({name: checked(name, handler) for name, handler in handlers.items()})
    handlers.update(Seed=seed, Trouble=make_trouble, Marked=marked)


def stamp(moment: datetime) -> str:
    """A time as IAM writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    os.environ.update(GATEWAY_PORT=sys.argv[1], BIND_HOST="127.0.0.1", MINISTACK_HOST="127.0.0.1", IOT_MTLS_ENABLED="0", SFTP_ENABLED="0")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    from ministack.services import iam as service

    from worker.local.embedded import main

    _mend(service)
    main(int(sys.argv[1]))
