//! Worlds, specs and journals thrown by dice: likely ones, odd ones, and ones that cannot be.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use sessionbackend::checks::{CheckResult, Run, Severity, Stage, Verdict};
use sessionbackend::desired::*;
use sessionbackend::effect::Picture;
use sessionbackend::error::{Class, CloudError};
use sessionbackend::identity::*;
use sessionbackend::journal::*;
use sessionbackend::observed::*;
use sessionbackend::step::{CopyMode, Side};

use super::world::{arn, disabled};
use super::{at, elasticache, owner, upstash, variable};

/// A stream of throws; when it runs out every throw is the first choice, so that shorter streams are simpler worlds.
pub struct Dice<'a> {
    bytes: &'a [u8],
    next: usize,
}

pub const SERVICES: [&str; 3] = ["web", "worker", "admin"];
const VARIABLES: [&str; 8] = [
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_PASSWORD",
    "REDIS_TLS",
    "DATABASE_URL",
    "SECRET_KEY",
];
const RULES: [&str; 2] = ["sgr-0123456789abcdef0", "sgr-0123456789abcdef1"];
/// A secret of ours.
const MADE: &str = "sessionbackend/x/REDIS_URL";
const CONNECTORS: [&str; 3] = ["by-hand", "private", "sb-liberty-social-vpc0-30ce30ea5e"];

