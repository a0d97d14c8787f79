//! What was made in a call whose reply was lost: taken if it is ours, never if it is somebody else's, looked for to the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::pedantic, missing_docs)]

mod support;

use std::collections::BTreeMap;

use futures::FutureExt as _;
use pretty_assertions::assert_eq;
use sessionbackend::desired::{
    DeletionPolicy, Desired, EgressPolicy, ReplicationGroupRef, Retire, RulesPolicy, StoreSpec,
};
use sessionbackend::effect::Picture;
use sessionbackend::engine::{Memory, cycle};
use sessionbackend::forecast::{End, forecast};
use sessionbackend::identity::{Address, StoreId};
use sessionbackend::journal::{Entry, Journal, Resource};
use sessionbackend::observed::*;
use sessionbackend::plan::{Inputs, Phase, Plan, Reason, guard, plan};
use sessionbackend::sim::Faults;
use sessionbackend::step::Step;

use support::{at, drive, on_elasticache, owner, present, start, target, upstash, world::error};

fn planned(picture: &Picture, desired: &Desired, second: i64) -> Plan {
    let owner = owner();
    let (observed, journal) = (&picture.observed, &picture.journal);
    let inputs = Inputs { owner: &owner, desired, observed, journal, announced: None, now: at(second) };
    let plan = plan(&inputs);
    assert_eq!(guard::violations(&inputs, &plan), Vec::<String>::new());
    plan
}

fn database() -> Resource {
    Resource::UpstashDatabase("liberty".into())
}

/// About to be made at second 100, and no reply.
fn intended(resource: &Resource) -> Journal {
    Journal::default().apply(&Entry::Intend(resource.clone()), at(100))
}

fn namesake(created: Option<i64>, ours: Option<bool>) -> Reading<Vec<Namesake>> {
    Reading::Present(vec![Namesake { id: "u-1".into(), created: created.map(at), ours }])
}

fn lines(plan: &Plan) -> Vec<Entry> {
    let line = |step: &Step| match step {
        Step::Journal { entry, .. } => entry.clone(),
        other => panic!("{other}"),
    };
    plan.steps.iter().map(line).collect()
}

#[test]
fn a_database_of_the_name_is_ours_only_if_it_was_made_after_it_was_announced() {
    let mut picture = on_elasticache(&["web"]);
    picture.observed.target = Reading::Present(upstash());
    picture.journal = intended(&database());
    for created in [None, Some(39), Some(-86_400)] {
        picture.observed.namesakes = BTreeMap::from([(database(), namesake(created, None))]);
        // Driven to where nothing moves: also once everything else is provided for it is not taken, nor told to a service.
        let world = start(picture.clone(), Faults::default());
        let last = drive(&world, &owner(), &present(target(&["web"]))).last;
        let taken: Vec<_> = last.plan.blocks.iter().filter(|block| block.reason == Reason::NameTaken).collect();
        assert_eq!(taken.len(), 1, "{created:?}: {:?}", last.plan);
        assert!(taken[0].message.contains("exists that we did not make") && taken[0].remedy.contains("by its id"));
        assert_eq!(last.journal.made[&database()].id, None);
        assert_eq!(world.updates(), BTreeMap::new());
    }
    // The vendor's clock may be a little behind.
    for created in [Some(41), Some(5000)] {
        picture.observed.namesakes = BTreeMap::from([(database(), namesake(created, None))]);
        let world = start(picture.clone(), Faults::default());
        let last = drive(&world, &owner(), &present(target(&["web"]))).last;
        assert_eq!(last.journal.made[&database()].id.as_deref(), Some("u-1"), "{created:?}");
    }
}

