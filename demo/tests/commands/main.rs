//! Every command with the real binary on a sandbox, from end to end: stopped and gone on with, approved, aborted, retried,
//! destroyed, and asked how it stands. Each test is one thing a person does, and what it must come to.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the message")]
#![expect(clippy::disallowed_methods, reason = "a test reads the clock")]

mod ground;

use ground::{Ground, redis_cli};
use nix::sys::signal::Signal;
use serde_json::json;

const RESTS: (&str, &str) = ("bakeTime: 20s", "bakeTime: 1h");
const ASKS: (&str, &str) =
    ("approval: { switch: Automatic, retire: Automatic }", "approval: { switch: Manual, retire: Manual }");
const DELETES: (&str, &str) = ("deletionPolicy: Retain", "deletionPolicy: Delete");

#[tokio::test]
async fn ctrl_c_ends_apply_cleanly_and_a_second_one_goes_on() {
    let ground = Ground::up(&[]).await;
    let session = ground.log_in().await;
    let mut apply = ground.apply();
    apply.until("App Runner is deploying").await;
    apply.signal(Signal::SIGINT);
    let stopped = apply.end().await.exits(130).says("stopping after the call in flight");
    let stopped = stopped.says("stays open, and a second `apply` goes on").says("nobody keeps them in step now");
    let last = stopped.out.lines().filter(|line| line.contains('⏹')).count();
    assert_eq!(last, 1, "{}", stopped.out);

    let status = ground.run(&["status"]).await.exits(0).says("NOBODY IS DRIVING THIS MIGRATION");
    status.says(&format!("→ to go on: sessionbackend apply -f {}", ground.manifest.display()));
    assert_eq!(ground.status().await["driven"], json!(false));

    let went_on = ground.run(&["apply"]).await.exits(0).says("goes on with migration").says("✓ done");
    assert!(!went_on.out.contains("create Upstash database"), "nothing is made twice: {}", went_on.out);
    assert!(ground.knows(&session).await, "the session of before is alive");
    ground.run(&["apply"]).await.exits(0).says("nothing is left to do");
    ground.run(&["plan"]).await.exits(0).says("No changes");
}

#[tokio::test]
async fn a_killed_apply_leaves_a_migration_that_says_nobody_drives_it() {
    let ground = Ground::up(&[RESTS]).await;
    let mut apply = ground.apply();
    apply.until("── Bake").await;
    assert_eq!(ground.status().await["driven"], json!(true), "while apply runs");
    ground.run(&["status"]).await.exits(0).says("waits      the new store is watched");
    apply.signal(Signal::SIGKILL);
    assert_eq!(apply.end().await.code, None);
    ground.until("status misses the driver", async |ground| ground.status().await["driven"] == json!(false)).await;
    ground
        .run(&["status"])
        .await
        .exits(0)
        .says("NOBODY IS DRIVING THIS MIGRATION: last heard of at")
        .says("→ to go on: sessionbackend apply");
}

#[tokio::test]
async fn gates_wait_for_their_word_and_open_with_the_command_apply_prints() {
    let ground = Ground::up(&[ASKS]).await;
    let session = ground.log_in().await;
    for gate in ["switch", "retire"] {
        let waiting = ground.run(&["apply"]).await.exits(4).says(&format!("waits for your approval: {gate}"));
        ground.run(&["apply"]).await.exits(4);
        ground
            .run(&["status"])
            .await
            .exits(0)
            .says("needs your word: sessionbackend approve")
            .says("no apply is at work");
        let printed = waiting.out.split("sessionbackend approve ").nth(1).unwrap();
        let word = printed.split_whitespace().next().unwrap();
        assert!(word.ends_with(gate), "{word}");
        ground.run(&["approve", "0123456789-7/switch"]).await.exits(1).says("belongs to none of these objects");
        ground.run(&["approve", word]).await.exits(0).says(&format!("{word} is approved"));
        ground.run(&["approve", word]).await.exits(0).says("was approved before");
    }
    ground.run(&["apply"]).await.exits(0).says("✓ done");
    assert!(ground.knows(&session).await);
    ground.run(&["abort"]).await.exits(1).says("there is nothing to abort");
}

