//! The visitors against the sample app on a real Redis: nothing is lost when nothing happens, and each thing that must
//! not happen is made to happen and caught. Processes listen on loopback and are ended by their own pid.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the message")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use demo::browser::Browser;
use demo::crowd::{Crowd, Visit};
use demo::people::People;
use demo::tally::Findings;
use demo::visitor::Habits;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A store and several instances of the app, as plain processes.
struct Service {
    redis: Child,
    redis_port: u16,
    apps: Vec<Child>,
    browser: Browser,
}

impl Service {
    async fn start() -> Self {
        let (redis, redis_port) = start_redis().await;
        let (app, port) = start_app(redis_port).await;
        let browser = Browser::new(&format!("http://127.0.0.1:{port}")).unwrap();
        Self { redis, redis_port, apps: vec![app], browser }
    }

    async fn cli(&self, args: &[&str]) -> String {
        let port = self.redis_port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(args).output().await.unwrap();
        assert!(output.status.success(), "redis-cli {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Copies every key named `FROM*` to the same name with `TO` in front instead.
    async fn copy_keys(&self, from: &str, to: &str) {
        let script = "for _, k in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do \
                      redis.call('COPY', k, ARGV[2] .. string.sub(k, #ARGV[1] + 1), 'REPLACE') end return 'done'";
        assert_eq!(self.cli(&["EVAL", script, "0", from, to]).await, "done");
    }
}

async fn start_redis() -> (Child, u16) {
    // Redis cannot be asked for a free port, and between asking the kernel and starting it another may take it.
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = port.to_string();
        let mut redis = Command::new("redis-server")
            .args(["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        if line_with(&mut redis, "Ready to accept connections").await.is_some() {
            return (redis, port);
        }
    }
    panic!("no redis-server came up");
}

async fn start_app(redis_port: u16) -> (Child, u16) {
    let mut app = Command::new(app_binary().await)
        .env_clear()
        .envs([("PORT", "0"), ("BIND", "127.0.0.1")])
        .env("REDIS_URL", format!("redis://127.0.0.1:{redis_port}/0"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let line = line_with(&mut app, "listening on").await.expect("the app says where it listens");
    let port = line.rsplit(':').next().unwrap().parse().unwrap();
    (app, port)
}

/// Reads the output of a process until a line holds `text`, then lets the rest flow away.
async fn line_with(child: &mut Child, text: &str) -> Option<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found = loop {
        match lines.next_line().await.unwrap() {
            Some(line) if line.contains(text) => break Some(line),
            Some(_) => {}
            None => break None,
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    found
}

/// The app's binary, built where this test was built.
async fn app_binary() -> PathBuf {
    static BUILT: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
    let build = || async {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "sessions-app", "--target-dir"]).arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().await.unwrap().success(), "the sample app does not build");
        profile.join("sessions-app")
    };
    BUILT.get_or_init(build).await.clone()
}

fn crowd(max_lag: Duration) -> Crowd {
    let habits = Habits { pause_ms: 20..=100, slow_ms: 50..=200 };
    Crowd { visitors: 40, sessions: 200, max_lag, seed: 42, habits }
}

async fn requests(visit: &Visit, more: u64) {
    let goal = visit.pulse().0 + more;
    wait_for("requests", async || visit.pulse().0 >= goal).await;
}

async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("no {what} in a minute"));
}

fn sum(findings: &Findings) -> u64 {
    let sessions = &findings.sessions;
    sessions.after + sessions.lost + sessions.zombies + sessions.stayed_out + sessions.open
}

#[tokio::test]
async fn a_quiet_day_loses_nothing() {
    let service = Service::start().await;
    let mut visit = crowd(Duration::from_secs(1)).enter(&service.browser).await.unwrap();
    requests(&visit, 200).await;
    assert!(visit.begin_move() > 0);
    requests(&visit, 3000).await;
    let findings = visit.finish().await.unwrap();
    assert_eq!(findings.requests.failed, 0, "{findings:#?}");
    assert_eq!(findings.requests.refused_within_lag + findings.requests.stale_within_lag, 0, "{findings:#?}");
    let sessions = &findings.sessions;
    assert_eq!((sessions.lost, sessions.zombies, sessions.shortened, sessions.open), (0, 0, 0, 0), "{findings:#?}");
    // A request that was under way when the move began does not count as sent during it: one a person at most.
    assert!(findings.requests.total >= 3000 - 40 && findings.requests.all > findings.requests.total);
    assert!(sessions.stayed_out > 20 && sessions.ever > 200);
    assert_eq!(sum(&findings), sessions.ever);
    // The app and the visitors count the same: as many keys as sessions that were kept.
    let keys: u64 = service.cli(&["EVAL", "return #redis.call('KEYS', 'sess:*')", "0"]).await.parse().unwrap();
    assert_eq!(keys, sessions.after);
    let stores = findings.fleet.stores();
    let store = stores.get(&format!("127.0.0.1:{}", service.redis_port)).unwrap();
    assert_eq!((store.instances, store.opened, store.ended), (1, sessions.ever, sessions.stayed_out));
}

#[tokio::test]
async fn a_flushed_store_is_lost_sessions_and_failed_requests() {
    let service = Service::start().await;
    let mut visit = crowd(Duration::from_millis(200)).enter(&service.browser).await.unwrap();
    requests(&visit, 300).await;
    visit.begin_move();
    let flush = "local n = #redis.call('KEYS', 'sess:*'); redis.call('FLUSHALL'); return n";
    let flushed: u64 = service.cli(&["EVAL", flush, "0"]).await.parse().unwrap();
    requests(&visit, 1000).await;
    let findings = visit.finish().await.unwrap();
    assert!(findings.requests.failed > 100, "{findings:#?}");
    assert!(findings.failures.contains_key("refused late"), "{findings:#?}");
    // Nobody can log out of a session that is not there any more, so every one of them is lost.
    assert_eq!(findings.sessions.refused, flushed, "{findings:#?}");
    assert_eq!(sum(&findings), findings.sessions.ever);
}

