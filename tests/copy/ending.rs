//! How a copy ends: nothing of ours stays, whatever is gone and wherever it is interrupted, and what was copied in vain
//! is taken back.

use std::{collections::BTreeMap, time::Duration};

use sessionbackend::{
    copy::{Copier, CopyError, CopySpec, KeyRule, Mode, State, Strategy, Unmatched, clear, read_progress, withdraw},
    merge::{Kind, Side},
};

use crate::{
    server::{Client, Flavor, Server, eventually, spec, until},
    severed::{Budget, Severed},
};

/// Every key of some databases with its dump: what can be put back as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<(u32, String), Vec<u8>>);

impl Snapshot {
    pub(crate) async fn of(server: &Server) -> Self {
        let mut all = BTreeMap::new();
        for database in [0, 1] {
            let mut client = server.database(database).await;
            let names: Vec<String> = client.run("KEYS *").await;
            for name in names {
                let dump: Vec<u8> = client.args(&["DUMP", &name]).await;
                all.insert((database, name), dump);
            }
        }
        Self(all)
    }

    pub(crate) async fn put_back(&self, server: &Server) {
        let _: () = server.client().await.run("FLUSHALL").await;
        for ((database, name), dump) in &self.0 {
            let mut client = server.database(*database).await;
            let _: () = client.args(&[b"RESTORE".as_slice(), name.as_bytes(), b"0", dump]).await;
        }
    }

    fn without_ours(&self) -> Self {
        let theirs = self.0.iter().filter(|((_, name), _)| !name.starts_with("__sessionbackend:"));
        Self(theirs.map(|(key, dump)| (key.clone(), dump.clone())).collect())
    }
}

async fn notify(client: &mut Client) -> String {
    client.run::<Vec<String>>("CONFIG GET notify-keyspace-events").await.remove(1)
}

/// Two stores that can only be followed by notifications, with keys in two databases, copied by a runner that died.
struct Scene {
    from: Server,
    to: Server,
    spec: CopySpec,
    /// What was in the new store before.
    found: Snapshot,
}

impl Scene {
    async fn sealed() -> Self {
        Self::copied(true).await
    }

    async fn copied(sealed: bool) -> Self {
        let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
        for server in [&from, &to] {
            let mut client = server.client().await;
            let _: () = client.run("ACL SETUSER default -client|tracking").await;
            let _: () = client.run("CONFIG SET notify-keyspace-events Kx").await;
        }
        for database in [0, 1] {
            let mut old = from.database(database).await;
            for number in 0..20 {
                let _: () = old.run(&format!("SET sess:{database}:{number} v0")).await;
            }
            let _: () = old.run(&format!("HSET sess:{database}:cart apples 3")).await;
            let mut new = to.database(database).await;
            let _: () = new.run(&format!("SET sess:{database}:0 v0")).await;
            let _: () = new.run(&format!("SET other:{database} foreign")).await;
        }
        let found = Snapshot::of(&to).await;
        let mut spec = spec(&from, &to, "a");
        spec.databases = vec![(0, 0), (1, 1)];
        let copier = Copier::start(spec.clone());
        if sealed {
            copier.set_mode(Mode::BothWays);
            until(&copier, "the seal", |progress| progress.sealed && progress.state == State::BothWays).await;
            // One more of each way, so that every kind of trace is there.
            let (mut old, mut new) = (from.client().await, to.client().await);
            let _: () = new.run("SET sess:0:born v0").await;
            eventually("carried", async || old.run::<u64>("EXISTS sess:0:born").await == 1).await;
        } else {
            until(&copier, "following", |progress| progress.state == State::Following).await;
        }
        drop(copier);
        Self { from, to, spec, found }
    }

    /// Ends the copy as a process does that is cut off after so many messages.
    async fn end(&self, withdrawing: bool, messages: i64) -> Result<(), CopyError> {
        let budget = Budget::of(messages);
        let (from, to) =
            (Severed::way_to(&self.from.endpoint, &budget).await, Severed::way_to(&self.to.endpoint, &budget).await);
        let through = CopySpec { from: from.endpoint.clone(), to: to.endpoint.clone(), ..self.spec.clone() };
        let ended = end(&through, withdrawing).await;
        assert_eq!(ended.is_err(), budget.is_spent(), "{ended:?} after {messages} messages");
        ended
    }
}