#[test]
fn what_was_lost_is_looked_for_before_it_is_written_off() {
    let delete = Desired::absent(DeletionPolicy::Delete);
    let rule = Step::rule_name(&"sg-store".into(), &"sg-connector".into(), 6379);
    let lost = [
        (database(), None, Some(130)),
        (Resource::Connector("sb-vpc0".into()), Some(true), None),
        (Resource::ReplicationGroup("sb-cache".into()), Some(true), None),
        (Resource::SubnetGroup("sb-subnets".into()), Some(true), None),
        (rule, Some(true), None),
    ];
    for (resource, ours, created) in lost {
        let mut picture = on_elasticache(&["web"]);
        picture.journal = intended(&resource);
        let plan_of = |picture: &mut Picture, reading: Option<Reading<Vec<Namesake>>>, second| {
            picture.observed.namesakes = reading.into_iter().map(|reading| (resource.clone(), reading)).collect();
            planned(picture, &delete, second)
        };
        for unread in [None, Some(Reading::Unknown(error("throttled"))), Some(Reading::Hidden("no key".into()))] {
            let plan = plan_of(&mut picture, unread, 9000);
            assert_eq!(lines(&plan), vec![], "{resource:?}");
            assert_eq!(plan.waits.len() + plan.blocks.len(), 1, "{plan:?}");
        }
        let found = plan_of(&mut picture, Some(namesake(created, ours)), 9000);
        assert_eq!(lines(&found), vec![Entry::Made(resource.clone(), "u-1".into())]);
        // A list that is not up to date yet.
        let soon = plan_of(&mut picture, Some(Reading::Present(vec![])), 150);
        assert_eq!((lines(&soon), soon.waits.len()), (vec![], 1), "{soon:?}");
        let gone = plan_of(&mut picture, Some(Reading::Present(vec![])), 9000);
        assert_eq!(lines(&gone), vec![Entry::Gone(resource.clone())]);
        // Somebody else's stays, whatever it is called.
        let foreign = plan_of(&mut picture, Some(namesake(Some(-5), ours.map(|_| false))), 9000);
        assert_eq!(lines(&foreign), vec![Entry::Gone(resource.clone())]);
    }
}

#[test]
fn rules_that_could_not_be_read_are_no_missing_rules() {
    let mut wanted = target(&["web"]);
    wanted.services[0].egress = EgressPolicy::Keep;
    wanted.migration.retire =
        sessionbackend::desired::Retire { delete_old_store: false, rules: vec![], connectors: vec![] };
    for rules in [RulesPolicy::Managed, RulesPolicy::Unmanaged] {
        wanted.store = StoreSpec::ReplicationGroup {
            group: ReplicationGroupRef::Existing("audio".into()),
            rules,
            credentials: true,
        };
        let mut picture = on_elasticache(&["web"]);
        let mut store = support::elasticache();
        store.id = sessionbackend::identity::StoreId::ReplicationGroup("audio".into());
        store.name = "audio".into();
        store.address.as_mut().unwrap().host = "master.audio.abc123.use1.cache.amazonaws.com".into();
        store.server = Reading::Present(support::server(0));
        picture
            .observed
            .catalog
            .push(CatalogEntry { id: store.id.clone(), hosts: vec![store.address.as_ref().unwrap().host.clone()] });
        picture.observed.target = Reading::Present(store);
        picture.observed.rules.clear();
        for (class, waits) in [("throttled", true), ("denied", false)] {
            picture.observed.unread_groups = BTreeMap::from([("sg-store".into(), error(class))]);
            let world = start(picture.clone(), Faults::default());
            let mut memory = Memory::default();
            let (owner, desired) = (owner(), present(wanted.clone()));
            let mut last = None;
            for _ in 0..30 {
                last = cycle(&world, &owner, &desired, &mut memory, || world.now()).now_or_never();
            }
            let last = last.unwrap();
            assert!(world.creations().keys().all(|made| !made.starts_with("rule")), "{:?}", world.creations());
            let said = last.plan.waits.iter().map(|wait| &wait.message);
            let said = said.chain(last.plan.blocks.iter().map(|block| &block.subject));
            let about = |text: &&String| text.contains("the rules of security group sg-store");
            assert_eq!(said.filter(about).count(), 1, "{rules:?} {class}: {:?}", last.plan);
            assert_eq!(last.plan.blocks.is_empty(), waits, "{:?}", last.plan.blocks);
            assert!(last.plan.blocks.iter().all(|block| block.reason != Reason::Unreachable));
        }
    }
}

