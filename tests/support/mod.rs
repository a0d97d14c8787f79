//! Worlds to start from, and a driver that turns the engine until nothing moves.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::explicit_counter_loop, clippy::pedantic)]

pub mod dice;
pub mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use sessionbackend::desired::*;
use sessionbackend::effect::Picture;
use sessionbackend::engine::{Cycle, Memory, cycle};
use sessionbackend::identity::*;
use sessionbackend::journal::{Direction, Entry};
use sessionbackend::observed::*;
use sessionbackend::plan::{Awaited, Phase, Plan, Reason, Wait};
use sessionbackend::sim::{Faults, SimWorld};

pub const CONNECTOR: &str =
    "arn:aws:apprunner:us-east-1:123456789012:vpcconnector/by-hand/1/0123456789abcdef0123456789abcdef";
pub const HOST: &str = "master.liberty.abc123.use1.cache.amazonaws.com";

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub fn owner() -> Owner {
    Owner {
        installation: "default".into(),
        account: "123456789012".into(),
        region: "us-east-1".into(),
        namespace: "liberty".into(),
        name: "liberty-social".into(),
    }
}

pub fn service_ref(name: &str, egress: EgressPolicy) -> ServiceRef {
    ServiceRef { name: name.into(), arn: None, egress, writer: Writer::Operator }
}

/// From ElastiCache to Upstash, as Liberty Social would write it.
pub fn target(services: &[&str]) -> Target {
    Target {
        mode: Mode::Apply,
        services: services.iter().map(|name| service_ref(name, EgressPolicy::Default)).collect(),
        other_consumers: vec![],
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
            session_ttl: Some(Duration::from_secs(7200)),
            max_connections: None,
            longest_request: Duration::from_secs(120),
            cluster_client: false,
            fallback: Fallback::None,
            pool_max: None,
            commands_per_day: None,
        },
        checks: vec![],
        check_interval: Duration::from_secs(300),
        migration: MigrationPolicy {
            from: None,
            rules: CopyRules::default(),
            max_lag: Duration::from_secs(5),
            bake_time: Duration::from_secs(1800),
            on_failure: OnFailure::Rollback,
            consent: Consent { no_internet: false, data_loss: false, quota_share: 25 },
            approval: Approval { switch: false, retire: false },
            retire: Retire {
                delete_old_store: false,
                rules: vec!["sgr-0123456789abcdef0".into()],
                connectors: vec![CONNECTOR.into()],
            },
        },
        deletion: DeletionPolicy::Retain,
    }
}

pub fn present(target: Target) -> Desired {
    Desired::Present(Box::new(target))
}

pub fn elasticache_address() -> Address {
    Address { host: HOST.into(), port: 6379, db: 0, user: None, tls: true }
}

pub fn server(keys: u64) -> Server {
    Server {
        version: "7.1.0".into(),
        keys: BTreeMap::from([(0, keys)]),
        used_memory: keys * 400,
        max_memory: 0,
        clients: None,
        evicted: 0,
        eviction_policy: "noeviction".into(),
    }
}

pub fn elasticache() -> Store {
    Store {
        id: StoreId::ReplicationGroup("liberty".into()),
        name: "liberty".into(),
        status: StoreStatus::Available,
        address: Some(elasticache_address()),
        credential: Some(Fingerprint::of(&owner(), "old")),
        placement: Placement::Vpc { vpc: "vpc-1".into(), groups: vec!["sg-store".into()] },
        cluster: false,
        max_connections: None,
        plan: None,
        quota: None,
        server: Reading::Present(server(5000)),
    }
}

pub fn upstash() -> Store {
    Store {
        id: StoreId::Upstash("u-1".into()),
        name: "liberty".into(),
        status: StoreStatus::Available,
        address: Some(Address { host: "liberty-1.upstash.io".into(), port: 6379, db: 0, user: None, tls: true }),
        credential: Some(Fingerprint::of(&owner(), "new")),
        placement: Placement::Public,
        cluster: false,
        max_connections: Some(10_000),
        plan: Some("payg".into()),
        quota: None,
        server: Reading::Present(server(0)),
    }
}

pub fn variable(digest: &str) -> Variable {
    Variable {
        delivery: Delivery::Plain,
        digest: Fingerprint(digest.into()),
        address: None,
        password: None,
        names: vec![],
        reach: Reach::None,
    }
}

