//! The copiers of a process, as a planner drives them.

use sessionbackend::{
    copy::{Copier, CopySpec, Mode, read_progress},
    desired::{CopyRules, KeyKind, KeyRule, KeyStrategy, Unmatched},
    error::Class,
    identity::{Address, MigrationId, StoreId},
    observed::{CopyState, Reading},
    runner::LocalCopiers,
    step::{CopyMode, Side},
    world::long::{Copiers, CopyJob, Endpoint},
};

use crate::server::{Flavor, Server, eventually, spec, until};

fn job(from: &Server, to: &Server, attempt: u32) -> CopyJob {
    let endpoint = |server: &Server| Endpoint {
        store: StoreId::External(server.endpoint.host.clone(), server.endpoint.port),
        address: Address {
            host: server.endpoint.host.clone(),
            port: server.endpoint.port,
            db: 0,
            user: None,
            tls: false,
        },
        password: None,
    };
    let rule = KeyRule { prefix: "sess:".into(), strategy: KeyStrategy::Copy, kind: KeyKind::Session };
    CopyJob {
        migration: MigrationId("m1".into()),
        from: endpoint(from),
        to: endpoint(to),
        rules: CopyRules { keys: vec![rule], unmatched: Unmatched::Skip, databases: vec![(1, 1)] },
        attempt,
        max_lag: std::time::Duration::from_secs(5),
    }
}

async fn becomes(copiers: &LocalCopiers, job: &CopyJob, wanted: CopyState) {
    eventually(&format!("{wanted:?}"), async || match copiers.progress(job).await {
        Reading::Present(copy) => copy.state == wanted,
        _ => false,
    })
    .await;
}

#[tokio::test]
async fn a_job_is_run_withdrawn_and_cleared_with_its_own_rules() {
    let (from, mut to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.database(1).await, to.database(1).await);
    for name in ["sess:1", "sess:2", "cart:1"] {
        let _: () = old.run(&format!("SET {name} v0 EX 3600")).await;
    }
    let copiers = LocalCopiers::new(jiff::Timestamp::now);
    let first = job(&from, &to, 0);
    copiers.run(first.clone(), CopyMode::Follow).await.unwrap();
    becomes(&copiers, &first, CopyState::Following).await;
    copiers.run(job(&from, &to, 2), CopyMode::BothWays).await.unwrap();
    becomes(&copiers, &first, CopyState::BothWays).await;
    assert_eq!(new.names().await, ["sess:1", "sess:2"]);
    eventually("the retry is noted", async || {
        old.run::<Option<String>>("GET __sessionbackend:m1:attempt").await.as_deref() == Some("2")
    })
    .await;
    copiers.run(first.clone(), CopyMode::Withdraw).await.unwrap();
    assert!(new.run::<Vec<String>>("KEYS *").await.is_empty() && old.traces().await.is_empty());
    assert!(copiers.progress(&first).await.is_absent());

    copiers.run(first.clone(), CopyMode::BothWays).await.unwrap();
    becomes(&copiers, &first, CopyState::BothWays).await;
    to.kill().await;
    let error = copiers.run(first.clone(), CopyMode::Clear { gone: None }).await.unwrap_err();
    assert_eq!(error.class, Class::Transient, "{error:?}");
    copiers.run(first.clone(), CopyMode::Clear { gone: Some(Side::To) }).await.unwrap();
    assert!(old.traces().await.is_empty());
    assert_eq!(old.names().await.len(), 3);
}

#[tokio::test]
async fn a_runner_elsewhere_is_named_and_asked_for_again() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let _: () = from.client().await.run("SET sess:1 v0 EX 3600").await;
    let mine = job(&from, &to, 0);
    let copier = Copier::start(CopySpec { databases: vec![(1, 1)], ..spec(&from, &to, "elsewhere") });
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.heartbeat.is_some()).await;
    let copiers = LocalCopiers::new(jiff::Timestamp::now);
    for mode in [CopyMode::Clear { gone: None }, CopyMode::Withdraw] {
        let error = copiers.run(mine.clone(), mode).await.unwrap_err();
        assert!(error.class == Class::Transient && error.to_string().contains("runner elsewhere"), "{error}");
    }
    copier.stop().await;
    copiers.run(mine, CopyMode::Clear { gone: None }).await.unwrap();
    assert!(read_progress(&to.endpoint, "m1").await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_copier_left_is_found_in_both_stores_until_it_is_cleared() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let _: () = from.client().await.run("SET sess:1 v0 EX 3600").await;
    let copiers = LocalCopiers::new(jiff::Timestamp::now);
    let mut mine = job(&from, &to, 0);
    mine.rules.databases.clear();
    let all: Vec<_> = ["m0", "m1", "m10"].map(|id| MigrationId(id.into())).into();
    let left = async |at: &Endpoint| copiers.traces(at, &all).await.unwrap().into_iter().collect::<Vec<_>>();
    assert!(left(&mine.to).await.is_empty() && copiers.traces(&mine.to, &[]).await.unwrap().is_empty());
    copiers.run(mine.clone(), CopyMode::Follow).await.unwrap();
    becomes(&copiers, &mine, CopyState::Following).await;
    assert_eq!(left(&mine.to).await, [mine.migration.clone()]);
    assert!(left(&mine.from).await.is_empty(), "before the seal nothing is written there");
    copiers.run(mine.clone(), CopyMode::BothWays).await.unwrap();
    becomes(&copiers, &mine, CopyState::BothWays).await;
    for store in [&mine.from, &mine.to] {
        assert_eq!(left(store).await, [mine.migration.clone()]);
    }
    copiers.run(mine.clone(), CopyMode::Clear { gone: None }).await.unwrap();
    assert!(left(&mine.from).await.is_empty() && left(&mine.to).await.is_empty());
}
