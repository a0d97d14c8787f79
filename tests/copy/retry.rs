//! What a permanent failure leaves, and what a `retry` makes of it.

use std::time::Duration;

use sessionbackend::{
    copy::{Copier, CopyError, CopySpec, KeyRule, Mode, State, Strategy, Unmatched, read_progress},
    merge::Kind,
};

use crate::{
    ending::Snapshot,
    server::{Client, Flavor, Server, eventually, spec, until},
    severed::{Budget, Severed},
};

async fn failure(copier: &Copier) -> CopyError {
    let mut seen = copier.progress();
    let failed = seen.wait_for(|progress| matches!(progress.state, State::Failed(_)));
    match tokio::time::timeout(Duration::from_secs(40), failed).await.unwrap().unwrap().state.clone() {
        State::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

fn start(from: &Server, to: &Server, runner: &str, attempt: u32) -> Copier {
    let copier = Copier::start(CopySpec { attempt, take_over: true, ..spec(from, to, runner) });
    copier.set_mode(Mode::BothWays);
    copier
}

async fn in_step(from: &Server, to: &Server, runner: &str, attempt: u32) -> Copier {
    let copier = start(from, to, runner, attempt);
    until(&copier, "in step", |progress| progress.sealed && progress.state == State::BothWays).await;
    copier
}

async fn quiet(copier: &Copier) -> u64 {
    copier.count_quiet_from_now();
    until(copier, "quiet", |progress| progress.quiet_sweeps >= 2).await.conflicts
}

async fn fill(client: &mut Client, count: u32, value: &str) {
    let mut commands = redis::pipe();
    for number in 0..count {
        commands.cmd("SET").arg(format!("sess:{number}")).arg(value).arg("EX").arg(3_600);
    }
    client.pipe(&commands).await;
}

#[tokio::test]
async fn what_was_thrown_away_is_carried_back_when_a_person_says_retry() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 500, &"v".repeat(2_000)).await;
    let copier = in_step(&from, &to, "a", 0).await;
    let _: () = new.run("CONFIG SET maxmemory-policy volatile-lru").await;
    let _: () = new.run("CONFIG SET maxmemory 2mb").await;
    assert!(matches!(failure(&copier).await, CopyError::Evicting { .. }));
    let _: () = new.run("CONFIG SET maxmemory 0").await;
    assert!(new.names().await.len() < 500);
    // Another runner, the same attempt: nothing has been decided.
    assert!(matches!(failure(&start(&from, &to, "b", 0)).await, CopyError::Evicting { .. }));
    let copier = in_step(&from, &to, "c", 1).await;
    assert_eq!(quiet(&copier).await, 0);
    assert_eq!((old.names().await.len(), new.names().await.len()), (500, 500));
    // Two-way merging goes on with the new base: a logout is a logout again, and so it is for a successor.
    let _: () = new.run("DEL sess:1").await;
    eventually("logged out", async || old.run::<u64>("EXISTS sess:1").await == 0).await;
    drop(copier);
    let _: () = old.run("DEL sess:2").await;
    let copier = in_step(&from, &to, "d", 1).await;
    quiet(&copier).await;
    assert_eq!((old.names().await.len(), new.names().await.len()), (498, 498));
    copier.stop().await;
}

#[tokio::test]
async fn an_emptied_old_store_gets_everything_back() {
    let (mut from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 100, "v0").await;
    let copier = in_step(&from, &to, "a", 0).await;
    from.kill().await;
    from.restart().await;
    let emptied = CopyError::Emptied { store: from.endpoint.name() };
    assert_eq!(failure(&copier).await, emptied);
    assert_eq!(failure(&start(&from, &to, "b", 0)).await, emptied);
    let mut old = from.client().await;
    let _: () = old.run("SET sess:again v0 EX 3600").await;
    let copier = in_step(&from, &to, "c", 1).await;
    quiet(&copier).await;
    assert_eq!((old.names().await.len(), new.names().await.len()), (101, 101));
    let _: () = old.run("DEL sess:1").await;
    eventually("logged out", async || new.run::<u64>("EXISTS sess:1").await == 0).await;
    copier.stop().await;
}

#[tokio::test]
async fn an_emptied_new_store_gets_everything_back_although_the_record_went_with_it() {
    let (from, to) = (Server::start(Flavor::ElastiCache).await, Server::start(Flavor::Upstash).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 100, "v0").await;
    let copier = in_step(&from, &to, "a", 0).await;
    let _: () = new.run("FLUSHALL").await;
    let error = failure(&copier).await;
    assert!(matches!(error, CopyError::Fenced { .. } | CopyError::Emptied { .. }), "{error:?}");
    assert_eq!(old.names().await.len(), 100, "nobody was logged out by it");
    // People are on the new store and begin again there.
    let _: () = new.run("SET sess:1 again EX 3600").await;
    let _: () = new.run("SET sess:born again EX 3600").await;
    assert_eq!(failure(&start(&from, &to, "b", 0)).await, CopyError::Emptied { store: to.endpoint.name() });
    assert!(new.traces().await.is_empty(), "{:?}", new.traces().await);
    let copier = in_step(&from, &to, "c", 1).await;
    assert_eq!(quiet(&copier).await, 1, "sess:1 had two values");
    for client in [&mut old, &mut new] {
        assert_eq!(client.names().await.len(), 101);
        assert_eq!(client.run::<String>("GET sess:1").await, "again");
    }
    drop(copier);
    let _: () = new.run("DEL sess:2").await;
    let copier = in_step(&from, &to, "d", 1).await;
    quiet(&copier).await;
    assert_eq!((old.names().await.len(), new.names().await.len()), (100, 100));
    copier.stop().await;
    crate::server::cleared(&from, &to).await;
    assert!(old.traces().await.is_empty() && new.traces().await.is_empty());
}