/// A service wired to ElastiCache by hand, with variables of its own.
pub fn service(name: &str) -> Service {
    let secret = format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:hand-made/{name}-Zz9Yy8");
    let redis = Variable {
        delivery: Delivery::Reference(secret.as_str().into()),
        digest: Fingerprint::of(&owner(), &secret),
        address: Some(elasticache_address()),
        password: Some(Fingerprint::of(&owner(), "old")),
        names: vec![],
        reach: Reach::Private(HOST.into()),
    };
    Service {
        arn: format!("arn:aws:apprunner:us-east-1:123456789012:service/{name}/0123456789abcdef").as_str().into(),
        host: Some(format!("{name}.us-east-1.awsapprunner.com")),
        status: ServiceStatus::Running,
        source: ServiceSource::Image,
        variables: BTreeMap::from([
            ("REDIS_URL".to_owned(), redis),
            ("DJANGO_SETTINGS_MODULE".to_owned(), variable("foreign-1")),
            ("SECRET_KEY".to_owned(), variable("foreign-2")),
        ]),
        foreign: Fingerprint(format!("foreign-of-{name}")),
        egress: Egress::Vpc(CONNECTOR.into()),
        auto_deployments: false,
        instance_role: Some("arn:aws:iam::123456789012:role/liberty-instance".into()),
        operations: vec![Operation {
            id: format!("op-{name}-created").as_str().into(),
            kind: OperationKind::Other,
            status: OperationStatus::Succeeded,
            started: Some(at(-9000)),
            ended: Some(at(-8800)),
        }],
        max_instances: Some(3),
    }
}

pub fn connector(nat: Option<bool>) -> Connector {
    Connector {
        name: "by-hand".into(),
        vpc: "vpc-1".into(),
        groups: vec!["sg-connector".into()],
        nat,
        endpoints: Some(vec![]),
        admitted_by: Some(vec![]),
        ours: Some(false),
    }
}

pub fn rule() -> Rule {
    Rule {
        group: "sg-store".into(),
        source: Some("sg-connector".into()),
        from_port: Some(6379),
        to_port: Some(6379),
        ours: false,
    }
}

/// ElastiCache in use, wired by hand; the Upstash database does not exist yet.
pub fn on_elasticache(services: &[&str]) -> Picture {
    let observed = Observed {
        account: Reading::Present("123456789012".into()),
        services: services.iter().map(|name| ((*name).to_owned(), Reading::Present(service(name)))).collect(),
        bystanders: Reading::Present(vec![]),
        target: Reading::Absent,
        source: Reading::Present(elasticache()),
        catalog: vec![CatalogEntry { id: StoreId::ReplicationGroup("liberty".into()), hosts: vec![HOST.into()] }],
        connectors: BTreeMap::from([(CONNECTOR.into(), Reading::Present(connector(Some(true))))]),
        rules: BTreeMap::from([("sgr-0123456789abcdef0".into(), Reading::Present(rule()))]),
        ..Observed::default()
    };
    Picture { observed, ..Picture::default() }
}

/// How a drive ended.
pub struct Drive {
    pub last: Cycle,
    pub cycles: usize,
    pub lives: usize,
    /// Numbers of the observations soon after a call: those a stale read can harm.
    pub soon_after_calls: Vec<usize>,
}

/// Virtual time costs nothing but turns: what is known to take until then is not looked at before.
pub fn pause(plan: &Plan, now: Timestamp) -> Duration {
    let until = |wait: &Wait| Some(wait.expected?.duration_since(now).max(SignedDuration::ZERO).unsigned_abs());
    let known: Option<Vec<Duration>> = plan.waits.iter().map(until).collect();
    let known = known.and_then(|known| known.into_iter().min()).unwrap_or_default();
    plan.poll(now).max(known).max(Duration::from_secs(10))
}

/// What holds after every turn, whatever happened in it.
fn check(world: &SimWorld, turn: &Cycle) {
    for block in &turn.plan.blocks {
        assert_ne!(block.reason, Reason::GuardViolated, "{}", block.message);
    }
    world.look(|picture| {
        for (name, service) in &picture.observed.services {
            let Some(service) = service.present() else { continue };
            for (variable, digest) in [("DJANGO_SETTINGS_MODULE", "foreign-1"), ("SECRET_KEY", "foreign-2")] {
                let kept = service.variables.get(variable).map(|found| found.digest.0.as_str());
                assert_eq!(kept, Some(digest), "{variable} of {name}");
            }
        }
    });
    carries_while_clients_move(turn);
    assert_eq!(world.broken(), Vec::<String>::new());
    if !turn.plan.steps.is_empty() {
        for (what, times) in world.creations() {
            assert!(times <= 1, "{what} was made {times} times");
        }
    }
}

