//! A way back that would not fit into the journal is a block before anything is begun, not a migration that cannot end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::pedantic, missing_docs)]

mod support;

use std::collections::BTreeMap;

use futures::FutureExt as _;
use sessionbackend::checks::{CheckResult, Severity, Verdict};
use sessionbackend::desired::{EnvFormat, KeyKind, KeyRule, KeyStrategy};
use sessionbackend::engine::{Memory, cycle};
use sessionbackend::journal::room::{GROWTH, LIMIT};
use sessionbackend::journal::{Entry, Journal, Prior};
use sessionbackend::observed::{Delivery, Variable};
use sessionbackend::plan::{Inputs, Plan, Reason, plan};
use sessionbackend::sim::Faults;

use support::{at, on_elasticache, owner, present, start, target};

const SERVICES: [&str; 10] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"];

/// Ten services of forty plain variables of `bytes` each, of which the format writes `ours`.
fn planned(ours: usize, bytes: usize) -> (Plan, usize) {
    let mut wanted = target(&SERVICES);
    let names: Vec<String> = (0..40).map(|number| format!("VALUE_{number:02}")).collect();
    let template = names.iter().take(ours).map(|name| (name.clone(), "{url}".to_owned())).collect();
    if ours > 0 {
        wanted.env.format = EnvFormat::Template(template);
    }
    let mut picture = on_elasticache(&SERVICES);
    for (name, reading) in &mut picture.observed.services {
        let service = reading.present_mut().unwrap();
        let redis = service.variables.remove("REDIS_URL").unwrap();
        let plain = Variable { delivery: Delivery::Plain, ..redis.clone() };
        service.variables.extend(names.iter().take(ours).map(|name| (name.clone(), plain.clone())));
        if ours == 0 {
            service.variables.insert("REDIS_URL".into(), redis);
        }
        let sizes = names.iter().map(|name| (name.clone(), bytes)).collect();
        picture.observed.plain_bytes.insert(name.clone(), sizes);
    }
    let (owner, desired) = (owner(), present(wanted));
    let (observed, journal) = (&picture.observed, &picture.journal);
    let inputs = Inputs { owner: &owner, desired: &desired, observed, journal, announced: None, now: at(0) };
    (plan(&inputs), ours * bytes * SERVICES.len())
}

#[test]
fn what_does_not_fit_is_said_before_anything_begins_and_what_is_foreign_takes_no_room() {
    for (ours, bytes, fits) in [(0, 4096, true), (1, 512, true), (40, 4096, false), (1, 4096, false)] {
        let (plan, takes) = planned(ours, bytes);
        let full: Vec<_> = plan.blocks.iter().filter(|block| block.reason == Reason::QuotaExceeded).collect();
        assert_eq!(full.is_empty(), fits, "{ours} of {bytes}: {:?}", plan.blocks);
        for block in full {
            let said: usize =
                block.message.split(' ').find_map(|word| word.parse().ok().filter(|size| *size > 10)).unwrap();
            assert!(said > takes && said < takes + takes / 10 + 64 * 1024, "{said}: {}", block.message);
            assert!(block.remedy.contains("references to secrets"), "{}", block.remedy);
        }
    }
}