#[tokio::test]
async fn the_old_base_still_tells_which_side_has_changed() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 50, "v0").await;
    in_step(&from, &to, "a", 0).await.stop().await;
    let _: () = old.run("SET sess:1 old EX 3600").await;
    let _: () = new.run("SET sess:2 new EX 3600").await;
    let _: () = old.run("SET sess:3 old EX 3600").await;
    let _: () = new.run("SET sess:3 new EX 3600").await;
    let _: () = old.run("DEL sess:4").await;
    let _: () = new.run("DEL sess:5").await;
    let _: () = old.run("SET sess:6 v0 EX 7200").await;
    let copier = in_step(&from, &to, "b", 1).await;
    assert_eq!(quiet(&copier).await, 1);
    for client in [&mut old, &mut new] {
        let values: Vec<Option<String>> = client.run("MGET sess:1 sess:2 sess:3 sess:4 sess:5").await;
        let wanted = ["old", "new", "new", "v0", "v0"].map(|value| Some(value.to_owned()));
        assert_eq!(values, wanted, "nothing is deleted: a deletion cannot be told from a loss");
        assert!(client.run::<i64>("TTL sess:6").await > 7_000);
    }
    copier.stop().await;
}

#[tokio::test]
async fn a_retry_that_meets_a_copier_at_work_changes_nothing() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 50, "v0").await;
    let copier = in_step(&from, &to, "a", 0).await;
    copier.set_attempt(1);
    eventually("written down", async || {
        let there: Option<String> = old.run("GET __sessionbackend:m1:attempt").await;
        there.as_deref() == Some("1")
    })
    .await;
    drop(copier);
    let _: () = old.run("DEL sess:1").await;
    let copier = in_step(&from, &to, "b", 1).await;
    quiet(&copier).await;
    assert_eq!((old.names().await.len(), new.names().await.len()), (49, 49), "a logout stays one");
    copier.stop().await;
}

#[tokio::test]
async fn a_store_that_throws_keys_away_is_not_copied_until_it_stops() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 500, &"v".repeat(2_000)).await;
    let follow =
        |runner: &str, attempt| Copier::start(CopySpec { attempt, take_over: true, ..spec(&from, &to, runner) });
    let copier = follow("a", 0);
    until(&copier, "following", |progress| progress.state == State::Following).await;
    let _: () = old.run("CONFIG SET maxmemory-policy volatile-lru").await;
    let _: () = old.run("CONFIG SET maxmemory 2mb").await;
    let error = failure(&copier).await;
    assert!(matches!(&error, CopyError::Evicting { store, .. } if *store == from.endpoint.name()), "{error:?}");
    let _: () = old.run("CONFIG SET maxmemory 0").await;
    let kept = old.names().await;
    assert!(kept.len() < 500 && !read_progress(&to.endpoint, "m1").await.unwrap().unwrap().sealed);
    assert!(matches!(failure(&follow("b", 0)).await, CopyError::Evicting { .. }), "nothing has been decided");
    let copier = follow("c", 1);
    until(&copier, "following", |progress| progress.state == State::Following).await;
    eventually("the new store follows again", async || new.names().await == kept).await;
    copier.stop().await;
}

#[tokio::test]
async fn a_copy_goes_on_with_its_own_rules_or_not_at_all() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 50, "v0").await;
    let copier = in_step(&from, &to, "a", 0).await;
    let other = KeyRule { prefix: b"sess:1".to_vec(), strategy: Strategy::Drop, kind: Kind::Session };
    let changed = [
        CopySpec { keys: vec![other], ..spec(&from, &to, "b") },
        CopySpec { unmatched: Unmatched::Skip, ..spec(&from, &to, "b") },
        CopySpec { databases: vec![(1, 0)], ..spec(&from, &to, "b") },
    ];
    for wanted in changed {
        let error = failure(&Copier::start(CopySpec { take_over: true, attempt: 1, ..wanted.clone() })).await;
        assert_eq!(error, CopyError::OtherRules);
        assert!(!error.passes() && error.remedy().contains("migration.keys"));
    }
    // The one that was begun goes on undisturbed.
    let _: () = new.run("SET sess:born v0 EX 3600").await;
    eventually("carried", async || old.run::<u64>("EXISTS sess:born").await == 1).await;
    copier.stop().await;
    let wrong = CopySpec { unmatched: Unmatched::Skip, ..spec(&from, &to, "b") };
    assert_eq!(sessionbackend::copy::withdraw(&wrong).await, Err(CopyError::OtherRules));
    assert_eq!(new.names().await.len(), 51);
}