/// Whoever waits for an operation that moves clients keeps both stores in step himself, also where he did not begin it.
fn carries_while_clients_move(turn: &Cycle) {
    let Some(migration) = turn.journal.open_migration().filter(|migration| migration.copies) else { return };
    let moves = turn.plan.waits.iter().any(|wait| match wait.on {
        Awaited::Operation(direction, _) | Awaited::Listing(direction, _) => direction != Direction::Restore,
        _ => false,
    });
    let stores = [migration.from.as_ref(), Some(&migration.to)].into_iter().flatten();
    let lost = stores.into_iter().any(|store| turn.observed.is_gone(&store.id, turn.at));
    if moves && turn.plan.steps.is_empty() && !lost {
        let here = turn.observed.copy.present().is_some_and(|copy| copy.here);
        assert!(here, "clients are moved and nobody here carries what they write: {:?}", turn.plan.waits);
    }
}

/// The person who is asked says yes.
fn approve(world: &SimWorld, turn: &Cycle) {
    for wait in &turn.plan.waits {
        if let Awaited::Approval(gate) = wait.on {
            world.meddle(|picture, now| {
                let id = picture.journal.migration.as_ref().unwrap().id.clone();
                picture.journal = picture.journal.apply(&Entry::Approve(id, gate), now);
            });
        }
    }
}

/// Turns the engine until nothing moves: at rest, blocked, or only waiting for a person.
pub fn drive(world: &SimWorld, owner: &Owner, desired: &Desired) -> Drive {
    drive_by(world, owner, |_| desired)
}

/// The same with a spec that changes with the number of calls made so far.
pub fn drive_by<'a>(world: &SimWorld, owner: &Owner, desired: impl Fn(usize) -> &'a Desired) -> Drive {
    let mut still = 0;
    let mut lives = 1;
    let mut soon_after_calls = Vec::new();
    let mut soon = 2;
    let mut memory = Memory::default();
    for cycles in 1..20_000 {
        let desired = desired(world.calls());
        let Some(turn) = cycle(world, owner, desired, &mut memory, || world.now()).now_or_never() else {
            world.crash();
            memory = Memory::default();
            world.advance(Duration::from_secs(1));
            lives += 1;
            still = 0;
            continue;
        };
        check(world, &turn);
        if soon > 0 {
            soon_after_calls.push(world.observations() - 1);
        }
        approve(world, &turn);
        soon = if turn.plan.steps.is_empty() { soon.max(1) - 1 } else { 2 };
        let moving = !turn.plan.steps.is_empty() || !turn.plan.waits.is_empty();
        if moving {
            still = 0;
        } else {
            still += 1;
            if still == 3 {
                return Drive { last: turn, cycles, lives, soon_after_calls };
            }
        }
        let wait = if turn.plan.steps.is_empty() { pause(&turn.plan, world.now()) } else { Duration::from_millis(50) };
        world.advance(wait);
    }
    let desired = desired(world.calls());
    let turn = cycle(world, owner, desired, &mut memory, || world.now()).now_or_never();
    panic!("no end in sight: {:#?}", turn.map(|turn| turn.plan));
}

pub fn start(picture: Picture, faults: Faults) -> SimWorld {
    SimWorld::new(picture, at(0), faults)
}

pub fn phase(drive: &Drive) -> Phase {
    drive.last.plan.phase
}

/// Every picture a migration passes through, one a wave.
pub fn pictures_of_a_migration() -> Vec<Picture> {
    let (owner, desired) = (owner(), present(target(&["web"])));
    let world = start(on_elasticache(&["web"]), Faults::default());
    let mut pictures = vec![world.picture()];
    let mut memory = Memory::default();
    for _ in 0..400 {
        let Some(turn) = cycle(&world, &owner, &desired, &mut memory, || world.now()).now_or_never() else { break };
        if turn.plan.is_converged() {
            break;
        }
        if !turn.plan.steps.is_empty() {
            pictures.push(world.picture());
        }
        world.advance(turn.plan.poll(world.now()).max(Duration::from_secs(1)));
    }
    pictures
}
