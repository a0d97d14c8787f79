//! A new store that somebody else writes too, while it follows the old one: what we did not write is not ours to delete.

use sessionbackend::copy::{Copier, CopyError, CopySpec, Mode, State, read_progress, withdraw};

use crate::server::{Client, Flavor, Server, eventually, spec, until};

const COUNT: u32 = 300;

async fn filled(from: &Server) -> Client {
    let mut old = from.client().await;
    let mut commands = redis::pipe();
    for number in 0..COUNT {
        commands.cmd("SET").arg(format!("sess:{number}")).arg("v0").arg("EX").arg(3_600);
    }
    old.pipe(&commands).await;
    old
}

/// A runner in a process of its own follows, and is ended as `kill -9` does.
async fn killed_while_following(from: &Server, to: &Server, meanwhile: impl AsyncFnOnce()) {
    let mut process = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "takeover::runner_process"])
        .env("RUNNER_PROCESS", format!("{} {} killed follow", from.endpoint.port, to.endpoint.port))
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("it follows", async || {
        let progress = read_progress(&to.endpoint, "m1").await.unwrap().and_then(|stored| stored.progress);
        progress.is_some_and(|progress| progress.state == State::Following)
    })
    .await;
    meanwhile().await;
    process.kill().await.unwrap();
}

/// Written by somebody else: a name of his own, one of ours that he made his, and one that he had changed.
async fn somebody_writes(new: &mut Client) {
    let _: () = new.run("SET other:1 theirs").await;
    let _: () = new.run("HSET other:2 apples 3").await;
    let _: () = new.run("SET sess:1 theirs").await;
}

#[tokio::test]
async fn what_somebody_else_writes_before_the_seal_outlives_a_takeover() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (filled(&from).await, to.client().await);
    let mut writer = new.clone();
    killed_while_following(&from, &to, async || somebody_writes(&mut writer).await).await;
    // Nobody runs: two users log out, one of them from a name that somebody has made his own.
    let _: () = old.run("DEL sess:1 sess:2").await;
    let _: () = old.run("SET sess:3 clicked EX 3600").await;
    let wanted = CopySpec { take_over: true, ..spec(&from, &to, "second") };
    let copier = Copier::start(wanted);
    until(&copier, "following", |progress| progress.state == State::Following).await;
    eventually("the logout is carried", async || new.run::<u64>("EXISTS sess:2").await == 0).await;
    assert_eq!(new.run::<String>("GET sess:3").await, "clicked");
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed && progress.state == State::BothWays).await;
    copier.count_quiet_from_now();
    until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    let theirs: Vec<Option<String>> = new.run("MGET other:1 sess:1").await;
    assert_eq!(theirs, [Some("theirs".into()), Some("theirs".into())]);
    assert_eq!(new.run::<u64>("HLEN other:2").await, 1);
    assert_eq!((old.names().await.len(), new.names().await.len()), (298, 301));
    copier.stop().await;
}

#[tokio::test]
async fn what_somebody_else_writes_before_the_seal_outlives_an_abort() {
    for killed in [false, true] {
        let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
        let (mut old, mut new) = (filled(&from).await, to.client().await);
        let _: () = new.run("SET sess:5 v0").await;
        if killed {
            let mut writer = new.clone();
            killed_while_following(&from, &to, async || somebody_writes(&mut writer).await).await;
        } else {
            let copier = Copier::start(spec(&from, &to, "first"));
            until(&copier, "following", |progress| progress.state == State::Following).await;
            somebody_writes(&mut new).await;
            copier.stop().await;
        }
        let wanted = CopySpec { take_over: true, ..spec(&from, &to, "end") };
        let withdrawn = withdraw(&wanted).await.unwrap();
        assert_eq!(new.names().await, ["other:1", "other:2", "sess:1", "sess:5"]);
        assert_eq!(new.run::<String>("GET sess:1").await, "theirs");
        assert_eq!((withdrawn.removed, withdrawn.left), (298, 3), "{withdrawn:?}");
        assert_eq!(withdrawn.prefixes.len(), 2, "{withdrawn:?}");
        assert!(old.traces().await.is_empty() && new.traces().await.is_empty());
    }
}

#[tokio::test]
async fn a_logout_does_not_take_a_key_that_somebody_else_has_written_since() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (filled(&from).await, to.client().await);
    let copier = Copier::start(spec(&from, &to, "first"));
    until(&copier, "following", |progress| progress.state == State::Following).await;
    somebody_writes(&mut new).await;
    let _: () = old.run("DEL sess:1 sess:2").await;
    eventually("the logout is carried", async || new.run::<u64>("EXISTS sess:2").await == 0).await;
    assert_eq!(new.run::<String>("GET sess:1").await, "theirs");
    copier.stop().await;
}

#[tokio::test]
async fn a_name_that_somebody_else_took_first_is_a_block_and_not_overwritten() {
    for killed in [false, true] {
        let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
        let (mut old, mut new) = (filled(&from).await, to.client().await);
        let copier = Copier::start(spec(&from, &to, "first"));
        until(&copier, "following", |progress| progress.state == State::Following).await;
        let _: () = new.run("SET other:1 theirs").await;
        let _: () = new.run("SET other:2 same").await;
        let copier = if killed {
            drop(copier);
            let _: () = old.run("SET other:2 same").await;
            let _: () = old.run("SET other:1 ours").await;
            Copier::start(CopySpec { take_over: true, ..spec(&from, &to, "second") })
        } else {
            let _: () = old.run("SET other:2 same").await;
            let _: () = old.run("SET other:1 ours").await;
            copier
        };
        let mut seen = copier.progress();
        let refused = CopyError::TargetNotEmpty { count: 1, prefixes: vec!["other:".into()] };
        let failed = seen.wait_for(|progress| progress.state == State::Failed(refused.clone()));
        tokio::time::timeout(std::time::Duration::from_secs(30), failed).await.unwrap().unwrap();
        assert_eq!(new.run::<String>("GET other:1").await, "theirs");
    }
}
