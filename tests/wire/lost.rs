//! Calls that make something and whose reply is lost, or that are refused: nothing of ours stays behind, nothing of
//! anybody else's is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use pretty_assertions::assert_eq;
use serde_json::json;
use sessionbackend::desired::{DeletionPolicy, Desired, ReplicationGroupSettings, StoreSpec, UpstashDatabase};
use sessionbackend::engine::{Cycle, Memory, World as _, cycle};
use sessionbackend::error::CloudError;
use sessionbackend::identity::{Epoch, MigrationId, Owner, StoreId};
use sessionbackend::journal::{Entry, Resource};
use sessionbackend::observed::{Copy, Reading, Server};
use sessionbackend::plan::{Phase, Reason};
use sessionbackend::step::{CopyMode, Side, Step};
use sessionbackend::world::Long;
use sessionbackend::world::long::{Copiers, CopyJob, Endpoint, Servers};

use super::ground::{ByHand, Hand, Sandbox, now, string};
use super::serve::{present, target};

async fn turn(hand: &Hand, desired: &Desired, memory: &mut Memory) -> Cycle {
    // Long enough after the calls for every list to be up to date.
    let clock = || now().checked_add(jiff::SignedDuration::from_mins(10)).unwrap();
    cycle(&hand.world, &hand.owner, desired, memory, clock).await
}

/// Destroys with `deletionPolicy: Delete`, as a process that knows nothing of what was before.
pub(crate) async fn destroy(sandbox: &Sandbox, name: &str) -> Cycle {
    let hand = Hand::new(sandbox, name).await;
    let (delete, mut memory) = (Desired::absent(DeletionPolicy::Delete), Memory::default());
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let last = turn(&hand, &delete, &mut memory).await;
        if last.plan.phase == Phase::Deleted {
            return last;
        }
        assert!(Instant::now() < deadline, "{:?} {:?}", last.plan, last.outcomes);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn listed(sandbox: &Sandbox, service: &str, operation: &str, list: &str, name: &str) -> Vec<String> {
    let answer = sandbox.call(service, operation, &json!({}));
    let rows = if list.is_empty() { &answer } else { &answer[list] };
    rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap().to_owned()).collect()
}

