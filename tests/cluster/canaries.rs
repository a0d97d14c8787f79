//! A secret is nowhere but in Secrets: not in an object, an event, a log at its finest, a metric, or what the API server was
//! ever asked, whether things go well or not.

use serde_json::{Value, json};

use super::ground::{Ground, SERVICE, created, object};
use super::operator::Operator;

/// Stands in every secret a person wrote.
const CANARY: &str = "canary-0451";

fn secret(name: &str, data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data })
}

#[test]
fn what_people_put_into_secrets_is_seen_nowhere_else_even_where_it_is_wrong() {
    let Some(ground) = Ground::up("canaries") else { return };
    ground.service(SERVICE, None);
    ground.service("second-app", None);
    ground.service("third-app", None);
    let operator = Operator::alone(&ground);
    for secret in [
        secret("wrong-key", &json!({ "email": "who@example.com", "apiKey": format!("{CANARY}-key") })),
        secret("odd-url", &json!({ "url": format!("rediss://user:{CANARY}@ho st:6379") })),
        secret("no-server", &json!({ "url": format!("rediss://user:{CANARY}@127.0.0.1:1/0") })),
        secret("probe", &json!({ "token": format!("{CANARY}-token") })),
    ] {
        ground.apply(&secret);
    }
    let external = |secret: &str| json!({ "external": { "urlSecretKeyRef": { "name": secret, "key": "url" } } });
    let mut refused = created("any");
    refused["upstash"]["apiKeySecretRef"]["name"] = json!("wrong-key");
    ground.apply(&object("wrong-key", &refused, &json!({})));
    ground.apply(&object("odd-url", &external("odd-url"), &json!({ "services": [{ "name": "second-app" }] })));
    ground.apply(&object("no-server", &external("no-server"), &json!({ "services": [{ "name": "second-app" }] })));
    let header =
        json!([{ "name": "Authorization", "prefix": "Bearer ", "secretKeyRef": { "name": "probe", "key": "token" } }]);
    let check = json!({ "name": "alive", "http": { "path": "/status?code=401", "headers": header } });
    let differs = json!({ "services": [{ "name": "third-app" }], "checks": { "extra": [check] } });
    ground.apply(&object("checked", &created("checked"), &differs));

    let stalls = |name: &str, reason: &str| {
        ground.until(name, reason, |object| {
            let conditions = object["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|condition| condition["type"] == "Stalled" && condition["reason"] == reason)
        });
    };
    stalls("wrong-key", "CredentialsInvalid");
    stalls("odd-url", "SecretInvalid");
    ground.until("no-server", "it says why not", |object| object["status"]["summary"]["message"] != "");
    ground.until("checked", "its check has failed", |object| {
        let checks = object["status"]["checks"].as_array();
        checks.into_iter().flatten().any(|check| check["verdict"] == "Fail")
    });
    ground.keeps(&[CANARY.to_owned()]);
    ground.keeps_its_secrets();
    let (_, metrics) = operator.get("/metrics");
    assert!(!metrics.contains(CANARY), "{metrics}");
    assert!(operator.said().contains("\"level\":\"DEBUG\""), "it logged all it can");
}
