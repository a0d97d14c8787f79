//! Runners that die, that meet each other, and stores that go away.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sessionbackend::copy::{Copier, CopyError, CopySpec, Endpoint, Mode, State, read_progress};
use sha2::{Digest, Sha256};

use crate::{
    server::{Client, Flavor, Server, cleared, eventually, spec, until},
    severed::{Budget, Severed},
    visitors::Crowd,
};

async fn filled(from: &Server, count: u32) -> Client {
    let mut old = from.client().await;
    let mut commands = redis::pipe();
    for number in 0..count {
        commands.cmd("SET").arg(format!("sess:{number}")).arg("v0").arg("EX").arg(3_600);
    }
    old.pipe(&commands).await;
    old
}

async fn in_step(from: &Server, to: &Server, runner: &str, take_over: bool) -> Copier {
    let mut wanted = spec(from, to, runner);
    wanted.take_over = take_over;
    let copier = Copier::start(wanted);
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.state == State::BothWays).await;
    copier
}

#[tokio::test]
async fn a_logout_while_nobody_runs_does_not_come_back() {
    let (from, to) = (Server::start(Flavor::ElastiCache).await, Server::start(Flavor::Upstash).await);
    let (mut old, mut new) = (filled(&from, 300).await, to.client().await);
    let copier = in_step(&from, &to, "a", false).await;
    // Born after the seal, on both sides: the base must know them although it was stored before.
    let _: () = new.run("SET sess:born-new v0 EX 3600").await;
    let _: () = old.run("SET sess:born-old v0 EX 3600").await;
    let _: () = new.run("SET sess:5 clicked EX 3600").await;
    eventually("carried", async || {
        let here: Vec<Option<String>> = old.run("MGET sess:born-new sess:5").await;
        here == [Some("v0".into()), Some("clicked".into())] && new.run::<u64>("EXISTS sess:born-old").await == 1
    })
    .await;
    // The runner dies: no farewell.
    drop(copier);
    let _: () = old.run("DEL sess:born-new").await;
    let _: () = new.run("DEL sess:born-old").await;
    let _: () = old.run("DEL sess:1").await;
    let _: () = new.run("DEL sess:2").await;
    let _: () = old.run("SET sess:5 again EX 3600").await;
    let _: () = old.run("SET sess:3 changed EX 3600").await;
    let _: () = new.run("SET sess:4 changed EX 3600").await;
    let _: () = new.run("SET sess:while-dead v0 EX 3600").await;
    let copier = in_step(&from, &to, "b", false).await;
    copier.count_quiet_from_now();
    let progress = until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    assert_eq!(progress.conflicts, 0, "the base is as fresh as the last write: {:?}", progress.conflicting);
    let names = "MGET sess:born-new sess:born-old sess:1 sess:2 sess:3 sess:4 sess:5 sess:while-dead";
    let (here, there): (Vec<Option<String>>, Vec<Option<String>>) = (old.run(names).await, new.run(names).await);
    let wanted = [None, None, None, None, Some("changed"), Some("changed"), Some("again"), Some("v0")]
        .map(|value| value.map(str::to_owned));
    assert_eq!((here, there), (wanted.to_vec(), wanted.to_vec()));
    assert!(progress.worst_lag_both_ways.unwrap() >= Duration::from_secs(4), "a dead runner is lag");
    copier.stop().await;
}

/// Runners die at random moments while people log in, click, renew and log out on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_die_and_nobody_is_logged_out_or_in_by_it() {
    let (from, to) = (Server::start(Flavor::ElastiCache).await, Server::start(Flavor::Upstash).await);
    let crowd = Crowd::enter(60, &from, &to, Duration::from_millis(60)).await;
    let first = Copier::start(spec(&from, &to, "r0"));
    until(&first, "following", |progress| progress.state == State::Following && progress.keys_copied > 20).await;
    drop(first);
    let mut copier = in_step(&from, &to, "r1", true).await;
    crowd.fleet.new.store(true, Ordering::SeqCst);
    for life in 2..10_u64 {
        let before = copier.progress().borrow().carried;
        // A moment that no write of ours marks: between 20 and 200 changes after the last.
        until(&copier, "work", |progress| progress.carried >= before + 20 + life * 20).await;
        drop(copier);
        copier = in_step(&from, &to, &format!("r{life}"), true).await;
    }
    crowd.fleet.old.store(false, Ordering::SeqCst);
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
    eprintln!("{} requests, {} refused, {} conflicts", memory.requests, memory.refused, progress.conflicts);
    copier.stop().await;
}

