//! The main job's steps, one by one: from a service wired by hand on ElastiCache to Upstash and back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use sessionbackend::desired::{
    App, Approval, Consent, CopyRules, DeletionPolicy, Desired, EgressPolicy, Env, EnvFormat, Fallback,
    MigrationPolicy, Mode, OnFailure, Retire, SecretDelivery, ServiceRef, StoreSpec, Takeover, Target, UpstashDatabase,
    Writer,
};
use sessionbackend::engine::World as _;
use sessionbackend::error::Class;
use sessionbackend::identity::{Address, Arn, Fingerprint, StoreId};
use sessionbackend::journal::{
    Direction, EgressChange, Entry, Migration, Prior, Resource, ServiceMove, StoreRecord, Undo, VaultKey,
};
use sessionbackend::observed::{
    Delivery, Egress, Observed, OperationStatus, Placement, Reach, Reading, ServiceStatus, Store, StoreStatus,
};
use sessionbackend::step::{Expect, ServicePatch, Setting, Step};

use super::ground::{ByHand, Hand, PASSWORD, Sandbox, foreign, now, string};

/// To Upstash, as a user would write it.
pub(crate) fn target(by_hand: &ByHand) -> Target {
    Target {
        mode: Mode::Apply,
        services: vec![ServiceRef {
            name: "web-app".into(),
            arn: None,
            egress: EgressPolicy::Default,
            writer: Writer::Operator,
        }],
        other_consumers: Vec::new(),
        store: StoreSpec::Upstash {
            database: UpstashDatabase::Named { name: "liberty".into(), region: "us-east-1".into() },
            plan: None,
            managed: true,
        },
        env: Env {
            format: EnvFormat::Url { url: "REDIS_URL".into() },
            secrets: SecretDelivery::SecretsManager,
            takeover: Takeover::IfServingFrom,
        },
        app: App {
            session_ttl: None,
            max_connections: None,
            longest_request: Duration::from_secs(5),
            cluster_client: false,
            fallback: Fallback::None,
            pool_max: None,
            commands_per_day: None,
        },
        checks: Vec::new(),
        check_interval: Duration::from_mins(5),
        migration: MigrationPolicy {
            from: None,
            rules: CopyRules::default(),
            max_lag: Duration::from_secs(5),
            bake_time: Duration::from_secs(5),
            on_failure: OnFailure::Rollback,
            consent: Consent::default(),
            approval: Approval::default(),
            retire: Retire {
                delete_old_store: false,
                rules: vec![by_hand.rule.as_str().into(), "sgr-0000000000000gone".into()],
                connectors: vec![by_hand.connector.as_str().into()],
            },
        },
        deletion: DeletionPolicy::Retain,
    }
}

pub(crate) fn present(target: Target) -> Desired {
    Desired::Present(Box::new(target))
}

fn record(store: &Store, side: &str) -> StoreRecord {
    StoreRecord {
        id: store.id.clone(),
        name: store.name.clone(),
        address: store.address.clone(),
        placement: store.placement.clone(),
        credential: store.credential.clone(),
        password: store.credential.as_ref().map(|_| VaultKey(format!("{side}/password"))),
    }
}

fn migration(hand: &Hand, observed: &Observed, epoch: u32) -> Migration {
    let service = observed.services["web-app"].present().unwrap();
    let variable = &service.variables["REDIS_URL"];
    let prior = Prior::Plain(VaultKey("undo/web-app/REDIS_URL".into()), variable.digest.clone());
    Migration {
        id: sessionbackend::identity::MigrationId(format!("{}-{epoch}", hand.owner.digest())),
        epoch: sessionbackend::identity::Epoch(epoch),
        from: observed.source.present().map(|store| record(store, "from")),
        to: record(observed.target.present().unwrap(), "to"),
        copies: true,
        rules: CopyRules::default(),
        attempt: 0,
        told: None,
        copied: None,
        began: now(),
        services: vec![ServiceMove {
            service: "web-app".into(),
            arn: service.arn.clone(),
            undo: Undo {
                variables: BTreeMap::from([("REDIS_URL".to_owned(), prior)]),
                egress: service.egress.clone(),
                auto_deployments: service.auto_deployments,
            },
            egress: EgressChange::WithVariables(Egress::Default),
            egress_moved: None,
            forward: None,
            back: None,
            deployments_restored: None,
            refused: None,
            dropped: false,
        }],
        baseline: None,
        checks: vec![],
        approved: BTreeSet::new(),
        sealed: None,
        egress_validated: None,
        drained: None,
        validated: None,
        baked: None,
        rollback: None,
        hold: None,
        ended: None,
    }
}

