use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::super::{CheckSpec, Expect, Kind, Severity, Stage, resolve};
use super::duration;

fn violations(check: Value) -> Vec<String> {
    resolve(&[], &[check]).unwrap_err()
}

fn parsed(check: Value) -> super::Check {
    resolve(&[], &[check]).unwrap().remove(0)
}

#[test]
fn a_check_has_sensible_defaults() {
    let check = parsed(json!({ "name": "health", "http": { "path": "/health" } }));
    assert_eq!((check.severity, check.expect, check.required), (Severity::Gate, Expect::Pass, false));
    assert_eq!((check.attempts, check.consecutive, check.timeout.as_secs()), (3, 1, 10));
    let stages = [Stage::Baseline, Stage::AfterSwitch, Stage::Bake, Stage::AfterRollback, Stage::Rest];
    assert_eq!(check.stages, stages.into());
    let Kind::Http(request) = &check.kind else { panic!("not http") };
    assert_eq!(request.status, [200]);
}

#[test]
fn what_writes_is_not_made_at_rest() {
    let session =
        json!({ "create": { "path": "/login" }, "token": { "cookie": "sid" }, "validate": { "path": "/me" } });
    assert!(!parsed(json!({ "name": "s", "session": session })).stages.contains(&Stage::Rest));
    assert!(!parsed(json!({ "name": "p", "http": { "method": "POST", "path": "/" } })).stages.contains(&Stage::Rest));
    assert_eq!(
        violations(json!({ "name": "s", "stages": ["Rest"], "session": session })),
        ["extra[0].stages: must not hold Rest, as a check that writes is made at gates only; remove it"]
    );
}

#[test]
fn kinds_of_a_later_version_are_named() {
    for kind in ["webSocket", "burst", "progress", "restart"] {
        assert_eq!(
            violations(json!({ "name": "x", kind: { "path": "/terminal", "n": [1] } })),
            [format!("extra[0].{kind}: is not offered by this version; use one of redis, http, session, logs, budget")]
        );
    }
}

#[test]
fn exactly_one_kind_is_set() {
    assert_eq!(
        violations(json!({ "name": "x" })),
        ["extra[0]: says nothing to look at; set one of redis, http, session, logs, budget"]
    );
    assert_eq!(
        violations(json!({ "name": "x", "redis": {}, "logs": { "absent": ["x"] } })),
        ["extra[0]: looks at several things; split it into one check for each of redis, http, session, logs, budget"]
    );
}

#[test]
fn what_cannot_be_read_is_refused_and_no_value_is_repeated() {
    let table = [
        (
            json!({ "name": "x", "redis": { "latency": { "p99": "canary" } } }),
            "has an unknown field `p99`; use one of `percentile`, `max`, `samples`",
        ),
        (
            json!({ "name": "x", "budget": { "connection": {} } }),
            "has an unknown field `connection`; use `connections` or `commands`",
        ),
        (json!({ "redis": {} }), "is missing field `name`; set it"),
        (
            json!({ "name": "x", "redis": {}, "severity": "Fatal" }),
            "has an unknown value `Fatal`; use `Gate` or `Warn`",
        ),
        (
            json!({ "name": "x", "http": { "path": "/", "headers": "Authorization: Bearer canary" } }),
            "has a value of the wrong type; use a sequence",
        ),
        (json!("canary"), "has a value of the wrong type; use struct CheckSpec"),
    ];
    for (check, expected) in table {
        assert_eq!(violations(check), [format!("extra[0]: {expected}")]);
    }
}

#[test]
fn all_violations_are_reported_at_once() {
    let check = json!({
        "name": "Not A Name", "attempts": 2, "consecutive": 3, "timeout": "1 day", "interval": "2m",
        "stages": ["Target"], "services": [],
        "http": {
            "path": "https://169.254.169.254/latest/meta-data", "status": [99], "body": "x", "json": { "a": [1] },
            "headers": [{ "name": "Host", "value": "x" }, { "name": "Authorization", "value": "Bearer x" }, { "name": "x" }],
        },
    });
    let expected = [
        "name: is not a name; write 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end",
        "http.body: a GET has none; remove it or use POST",
        "http.status: 99 is out of range; use 100 to 599",
        "http.json: a: only a text, a number or a boolean can be expected; use `present` for the rest",
        "http.headers: host is set by the check itself; remove it",
        "http.headers: authorization is a secret; put it into a Secret and use secretKeyRef",
        "http.headers: x has no value; set value or secretKeyRef",
        "http.path: must start with exactly one /; write only the path, the host is the service's own",
        "consecutive: is more than attempts; lower it or raise attempts",
        "timeout: is not a duration; write it as 500ms, 5s or 1m30s",
        "interval: is out of range; use 0s to 1m",
        "services: has 0 entries; use 1 to 10",
    ];
    let expected: Vec<_> = expected.iter().map(|text| format!("extra[0].{text}")).collect();
    assert_eq!(violations(check), expected);
}

#[test]
fn a_path_cannot_leave_the_host_of_the_service() {
    for path in [
        "",
        "health",
        "//evil.example/x",
        "http://evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil",
        "@evil.example/",
        "/a b",
        "/a\nHost: evil",
        "/a\r\nX: y",
        "/#fragment",
        "/é",
        "/{token}",
        "/\0",
        "ftp:/x",
        "/a\tb",
        "?q=1",
        ".",
        "/<x>",
    ] {
        let found = violations(json!({ "name": "x", "http": { "path": path } }));
        assert_eq!(found.len(), 1 + usize::from(path.is_empty()), "{path:?}: {found:?}");
        assert!(found.iter().all(|text| text.starts_with("extra[0].http.path: ")), "{found:?}");
    }
    for path in ["/", "/health?deep=1&x=a%20b", "/a:b@c", "/api/redis-health/"] {
        parsed(json!({ "name": "x", "http": { "path": path } }));
    }
}