impl<'a> Dice<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0 }
    }

    /// 0 to `sides - 1`.
    pub fn throw(&mut self, sides: u8) -> u8 {
        let byte = self.bytes.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        byte % sides
    }

    /// One time out of `sides`, never where the stream has run out.
    pub fn rarely(&mut self, sides: u8) -> bool {
        self.throw(sides) == sides - 1
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.throw(u8::try_from(of.len()).unwrap()))].clone()
    }

    pub fn reading<T>(&mut self, present: Reading<T>) -> Reading<T> {
        match self.throw(24) {
            20 => Reading::Absent,
            21 => Reading::Unknown(self.error()),
            22 => Reading::Unknown(CloudError::new(Class::Throttled, "dice", "Read", "", "rate exceeded")),
            23 => Reading::Hidden("it cannot be seen from here".into()),
            _ => present,
        }
    }

    fn error(&mut self) -> CloudError {
        let class = self.pick(&[
            Class::Transient,
            Class::Throttled,
            Class::Conflict,
            Class::Denied,
            Class::Credentials,
            Class::Rejected,
            Class::Quota,
        ]);
        CloudError::new(class, "dice", "Read", "", "thrown")
    }

    pub fn target(&mut self) -> Target {
        let mut target = super::target(&SERVICES[..usize::from(1 + self.throw(3))]);
        for service in &mut target.services {
            service.egress = match self.throw(5) {
                0 => EgressPolicy::Keep,
                1 | 2 => EgressPolicy::Default,
                3 => EgressPolicy::Connector(arn("private")),
                _ => EgressPolicy::CreateConnector {
                    subnets: vec!["subnet-1".into()],
                    security_groups: vec!["sg-connector".into()],
                },
            };
        }
        target.store = self.store_spec();
        let parts = |host: &str| PartNames {
            host: host.into(),
            port: "REDIS_PORT".into(),
            tls: "REDIS_TLS".into(),
            password: "REDIS_PASSWORD".into(),
        };
        target.env.format = match self.throw(6) {
            0 => EnvFormat::Url { url: "REDIS_URL".into() },
            1 => EnvFormat::UrlImplicitTls { url: "REDIS_URL".into() },
            2 => EnvFormat::Celery {
                url: "REDIS_URL".into(),
                aliases: vec![CeleryAlias { name: "CELERY_BROKER_URL".into(), listed: self.rarely(2) }],
                ssl_cert_reqs: SslCertReqs::Omit,
            },
            3 => EnvFormat::EndpointPortTls(parts("REDIS_ENDPOINT")),
            4 => EnvFormat::HostPortPassword(parts("REDIS_HOST")),
            _ => EnvFormat::Template(BTreeMap::from([("SESSIONS".to_owned(), "{url}".to_owned())])),
        };
        target.env.secrets = self.pick(&[SecretDelivery::SecretsManager, SecretDelivery::PlainText]);
        target.env.takeover = self.pick(&[Takeover::Always, Takeover::IfServingFrom, Takeover::Never]);
        target.app.cluster_client = self.rarely(8);
        target.migration.on_failure = self.pick(&[OnFailure::Rollback, OnFailure::Hold]);
        target.migration.consent = Consent { no_internet: self.rarely(2), data_loss: !self.rarely(3), quota_share: 25 };
        target.migration.approval = Approval { switch: self.rarely(4), retire: self.rarely(4) };
        target.migration.bake_time = Duration::from_secs(60);
        target.migration.retire = Retire {
            delete_old_store: self.rarely(3),
            rules: RULES[..usize::from(self.throw(3))].iter().map(|id| (*id).into()).collect(),
            connectors: CONNECTORS[..usize::from(self.throw(3))].iter().map(|name| arn(name)).collect(),
        };
        if self.rarely(5) {
            target.migration.from = Some(self.store_spec());
        }
        if self.rarely(6) {
            target.other_consumers.push(OtherConsumer { name: "worker".into() });
        }
        target
    }

    pub fn desired(&mut self) -> Desired {
        match self.throw(8) {
            6 => Desired::absent(DeletionPolicy::Retain),
            7 => Desired::absent(DeletionPolicy::Delete),
            _ => Desired::Present(Box::new(self.target())),
        }
    }

    fn store_spec(&mut self) -> StoreSpec {
        let rules = self.pick(&[RulesPolicy::Managed, RulesPolicy::Unmanaged]);
        match self.throw(7) {
            0 | 1 => StoreSpec::Upstash {
                database: UpstashDatabase::Named { name: "liberty".into(), region: "us-east-1".into() },
                plan: None,
                managed: !self.rarely(4),
            },
            2 => StoreSpec::Upstash { database: UpstashDatabase::Existing("u-1".into()), plan: None, managed: true },
            3 => StoreSpec::ReplicationGroup {
                group: ReplicationGroupRef::Existing("liberty".into()),
                rules,
                credentials: true,
            },
            4 => StoreSpec::ReplicationGroup {
                group: ReplicationGroupRef::Create(ReplicationGroupSettings {
                    node_type: "cache.t4g.small".into(),
                    replicas: 1,
                    subnets: vec!["subnet-1".into()],
                    security_groups: vec!["sg-store".into()],
                }),
                rules,
                credentials: false,
            },
            5 => StoreSpec::External { tls: TlsPolicy::Preferred },
            _ => StoreSpec::Disabled,
        }
    }

    pub fn store(&mut self) -> Store {
        let mut store = match self.throw(5) {
            0 => upstash(),
            1 => elasticache(),
            2 => Store {
                id: StoreId::Upstash("u-2".into()),
                name: "other".into(),
                address: Some(Address { host: "other-2.upstash.io".into(), ..upstash().address.unwrap() }),
                ..upstash()
            },
            3 => Store {
                id: StoreId::External("redis.example.com".into(), 6379),
                name: "redis.example.com:6379".into(),
                address: Some(Address { host: "redis.example.com".into(), ..upstash().address.unwrap() }),
                ..upstash()
            },
            _ => disabled(),
        };
        if self.rarely(8) {
            store.status = self.pick(&[
                StoreStatus::Creating,
                StoreStatus::Modifying,
                StoreStatus::Deleting,
                StoreStatus::Failed("suspended".into()),
            ]);
        }
        if self.rarely(12) {
            store.credential = None;
        }
        if self.rarely(12) {
            store.address = None;
        }
        if let Some(address) = &mut store.address
            && self.rarely(12)
        {
            address.db = 3;
        }
        store
    }

    /// The store a spec asks for, mostly.
    fn store_of(&mut self, spec: &StoreSpec) -> Store {
        let likely = self.store_of_exactly(spec);
        let odd = self.store();
        if self.rarely(6) { odd } else { Store { status: odd.status, ..likely } }
    }

    fn store_of_exactly(&self, spec: &StoreSpec) -> Store {
        match spec {
            StoreSpec::Upstash { .. } => upstash(),
            StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Create(_), .. } => {
                let name = owner().short_name("cache");
                let address =
                    Address { host: format!("master.{name}.cache.amazonaws.com"), ..elasticache().address.unwrap() };
                Store { id: StoreId::ReplicationGroup(name.clone()), name, address: Some(address), ..elasticache() }
            }
            StoreSpec::ReplicationGroup { .. } | StoreSpec::ServerlessCache { .. } => elasticache(),
            StoreSpec::External { .. } => Store {
                id: StoreId::External("redis.example.com".into(), 6379),
                name: "redis.example.com:6379".into(),
                address: Some(Address { host: "redis.example.com".into(), ..upstash().address.unwrap() }),
                ..upstash()
            },
            StoreSpec::Disabled => disabled(),
        }
    }

    pub fn service(&mut self, name: &str, on: Option<&Store>) -> Service {
        let mut service = super::service(name);
        service.variables = BTreeMap::from([("SECRET_KEY".to_owned(), variable("foreign"))]);
        let reach = on.map_or(Reach::None, |store| match store.placement {
            Placement::Public => Reach::Public,
            Placement::Vpc { .. } => Reach::Private("cache".into()),
            Placement::Nowhere => Reach::None,
        });
        for name in VARIABLES {
            if !self.rarely(3) {
                continue;
            }
            let delivery = if self.rarely(2) {
                Delivery::Plain
            } else {
                // Theirs, or one of ours by whatever way they came to it.
                let secret = if self.rarely(6) { MADE.to_owned() } else { format!("by-hand/{name}") };
                let arn = format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{secret}-Zz9Yy8");
                Delivery::Reference(arn.as_str().into())
            };
            let leads =
                name != "DATABASE_URL" && name != "SECRET_KEY" && !name.ends_with("PORT") && !name.ends_with("TLS");
            let address = on.and_then(|store| store.address.clone()).filter(|_| leads && !self.rarely(6));
            let unknown = Reach::Unknown(self.error());
            let foreign = self.pick(&[Reach::None, Reach::Public, Reach::Private("db".into()), unknown]);
            // A host in a form nobody parses.
            let named = on.map(|store| store.id.clone()).filter(|id| id.is_redis() && self.rarely(6));
            let found = Variable {
                reach: if address.is_some() { reach.clone() } else { foreign },
                password: on.and_then(|store| store.credential.clone()),
                names: named.into_iter().collect(),
                address,
                delivery,
                digest: Fingerprint::of(&owner(), name),
            };
            service.variables.insert(name.to_owned(), found);
        }
        service.status = match self.throw(16) {
            11 => ServiceStatus::OperationInProgress,
            12 => ServiceStatus::Paused,
            13 => ServiceStatus::CreateFailed,
            14 => ServiceStatus::Deleted,
            15 => ServiceStatus::Other("UPGRADING".into()),
            _ => ServiceStatus::Running,
        };
        service.source = self.pick(&[
            ServiceSource::Image,
            ServiceSource::Image,
            ServiceSource::Image,
            ServiceSource::CodeApi,
            ServiceSource::CodeRepository,
        ]);
        service.egress = match self.throw(3) {
            0 => Egress::Default,
            1 => Egress::Vpc(arn("by-hand")),
            _ => Egress::Vpc(arn("private")),
        };
        service.auto_deployments = self.rarely(3);
        if self.rarely(8) {
            service.instance_role = None;
        }
        for number in 0..self.throw(3) {
            service.operations.insert(0, self.operation(&format!("op-{name}-{number}")));
        }
        service
    }

    pub fn operation(&mut self, id: &str) -> Operation {
        let status = self.pick(&[
            OperationStatus::Succeeded,
            OperationStatus::Failed,
            OperationStatus::Running,
            OperationStatus::RollingBack,
        ]);
        Operation {
            id: id.into(),
            kind: self.pick(&[OperationKind::Update, OperationKind::Deployment, OperationKind::Other]),
            status,
            started: Some(at(-i64::from(self.throw(200)))),
            ended: status.has_ended().then(|| at(-1)),
        }
    }

    pub fn observed(&mut self, target: Option<&Target>) -> Observed {
        let account = self.reading(Reading::Present("123456789012".to_owned()));
        let (to, from) = (target.map(|target| self.store_of(&target.store)), self.store());
        let mut services = BTreeMap::new();
        for name in SERVICES {
            let on = match self.throw(5) {
                0..3 => Some(&from),
                3 => to.as_ref(),
                _ => None,
            };
            let service = self.service(name, on);
            services.insert(name.to_owned(), self.reading(Reading::Present(service)));
        }
        let mut connectors = BTreeMap::new();
        for name in CONNECTORS {
            let connector = Connector {
                name: name.to_owned(),
                ours: self.pick(&[Some(name.starts_with("sb-")), None]),
                admitted_by: self.pick(&[Some(vec![]), None, Some(vec!["sg-db".into()])]),
                ..super::connector(self.pick(&[Some(true), Some(false), None]))
            };
            if !self.rarely(3) {
                connectors.insert(arn(name), self.reading(Reading::Present(connector)));
            }
        }
        let mut rules = BTreeMap::new();
        for id in RULES {
            let rule = Rule { ours: self.rarely(2), ..super::rule() };
            if !self.rarely(3) {
                rules.insert(id.into(), self.reading(Reading::Present(rule)));
            }
        }
        let mut claims = BTreeMap::new();
        for name in SERVICES {
            let holder = self.pick(&[owner().path(), owner().path(), "default/other/team".to_owned()]);
            let held = Claims { sequence: 1, holders: BTreeMap::from([("REDIS_URL".to_owned(), holder)]) };
            if self.rarely(3) {
                claims.insert(name.to_owned(), self.reading(Reading::Present(held)));
            }
        }
        let catalog = [to.as_ref(), Some(&from)].into_iter().flatten().filter_map(|store| {
            let host = store.address.as_ref()?.host.clone();
            (!matches!(store.id, StoreId::External(..)))
                .then(|| CatalogEntry { id: store.id.clone(), hosts: vec![host] })
        });
        let catalog = catalog.filter(|_| !self.rarely(8)).collect();
        let on = self.pick(&[None, Some(&from), to.as_ref()]);
        let Service { egress, source, variables, .. } = self.service("billing", on);
        let bystander = Bystander { name: "billing".into(), egress, source, variables };
        let bystanders = if self.rarely(3) { vec![bystander] } else { vec![] };
        let mut unlisted = std::collections::BTreeMap::new();
        for vendor in [Vendor::ElastiCache, Vendor::Upstash] {
            if self.rarely(8) {
                unlisted.insert(vendor, self.error());
            }
        }
        let mut forgotten = BTreeMap::new();
        if self.rarely(8) {
            let left = BTreeSet::from([MigrationId::new(&owner(), Epoch(1))]);
            forgotten.insert(from.id.clone(), self.reading(Reading::Present(left)));
        }
        Observed {
            account,
            services,
            bystanders: self.reading(Reading::Present(bystanders)),
            target: self.reading(to.map_or(Reading::Absent, Reading::Present)),
            source: self.reading(if from.id.is_redis() { Reading::Present(from) } else { Reading::Absent }),
            catalog,
            unlisted,
            connectors,
            rules,
            claims,
            forgotten,
            ..Observed::default()
        }
    }

    /// A spec and a world in which nothing stands in the way, so that a walk goes far.
    pub fn likely(&mut self) -> (Target, Observed) {
        let mut target = self.target();
        target.app.cluster_client = false;
        target.migration.from = None;
        target.env.takeover = Takeover::Always;
        target.migration.consent = Consent { no_internet: true, data_loss: true, quota_share: 25 };
        let in_vpc = matches!(target.store, StoreSpec::ReplicationGroup { .. });
        if let StoreSpec::Upstash { managed, .. } = &mut target.store {
            *managed = true;
        }
        if let StoreSpec::ReplicationGroup { rules, .. } = &mut target.store {
            *rules = RulesPolicy::Managed;
        }
        if let EnvFormat::UrlImplicitTls { url } = &target.env.format {
            target.env.format = EnvFormat::Url { url: url.clone() };
        }
        for service in &mut target.services {
            let goes = matches!(service.egress, EgressPolicy::Connector(_) | EgressPolicy::CreateConnector { .. });
            if in_vpc && !goes {
                service.egress = EgressPolicy::Connector(arn("private"));
            }
        }
        let spec = target.store.clone();
        let to = Store { status: StoreStatus::Available, ..self.store_of_exactly(&spec) };
        let from = match self.throw(4) {
            0 | 1 if to.id != elasticache().id => Some(elasticache()),
            2 => None,
            _ => Some(Store {
                id: StoreId::Upstash("u-2".into()),
                name: "other".into(),
                address: Some(Address { host: "other-2.upstash.io".into(), ..upstash().address.unwrap() }),
                ..upstash()
            }),
        };
        let owner = owner();
        let teller = super::world::Teller { owner: &owner, target: Some(&target) };
        let mut services = BTreeMap::new();
        for spec in &target.services {
            let mut service = super::service(&spec.name);
            service.variables.remove("REDIS_URL");
            if let Some(from) = &from {
                service.variables.extend(teller.wired(&spec.name, from, &[], self.rarely(3)));
            }
            let needs_vpc = from.as_ref().is_some_and(|from| from.placement != Placement::Public);
            service.egress = if needs_vpc || self.rarely(2) { Egress::Vpc(arn("by-hand")) } else { Egress::Default };
            service.auto_deployments = self.rarely(3);
            services.insert(spec.name.clone(), Reading::Present(service));
        }
        let creatable = matches!(
            target.store,
            StoreSpec::Upstash { database: UpstashDatabase::Named { .. }, .. }
                | StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Create(_), .. }
        );
        let listed = [Some(&to), from.as_ref()].into_iter().flatten().filter_map(|store| {
            let host = store.address.as_ref()?.host.clone();
            (!matches!(store.id, StoreId::External(..)))
                .then(|| CatalogEntry { id: store.id.clone(), hosts: vec![host] })
        });
        let catalog = listed.collect();
        let connector = |name: &str| Reading::Present(Connector { name: name.into(), ..super::connector(Some(true)) });
        let observed = Observed {
            account: Reading::Present("123456789012".into()),
            services,
            bystanders: Reading::Present(vec![]),
            target: if creatable && self.rarely(2) { Reading::Absent } else { Reading::Present(to) },
            source: from.map_or(Reading::Absent, Reading::Present),
            catalog,
            connectors: ["by-hand", "private"].into_iter().map(|name| (arn(name), connector(name))).collect(),
            rules: BTreeMap::from([(RULES[0].into(), Reading::Present(super::rule()))]),
            ..Observed::default()
        };
        (target, observed)
    }

    pub fn copy(&mut self, now: Timestamp) -> Copy {
        let state = match self.throw(6) {
            0 | 1 => CopyState::BothWays,
            2 => CopyState::Following,
            3 => CopyState::Bulk,
            4 => CopyState::Starting,
            _ => CopyState::Failed { reason: "X".into(), message: "thrown".into(), temporary: self.rarely(2) },
        };
        Copy {
            state,
            heartbeat: now.checked_sub(Duration::from_secs(u64::from(self.throw(8)))).unwrap(),
            here: !self.rarely(4),
            total: 10,
            copied: 5,
            lag_ms: self.pick(&[Some(1), None, Some(90_000)]),
            worst_lag_ms: 0,
            conflicts: 0,
            quiet_sweeps: u32::from(self.throw(3)),
            quiet_since: self.rarely(2).then_some(now),
            drained: self.pick(&[None, Some(Side::From), Some(Side::To)]),
            clients_from: self.pick(&[None, Some(0), Some(3)]),
            clients_to: self.pick(&[None, Some(0), Some(3)]),
            connected_from: Vec::new(),
            connected_to: Vec::new(),
            asked: self.pick(&[None, Some(CopyMode::Follow), Some(CopyMode::BothWays)]),
            different: self.pick(&[None, Some(0), Some(2)]),
            uncarried_from: Uncarried::default(),
            uncarried_to: Uncarried::default(),
            other: None,
        }
    }

    pub fn run(&mut self, now: Timestamp) -> Run {
        let verdict = self.pick(&[Verdict::Pass, Verdict::Fail, Verdict::Inconclusive, Verdict::Skipped("x".into())]);
        Run {
            started: now,
            finished: (!self.rarely(3)).then_some(now),
            results: vec![CheckResult {
                name: "redis".into(),
                service: None,
                severity: self.pick(&[Severity::Gate, Severity::Warn]),
                required: self.rarely(3),
                verdict,
                message: "thrown".into(),
            }],
        }
    }

    fn record(&mut self) -> StoreRecord {
        let store = self.store();
        StoreRecord {
            id: store.id,
            name: store.name,
            address: store.address,
            placement: store.placement,
            password: store.credential.as_ref().map(|_| VaultKey("password".into())),
            credential: store.credential,
        }
    }

    fn moved(&mut self, name: &str) -> Option<Move> {
        self.rarely(2).then(|| Move {
            intended: at(-i64::from(self.throw(250))),
            after: self.rarely(2).then(|| format!("op-{name}-created").as_str().into()),
            operation: self.rarely(2).then(|| format!("op-{name}-{}", self.throw(3)).as_str().into()),
            retried: self.rarely(3).then(|| at(-15)),
        })
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.rarely(2).then(|| at(-i64::from(self.throw(250))))
    }

    /// A journal nobody wrote: any field may contradict any other, and the world.
    pub fn forged(&mut self, observed: &Observed) -> Journal {
        let to = self.record();
        let epoch = Epoch(u32::from(self.throw(3)));
        let services = SERVICES[..usize::from(1 + self.throw(3))].iter().map(|name| {
            let service = observed.services.get(*name).and_then(Reading::present);
            let variables = VARIABLES.into_iter().filter(|_| self.rarely(2)).map(|variable| {
                let kept = service.and_then(|service| service.variables.get(variable));
                let prior = match kept.map(|kept| (&kept.delivery, kept)) {
                    Some((Delivery::Plain, kept)) => Prior::Plain(VaultKey(variable.into()), kept.digest.clone()),
                    Some((Delivery::Reference(arn), _)) => Prior::Reference(arn.clone()),
                    None => Prior::Absent,
                };
                (variable.to_owned(), prior)
            });
            let variables: Vec<_> = variables.collect();
            ServiceMove {
                service: (*name).to_owned(),
                arn: super::service(name).arn,
                undo: Undo {
                    variables: variables.into_iter().collect(),
                    egress: service.map_or(Egress::Default, |service| service.egress.clone()),
                    auto_deployments: self.rarely(3),
                },
                egress: match self.throw(4) {
                    0 => EgressChange::None,
                    1 => EgressChange::First(Egress::Vpc(arn("private"))),
                    2 => EgressChange::WithVariables(Egress::Default),
                    _ => EgressChange::Last(Egress::Default),
                },
                egress_moved: self.moved(name),
                forward: self.moved(name),
                back: self.moved(name),
                deployments_restored: self.moved(name),
                refused: self.rarely(6).then(|| "App Runner refused".to_owned()),
                dropped: self.rarely(4),
            }
        });
        let services: Vec<_> = services.collect();
        let mut made = BTreeMap::new();
        for resource in [
            Resource::UpstashDatabase("liberty".into()),
            Resource::ReplicationGroup(owner().short_name("cache")),
            Resource::ReplicationGroup("liberty".into()),
            Resource::SubnetGroup(owner().short_name("subnets")),
            Resource::Connector(CONNECTORS[2].into()),
            Resource::Rule("sg-store <- sg-connector : 6379".into()),
            Resource::Secret(MADE.into()),
        ] {
            let id = match &resource {
                Resource::UpstashDatabase(_) => "u-1".to_owned(),
                Resource::Connector(name) => arn(name).0,
                Resource::Rule(_) => RULES[0].to_owned(),
                other => String::from(other.clone()),
            };
            if self.rarely(2) {
                made.insert(resource, Made { intended: at(-500), id: self.rarely(2).then_some(id) });
            }
        }
        let mut leftovers: BTreeSet<_> = made.keys().filter(|_| self.rarely(3)).cloned().collect();
        let mut let_go = BTreeMap::new();
        for (resource, store) in [
            (Resource::UpstashDatabase("former".into()), StoreId::Upstash("u-9".into())),
            (Resource::ReplicationGroup("liberty".into()), StoreId::ReplicationGroup("liberty".into())),
        ] {
            if self.rarely(4) {
                leftovers.insert(resource.clone());
                if self.rarely(2) {
                    let_go.insert(resource, store);
                }
            }
        }
        let migration = Migration {
            id: MigrationId("forged-1".into()),
            epoch,
            from: self.rarely(2).then(|| self.record()),
            copies: self.rarely(2),
            rules: CopyRules::default(),
            attempt: 0,
            told: None,
            copied: None,
            to,
            began: at(-300),
            services,
            baseline: self.rarely(2).then(Vec::new),
            checks: vec![],
            approved: [Gate::Switch, Gate::Retire].into_iter().filter(|_| self.rarely(2)).collect(),
            sealed: self.time(),
            egress_validated: self.time(),
            drained: self.time(),
            validated: self.time(),
            baked: self.time(),
            rollback: self.rarely(3).then(|| Rollback {
                at: at(-40),
                reason: "CheckFailed".into(),
                message: "thrown".into(),
                drained: self.time(),
                validated: self.time(),
            }),
            hold: self.rarely(5).then(|| Hold { at: at(-40), reason: "Contested".into(), message: "thrown".into() }),
            ended: self.rarely(3).then(|| Ended {
                at: at(-30),
                outcome: self.pick(&[Outcome::Completed, Outcome::RolledBack, Outcome::Abandoned]),
            }),
        };
        Journal {
            sequence: u64::from(self.throw(50)),
            epoch,
            settled: self.rarely(3).then(|| Settled {
                store: self.store().id,
                database: 0,
                epoch: self.rarely(2).then_some(epoch),
                binding: None,
                told: self.rarely(2).then(|| Fingerprint("another form".into())),
            }),
            migration: Some(migration),
            made,
            latch: self.rarely(5).then(|| Latch {
                store: self.store().id,
                reason: "CheckFailed".into(),
                message: "thrown".into(),
                at: at(-30),
            }),
            leftovers,
            let_go,
            reverts: u32::from(self.throw(3)),
        }
    }

    /// Something happens that is not ours.
    pub fn disturb(&mut self, picture: &mut Picture, desired: &mut Desired, now: Timestamp) {
        let name = self.pick(&SERVICES);
        let observed = &mut picture.observed;
        match self.throw(14) {
            0 => picture.journal = picture.journal.apply(&Entry::Abort, now),
            1 => picture.journal = picture.journal.apply(&Entry::Retry, now),
            2 if self.rarely(3) => *desired = self.desired(),
            2 => *desired = Desired::Present(Box::new(self.likely().0)),
            3 => {
                let store = self.store();
                observed.target = self.reading(Reading::Present(store));
            }
            4 => {
                if let Some(copy) = observed.copy.present_mut() {
                    *copy = self.copy(now);
                }
            }
            5 => {
                let stage = self.pick(&Stage::ALL);
                let run = self.run(now);
                observed.checks.insert(stage, run);
            }
            6 => {
                let id = format!("op-{name}-foreign-{}", self.throw(200));
                let operation = self.operation(&id);
                let store = self.store();
                let other = self.service(name, Some(&store));
                if let Some(service) = observed.services.get_mut(name).and_then(Reading::present_mut) {
                    service.variables.extend(other.variables);
                    service.operations.insert(0, operation);
                }
            }
            7 => {
                let status = self.service(name, None).status;
                if let Some(service) = observed.services.get_mut(name).and_then(Reading::present_mut) {
                    service.status = status;
                }
            }
            8 => {
                if let Some(reading) = observed.services.get_mut(name) {
                    *reading = Reading::Unknown(self.error());
                }
            }
            9 => {
                for secret in observed.secrets.values_mut() {
                    *secret = self.pick(&[Reading::Absent, Reading::Hidden("x".into())]);
                }
            }
            10 => {
                observed.catalog.clear();
                let since = now.checked_sub(Duration::from_secs(u64::from(self.throw(20)))).unwrap();
                observed.miss(&picture.journal, &BTreeMap::new(), since);
            }
            11 => observed.role_access.iter_mut().for_each(|access| access.allowed = Reading::Present(false)),
            12 => {
                if let Some(service) = observed.services.get_mut(name).and_then(Reading::present_mut) {
                    service.egress = Egress::Vpc(arn("private"));
                }
            }
            _ => {
                let operations =
                    observed.services.get_mut(name).and_then(Reading::present_mut).map(|it| &mut it.operations);
                if let Some(operation) = operations.and_then(|operations| operations.first_mut()) {
                    operation.status = OperationStatus::Failed;
                }
            }
        }
    }
}

