//! `http` checks against an HTTPS server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pretty_assertions::assert_eq;
use secrecy::SecretString;
use serde_json::{Value, json};
use sessionbackend::checks::run::{Client, Context};
use sessionbackend::checks::{CheckResult, SecretKeyRef, Stage};

use crate::server::{Reply, Server};
use crate::{CANARY, context, once, service, told};

fn on(server: &Server) -> Context {
    Context { services: vec![service("web", server.host())], ..context() }
}

async fn answered(answer: impl Fn() -> Reply + Send + Sync + 'static, http: Value) -> CheckResult {
    let server = Server::start(move |_| std::future::ready(answer())).await;
    let result = once(json!({ "http": http, "timeout": "5s" }), Stage::AfterSwitch, &on(&server)).await;
    assert_eq!(result.service.as_deref(), Some("web"));
    assert_eq!(server.requests(), 1);
    result
}

const HEALTHY: &str = r#"{"channel_layer_available":true,"redis_connected":true,"redis_test_result":"ok"}"#;

fn health() -> Value {
    json!({ "path": "/api/redis-health/", "json": { "redis_connected": true, "redis_test_result": "ok" } })
}

#[tokio::test]
async fn a_healthy_answer_passes() {
    let result = answered(|| Reply::new(200, HEALTHY), health()).await;
    let (verdict, message) = told(&result);
    assert_eq!(verdict, "Pass");
    assert!(message.starts_with("GET /api/redis-health/ answered 200 in ") && message.ends_with(" ms"), "{message}");
}

