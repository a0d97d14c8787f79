//! The first pass and following: every type, every deadline, what may stand in the way.

use sessionbackend::{
    copy::{Copier, CopyError, KeyRule, State, Strategy, Unmatched},
    merge::Kind,
};

use crate::server::{Flavor, Server, cleared, eventually, spec, until};

#[tokio::test]
async fn strings_are_followed_with_their_deadlines() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for number in 0..1_200 {
        let _: () = old.run(&format!("SET sess:{number} value-{number} PX {}", 600_000 + number)).await;
    }
    let _: () = old.run("SET forever yes").await;
    let _: () = old.args(&[b"SET".as_slice(), b"bin\xff\0\r\n", b"\0\x01\xfe\r\n"]).await;
    let copier = Copier::start(spec(&from, &to, "a"));
    let progress = until(&copier, "following", |progress| progress.state == State::Following).await;
    assert_eq!((progress.keys_total, progress.keys_copied), (1_202, 1_202));
    assert!(old.traces().await.is_empty(), "nothing is written to the source before the switch");
    for name in ["sess:0", "sess:777", "forever"] {
        let (here, there): (String, String) =
            (old.run(&format!("GET {name}")).await, new.run(&format!("GET {name}")).await);
        assert_eq!(here, there);
        let (here, there): (i64, i64) =
            (old.run(&format!("PEXPIRETIME {name}")).await, new.run(&format!("PEXPIRETIME {name}")).await);
        assert_eq!(here, there);
    }
    let binary: Vec<u8> = new.args(&[b"GET".as_slice(), b"bin\xff\0\r\n"]).await;
    assert_eq!(binary, b"\0\x01\xfe\r\n");

    let _: () = old.run("SET sess:0 changed").await;
    let _: () = old.run("PEXPIRE sess:1 900000").await;
    let _: () = old.run("DEL sess:2").await;
    let _: () = old.run("SET sess:new born").await;
    let _: () = old.run("PEXPIRE sess:3 1").await;
    eventually("changes follow", async || {
        let values: Vec<Option<String>> = new.run("MGET sess:0 sess:2 sess:new sess:3").await;
        let left: i64 = new.run("PTTL sess:1").await;
        values == [Some("changed".into()), None, Some("born".into()), None] && left > 800_000
    })
    .await;
    copier.verify();
    let progress = until(&copier, "verified", |progress| progress.verified.is_some()).await;
    let verified = progress.verified.unwrap();
    assert_eq!((verified.compared, verified.different), (1_201, 0));
    assert!(progress.lag.is_some());
    copier.stop().await;
    cleared(&from, &to).await;
    assert!(new.traces().await.is_empty() && old.traces().await.is_empty());
    assert_eq!(old.names().await, new.names().await);
}

#[tokio::test]
async fn rules_say_what_moves() {
    let (from, to) = (Server::start(Flavor::Plain).await, Server::start(Flavor::Plain).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    for name in ["asgi:1", "sess:1", "celery"] {
        let _: () = old.run(&format!("SET {name} x")).await;
    }
    let rule = |prefix: &str, strategy| KeyRule { prefix: prefix.into(), strategy, kind: Kind::Session };
    let mut wanted = spec(&from, &to, "a");
    wanted.keys = vec![rule("asgi:", Strategy::Drop), rule("sess:", Strategy::Copy)];
    wanted.unmatched = Unmatched::Block;
    let copier = Copier::start(wanted.clone());
    let failed = until(&copier, "a block", |progress| matches!(progress.state, State::Failed(_))).await;
    assert_eq!(
        failed.state,
        State::Failed(CopyError::UnmatchedKeys { count: 1, prefixes: vec!["(no prefix)".into()] })
    );
    assert!(new.names().await.is_empty(), "a block comes before the first write");

    wanted.unmatched = Unmatched::Skip;
    let copier = Copier::start(wanted);
    let progress = until(&copier, "following", |progress| progress.state == State::Following).await;
    assert_eq!(progress.skipped, 1);
    assert_eq!(new.names().await, ["sess:1"]);
    copier.stop().await;
}