impl Dice<'_> {
    /// An object that is to go with all it made, which is a database and a secret, and services that may use either: mostly
    /// in ways nobody can be sure of.
    pub fn parting(&mut self) -> Picture {
        let store = upstash();
        let user = |dice: &mut Self, name: &str| {
            let mut service = super::service(name);
            service.variables = BTreeMap::new();
            let reach = match dice.throw(4) {
                0 => Reach::Unknown(dice.error()),
                1 => Reach::Public,
                _ => Reach::None,
            };
            let names = if dice.rarely(8) { vec![store.id.clone()] } else { vec![] };
            let address = if dice.rarely(8) { store.address.clone() } else { None };
            let secret = if dice.rarely(6) { MADE } else { "by-hand/x" };
            let secret = format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{secret}-AbCdEf");
            let delivery = Delivery::Reference(secret.as_str().into());
            if !dice.rarely(2) {
                let variable = Variable { delivery, reach, names, address, ..variable("thrown") };
                service.variables.insert("SESSIONS".to_owned(), variable);
            }
            if dice.rarely(8) {
                service.source = ServiceSource::CodeRepository;
            }
            service
        };
        let services: Vec<_> = SERVICES[..usize::from(self.throw(3))].to_vec();
        let mut observed = Observed {
            account: Reading::Present("123456789012".into()),
            catalog: vec![CatalogEntry { id: store.id.clone(), hosts: vec![store.address.clone().unwrap().host] }],
            ..Observed::default()
        };
        for name in services {
            let service = user(self, name);
            observed.services.insert(name.to_owned(), self.reading(Reading::Present(service)));
        }
        let others = if self.rarely(2) { vec![user(self, "billing")] } else { vec![] };
        let others = others.into_iter().map(|Service { egress, source, variables, .. }| Bystander {
            name: "billing".into(),
            egress,
            source,
            variables,
        });
        observed.bystanders = Reading::Present(others.collect());
        let arn = format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{MADE}-AbCdEf");
        let secret = Secret { arn: arn.as_str().into(), deletion: None };
        observed.secrets.insert(MADE.into(), Reading::Present(secret));
        let made = |id: &str| Made { intended: at(-500), id: Some(id.to_owned()) };
        let mut journal = Journal { sequence: 9, ..Journal::default() };
        journal.made.insert(Resource::Secret(MADE.into()), made(&arn));
        if self.rarely(2) {
            journal.made.insert(Resource::UpstashDatabase("liberty".into()), made("u-1"));
        }
        Picture { observed, journal }
    }
}
