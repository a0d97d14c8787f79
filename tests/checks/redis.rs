//! `redis` checks against redis-server.

use pretty_assertions::assert_eq;
use serde_json::json;
use sessionbackend::checks::run::{Reach, RedisTarget};
use sessionbackend::checks::{Kind, Latency, Stage, Verdict};
use sessionbackend::identity::Address;

use crate::store::{Store, nowhere};
use crate::{CANARY, checks, on_store, once, told};

fn password() -> String {
    format!("requirepass {CANARY}")
}

#[tokio::test]
async fn a_store_with_tls_and_a_password_passes_and_keeps_nothing() {
    let store = Store::start_tls(&[&password()]);
    let login = ["--no-auth-warning", "-a", CANARY];
    let context = on_store(store.target(Some(CANARY)));
    let check = json!({ "redis": { "ttl": "2h", "tls": "Required" } });
    let result = once(check, Stage::AfterSwitch, &context).await;
    assert_eq!(told(&result), ("Pass", "PING, SETEX, GET, TTL, DEL"));
    for command in ["setex", "get", "ttl", "del"] {
        assert_eq!(store.calls(&login, command), 1, "{command}");
    }
    assert_eq!(store.ask(&[&login[..], &["DBSIZE"]].concat()).trim(), "0");
}

