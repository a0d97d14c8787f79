//! What stands in the way is named, with what to do, and never with a secret.

use std::time::Duration;

use secrecy::SecretString;
use sessionbackend::copy::{Copier, CopyError, Endpoint, Feed, Mode, Refusal, Silence, State, probe, read_progress};

use crate::server::{Flavor, PASSWORD, Server, cleared, eventually, spec, until};

async fn failure(copier: &Copier) -> CopyError {
    let mut seen = copier.progress();
    let failed = seen.wait_for(|progress| matches!(progress.state, State::Failed(_)));
    match tokio::time::timeout(Duration::from_secs(30), failed).await.unwrap().unwrap().state.clone() {
        State::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stores_that_cannot_be_used_are_told_apart() {
    let server = Server::start(Flavor::Upstash).await;
    let endpoint = &server.endpoint;
    let refused = async |change: &dyn Fn(&mut Endpoint)| {
        let mut changed = endpoint.clone();
        changed.connect_timeout = Duration::from_millis(500);
        change(&mut changed);
        let error = probe(&changed).await.unwrap_err();
        assert!(!error.remedy().is_empty() && !format!("{error} {error:?}").contains(PASSWORD));
        error
    };
    let store = endpoint.name();
    let wrong = refused(&|endpoint| endpoint.password = Some(SecretString::from("wrong"))).await;
    assert_eq!(wrong, CopyError::Auth { store: store.clone(), why: Refusal::WrongPass });
    let none = refused(&|endpoint| endpoint.password = None).await;
    assert_eq!(none, CopyError::Auth { store: store.clone(), why: Refusal::NoAuth });
    let untrusted = refused(&|endpoint| endpoint.ca = None).await;
    assert_eq!(untrusted, CopyError::Unreachable { store: store.clone(), why: Silence::Tls });
    let plain = refused(&|endpoint| endpoint.tls = false).await;
    assert!(matches!(plain, CopyError::Unreachable { why: Silence::Reset | Silence::Tls, .. }), "{plain:?}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = refused(&|endpoint| endpoint.port = port).await;
    assert!(matches!(silent, CopyError::Unreachable { why: Silence::TimedOut, .. }), "{silent:?}");
    drop(listener);
    let nobody = refused(&|endpoint| endpoint.port = port).await;
    assert!(matches!(nobody, CopyError::Unreachable { why: Silence::Refused, .. }), "{nobody:?}");
    let nowhere = refused(&|endpoint| endpoint.host = "nowhere.invalid".into()).await;
    assert!(matches!(nowhere, CopyError::Unreachable { why: Silence::NotResolved, .. }), "{nowhere:?}");
    assert!(!format!("{endpoint:?}").contains(PASSWORD));
}

#[tokio::test]
async fn facts_are_read_without_changing_anything() {
    let server = Server::start_with(Flavor::ElastiCache, &["--maxmemory", "100mb"]).await;
    let mut client = server.client().await;
    let _: () = client.run("SET a 1").await;
    let mut second = server.database(3).await;
    let _: () = second.run("SET b 1").await;
    let facts = probe(&server.endpoint).await.unwrap();
    assert_eq!((facts.keys, facts.databases.get(&3)), (1, Some(&1)));
    assert_eq!((facts.maxmemory, facts.maxmemory_policy.as_deref()), (Some(100 << 20), Some("noeviction")));
    assert_eq!((facts.notify, facts.cluster, facts.evicted_keys), (None, false, Some(0)));
    assert!(facts.version.starts_with(|first: char| first.is_ascii_digit()) && facts.time_offset.abs() < 5_000);
    assert!(client.traces().await.is_empty());
}

#[tokio::test]
async fn a_cluster_is_refused() {
    let (from, to) =
        (Server::start_with(Flavor::Plain, &["--cluster-enabled", "yes"]).await, Server::start(Flavor::Plain).await);
    let copier = Copier::start(spec(&from, &to, "a"));
    assert_eq!(failure(&copier).await, CopyError::ClusterMode { store: from.endpoint.name() });
}

#[tokio::test]
async fn what_is_in_the_target_already_is_a_block_unless_it_is_the_same() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for name in ["sess:1", "sess:2", "sess:3"] {
        let _: () = old.run(&format!("SET {name} v0")).await;
    }
    let _: () = new.run("SET sess:1 v0").await;
    let _: () = new.run("SET sess:2 another-application's").await;
    let _: () = new.run("SET other:1 foreign").await;
    let copier = Copier::start(spec(&from, &to, "a"));
    let error = failure(&copier).await;
    assert_eq!(error, CopyError::TargetNotEmpty { count: 1, prefixes: vec!["sess:".into()] });
    assert_eq!(new.names().await, ["other:1", "sess:1", "sess:2"], "nothing was written");

    let _: () = new.run("DEL sess:2").await;
    let copier = Copier::start(spec(&from, &to, "b"));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;
    // What is only in the target is neither carried nor deleted, whatever happens to it.
    let _: () = new.run("SET other:1 changed").await;
    let _: () = new.run("SET sess:4 v0").await;
    eventually("carried", async || old.run::<u64>("EXISTS sess:4").await == 1).await;
    copier.count_quiet_from_now();
    until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    assert_eq!(old.names().await, ["sess:1", "sess:2", "sess:3", "sess:4"]);
    assert_eq!(new.run::<String>("GET other:1").await, "changed");
    copier.stop().await;
}

#[tokio::test]
async fn a_full_target_is_named() {
    let (from, to) =
        (Server::start(Flavor::Plain).await, Server::start_with(Flavor::Plain, &["--maxmemory", "3mb"]).await);
    let mut old = from.client().await;
    let mut commands = redis::pipe();
    for number in 0..400 {
        commands.cmd("SET").arg(format!("sess:{number}")).arg("v".repeat(10_000));
    }
    old.pipe(&commands).await;
    let copier = Copier::start(spec(&from, &to, "a"));
    let error = failure(&copier).await;
    assert!(matches!(&error, CopyError::Full { store, .. } if *store == to.endpoint.name()), "{error:?}");
}

#[tokio::test]
async fn what_a_store_throws_away_is_no_logout() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    let mut commands = redis::pipe();
    for number in 0..500 {
        commands.cmd("SET").arg(format!("sess:{number}")).arg("v".repeat(2_000)).arg("EX").arg(3_600);
    }
    old.pipe(&commands).await;
    let copier = Copier::start(spec(&from, &to, "a"));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;
    let _: () = new.run("CONFIG SET maxmemory-policy volatile-lru").await;
    let _: () = new.run("CONFIG SET maxmemory 2mb").await;
    let error = failure(&copier).await;
    assert!(matches!(&error, CopyError::Evicting { store, .. } if *store == to.endpoint.name()), "{error:?}");
    assert_eq!(old.names().await.len(), 500);
}

#[tokio::test]
async fn notifications_are_put_back_as_they_were() {
    let (from, to) = (Server::start(Flavor::Upstash).await, Server::start(Flavor::Plain).await);
    let mut old = from.client().await;
    let setting = async |client: &mut crate::server::Client| -> Vec<String> {
        client.run("CONFIG GET notify-keyspace-events").await
    };
    let _: () = old.run("CONFIG SET notify-keyspace-events Kx").await;
    let before = setting(&mut old).await;
    let copier = Copier::start(spec(&from, &to, "a"));
    let progress = until(&copier, "following", |progress| progress.state == State::Following).await;
    assert_eq!(progress.feeds.source, Feed::Notifications);
    let during = setting(&mut old).await;
    assert!(during[1].contains('A') && during[1].contains('E') && during[1].contains('K'), "{during:?}");
    copier.stop().await;
    assert_eq!(setting(&mut old).await, before);
    // A runner that dies cannot; clearing the migration does.
    let copier = Copier::start(spec(&from, &to, "b"));
    until(&copier, "following", |progress| progress.state == State::Following).await;
    drop(copier);
    assert_ne!(setting(&mut old).await, before);
    cleared(&from, &to).await;
    assert_eq!(setting(&mut old).await, before);
    assert!(read_progress(&to.endpoint, "m1").await.unwrap().is_none());
}

#[tokio::test]
async fn databases_are_mapped_and_same_names_are_a_block() {
    let (from, to) = (Server::start(Flavor::ElastiCache).await, Server::start(Flavor::Upstash).await);
    let (mut zero, mut one, mut new) = (from.client().await, from.database(1).await, to.client().await);
    let _: () = zero.run("SET sess:1 zero EX 3600").await;
    let _: () = one.run("SET result:1 one EX 3600").await;
    let mut wanted = spec(&from, &to, "a");
    wanted.databases = vec![(0, 0), (1, 0)];
    let copier = Copier::start(wanted.clone());
    until(&copier, "following", |progress| progress.state == State::Following).await;
    drop(copier);
    // A successor must not take one database's keys for another's deletions.
    let copier = Copier::start(wanted.clone());
    until(&copier, "following", |progress| progress.state == State::Following).await;
    assert_eq!(new.names().await, ["result:1", "sess:1"]);
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;
    let _: () = new.run("SET result:1 changed EX 3600").await;
    let _: () = new.run("DEL sess:1").await;
    let _: () = one.run("SET result:2 born EX 3600").await;
    eventually("each goes where it came from", async || {
        one.run::<Option<String>>("GET result:1").await.as_deref() == Some("changed")
            && zero.names().await.is_empty()
            && new.names().await == ["result:1", "result:2"]
    })
    .await;
    copier.stop().await;
    cleared(&from, &to).await;
    assert!(zero.traces().await.is_empty() && one.traces().await.is_empty() && new.traces().await.is_empty());

    let _: () = new.run("FLUSHALL").await;
    let _: () = zero.run("SET result:1 mine").await;
    let copier = Copier::start(wanted);
    let error = failure(&copier).await;
    assert_eq!(error, CopyError::SameNames { count: 1, prefixes: vec!["result:".into()] });
}

#[tokio::test]
async fn it_keeps_to_the_rate_and_counts_what_it_spends() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let mut old = from.client().await;
    let mut commands = redis::pipe();
    for number in 0..3_000 {
        commands.cmd("SET").arg(format!("sess:{number}")).arg("v");
    }
    old.pipe(&commands).await;
    let mut wanted = spec(&from, &to, "a");
    wanted.keys_per_second = Some(2_000);
    let started = std::time::Instant::now();
    let copier = Copier::start(wanted);
    let progress = until(&copier, "following", |progress| progress.state == State::Following).await;
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(progress.commands_spent.source > 3_000 && progress.commands_spent.target >= 30);
    // Ours do not count as the application's connections.
    until(&copier, "clients", |progress| progress.clients.source == Some(1)).await;
    copier.stop().await;
}
