"""Secrets Manager."""

import uuid

from drive import check, refused


def token():
    return str(uuid.uuid4())


@check("4 CreateSecret, GetSecretValue; ARN with a random suffix")
def a_secret_has_a_suffix_and_a_current_version(world):
    sm, first = world.secretsmanager, token()
    made = sm.create_secret(
        Name="app/one", SecretString="v1", ClientRequestToken=first, Description="d", Tags=[{"Key": "k", "Value": "v"}]
    )
    assert made["VersionId"] == first and made["ARN"].rsplit("-", 1)[0].endswith(":secret:app/one"), made
    assert len(made["ARN"].rsplit("-", 1)[1]) == 6
    for name in ["app/one", made["ARN"], made["ARN"].rsplit("-", 1)[0]]:
        got = sm.get_secret_value(SecretId=name)
        assert got["SecretString"] == "v1" and got["VersionStages"] == ["AWSCURRENT"], got
    told = sm.describe_secret(SecretId="app/one")
    assert told["VersionIdsToStages"] == {first: ["AWSCURRENT"]} and told["Tags"] == [{"Key": "k", "Value": "v"}]


@check("4 idempotency by token; 10.1 Secrets Manager as a compare-and-set")
def a_token_is_a_compare_and_set(world):
    sm, second = world.secretsmanager, token()
    put = sm.put_secret_value(SecretId="app/one", SecretString="v2", ClientRequestToken=second)
    assert put["VersionStages"] == ["AWSCURRENT"] and put["VersionId"] == second
    again = sm.put_secret_value(SecretId="app/one", SecretString="v2", ClientRequestToken=second)
    assert again["VersionId"] == second
    refused(
        "ResourceExistsException",
        sm.put_secret_value,
        400,
        SecretId="app/one",
        SecretString="other",
        ClientRequestToken=second,
    )
    refused(
        "ResourceExistsException",
        sm.update_secret,
        400,
        SecretId="app/one",
        SecretString="v2",
        ClientRequestToken=second,
    )
    assert sm.get_secret_value(SecretId="app/one")["SecretString"] == "v2"
    assert sm.get_secret_value(SecretId="app/one", VersionStage="AWSPREVIOUS")["SecretString"] == "v1"
    assert sm.get_secret_value(SecretId="app/one", VersionId=second)["SecretString"] == "v2"


@check("4 version stages")
def every_put_moves_previous(world):
    sm = world.secretsmanager
    third = sm.update_secret(SecretId="app/one", SecretString="v3", Description="new")["VersionId"]
    assert sm.get_secret_value(SecretId="app/one")["VersionId"] == third
    assert sm.get_secret_value(SecretId="app/one", VersionStage="AWSPREVIOUS")["SecretString"] == "v2"
    staged = sm.list_secret_version_ids(SecretId="app/one")["Versions"]
    assert sorted(s for v in staged for s in v["VersionStages"]) == ["AWSCURRENT", "AWSPREVIOUS"], staged
    every = sm.list_secret_version_ids(SecretId="app/one", IncludeDeprecated=True)["Versions"]
    assert len(every) == 3, every
    pending = sm.put_secret_value(SecretId="app/one", SecretString="v4", VersionStages=["AWSPENDING"])
    assert pending["VersionStages"] == ["AWSPENDING"]
    assert sm.get_secret_value(SecretId="app/one")["SecretString"] == "v3"
    refused("ResourceNotFoundException", sm.get_secret_value, 400, SecretId="app/one", VersionStage="NONE")


@check("4 create again with the same token and content")
def creating_again_is_the_same_call_only_with_the_same_token(world):
    sm, first = world.secretsmanager, token()
    one = sm.create_secret(Name="app/two", SecretString="v", ClientRequestToken=first)
    same = sm.create_secret(Name="app/two", SecretString="v", ClientRequestToken=first)
    assert one["ARN"] == same["ARN"]
    refused("ResourceExistsException", sm.create_secret, 400, Name="app/two", SecretString="v")


