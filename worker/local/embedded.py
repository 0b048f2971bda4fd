"""The embedded AWS, as a process: `python -m worker.local.embedded PORT` serves MiniStack on 127.0.0.1:PORT until SIGTERM.

Five things are mended on the way. MiniStack's own default is to listen on every interface, and for IoT and SFTP on further ports: here
it listens on loopback and on PORT alone. And MiniStack leaves the keys that AssumeRole hands out in the caller's account: here they
act in the account of the role, as in AWS, so that member accounts are entered for real; a 12-digit access key id names its account. Its
CloudFormation leaves a queue's RedrivePolicy out: here the queue gets it, so that what the template says is what is run. And it describes
the versions of one launch template alone: here also, as AWS does, the default and latest ones of all. And it keeps of an account's password
policy what an update leaves unsaid: here the update replaces the whole of it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main(port: int) -> None:
    """Serve until told to stop."""
    os.environ.update(
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        MINISTACK_HOST="127.0.0.1",
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        LOG_LEVEL=os.environ.get("LOG_LEVEL", "WARNING"),
    )
    # MiniStack reads the environment when it is imported.
    from ministack import app  # noqa: PLC0415
    from ministack.services import ec2, iam, sqs, sts  # noqa: PLC0415
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    in_callers_account = app.set_request_account_id

    def in_roles_account(access_key_id: str) -> None:
        session = sts._sessions.get(access_key_id)  # noqa: SLF001
        in_callers_account(session["Arn"].split(":")[4] if session else access_key_id)

    app.set_request_account_id = in_roles_account

    queues = provisioners._RESOURCE_HANDLERS["AWS::SQS::Queue"]  # noqa: SLF001
    make_queue = queues["create"]

    def make_queue_with_redrive(logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
        url, attributes = make_queue(logical_id, props, stack_name)
        if "RedrivePolicy" in props:
            sqs._queues[url]["attributes"]["RedrivePolicy"] = json.dumps(props["RedrivePolicy"])  # noqa: SLF001
        return url, attributes

    queues["create"] = make_queue_with_redrive

    describe_versions = ec2._ACTION_MAP["DescribeLaunchTemplateVersions"]  # noqa: SLF001

    def describe_versions_of_all(params: dict[str, Any]) -> Any:
        if "LaunchTemplateId" in params or "LaunchTemplateName" in params:
            return describe_versions(params)
        named = ("LatestVersionNumber", "DefaultVersionNumber")
        every = ec2._launch_templates.values()  # noqa: SLF001
        told = [one for template in every for one in template["Versions"] if one["VersionNumber"] in [template[name] for name in named]]
        items = "".join(map(ec2._lt_version_xml, told))  # noqa: SLF001
        body = f"<launchTemplateVersionSet>{items}</launchTemplateVersionSet>"
        return ec2._xml(200, "DescribeLaunchTemplateVersionsResponse", body)  # noqa: SLF001

    ec2._ACTION_MAP["DescribeLaunchTemplateVersions"] = describe_versions_of_all  # noqa: SLF001

    update_policy = iam._IAM_HANDLERS["UpdateAccountPasswordPolicy"]  # noqa: SLF001

    def replace_policy(params: dict[str, Any]) -> Any:
        iam._account_password_policy.pop("policy", None)  # noqa: SLF001
        return update_policy(params)

    iam._IAM_HANDLERS["UpdateAccountPasswordPolicy"] = replace_policy  # noqa: SLF001
    sys.argv = ["ministack"]
    app.main()


if __name__ == "__main__":
    main(int(sys.argv[1]))