fn databases(sandbox: &Sandbox) -> Vec<String> {
    listed(sandbox, "upstash", "ListDatabases", "", "database_name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_in_calls_whose_replies_were_lost_is_found_and_removed() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make(&sandbox);
    // The user's own of the same kinds, and a database of the same name from before.
    let input = json!({ "database_name": "theirs", "platform": "aws", "primary_region": "us-east-1" });
    sandbox.call("upstash", "CreateDatabase", &input);
    let hand = Hand::new(&sandbox, "lost").await;
    let group = json!({ "GroupName": "audio", "Description": "audio", "VpcId": by_hand.vpc });
    let group = string(&sandbox.call("ec2", "CreateSecurityGroup", &group), "/GroupId");
    let (subnet_group, id, connector) =
        (hand.owner.short_name("subnets"), hand.owner.short_name("cache"), hand.owner.short_name("vpc0"));
    let settings = ReplicationGroupSettings {
        node_type: "cache.t4g.small".into(),
        replicas: 0,
        subnets: by_hand.subnets.clone(),
        security_groups: vec![by_hand.cache_group.clone()],
    };
    let (to, source) = (by_hand.cache_group.as_str().into(), group.as_str().into());
    let calls = [
        (
            "upstash",
            "CreateDatabase",
            Resource::UpstashDatabase("liberty".into()),
            Step::CreateUpstashDatabase { name: "liberty".into(), region: "us-east-1".into(), plan: None },
        ),
        (
            "apprunner",
            "CreateVpcConnector",
            Resource::Connector(connector.clone()),
            Step::CreateConnector {
                name: connector,
                subnets: by_hand.subnets.clone(),
                security_groups: vec![group.clone()],
            },
        ),
        (
            "ec2",
            "AuthorizeSecurityGroupIngress",
            Step::rule_name(&to, &source, 6379),
            Step::AuthorizeIngress { group: to, source, port: 6379 },
        ),
        (
            "elasticache",
            "CreateCacheSubnetGroup",
            Resource::SubnetGroup(subnet_group.clone()),
            Step::CreateSubnetGroup { name: subnet_group.clone(), subnets: by_hand.subnets.clone() },
        ),
        (
            "elasticache",
            "CreateReplicationGroup",
            Resource::ReplicationGroup(id.clone()),
            Step::CreateReplicationGroup { id, subnet_group, settings },
        ),
    ];
    let names = ["databases", "connectors", "rules", "subnet groups", "replication groups"];
    let there = |sandbox: &Sandbox| {
        [
            databases(sandbox),
            listed(sandbox, "apprunner", "ListVpcConnectors", "VpcConnectors", "VpcConnectorName"),
            listed(sandbox, "ec2", "DescribeSecurityGroupRules", "SecurityGroupRules", "SecurityGroupRuleId"),
            listed(sandbox, "elasticache", "DescribeCacheSubnetGroups", "CacheSubnetGroups", "CacheSubnetGroupName"),
            listed(sandbox, "elasticache", "DescribeReplicationGroups", "ReplicationGroups", "ReplicationGroupId"),
        ]
    };
    let before = there(&sandbox);
    for (service, operation, resource, step) in calls {
        hand.write(Entry::Intend(resource)).await.unwrap();
        sandbox.fault(&json!({ "service": service, "operation": operation, "call": "lost-reply", "count": 1 }));
        let lost = hand.perform(step).await.unwrap_err();
        assert!(lost.class.is_ambiguous(), "{operation}: {lost}");
    }
    for (what, (before, then)) in names.iter().zip(before.iter().zip(there(&sandbox))) {
        assert_eq!(then.len(), before.len() + 1, "{what}: made although the reply was lost");
    }
    assert!(hand.journal().await.made.values().all(|made| made.id.is_none()));

    // Also of the very last call the reply is lost.
    sandbox
        .fault(&json!({ "service": "secretsmanager", "operation": "DeleteSecret", "call": "lost-reply", "count": 1 }));
    destroy(&sandbox, "lost").await;
    for (what, (before, after)) in names.iter().zip(before.into_iter().zip(there(&sandbox))) {
        assert_eq!(after, before, "{what}");
    }
    let secret = json!({ "SecretId": hand.owner.journal_secret().0 });
    let journal = sandbox.call("secretsmanager", "DescribeSecret", &secret);
    assert!(!journal["DeletedDate"].is_null(), "recoverable, and then gone: {journal}");
    assert_eq!(sandbox.calls("DeleteSecret"), 1);
    assert_eq!(sandbox.calls("DeleteReplicationGroup"), 1, "it is waited for, and not asked for again");
    // Deleted is deleted, however often it is looked at; and an object made again finds what was known.
    destroy(&sandbox, "lost").await;
    assert_eq!(sandbox.calls("DeleteSecret"), 1);
    let again = Hand::new(&sandbox, "lost").await;
    let restored = again.write(Entry::Retry).await.unwrap_err();
    assert_eq!(restored.class, sessionbackend::error::Class::Conflict, "{restored}");
    let journal = again.journal().await;
    assert!(journal.sequence > 0 && journal.made.is_empty(), "{journal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_made_by_hand_after_ours_was_refused_is_never_deleted() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make_with(&sandbox, serde_json::Map::new());
    let hand = Hand::new(&sandbox, "refused").await;
    let wanted = |plan: &str| {
        let mut wanted = target(&by_hand);
        wanted.store = StoreSpec::Upstash {
            database: UpstashDatabase::Named { name: "liberty".into(), region: "us-east-1".into() },
            plan: Some(plan.into()),
            managed: true,
        };
        wanted.migration.retire.rules.clear();
        present(wanted)
    };
    let mut memory = Memory::default();
    let refused = loop {
        let turn = turn(&hand, &wanted("no-such-plan"), &mut memory).await;
        assert!(turn.plan.blocks.is_empty() && turn.plan.waits.is_empty(), "{:?}", turn.plan);
        if let Some(error) = turn.failure() {
            break error.to_string();
        }
    };
    assert!(refused.contains("no-such-plan"), "{refused}");
    assert_eq!(hand.journal().await.made, std::collections::BTreeMap::new(), "refused for certain: nothing was made");

    let input = json!({ "database_name": "liberty", "platform": "aws", "primary_region": "us-east-1" });
    sandbox.call("upstash", "CreateDatabase", &input);
    // Found by its name and used, as it is; ours it does not become.
    let hand = Hand::new(&sandbox, "refused").await;
    for _ in 0..3 {
        turn(&hand, &wanted("payg"), &mut memory).await;
    }
    assert!(!hand.journal().await.made.contains_key(&Resource::UpstashDatabase("liberty".into())));
    destroy(&sandbox, "refused").await;
    assert_eq!(databases(&sandbox), ["liberty"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_from_before_is_not_taken_by_its_name() {
    let sandbox = Sandbox::up();
    let hand = Hand::new(&sandbox, "before").await;
    let input = json!({ "database_name": "liberty", "platform": "aws", "primary_region": "us-east-1" });
    sandbox.call("upstash", "CreateDatabase", &input);
    // We were about to make one five minutes after that.
    let resource = Resource::UpstashDatabase("liberty".into());
    let intend = Step::Journal { expect: 0, entry: Entry::Intend(resource) };
    let later = now().checked_add(jiff::SignedDuration::from_mins(5)).unwrap();
    let journal = hand.journal().await;
    sessionbackend::engine::World::perform(&hand.world, &hand.owner, &intend, &journal, later).await.unwrap();
    let create = Step::CreateUpstashDatabase { name: "liberty".into(), region: "us-east-1".into(), plan: None };
    let taken = hand.perform(create).await.unwrap_err();
    assert_eq!(taken.class, sessionbackend::error::Class::Exists, "{taken}");
    assert_eq!(databases(&sandbox), ["liberty"]);
    destroy(&sandbox, "before").await;
    assert_eq!(databases(&sandbox), ["liberty"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_shown_once_outlives_the_connection_it_was_shown_to() {
    let sandbox = Sandbox::up();
    let first = Hand::new(&sandbox, "shown-once").await;
    first.write(Entry::Intend(Resource::UpstashDatabase("liberty".into()))).await.unwrap();
    let create = Step::CreateUpstashDatabase { name: "liberty".into(), region: "us-east-1".into(), plan: None };
    let made = first.perform(create).await.unwrap().unwrap();
    let Entry::Made(_, id) = &made else { panic!("{made:?}") };
    let password = string(&sandbox.call("upstash", "GetDatabase", &json!({ "id": id })), "/password");

    // The line about it was not written yet when the spec was edited: another connection writes it.
    let Hand { owner, world } = Hand::new(&sandbox, "shown-once").await;
    let second = Hand { owner, world: world.succeeding(&first.world) };
    second.write(made).await.unwrap();
    let secret = json!({ "SecretId": second.owner.journal_secret().0 });
    let held = string(&sandbox.call("secretsmanager", "GetSecretValue", &secret), "/SecretString");
    assert!(held.contains(&password), "the vault has it");
}

/// Every store answers and has keys of the owner's second migration.
struct Marked {
    owner: Owner,
    asked: AtomicUsize,
}

impl Servers for Marked {
    fn ask<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, Reading<Server>> {
        let server = Server {
            version: "7.2.0".into(),
            keys: BTreeMap::new(),
            used_memory: 0,
            max_memory: 0,
            clients: None,
            evicted: 0,
            eviction_policy: "noeviction".into(),
        };
        Box::pin(async { Reading::Present(server) })
    }
}

impl Copiers for Marked {
    fn run(&self, _: CopyJob, _: CopyMode) -> BoxFuture<'_, Result<(), CloudError>> {
        unreachable!("nothing is begun")
    }

    fn count_quiet<'a>(&'a self, _: &'a MigrationId, _: Side) -> BoxFuture<'a, Result<(), CloudError>> {
        unreachable!("nothing is begun")
    }

    fn progress<'a>(&'a self, _: &'a CopyJob) -> BoxFuture<'a, Reading<Copy>> {
        Box::pin(async { Reading::Absent })
    }

    fn traces<'a>(
        &'a self,
        at: &'a Endpoint,
        migrations: &'a [MigrationId],
    ) -> BoxFuture<'a, Result<BTreeSet<MigrationId>, CloudError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let second = MigrationId::new(&self.owner, Epoch(2));
        assert!(migrations.contains(&second));
        let left = if matches!(at.store, StoreId::Upstash(_)) { BTreeSet::from([second]) } else { BTreeSet::new() };
        Box::pin(async { Ok(left) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_gone_for_good_is_missed_where_a_copier_left_keys_and_one_that_can_be_restored_is_restored() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make_with(&sandbox, serde_json::Map::new());
    let input = json!({ "database_name": "liberty", "platform": "aws", "primary_region": "us-east-1" });
    sandbox.call("upstash", "CreateDatabase", &input);
    let marked = Arc::new(Marked { owner: sandbox.owner("gone"), asked: AtomicUsize::new(0) });
    let long = || Long { servers: marked.clone(), copiers: marked.clone(), ..Long::default() };
    let wanted = present(target(&by_hand));
    let first = Hand::with(&sandbox, "gone", long()).await;
    first.write(Entry::Retry).await.unwrap();

    // Deleted as the console deletes: the first line brings it back.
    let secret = json!({ "SecretId": first.owner.journal_secret().0 });
    sandbox.call("secretsmanager", "DeleteSecret", &secret);
    let hand = Hand::with(&sandbox, "gone", long()).await;
    let mut memory = Memory::default();
    let turn_of = async |hand: &Hand, memory: &mut Memory| cycle(&hand.world, &hand.owner, &wanted, memory, now).await;
    let last = turn_of(&hand, &mut memory).await;
    assert!(last.plan.blocks.iter().all(|block| block.reason != Reason::JournalLost), "{:?}", last.plan);
    assert_eq!(marked.asked.load(Ordering::Relaxed), 0);

    sandbox.call("secretsmanager", "RestoreSecret", &secret);
    let gone = json!({ "SecretId": secret["SecretId"], "ForceDeleteWithoutRecovery": true });
    sandbox.call("secretsmanager", "DeleteSecret", &gone);
    // Whoever knows it does not take it for one that was never written, and neither does whoever comes anew.
    let known = first.world.journal(&first.owner).await;
    assert!(matches!(&known, Reading::Unknown(error) if error.class.is_temporary()), "{known:?}");
    let hand = Hand::with(&sandbox, "gone", long()).await;
    let mutations = sandbox.json(&["log", "-o", "json", "--mutating"]).as_array().unwrap().len();
    for _ in 0..2 {
        let last = turn_of(&hand, &mut Memory::default()).await;
        let lost = last.plan.blocks.iter().find(|block| block.reason == Reason::JournalLost).unwrap();
        assert!(lost.message.contains(&MigrationId::new(&hand.owner, Epoch(2)).0), "{lost:?}");
        assert!(last.plan.steps.is_empty(), "{:?}", last.plan);
    }
    assert!(marked.asked.load(Ordering::Relaxed) >= 2);
    assert_eq!(sandbox.json(&["log", "-o", "json", "--mutating"]).as_array().unwrap().len(), mutations);
}