#[tokio::test]
async fn a_store_that_is_refused_is_left_as_it_was_found() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new, mut second) = (from.client().await, to.client().await, to.database(1).await);
    fill(&mut old, 50, "v0").await;
    let _: () = new.run("SET sess:1 another-application's").await;
    let _: () = new.run("SET sess:2 v0").await;
    let _: () = new.run("SET sess:mine found").await;
    let mut wanted = spec(&from, &to, "a");
    wanted.databases = vec![(0, 0), (1, 1)];
    assert!(matches!(failure(&Copier::start(wanted.clone())).await, CopyError::TargetNotEmpty { .. }));
    assert_eq!(new.names().await, ["sess:1", "sess:2", "sess:mine"]);
    assert!(new.traces().await.is_empty() && second.traces().await.is_empty() && old.traces().await.is_empty());
    assert!(read_progress(&to.endpoint, "m1").await.unwrap().is_none());
    wanted.unmatched = Unmatched::Block;
    assert!(matches!(failure(&Copier::start(wanted.clone())).await, CopyError::UnmatchedKeys { .. }));
    assert!(new.traces().await.is_empty() && second.traces().await.is_empty());

    // What a refused try remembered does not bind the next: sess:mine is in the old store by now.
    let _: () = new.run("DEL sess:1 sess:mine").await;
    let _: () = old.run("SET sess:mine v0").await;
    wanted.unmatched = Unmatched::Copy;
    let copier = Copier::start(wanted);
    until(&copier, "following", |progress| progress.state == State::Following).await;
    assert_eq!(new.names().await.len(), 51);
    copier.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_that_is_made_anew_loses_nobody_wherever_its_runner_dies() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 60, "v0").await;
    in_step(&from, &to, "a", 0).await.stop().await;
    // What a store that throws keys away looks like afterwards.
    for number in 0..20 {
        let _: () = new.run(&format!("DEL sess:{number}")).await;
        let _: () = old.run(&format!("DEL sess:{}", number + 40)).await;
    }
    let (before, after) = (Snapshot::of(&from).await, Snapshot::of(&to).await);
    for messages in (1..90).step_by(4) {
        before.put_back(&from).await;
        after.put_back(&to).await;
        let budget = Budget::of(messages);
        let (source, target) =
            (Severed::way_to(&from.endpoint, &budget).await, Severed::way_to(&to.endpoint, &budget).await);
        let copier = Copier::start(CopySpec {
            from: source.endpoint.clone(),
            to: target.endpoint.clone(),
            attempt: 1,
            ..spec(&from, &to, "b")
        });
        copier.set_mode(Mode::BothWays);
        eventually("cut off", async || budget.is_spent()).await;
        drop(copier);
        let copier = in_step(&from, &to, "b", 1).await;
        quiet(&copier).await;
        let there = (old.names().await.len(), new.names().await.len());
        assert_eq!(there, (60, 60), "a runner died after {messages} messages");
        copier.stop().await;
    }
}

/// The moment that could cost everybody's session: the fence is back in a store that lost all it had, the base is not
/// made anew yet, and the next runner has not heard of the `retry`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_that_is_back_in_an_emptied_store_vouches_for_nothing() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old, 60, "v0").await;
    in_step(&from, &to, "a", 0).await.stop().await;
    let after = Snapshot::of(&to).await;
    let (mut refused, mut carried) = (0, 0);
    for messages in (11..90).step_by(3) {
        let _: () = old.run("FLUSHALL").await;
        after.put_back(&to).await;
        let budget = Budget::of(messages);
        let (source, target) =
            (Severed::way_to(&from.endpoint, &budget).await, Severed::way_to(&to.endpoint, &budget).await);
        let through = CopySpec { from: source.endpoint.clone(), to: target.endpoint.clone(), ..spec(&from, &to, "b") };
        let copier = Copier::start(CopySpec { attempt: 1, ..through });
        copier.set_mode(Mode::BothWays);
        eventually("cut off", async || budget.is_spent()).await;
        drop(copier);
        let copier = start(&from, &to, "b", 0);
        let mut seen = copier.progress();
        let decided = seen.wait_for(|progress| matches!(progress.state, State::BothWays | State::Failed(_)));
        let state = tokio::time::timeout(Duration::from_secs(30), decided).await.unwrap().unwrap().state.clone();
        if state == State::BothWays {
            quiet(&copier).await;
            assert_eq!(old.names().await.len(), 60, "{messages}");
            carried += 1;
        } else {
            assert_eq!(state, State::Failed(CopyError::Emptied { store: from.endpoint.name() }), "{messages}");
            refused += 1;
        }
        assert_eq!(new.names().await.len(), 60, "a runner died after {messages} messages");
        copier.stop().await;
    }
    assert!(refused > 0 && carried > 0, "{refused} times refused, {carried} times carried back");
}
