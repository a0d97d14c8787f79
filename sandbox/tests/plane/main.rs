//! The data plane alone, with a network that is a table: stores met by unmodified clients under the vendors' names,
//! paths that hang, instances behind the front, deployments under load.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "a test reads the clock and its environment")]

mod ground;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ground::{Ground, deployment, python_app};
use sandbox::dataplane::{DataPlane, DeploymentFailure, Egress, PlaneError, StoreKind, StoreSpec, Vantage};

const CACHE: &str = "master.web.abc123.use1.cache.amazonaws.com";
const UPSTASH: &str = "eu1-apt-llama-12345.upstash.io";

fn store(id: &str, kind: StoreKind, host: &str, password: &str) -> StoreSpec {
    StoreSpec {
        id: id.to_owned(),
        kind,
        hosts: vec![host.to_owned()],
        port: 6379,
        tls: true,
        passwords: vec![password.to_owned()],
        databases: if kind == StoreKind::Upstash { 1 } else { 16 },
        max_clients: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_meets_both_vendors_under_their_names_and_hangs_where_no_path_is() {
    let ground = Ground::new();
    let plane = &ground.plane;
    plane.open_store(store("cache", StoreKind::ElastiCache, CACHE, "token-of-the-cache")).await.unwrap();
    plane.open_store(store("up", StoreKind::Upstash, UPSTASH, "secret")).await.unwrap();
    ground.allow(Vantage::Vpc("vpc-1".into()), "cache");
    ground.allow(Vantage::Internet, "up");

    let cache = ["-h", CACHE, "--tls", "-a", "token-of-the-cache", "--no-auth-warning"];
    assert_eq!(ground.redis_cli("vpc:vpc-1", &cache, &["SET", "k", "v"]).await, "OK");
    assert_eq!(ground.redis_cli("vpc:vpc-1", &cache, &["-n", "3", "DBSIZE"]).await, "0");
    let wrong = ["-h", CACHE, "--tls", "-a", "wrong", "--no-auth-warning"];
    assert!(ground.redis_cli("vpc:vpc-1", &wrong, &["GET", "k"]).await.contains("WRONGPASS"));
    assert!(ground.redis_cli("vpc:vpc-1", &cache, &["CONFIG", "GET", "save"]).await.contains("ERR unknown command"));
    assert!(ground.redis_cli("vpc:vpc-1", &cache, &["ACL", "SETUSER", "x"]).await.contains("NOPERM"));
    assert!(ground.redis_cli("vpc:vpc-1", &cache, &["CLIENT", "TRACKING", "OFF"]).await.contains("OK"));
    assert!(ground.hangs("internet", &cache).await, "an ElastiCache name from the internet");

    let up = ["-h", UPSTASH, "--tls", "-a", "secret", "--no-auth-warning"];
    assert_eq!(ground.redis_cli("internet", &up, &["SETEX", "k", "9", "v"]).await, "OK");
    assert!(ground.redis_cli("internet", &up, &["-n", "1", "PING"]).await.contains("ERR"), "one database only");
    for refused in [["OBJECT", "ENCODING", "k"], ["CLIENT", "TRACKING", "ON"], ["CLIENT", "KILL", "1:1"]] {
        let said = ground.redis_cli("internet", &up, &refused).await;
        assert!(said.contains("ERR unknown command") || said.contains("NOPERM"), "{refused:?}: {said}");
    }
    assert_eq!(ground.redis_cli("internet", &up, &["CONFIG", "SET", "notify-keyspace-events", "KEA"]).await, "OK");
    assert!(ground.hangs("vpc:vpc-1", &up).await, "no NAT");

    // SETEX; refused commands are not served and CONFIG, AUTH, INFO, SELECT are never billed.
    let usage = plane.usage("up").await.unwrap();
    assert_eq!((usage.keys, usage.connections), (1, 0));
    assert!((1..=3).contains(&usage.commands), "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_changes_live() {
    let ground = Ground::new();
    let plane = &ground.plane;
    plane.open_store(store("up", StoreKind::Upstash, UPSTASH, "one")).await.unwrap();
    ground.allow(Vantage::Internet, "up");
    let with = |password: &'static str| ["-h", UPSTASH, "--tls", "-a", password, "--no-auth-warning"];
    plane.set_passwords("up", vec!["two".into(), "three".into()]).await.unwrap();
    assert!(ground.redis_cli("internet", &with("one"), &["PING"]).await.contains("WRONGPASS"));
    assert_eq!(ground.redis_cli("internet", &with("three"), &["PING"]).await, "PONG");
    plane.deny_command("up", "GET", true).await.unwrap();
    assert!(ground.redis_cli("internet", &with("two"), &["GET", "k"]).await.contains("NOPERM"));
    plane.deny_command("up", "get", false).await.unwrap();
    assert_eq!(ground.redis_cli("internet", &with("two"), &["EXISTS", "k"]).await, "0");
    plane.deny_command("up", "CLIENT TRACKING", false).await.unwrap();
    plane.deny_command("up", "client", false).await.unwrap();
    let tracking = ground.redis_cli("internet", &with("two"), &["CLIENT", "TRACKING", "ON"]).await;
    assert!(tracking.contains("NOPERM"), "what the vendor refuses stays refused: {tracking}");

    plane.set_latency("up", Duration::from_millis(150)).await;
    let started = Instant::now();
    assert_eq!(ground.redis_cli("internet", &with("two"), &["PING"]).await, "PONG");
    // At least TLS, AUTH and PING: three round trips of 300 ms.
    assert!(started.elapsed() > Duration::from_millis(850), "{:?}", started.elapsed());
    plane.set_latency("up", Duration::ZERO).await;

    plane.freeze_store("up", true).await;
    assert!(ground.hangs("internet", &with("two")).await);
    assert!(matches!(plane.usage("up").await, Err(PlaneError::Failed(_))));
    plane.freeze_store("up", false).await;
    assert_eq!(ground.redis_cli("internet", &with("two"), &["PING"]).await, "PONG");

    plane.close_store("up").await;
    assert!(ground.redis_cli("internet", &with("two"), &["PING"]).await.contains("Could not connect"));
    assert!(matches!(plane.usage("up").await, Err(PlaneError::NoSuchStore(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_connections_is_exact_and_does_not_shut_the_sandbox_out() {
    let ground = Ground::new();
    let mut spec = store("small", StoreKind::External, "redis.example.org", "secret");
    (spec.tls, spec.max_clients) = (false, Some(2));
    ground.plane.open_store(spec).await.unwrap();
    ground.allow(Vantage::Internet, "small");
    let address = ground.resolve("internet", "redis.example.org");
    let one = tokio::net::TcpStream::connect((address, 6379)).await.unwrap();
    let two = tokio::net::TcpStream::connect((address, 6379)).await.unwrap();
    ground::until(async || ground.plane.usage("small").await.is_ok_and(|u| u.connections == 2)).await;
    let said = ground.redis_cli("internet", &["-h", "redis.example.org"], &["PING"]).await;
    assert!(said.contains("max number of clients reached") || said.contains("Server closed"), "{said}");
    drop(one);
    ground::until(async || ground.plane.usage("small").await.is_ok_and(|u| u.connections == 1)).await;
    let plain = ["-h", "redis.example.org", "-a", "secret", "--no-auth-warning"];
    assert_eq!(ground.redis_cli("internet", &plain, &["PING"]).await, "PONG");
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_spreads_requests_and_a_deployment_under_load_loses_none() {
    let ground = Ground::new();
    let plane = &ground.plane;
    plane.add_image("app", &python_app()).unwrap();
    let old = plane.deploy(deployment("op-1", "old", 3)).await.unwrap();
    plane.shift(&old).await;
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..30 {
        let answer = ground.get("web.awsapprunner.com", "/").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        *seen.entry(answer.json["pid"].to_string()).or_default() += 1;
        assert_eq!(answer.json["version"], "old");
        assert_eq!(answer.json["env"]["GREETING"], "good morning");
    }
    assert_eq!(seen.values().copied().collect::<Vec<_>>(), [10, 10, 10], "no stickiness");
    assert_eq!(ground.get("other.awsapprunner.com", "/").await.unwrap().status, 404, "unknown host");

    let load = ground.load("web.awsapprunner.com", 12);
    let new = plane.deploy(deployment("op-2", "new", 3)).await.unwrap();
    plane.shift(&new).await;
    let after = ground.get("web.awsapprunner.com", "/").await.unwrap();
    assert_eq!(after.json["version"], "new", "after the overlap only the new ones");
    plane.retire(old).await;
    let report = load.finish().await;
    assert_eq!(report.failed, Vec::<String>::new());
    assert!(report.versions["old"] > 20 && report.versions["new"] > 20, "both served: {:?}", report.versions);
    plane.stop_service(&deployment("", "", 1).service).await;
    assert_eq!(ground.get("web.awsapprunner.com", "/").await.unwrap().status, 404, "paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_sees_only_what_its_deployment_may_reach() {
    let ground = Ground::new();
    let plane = &ground.plane;
    plane.open_store(store("cache", StoreKind::ElastiCache, CACHE, "token")).await.unwrap();
    plane.add_image("app", &python_app()).unwrap();
    let vpc = Egress::Vpc { connector: "arn:connector".into() };
    let mut spec = deployment("op-1", "inside", 1);
    spec.egress = vpc.clone();
    ground.allow(Vantage::Deployment { service: spec.service.clone(), egress: vpc }, "cache");
    let inside = plane.deploy(spec).await.unwrap();
    plane.shift(&inside).await;
    let reach = format!("/connect?host={CACHE}&port=6379");
    assert_eq!(ground.get("web.awsapprunner.com", &reach).await.unwrap().json["outcome"], "open");
    let outside = plane.deploy(deployment("op-2", "outside", 1)).await.unwrap();
    plane.shift(&outside).await;
    assert_eq!(ground.get("web.awsapprunner.com", &reach).await.unwrap().json["outcome"], "timed out");
    plane.retire(inside).await;
    let cli = ["-h", CACHE, "--tls", "-a", "token", "--no-auth-warning"];
    assert!(ground.hangs("service:web", &cli).await, "exec stands where the current instances stand");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_a_deployment_say_what_happened_and_leave_nothing() {
    let ground = Ground::new();
    let plane = &ground.plane;
    let spec = || deployment("op-1", "x", 2);
    assert_eq!(plane.deploy(spec()).await, Err(DeploymentFailure::NoSuchImage("app".into())));
    plane.add_image("app", "python3 -c 'import sys; print(\"no configuration\"); sys.exit(3)'").unwrap();
    assert_eq!(plane.deploy(spec()).await, Err(DeploymentFailure::Exited { code: Some(3) }));
    ground::until(async || ground.journal().iter().any(|l| l.contains("no configuration"))).await;
    plane.add_image("app", &python_app()).unwrap();
    let mut sick = spec();
    sick.health.http_path = Some("/status?code=500".into());
    let failed = plane.deploy(sick).await;
    assert!(matches!(&failed, Err(DeploymentFailure::Unhealthy(why)) if why.contains("status 500")), "{failed:?}");
    assert_eq!(plane.describe()["deployments"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_instance_is_replaced_and_an_upstream_error_is_worded_as_envoy_does() {
    let ground = Ground::new();
    let plane = &ground.plane;
    plane.add_image("app", &python_app()).unwrap();
    let handle = plane.deploy(deployment("op-1", "v", 1)).await.unwrap();
    plane.shift(&handle).await;
    let slow = ground.get("web.awsapprunner.com", "/sleep?seconds=30").await.unwrap();
    assert_eq!((slow.status, slow.text.as_str()), (504, "upstream request timeout"));
    let crashed = ground.get("web.awsapprunner.com", "/exit?code=7").await.unwrap();
    assert_eq!(crashed.status, 503);
    assert!(crashed.text.contains("upstream connect error or disconnect/reset before headers"), "{}", crashed.text);
    ground::until(async || ground.get("web.awsapprunner.com", "/").await.is_ok_and(|a| a.status == 200)).await;
    assert!(ground.journal().iter().any(|l| l.contains("Container exit code: 7")), "{:?}", ground.journal());
    plane.stop_service(&handle.service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_goes_through_the_front_unless_it_is_as_strict_as_app_runner() {
    for (passed, expected) in [(true, Ok(b"ping over a tunnel".to_vec())), (false, Err(403))] {
        let ground = Ground::with_web_sockets(passed);
        ground.plane.add_image("app", &python_app()).unwrap();
        let handle = ground.plane.deploy(deployment("op-1", "v", 2)).await.unwrap();
        ground.plane.shift(&handle).await;
        let echoed = ground.echo_over_upgrade("web.awsapprunner.com", b"ping over a tunnel").await;
        assert_eq!(echoed, expected);
        ground.plane.stop_service(&handle.service).await;
    }
}