/// A runner in a process of its own, which the test below ends as `kill -9` does. On its own it does nothing.
#[tokio::test]
async fn runner_process() {
    let Some(orders) = std::env::var_os("RUNNER_PROCESS") else { return };
    let orders = orders.into_string().unwrap();
    let words: Vec<&str> = orders.split(' ').collect();
    let [from, to, name, mode] = words.as_slice() else { panic!("{orders}") };
    let endpoint = |port: &str| Endpoint::new("127.0.0.1", port.parse().unwrap());
    let mut wanted = CopySpec::new("m1", *name, endpoint(from), endpoint(to));
    wanted.take_over = true;
    let copier = Copier::start(wanted);
    if *mode == "both" {
        copier.set_mode(Mode::BothWays);
    }
    until(&copier, "the end", |progress| progress.state == State::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_leave_nothing_half_done() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let crowd = Crowd::enter(40, &from, &to, Duration::from_millis(60)).await;
    crowd.fleet.new.store(false, Ordering::SeqCst);
    let mut chance = StdRng::seed_from_u64(7);
    for life in 0..8 {
        let orders = format!("{} {} p{life} both", from.endpoint.port, to.endpoint.port);
        let mut process = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "takeover::runner_process"])
            .env("RUNNER_PROCESS", orders)
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("it works", async || {
            let stored = read_progress(&to.endpoint, "m1").await.unwrap();
            let progress = stored.filter(|stored| stored.sealed).and_then(|stored| stored.progress);
            progress.is_some_and(|progress| progress.runner == format!("p{life}") && progress.sealed)
        })
        .await;
        crowd.fleet.new.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..700))).await;
        process.kill().await.unwrap();
    }
    let memory = crowd.leave().await;
    let copier = in_step(&from, &to, "last", true).await;
    copier.count_quiet_from_now();
    let progress = until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    let (lost, zombies) = memory.judge(&mut [from.client().await, to.client().await]).await;
    assert!(lost.is_empty() && zombies.is_empty(), "lost {lost:?}, came back {zombies:?}: {memory:?}\n{progress:?}");
    copier.stop().await;
}

/// The narrowest moment, made by hand: a runner dies after the source was written and before the base was settled.
#[tokio::test]
async fn an_announced_write_is_judged_by_whether_it_was_carried_out() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (filled(&from, 20).await, to.client().await);
    in_step(&from, &to, "a", false).await.stop().await;
    for name in ["sess:carried", "sess:not-carried"] {
        let _: () = new.run(&format!("SET {name} v0")).await;
    }
    let eight = |parts: &[&[u8]]| {
        let mut sum = Sha256::new();
        for part in parts {
            sum.update(part);
        }
        sum.finalize()[..8].to_vec()
    };
    let digest = eight(&[b"s", &2_u64.to_be_bytes(), b"v0"]);
    let entry =
        |name: &str| [eight(&[name.as_bytes()]), vec![1], digest.clone(), (-1_i64).to_be_bytes().to_vec()].concat();
    let intent = [77_u64.to_be_bytes().to_vec(), entry("sess:carried"), entry("sess:not-carried")].concat();
    let _: () = new.args(&[b"SET".as_slice(), b"__sessionbackend:m1:intent:0", &intent]).await;
    let _: () = old.run("SET __sessionbackend:m1:applied:0 77:10").await;
    // The first was written to the source, and its user has logged out there since; the second never arrived.
    let copier = in_step(&from, &to, "b", false).await;
    copier.count_quiet_from_now();
    until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    for client in [&mut old, &mut new] {
        let there: Vec<Option<String>> = client.run("MGET sess:carried sess:not-carried").await;
        assert_eq!(there, [None, Some("v0".into())]);
    }
    copier.stop().await;
}