#[tokio::test]
async fn at_rest_nothing_is_sent_but_ping_and_info() {
    let store = Store::start(&[]);
    let before = store.ask(&["INFO", "commandstats"]);
    let check = json!({ "redis": { "latency": { "max": "10s", "samples": 5 } } });
    let result = once(check, Stage::Rest, &on_store(store.target(None))).await;
    assert_eq!(result.verdict, Verdict::Pass, "{}", result.message);
    assert!(result.message.contains("p95 ") && result.message.ends_with(" of 10000 connections"), "{}", result.message);
    let names = |stats: &str| {
        let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
        names.map(|(name, _)| name.to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    let after = store.ask(&["INFO", "commandstats"]);
    let new: Vec<_> = names(&after).difference(&names(&before)).cloned().collect();
    assert_eq!(new, ["info", "ping"]);
}

#[tokio::test]
async fn a_user_that_may_not_setex_fails_with_the_reason() {
    let store = Store::start(&[&format!("user app on >{CANARY} ~* +@all -setex")]);
    let mut target = store.target(Some(CANARY));
    target.address.user = Some("app".to_owned());
    let result = once(json!({ "redis": {} }), Stage::Target, &on_store(target)).await;
    assert_eq!(
        told(&result),
        (
            "Fail",
            "SETEX failed: NOPERM this user has no permissions to run the 'setex' command; CommandNotPermitted: \
             the store's ACL forbids the command or the key to this user: allow it, or connect as another user"
        )
    );
}

#[tokio::test]
async fn the_probe_stays_below_the_prefix_that_a_copy_leaves_out() {
    let store = Store::start(&["user default on nopass ~__sessionbackend:* +@all"]);
    let result = once(json!({ "redis": {} }), Stage::Target, &on_store(store.target(None))).await;
    assert_eq!(told(&result), ("Pass", "PING, SETEX, GET, TTL, DEL"));
}

#[tokio::test]
async fn a_command_the_store_does_not_have_is_unsupported() {
    let store = Store::start(&["rename-command SETEX \"\""]);
    let context = on_store(store.target(None));
    let result = once(json!({ "redis": {} }), Stage::Target, &context).await;
    assert_eq!(told(&result).0, "Fail");
    assert!(result.message.contains("CommandUnknown: the store does not offer the command"), "{}", result.message);
    let result = once(json!({ "redis": {}, "expect": "Unsupported" }), Stage::Target, &context).await;
    assert_eq!(told(&result).0, "Pass");
    let works = json!({ "redis": { "write": false }, "expect": "Unsupported" });
    let result = once(works, Stage::Target, &context).await;
    assert_eq!(told(&result), ("Pass", "works now, set expect: Pass; PING"));
}

/// Servers that go wrong in a known way, what the check says of each, and the diagnosis it gives.
#[tokio::test]
async fn a_store_that_goes_wrong_is_diagnosed() {
    let (secured, plain, tls) = (Store::start(&[&password()]), Store::start(&[]), Store::start_tls(&[]));
    let (full, replica) = (Store::start(&["maxmemory 1"]), Store::start(&["replicaof 127.0.0.1 1"]));
    let with_tls = |target: RedisTarget, tls| RedisTarget { address: Address { tls, ..target.address }, ..target };
    let one_database = Store::start(&["databases 1"]);
    let other_database = one_database.target(None);
    let other_database = RedisTarget { address: Address { db: 3, ..other_database.address }, ..other_database };
    let table = [
        (secured.target(None), "PING failed: NOAUTH Authentication required.; PasswordMissing: "),
        (
            secured.target(Some("canary-7f3a9c-wrong")),
            "AUTH failed: WRONGPASS invalid username-password pair or user is disabled.; WrongPassword: ",
        ),
        (plain.target(Some(CANARY)), "AUTH failed: ERR AUTH <password> called without any password configured"),
        (nowhere(), "the store refuses connections; ConnectionRefused: "),
        (with_tls(tls.target(None), false), "the connection was closed at PING; TlsRequired: "),
        (RedisTarget { authorities: None, ..tls.target(None) }, "; CertificateRejected: "),
        (full.target(None), "SETEX failed: OOM command not allowed when used memory > 'maxmemory'.; OutOfMemory: "),
        (replica.target(None), "SETEX failed: READONLY You can't write against a read only replica.; ReadOnly: "),
        (other_database, "SELECT failed: ERR DB index is out of range; DatabaseMissing: "),
    ];
    for (target, expected) in table {
        let result = once(json!({ "redis": {} }), Stage::Target, &on_store(target)).await;
        assert_eq!(told(&result).0, "Fail", "{}", result.message);
        assert!(result.message.contains(expected), "{} does not say {expected}", result.message);
    }
    let at_rest = once(json!({ "redis": {} }), Stage::Rest, &on_store(replica.target(None))).await;
    assert!(at_rest.message.starts_with("the endpoint is a replica; ReadOnly: "), "{}", at_rest.message);
}

#[tokio::test]
async fn a_store_without_free_connections_fails() {
    let store = Store::start(&["maxclients 20"]);
    let mut held: Vec<_> =
        (0..16).map(|_| std::net::TcpStream::connect(("127.0.0.1", store.port())).unwrap()).collect();
    let check = json!({ "redis": { "maxConnectedPercent": 80 } });
    let result = once(check.clone(), Stage::Bake, &on_store(store.target(None))).await;
    assert_eq!(told(&result).0, "Fail");
    // The probe's own connection is the seventeenth; dialled ones may still be counted.
    let seen = result.message.split(" of ").next().unwrap().parse::<u32>();
    assert!(seen.is_ok_and(|seen| seen >= 17), "{}", result.message);
    assert!(result.message.contains("at most 16; ConnectionLimitExceeded: "), "{}", result.message);

    let limited = RedisTarget { connection_limit: Some(1000), ..store.target(None) };
    let result = once(check.clone(), Stage::Bake, &on_store(limited)).await;
    assert_eq!(told(&result).0, "Pass", "the vendor's limit wins: {}", result.message);

    held.extend((0..4).map(|_| std::net::TcpStream::connect(("127.0.0.1", store.port())).unwrap()));
    let result = once(check, Stage::Bake, &on_store(store.target(None))).await;
    assert_eq!(told(&result).0, "Fail", "{}", result.message);
    drop(held);
}

#[tokio::test]
async fn a_limit_on_connections_that_cannot_be_read_is_inconclusive() {
    let store = Store::start(&["user default on nopass ~* +@all -info"]);
    let context = on_store(store.target(None));
    let result = once(json!({ "redis": { "maxConnectedPercent": 80 } }), Stage::Bake, &context).await;
    assert_eq!(told(&result), ("Inconclusive", "the store does not tell its connections or their limit"));
    let result = once(json!({ "redis": {} }), Stage::Rest, &context).await;
    assert_eq!(told(&result), ("Pass", "PING"));
}

#[tokio::test]
async fn a_store_that_hangs_fails_and_one_that_is_not_reached_does_not() {
    let store = Store::start(&[]);
    store.freeze();
    let check = json!({ "redis": {}, "timeout": "300ms" });
    let result = once(check.clone(), Stage::Bake, &on_store(store.target(None))).await;
    assert_eq!(
        told(&result),
        ("Fail", "the host accepts connections and did not answer in 300 ms: the store hangs or is overloaded")
    );

    let plain = Store::start(&[]);
    let mut target = plain.target(None);
    target.address.tls = true;
    let result = once(check.clone(), Stage::Target, &on_store(target)).await;
    assert_eq!(
        told(&result),
        (
            "Fail",
            "the host accepts connections and did not answer in 300 ms: its port may not speak TLS, or the store hangs"
        )
    );

    let silent = Silent::new().await;
    let target =
        |reach| RedisTarget { address: Address { port: silent.port, ..nowhere().address }, reach, ..nowhere() };
    let result = once(check.clone(), Stage::Baseline, &on_store(target(Reach::Vpc))).await;
    assert_eq!(result.verdict, Verdict::Skipped("not reachable from the operator: the store is in a VPC".to_owned()));
    let result = once(check.clone(), Stage::Baseline, &on_store(target(Reach::Internet))).await;
    assert_eq!(told(&result).0, "Inconclusive");
    assert!(result.message.starts_with("the store is not reached from here; NoNetworkPath: "), "{}", result.message);

    let mut unknown = target(Reach::Internet);
    unknown.address.host = "no-such-host.invalid".to_owned();
    let result = once(json!({ "redis": {} }), Stage::Bake, &on_store(unknown)).await;
    assert_eq!(told(&result).0, "Inconclusive");
    assert!(result.message.contains("NameNotFound: "), "{}", result.message);
}

#[tokio::test]
async fn a_slow_ping_and_a_plain_connection_fail_where_they_are_ruled_out() {
    let store = Store::start(&[]);
    let context = on_store(store.target(None));
    let result = once(json!({ "redis": { "tls": "Required" } }), Stage::Target, &context).await;
    assert_eq!(told(&result), ("Fail", "the connection is not TLS: use rediss://, or turn on encryption in transit"));
    let mut check =
        checks(&json!([{ "name": "it", "attempts": 1, "redis": { "latency": { "max": "1s", "samples": 3 } } }]));
    let Kind::Redis(redis) = &mut check[0].kind else { panic!("not redis") };
    redis.latency = Some(Latency { percentile: 50, max: std::time::Duration::ZERO, samples: 3 });
    let results = sessionbackend::checks::run::run(&check, Stage::Target, &context, |_| {}).await;
    let (verdict, message) = told(&results[0]);
    assert_eq!(verdict, "Fail");
    assert!(message.starts_with("PING p50 of 3 is ") && message.ends_with(" ms, at most 0.0 ms"), "{message}");
}

#[tokio::test]
async fn without_a_redis_there_is_nothing_to_look_at() {
    let result = once(json!({ "redis": {} }), Stage::Rest, &crate::context()).await;
    assert_eq!(told(&result).0, "Skipped");
}

/// A port whose packets get lost: its queue of connections is full and nobody takes one.
struct Silent {
    port: u16,
    _queue: tokio::net::TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<()>>,
}

impl Silent {
    async fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let queue = socket.listen(1).unwrap();
        let address = queue.local_addr().unwrap();
        let mut waiting = Vec::new();
        loop {
            let dialled =
                tokio::time::timeout(std::time::Duration::from_millis(200), tokio::net::TcpStream::connect(address))
                    .await;
            let Ok(connection) = dialled else { break };
            waiting.push(tokio::spawn(async move {
                let _held = connection;
                std::future::pending::<()>().await;
            }));
        }
        Self { port: address.port(), _queue: queue, _waiting: waiting }
    }
}
