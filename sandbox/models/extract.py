#!/usr/bin/env python3
"""Cuts the vendors' own service descriptions down to the operations the sandbox offers.

Input: the metadata botocore ships (Apache License 2.0). Output: one small JSON file a service beside this script:
names on the wire, list members, timestamps, required members, limits, error codes. No documentation text.
Run it after a change of OPERATIONS:  python3 sandbox/models/extract.py [openapi.yml of upstash/docs]
"""
import json
import pathlib
import sys

import botocore.session

OPERATIONS = {
    "apprunner": """CreateService UpdateService DescribeService ListServices DeleteService PauseService ResumeService
        StartDeployment ListOperations CreateVpcConnector DescribeVpcConnector ListVpcConnectors DeleteVpcConnector
        TagResource UntagResource ListTagsForResource DescribeAutoScalingConfiguration ListAutoScalingConfigurations
        CreateAutoScalingConfiguration DeleteAutoScalingConfiguration""",
    "ec2": """CreateVpc DescribeVpcs DeleteVpc CreateSubnet DescribeSubnets DeleteSubnet CreateRouteTable
        DescribeRouteTables DeleteRouteTable CreateRoute DeleteRoute AssociateRouteTable DisassociateRouteTable
        CreateInternetGateway AttachInternetGateway DescribeInternetGateways DetachInternetGateway DeleteInternetGateway
        AllocateAddress DescribeAddresses ReleaseAddress CreateNatGateway DescribeNatGateways DeleteNatGateway
        CreateVpcEndpoint DescribeVpcEndpoints DeleteVpcEndpoints DescribeNetworkInterfaces CreateSecurityGroup
        DescribeSecurityGroups DeleteSecurityGroup AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress
        RevokeSecurityGroupIngress RevokeSecurityGroupEgress DescribeSecurityGroupRules CreateTags DeleteTags
        DescribeTags DescribeAvailabilityZones""",
    "elasticache": """CreateReplicationGroup DescribeReplicationGroups ModifyReplicationGroup DeleteReplicationGroup
        DescribeCacheClusters CreateServerlessCache DescribeServerlessCaches ModifyServerlessCache DeleteServerlessCache
        CreateCacheSubnetGroup DescribeCacheSubnetGroups ModifyCacheSubnetGroup DeleteCacheSubnetGroup
        AddTagsToResource RemoveTagsFromResource ListTagsForResource DescribeEvents""",
    "iam": """CreateRole GetRole ListRoles DeleteRole PutRolePolicy GetRolePolicy ListRolePolicies DeleteRolePolicy
        ListAttachedRolePolicies SimulatePrincipalPolicy""",
    "secretsmanager": """CreateSecret GetSecretValue PutSecretValue UpdateSecret DescribeSecret DeleteSecret
        RestoreSecret ListSecrets ListSecretVersionIds TagResource UntagResource""",
    "logs": """CreateLogGroup CreateLogStream DeleteLogGroup PutLogEvents FilterLogEvents GetLogEvents
        DescribeLogGroups DescribeLogStreams""",
    "sts": "GetCallerIdentity",
}

# Members that vendors added after the botocore release this was cut from.
LATER = {
    "elasticache": {
        "CreateServerlessCacheRequest": {"ConnectionType": {"shape": "String"}},
        "ServerlessCache": {"ConnectionType": {"shape": "String"}},
    },
}


def cut(service, operations):
    """The description of `service` with only what `operations` reach."""
    loader = botocore.session.get_session().get_component("data_loader")
    model = loader.load_service_model(service, "service-2")
    meta = model["metadata"]
    shapes, todo = {}, []
    for shape, members in LATER.get(service, {}).items():
        model["shapes"][shape]["members"].update(members)

    def reach(name):
        if name in shapes:
            return name
        shape = model["shapes"][name]
        kind = shape["type"]
        kept = {"t": kind}
        shapes[name] = kept
        if kind == "structure":
            kept["m"] = {m: ref(r) for m, r in shape.get("members", {}).items()}
            if shape.get("required"):
                kept["r"] = shape["required"]
        elif kind == "list":
            kept["e"] = ref(shape["member"])
        elif kind == "map":
            kept["k"], kept["v"] = ref(shape["key"]), ref(shape["value"])
        for key in ("min", "max", "enum", "flattened", "timestampFormat", "sensitive"):
            if key in shape:
                kept[key] = shape[key]
        return name

    def ref(reference):
        kept = {"s": reach(reference["shape"])}
        for key, short in (("locationName", "n"), ("queryName", "q"), ("flattened", "f")):
            if key in reference:
                kept[short] = reference[key]
        return kept

    ops, errors = {}, {}
    for name in operations:
        op = model["operations"][name]
        kept = {}
        if "input" in op:
            kept["i"] = reach(op["input"]["shape"])
        if "output" in op:
            kept["o"] = reach(op["output"]["shape"])
            if "resultWrapper" in op["output"]:
                kept["w"] = op["output"]["resultWrapper"]
        kept["x"] = []
        for error in op.get("errors", []):
            shape = model["shapes"][error["shape"]]
            code = shape.get("error", {}).get("code", error["shape"])
            status = shape.get("error", {}).get("httpStatusCode", 500 if shape.get("fault") else 400)
            errors[code] = status
            kept["x"].append(code)
        ops[name] = kept
    return {
        "service": service,
        "protocol": meta["protocol"],
        "version": meta["apiVersion"],
        "json": meta.get("jsonVersion"),
        "target": meta.get("targetPrefix"),
        "xmlns": meta.get("xmlNamespace"),
        "signing": meta.get("signingName", meta["endpointPrefix"]),
        "operations": ops,
        "errors": errors,
        "shapes": shapes,
    }


for service, names in OPERATIONS.items():
    text = json.dumps(cut(service, names.split()), separators=(",", ":"), sort_keys=True)
    pathlib.Path(__file__).with_name(service + ".json").write_text(text + "\n")


def cut_upstash(path):
    """Types and words of the objects Upstash's management API answers with (needs PyYAML)."""
    import yaml

    schemas = yaml.safe_load(pathlib.Path(path).read_text())["components"]["schemas"]

    def plain(schema):
        kept = {key: schema[key] for key in ("type", "enum", "required") if key in schema}
        if "items" in schema:
            kept["items"] = plain(schema["items"])
        if "properties" in schema:
            kept["properties"] = {name: plain(member) for name, member in schema["properties"].items()}
        if "$ref" in schema:
            kept = plain(schemas[schema["$ref"].rsplit("/", 1)[1]])
        return kept

    return {name: plain(schemas[name]) for name in ("Database", "DatabaseStats")}


if len(sys.argv) > 1:
    text = json.dumps(cut_upstash(sys.argv[1]), separators=(",", ":"), sort_keys=True)
    pathlib.Path(__file__).with_name("upstash.json").write_text(text + "\n")