#[tokio::test]
async fn of_two_runners_one_writes() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let mut old = filled(&from, 50).await;
    let first = Copier::start(spec(&from, &to, "first"));
    until(&first, "following", |progress| progress.state == State::Following && progress.heartbeat.is_some()).await;
    // A second one waits while the first is alive, and says for whom.
    let second = Copier::start(spec(&from, &to, "second"));
    let waiting = until(&second, "waiting", |progress| progress.trouble.is_some()).await;
    assert!(waiting.trouble.unwrap().to_string().contains("runner first"));
    // A third is told to take over: the first stops at its next write or heartbeat.
    let mut wanted = spec(&from, &to, "third");
    wanted.take_over = true;
    let third = Copier::start(wanted);
    until(&third, "following", |progress| progress.state == State::Following).await;
    let _: () = old.run("SET sess:1 later EX 3600").await;
    let mut seen = first.progress();
    let fenced = tokio::time::timeout(
        Duration::from_secs(20),
        seen.wait_for(|progress| matches!(progress.state, State::Failed(CopyError::Fenced { .. }))),
    );
    fenced.await.unwrap().unwrap();
    // It leaves: the waiting one goes on at once.
    third.stop().await;
    let stopped = Instant::now();
    until(&second, "following", |progress| progress.state == State::Following).await;
    assert!(stopped.elapsed() < Duration::from_secs(4), "released, not stale");
    let stored = read_progress(&to.endpoint, "m1").await.unwrap().unwrap();
    assert!(!stored.sealed && stored.silent_for.unwrap() < Duration::from_secs(5));
    second.stop().await;
}

/// The fence is in every write: a runner that lost it does not write again, even before its heartbeat tells it.
#[tokio::test]
async fn who_lost_the_fence_cannot_write() {
    for both_ways in [false, true] {
        let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
        let (mut old, mut new) = (filled(&from, 20).await, to.client().await);
        let copier = Copier::start(spec(&from, &to, "first"));
        if both_ways {
            copier.set_mode(Mode::BothWays);
            until(&copier, "the seal", |progress| progress.sealed).await;
            let _: () = old.run("SET __sessionbackend:m1:fence other#1").await;
            let _: () = new.run("SET sess:late-new v0").await;
        } else {
            until(&copier, "following", |progress| progress.state == State::Following).await;
        }
        let _: () = new.run("SET __sessionbackend:m1:fence other#1").await;
        let _: () = old.run("SET sess:late v0").await;
        let mut seen = copier.progress();
        let fenced = seen.wait_for(|progress| matches!(progress.state, State::Failed(CopyError::Fenced { .. })));
        tokio::time::timeout(Duration::from_secs(20), fenced).await.unwrap().unwrap();
        assert_eq!(new.run::<u64>("EXISTS sess:late").await, 0);
        assert_eq!(old.run::<u64>("EXISTS sess:late-new").await, 0);
    }
}

#[tokio::test]
async fn before_the_seal_a_successor_sweeps_again() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (filled(&from, 400).await, to.client().await);
    let first = Copier::start(spec(&from, &to, "first"));
    until(&first, "following", |progress| progress.state == State::Following).await;
    drop(first);
    let _: () = old.run("DEL sess:1").await;
    let _: () = old.run("SET sess:2 changed").await;
    let second = Copier::start(spec(&from, &to, "second"));
    until(&second, "following", |progress| progress.state == State::Following).await;
    let values: Vec<Option<String>> = new.run("MGET sess:1 sess:2").await;
    assert_eq!(values, [None, Some("changed".into())]);
    assert_eq!(new.names().await.len(), 399);
    second.stop().await;
    cleared(&from, &to).await;
    assert!(old.traces().await.is_empty() && new.traces().await.is_empty());
}

