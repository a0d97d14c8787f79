//! Golden plans: a manifest and a world in, the plan as a person reads it out. Each case is `tests/plans/<case>.yaml`
//! (a comment that says what it shows, the manifest, `---`, the world) beside the text in `<case>.txt`.
//! `UPDATE=1 cargo test --test plans` writes the texts anew; read them before you commit them.
#![allow(clippy::pedantic)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test may panic"
)]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sessionbackend::desired::Desired;
use sessionbackend::effect::Picture;
use sessionbackend::forecast::End;
use sessionbackend::identity::Owner;
use sessionbackend::manifest::{self, Manifest};
use sessionbackend::plan::{Inputs, Plan, guard, plan};
use sessionbackend::render::plan::Preview;
use sessionbackend::sim::Faults;
use sessionbackend::step::Step;

use support::at;
use support::world::{Teller, word};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

fn cases() -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    names.sort();
    names
}

fn read(text: &str) -> Manifest {
    manifest::read(text).unwrap_or_else(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

fn owner(manifest: &Manifest) -> Owner {
    let object = &manifest.objects[0].object;
    Owner {
        installation: "default".into(),
        account: "123456789012".into(),
        region: object.spec.aws.region.0.clone(),
        namespace: manifest::namespace(object).into(),
        name: object.metadata.name.clone().unwrap(),
    }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    for (key, value) in patch {
        let into = into.as_object_mut().unwrap();
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// The same manifest with another spec.
fn edited(text: &str, patch: &Value) -> Manifest {
    let mut value: Value = serde_yaml::from_str(text).unwrap();
    merge(&mut value["spec"], patch);
    read(&serde_yaml::to_string(&value).unwrap())
}

fn faults(told: &Value) -> Faults {
    let mut faults = Faults::default();
    for (key, value) in told.as_object().into_iter().flatten() {
        match key.as_str() {
            "failingUpdates" => faults.failing_updates = serde_json::from_value(value.clone()).unwrap(),
            "failingChecks" => faults.failing_stages = serde_json::from_value(value.clone()).unwrap(),
            other => panic!("{other}"),
        }
    }
    faults
}

/// What a person sees.
fn story(text: &str) -> (Owner, Desired, Picture, jiff::Timestamp) {
    let (before, world) = text.split_once("\n---\n").expect("a manifest, --- and a world");
    let parsed = read(before);
    let owner = owner(&parsed);
    let mut desired = parsed.objects[0].desired.clone();
    let (mut told, then): (Value, Option<Value>) = {
        let mut world: Value = serde_yaml::from_str(world).unwrap();
        let then = world.as_object_mut().unwrap().remove("then");
        (world, then)
    };
    let now = at(0);
    let Desired::Present(target) = &desired else { panic!("the manifest asks for nothing") };
    let teller = Teller { owner: &owner, target: Some(target) };
    let mut picture = teller.quiet();
    let took = told.as_object_mut().unwrap();
    let faults = faults(&took.remove("faults").unwrap_or_default());
    teller.tell(&mut picture, &told, now);
    let Some(Value::Object(mut then)) = then else { return (owner, desired, picture, now) };
    let mut now = now;
    if let Some(mark) = then.remove("reached") {
        (picture, now) = teller.reach(picture, &desired, mark.as_str().unwrap(), faults);
    }
    if let Some(after) = then.remove("after") {
        now = now.checked_add(jiff::SignedDuration::from_secs(after.as_i64().unwrap())).unwrap();
        if let Some(copy) = picture.observed.copy.present_mut() {
            copy.heartbeat = now;
        }
    }
    for said in then.remove("says").iter().flat_map(|said| said.as_array().cloned().unwrap_or(vec![said.clone()])) {
        picture.journal = picture.journal.apply(&word(&picture, said.as_str().unwrap()), now);
    }
    let patch = then.remove("spec");
    let deleted = then.remove("deleted");
    teller.tell(&mut picture, &Value::Object(then), now);
    if let Some(patch) = patch {
        desired = edited(before, &patch).objects[0].desired.clone();
    }
    if let Some(policy) = deleted {
        desired = Desired::absent(serde_json::from_value(policy).unwrap());
        // Nothing says any more which stores to look for.
        picture.observed.target = sessionbackend::observed::Reading::Absent;
        picture.observed.source = sessionbackend::observed::Reading::Absent;
    }
    (owner, desired, picture, now)
}

fn golden(text: &str) -> String {
    let (owner, desired, picture, now) = story(text);
    let inputs = Inputs {
        owner: &owner,
        desired: &desired,
        observed: &picture.observed,
        journal: &picture.journal,
        announced: None,
        now,
    };
    let first = plan(&inputs);
    let broken = guard::violations(&inputs, &first);
    assert!(broken.is_empty(), "{broken:?}");
    let preview = Preview::of(&owner, &desired, &picture, now);
    let mut out = String::new();
    for line in text.lines().map_while(|line| line.strip_prefix('#')) {
        let _ = writeln!(out, "#{line}");
    }
    let _ = writeln!(out, "# phase now: {:?}, at the end: {:?}\n", first.phase, preview.forecast.phase);
    if let End::Broken(why) = &preview.forecast.end {
        panic!("the plan breaks a promise or has no end: {why:?}\n{}", preview.text());
    }
    out + &preview.text()
}

#[test]
fn plans_are_as_they_were_read_and_found_right() {
    let update = std::env::var_os("UPDATE").is_some();
    let only = std::env::var("CASE").unwrap_or_default();
    let mut differ = Vec::new();
    let names = cases();
    for name in names.iter().filter(|name| name.contains(&only)) {
        let text = std::fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap();
        let path = directory().join(format!("{name}.txt"));
        let found = match std::panic::catch_unwind(|| golden(&text)) {
            Ok(found) => found,
            Err(why) => {
                let why =
                    why.downcast_ref::<String>().cloned().or_else(|| Some((*why.downcast_ref::<&str>()?).to_owned()));
                differ.push(format!("{name}: {}", why.unwrap_or_default()));
                continue;
            }
        };
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if update {
            std::fs::write(&path, &found).unwrap();
        } else if found != expected {
            differ.push(format!("{name}:\n{}", pretty_assertions::StrComparison::new(&expected, &found)));
        }
    }
    assert!(
        differ.is_empty(),
        "{} of {} cases differ (UPDATE=1 writes them anew)\n{}",
        differ.len(),
        names.len(),
        differ.join("\n")
    );
    assert!(names.len() >= 40, "only {} cases", names.len());
}

/// The first wave of a story.
fn first(text: &str) -> Plan {
    let (owner, desired, picture, now) = story(text);
    let (observed, journal) = (&picture.observed, &picture.journal);
    plan(&Inputs { owner: &owner, desired: &desired, observed, journal, announced: None, now })
}

/// The story without a part of what happens in it.
fn without(text: &str, parts: &Value) -> String {
    let (manifest, world) = text.split_once("\n---\n").unwrap();
    let mut world: Value = serde_yaml::from_str(world).unwrap();
    for part in parts.as_array().unwrap() {
        assert!(world["then"].as_object_mut().unwrap().remove(part.as_str().unwrap()).is_some(), "{part}");
    }
    format!("{manifest}\n---\n{}", serde_yaml::to_string(&world).unwrap())
}

/// The bad inputs that only the world shows: each names its golden plan.
#[test]
fn a_bad_input_that_shows_in_the_world_is_named_and_changes_nothing() {
    let table: Value = serde_yaml::from_str(include_str!("bad_inputs/table.yaml")).unwrap();
    let rows = table["cases"].as_array().unwrap().iter().filter(|row| row["plan"].is_object());
    let mut seen = 0;
    for row in rows {
        let (number, asked) = (&row["case"], &row["plan"]);
        let name = asked["case"].as_str().unwrap();
        let text = std::fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap();
        let found = first(&text);
        seen += 1;
        if !asked["ignores"].is_null() {
            let expected = first(&without(&text, &asked["ignores"]));
            assert_eq!((found.steps, found.waits), (expected.steps, expected.waits), "case {number}: {name}");
            continue;
        }
        let golden = std::fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap();
        let block = format!(" ({})", asked["reason"].as_str().unwrap());
        let mut blocks = golden.lines().filter(|line| line.starts_with("Blocked: "));
        assert!(blocks.any(|line| line.ends_with(&block)), "case {number}: {name}: no block{block}");
        let changes =
            |step: &&Step| !matches!(step, Step::Journal { .. } | Step::Release { .. } | Step::RunChecks { .. });
        let changing: Vec<_> = found.steps.iter().filter(changes).map(ToString::to_string).collect();
        assert_eq!(changing, Vec::<String>::new(), "case {number}: {name}");
    }
    assert_eq!(seen, 14);
}