#[test]
fn the_journal_goes_last_and_only_when_nothing_is_left() {
    let delete = Desired::absent(DeletionPolicy::Delete);
    let last = |journal: &Journal, desired: &Desired| {
        let owner = owner();
        let observed = on_elasticache(&["web"]).observed;
        let inputs = Inputs { owner: &owner, desired, observed: &observed, journal, announced: None, now: at(9000) };
        let mut plan = plan(&inputs);
        plan.steps = vec![Step::DeleteSecret { name: owner.journal_secret() }];
        guard::violations(&inputs, &plan).is_empty()
    };
    let made = intended(&database());
    let empty = made.apply(&Entry::Gone(database()), at(200));
    assert!(!last(&made, &delete));
    assert!(!last(&empty, &Desired::absent(DeletionPolicy::Retain)));
    assert!(!last(&empty, &present(target(&["web"]))));
    assert!(last(&empty, &delete));

    let mut picture = on_elasticache(&["web"]);
    picture.journal = empty;
    assert_eq!(planned(&picture, &delete, 9000).steps, [Step::DeleteSecret { name: owner().journal_secret() }]);
    // Without a journal there is nothing of ours, and nothing to do about it.
    picture.journal = Journal::default();
    assert_eq!(planned(&picture, &delete, 9000).phase, Phase::Deleted);
}

#[test]
fn a_store_that_one_list_lacks_is_looked_for_once_more() {
    let delete = Desired::absent(DeletionPolicy::Delete);
    let mut picture = on_elasticache(&["web"]);
    picture.journal = intended(&database()).apply(&Entry::Made(database(), "u-1".into()), at(101));
    let look = |picture: &mut Picture, second| {
        let former = std::mem::take(&mut picture.observed.missed);
        picture.observed.miss(&picture.journal, &former, at(second));
        planned(picture, &delete, second)
    };
    for second in [200, 204] {
        let plan = look(&mut picture, second);
        assert_eq!((lines(&plan), plan.waits.len()), (vec![], 1), "{plan:?}");
        assert!(plan.waits[0].message.contains("looked for once more"), "{plan:?}");
    }
    // It is listed again in between: that was no absence.
    let entry = CatalogEntry { id: upstash().id, hosts: vec!["liberty-1.upstash.io".into()] };
    picture.observed.catalog.push(entry);
    assert!(look(&mut picture, 209).steps.iter().all(|step| matches!(step, Step::DeleteUpstashDatabase { .. })));
    picture.observed.catalog.pop();
    assert_eq!(look(&mut picture, 212).waits.len(), 1);
    assert_eq!(lines(&look(&mut picture, 223)), vec![Entry::Gone(database())]);
}

#[test]
fn a_store_in_use_is_given_up_only_after_a_second_look() {
    let mut picture = on_elasticache(&["web"]);
    let (owner, desired) = (owner(), present(target(&["web"])));
    let teller = support::world::Teller { owner: &owner, target: None };
    let (reached, now) = teller.reach(picture, &desired, "Draining", Faults::default());
    picture = reached;
    picture.observed.source = Reading::Absent;
    picture.observed.catalog.retain(|entry| entry.id != support::elasticache().id);
    let copy = picture.observed.copy.present_mut().unwrap();
    copy.state =
        CopyState::Failed { reason: "Unreachable".into(), message: "it does not answer".into(), temporary: true };
    let given_up = |picture: &Picture| {
        let inputs = Inputs {
            owner: &owner,
            desired: &desired,
            observed: &picture.observed,
            journal: &picture.journal,
            announced: None,
            now,
        };
        plan(&inputs).notes.iter().any(|note| note.contains("is gone"))
    };
    let seconds_ago = |seconds: u64| now.checked_sub(std::time::Duration::from_secs(seconds)).unwrap();
    for (since, gone) in [(0, false), (9, false), (10, true)] {
        picture.observed.miss(&picture.journal, &BTreeMap::new(), seconds_ago(since));
        assert_eq!(given_up(&picture), gone, "missing for {since} s");
    }
}