#[tokio::test]
async fn an_emptied_store_does_not_empty_the_other() {
    let (mut from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (_, mut new) = (filled(&from, 100).await, to.client().await);
    let copier = in_step(&from, &to, "a", false).await;
    from.kill().await;
    from.restart().await;
    let mut seen = copier.progress();
    let emptied = seen.wait_for(|progress| matches!(progress.state, State::Failed(_)));
    let state = tokio::time::timeout(Duration::from_secs(30), emptied).await.unwrap().unwrap().state.clone();
    assert_eq!(state, State::Failed(CopyError::Emptied { store: from.endpoint.name() }));
    assert_eq!(new.names().await.len(), 100);
}

#[tokio::test]
async fn a_store_that_goes_away_is_waited_for() {
    let (from, mut to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let _ = filled(&from, 100).await;
    let copier = Copier::start(spec(&from, &to, "a"));
    until(&copier, "following", |progress| progress.state == State::Following).await;
    to.kill().await;
    let progress = until(&copier, "trouble", |progress| progress.trouble.is_some()).await;
    assert!(matches!(progress.trouble, Some(CopyError::Unreachable { .. })), "{progress:?}");
    to.restart().await;
    until(&copier, "all again", |progress| {
        progress.trouble.is_none() && progress.state == State::Following && progress.keys_copied == 100
    })
    .await;
    assert_eq!(to.client().await.names().await.len(), 100);
    copier.stop().await;
}

/// A runner that stood still anywhere on its way to the seal, while another took over, sealed, and died: what it still
/// had on its lips arrives late, and nothing that was written down since may suffer by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replaced_runner_had_on_its_lips_spoils_nothing() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    let (mut fenced, mut went_on) = (0, 0);
    for messages in (14..74).step_by(3) {
        // Half of the time the other one has not died.
        let alive = messages % 2 == 1;
        for client in [&mut old, &mut new] {
            let _: () = client.run("FLUSHALL").await;
        }
        filled(&from, 40).await;
        let budget = Budget::holding(messages);
        let (source, target) =
            (Severed::way_to(&from.endpoint, &budget).await, Severed::way_to(&to.endpoint, &budget).await);
        let slow = Copier::start(CopySpec::new("m1", "slow", source.endpoint.clone(), target.endpoint.clone()));
        slow.set_mode(Mode::BothWays);
        eventually("it stands still", async || budget.is_holding()).await;
        let second = Some(in_step(&from, &to, "second", true).await).filter(|_| alive);
        let _: () = old.run("DEL sess:1").await;
        let _: () = new.run("DEL sess:2").await;
        let _: () = new.run("SET sess:born v0 EX 3600").await;
        budget.let_go();
        let mut seen = slow.progress();
        let ended =
            |state: &State| matches!(state, State::Failed(CopyError::Fenced { .. } | CopyError::Emptied { .. }));
        let ended = seen.wait_for(|progress| ended(&progress.state) || progress.trouble.is_some());
        let last = tokio::time::timeout(Duration::from_secs(20), ended).await.map(|last| last.map(|last| last.clone()));
        let Ok(Ok(last)) = last else { panic!("after {messages} messages: {:?}", slow.progress().borrow()) };
        fenced += u32::from(last.trouble.is_none());
        drop(slow);
        let copier = match second {
            Some(second) => second,
            None => in_step(&from, &to, "third", true).await,
        };
        copier.count_quiet_from_now();
        until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
        went_on += u32::from(alive);
        let there = (old.names().await, new.names().await);
        assert_eq!(there.0, there.1, "after {messages} messages");
        assert_eq!(there.0.len(), 39, "after {messages} messages");
        assert!(!there.0.contains(&"sess:1".to_owned()) && !there.0.contains(&"sess:2".to_owned()), "{messages}");
        copier.stop().await;
    }
    assert!(fenced > 10 && went_on > 5, "{fenced} fenced, {went_on} went on");
}
