//! The life of the daemon: several side by side, a clean end, a violent one, and clear words when it is not there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "a test reads the clock")]

mod first_service;
mod ground;
#[path = "../support/starter.rs"]
mod starter;

use ground::{Sandbox, children, lives, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn database(sandbox: &Sandbox, name: &str) -> (String, String) {
    let input = json!({ "database_name": name, "platform": "aws", "primary_region": "us-east-1" });
    let database = sandbox.call("upstash", "CreateDatabase", &input);
    let field = |name: &str| database[name].as_str().unwrap_or_else(|| panic!("{name} in {database}")).to_owned();
    (field("endpoint"), field("password"))
}

fn redis_cli<'a>(host: &'a str, password: &'a str) -> Vec<&'a str> {
    vec!["redis-cli", "-h", host, "--tls", "-a", password, "--no-auth-warning"]
}

#[test]
fn two_sandboxes_run_side_by_side_on_the_vendors_ports() {
    let (one, other) = (Sandbox::up(&[]), Sandbox::up(&[]));
    let (host_one, password_one) = database(&one, "same-name");
    let (host_other, password_other) = database(&other, "same-name");
    let on_one = redis_cli(&host_one, &password_one);
    let on_other = redis_cli(&host_other, &password_other);
    assert_eq!(one.exec("internet", &[&on_one[..], &["SET", "k", "one"]].concat()), "OK");
    assert_eq!(other.exec("internet", &[&on_other[..], &["SET", "k", "other"]].concat()), "OK");
    assert_eq!(one.exec("internet", &[&on_one[..], &["GET", "k"]].concat()), "one");
    assert_eq!(other.exec("internet", &[&on_other[..], &["GET", "k"]].concat()), "other");
}

#[test]
fn a_killed_daemon_leaves_no_child_and_its_directory_can_be_used_again() {
    let sandbox = Sandbox::up(&[]);
    database(&sandbox, "one");
    database(&sandbox, "two");
    let daemon = sandbox.daemon();
    let servers = children(daemon);
    assert_eq!(servers.len(), 2);
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    until(|| !servers.iter().any(|pid| lives(*pid)));
    let status = sandbox.run(&["status"]);
    assert!(!status.status.success());
    assert!(String::from_utf8_lossy(&status.stderr).contains("start one with `sandbox up`"));
    sandbox.must(&["up"]);
    assert_eq!(sandbox.json(&["status", "-o", "json"])["state"]["stores"], json!([]));
}

#[test]
fn down_ends_everything() {
    let sandbox = Sandbox::up(&[]);
    database(&sandbox, "one");
    let (daemon, servers) = (sandbox.daemon(), children(sandbox.daemon()));
    assert!(!sandbox.run(&["up"]).status.success(), "one directory, one sandbox");
    sandbox.must(&["down"]);
    until(|| !lives(daemon));
    assert!(!servers.is_empty() && !servers.iter().any(|pid| lives(*pid)));
    assert!(sandbox.must(&["down"]).contains("No sandbox runs"), "twice is no error");
}

#[test]
fn exec_meets_the_clouds_by_environment_and_names() {
    let sandbox = Sandbox::up(&[]);
    let seen = sandbox.exec("internet", &["env"]);
    for name in ["AWS_ENDPOINT_URL=http://127.", "AWS_REGION=us-east-1", "SSL_CERT_FILE=/", "NODE_EXTRA_CA_CERTS=/"] {
        assert!(seen.lines().any(|line| line.starts_with(name)), "{name} in {seen}");
    }
    let ground = sandbox.json(&["status", "-o", "json"])["sandbox"].clone();
    let url = format!("{}/v2/redis/databases", ground["upstash_api_url"].as_str().unwrap());
    let user = format!("{}:{}", ground["upstash_email"].as_str().unwrap(), ground["upstash_api_key"].as_str().unwrap());
    let listed = sandbox.exec("internet", &["curl", "-sS", "-u", &user, &url]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap_or_default(), json!([]), "{listed}");
    let refused = sandbox.run(&["exec", "--from", "moon", "--", "true"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("must be internet, vpc:ID or service:NAME"));
    let missing = sandbox.run(&["exec", "--", "no-such-program"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-program: "));
}

#[test]
fn without_root_all_is_the_same_but_the_port_of_https() {
    let Some(sandbox) = Sandbox::up_without_root(&[]) else { return };
    let (host, password) = database(&sandbox, "mine");
    let cli = [&redis_cli(&host, &password)[..], &["PING"]].concat();
    assert_eq!(sandbox.exec("internet", &cli), "PONG");
    assert!(sandbox.hangs("vpc:none", &cli), "an unknown VPC has no way out");
    let seen = sandbox.exec("internet", &["sh", "-c", "id -u; echo $UPSTASH_API_URL"]);
    assert_eq!(seen, "65534\nhttps://api.upstash.com:8443");
    let reached = sandbox
        .exec("internet", &["sh", "-c", "curl -sS -o /dev/null -w %{http_code} $UPSTASH_API_URL/v2/redis/databases"]);
    assert_eq!(reached, "401");
    let daemon = sandbox.daemon();
    let servers = children(daemon);
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    until(|| !servers.iter().any(|pid| lives(*pid)));
}

#[test]
fn what_an_instance_started_itself_is_ended_after_a_killed_daemon() {
    let app = format!("web=sh -c 'python3 {}/tests/plane/app.py; exit 1'", env!("CARGO_MANIFEST_DIR"));
    let sandbox = Sandbox::up(&["--image", &app]);
    let input = json!({ "ServiceName": "workers", "SourceConfiguration": first_service::source(&json!({})) });
    let service = sandbox.call("apprunner", "CreateService", &input);
    starter::running(&sandbox, service["Service"]["ServiceArn"].as_str().unwrap());
    let daemon = sandbox.daemon();
    let shells = children(daemon);
    let workers: Vec<i32> = shells.iter().flat_map(|shell| children(*shell)).collect();
    assert_eq!((shells.len(), workers.len()), (1, 1));
    kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
    until(|| !lives(shells[0]));
    assert!(lives(workers[0]), "the kernel ends only the daemon's own children");
    sandbox.must(&["down"]);
    until(|| !lives(workers[0]));
}
