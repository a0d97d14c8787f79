//! The queues of a Celery broker that shares the store: a task that is copied as a key runs twice.

use std::time::Duration;

use sessionbackend::{
    copy::{Copier, CopyError, CopySpec, KeyRule, Mode, State, Strategy, Unmatched},
    journal::Uncarried,
    merge::Kind,
};

use crate::server::{Client, Flavor, Server, eventually, spec, until};

async fn used_by_celery(from: &Server) -> Client {
    let mut old = from.client().await;
    for command in [
        "SET sess:1 v0",
        "SET celery-task-meta-1 SUCCESS",
        "LPUSH celery task-1",
        "LPUSH celery\u{6}\u{16}3 task-2",
        "HSET unacked tag-1 task-3",
        "ZADD unacked_index 1 tag-1",
        "SADD _kombu.binding.celery celery",
    ] {
        let _: () = old.run(command).await;
    }
    old
}

fn rules(told: &[(&str, Strategy)]) -> Vec<KeyRule> {
    let rule = |(prefix, strategy): &(&str, Strategy)| KeyRule {
        prefix: prefix.as_bytes().to_vec(),
        strategy: *strategy,
        kind: Kind::Session,
    };
    told.iter().map(rule).collect()
}

#[tokio::test]
async fn a_task_is_not_copied_and_stops_the_copy_before_the_switch() {
    for told in [vec![], vec![("celery", Strategy::Copy)], vec![("unacked", Strategy::Drop)]] {
        let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
        used_by_celery(&from).await;
        let copier = Copier::start(CopySpec { keys: rules(&told), ..spec(&from, &to, "a") });
        copier.set_mode(Mode::BothWays);
        let mut seen = copier.progress();
        let failed = seen.wait_for(|progress| matches!(progress.state, State::Failed(_)));
        let state = tokio::time::timeout(Duration::from_secs(20), failed).await.unwrap().unwrap().state.clone();
        let State::Failed(CopyError::Queues { store, names }) = state else { panic!("{state:?}") };
        assert_eq!(store, from.endpoint.name());
        assert!(names.contains(&"celery".to_owned()) && names.contains(&"_kombu.binding.".to_owned()), "{names:?}");
        assert_eq!(names.contains(&"unacked_index".to_owned()), told != [("unacked", Strategy::Drop)], "{names:?}");
        let there = to.client().await.names().await;
        assert!(there.iter().all(|name| name == "sess:1" || name.starts_with("celery-task-meta-")), "{there:?}");
    }
}

#[tokio::test]
async fn queues_that_a_rule_leaves_behind_stay_and_results_move() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let mut old = used_by_celery(&from).await;
    let left = [
        ("celery-task-meta-", Strategy::Copy),
        ("celery", Strategy::Drop),
        ("unacked", Strategy::Drop),
        ("_kombu.binding.", Strategy::Drop),
    ];
    let copier = Copier::start(CopySpec { keys: rules(&left), ..spec(&from, &to, "a") });
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.state == State::BothWays).await;
    let mut new = to.client().await;
    assert_eq!(new.names().await, ["celery-task-meta-1", "sess:1"]);
    copier.stop().await;
    assert_eq!(old.run::<u64>("LLEN celery").await, 1);
}

#[tokio::test]
async fn a_queue_that_is_born_after_the_switch_stays_where_it_is() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    let copier = Copier::start(spec(&from, &to, "a"));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.state == State::BothWays).await;
    let _: () = new.run("LPUSH celery task-1").await;
    let _: () = new.run("SET sess:1 v0").await;
    eventually("carried", async || old.run::<u64>("EXISTS sess:1").await == 1).await;
    copier.count_quiet_from_now();
    until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    assert_eq!((old.names().await, new.names().await.len()), (vec!["sess:1".to_owned()], 2));
    copier.stop().await;
}

#[tokio::test]
async fn what_comes_into_the_old_store_after_the_seal_and_is_not_carried_is_counted_by_kind() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    let keys = rules(&[("sess:", Strategy::Copy), ("celery", Strategy::Copy), ("tmp:", Strategy::Drop)]);
    let copier = Copier::start(CopySpec { keys, unmatched: Unmatched::Block, ..spec(&from, &to, "a") });
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.state == State::BothWays).await;
    for command in ["LPUSH celery task-1", "SET cart:1 v0", "SET cart:2 v0", "SET tmp:1 v0", "SET sess:1 v0"] {
        let _: () = old.run(command).await;
    }
    copier.count_quiet_from_now();
    until(&copier, "what is not carried is told", |progress| {
        progress.uncarried.source == Uncarried { queues: 1, unmatched: 2 }
    })
    .await;
    eventually("carried", async || new.run::<u64>("EXISTS sess:1").await == 1).await;
    assert_eq!(new.names().await, ["sess:1"]);
    copier.stop().await;
}