async fn end(spec: &CopySpec, withdrawing: bool) -> Result<(), CopyError> {
    if withdrawing { withdraw(spec).await.map(drop) } else { clear(spec, None).await }
}

async fn interrupted_everywhere(sealed: bool, withdrawing: bool) {
    let scene = Scene::copied(sealed).await;
    let (old, new) = (Snapshot::of(&scene.from).await, Snapshot::of(&scene.to).await);
    let (mut old_client, mut new_client) = (scene.from.client().await, scene.to.client().await);
    let during = [notify(&mut old_client).await, notify(&mut new_client).await];
    assert_ne!(during[0], "xK", "the setting was changed, so there is something to put back");
    assert_eq!(during[1] != "xK", sealed);
    assert_eq!((old != old.without_ours(), new != new.without_ours()), (sealed, true), "traces to remove");
    let wanted = if withdrawing { scene.found.clone() } else { new.without_ours() };
    let mut messages = 0;
    loop {
        old.put_back(&scene.from).await;
        new.put_back(&scene.to).await;
        for (client, during) in [&mut old_client, &mut new_client].into_iter().zip(&during) {
            let _: () = client.run(&format!("CONFIG SET notify-keyspace-events {during}")).await;
        }
        let ended = scene.end(withdrawing, messages).await;
        let traces = new_client.traces().await;
        let progress = read_progress(&scene.to.endpoint, "m1").await.unwrap();
        assert_eq!(progress.is_some(), !traces.is_empty(), "{messages}: seen as long as there is anything: {traces:?}");
        let context = format!("interrupted after {messages} messages: {ended:?}");
        if let Err(error) = &ended {
            assert!(error.passes(), "{context}");
            end(&scene.spec, withdrawing).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        }
        assert_eq!(Snapshot::of(&scene.from).await, old.without_ours(), "{context}");
        assert_eq!(Snapshot::of(&scene.to).await, wanted, "{context}");
        for client in [&mut old_client, &mut new_client] {
            assert_eq!(notify(client).await, "xK", "{context}");
        }
        if ended.is_ok() {
            break;
        }
        messages += 1;
    }
    assert!(messages > 20, "{messages} messages do not end a copy");
    assert!(read_progress(&scene.to.endpoint, "m1").await.unwrap().is_none());
    // And once more, when nothing is left.
    end(&scene.spec, withdrawing).await.unwrap();
    assert_eq!(Snapshot::of(&scene.to).await, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_that_is_interrupted_anywhere_can_be_done_again() {
    interrupted_everywhere(true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_that_is_interrupted_anywhere_can_be_done_again() {
    interrupted_everywhere(true, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_seal_too_a_withdrawal_can_be_interrupted_anywhere() {
    interrupted_everywhere(false, true).await;
}

#[tokio::test]
async fn nobody_goes_on_with_what_an_interrupted_withdrawal_has_left() {
    let scene = Scene::sealed().await;
    let (mut old, mut new) = (scene.from.client().await, scene.to.client().await);
    let before = Snapshot::of(&scene.from).await.without_ours();
    let copies = new.names().await.len();
    for messages in 1.. {
        scene.end(true, messages).await.unwrap_err();
        if new.names().await.len() < copies {
            break;
        }
    }
    let copier = Copier::start(CopySpec { attempt: 1, ..scene.spec.clone() });
    copier.set_mode(Mode::BothWays);
    let mut seen = copier.progress();
    let failed = seen.wait_for(|progress| progress.state == State::Failed(CopyError::Ending));
    tokio::time::timeout(Duration::from_secs(20), failed).await.unwrap().unwrap();
    assert_eq!(Snapshot::of(&scene.from).await.without_ours(), before, "no removal was taken for a logout");
    withdraw(&scene.spec).await.unwrap();
    assert_eq!(Snapshot::of(&scene.to).await, scene.found);
    assert!(old.traces().await.is_empty());
}

#[tokio::test]
async fn a_store_that_is_gone_is_not_asked() {
    let mut scene = Scene::sealed().await;
    let (old, new) = (Snapshot::of(&scene.from).await, Snapshot::of(&scene.to).await);
    scene.to.kill().await;
    assert!(matches!(clear(&scene.spec, None).await, Err(CopyError::Unreachable { .. })));
    clear(&scene.spec, Some(Side::New)).await.unwrap();
    assert_eq!(Snapshot::of(&scene.from).await, old.without_ours());
    let setting = notify(&mut scene.from.client().await).await;
    assert_ne!(setting, "xK", "what it was is known to the store that is gone only");

    scene.to.restart().await;
    new.put_back(&scene.to).await;
    let mut client = scene.to.client().await;
    let _: () = client.run("CONFIG SET notify-keyspace-events KEA").await;
    scene.from.kill().await;
    assert!(matches!(clear(&scene.spec, None).await, Err(CopyError::Unreachable { .. })));
    clear(&scene.spec, Some(Side::Old)).await.unwrap();
    assert_eq!(Snapshot::of(&scene.to).await, new.without_ours());
    assert_eq!(notify(&mut client).await, "xK");
    assert!(read_progress(&scene.to.endpoint, "m1").await.unwrap().is_none());
}

#[tokio::test]
async fn a_runner_that_is_alive_is_not_cleared_away_and_one_that_was_pushed_aside_leaves_nothing() {
    let (from, to) = (Server::start(Flavor::ElastiCache).await, Server::start(Flavor::Upstash).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    let _: () = old.run("SET sess:1 v0 EX 3600").await;
    let copier = Copier::start(spec(&from, &to, "alive"));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.heartbeat.is_some()).await;
    for withdrawing in [false, true] {
        let error = end(&spec(&from, &to, "end"), withdrawing).await.unwrap_err();
        assert!(error.passes() && error.to_string().contains("runner alive drives"), "{error}");
    }
    let _: () = new.run("SET sess:2 v0 EX 3600").await;
    eventually("it goes on", async || old.run::<u64>("EXISTS sess:2").await == 1).await;

    // By force: it stops at its next write or heartbeat, and nothing of it comes back.
    let mut forced = spec(&from, &to, "end");
    forced.take_over = true;
    clear(&forced, None).await.unwrap();
    let _: () = new.run("SET sess:3 v0 EX 3600").await;
    let mut seen = copier.progress();
    let fenced = seen.wait_for(|progress| matches!(progress.state, State::Failed(CopyError::Fenced { .. })));
    tokio::time::timeout(Duration::from_secs(20), fenced).await.unwrap().unwrap();
    copier.stop().await;
    assert!(old.traces().await.is_empty() && new.traces().await.is_empty());
    assert_eq!((old.names().await.len(), new.names().await.len()), (2, 3));
}

#[tokio::test]
async fn a_copy_that_was_never_used_is_taken_back() {
    for (from, to) in [(Flavor::ElastiCache, Flavor::Upstash), (Flavor::Plain, Flavor::NoDump)] {
        let (from, to) = (Server::start(from).await, Server::start(to).await);
        let (mut old, mut new) = (from.client().await, to.client().await);
        for number in 0..700 {
            let _: () = old.run(&format!("SET sess:{number} v0 EX 3600")).await;
        }
        let _: () = old.run("HSET sess:cart apples 3 pears 4").await;
        let _: () = old.run("RPUSH sess:list a b c").await;
        let _: () = old.run("SET cache:1 v0").await;
        for before in ["SET sess:1 v0", "SET sess:2 v0", "SET sess:mine found", "SET cache:2 found"] {
            let _: () = new.run(before).await;
        }
        let mut wanted = spec(&from, &to, "a");
        let kind = Kind::Session;
        wanted.keys = vec![KeyRule { prefix: b"sess:".to_vec(), strategy: Strategy::Copy, kind }];
        wanted.unmatched = Unmatched::Skip;
        let copier = Copier::start(wanted.clone());
        until(&copier, "following", |progress| progress.state == State::Following).await;
        // Found the same, and overwritten by us since: what was found is not there any more.
        let _: () = old.run("SET sess:2 clicked EX 3600").await;
        eventually("followed", async || new.run::<String>("GET sess:2").await == "clicked").await;
        copier.stop().await;
        // The old store goes on being used.
        let _: () = old.run("SET sess:3 clicked EX 3600").await;
        let _: () = old.run("DEL sess:4").await;
        let _: () = old.run("HSET sess:cart apples 5").await;
        let before = old.names().await;
        let withdrawn = withdraw(&wanted).await.unwrap();
        assert_eq!((withdrawn.removed, withdrawn.left), (701, 0), "all but sess:1 as it was found");
        assert_eq!(new.names().await, ["cache:2", "sess:1", "sess:mine"]);
        assert_eq!(old.names().await, before);
        assert!(old.traces().await.is_empty() && new.traces().await.is_empty());
        // And so the next one finds no store that is in use.
        let _: () = old.run("SET sess:5 clicked EX 3600").await;
        let copier = Copier::start(CopySpec { migration: "m2".into(), ..wanted });
        until(&copier, "following", |progress| progress.state == State::Following).await;
        copier.stop().await;
    }
}

#[tokio::test]
async fn after_a_way_back_only_what_the_old_store_knows_is_taken_back() {
    let (from, to) = (Server::start(Flavor::Upstash).await, Server::start(Flavor::ElastiCache).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for number in 0..300 {
        let _: () = old.run(&format!("SET sess:{number} v0 EX 3600")).await;
    }
    let _: () = new.run("SET sess:mine found").await;
    let copier = Copier::start(spec(&from, &to, "a"));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;
    let _: () = new.run("SET sess:born v0 EX 3600").await;
    let _: () = new.run("SET sess:1 clicked EX 3600").await;
    eventually("carried", async || {
        old.run::<Option<String>>("GET sess:1").await.as_deref() == Some("clicked")
            && old.run::<u64>("EXISTS sess:born").await == 1
    })
    .await;
    copier.stop().await;
    // Back on the old store.
    let _: () = old.run("SET sess:2 clicked EX 3600").await;
    let _: () = old.run("DEL sess:3").await;
    let _: () = old.run("EXPIRE sess:4 7200").await;
    let before = old.names().await;
    // Somebody still writes the new one, which should not be.
    let _: () = new.run("SET sess:5 late EX 3600").await;
    let _: () = new.run("EXPIRE sess:6 7200").await;
    let _: () = new.run("SET sess:late v0 EX 3600").await;
    let withdrawn = withdraw(&spec(&from, &to, "b")).await.unwrap();
    assert_eq!((withdrawn.removed, withdrawn.left), (299, 3), "{withdrawn:?}");
    assert_eq!(withdrawn.prefixes, ["sess:"]);
    assert_eq!(new.names().await, ["sess:5", "sess:6", "sess:late", "sess:mine"]);
    assert_eq!(old.names().await, before);
    assert_eq!(old.run::<String>("GET sess:2").await, "clicked");
    assert!(old.traces().await.is_empty() && new.traces().await.is_empty());
}

#[tokio::test]
async fn what_only_the_new_store_still_has_is_not_taken_back() {
    let (mut from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for number in 0..50 {
        let _: () = old.run(&format!("SET sess:{number} v0 EX 3600")).await;
    }
    let copier = Copier::start(spec(&from, &to, "a"));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;
    copier.stop().await;
    from.kill().await;
    from.restart().await;
    let mut old = from.client().await;
    let same: Vec<u8> = new.run("DUMP sess:1").await;
    let until_then: i64 = new.run("PEXPIRETIME sess:1").await;
    let at = until_then.to_string();
    let _: () = old.args(&[b"RESTORE".as_slice(), b"sess:1", at.as_bytes(), &same, b"ABSTTL"]).await;
    let withdrawn = withdraw(&spec(&from, &to, "b")).await.unwrap();
    assert_eq!((withdrawn.removed, withdrawn.left), (1, 49), "the last copies of sessions stay");
    assert!(new.traces().await.is_empty());
}

#[tokio::test]
async fn a_store_that_is_full_is_left_like_any_other() {
    let (from, to) =
        (Server::start(Flavor::Plain).await, Server::start_with(Flavor::Plain, &["--maxmemory", "3mb"]).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for number in 0..400 {
        let _: () = old.run(&format!("SET sess:{number} {}", "v".repeat(10_000))).await;
    }
    let copier = Copier::start(spec(&from, &to, "a"));
    let mut seen = copier.progress();
    let full = seen.wait_for(|progress| matches!(progress.state, State::Failed(CopyError::Full { .. })));
    tokio::time::timeout(Duration::from_secs(30), full).await.unwrap().unwrap();
    // Not even a small key is taken any more.
    let _: () = new.run("CONFIG SET maxmemory 1mb").await;
    assert!(new.attempt("SET a b").await.is_err() && !new.names().await.is_empty());
    let withdrawn = withdraw(&spec(&from, &to, "a")).await.unwrap();
    assert!(withdrawn.removed > 50 && withdrawn.left == 0, "{withdrawn:?}");
    assert!(new.names().await.is_empty() && new.traces().await.is_empty());
    assert_eq!(old.names().await.len(), 400);
}

#[tokio::test]
async fn two_databases_in_one_are_taken_back_by_whom_they_came_from() {
    for sealed in [false, true] {
        let (from, to) = (Server::start(Flavor::ElastiCache).await, Server::start(Flavor::Upstash).await);
        let (mut zero, mut one, mut new) = (from.client().await, from.database(1).await, to.client().await);
        for number in 0..30 {
            let _: () = zero.run(&format!("SET sess:{number} v0 EX 3600")).await;
            let _: () = one.run(&format!("SET result:{number} v0 EX 3600")).await;
        }
        // To one pair this is foreign, to the other its own.
        let _: () = new.run("SET result:1 v0").await;
        let _: () = new.run("SET mine found").await;
        let mut wanted = spec(&from, &to, "a");
        wanted.databases = vec![(0, 0), (1, 0)];
        let copier = Copier::start(wanted.clone());
        if sealed {
            copier.set_mode(Mode::BothWays);
        }
        until(&copier, "copied", |progress| progress.state != State::Bulk && progress.sealed == sealed).await;
        until(&copier, "copied", |progress| progress.keys_copied == 60).await;
        copier.stop().await;
        let _: () = one.run("SET result:2 clicked EX 3600").await;
        let withdrawn = withdraw(&wanted).await.unwrap();
        assert_eq!((withdrawn.removed, withdrawn.left), (59, 0));
        assert_eq!(new.names().await, ["mine", "result:1"]);
        assert_eq!((zero.names().await.len(), one.names().await.len()), (30, 30));
        for client in [&mut zero, &mut one, &mut new] {
            assert!(client.traces().await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_withdrawal_goes_by_the_page_and_not_by_the_key() {
    for sealed in [false, true] {
        let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
        let (mut old, mut new) = (from.client().await, to.client().await);
        let mut commands = redis::pipe();
        for number in 0..5_000 {
            commands.cmd("SET").arg(format!("sess:{number}")).arg("v0").arg("EX").arg(3_600);
        }
        old.pipe(&commands).await;
        let copier = Copier::start(spec(&from, &to, "a"));
        if sealed {
            copier.set_mode(Mode::BothWays);
        }
        until(&copier, "copied", |progress| progress.keys_copied == 5_000 && progress.sealed == sealed).await;
        copier.stop().await;
        let budget = Budget::of(1_000_000);
        let (source, target) =
            (Severed::way_to(&from.endpoint, &budget).await, Severed::way_to(&to.endpoint, &budget).await);
        let through = CopySpec { from: source.endpoint.clone(), to: target.endpoint.clone(), ..spec(&from, &to, "a") };
        let withdrawn = withdraw(&through).await.unwrap();
        let messages = 1_000_000 - budget.left();
        assert_eq!((withdrawn.removed, withdrawn.left), (5_000, 0));
        assert!(messages < 250, "{messages} messages");
        assert!(new.names().await.is_empty() && new.traces().await.is_empty());
    }
}
