//! One App Runner service on one ElastiCache store, end to end through the command line: made, reached, moved to
//! Upstash by an update of its variables, deleted.

use serde_json::{Value, json};

use super::ground::{Sandbox, children};
use super::starter::{admit, cache, connector, network, running, string};

const PASSWORD: &str = "a-token-of-the-cache-0123456789";

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

fn ask(sandbox: &Sandbox, url: &str, path: &str) -> Value {
    let said = sandbox.exec("internet", &["curl", "-sS", "-m", "20", &format!("https://{url}{path}")]);
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{path}: {said}"))
}

#[test]
fn a_service_on_elasticache_is_reached_and_moved_to_upstash() {
    let app = format!("web=python3 {}/tests/plane/app.py", env!("CARGO_MANIFEST_DIR"));
    let sandbox = Sandbox::up(&["--image", &app]);
    let network = network(&sandbox);
    let host = cache(&sandbox, &network, PASSWORD);
    let connector = connector(&sandbox, &network);
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
    admit(&sandbox, &network);
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
