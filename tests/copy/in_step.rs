//! Both ways: old and new instances write at the same time.

use sessionbackend::copy::{Copier, Mode, State};

use crate::server::{Flavor, Server, eventually, spec, until};

#[tokio::test]
async fn changes_go_both_ways_and_deletions_too() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for number in 0..200 {
        let _: () = old.run(&format!("SET sess:{number} v0 PX 600000")).await;
    }
    let copier = Copier::start(spec(&from, &to, "a"));
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.state == State::BothWays && progress.sealed).await;
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
    eprintln!("worst lag {:?}, feeds {:?}", progress.worst_lag_both_ways, progress.feeds);
    copier.stop().await;
}
