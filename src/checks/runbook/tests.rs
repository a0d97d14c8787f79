use serde_json::json;

use super::*;
use crate::checks::{Expect, Kind, Severity, Stage};

#[expect(clippy::needless_pass_by_value, reason = "called with json!")]
fn reference(name: &str, overrides: Value) -> Value {
    json!({ "name": name, "override": overrides })
}

fn resolved(reference: Value) -> Vec<Check> {
    resolve(&[reference], &[]).unwrap()
}

fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap()
}

#[test]
fn every_built_in_runbook_is_read_under_its_own_name_and_resolves() {
    for name in names() {
        let runbook = BUILT_IN[name].as_ref().unwrap();
        assert_eq!(runbook.name, name);
        let checks = resolved(reference(name, json!({})));
        assert!(checks.len() >= 5, "{name} has only {} checks", checks.len());
        assert!(checks.iter().any(|check| matches!(check.kind, Kind::Redis(_))), "{name} does not look at the store");
        assert!(
            checks.iter().any(|check| check.stages.contains(&Stage::AfterSwitch) && check.severity == Severity::Gate),
            "{name} gates nothing after the switch"
        );
    }
}

#[test]
fn the_parts_of_a_runbook_that_wait_for_a_figure_can_be_enabled() {
    let lab = json!({ "lab-session": { "disabled": false, "session": { "create": { "path": "/api/labs/session" }, "token": { "json": "sessionId" } } } });
    let checks = resolved(reference("WebSocketSessions", lab));
    let Kind::Session(session) = &find(&checks, "lab-session").kind else { panic!("not a session") };
    assert_eq!(session.grace.as_secs(), 10);
    assert_eq!(session.validate.path, "/api/labs/session/{token}/validate");

    let header = json!({ "ws-diagnostic": { "disabled": false, "http": { "headers": [{ "name": "Authorization", "prefix": "Bearer ", "secretKeyRef": { "name": "liberty", "key": "jwt" } }] } } });
    let checks = resolved(reference("DjangoChannels", header));
    let secrets = find(&checks, "ws-diagnostic").secrets();
    assert_eq!((secrets[0].name.as_str(), secrets[0].key.as_str()), ("liberty", "jwt"));

    let token = json!({ "bridge-token": { "disabled": false, "session": { "create": { "path": "/t" }, "token": { "cookie": "sid" }, "validate": { "path": "/me" } } } });
    assert!(matches!(find(&resolved(reference("TokenBridge", token)), "bridge-token").kind, Kind::Session(_)));
}

#[test]
fn an_override_changes_what_it_names_and_nothing_else() {
    let plain = resolved(reference("FallbackFailover", json!({})));
    let change = json!({ "health": { "severity": "Warn", "expect": "Unsupported", "timeout": "3s", "http": { "path": "/healthz", "maxLatency": "900ms" } } });
    let changed = resolved(reference("FallbackFailover", change));
    let (before, after) = (find(&plain, "health"), find(&changed, "health"));
    assert_eq!((after.severity, after.expect, after.timeout.as_secs()), (Severity::Warn, Expect::Unsupported, 3));
    let Kind::Http(request) = &after.kind else { panic!("not http") };
    assert_eq!((request.path.as_str(), request.max_latency.map(|limit| limit.as_millis())), ("/healthz", Some(900)));
    assert_eq!(
        (after.consecutive, after.attempts, after.required),
        (before.consecutive, before.attempts, before.required)
    );
    let others = |checks: &[Check]| checks.iter().filter(|check| check.name != "health").cloned().collect::<Vec<_>>();
    assert_eq!(others(&plain), others(&changed));
}

#[test]
fn a_check_can_be_left_out() {
    let checks = resolved(reference("DjangoChannels", json!({ "limits": { "disabled": true } })));
    assert!(checks.iter().all(|check| check.name != "limits"));
}

#[test]
fn a_name_that_is_not_known_is_answered_with_the_nearest() {
    let violations = |name: &str, overrides: Value| resolve(&[reference(name, overrides)], &[]).unwrap_err();
    assert_eq!(
        violations("DjangoChanels", json!({})),
        ["runbooks[0].name: there is no runbook named DjangoChanels; did you mean DjangoChannels?"]
    );
    assert_eq!(
        violations("Rails", json!({})),
        [
            "runbooks[0].name: there is no runbook named Rails; use one of WebSocketSessions, DjangoChannels, FallbackFailover, TokenBridge"
        ]
    );
    assert_eq!(
        violations("DjangoChannels", json!({ "redis-helth": { "severity": "Warn" } })),
        [
            "runbooks[0].override.redis-helth: there is no check of DjangoChannels named redis-helth; did you mean redis-health?"
        ]
    );
}

#[test]
fn one_name_for_two_different_checks_is_refused_and_for_the_same_one_is_not() {
    let twice = [reference("DjangoChannels", json!({})), reference("DjangoChannels", json!({}))];
    assert_eq!(resolve(&twice, &[]).unwrap().len(), resolve(&twice[..1], &[]).unwrap().len());
    let extra = json!({ "name": "redis", "redis": { "write": false } });
    assert_eq!(
        resolve(&twice[..1], &[extra]).unwrap_err(),
        [
            "extra[0].name: redis is the name of another check, at runbooks[0](DjangoChannels).redis; rename it, or set disabled: true for one of them"
        ]
    );
}

#[test]
fn an_override_is_refused_where_it_makes_no_check() {
    let violations =
        |change: Value| resolve(&[reference("DjangoChannels", json!({ "redis-health": change }))], &[]).unwrap_err();
    assert_eq!(
        violations(json!({ "name": "other" })),
        ["runbooks[0].override.redis-health.name: must not be set; the key of the override is the check's name"]
    );
    assert_eq!(
        violations(json!({ "sevrity": "Warn" })).first().map(|text| text.split_once("; use ").unwrap().0),
        Some("runbooks[0].override.redis-health: has an unknown field `sevrity`")
    );
    assert_eq!(
        violations(json!({ "http": { "path": "redis" } })),
        [
            "runbooks[0].override.redis-health.http.path: must start with exactly one /; write only the path, the host is the service's own"
        ]
    );
}

#[test]
fn a_very_long_name_costs_no_time() {
    let runbook = json!({ "name": "x".repeat(1 << 20) });
    let violations = resolve(&[runbook], &[]).unwrap_err();
    assert!(violations[0].len() < 300);
}
