//! Fidelity of every type, with and without dumps.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use sessionbackend::copy::{Copier, Mode, State};

use crate::server::{Client, Flavor, Server, eventually, spec, until};

async fn fill(client: &mut Client) {
    let _: () = client.run("SET text plain EX 3600").await;
    let _: () = client.run("SET number 42").await;
    let _: () = client.args(&[b"HSET".as_slice(), b"hash", b"f\0\xff", b"v\r\n", b"g", b""]).await;
    let _: () = client.run("PEXPIRE hash 900000").await;
    let _: () = client.run("RPUSH list a b a c").await;
    let _: () = client.run("SADD set x y z").await;
    let _: () = client.run("SADD ints 1 2 3").await;
    let _: () = client.run("ZADD zset 0.1 a -inf b 3 c 1e300 d").await;
    let _: () = client.run("EXPIRE zset 1200").await;
    let _: () = client.run("XADD stream 5-1 a 1 b 2").await;
    let _: () = client.run("XADD stream 6-0 c 3").await;
    let _: () = client.run("XADD stream 7-0 d 4").await;
    let _: () = client.run("XDEL stream 7-0").await;
    let _: () = client.run("XGROUP CREATE stream workers 5-1").await;
    let _: () = client.run("SETBIT bits 77 1").await;
    let _: () = client.run("PFADD visitors a b c").await;
    // Large enough for a hash table, whose dumps differ between equal hashes.
    let mut big = redis::pipe();
    for number in 0..12_000 {
        big.cmd("HSET").arg("huge-hash").arg(format!("field-{number}")).arg(number);
        big.cmd("RPUSH").arg("huge-list").arg(number);
    }
    for number in 0..700 {
        big.cmd("HSET").arg("big-hash").arg(format!("field-{number}")).arg("v".repeat(80));
        big.cmd("SADD").arg("big-set").arg(format!("member-{number}"));
        big.cmd("ZADD").arg("big-zset").arg(number).arg(format!("member-{number}"));
        big.cmd("RPUSH").arg("big-list").arg(format!("item-{number}-{}", "x".repeat(50)));
    }
    client.pipe(&big).await;
}

/// Content and expiry of every key, in words.
async fn picture(client: &mut Client) -> BTreeMap<String, (String, i64)> {
    let mut all = BTreeMap::new();
    for name in client.names().await {
        let kind: String = client.run(&format!("TYPE {name}")).await;
        let command = match kind.as_str() {
            "string" => format!("GET {name}"),
            "hash" => format!("HGETALL {name}"),
            "list" => format!("LRANGE {name} 0 -1"),
            "set" => format!("SMEMBERS {name}"),
            "zset" => format!("ZRANGE {name} 0 -1 WITHSCORES"),
            "stream" => format!("XRANGE {name} - +"),
            _ => continue,
        };
        // It may be changing its type just now.
        let Ok(content) = client.attempt(&command).await else { continue };
        let mut words = vec![format!("{content:?}")];
        if let (redis::Value::Array(items), "hash" | "set") = (&content, kind.as_str()) {
            let step = if kind == "hash" { 2 } else { 1 };
            words = items.chunks(step).map(|items| format!("{items:?}")).collect();
            words.sort();
        }
        if kind == "stream" {
            let groups: Vec<Vec<redis::Value>> = client.run(&format!("XINFO GROUPS {name}")).await;
            words.extend(groups.iter().map(|group| format!("{:?} {:?}", group[1], group[7])));
            let last: Vec<redis::Value> = client.run(&format!("XINFO STREAM {name}")).await;
            words.push(format!("{:?}", &last[6..8]));
        }
        let expiry: i64 = client.run(&format!("PEXPIRETIME {name}")).await;
        all.insert(name, (format!("{kind} {}", short(&words.join(" "))), expiry));
    }
    all
}

/// Readable in a failing assertion.
fn short(text: &str) -> String {
    if text.len() < 300 {
        return text.to_owned();
    }
    let mut hasher = std::hash::DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{} bytes, {:x}", text.len(), hasher.finish())
}

async fn every_type_arrives(from: Flavor, to: Flavor) {
    let (from, to) = (Server::start(from).await, Server::start(to).await);
    let (mut old, mut new) = (from.client().await, to.client().await);
    fill(&mut old).await;
    let copier = Copier::start(spec(&from, &to, "a"));
    until(&copier, "following", |progress| progress.state == State::Following).await;
    let before = picture(&mut old).await;
    assert_eq!(before.len(), 16);
    assert_eq!(picture(&mut new).await, before);
    copier.set_mode(Mode::BothWays);
    until(&copier, "the seal", |progress| progress.sealed).await;
    let _: () = new.run("HSET hash h 1").await;
    let _: () = new.run("PERSIST zset").await;
    let _: () = old.run("SREM set x").await;
    let _: () = old.run("RPUSH list d").await;
    let _: () = new.run("SADD big-set one-more").await;
    let _: () = new.run("HSET huge-hash one more").await;
    let _: () = old.run("XADD stream 9-0 e 5").await;
    let _: () = new.run("DEL ints").await;
    let _: () = old.run("DEL number").await;
    let _: () = new.run("DEL text").await;
    let _: () = new.run("RPUSH text now a list").await;
    eventually("both agree on every type", async || {
        let (here, there) = (picture(&mut old).await, picture(&mut new).await);
        let done = here.get("list") != before.get("list") && !here.contains_key("ints");
        done && here == there && here.get("hash") != before.get("hash")
    })
    .await;
    copier.count_quiet_from_now();
    until(&copier, "quiet", |progress| progress.quiet_sweeps >= 2).await;
    copier.verify();
    let verified = until(&copier, "verified", |progress| progress.verified.is_some()).await.verified.unwrap();
    assert_eq!(verified.different, 0, "{verified:?}");
    let (here, there) = (picture(&mut old).await, picture(&mut new).await);
    assert_eq!(here, there);
    assert!(!here.contains_key("ints") && here["big-set"] != before["big-set"]);
    copier.stop().await;
}

#[tokio::test]
async fn by_dump_and_restore() {
    every_type_arrives(Flavor::ElastiCache, Flavor::Upstash).await;
}

#[tokio::test]
async fn command_by_command_where_restore_is_refused() {
    every_type_arrives(Flavor::Plain, Flavor::NoRestore).await;
}

#[tokio::test]
async fn command_by_command_where_dump_is_refused() {
    every_type_arrives(Flavor::NoDump, Flavor::NoRestore).await;
}
