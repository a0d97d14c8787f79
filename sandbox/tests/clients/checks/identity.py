"""STS and IAM."""

import json

from drive import check, refused

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "tasks.apprunner.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


def policy(action, resource, effect="Allow"):
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource}]}
    )


@check("9 GetCallerIdentity")
def the_caller_has_an_account_and_an_arn(world):
    who = world.sts.get_caller_identity()
    assert who["Account"] == "123456789012" and who["Account"] in who["Arn"] and who["UserId"], who


@check("10.1 roles")
def roles_come_and_go(world):
    iam = world.iam
    role = iam.create_role(RoleName="plain", AssumeRolePolicyDocument=TRUST, Tags=[{"Key": "a", "Value": "b"}])["Role"]
    assert role["Arn"] == "arn:aws:iam::123456789012:role/plain"
    got = iam.get_role(RoleName="plain")["Role"]
    # The document is URL-encoded on the wire; botocore decodes it.
    assert got["AssumeRolePolicyDocument"]["Statement"][0]["Action"] == "sts:AssumeRole"
    assert got["Tags"] == [{"Key": "a", "Value": "b"}]
    assert "plain" in [r["RoleName"] for r in iam.list_roles()["Roles"]]
    refused("EntityAlreadyExists", iam.create_role, 409, RoleName="plain", AssumeRolePolicyDocument=TRUST)
    refused("MalformedPolicyDocument", iam.create_role, 400, RoleName="other", AssumeRolePolicyDocument="{}")
    assert iam.list_attached_role_policies(RoleName="plain")["AttachedPolicies"] == []
    iam.delete_role(RoleName="plain")
    for call in [iam.get_role, iam.delete_role, iam.list_role_policies, iam.list_attached_role_policies]:
        refused("NoSuchEntity", call, 404, RoleName="plain")


@check("10.1 inline policies")
def inline_policies_come_and_go(world):
    iam = world.iam
    iam.create_role(RoleName="worker", AssumeRolePolicyDocument=TRUST)
    document = policy("secretsmanager:GetSecretValue", "*")
    iam.put_role_policy(RoleName="worker", PolicyName="read", PolicyDocument=document)
    assert iam.list_role_policies(RoleName="worker")["PolicyNames"] == ["read"]
    got = iam.get_role_policy(RoleName="worker", PolicyName="read")["PolicyDocument"]
    assert got == json.loads(document), got
    refused("NoSuchEntity", iam.get_role_policy, 404, RoleName="worker", PolicyName="none")
    refused("MalformedPolicyDocument", iam.put_role_policy, 400, RoleName="worker", PolicyName="x", PolicyDocument="no")
    large = policy(["s3:" + "x" * 11000], "*")
    refused("LimitExceeded", iam.put_role_policy, 409, RoleName="worker", PolicyName="x", PolicyDocument=large)
    refused("DeleteConflict", iam.delete_role, 409, RoleName="worker")
    iam.delete_role_policy(RoleName="worker", PolicyName="read")
    refused("NoSuchEntity", iam.delete_role_policy, 404, RoleName="worker", PolicyName="read")
    iam.delete_role(RoleName="worker")


@check("10.1 SimulatePrincipalPolicy")
def a_simulation_evaluates_what_is_stored(world):
    iam = world.iam
    arn = iam.create_role(RoleName="judged", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:{}"

    def decision(name, action="secretsmanager:GetSecretValue"):
        answer = iam.simulate_principal_policy(
            PolicySourceArn=arn, ActionNames=[action], ResourceArns=[secret.format(name)]
        )
        (result,) = answer["EvaluationResults"]
        assert result["EvalActionName"] == action and result["EvalResourceName"] == secret.format(name)
        return result["EvalDecision"]

    assert decision("app/db-AbCdEf") == "implicitDeny"
    iam.put_role_policy(
        RoleName="judged", PolicyName="a", PolicyDocument=policy("secretsmanager:Get*", secret.format("app/*"))
    )
    assert decision("app/db-AbCdEf") == "allowed"
    assert decision("other-AbCdEf") == "implicitDeny"
    assert decision("app/db-AbCdEf", "secretsmanager:PutSecretValue") == "implicitDeny"
    iam.put_role_policy(
        RoleName="judged", PolicyName="b", PolicyDocument=policy("*", secret.format("app/d*"), effect="Deny")
    )
    assert decision("app/db-AbCdEf") == "explicitDeny"
    refused(
        "NoSuchEntity", iam.simulate_principal_policy, 404, PolicySourceArn=arn + "x", ActionNames=["s3:GetObject"]
    )
    refused("InvalidInput", iam.simulate_principal_policy, 400, PolicySourceArn=arn, ActionNames=["nonsense"])