#[tokio::test]
async fn a_running_apply_takes_up_abort_and_after_retry_the_next_one_moves_again() {
    let ground = Ground::up(&[RESTS]).await;
    let session = ground.log_in().await;
    let mut apply = ground.apply();
    apply.until("── Bake").await;
    ground.run(&["abort"]).await.exits(0).says("is to be aborted");
    let aborted = apply.end().await.exits(3).says("rolled back: the services are on the former store");
    let aborted = aborted.says("── Way back").says("going back: Aborted: the migration was aborted by request");
    assert_eq!(aborted.out.matches("going back").count(), 1, "{}", aborted.out);
    let back = ground.configuration().await;
    assert_eq!(back, ground.world.before, "store variable, egress and everything else, bit for bit");
    assert!(ground.knows(&session).await);

    ground.run(&["apply"]).await.exits(3);
    ground.run(&["status"]).await.exits(0).says("RolledBack").says("Aborted");
    ground.declare(&[]);
    ground.run(&["apply"]).await.exits(3).says("retry");
    ground.run(&["retry"]).await.exits(0).says("is to be tried again");
    ground.run(&["apply"]).await.exits(0).says("✓ done");
    assert!(ground.knows(&session).await);
    assert_ne!(ground.configuration().await.store_variable(), ground.world.before.store_variable());
}

#[tokio::test]
async fn abort_before_the_switch_gives_up_and_nothing_was_changed() {
    let ground = Ground::up(&[ASKS]).await;
    ground.run(&["apply"]).await.exits(4);
    ground.run(&["abort"]).await.exits(0);
    ground.run(&["apply"]).await.exits(3).says("no service was switched");
    assert_eq!(ground.configuration().await, ground.world.before);
}

#[tokio::test]
async fn destroy_with_delete_leaves_forty_variables_bit_for_bit() {
    let ground = Ground::up(&[ASKS, DELETES]).await;
    assert_eq!(ground.world.before.foreign(), 40);
    ground.run(&["destroy"]).await.exits(1).says("--yes");

    // In the middle, before the switch: what was made goes, and the service never knew.
    ground.run(&["apply"]).await.exits(4);
    ground.run(&["destroy", "--yes"]).await.exits(0).says("✓ let go");
    assert_eq!(ground.configuration().await, ground.world.before);
    assert_eq!(demo::world::made(&ground.sandbox, &ground.world).await.unwrap(), demo::world::Made::default());

    // After a move the service still uses what was made: nothing of that goes, and it is said.
    ground.declare(&[DELETES]);
    ground.run(&["apply"]).await.exits(0);
    let moved = ground.configuration().await;
    assert_eq!(ground.world.before.foreign_changes(&moved), Vec::<String>::new());
    ground.run(&["destroy", "--yes"]).await.exits(1).says("InUse").says("point the service elsewhere");
    assert_eq!(ground.configuration().await, moved);
    let made = demo::world::made(&ground.sandbox, &ground.world).await.unwrap();
    assert_eq!((made.databases, made.epochs.len()), (1, 1));

    // Pointed elsewhere by hand, everything that was made goes.
    ground.point_elsewhere().await;
    let elsewhere = ground.configuration().await;
    assert_eq!(ground.world.before.foreign_changes(&elsewhere), Vec::<String>::new());
    ground.run(&["destroy", "--yes"]).await.exits(0).says("✓ let go");
    assert_eq!(ground.configuration().await, elsewhere);
    assert_eq!(demo::world::made(&ground.sandbox, &ground.world).await.unwrap(), demo::world::Made::default());
}

#[tokio::test]
async fn redis_cli_of_a_service_hangs_where_there_is_no_path_and_works_where_there_is() {
    let ground = Ground::up(&[]).await;
    let (vpc, public) = ("service:liberty-web", "service:liberty-public");
    ground.second_service("liberty-public").await;
    let (cache, upstash) = (redis_cli(&ground.world.store, &ground.token), ground.database().await);

    // Behind its connector, with a rule and a NAT gateway, it reaches both; without a connector only the public one.
    assert_eq!(ground.ping(vpc, &cache).await.as_deref(), Some("PONG\n"));
    assert_eq!(ground.ping(vpc, &upstash).await.as_deref(), Some("PONG\n"));
    assert_eq!(ground.ping(public, &upstash).await.as_deref(), Some("PONG\n"));
    assert_eq!(ground.ping(public, &cache).await, None);

    // VPC egress without NAT: the other way round.
    ground.remove_nat().await;
    assert_eq!(ground.ping(vpc, &upstash).await, None);
    assert_eq!(ground.ping(vpc, &cache).await.as_deref(), Some("PONG\n"));

    // Without the rule nothing is left.
    ground.remove_rule().await;
    assert_eq!(ground.ping(vpc, &cache).await, None);
}