#[tokio::test]
async fn a_resurrected_logout_is_a_zombie_and_an_older_value_is_lost() {
    let service = Service::start().await;
    let visit = crowd(Duration::from_millis(200)).enter(&service.browser).await.unwrap();
    requests(&visit, 300).await;
    service.copy_keys("sess:", "kept:").await;
    requests(&visit, 2000).await;
    // As a copier would that knows no deletions and no order: what was, is again.
    let (mut visit, restore) = (visit, service.copy_keys("kept:", "sess:"));
    visit.begin_move();
    restore.await;
    let findings = visit.finish().await.unwrap();
    assert!(findings.sessions.zombies > 10, "{findings:#?}");
    assert!(findings.sessions.older > 10, "{findings:#?}");
    assert_eq!(findings.sessions.lost, findings.sessions.older, "{findings:#?}");
    assert_eq!(sum(&findings), findings.sessions.ever);
}

#[tokio::test]
async fn a_shortened_life_is_seen() {
    let service = Service::start().await;
    let visit = crowd(Duration::from_secs(1)).enter(&service.browser).await.unwrap();
    requests(&visit, 100).await;
    let script = "for _, k in ipairs(redis.call('KEYS', 'sess:*')) do redis.call('EXPIRE', k, 60) end return 'done'";
    assert_eq!(service.cli(&["EVAL", script, "0"]).await, "done");
    let findings = visit.finish().await.unwrap();
    assert!(findings.sessions.shortened > 100, "{findings:#?}");
    assert_eq!(findings.sessions.lost, 0, "{findings:#?}");
}

#[tokio::test]
async fn a_store_that_is_gone_is_a_503_and_comes_back_without_a_restart_of_the_app() {
    let mut service = Service::start().await;
    let mut visit = crowd(Duration::from_secs(1)).enter(&service.browser).await.unwrap();
    visit.begin_move();
    requests(&visit, 200).await;
    service.redis.kill().await.unwrap();
    wait_for("failure", async || visit.pulse().1 > 20).await;
    let port = service.redis_port.to_string();
    service.redis = Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    line_with(&mut service.redis, "Ready to accept connections").await.expect("the store is back");
    wait_for("login", async || service.browser.log_in("somebody").await.is_ok()).await;
    let findings = visit.finish().await.unwrap();
    assert!(findings.failures.get("status 503").is_some_and(|&count| count > 0), "{findings:#?}");
    assert!(findings.sessions.lost > 100, "{findings:#?}");
}

#[tokio::test]
async fn an_instance_that_dies_is_a_broken_connection_and_one_that_is_told_to_stop_is_not() {
    let mut service = Service::start().await;
    let visit = crowd(Duration::from_secs(1)).enter(&service.browser).await.unwrap();
    requests(&visit, 100).await;
    service.apps[0].kill().await.unwrap();
    wait_for("failure", async || visit.pulse().1 > 0).await;
    let findings = visit.finish().await.unwrap();
    assert!(findings.failures.contains_key("connection broken"), "{findings:#?}");

    let (mut app, port) = start_app(service.redis_port).await;
    let browser = Browser::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let opened = browser.log_in("slow").await.unwrap();
    let asked = demo::judge::Asked::Click(1);
    let slow = tokio::spawn({
        let (browser, token) = (browser.clone(), opened.session.clone());
        async move { browser.ask(&token, asked, Duration::from_millis(1500)).await }
    });
    // The request is in flight when its instance has read the session.
    let reads = async || service.cli(&["INFO", "commandstats"]).await.contains("cmdstat_get:");
    wait_for("request in flight", reads).await;
    let pid = app.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let (answer, _) = slow.await.unwrap();
    assert!(matches!(answer, demo::judge::Answer::Accepted { step: Some(1), .. }), "{answer:?}");
    assert!(app.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_visit_of_its_own_obeys_its_lines_and_ends_with_whoever_started_it() {
    let service = Service::start().await;
    let (_app, port) = start_app(service.redis_port).await;
    let url = format!("http://127.0.0.1:{port}");
    let visit = || {
        let mut visit = Command::new(env!("CARGO_BIN_EXE_demo"));
        visit.args(["visit", "--url", &url, "--visitors", "20", "--sessions", "60"]);
        visit.args(["--shortest-pause-ms", "20", "--longest-pause-ms", "60", "--slow-page-ms", "100"]);
        visit
    };
    let (mut people, sessions, _) = People::enter(visit()).await.unwrap();
    assert_eq!(sessions, 60);
    people.pulse().wait_for(|pulse| pulse.requests > 100 && !pulse.serving.is_empty()).await.unwrap();
    assert!(people.begin_move().await.unwrap() > 0);
    let findings = people.leave().await.unwrap();
    assert_eq!((findings.requests.failed, findings.sessions.lost), (0, 0), "{findings:#?}");
    assert!(findings.requests.all > 100 && findings.sessions.ever > 60);

    let mut orphan = visit().stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    drop(orphan.stdin.take());
    let ended = tokio::time::timeout(Duration::from_secs(20), orphan.wait()).await;
    assert!(ended.expect("the visit ends with its stdin").unwrap().success());

    let mut refused = Command::new(env!("CARGO_BIN_EXE_demo"));
    refused.args(["visit", "--url", "http://127.0.0.1:9", "--sessions", "1"]);
    let output = refused.stdin(Stdio::null()).output().await.unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("a login before the move was not acknowledged"));
}