async fn observe(hand: &Hand, desired: &Desired) -> Observed {
    let journal = hand.journal().await;
    hand.world.observe(&hand.owner, desired, &journal).await
}

/// The variables of the service as they are, those in plain text and those by reference.
fn wired(sandbox: &Sandbox, by_hand: &ByHand) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let service = by_hand.running(sandbox);
    let at = "/SourceConfiguration/ImageRepository/ImageConfiguration";
    let map = |name: &str| -> BTreeMap<String, String> {
        let found = service.pointer(&format!("{at}/{name}")).cloned().unwrap_or(json!({}));
        serde_json::from_value(found).unwrap()
    };
    (map("RuntimeEnvironmentVariables"), map("RuntimeEnvironmentSecrets"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_wired_by_hand_is_seen_switched_and_switched_back() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make(&sandbox);
    let hand = Hand::new(&sandbox, "liberty").await;
    let desired = present(target(&by_hand));

    // Nobody has written about it; the store of the spec is not there; the one in use is.
    assert_eq!(hand.world.journal(&hand.owner).await, Reading::Absent);
    let observed = observe(&hand, &desired).await;
    assert_eq!(observed.account, Reading::Present(hand.owner.account.clone()));
    assert_eq!(observed.target, Reading::Absent);
    sees_what_was_made_by_hand(&by_hand, &hand, &observed);

    create_database(&sandbox, &hand).await;
    let observed = observe(&hand, &desired).await;
    let to = observed.target.present().unwrap();
    assert_eq!((&to.status, &to.placement), (&StoreStatus::Available, &Placement::Public));
    assert!(to.address.as_ref().unwrap().host.ends_with(".upstash.io") && to.credential.is_some(), "{to:?}");

    claim(&sandbox, &by_hand, &hand, &desired).await;

    let begun = migration(&hand, &observed, 1);
    hand.write(Entry::Begin(Box::new(begun.clone()))).await.unwrap();
    keeps_the_way_back_in_the_vault(&sandbox, &hand);

    let arn = create_secret(&sandbox, &hand, &desired, &begun).await;
    switch(&sandbox, &by_hand, &hand, &desired, &arn).await;
    switch_back(&sandbox, &by_hand, &hand, &desired, &begun).await;
    delete_what_was_made(&sandbox, &hand, &desired).await;

    // No reading, no journal as the planner sees it, shows a password.
    let shown = format!("{:?} {:?}", observe(&hand, &desired).await, hand.journal().await);
    assert!(!shown.contains(PASSWORD));
}

fn sees_what_was_made_by_hand(by_hand: &ByHand, hand: &Hand, observed: &Observed) {
    let service = observed.services["web-app"].present().unwrap();
    assert_eq!(service.status, ServiceStatus::Running);
    assert_eq!(service.egress, Egress::Vpc(by_hand.connector.as_str().into()));
    assert_eq!(service.instance_role, Some(by_hand.role.as_str().into()));
    assert_eq!(service.variables.len(), 41);
    assert_eq!(service.operations.len(), 1);
    let fingerprint = Fingerprint::of(&hand.owner, PASSWORD);
    let address = Address { host: by_hand.host.clone(), port: 6379, db: 0, user: None, tls: true };
    let variable = &service.variables["REDIS_URL"];
    assert_eq!((variable.address.as_ref(), variable.password.as_ref()), (Some(&address), Some(&fingerprint)));
    assert_eq!(service.variables["DATABASE_URL"].reach, Reach::Private("db.x.us-east-1.rds.amazonaws.com".into()));

    let source = observed.source.present().unwrap();
    assert_eq!(source.id, StoreId::ReplicationGroup("sessions".into()));
    assert_eq!((source.address.as_ref(), source.credential.as_ref()), (Some(&address), Some(&fingerprint)));
    let groups = vec![by_hand.cache_group.as_str().into()];
    assert_eq!(source.placement, Placement::Vpc { vpc: by_hand.vpc.clone(), groups });
    assert!(observed.catalog.iter().any(|entry| entry.id == source.id && entry.hosts.contains(&by_hand.host)));

    let connector = observed.connectors[&Arn(by_hand.connector.clone())].present().unwrap();
    assert_eq!(
        (connector.vpc.as_str(), connector.nat, connector.ours),
        (by_hand.vpc.as_str(), Some(false), Some(false))
    );
    assert_eq!(connector.groups, vec![by_hand.app_group.as_str().into()]);
    assert_eq!(connector.admitted_by, Some(Vec::new()), "the store's own group does not count");
    let rule = observed.rules[&by_hand.rule.as_str().into()].present().unwrap();
    assert!(rule.admits(&by_hand.app_group.as_str().into(), 6379) && !rule.ours, "{rule:?}");
    assert_eq!(observed.rules[&"sgr-0000000000000gone".into()], Reading::Absent);
    assert_eq!(observed.bystanders, Reading::Present(Vec::new()));
    assert_eq!(observed.claims["web-app"], Reading::Absent);
    assert_eq!(observed.copy, Reading::Absent);
}

async fn create_database(sandbox: &Sandbox, hand: &Hand) {
    let resource = Resource::UpstashDatabase("liberty".into());
    let create = || Step::CreateUpstashDatabase { name: "liberty".into(), region: "us-east-1".into(), plan: None };
    let unannounced = hand.perform(create()).await.unwrap_err();
    assert_eq!(unannounced.class, Class::Conflict, "{unannounced}");
    hand.write(Entry::Intend(resource.clone())).await.unwrap();

    // The reply of the create call is lost: asked again, it is found and not made twice.
    sandbox.fault(&json!({ "service": "upstash", "operation": "CreateDatabase", "call": "lost-reply", "count": 1 }));
    let lost = hand.perform(create()).await.unwrap_err();
    assert!(lost.class.is_ambiguous(), "{lost}");
    let entry = hand.act(create()).await;
    assert!(matches!(&entry, Entry::Made(made, id) if *made == resource && !id.is_empty()), "{entry:?}");
    assert_eq!(sandbox.calls("CreateDatabase"), 1);
    let journal = hand.journal().await;
    assert_eq!(journal.sequence, 2);
    let vault = vault(sandbox, hand);
    assert!(vault["upstash-database liberty"].as_str().is_some_and(|password| !password.is_empty()));
}

/// The vault as it is in the secret.
fn vault(sandbox: &Sandbox, hand: &Hand) -> Value {
    let input = json!({ "SecretId": hand.owner.journal_secret().0 });
    let text = string(&sandbox.call("secretsmanager", "GetSecretValue", &input), "/SecretString");
    serde_json::from_str::<Value>(&text).unwrap()["vault"].clone()
}

/// The tags of the service.
fn tags(sandbox: &Sandbox, by_hand: &ByHand) -> Value {
    sandbox.call("apprunner", "ListTagsForResource", &json!({ "ResourceArn": by_hand.arn }))["Tags"].clone()
}

async fn claim(sandbox: &Sandbox, by_hand: &ByHand, hand: &Hand, desired: &Desired) {
    let theirs = json!([{ "Key": "team", "Value": "web" }]);
    sandbox.call("apprunner", "TagResource", &json!({ "ResourceArn": by_hand.arn, "Tags": theirs }));
    // A tag only shows the claim: that it cannot be set is no reason not to have it.
    sandbox.fault(&json!({ "service": "apprunner", "operation": "TagResource", "call": "denied", "count": 1 }));
    let claim = |expect| Step::Claim { service: "web-app".into(), variables: vec!["REDIS_URL".into()], expect };
    hand.perform(claim(None)).await.unwrap();
    assert_eq!(tags(sandbox, by_hand), theirs);
    let again = hand.perform(claim(None)).await.unwrap_err();
    assert_eq!(again.class, Class::Conflict, "{again}");
    hand.perform(claim(Some(1))).await.unwrap();
    let shown = json!({ "Key": "sessionbackend.dev/claim/REDIS_URL", "Value": hand.owner.path() });
    let both = json!([shown, theirs[0]]);
    assert_eq!(tags(sandbox, by_hand), both);
    let observed = observe(hand, desired).await;
    let claims = observed.claims["web-app"].present().unwrap();
    assert_eq!((claims.sequence, claims.holders["REDIS_URL"].as_str()), (2, hand.owner.path().as_str()));
    let absent = Desired::absent(DeletionPolicy::Retain);
    let found = observe(hand, &absent).await;
    assert!(found.claims.contains_key("web-app"), "an object without a spec finds its claims again");
    hand.perform(Step::Release { service: "web-app".into(), expect: 2 }).await.unwrap();
    assert_eq!(tags(sandbox, by_hand), theirs);
    assert!(!observe(hand, &absent).await.claims.contains_key("web-app"));

    // Who ends before the answer comes back has shown its claim, and has taken away what showed one it has released.
    let loses = json!({ "service": "secretsmanager", "operation": "PutSecretValue", "call": "lost-reply", "count": 1 });
    for (step, tagged) in [(claim(Some(3)), &both), (Step::Release { service: "web-app".into(), expect: 4 }, &theirs)] {
        sandbox.fault(&loses);
        let lost = hand.perform(step).await.unwrap_err();
        assert!(lost.class.is_ambiguous(), "{lost}");
        assert_eq!(tags(sandbox, by_hand), *tagged);
    }
}

fn keeps_the_way_back_in_the_vault(sandbox: &Sandbox, hand: &Hand) {
    let vault = vault(sandbox, hand);
    assert_eq!(vault["from/password"], PASSWORD);
    assert!(vault["to/password"].as_str().is_some_and(|password| !password.is_empty()));
    assert!(vault["undo/web-app/REDIS_URL"].as_str().is_some_and(|url| url.contains(PASSWORD)));
}

async fn create_secret(sandbox: &Sandbox, hand: &Hand, desired: &Desired, begun: &Migration) -> Arn {
    let name = hand.owner.epoch_secret(begun.epoch, &begun.to.binding().unwrap(), "REDIS_URL");
    assert_eq!(observe(hand, desired).await.secrets[&name], Reading::Absent);
    hand.write(Entry::Intend(Resource::Secret(name.clone()))).await.unwrap();
    let create = |variable: &str| Step::CreateEpochSecret {
        name: name.clone(),
        epoch: begun.epoch,
        variable: variable.into(),
        store: begun.to.id.clone(),
    };
    let wrong = hand.perform(create("OTHER")).await.unwrap_err();
    assert_eq!(wrong.class, Class::Conflict, "{wrong}");
    let Entry::Made(_, arn) = hand.act(create("REDIS_URL")).await else { panic!("not made") };
    let again = hand.perform(create("REDIS_URL")).await.unwrap();
    assert_eq!(again, Some(Entry::Made(Resource::Secret(name.clone()), arn.clone())), "made once, found again");
    let value = string(&sandbox.call("secretsmanager", "GetSecretValue", &json!({ "SecretId": arn })), "/SecretString");
    let host = &begun.to.address.as_ref().unwrap().host;
    assert!(value.starts_with("rediss://default:") && value.ends_with(&format!("@{host}:6379/0")), "{host}");

    let observed = observe(hand, desired).await;
    assert_eq!(observed.secrets[&name].present().map(|secret| secret.arn.0.clone()), Some(arn.clone()));
    let access = observed.role_access.iter().find(|access| access.secret == name).unwrap();
    assert_eq!((access.service.as_str(), &access.allowed), ("web-app", &Reading::Present(true)));
    Arn(arn)
}

async fn patch(hand: &Hand, desired: &Desired, direction: Direction, setting: Setting, egress: Egress) -> ServicePatch {
    let observed = observe(hand, desired).await;
    let service = observed.services["web-app"].present().unwrap();
    let newest = service.operations.first().map(|operation| operation.id.clone());
    hand.write(Entry::Moving(direction, "web-app".into(), newest.clone())).await.unwrap();
    ServicePatch {
        service: "web-app".into(),
        arn: service.arn.clone(),
        direction,
        set: BTreeMap::from([("REDIS_URL".to_owned(), setting)]),
        unset: Vec::new(),
        egress: Some(egress),
        auto_deployments: None,
        expect: Expect {
            foreign: service.foreign.clone(),
            newest_operation: newest,
            journal: hand.journal().await.sequence,
        },
    }
}

async fn switch(sandbox: &Sandbox, by_hand: &ByHand, hand: &Hand, desired: &Desired, arn: &Arn) {
    let (before, _) = wired(sandbox, by_hand);
    let setting = Setting::Secret(arn.clone());
    let patch = patch(hand, desired, Direction::Forward, setting, Egress::Default).await;
    refuses_what_is_not_as_planned(sandbox, hand, &patch).await;
    let entry = hand.act(Step::PatchService(patch.clone())).await;
    let Entry::Moved(Direction::Forward, _, operation) = entry else { panic!("{entry:?}") };
    let busy = hand.perform(Step::PatchService(patch)).await.unwrap_err();
    assert_eq!(busy.class, Class::Conflict, "{busy}");
    let service = by_hand.running(sandbox);
    assert_eq!(service["HealthCheckConfiguration"]["Protocol"], "HTTP");
    assert_eq!(service["HealthCheckConfiguration"]["HealthyThreshold"], 2);
    assert_eq!(service["InstanceConfiguration"]["InstanceRoleArn"], by_hand.role.as_str());
    assert_eq!(service["NetworkConfiguration"]["EgressConfiguration"]["EgressType"], "DEFAULT");
    let (plain, references) = wired(sandbox, by_hand);
    let mut expected = before;
    expected.remove("REDIS_URL");
    assert_eq!(plain, expected, "foreign variables stay bit for bit");
    assert_eq!(references, BTreeMap::from([("REDIS_URL".to_owned(), arn.0.clone())]));

    let observed = observe(hand, desired).await;
    let service = observed.services["web-app"].present().unwrap();
    let ours = service.operations.iter().find(|found| found.id == operation).unwrap();
    assert_eq!(ours.status, OperationStatus::Succeeded);
    assert_eq!(service.variables["REDIS_URL"].delivery, Delivery::Reference(arn.clone()));
    assert_eq!(service.variables["REDIS_URL"].address, observed.target.present().unwrap().address);
}

async fn refuses_what_is_not_as_planned(sandbox: &Sandbox, hand: &Hand, patch: &ServicePatch) {
    let updates = sandbox.calls("UpdateService");
    let mut wrong = [patch.clone(), patch.clone(), patch.clone()];
    wrong[0].expect.foreign = Fingerprint::from("another");
    wrong[1].expect.newest_operation = None;
    wrong[2].expect.journal -= 1;
    for patch in wrong {
        let error = hand.perform(Step::PatchService(patch)).await.unwrap_err();
        assert_eq!(error.class, Class::Conflict, "{error}");
    }
    // What fails before the call is no lost reply.
    sandbox.fault(&json!({ "service": "apprunner", "operation": "DescribeService", "call": "500" }));
    let error = hand.perform(Step::PatchService(patch.clone())).await.unwrap_err();
    assert!(!error.class.is_ambiguous(), "{error}");
    sandbox.no_faults();
    assert_eq!(sandbox.calls("UpdateService"), updates);
}

async fn switch_back(sandbox: &Sandbox, by_hand: &ByHand, hand: &Hand, desired: &Desired, begun: &Migration) {
    let moved = &begun.services[0];
    let prior = Setting::Prior(moved.undo.variables["REDIS_URL"].clone());
    let patch = patch(hand, desired, Direction::Back, prior, moved.undo.egress.clone()).await;
    // The reply is lost, the call was executed: the journal and the operations tell, the call is not made again.
    sandbox.fault(&json!({ "service": "apprunner", "operation": "UpdateService", "call": "lost-reply", "count": 1 }));
    let lost = hand.perform(Step::PatchService(patch)).await.unwrap_err();
    assert!(lost.class.is_ambiguous(), "{lost}");
    let (plain, references) = wired(sandbox, by_hand);
    let mut expected: BTreeMap<String, String> =
        foreign().into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect();
    expected.insert("REDIS_URL".into(), format!("rediss://:{PASSWORD}@{}:6379/0", by_hand.host));
    assert_eq!((plain, references), (expected, BTreeMap::new()));
    let observed = observe(hand, desired).await;
    let service = observed.services["web-app"].present().unwrap();
    assert_eq!(service.egress, moved.undo.egress);
    assert_eq!(service.operations.len(), 3);
}

async fn delete_what_was_made(sandbox: &Sandbox, hand: &Hand, desired: &Desired) {
    let journal = hand.journal().await;
    for (resource, made) in &journal.made {
        match resource {
            Resource::Secret(name) => {
                hand.perform(Step::DeleteSecret { name: name.clone() }).await.unwrap();
                hand.perform(Step::DeleteSecret { name: name.clone() }).await.unwrap();
                let secret = observe(hand, desired).await.secrets[name].clone();
                assert!(secret.present().is_some_and(|secret| secret.deletion.is_some()), "{secret:?}");
            }
            Resource::UpstashDatabase(name) => {
                let id = made.id.clone().unwrap();
                let other = Step::DeleteUpstashDatabase { id: id.clone(), name: "another".into() };
                assert_eq!(hand.perform(other).await.unwrap_err().class, Class::Conflict);
                let delete = Step::DeleteUpstashDatabase { id, name: name.clone() };
                hand.perform(delete.clone()).await.unwrap();
                hand.perform(delete).await.unwrap();
                assert_eq!(observe(hand, desired).await.target, Reading::Absent);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sandbox.calls("DeleteDatabase"), 1, "what is gone is not deleted again");
}