@check("4 errors")
def what_is_missing_is_a_400(world):
    sm = world.secretsmanager
    response = refused(
        "ResourceNotFoundException",
        sm.get_secret_value,
        400,
        "Secrets Manager can't find the specified secret.",
        SecretId="none",
    )
    assert response["Error"]["Message"]
    refused("ResourceNotFoundException", sm.describe_secret, 400, SecretId="none")
    refused("ValidationException", sm.create_secret, 400, Name="a name", SecretString="v")
    refused("InvalidRequestException", sm.put_secret_value, 400, SecretId="app/one")
    refused("InvalidParameterException", sm.create_secret, 400, Name="both", SecretString="a", SecretBinary=b"b")


@check("4 binary values")
def a_binary_value_comes_back(world):
    sm = world.secretsmanager
    sm.create_secret(Name="app/binary", SecretBinary=b"\x00\xff")
    got = sm.get_secret_value(SecretId="app/binary")
    assert got["SecretBinary"] == b"\x00\xff" and "SecretString" not in got


@check("4 recovery window; name scheduled for deletion; 13.4")
def a_deleted_secret_keeps_its_name_until_it_is_restored_or_forced(world):
    sm = world.secretsmanager
    arn = sm.create_secret(Name="app/gone", SecretString="v")["ARN"]
    refused("InvalidParameterException", sm.delete_secret, 400, SecretId="app/gone", RecoveryWindowInDays=3)
    refused(
        "InvalidParameterException",
        sm.delete_secret,
        400,
        SecretId="app/gone",
        RecoveryWindowInDays=7,
        ForceDeleteWithoutRecovery=True,
    )
    sm.delete_secret(SecretId="app/gone", RecoveryWindowInDays=7)
    for call, extra in [(sm.get_secret_value, {}), (sm.put_secret_value, {"SecretString": "w"})]:
        refused("InvalidRequestException", call, 400, "marked for deletion", SecretId="app/gone", **extra)
    refused("InvalidRequestException", sm.create_secret, 400, "already scheduled for deletion", Name="app/gone")
    assert sm.describe_secret(SecretId=arn)["DeletedDate"]
    assert "app/gone" not in [s["Name"] for s in sm.list_secrets()["SecretList"]]
    assert "app/gone" in [s["Name"] for s in sm.list_secrets(IncludePlannedDeletion=True)["SecretList"]]
    sm.restore_secret(SecretId="app/gone")
    assert sm.get_secret_value(SecretId=arn)["SecretString"] == "v"
    sm.delete_secret(SecretId="app/gone", ForceDeleteWithoutRecovery=True)
    refused("ResourceNotFoundException", sm.describe_secret, 400, SecretId=arn)
    sm.delete_secret(SecretId="app/gone", ForceDeleteWithoutRecovery=True)
    assert sm.create_secret(Name="app/gone", SecretString="v")["ARN"] != arn


@check("4 tags, ListSecrets filters and pages")
def secrets_are_found_by_tag_and_name(world):
    sm = world.secretsmanager
    sm.tag_resource(SecretId="app/one", Tags=[{"Key": "owner", "Value": "x"}])
    names = lambda **a: [s["Name"] for s in sm.list_secrets(**a)["SecretList"]]
    assert names(Filters=[{"Key": "tag-key", "Values": ["owner"]}]) == ["app/one"]
    assert "app/two" in names(Filters=[{"Key": "name", "Values": ["app/"]}])
    assert names(Filters=[{"Key": "name", "Values": ["zzz"]}]) == []
    sm.untag_resource(SecretId="app/one", TagKeys=["owner"])
    assert names(Filters=[{"Key": "tag-key", "Values": ["owner"]}]) == []
    pages = list(sm.get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 1}))
    assert len(pages) > 2 and sum(len(p["SecretList"]) for p in pages) == len(sm.list_secrets()["SecretList"])
    refused("InvalidNextTokenException", sm.list_secrets, 400, NextToken="nonsense")
