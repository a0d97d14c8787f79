"""What any client meets before an operation runs: protocols, error bodies, unknown names."""

import json
import os
import urllib.error
import urllib.request

from drive import check, refused

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
SCOPE = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


def post(body, service=None, **headers):
    if service:
        headers["Authorization"] = SCOPE.format(service)
    request = urllib.request.Request(ENDPOINT, data=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


@check("0.1 awsJson error bodies; 13.1(1)")
def a_json_error_has_a_type_and_a_capital_message(_):
    status, headers, body = post(
        json.dumps({"ServiceArn": "arn:aws:apprunner:us-east-1:1:service/a/b"}).encode(),
        "apprunner",
        X_Amz_Target="AppRunner.DescribeService",
    )
    body = json.loads(body)
    assert status == 400 and body["__type"].endswith("#ResourceNotFoundException") and body["Message"], (status, body)
    assert headers["Content-Type"] == "application/x-amz-json-1.0" and headers["x-amzn-RequestId"], headers


@check("0.1 json versions")
def secrets_manager_and_logs_speak_version_1_1(_):
    for service, target in [("secretsmanager", "secretsmanager.ListSecrets"), ("logs", "Logs_20140328.DescribeLogGroups")]:
        status, headers, _body = post(b"{}", service, X_Amz_Target=target)
        assert status == 200 and headers["Content-Type"] == "application/x-amz-json-1.1", (status, headers)


@check("13.1(1) unknown operation")
def an_unknown_json_operation_is_404(_):
    for target in ["AppRunner.AssociateCustomDomain", "AppRunner.Nonsense", "DynamoDB_20120810.ListTables"]:
        status, _headers, body = post(b"{}", "apprunner", X_Amz_Target=target)
        assert status == 404 and "UnknownOperationException" in body, (target, status, body)


@check("0.1 awsQuery and ec2Query error bodies")
def an_unknown_query_operation_is_400_in_the_services_own_xml(_):
    for service, version, element in [
        ("elasticache", "2015-02-02", "<ErrorResponse"),
        ("iam", "2010-05-08", "<ErrorResponse"),
        ("sts", "2011-06-15", "<ErrorResponse"),
        ("ec2", "2016-11-15", "<Response><Errors>"),
    ]:
        status, _headers, body = post(f"Action=Nonsense&Version={version}".encode(), service)
        assert status == 400 and "<Code>InvalidAction</Code>" in body and element in body, (service, status, body)


@check("0.1 operations not offered are the vendor's clean error, never a 500")
def operations_that_are_not_offered_are_a_client_error(world):
    refused("InvalidAction", world.elasticache.describe_users, status=400)
    refused("InvalidAction", world.ec2.describe_instances, status=400)
    refused("UnknownOperationException", world.apprunner.list_connections, status=404)
    refused("UnknownOperationException", world.secretsmanager.get_random_password, status=404)
    for service, name in [("elasticache", "DescribeUsers"), ("ec2", "DescribeInstances")]:
        world.seen.discard((service, name))


@check("0.3 credentials class")
def a_request_nobody_signed_is_refused(_):
    status, _headers, body = post(b"{}", X_Amz_Target="AppRunner.ListServices")
    assert status == 403 and "MissingAuthenticationToken" in body, (status, body)
    status, _headers, body = post(b"Action=DescribeVpcs&Version=2016-11-15")
    assert status == 403 and "MissingAuthenticationToken" in body, (status, body)


@check("0.3 credentials class")
def a_scope_of_another_service_is_refused(_):
    status, _headers, body = post(b"{}", "ec2", X_Amz_Target="AppRunner.ListServices")
    assert status == 403 and "InvalidSignatureException" in body, (status, body)
    status, _headers, body = post(b"Action=ListBuckets", "s3")
    assert status == 403 and "SignatureDoesNotMatch" in body, (status, body)


@check("0.3 validation class")
def a_body_that_is_no_json_is_a_serialization_error(_):
    status, _headers, body = post(b"{", "apprunner", X_Amz_Target="AppRunner.ListServices")
    assert status == 400 and "SerializationException" in body, (status, body)


@check("1.3 missing and out-of-range members")
def limits_of_the_description_are_kept(_):
    status, _headers, body = post(b"{}", "apprunner", X_Amz_Target="AppRunner.DescribeService")
    assert status == 400 and "InvalidRequestException" in body and "ServiceArn" in body, (status, body)
    status, _headers, body = post(b"Action=CreateSubnet&Version=2016-11-15", "ec2")
    assert status == 400 and "MissingParameter" in body, (status, body)
    status, _headers, body = post(b"Action=DescribeCacheClusters&MaxRecords=many", "elasticache")
    assert status == 400 and "MalformedInput" in body, (status, body)
