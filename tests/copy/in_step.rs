//! Both ways: old and new instances write at the same time.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sessionbackend::{
    copy::{Copier, CopyError, CopySpec, Feed, KeyRule, Mode, State, Strategy},
    merge::{Conflict, Kind},
};

use crate::{
    server::{Client, Flavor, Server, eventually, spec, until},
    visitors::Crowd,
};

async fn in_step(from: &Server, to: &Server, runner: &str) -> Copier {
    let copier = Copier::start(spec(from, to, runner));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.state == State::BothWays && progress.sealed).await;
    copier
}

#[tokio::test]
async fn changes_go_both_ways_and_deletions_too() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for number in 0..200 {
        let _: () = old.run(&format!("SET sess:{number} v0 PX 600000")).await;
    }
    let copier = in_step(&from, &to, "a").await;
    let _: () = old.run("SET sess:0 from-old PX 600000").await;
    let _: () = new.run("SET sess:1 from-new PX 700000").await;
    let _: () = old.run("DEL sess:2").await;
    let _: () = new.run("DEL sess:3").await;
    let _: () = old.run("SET sess:old born PX 600000").await;
    let _: () = new.run("SET sess:new born PX 600000").await;
    let _: () = new.run("PEXPIRE sess:4 900000").await;
    eventually("both agree", async || {
        let wanted: Vec<Option<String>> = [Some("from-old"), Some("from-new"), None, None, Some("born"), Some("born")]
            .map(|value| value.map(str::to_owned))
            .to_vec();
        let (here, there): (Vec<Option<String>>, Vec<Option<String>>) = (
            old.run("MGET sess:0 sess:1 sess:2 sess:3 sess:old sess:new").await,
            new.run("MGET sess:0 sess:1 sess:2 sess:3 sess:old sess:new").await,
        );
        let left: i64 = old.run("PTTL sess:4").await;
        here == wanted && there == wanted && left > 800_000
    })
    .await;
    copier.count_quiet_from_now();
    let progress = until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    assert_eq!((progress.conflicts, progress.deleted), (0, 2));
    copier.verify();
    let progress = until(&copier, "verified", |progress| progress.verified.is_some()).await;
    assert_eq!(progress.verified.unwrap().different, 0);
    copier.stop().await;
}

/// The main job: one visitor meets old and new instances in turn, and no session is lost or comes back.
async fn people_notice_nothing(from: Flavor, to: Flavor, feeds: (Feed, Feed)) {
    let (from, to) = (Server::start(from).await, Server::start(to).await);
    let crowd = Crowd::enter(60, &from, &to, Duration::from_millis(120)).await;
    let copier = Copier::start(spec(&from, &to, "a"));
    until(&copier, "following", |progress| progress.state == State::Following && progress.keys_copied > 20).await;
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;

    // A deployment: new instances beside old ones, then new ones only; then back again, the same way.
    crowd.fleet.new.store(true, Ordering::SeqCst);
    carried(&copier, 1_500).await;
    crowd.fleet.old.store(false, Ordering::SeqCst);
    carried(&copier, 300).await;
    copier.count_quiet_from_now();
    until(&copier, "no change from old instances", |progress| progress.quiet.source >= 2).await;
    crowd.fleet.old.store(true, Ordering::SeqCst);
    carried(&copier, 300).await;
    crowd.fleet.new.store(false, Ordering::SeqCst);
    carried(&copier, 100).await;
    let memory = crowd.leave().await;

    copier.count_quiet_from_now();
    let progress = until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    copier.verify();
    let verified = until(&copier, "verified", |progress| progress.verified.is_some()).await.verified.unwrap();
    let (lost, zombies) = memory.judge(&mut [from.client().await, to.client().await]).await;
    let context = format!("{memory:?}\n{progress:?}");
    assert!(lost.is_empty(), "lost {lost:?}: {context}");
    assert!(zombies.is_empty(), "came back {zombies:?}: {context}");
    assert_eq!(verified.different, 0, "{context}");
    assert!(memory.logged_out.len() > 50 && memory.requests > 1_000, "{context}");
    assert_eq!((progress.feeds.source, progress.feeds.target), feeds);
    let worst = progress.worst_lag_both_ways.unwrap();
    assert!(worst < Duration::from_secs(5), "{context}");
    // What a visitor felt is not worse than what the copier measured (and the visitor's own request time).
    assert!(memory.longest_refusal < worst + Duration::from_secs(1), "{context}");
    eprintln!(
        "worst lag {worst:?}, refused {} of {}, at most {:?} late, {} conflicts",
        memory.refused, memory.requests, memory.longest_refusal, progress.conflicts
    );
    copier.stop().await;
}

