//! `session` checks against a service of several instances.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use sessionbackend::checks::run::Context;
use sessionbackend::checks::{CheckResult, Stage};

use crate::server::{Asked, Reply, Server};
use crate::{CANARY, context, once, service, told};

const INSTANCES: usize = 3;
/// As a shop's login would set it.
const COOKIE: &str = "sid=canary-7f3a9c-1; Path=/; HttpOnly; Secure; SameSite=Lax";

/// A service of three instances; what each knows is its own memory, or one shared store.
#[derive(Clone, Default)]
struct App {
    known: Arc<[Mutex<BTreeSet<String>>; INSTANCES]>,
    shared: bool,
    logout_works: bool,
    ready: Option<Instant>,
    users: Arc<Mutex<Vec<String>>>,
}

impl App {
    fn shared() -> Self {
        Self { shared: true, logout_works: true, ..Self::default() }
    }

    async fn start(self) -> Server {
        Server::start(move |asked| std::future::ready(self.answer(&asked))).await
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let instance = asked.connection % INSTANCES;
        let store = &self.known[if self.shared { 0 } else { instance }];
        let cookie = asked.header("cookie").and_then(|value| value.strip_prefix("sid="));
        let bearer = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let in_path = asked.path.strip_prefix("/sessions/").and_then(|rest| rest.strip_suffix("/validate"));
        let token = cookie.or(bearer).or(in_path).unwrap_or_default().to_owned();
        let reply = match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/login") => {
                self.users.lock().unwrap().push(asked.body.clone());
                store.lock().unwrap().insert(format!("{CANARY}-1"));
                let body = format!(r#"{{"session":"{CANARY}-1"}}"#);
                Reply::new(200, body).with("set-cookie", "theme=dark").with("set-cookie", COOKIE)
            }
            ("POST", "/logout") => {
                if self.logout_works {
                    store.lock().unwrap().remove(&token);
                }
                Reply::new(204, "")
            }
            ("GET", _) => {
                let ready = self.ready.is_none_or(|ready| Instant::now() >= ready);
                let known = ready && store.lock().unwrap().contains(&token);
                if known { Reply::new(200, "{}") } else { Reply::new(401, "Invalid session") }
            }
            _ => Reply::new(404, ""),
        };
        reply.with("x-instance", &instance.to_string())
    }
}

fn by_cookie() -> Value {
    json!({
        "create": { "path": "/login", "body": "{\"user\":\"check-{random}\"}" }, "token": { "cookie": "sid" },
        "validate": { "path": "/whoami" }, "end": { "path": "/logout", "status": [204] },
        "times": 9, "instanceHeader": "X-Instance", "minInstances": 3,
    })
}

async fn checked(app: App, session: Value) -> CheckResult {
    let server = app.start().await;
    let context = Context { services: vec![service("web", server.host())], ..context() };
    once(json!({ "session": session }), Stage::AfterSwitch, &context).await
}

#[tokio::test]
async fn a_session_in_a_shared_store_is_known_to_every_instance() {
    let app = App::shared();
    let result = checked(app.clone(), by_cookie()).await;
    assert_eq!(told(&result), ("Pass", "created, read 9 times by 3 instances, ended"));
    assert!(app.known[0].lock().unwrap().is_empty(), "the session stayed behind");
    let users = app.users.lock().unwrap();
    let random = users[0].strip_prefix(r#"{"user":"check-"#).unwrap().trim_end_matches("\"}");
    assert!(random.len() == 16 && random.chars().all(|c| c.is_ascii_hexdigit()), "{users:?}");
}

#[tokio::test]
async fn a_token_of_the_answer_goes_where_the_check_says() {
    let mut session = by_cookie();
    session["token"] = json!({ "json": "session" });
    let bearer = json!([{ "name": "Authorization", "value": "Bearer {token}" }]);
    session["validate"] = json!({ "path": "/whoami", "headers": bearer });
    session["end"] = json!({ "path": "/logout", "status": [204], "headers": bearer });
    assert_eq!(told(&checked(App::shared(), session.clone()).await).0, "Pass");
    session["validate"] = json!({ "path": "/sessions/{token}/validate" });
    assert_eq!(told(&checked(App::shared(), session).await).0, "Pass");
}

#[tokio::test]
async fn a_session_in_the_memory_of_one_instance_fails() {
    let result = checked(App { logout_works: true, ..App::default() }, by_cookie()).await;
    assert_eq!(
        told(&result),
        (
            "Fail",
            "read 1 of 9: answered 401, expected 200; SessionNotShared: another instance does not know the session: \
             see that every instance uses the same store and key prefix"
        )
    );
}

#[tokio::test]
async fn a_refusal_within_the_grace_period_is_forgiven_and_after_it_is_not() {
    let late = |delay| App { ready: Some(Instant::now() + Duration::from_millis(delay)), ..App::shared() };
    let mut session = by_cookie();
    assert_eq!(told(&checked(late(60_000), session.clone()).await).0, "Fail");
    session["grace"] = "30s".into();
    assert_eq!(told(&checked(late(700), session.clone()).await).0, "Pass");
    session["grace"] = "400ms".into();
    assert_eq!(told(&checked(late(60_000), session).await).0, "Fail");
}

#[tokio::test]
async fn a_session_that_outlives_its_end_fails() {
    let result = checked(App { logout_works: false, ..App::shared() }, by_cookie()).await;
    assert_eq!(told(&result), ("Fail", "the session is still valid after its end"));
}

#[tokio::test]
async fn too_few_instances_prove_nothing() {
    let mut session = by_cookie();
    session["times"] = 5.into();
    session["minInstances"] = 4.into();
    let result = checked(App::shared(), session).await;
    assert_eq!(
        told(&result),
        ("Inconclusive", "3 of 4 instances answered in 5 reads: raise times, or see how many run")
    );
}

#[tokio::test]
async fn an_answer_without_the_session_fails_and_names_where_it_was_looked_for() {
    let mut session = by_cookie();
    session["token"] = json!({ "cookie": "SESSION" });
    assert_eq!(told(&checked(App::shared(), session.clone()).await), ("Fail", "the answer sets no cookie SESSION"));
    session["token"] = json!({ "json": "id" });
    session["validate"] = json!({ "path": "/sessions/{token}/validate" });
    assert_eq!(told(&checked(App::shared(), session.clone()).await), ("Fail", "the answer has no session at id"));
    session["create"] = json!({ "path": "/nowhere" });
    let result = checked(App::shared(), session).await;
    assert_eq!(told(&result), ("Fail", "the session cannot be created: answered 404, expected 200"));
}
