//! What costs money or is limited, as the status shows it: what is kept though nothing uses it, and how much of a store's
//! limits is used.

use serde_json::json;

use super::ground::{Database, Ground, NAME, SERVICE, adopted, created, object};
use super::operator::Operator;
use super::starter::string;
use super::told::{message, ready_on, retained, says};

#[test]
fn the_store_that_was_left_is_told_as_long_as_it_is_there() {
    let Some(ground) = Ground::up("kept") else { return };
    let old = ground.database("old");
    ground.service(SERVICE, Some(&old.url));
    let _operator = Operator::alone(&ground);
    ground.apply(&object(NAME, &created("new"), &json!({ "checks": { "interval": "10s" } })));
    let moved = ready_on(&ground, NAME, "Upstash new");
    assert_eq!(retained(&moved), [("upstash-database".to_owned(), old.id.clone())]);
    let described = ground.kubectl(&format!("describe sb {NAME}"));
    for part in ["Retained:", &old.id, "may still cost money", "delete it when it is not missed"] {
        assert!(described.contains(part), "{part} in {described}");
    }

    ground.sandbox.call("upstash", "DeleteDatabase", &json!({ "id": old.id }));
    let alone = ground.until(NAME, "it is told no more", |object| retained(object).is_empty());
    assert!(says(&alone, "Ready", "AsDesired"), "{:#}", alone["status"]);
}

#[test]
fn what_the_app_may_need_is_weighed_against_what_its_store_allows() {
    let Some(ground) = Ground::up("budget") else { return };
    // Ten connections are allowed.
    let input = json!({
        "database_name": "small", "platform": "aws", "primary_region": "us-east-1", "db_max_clients": 10,
    });
    let made = ground.sandbox.call("upstash", "CreateDatabase", &input);
    let of = |member: &str| string(&made, &format!("/{member}"));
    let url = format!("rediss://default:{}@{}:{}/0", of("password"), of("endpoint"), made["port"]);
    let small = Database { id: of("database_id"), url };
    ground.service(SERVICE, Some(&small.url));
    let _operator = Operator::alone(&ground);
    let asks = |pool: u32| {
        let budget = json!({ "name": "room", "budget": { "connections": { "instances": 1 } } });
        object(
            NAME,
            &adopted(&small),
            &json!({
                "app": { "pool": { "max": pool } }, "checks": { "extra": [budget], "interval": "10s" },
            }),
        )
    };
    ground.apply(&asks(5));
    let fits = ready_on(&ground, NAME, "Upstash small");
    let ours = fits["status"]["usage"]["connectionsPercent"].as_u64();
    assert!(ours.is_some_and(|percent| (10..=90).contains(&percent)), "{:#}", fits["status"]);
    let room = &fits["status"]["checks"][0];
    assert_eq!((&room["name"], &room["verdict"]), (&json!("room"), &json!("Pass")), "{room}");

    ground.apply(&asks(6));
    let exceeds = ground.until(NAME, "it does not fit", |object| says(object, "Ready", "CheckFailed"));
    let said = message(&exceeds, "Ready");
    assert!(said.contains("6 connections × 1 instances × 2 in a deployment = 12, at most 10"), "{said}");
    assert!(said.contains("lower the pool"), "{said}");
    let table = ground.kubectl(&format!("get sb {NAME} --no-headers"));
    let row: Vec<_> = table.split_whitespace().collect();
    assert_eq!(row[row.len() - 3..row.len() - 1], ["False", "0/1"], "{table}");
    let described = ground.kubectl(&format!("describe sb {NAME}"));
    assert!(described.contains("Connections Percent:") && described.contains("room"), "{described}");
    assert!(ground.events(NAME).iter().any(|(reason, _)| reason == "CheckFailed"), "{:?}", ground.events(NAME));
    ground.apply(&asks(5));
    ready_on(&ground, NAME, "Upstash small");
    ground.keeps_its_secrets();
}
