//! One App Runner service on one ElastiCache store, end to end through the command line: made, reached, moved to
//! Upstash by an update of its variables, deleted.

use serde_json::{Value, json};

use super::ground::{Sandbox, children};

const PASSWORD: &str = "a-token-of-the-cache-0123456789";

struct Network {
    vpc: String,
    subnets: Vec<String>,
    app_group: String,
    cache_group: String,
}

fn string(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {value:#}")).to_owned()
}

fn network(sandbox: &Sandbox) -> Network {
    let vpc = string(&sandbox.call("ec2", "CreateVpc", &json!({ "CidrBlock": "10.0.0.0/16" })), "/Vpc/VpcId");
    let subnet = |block: &str, zone: &str| {
        let input = json!({ "VpcId": vpc, "CidrBlock": block, "AvailabilityZone": zone });
        string(&sandbox.call("ec2", "CreateSubnet", &input), "/Subnet/SubnetId")
    };
    let subnets = vec![subnet("10.0.1.0/24", "us-east-1a"), subnet("10.0.2.0/24", "us-east-1b")];
    let group = |name: &str| {
        let input = json!({ "GroupName": name, "Description": name, "VpcId": vpc });
        string(&sandbox.call("ec2", "CreateSecurityGroup", &input), "/GroupId")
    };
    let (app_group, cache_group) = (group("app"), group("cache"));
    Network { vpc, subnets, app_group, cache_group }
}

fn cache(sandbox: &Sandbox, network: &Network) -> String {
    let subnets = json!({
        "CacheSubnetGroupName": "cache", "CacheSubnetGroupDescription": "cache", "SubnetIds": network.subnets,
    });
    sandbox.call("elasticache", "CreateCacheSubnetGroup", &subnets);
    let group = json!({
        "ReplicationGroupId": "sessions", "ReplicationGroupDescription": "sessions", "Engine": "redis",
        "CacheNodeType": "cache.t4g.micro", "NumCacheClusters": 1, "CacheSubnetGroupName": "cache",
        "SecurityGroupIds": [network.cache_group], "TransitEncryptionEnabled": true, "AuthToken": PASSWORD,
    });
    sandbox.call("elasticache", "CreateReplicationGroup", &group);
    let which = json!({ "ReplicationGroupId": "sessions" });
    let described = sandbox.call_until("elasticache", "DescribeReplicationGroups", &which, |answer| {
        answer.pointer("/ReplicationGroups/0/Status").is_some_and(|status| status == "available")
    });
    string(&described, "/ReplicationGroups/0/NodeGroups/0/PrimaryEndpoint/Address")
}

/// A source configuration of the image `web`.
pub(crate) fn source(variables: &Value) -> Value {
    json!({
        "AutoDeploymentsEnabled": false,
        "ImageRepository": {
            "ImageIdentifier": "public.ecr.aws/example/web:latest", "ImageRepositoryType": "ECR_PUBLIC",
            "ImageConfiguration": { "Port": "8080", "RuntimeEnvironmentVariables": variables },
        },
    })
}

/// Waits for a service to run.
pub(crate) fn running(sandbox: &Sandbox, arn: &str) -> Value {
    sandbox.call_until("apprunner", "DescribeService", &json!({ "ServiceArn": arn }), |answer| {
        answer.pointer("/Service/Status").is_some_and(|status| status == "RUNNING")
    })
}

fn ask(sandbox: &Sandbox, url: &str, path: &str) -> Value {
    let said = sandbox.exec("internet", &["curl", "-sS", "-m", "20", &format!("https://{url}{path}")]);
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{path}: {said}"))
}

#[test]
fn a_service_on_elasticache_is_reached_and_moved_to_upstash() {
    let app = format!("web=python3 {}/tests/plane/app.py", env!("CARGO_MANIFEST_DIR"));
    let sandbox = Sandbox::up(&["--image", &app]);
    let network = network(&sandbox);
    let host = cache(&sandbox, &network);
    let connector = json!({
        "VpcConnectorName": "sessions", "Subnets": network.subnets, "SecurityGroups": [network.app_group],
    });
    let connector = sandbox.call("apprunner", "CreateVpcConnector", &connector);
    let connector = string(&connector, "/VpcConnector/VpcConnectorArn");
    let service = json!({
        "ServiceName": "web-app", "SourceConfiguration": source(&json!({ "REDIS_HOST": host, "VERSION": "1" })),
        "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "VPC", "VpcConnectorArn": connector } },
    });
    let created = sandbox.call("apprunner", "CreateService", &service);
    let arn = string(&created, "/Service/ServiceArn");
    let url = string(&running(&sandbox, &arn), "/Service/ServiceUrl");

    let answer = ask(&sandbox, &url, "/");
    assert_eq!(answer["env"]["REDIS_HOST"], host.as_str());
    let to_cache = format!("/connect?host={host}&port=6379");
    assert_eq!(ask(&sandbox, &url, &to_cache)["outcome"], "timed out", "no rule admits the service yet");
    let rule = json!({
        "GroupId": network.cache_group,
        "IpPermissions": [{
            "IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379,
            "UserIdGroupPairs": [{ "GroupId": network.app_group }],
        }],
    });
    sandbox.call("ec2", "AuthorizeSecurityGroupIngress", &rule);
    super::ground::until(|| ask(&sandbox, &url, &to_cache)["outcome"] == "open");

    let cli = ["redis-cli", "-h", &host, "--tls", "-a", PASSWORD, "--no-auth-warning", "PING"];
    assert_eq!(sandbox.exec("service:web-app", &cli), "PONG");
    assert_eq!(sandbox.exec(&format!("vpc:{}", network.vpc), &cli), "PONG");
    assert!(sandbox.hangs("internet", &cli));

    let (upstash, password) = super::database(&sandbox, "sessions");
    let to_upstash = format!("/connect?host={upstash}&port=6379");
    assert_eq!(ask(&sandbox, &url, &to_upstash)["outcome"], "timed out", "VPC egress without NAT");
    let update = json!({
        "ServiceArn": arn, "SourceConfiguration": source(&json!({ "REDIS_HOST": upstash, "VERSION": "2" })),
        "NetworkConfiguration": { "EgressConfiguration": { "EgressType": "DEFAULT" } },
    });
    sandbox.call("apprunner", "UpdateService", &update);
    running(&sandbox, &arn);
    assert_eq!(ask(&sandbox, &url, "/")["env"]["REDIS_HOST"], upstash.as_str());
    assert_eq!(ask(&sandbox, &url, &to_upstash)["outcome"], "open");
    assert_eq!(ask(&sandbox, &url, &to_cache)["outcome"], "timed out");
    let cli = [&super::redis_cli(&upstash, &password)[..], &["PING"]].concat();
    assert_eq!(sandbox.exec("service:web-app", &cli), "PONG");

    let name = string(&created, "/Service/ServiceId");
    let group = json!({ "logGroupName": format!("/aws/apprunner/web-app/{name}/application") });
    let logged = sandbox.call_until("logs", "FilterLogEvents", &group, |answer| {
        answer["events"].as_array().is_some_and(|events| events.iter().any(|e| e["message"] == "listening"))
    });
    assert!(logged["events"].as_array().is_some_and(|events| events.len() >= 2), "both deployments: {logged}");

    sandbox.call("apprunner", "DeleteService", &json!({ "ServiceArn": arn }));
    super::ground::until(|| children(sandbox.daemon()).len() == 2);
    let calls = sandbox.json(&["log", "-o", "json", "--mutating"]);
    let calls: Vec<_> = calls.as_array().into_iter().flatten().map(|call| call["operation"].clone()).collect();
    assert!(calls.contains(&json!("UpdateService")) && !calls.contains(&json!("DescribeService")), "{calls:?}");
}

#[test]
fn somebody_else_updates_a_service_between_a_look_and_a_call() {
    let app = format!("web=python3 {}/tests/plane/app.py", env!("CARGO_MANIFEST_DIR"));
    let sandbox = Sandbox::up(&["--image", &app]);
    let input = json!({ "ServiceName": "web-app", "SourceConfiguration": source(&json!({ "VERSION": "1" })) });
    let arn = string(&sandbox.call("apprunner", "CreateService", &input), "/Service/ServiceArn");
    running(&sandbox, &arn);
    for (other, strikes) in [("worker", false), ("web-app", true)] {
        let fault = json!({ "call": "other-hand", "name": other, "count": 1 });
        sandbox.must(&["fault", "add", &fault.to_string()]);
        let lost = json!({ "operation": "UpdateService", "call": "lost-reply", "count": 1 });
        sandbox.must(&["fault", "add", &lost.to_string()]);
        let of = |sandbox: &Sandbox| {
            let listed = sandbox.call("apprunner", "ListOperations", &json!({ "ServiceArn": arn }));
            listed["OperationSummaryList"].as_array().unwrap().clone()
        };
        let before = of(&sandbox).len();
        let health = json!({ "Protocol": "TCP" });
        let update = json!({ "ServiceArn": arn, "HealthCheckConfiguration": health });
        assert!(!sandbox.run(&["call", "apprunner", "UpdateService", &update.to_string()]).status.success());
        let operations = of(&sandbox);
        assert_eq!(operations.len(), before + if strikes { 2 } else { 1 }, "{other}");
        let service = running(&sandbox, &arn);
        let at = "/Service/SourceConfiguration/ImageRepository/ImageConfiguration/RuntimeEnvironmentVariables";
        let variables = service.pointer(at).unwrap();
        assert_eq!(variables.get("SET_BY_ANOTHER_HAND").is_some(), strikes, "{variables}");
        if strikes {
            assert_eq!(
                (&operations[1]["Type"], &operations[1]["Status"]),
                (&json!("UPDATE_SERVICE"), &json!("SUCCEEDED"))
            );
            assert_eq!(operations[0]["Type"], "UPDATE_SERVICE");
        }
    }
}