#[tokio::test]
async fn an_unhealthy_answer_fails_and_its_body_is_diagnosed_but_not_shown() {
    let body = format!(r#"{{"redis_connected":false,"redis_test_result":"NOAUTH {CANARY} at 127.0.0.1:6379"}}"#);
    let result = answered(move || Reply::new(503, body.clone()), health()).await;
    assert_eq!(
        told(&result),
        (
            "Fail",
            "GET /api/redis-health/: answered 503, expected 200; redis_connected is false, expected true; \
             redis_test_result is another text, expected \"ok\"; PasswordMissing: \
             the store wants a password and none was sent: put it into the URL or into REDIS_PASSWORD"
        )
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let away = || Reply::new(302, "").with("location", "https://evil.example/");
    let result = answered(away, json!({ "path": "/" })).await;
    assert_eq!(told(&result), ("Fail", "GET /: answered 302, expected 200"));
    let result = answered(away, json!({ "path": "/", "status": [302] })).await;
    assert_eq!(told(&result).0, "Pass");
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_its_bound_only() {
    let result = answered(|| Reply::new(200, "x".repeat(8 << 20)), json!({ "path": "/" })).await;
    assert_eq!(told(&result).0, "Pass");
    let long = || Reply::new(200, format!(r#"{{"a":"{}","ok":true}}"#, "x".repeat(65536)));
    let result = answered(long, json!({ "path": "/", "json": { "ok": true } })).await;
    assert_eq!(told(&result), ("Fail", "GET /: the answer is not JSON"));
}

#[tokio::test]
async fn what_is_not_offered_is_unsupported() {
    let server = Server::start(|_| std::future::ready(Reply::new(404, ""))).await;
    let check = |expect: &str| json!({ "http": { "path": "/ws" }, "expect": expect });
    assert_eq!(told(&once(check("Pass"), Stage::Bake, &on(&server)).await).0, "Fail");
    assert_eq!(told(&once(check("Unsupported"), Stage::Bake, &on(&server)).await).0, "Pass");
}

#[tokio::test]
async fn a_request_that_hangs_fails_and_a_slow_one_fails_its_limit() {
    let server = Server::start(|_| std::future::pending::<Reply>()).await;
    let result = once(json!({ "http": { "path": "/" }, "timeout": "400ms" }), Stage::Bake, &on(&server)).await;
    assert_eq!(told(&result), ("Fail", "no answer in 400 ms: the request hangs"));

    let slow = Server::start(|_| async {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        Reply::new(200, "")
    });
    let slow = slow.await;
    let result = once(json!({ "http": { "path": "/", "maxLatency": "50ms" } }), Stage::Bake, &on(&slow)).await;
    let (verdict, message) = told(&result);
    assert_eq!(verdict, "Fail");
    assert!(message.starts_with("GET /: took ") && message.ends_with(" ms, at most 50 ms"), "{message}");
}

#[tokio::test]
async fn a_service_that_is_not_reached_says_nothing_about_its_sessions() {
    let nobody = Context { services: vec![service("web", "localhost:1".to_owned())], ..context() };
    let result = once(json!({ "http": { "path": "/" } }), Stage::Bake, &nobody).await;
    assert_eq!(told(&result).0, "Inconclusive");
    assert!(result.message.contains("ConnectionRefused: "), "{}", result.message);

    let stranger = Server::start(|_| std::future::ready(Reply::new(200, ""))).await;
    let distrusting = Context { http: Client::new(None).unwrap(), ..on(&stranger) };
    let result = once(json!({ "http": { "path": "/" } }), Stage::Bake, &distrusting).await;
    assert_eq!(told(&result).0, "Inconclusive");
    assert!(result.message.contains("CertificateRejected: "), "{}", result.message);
    assert_eq!(stranger.requests(), 0);

    let unknown = Context { services: vec![service("web", "no-such-host.invalid".to_owned())], ..context() };
    let result = once(json!({ "http": { "path": "/" } }), Stage::Bake, &unknown).await;
    assert_eq!(told(&result).0, "Inconclusive");
    assert!(result.message.contains("NameNotFound: "), "{}", result.message);
}

#[tokio::test]
async fn nothing_but_a_host_name_is_dialled() {
    let server = Server::start(|_| std::future::ready(Reply::new(200, ""))).await;
    let port = server.host().split_once(':').unwrap().1.to_owned();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("2130706433:{port}"),
        format!("user@localhost:{port}"),
    ] {
        let context = Context { services: vec![service("web", host)], ..context() };
        let result = once(json!({ "http": { "path": "/" } }), Stage::Bake, &context).await;
        assert_eq!(told(&result), ("Inconclusive", "the service's URL is not a host name with an optional port"));
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_header_from_a_secret_arrives_and_a_missing_one_stops_the_request() {
    let server = Server::start(|asked| {
        let token = asked.header("authorization").map(str::to_owned);
        let good = token.as_deref() == Some(&format!("Bearer {CANARY}"));
        std::future::ready(Reply::new(if good { 200 } else { 401 }, format!("you sent {token:?}")))
    })
    .await;
    let header =
        json!({ "name": "Authorization", "prefix": "Bearer ", "secretKeyRef": { "name": "liberty", "key": "jwt" } });
    let check =
        |status: u16| json!({ "http": { "path": "/api/ws-diagnostic/", "headers": [header], "status": [status] } });
    let mut context = on(&server);
    let result = once(check(200), Stage::Bake, &context).await;
    assert_eq!(told(&result), ("Inconclusive", "Secret liberty has no key jwt: create it, or correct secretKeyRef"));
    assert_eq!(server.requests(), 0);
    let key = SecretKeyRef { name: "liberty".to_owned(), key: "jwt".to_owned() };
    context.secrets.insert(key, SecretString::from(CANARY));
    assert_eq!(told(&once(check(200), Stage::Bake, &context).await).0, "Pass");
    // The body repeats the secret; the message must not.
    assert_eq!(told(&once(check(418), Stage::Bake, &context).await).0, "Fail");
}

#[tokio::test]
async fn several_successes_in_a_row_are_counted_from_the_last_failure() {
    let count = Arc::new(AtomicUsize::new(0));
    let flaky = |good: fn(usize) -> bool| {
        let count = Arc::clone(&count);
        count.store(0, Ordering::SeqCst);
        Server::start(move |_| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Reply::new(if good(number) { 200 } else { 500 }, ""))
        })
    };
    let check = json!({ "http": { "path": "/" }, "attempts": 5, "consecutive": 3, "interval": "0s" });
    let server = flaky(|number| number >= 2).await;
    assert_eq!(told(&once(check.clone(), Stage::Bake, &on(&server)).await).0, "Pass");
    assert_eq!(server.requests(), 5);
    let server = flaky(|number| number != 2).await;
    let result = once(check.clone(), Stage::Bake, &on(&server)).await;
    assert_eq!(told(&result), ("Fail", "GET /: answered 500, expected 200 (try 3 of 5)"), "two more cannot make three");
    assert_eq!(server.requests(), 3);
    let server = flaky(|number| number != 1).await;
    assert_eq!(told(&once(check, Stage::Bake, &on(&server)).await).0, "Pass");
    assert_eq!(server.requests(), 5);
}