#[test]
fn a_store_that_no_word_of_the_journal_lets_go_is_neither_deleted_nor_called_gone() {
    let (owner, desired) = (owner(), present(target(&["web"])));
    let teller = support::world::Teller { owner: &owner, target: None };
    let (mut picture, _) = teller.reach(on_elasticache(&["web"]), &desired, "Ready", Faults::default());
    let left = [Resource::ReplicationGroup("liberty".into()), Resource::UpstashDatabase("former".into())];
    picture.journal.leftovers.extend(left.clone());
    let world = start(picture, Faults::default());
    let last = drive(&world, &owner, &desired).last;
    assert_eq!(last.plan.phase, Phase::Ready);
    assert_eq!(last.journal.leftovers, left.into());
    for what in ["replication-group liberty", "upstash-database former"] {
        let said = format!("{what} is no longer needed and stays: that it may go is not written down");
        assert!(last.plan.notes.contains(&said), "{:?}", last.plan.notes);
    }
}

#[test]
fn an_object_that_goes_keeps_its_journal_while_something_a_migration_left_must_stay() {
    let (owner, desired) = (owner(), present(target(&["web"])));
    let teller = support::world::Teller { owner: &owner, target: None };
    let (mut picture, _) = teller.reach(on_elasticache(&["web"]), &desired, "Ready", Faults::default());
    let left = Resource::ReplicationGroup("liberty".into());
    picture.journal.leftovers.insert(left.clone());
    let used: Vec<_> = picture.journal.made.keys().cloned().collect();
    for resource in used {
        picture.journal = picture.journal.apply(&Entry::Gone(resource), at(0));
    }
    let world = start(picture, Faults::default());
    let last = drive(&world, &owner, &Desired::absent(DeletionPolicy::Delete)).last;
    let blocks: Vec<_> = last.plan.blocks.iter().map(|block| (block.reason, block.subject.as_str())).collect();
    assert_eq!(blocks, [(Reason::Unclear, "replication-group liberty")], "{:#?}", last.plan);
    assert!(last.journal.leftovers.contains(&left));
}

#[test]
fn of_two_databases_of_one_name_the_one_that_was_let_go_goes_and_the_other_stays_ours() {
    let (ours, theirs) = (upstash(), "u-theirs");
    let host = "liberty-0.upstash.io";
    let address = ours.address.clone().map(|address| Address { host: host.into(), ..address });
    let source = Store { id: StoreId::Upstash(theirs.into()), address: address.clone(), ..ours.clone() };
    let mut picture = on_elasticache(&["web"]);
    let observed = &mut picture.observed;
    let service = observed.services.get_mut("web").unwrap().present_mut().unwrap();
    service.egress = Egress::Default;
    let told = service.variables.get_mut("REDIS_URL").unwrap();
    (told.address, told.password, told.reach) = (address, source.credential.clone(), Reach::Public);
    let entry = |store: &Store, host: &str| CatalogEntry { id: store.id.clone(), hosts: vec![host.into()] };
    observed.catalog = vec![entry(&source, host), entry(&ours, "liberty-1.upstash.io")];
    (observed.source, observed.target) = (Reading::Present(source), Reading::Present(ours));
    let made = [Entry::Intend(database()), Entry::Made(database(), "u-1".into())];
    picture.journal = made.iter().fold(Journal::default(), |journal, entry| journal.apply(entry, at(-500)));
    let mut wanted = target(&["web"]);
    wanted.services[0].egress = EgressPolicy::Keep;
    wanted.migration.retire = Retire { delete_old_store: true, ..Retire::default() };
    let desired = present(wanted);

    let world = start(picture, Faults::default());
    let last = drive(&world, &owner(), &desired).last;
    assert!(last.plan.is_converged(), "{:?}", last.plan);
    let left: Vec<_> = last.observed.catalog.iter().map(|entry| entry.id.clone()).collect();
    assert_eq!(left, [StoreId::Upstash("u-1".into())]);
    assert!(last.journal.leftovers.is_empty() && last.journal.let_go.is_empty(), "{:?}", last.journal);
    assert_eq!(last.journal.made[&database()].id.as_deref(), Some("u-1"), "what goes with the other is not ours");
}

