//! What a story has come to: the status, and what is in the clouds, without what differs from run to run. Two runs that have
//! come to the same are equal in every member.

use serde_json::{Value, json};

use super::super::starter::string;
use super::world::{OLD, World};

/// What a run has come to so far.
pub(super) fn end(world: &World) -> Value {
    let databases = databases(world);
    let end = json!({
        "object": world.object().map(|object| status(&object["status"])),
        "service": service(world),
        "databases": databases.iter().map(|database| pick(database, &["database_name", "state"])).collect::<Vec<_>>(),
        "caches": caches(world),
        "secrets": secrets(world),
        "claims": claims(world),
        "rules": rules(world),
        "connectors": connectors(world),
        "made": made(world),
        "keys": {
            "old": world.by_hand.as_ref().map(|_| world.keys(OLD)),
            "new": databases.iter().map(|database| world.keys(&string(database, "/database_id"))).collect::<Vec<_>>(),
        },
        "late": world.by_hand.is_none() || world.has_who_came_late(&serving(world, &databases)),
    });
    world.mask(&end)
}

/// The places at which two ends differ.
pub(super) fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", expected, found, &mut all);
    all
}

fn compare(at: &str, expected: &Value, found: &Value, all: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
            for name in names {
                let [expected, found] = [expected, found].map(|of| of.get(name).unwrap_or(&Value::Null));
                compare(&format!("{at}/{name}"), expected, found, all);
            }
        }
        _ if expected == found => {}
        _ => all.push(format!("{at}: {found}, undisturbed {expected}")),
    }
}

fn list(answer: &Value, member: &str) -> Vec<Value> {
    let answer = if member.is_empty() { answer } else { &answer[member] };
    answer.as_array().cloned().unwrap_or_default()
}

/// Some members of each, in an order that does not depend on when it was made.
fn sorted(all: Vec<Value>, members: &[&str]) -> Value {
    let mut all: Vec<_> = all.iter().map(|one| pick(one, members)).collect();
    all.sort_by_key(Value::to_string);
    Value::Array(all)
}

fn pick(of: &Value, members: &[&str]) -> Value {
    Value::Object(members.iter().map(|member| ((*member).to_owned(), of[*member].clone())).collect())
}

fn status(status: &Value) -> Value {
    let mut summary = status["summary"].clone();
    // It has times and ids in it.
    summary["message"] = Value::Null;
    let mut services = list(status, "services");
    for service in &mut services {
        // Without the host in brackets, which is a matter of chance.
        let store = service["store"].as_str().and_then(|store| store.split(" (").next()).map(str::to_owned);
        service["store"] = json!(store);
    }
    json!({
        "phase": status["phase"],
        "generation": status["observedGeneration"],
        "summary": summary,
        "services": sorted(services, &["name", "status", "store"]),
        "store": pick(&status["store"], &["kind", "name", "ours"]),
        "migration": pick(&status["migration"], &["from", "to", "outcome", "reason", "gate"]),
        "conditions": sorted(list(status, "conditions"), &["type", "status", "reason"]),
        "checks": sorted(list(status, "checks"), &["name", "verdict"]),
        "retained": sorted(list(status, "retained"), &["kind", "id"]),
    })
}

/// Its configuration, and how often it was deployed.
fn service(world: &World) -> Value {
    let listed = world.call("apprunner", "ListServices", &json!({}));
    if list(&listed, "ServiceSummaryList").is_empty() {
        return Value::Null;
    }
    let which = json!({ "ServiceArn": world.arn });
    let service = world.call("apprunner", "DescribeService", &which)["Service"].clone();
    let operations = world.call("apprunner", "ListOperations", &which);
    let tags = world.call("apprunner", "ListTagsForResource", &json!({ "ResourceArn": world.arn }));
    json!({
        "status": service["Status"],
        "source": service["SourceConfiguration"],
        "network": service["NetworkConfiguration"],
        "health": service["HealthCheckConfiguration"],
        "instance": service["InstanceConfiguration"],
        "tags": sorted(list(&tags, "Tags"), &["Key", "Value"]),
        "operations": sorted(list(&operations, "OperationSummaryList"), &["Type", "Status"]),
    })
}

fn databases(world: &World) -> Vec<Value> {
    list(&world.call("upstash", "ListDatabases", &json!({})), "")
}

fn caches(world: &World) -> Value {
    let groups = world.call("elasticache", "DescribeReplicationGroups", &json!({}));
    let subnets = world.call("elasticache", "DescribeCacheSubnetGroups", &json!({}));
    json!({
        "groups": sorted(list(&groups, "ReplicationGroups"), &["ReplicationGroupId", "Status"]),
        "subnets": sorted(list(&subnets, "CacheSubnetGroups"), &["CacheSubnetGroupName"]),
    })
}

/// Those that are not on their way out.
fn secrets(world: &World) -> Value {
    sorted(list(&world.call("secretsmanager", "ListSecrets", &json!({})), "SecretList"), &["Name"])
}

/// Who holds which variable.
fn claims(world: &World) -> Value {
    let secrets = list(&world.call("secretsmanager", "ListSecrets", &json!({})), "SecretList");
    let names = secrets.iter().filter_map(|secret| secret["Name"].as_str());
    let claims = names.filter(|name| name.starts_with("sessionbackend/claims/")).map(|name| {
        let value = world.call("secretsmanager", "GetSecretValue", &json!({ "SecretId": name }));
        let claims: Value = serde_json::from_str(value["SecretString"].as_str().unwrap()).unwrap();
        (name.to_owned(), claims["holders"].clone())
    });
    Value::Object(claims.collect())
}

fn rules(world: &World) -> Value {
    let rules = list(&world.call("ec2", "DescribeSecurityGroupRules", &json!({})), "SecurityGroupRules");
    sorted(rules, &["IsEgress", "IpProtocol", "FromPort", "ToPort", "CidrIpv4", "Tags"])
}

fn connectors(world: &World) -> Value {
    let mut all = list(&world.call("apprunner", "ListVpcConnectors", &json!({})), "VpcConnectors");
    all.retain(|connector| connector["Status"] != "INACTIVE");
    sorted(all, &["VpcConnectorName", "Status"])
}

/// How often something was made that costs money or of which there can be only one.
fn made(world: &World) -> Value {
    const MAKING: [&str; 5] = [
        "CreateDatabase",
        "CreateReplicationGroup",
        "CreateCacheSubnetGroup",
        "CreateVpcConnector",
        "AuthorizeSecurityGroupIngress",
    ];
    let log = world.ground.sandbox.json(&["log", "-o", "json", "--mutating"]);
    let calls = list(&log, "");
    let is = |call: &&Value, operation: &str| call["operation"] == operation && call["outcome"] == "ok";
    let count = |operation: &str| calls.iter().filter(|call| is(call, operation)).count();
    Value::Object(MAKING.iter().map(|operation| ((*operation).to_owned(), json!(count(operation)))).collect())
}

/// The store that the service is told of.
fn serving(world: &World, databases: &[Value]) -> String {
    let text = service(world)["source"].to_string();
    let is_old = world.by_hand.as_ref().is_some_and(|made| text.contains(&made.url));
    match databases.first() {
        Some(database) if !is_old => string(database, "/database_id"),
        _ => OLD.to_owned(),
    }
}
