"""What IAM must allow for a call to AWS: the actions, on what kind of resource each, and under which condition. Pure: two tables and a look-up.

A call is spelt `service:Operation`, the service as botocore names it and the operation as AWS spells it. Which calls a part makes stands beside the
part (`AWS_CALLS` of a module, `calls` of a fact, an action or a sink); here stands what each call takes, once. A newcomer's call goes into `ON`, under
the kind of resource that its action is held to, where IAM's action has the call's own name, and into `OTHERWISE` where it takes anything else.

Source: the table "Actions" of each service in the Service Authorization Reference, which spells the kinds of resources so too:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANYTHING = "*"
"""The kind of what IAM knows no resource for."""

Condition = tuple[str, str, str]
"""An operator, a key and a value of a policy's condition."""


@dataclass(frozen=True, slots=True)
class Permission:
    """An IAM action, the kind of resource that it is allowed on, and what it is held to beside."""

    action: str
    kind: str
    condition: Condition | None = None


class UnknownCallError(LookupError):
    """Nobody has said what IAM must allow for a call. The text says which call and where to say it."""


ON: Mapping[str, tuple[str, ...]] = {
    ANYTHING: (
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeLaunchConfigurations",
        "batch:DescribeComputeEnvironments",
        "cloudtrail:LookupEvents",
        "ec2:DescribeIamInstanceProfileAssociations",
        "ec2:DescribeInstances",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:DescribeRegions",
        "iam:DeleteAccountPasswordPolicy",
        "iam:GenerateCredentialReport",
        "iam:GetAccountAuthorizationDetails",
        "iam:GetAccountPasswordPolicy",
        "iam:GetCredentialReport",
        "iam:ListAccountAliases",
        "iam:ListInstanceProfiles",
        "iam:ListUsers",
        "iam:UpdateAccountPasswordPolicy",
        "organizations:ListAccounts",
    ),
    "environment": ("elasticbeanstalk:DescribeConfigurationSettings", "elasticbeanstalk:DescribeEnvironments"),
    "event-bus": ("events:PutEvents",),
    "group": ("iam:GetGroupPolicy", "iam:ListAttachedGroupPolicies", "iam:ListGroupPolicies"),
    "instance": ("ec2:DisassociateIamInstanceProfile",),
    "instance-profile": (
        "iam:DeleteInstanceProfile",
        "iam:GetInstanceProfile",
        "iam:ListInstanceProfileTags",
        "iam:RemoveRoleFromInstanceProfile",
    ),
    "parameter": ("ssm:GetParameter",),
    "policy": ("iam:GetPolicy", "iam:GetPolicyVersion"),
    "mfa": ("iam:CreateVirtualMFADevice", "iam:DeleteVirtualMFADevice"),
    "queue": ("sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:SendMessage"),
    "role": (
        "iam:DeleteRolePolicy",
        "iam:GetRole",
        "iam:GetRolePolicy",
        "iam:ListAttachedRolePolicies",
        "iam:ListRolePolicies",
        "iam:PutRolePolicy",
    ),
    "table": (
        "dynamodb:BatchGetItem",
        "dynamodb:BatchWriteItem",
        "dynamodb:DeleteItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
        "dynamodb:Scan",
        "dynamodb:UpdateItem",
    ),
    "topic": ("sns:Publish",),
    "user": (
        "iam:DeleteAccessKey",
        "iam:DeleteUserPolicy",
        "iam:EnableMFADevice",
        "iam:GetAccessKeyLastUsed",
        "iam:GetLoginProfile",
        "iam:GetUser",
        "iam:GetUserPolicy",
        "iam:ListAccessKeys",
        "iam:ListAttachedUserPolicies",
        "iam:ListGroupsForUser",
        "iam:ListMFADevices",
        "iam:ListUserPolicies",
        "iam:PutUserPolicy",
        "iam:UpdateAccessKey",
        "iam:UpdateLoginProfile",
    ),
}
"""By the kind of resource, the calls whose IAM action has their own name and takes nothing beside."""

# China's EC2 is called ec2.amazonaws.com.cn in trust policies, hence the star.
PASS_ROLE_TO_EC2 = Permission("iam:PassRole", "role", ("StringLike", "iam:PassedToService", "ec2.amazonaws.com*"))

OTHERWISE: Mapping[str, tuple[Permission, ...]] = {
    # The role in a profile is passed to EC2, when it is put into one and when an instance is given one:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
    "iam:AddRoleToInstanceProfile": (Permission("iam:AddRoleToInstanceProfile", "instance-profile"), PASS_ROLE_TO_EC2),
    "ec2:AssociateIamInstanceProfile": (Permission("ec2:AssociateIamInstanceProfile", "instance"), PASS_ROLE_TO_EC2),
    "ec2:ReplaceIamInstanceProfileAssociation": (Permission("ec2:ReplaceIamInstanceProfileAssociation", "instance"), PASS_ROLE_TO_EC2),
    # With tags: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags_instance-profiles.html
    "iam:CreateInstanceProfile": (
        Permission("iam:CreateInstanceProfile", "instance-profile"),
        Permission("iam:TagInstanceProfile", "instance-profile"),
    ),
    # A version has an action of its own, an encrypted object takes its key, and without s3:ListBucket S3 answers AccessDenied for a key that
    # is not there: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    "s3:GetObject": (
        Permission("s3:GetObject", "object"),
        Permission("s3:GetObjectVersion", "object"),
        Permission("s3:ListBucket", "bucket"),
        Permission("kms:Decrypt", "key"),
    ),
    "s3:ListObjectVersions": (Permission("s3:ListBucketVersions", "bucket"),),
    # With a lock: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
    "s3:PutObject": (Permission("s3:PutObject", "object"), Permission("s3:PutObjectRetention", "object")),
    "s3:ListObjectsV2": (Permission("s3:ListBucket", "bucket"),),
    # A batch is allowed by the action for one:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
    "sqs:ChangeMessageVisibilityBatch": (Permission("sqs:ChangeMessageVisibility", "queue"),),
    "sqs:DeleteMessageBatch": (Permission("sqs:DeleteMessage", "queue"),),
    "sqs:SendMessageBatch": (Permission("sqs:SendMessage", "queue"),),
    # A transaction is allowed by the actions that it is made of; ours puts and deletes:
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
    "dynamodb:TransactWriteItems": (Permission("dynamodb:DeleteItem", "table"), Permission("dynamodb:PutItem", "table")),
    # An alias or version of a state machine is allowed by the machine's own ARN:
    # https://docs.aws.amazon.com/step-functions/latest/dg/auth-version-alias.html
    "stepfunctions:StartExecution": (Permission("states:StartExecution", "statemachine"),),
    # With a source identity: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html
    "sts:AssumeRole": (Permission("sts:AssumeRole", "role"), Permission("sts:SetSourceIdentity", "role")),
    # "No permissions are required": https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
    "sts:GetCallerIdentity": (),
}
"""By the call, what is to be allowed for it, where that is anything but the action of its name."""

_OWN_NAME = {call: (Permission(call, kind),) for kind, calls in ON.items() for call in calls}


def permissions(call: str) -> tuple[Permission, ...]:
    """What IAM must allow for a call. Raises `UnknownCallError`."""
    found = OTHERWISE.get(call) or _OWN_NAME.get(call)
    if found is None and call not in OTHERWISE:
        raise UnknownCallError(f"{call}: add it to worker/authorization.py, to ON under its kind of resource, or to OTHERWISE")
    return found or ()