async fn carried(copier: &Copier, more: u64) {
    let before = copier.progress().borrow().carried;
    until(copier, "more changes", |progress| progress.carried >= before + more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_elasticache_to_upstash() {
    people_notice_nothing(Flavor::ElastiCache, Flavor::Upstash, (Feed::Tracking, Feed::Notifications)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_upstash_to_elasticache() {
    people_notice_nothing(Flavor::Upstash, Flavor::ElastiCache, (Feed::Notifications, Feed::Tracking)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_feed() {
    people_notice_nothing(Flavor::NoFeed, Flavor::NoFeed, (Feed::None, Feed::None)).await;
}

#[tokio::test]
async fn two_writers_of_one_key_are_counted_and_the_new_store_wins() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for name in ["sess:1", "data:1", "sess:2"] {
        let _: () = old.run(&format!("SET {name} v0")).await;
    }
    let mut wanted = spec(&from, &to, "a");
    wanted.keys = vec![KeyRule { prefix: b"data:".to_vec(), strategy: Strategy::Copy, kind: Kind::Data }];
    let copier = Copier::start(wanted.clone());
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;
    copier.stop().await;
    // While nobody carries, both sides move.
    let _: () = old.run("SET sess:1 old").await;
    let _: () = new.run("SET sess:1 new").await;
    let _: () = old.run("DEL data:1").await;
    let _: () = new.run("SET data:1 changed").await;
    let _: () = old.run("SET sess:2 changed").await;
    let _: () = new.run("DEL sess:2").await;
    let copier = Copier::start(wanted);
    let progress = until(&copier, "conflicts", |progress| progress.conflicts == 3).await;
    let values = async |client: &mut Client| -> Vec<Option<String>> { client.run("MGET sess:1 data:1 sess:2").await };
    let wanted = [Some("new".to_owned()), Some("changed".to_owned()), None];
    assert_eq!(values(&mut old).await, wanted);
    assert_eq!(values(&mut new).await, wanted);
    let mut kinds: Vec<Conflict> = progress.conflicting.iter().map(|one| one.conflict).collect();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    assert_eq!(kinds, [Conflict::BothChanged, Conflict::DeletedAndChanged, Conflict::DeletedAndChanged]);
    assert!(progress.conflicting.iter().all(|one| one.prefix == "sess:" || one.prefix == "data:"));
    copier.stop().await;
}

/// A write that arrives between our reading and our writing must not be overwritten by what we read.
#[tokio::test]
async fn a_fresher_write_is_never_overwritten() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    let copier = in_step(&from, &to, "a").await;
    for number in 0..600_u64 {
        // The new store's write is always the later one, by 0 to 2 ms.
        let _: () = old.run(&format!("SET sess:{number} first EX 3600")).await;
        tokio::time::sleep(Duration::from_micros(number * 37 % 2_000)).await;
        let _: () = new.run(&format!("SET sess:{number} second EX 3600")).await;
    }
    copier.count_quiet_from_now();
    until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    for client in [&mut old, &mut new] {
        for number in 0..600 {
            assert_eq!(client.run::<String>(&format!("GET sess:{number}")).await, "second", "sess:{number}");
        }
    }
    copier.stop().await;
}

#[tokio::test]
async fn expired_on_one_side_is_not_a_logout() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    let _: () = old.run("SET sess:1 v0 PX 1500").await;
    let copier = in_step(&from, &to, "a").await;
    copier.stop().await;
    // Renewed on the new side only; the old side lets it expire while nobody carries.
    let _: () = new.run("PEXPIRE sess:1 600000").await;
    eventually("it has expired", async || old.run::<u64>("EXISTS sess:1").await == 0).await;
    let copier = in_step(&from, &to, "b").await;
    eventually("it is back", async || old.run::<i64>("PTTL sess:1").await > 500_000).await;
    assert_eq!(new.run::<u64>("EXISTS sess:1").await, 1);
    copier.stop().await;
}

#[tokio::test]
async fn a_runner_that_is_known_to_be_gone_is_not_waited_for() {
    let (from, to) = (Server::start(Flavor::ElastiCache).await, Server::start(Flavor::Upstash).await);
    // Alive, as far as its heartbeat tells.
    let former = in_step(&from, &to, "a").await;
    let begun = Instant::now();
    let copier = Copier::start(CopySpec { is_gone: |runner| runner == "a", ..spec(&from, &to, "b") });
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.state == State::BothWays).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    until(&former, "its end", |progress| matches!(progress.state, State::Failed(CopyError::Fenced { .. }))).await;
    copier.stop().await;
}