#[test]
fn a_store_that_is_being_deleted_is_waited_for_and_not_deleted_again() {
    let owner = owner();
    let id = owner.short_name("cache");
    let (group, store) = (Resource::ReplicationGroup(id.clone()), StoreId::ReplicationGroup(id.clone()));
    let mut picture = on_elasticache(&["web"]);
    picture.observed.source = Reading::Absent;
    picture.observed.catalog = vec![CatalogEntry { id: store.clone(), hosts: vec![] }];
    picture.observed.services.clear();
    let made = [Entry::Intend(group.clone()), Entry::Made(group, id.clone())];
    picture.journal = made.iter().fold(Journal::default(), |journal, entry| journal.apply(entry, at(-500)));
    let gone = Desired::absent(DeletionPolicy::Delete);
    assert_eq!(planned(&picture, &gone, 0).steps, [Step::DeleteReplicationGroup { id }]);

    picture.observed.busy = BTreeMap::from([(store.clone(), (StoreStatus::Creating, at(0)))]);
    let made = planned(&picture, &gone, 60);
    assert_eq!((made.steps.len(), made.blocks.len(), made.waits.len()), (0, 0, 1), "it would be refused: {made:?}");
    assert_eq!(forecast(&owner, &gone, &picture, at(60)).end, End::Converged);
    picture.observed.busy = BTreeMap::from([(store, (StoreStatus::Deleting, at(0)))]);
    let going = planned(&picture, &gone, 60);
    assert_eq!((going.steps.len(), going.blocks.len(), going.waits.len()), (0, 0, 1), "{going:?}");
    assert!(going.waits[0].message.ends_with("is being deleted") && going.waits[0].since == at(0));
    let ahead = forecast(&owner, &gone, &picture, at(60));
    assert_eq!(ahead.end, End::Converged, "{ahead:?}");
    let late = planned(&picture, &gone, 3600);
    assert_eq!((late.steps.len(), late.waits.len()), (0, 0), "{late:?}");
    assert_eq!(late.blocks[0].reason, Reason::TimedOut);
}

#[test]
fn a_journal_that_is_destroyed_in_mid_migration_is_not_begun_anew_but_asked_about() {
    let desired = present(target(&["web"]));
    let mut told = 0;
    for picture in support::pictures_of_a_migration() {
        // From its first step to its last a copier has keys in the new store.
        let Some(open) = picture.journal.open_migration().filter(|_| picture.observed.copy.present().is_some()) else {
            continue;
        };
        let left = BTreeMap::from([(open.to.id.clone(), Reading::Present([open.id.clone()].into()))]);
        let mut lost = Picture { journal: Journal::default(), ..picture.clone() };
        lost.observed.copy = Reading::Absent;
        lost.observed.forgotten = left;
        let world = start(lost.clone(), Faults::default());
        let last = drive(&world, &owner(), &desired).last;
        let blocks: Vec<_> = last.plan.blocks.iter().map(|block| block.reason).collect();
        assert_eq!((blocks, last.plan.phase), (vec![Reason::JournalLost], Phase::Blocked), "{:?}", last.plan);
        assert!(last.plan.steps.is_empty() && world.calls() == 0, "{:?}", last.plan);
        let block = &last.plan.blocks[0];
        assert!(block.message.contains(&open.id.0) && block.message.contains(&owner().journal_secret().0), "{block:?}");
        assert!(block.remedy.contains(&format!("__sessionbackend:{}-*", owner().digest())), "{block:?}");
        assert!(block.message.len() + block.remedy.len() < 800, "{block:?}");
        told += 1;

        // Once a person has looked and taken the keys away it goes on.
        lost.observed.forgotten.clear();
        let world = start(lost, Faults::default());
        let last = drive(&world, &owner(), &desired).last;
        assert_eq!(last.plan.phase, Phase::Ready, "{:?}", last.plan);
    }
    assert!(told > 8, "{told} pictures");
}