#[test]
fn a_session_says_where_its_token_comes_from_and_goes() {
    let session = |token: Value, validate: &str| json!({ "name": "s", "session": { "create": { "path": "/login" }, "token": token, "validate": { "path": validate } } });
    parsed(session(json!({ "cookie": "sid" }), "/me"));
    parsed(session(json!({ "json": "id" }), "/s/{token}"));
    assert_eq!(
        violations(session(json!({ "json": "id" }), "/me")),
        [
            "extra[0].session.validate: does not say where the session goes; put {token} into its path, a header or its body"
        ]
    );
    assert_eq!(
        violations(session(json!({ "json": "id", "cookie": "sid" }), "/me")),
        ["extra[0].session.token: must have exactly one of cookie and json; keep one"]
    );
    assert_eq!(
        violations(json!({ "name": "s", "session": { "minInstances": 2 } })),
        [
            "extra[0].session.minInstances: needs session.instanceHeader, by which instances are told apart; set it",
            "extra[0].session.token: is missing; say where the session is: cookie: its name, or json: its place",
            "extra[0].session.create: is missing; set its path",
            "extra[0].session.validate: is missing; set its path",
        ]
    );
}

#[test]
fn the_session_itself_may_stand_in_a_header() {
    let header = json!([{ "name": "Authorization", "value": "Bearer {token}" }]);
    parsed(json!({ "name": "s", "session": {
        "create": { "path": "/login", "body": "{\"user\":\"check-{random}\"}" }, "token": { "json": "session" },
        "validate": { "path": "/whoami", "headers": header }, "end": { "path": "/logout", "status": [204], "headers": header },
    } }));
}

#[test]
fn more_successes_than_the_default_tries_raise_the_tries() {
    assert_eq!(parsed(json!({ "name": "x", "consecutive": 5, "redis": {} })).attempts, 5);
}

#[test]
fn a_check_that_would_take_an_hour_is_refused() {
    assert_eq!(
        violations(json!({ "name": "x", "attempts": 20, "timeout": "2m", "redis": {} })),
        ["extra[0].attempts: take more than 10m with their timeouts and pauses; lower attempts or timeout"]
    );
}

#[test]
fn durations_are_read_exactly_or_not_at_all() {
    let ms = |text: &str| duration(text).map(|duration| duration.as_millis());
    assert_eq!(ms("500ms"), Some(500));
    assert_eq!(ms("1m30s"), Some(90_000));
    assert_eq!(ms("2h"), Some(7_200_000));
    assert_eq!(ms("0s"), Some(0));
    for odd in ["", "5", "s", "-5s", "+5s", "1.5s", "5 s", "5d", "99999999999h", "5s5", "ssss", "1e3s", "é", "５s"] {
        assert_eq!(ms(odd), None, "{odd}");
    }
}

#[test]
fn the_schema_names_every_field_and_bounds_every_text_and_list() {
    let schema = serde_json::to_value(schemars::schema_for!(CheckSpec)).unwrap();
    let mut unbounded = Vec::new();
    walk("CheckSpec", &schema, &mut unbounded);
    assert_eq!(unbounded, Vec::<String>::new());
    assert_eq!(schema["additionalProperties"], json!(false));
}

#[test]
fn the_schema_can_stand_in_a_resource_definition() {
    let settings = schemars::generate::SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let structural = settings
        .with_transform(kube::core::schema::OptionalEnum)
        .with_transform(kube::core::schema::StructuralSchemaRewriter);
    let schema = serde_json::to_value(structural.into_generator().into_root_schema_for::<CheckSpec>()).unwrap();
    let mut odd = Vec::new();
    structure("CheckSpec", &schema, &mut odd);
    assert_eq!(odd, Vec::<String>::new());
}

/// Collects the places of `schema` that are not structural: no one type, or an alternative of types.
fn structure(at: &str, schema: &Value, odd: &mut Vec<String>) {
    let free = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if !(schema["type"].is_string() || free) || schema.get("anyOf").is_some() || schema.get("$ref").is_some() {
        odd.push(format!("{at}: {schema}"));
    }
    for (name, value) in schema["properties"].as_object().into_iter().flatten() {
        structure(&format!("{at}.{name}"), value, odd);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(value @ Value::Object(_)) = schema.get(inner) {
            structure(&format!("{at}[]"), value, odd);
        }
    }
}

/// Collects the places of `schema` whose texts or lists have no bound.
fn walk(at: &str, schema: &Value, unbounded: &mut Vec<String>) {
    let Value::Object(map) = schema else { return };
    let is = |sort: &str| match map.get("type") {
        Some(Value::String(text)) => text == sort,
        Some(Value::Array(list)) => list.contains(&json!(sort)),
        _ => false,
    };
    if is("string") && !map.contains_key("maxLength") && !map.contains_key("enum") && !map.contains_key("const") {
        unbounded.push(at.to_owned());
    }
    if is("array") && !map.contains_key("maxItems") {
        unbounded.push(at.to_owned());
    }
    for (key, value) in map {
        match key.as_str() {
            "properties" | "$defs" => {
                for (name, value) in value.as_object().unwrap() {
                    walk(&format!("{at}.{name}"), value, unbounded);
                }
            }
            "items" | "additionalProperties" => walk(&format!("{at}[]"), value, unbounded),
            "anyOf" | "oneOf" | "allOf" => {
                value.as_array().unwrap().iter().for_each(|value| walk(at, value, unbounded));
            }
            _ => {}
        }
    }
}