/// The largest that is let in, with everything said that can be said, is written to the end.
#[test]
fn what_is_let_in_fits_to_the_end() {
    let (owner, desired) = (owner(), present(target(&SERVICES)));
    let mut picture = on_elasticache(&SERVICES);
    for reading in picture.observed.services.values_mut() {
        let variable = reading.present_mut().unwrap().variables.get_mut("REDIS_URL").unwrap();
        variable.delivery = Delivery::Plain;
    }
    let world = start(picture, Faults::default());
    let end = support::drive(&world, &owner, &desired).last.journal;
    let mut migration = end.migration.clone().unwrap();
    migration.ended = None;
    let keys = || migration.services.iter().flat_map(|moved| moved.undo.variables.values());
    let value = 1024;
    let begun = Journal::default().apply(&Entry::Begin(Box::new(migration.clone())), at(0));
    let estimate = Journal::default().size_with(
        SERVICES.len(),
        &migration.rules,
        migration.services.iter().map(|moved| (moved.service.len() + 9, value)),
        [],
    );
    assert!(estimate + GROWTH <= LIMIT, "{estimate}");
    let result = |number: usize| CheckResult {
        name: format!("Runbook.check-{number}"),
        service: Some(SERVICES[number % 10].into()),
        severity: Severity::Gate,
        required: true,
        verdict: if number.is_multiple_of(2) { Verdict::Pass } else { Verdict::Fail },
        message: "the answer was not what it had to be ".repeat(200),
    };
    let results: Vec<_> = (0..700).map(result).collect();
    let long = "why it came to nothing ".repeat(1000);
    let entries = [
        Entry::Baseline(results.clone()),
        Entry::EgressValidated(results.clone()),
        Entry::Validated(results.clone()),
        Entry::RollBack { reason: "CheckFailed".into(), message: long.clone() },
        Entry::BackValidated(results),
        Entry::Hold { reason: "Unclear".into(), message: long.clone() },
        Entry::NotMoved(sessionbackend::journal::Direction::Back, "s0".into(), Some(long)),
    ];
    let journal = entries.iter().fold(begun, |journal, entry| journal.apply(entry, at(1)));
    let vault: BTreeMap<String, String> = keys()
        .filter_map(|prior| match prior {
            Prior::Plain(key, _) => Some((key.0.clone(), "v".repeat(value))),
            Prior::Absent | Prior::Reference(_) => None,
        })
        .collect();
    assert_eq!(vault.len(), SERVICES.len());
    let bytes = serde_json::to_string(&journal).unwrap().len() + serde_json::to_string(&vault).unwrap().len();
    assert!(bytes < LIMIT, "{bytes}");
}

/// The longest rules and references there can be.
#[test]
fn frozen_rules_and_references_take_the_room_that_was_counted_for_them() {
    let (owner, mut wanted) = (owner(), target(&SERVICES));
    let names: Vec<String> = (0..12).map(|number| format!("VALUE_{number:02}")).collect();
    wanted.env.format = EnvFormat::Template(names.iter().map(|name| (name.clone(), "{url}".to_owned())).collect());
    let mut picture = on_elasticache(&SERVICES);
    for reading in picture.observed.services.values_mut() {
        let service = reading.present_mut().unwrap();
        let redis = service.variables.remove("REDIS_URL").unwrap();
        service.variables.extend(names.iter().map(|name| (name.clone(), redis.clone())));
    }
    let begun = |prefixes: usize, length: usize| {
        let mut wanted = wanted.clone();
        let prefix = |number: usize| KeyRule {
            prefix: format!("{number:0length$}"),
            strategy: KeyStrategy::Drop,
            kind: KeyKind::Session,
        };
        wanted.migration.rules.keys = (0..prefixes).map(prefix).collect();
        let world = start(picture.clone(), Faults::default());
        let desired = present(wanted);
        let mut memory = Memory::default();
        for _ in 0..20 {
            let turn = cycle(&world, &owner, &desired, &mut memory, || world.now()).now_or_never().unwrap();
            if let Some(begun) = &world.picture().journal.migration {
                let bytes = serde_json::to_string(&world.picture().journal).unwrap().len();
                let references = begun.services.iter().flat_map(|moved| moved.undo.variables.iter());
                let references = references.filter_map(|(name, prior)| match prior {
                    Prior::Reference(arn) => Some(name.len() + arn.0.len()),
                    Prior::Absent | Prior::Plain(..) => None,
                });
                let counted = Journal::default().size_with(SERVICES.len(), &begun.rules, [], references);
                return Ok((bytes, counted));
            }
            if !turn.plan.blocks.is_empty() {
                return Err(turn.plan.blocks);
            }
        }
        panic!("it never begins")
    };
    let (bytes, counted) = begun(5, 40).unwrap();
    assert!(bytes < counted, "{bytes} {counted}");
    let blocks = begun(50, 512).unwrap_err();
    assert!(blocks.iter().any(|block| block.reason == Reason::QuotaExceeded), "{blocks:?}");
}
