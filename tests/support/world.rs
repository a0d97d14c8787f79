//! A world as a reader would tell it, in a few lines of YAML, made into what the planner sees.
//! Unknown words are a mistake of the case, and panic.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use serde_json::{Map, Value};
use sessionbackend::checks::{CheckResult, Run, Severity, Stage, Verdict};
use sessionbackend::desired::{Desired, Target};
use sessionbackend::effect::Picture;
use sessionbackend::engine::{Memory, cycle};
use sessionbackend::env::{self, Outline};
use sessionbackend::error::{Class, CloudError};
use sessionbackend::identity::*;
use sessionbackend::journal::Entry;
use sessionbackend::observed::*;
use sessionbackend::plan::{Inputs, Phase, plan};
use sessionbackend::sim::{Faults, SimWorld};
use sessionbackend::step::Side;

use super::{CONNECTOR, at, pause};

/// Reads worlds for one owner and one manifest.
pub struct Teller<'a> {
    pub owner: &'a Owner,
    pub target: Option<&'a Target>,
}

fn map<'v>(value: &'v Value, known: &[&str]) -> &'v Map<String, Value> {
    let map = value.as_object().unwrap_or_else(|| panic!("not a map: {value}"));
    for key in map.keys() {
        assert!(known.contains(&key.as_str()), "{key:?} is none of {known:?}");
    }
    map
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}")).iter().map(|it| text(it).to_owned()).collect()
}

pub fn error(class: &str) -> CloudError {
    let (class, message) = match class {
        "throttled" => (Class::Throttled, "rate exceeded"),
        "transient" => (Class::Transient, "connection reset"),
        "denied" => (Class::Denied, "is not authorized to perform this action"),
        "credentials" => (Class::Credentials, "the security token is expired"),
        other => panic!("no such failure: {other}"),
    };
    CloudError::new(class, "AWS", "Describe", "", message)
}

/// `absent`, `{ unknown: throttled }`, `{ hidden: why }`, or what `present` makes of it.
fn reading<T>(value: &Value, present: impl FnOnce(&Value) -> T) -> Reading<T> {
    if value == "absent" {
        return Reading::Absent;
    }
    if let Some(class) = value.get("unknown") {
        return Reading::Unknown(error(text(class)));
    }
    if let Some(why) = value.get("hidden") {
        return Reading::Hidden(text(why).to_owned());
    }
    Reading::Present(present(value))
}

pub fn arn(key: &str) -> Arn {
    match key {
        "by-hand" => CONNECTOR.into(),
        _ if key.starts_with("arn:") => key.into(),
        key => Arn(format!(
            "arn:aws:apprunner:us-east-1:123456789012:vpcconnector/{key}/1/0123456789abcdef0123456789abcdef"
        )),
    }
}

pub fn disabled() -> Store {
    Store {
        id: StoreId::Disabled,
        name: "disabled".into(),
        status: StoreStatus::Available,
        address: None,
        credential: None,
        placement: Placement::Nowhere,
        cluster: false,
        max_connections: None,
        plan: None,
        quota: None,
        server: Reading::Absent,
    }
}

fn external(owner: &Owner) -> Store {
    let host = "redis-12345.c1.us-east-1-2.ec2.redns.redis-cloud.com";
    Store {
        id: StoreId::External(host.into(), 12345),
        name: format!("{host}:12345"),
        address: Some(Address { host: host.into(), port: 12345, db: 0, user: None, tls: true }),
        credential: Some(Fingerprint::of(owner, "external")),
        placement: Placement::Public,
        server: Reading::Present(super::server(0)),
        ..disabled()
    }
}

fn serverless(owner: &Owner) -> Store {
    Store {
        id: StoreId::ServerlessCache("audio".into()),
        name: "audio".into(),
        address: Some(Address {
            host: "audio-abc123.serverless.use1.cache.amazonaws.com".into(),
            port: 6379,
            db: 0,
            user: None,
            tls: true,
        }),
        credential: Some(Fingerprint::of(owner, "serverless")),
        placement: Placement::Vpc { vpc: "vpc-1".into(), groups: vec!["sg-store".into()] },
        cluster: true,
        server: Reading::Hidden("only the VPC reaches it".into()),
        ..disabled()
    }
}

impl Teller<'_> {
    /// A store: the word for one, or `{ like: word, … }` with what differs.
    pub fn store(&self, value: &Value) -> Store {
        let word = value.as_str().unwrap_or_else(|| text(&value["like"]));
        let mut store = match word {
            "elasticache" => super::elasticache(),
            "upstash" => super::upstash(),
            "external" => external(self.owner),
            "serverless" => serverless(self.owner),
            "disabled" => disabled(),
            other => panic!("no such store: {other}"),
        };
        store.credential = store.credential.map(|_| Fingerprint::of(self.owner, &store.id.to_string()));
        if value.is_string() {
            return store;
        }
        let known = [
            "like",
            "id",
            "name",
            "status",
            "db",
            "tls",
            "password",
            "cluster",
            "connections",
            "plan",
            "commandsLeft",
            "keys",
            "maxMemory",
            "evicted",
            "evicts",
            "address",
            "server",
            "host",
        ];
        for (key, value) in map(value, &known) {
            match key.as_str() {
                "like" => {}
                "id" => {
                    let id = text(value).to_owned();
                    store.id = match store.id {
                        StoreId::Upstash(_) => StoreId::Upstash(id),
                        StoreId::ReplicationGroup(_) => StoreId::ReplicationGroup(id),
                        StoreId::ServerlessCache(_) => StoreId::ServerlessCache(id),
                        other @ (StoreId::External(..) | StoreId::Disabled) => other,
                    };
                }
                "name" => store.name = text(value).to_owned(),
                "status" => {
                    store.status = match text(value) {
                        "creating" => StoreStatus::Creating,
                        "available" => StoreStatus::Available,
                        "modifying" => StoreStatus::Modifying,
                        "deleting" => StoreStatus::Deleting,
                        other => StoreStatus::Failed(other.to_owned()),
                    }
                }
                "address" => store.address = None,
                "host" => store.address.as_mut().unwrap().host = text(value).to_owned(),
                "db" => store.address.as_mut().unwrap().db = u32::try_from(value.as_u64().unwrap()).unwrap(),
                "tls" => store.address.as_mut().unwrap().tls = value.as_bool().unwrap(),
                "password" => {
                    store.credential = value.as_str().map(|word| Fingerprint::of(self.owner, word));
                }
                "cluster" => store.cluster = value.as_bool().unwrap(),
                "connections" => store.max_connections = value.as_u64().map(|it| u32::try_from(it).unwrap()),
                "plan" => store.plan = Some(text(value).to_owned()),
                "commandsLeft" => {
                    let left = value.as_u64().unwrap();
                    store.quota = Some(CommandQuota { limit: 500_000, used: 500_000 - left });
                }
                "keys" => {
                    let keys = value.as_object().unwrap().iter();
                    let keys = keys.map(|(db, keys)| (db.parse().unwrap(), keys.as_u64().unwrap()));
                    let keys: BTreeMap<u32, u64> = keys.collect();
                    store.server =
                        Reading::Present(Server { keys: keys.clone(), ..super::server(keys.values().sum()) });
                }
                "maxMemory" => store.server.present_mut().unwrap().max_memory = value.as_u64().unwrap(),
                "evicts" => store.server.present_mut().unwrap().eviction_policy = text(value).to_owned(),
                "evicted" => store.server.present_mut().unwrap().evicted = value.as_u64().unwrap(),
                "server" => store.server = reading(value, |_| panic!("give keys")),
                other => panic!("{other}"),
            }
        }
        store
    }

    /// The variables by which a service is wired to `store` by hand.
    pub fn wired(&self, service: &str, store: &Store, also: &[String], plain: bool) -> BTreeMap<String, Variable> {
        let target = self.target.expect("a service is wired by the format of the manifest");
        let Some(address) = &store.address else { return BTreeMap::new() };
        let reach = match store.placement {
            Placement::Vpc { .. } => Reach::Private(address.host.clone()),
            Placement::Public => Reach::Public,
            Placement::Nowhere => Reach::None,
        };
        let upstash = matches!(store.id, StoreId::Upstash(_));
        let present = also.iter().cloned().collect();
        let outline = env::outline(&target.env.format, &present, address, store.credential.is_some(), upstash);
        let variable = |name: &str, outline: Outline| {
            let secret = format!(
                "arn:aws:secretsmanager:us-east-1:123456789012:secret:by-hand/{service}/{}/{name}-Zz9Yy8",
                store.name
            );
            let leads = |value: &str| value == address.host || value.contains("://");
            match outline {
                Outline::Plain(value) => Variable {
                    delivery: Delivery::Plain,
                    digest: Fingerprint::of(self.owner, &value),
                    address: leads(&value).then(|| address.clone()),
                    password: None,
                    names: vec![],
                    reach: if leads(&value) { reach.clone() } else { Reach::None },
                },
                Outline::Secret { .. } => {
                    let holds_url = !name.ends_with("PASSWORD");
                    Variable {
                        delivery: if plain { Delivery::Plain } else { Delivery::Reference(secret.as_str().into()) },
                        digest: Fingerprint::of(self.owner, &secret),
                        address: holds_url.then(|| address.clone()),
                        password: store.credential.clone(),
                        names: vec![],
                        reach: if holds_url { reach.clone() } else { Reach::None },
                    }
                }
            }
        };
        outline.into_iter().map(|(name, outline)| (name.clone(), variable(&name, outline))).collect()
    }

    fn service(&self, name: &str, value: &Value, former: Option<&Service>) -> Service {
        let known = [
            "on",
            "egress",
            "status",
            "source",
            "variables",
            "remove",
            "automaticDeployments",
            "role",
            "operation",
            "also",
            "plain",
            "foreign",
            "many",
        ];
        let value = map(value, &known);
        let mut service = former.cloned().unwrap_or_else(|| {
            let mut service = super::service(name);
            service.variables.remove("REDIS_URL");
            service
        });
        let also = value.get("also").map(texts).unwrap_or_default();
        let plain = value.get("plain").is_some();
        for (key, value) in value {
            match key.as_str() {
                "also" | "plain" => {}
                "on" if value == "nothing" => {}
                "on" => service.variables.extend(self.wired(name, &self.store(value), &also, plain)),
                "egress" if value == "default" => service.egress = Egress::Default,
                "egress" => service.egress = Egress::Vpc(arn(text(value))),
                "status" => {
                    service.status = match text(value) {
                        "RUNNING" => ServiceStatus::Running,
                        "OPERATION_IN_PROGRESS" => ServiceStatus::OperationInProgress,
                        "PAUSED" => ServiceStatus::Paused,
                        "CREATE_FAILED" => ServiceStatus::CreateFailed,
                        "DELETE_FAILED" => ServiceStatus::DeleteFailed,
                        "DELETED" => ServiceStatus::Deleted,
                        other => ServiceStatus::Other(other.to_owned()),
                    }
                }
                "source" => {
                    service.source = match text(value) {
                        "image" => ServiceSource::Image,
                        "code" => ServiceSource::CodeApi,
                        "repository" => ServiceSource::CodeRepository,
                        other => panic!("no such source: {other}"),
                    }
                }
                "variables" => {
                    let named = value.as_object().unwrap().iter();
                    service.variables.extend(named.map(|(name, value)| (name.clone(), self.variable(value))));
                }
                "remove" => service.variables.retain(|name, _| !texts(value).contains(name)),
                "many" => {
                    let names = (0..value.as_u64().unwrap()).map(|number| format!("SETTING_{number:02}"));
                    service.variables.extend(names.map(|name| (name.clone(), super::variable(&name))));
                }
                "automaticDeployments" => service.auto_deployments = value.as_bool().unwrap(),
                "role" => service.instance_role = value.as_str().map(Into::into),
                "foreign" => service.foreign = text(value).to_owned().as_str().into(),
                "operation" => service.operations.insert(0, operation(text(value))),
                other => panic!("{other}"),
            }
        }
        service
    }

    /// Another service: where its egress goes, or what differs from a service that uses nothing.
    fn bystander(&self, name: &str, value: &Value) -> Bystander {
        if value.is_string() {
            return self.bystander(name, &serde_json::json!({ "egress": value }));
        }
        let service = self.service(name, value, None);
        Bystander {
            name: name.to_owned(),
            egress: service.egress,
            source: service.source,
            variables: service.variables,
        }
    }

    /// `text`, `public`, `unknown`, `unknown throttled`, `private HOST`, a store's word, or `{ config: STORE }` for a value
    /// that names the store's host in a form of its own.
    fn variable(&self, value: &Value) -> Variable {
        if let Some(store) = value.get("config") {
            let names = vec![self.store(store).id];
            return Variable { names, reach: Reach::Public, ..super::variable("config") };
        }
        let reach = match value.as_str() {
            Some("text") => Reach::None,
            Some("public") => Reach::Public,
            Some("unknown") => return unread("denied"),
            Some(word) if word.starts_with("unknown ") => return unread(&word["unknown ".len()..]),
            Some(host) if host.starts_with("private ") => Reach::Private(host["private ".len()..].to_owned()),
            _ => {
                let store = self.store(value);
                let reach =
                    if store.placement == Placement::Public { Reach::Public } else { Reach::Private("cache".into()) };
                return Variable {
                    address: store.address,
                    password: store.credential,
                    names: vec![],
                    reach,
                    ..super::variable("store")
                };
            }
        };
        Variable { reach, ..super::variable("foreign") }
    }

    /// Changes a picture by what is told; where nothing is told of a thing it stays.
    pub fn tell(&self, picture: &mut Picture, told: &Value, now: Timestamp) {
        let known = [
            "account",
            "services",
            "target",
            "source",
            "connectors",
            "rules",
            "bystanders",
            "claims",
            "unsearchedClaims",
            "roles",
            "secrets",
            "copy",
            "checks",
            "unlisted",
            "lack",
            "catalog",
            "forgotten",
        ];
        let told = map(told, &known);
        let observed = &mut picture.observed;
        let mut forgotten = None;
        for (key, value) in told {
            match key.as_str() {
                "account" => observed.account = reading(value, |value| text(value).to_owned()),
                "target" => observed.target = reading(value, |value| self.store(value)),
                "source" => observed.source = reading(value, |value| self.store(value)),
                "unlisted" => {
                    let vendors = [("elastiCache", Vendor::ElastiCache), ("upstash", Vendor::Upstash)];
                    let gap = |name| Some(error(text(map(value, &vendors.map(|(name, _)| name)).get(name)?)));
                    let gaps = vendors.into_iter().filter_map(|(name, vendor)| Some((vendor, gap(name)?)));
                    observed.unlisted = gaps.collect();
                }
                "services" => {
                    for (name, value) in value.as_object().unwrap() {
                        let former = observed.services.get(name).and_then(Reading::present).cloned();
                        let reading = reading(value, |value| self.service(name, value, former.as_ref()));
                        observed.services.insert(name.clone(), reading);
                    }
                }
                "connectors" => {
                    for (name, value) in value.as_object().unwrap() {
                        observed.connectors.insert(arn(name), reading(value, |value| connector(name, value)));
                    }
                }
                "rules" => {
                    for (id, value) in value.as_object().unwrap() {
                        observed.rules.insert(id.as_str().into(), reading(value, rule));
                    }
                }
                "bystanders" => {
                    observed.bystanders = reading(value, |value| {
                        let each = value.as_object().unwrap().iter();
                        each.map(|(name, value)| self.bystander(name, value)).collect()
                    });
                }
                "claims" => {
                    for (service, value) in value.as_object().unwrap() {
                        let claims = reading(value, |value| Claims {
                            sequence: 1,
                            holders: serde_json::from_value(value.clone()).unwrap(),
                        });
                        observed.claims.insert(service.clone(), claims);
                    }
                }
                "unsearchedClaims" => observed.unsearched_claims = Some(error(text(value))),
                "roles" => {
                    for access in &mut observed.role_access {
                        access.allowed = reading(value, |value| value == "allowed");
                    }
                }
                "secrets" => {
                    for secret in observed.secrets.values_mut() {
                        *secret = reading(value, |_| panic!("secrets are unknown, hidden or absent"));
                    }
                }
                "forgotten" => forgotten = Some(reading(value, |value| serde_json::from_value(value.clone()).unwrap())),
                "lack" => observed.lack = Some(serde_json::from_value(value.clone()).unwrap()),
                "copy" => copy(&mut observed.copy, value, now),
                "checks" => {
                    for (stage, value) in value.as_object().unwrap() {
                        let stage: Stage = serde_json::from_value(Value::String(stage.clone())).unwrap();
                        observed.checks.insert(stage, run(text(value), now));
                    }
                }
                "catalog" => {
                    observed.catalog.clear();
                    for store in value.as_array().unwrap() {
                        list(observed, &self.store(store));
                    }
                }
                other => panic!("{other}"),
            }
        }
        if let Some(left) = forgotten {
            observed.forgotten = BTreeMap::from([(observed.target.present().unwrap().id.clone(), left)]);
        }
        let stores: Vec<Store> =
            [&observed.target, &observed.source].into_iter().filter_map(Reading::present).cloned().collect();
        stores.iter().for_each(|store| list(observed, store));
        let a_minute_ago = now.checked_sub(Duration::from_secs(60)).unwrap();
        observed.miss(&picture.journal, &BTreeMap::new(), a_minute_ago);
    }

    /// The world before anything was told.
    pub fn quiet(&self) -> Picture {
        let observed = Observed {
            account: Reading::Present(self.owner.account.clone()),
            bystanders: Reading::Present(vec![]),
            connectors: BTreeMap::from([(arn("by-hand"), Reading::Present(super::connector(Some(true))))]),
            ..Observed::default()
        };
        Picture { observed, ..Picture::default() }
    }

    /// Drives `picture` in the simulator until the next plan is in the phase `mark`, or says it in a step or a wait.
    pub fn reach(&self, picture: Picture, desired: &Desired, mark: &str, faults: Faults) -> (Picture, Timestamp) {
        let world = SimWorld::new(picture, at(0), faults);
        let mut memory = Memory::default();
        for _ in 0..2_000 {
            let (picture, now) = (world.picture(), world.now());
            let inputs = Inputs {
                owner: self.owner,
                desired,
                observed: &picture.observed,
                journal: &picture.journal,
                announced: Some(picture.journal.sequence),
                now,
            };
            let next = plan(&inputs);
            let steps = next.steps.iter().map(ToString::to_string);
            let mut says = steps.chain(next.waits.iter().map(|wait| wait.message.clone()));
            // A phase a plan rests in is reached when nothing is left to do in it.
            let rests = matches!(next.phase, Phase::Ready | Phase::RolledBack | Phase::Held);
            let is_phase = format!("{:?}", next.phase) == mark && (!rests || next.steps.is_empty());
            if is_phase || mark.contains(' ') && says.any(|said| said.contains(mark)) {
                return (picture, now);
            }
            assert!(!next.is_converged(), "at rest before {mark:?}");
            let turn = cycle(&world, self.owner, desired, &mut memory, || world.now()).now_or_never().unwrap();
            let acts = !turn.plan.steps.is_empty();
            world.advance(if acts { Duration::from_millis(50) } else { pause(&turn.plan, world.now()) });
        }
        let picture = world.picture();
        let inputs = Inputs {
            owner: self.owner,
            desired,
            observed: &picture.observed,
            journal: &picture.journal,
            announced: None,
            now: world.now(),
        };
        panic!("{mark:?} was never reached: {:#?}", plan(&inputs));
    }
}

/// The line a person's word makes.
pub fn word(picture: &Picture, word: &str) -> Entry {
    match word {
        "abort" => Entry::Abort,
        "retry" => Entry::Retry,
        gate => {
            let gate = serde_json::from_value(Value::String(gate.to_owned())).unwrap();
            Entry::Approve(picture.journal.migration.as_ref().unwrap().id.clone(), gate)
        }
    }
}

/// A variable by a reference that may not be read.
pub fn unread_variable() -> Variable {
    unread("denied")
}

fn unread(class: &str) -> Variable {
    let secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:their-own/redis-Zz9Yy8";
    Variable {
        delivery: Delivery::Reference(secret.into()),
        reach: Reach::Unknown(error(class)),
        ..super::variable("foreign")
    }
}

fn list(observed: &mut Observed, store: &Store) {
    let Some(address) = store.address.as_ref().filter(|_| !matches!(store.id, StoreId::External(..))) else { return };
    observed.catalog.retain(|entry| entry.id != store.id);
    observed.catalog.push(CatalogEntry { id: store.id.clone(), hosts: vec![address.host.clone()] });
}

/// `running update`, `finished deployment` …, by somebody else.
fn operation(words: &str) -> Operation {
    let (status, kind) = words.split_once(' ').unwrap();
    let (status, ended) = match status {
        "running" => (OperationStatus::Running, None),
        "finished" => (OperationStatus::Succeeded, Some(at(-60))),
        "failed" => (OperationStatus::Failed, Some(at(-60))),
        other => panic!("no such status: {other}"),
    };
    let kind = match kind {
        "update" => OperationKind::Update,
        "deployment" => OperationKind::Deployment,
        "other" => OperationKind::Other,
        other => panic!("no such operation: {other}"),
    };
    Operation { id: "op-foreign".into(), kind, status, started: Some(at(-120)), ended }
}

fn connector(name: &str, value: &Value) -> Connector {
    let mut connector = Connector { name: name.to_owned(), ..super::connector(Some(true)) };
    for (key, value) in map(value, &["nat", "vpc", "groups", "admittedBy", "endpoints", "ours"]) {
        match key.as_str() {
            "nat" => connector.nat = value.as_bool(),
            "vpc" => connector.vpc = text(value).to_owned(),
            "groups" => connector.groups = texts(value).iter().map(|it| it.as_str().into()).collect(),
            "admittedBy" => {
                let groups = |value: &Value| texts(value).iter().map(|it| it.as_str().into()).collect();
                connector.admitted_by = (!value.is_string()).then(|| groups(value));
            }
            "endpoints" => connector.endpoints = (!value.is_string()).then(|| texts(value)),
            "ours" => connector.ours = value.as_bool(),
            other => panic!("{other}"),
        }
    }
    connector
}

fn rule(value: &Value) -> Rule {
    let mut rule = super::rule();
    for (key, value) in map(value, &["group", "source", "ours"]) {
        match key.as_str() {
            "group" => rule.group = text(value).into(),
            "source" => rule.source = Some(text(value).into()),
            "ours" => rule.ours = value.as_bool().unwrap(),
            other => panic!("{other}"),
        }
    }
    rule
}

fn copy(reading: &mut Reading<Copy>, value: &Value, now: Timestamp) {
    if value == "absent" || value.get("unknown").is_some() {
        *reading = self::reading(value, |_| unreachable!());
        return;
    }
    let copy = reading.present_mut().expect("a copy is under way");
    for (key, value) in
        map(value, &["failed", "retriable", "lag", "here", "clients", "connected", "different", "asked", "uncarried"])
    {
        match key.as_str() {
            "failed" | "retriable" => {
                let (reason, message) = text(value).split_once(": ").unwrap();
                let (reason, message) = (reason.to_owned(), message.to_owned());
                copy.state = CopyState::Failed { reason, message, temporary: key == "retriable" };
            }
            "lag" => copy.lag_ms = value.as_u64(),
            "asked" => {
                copy.asked = serde_json::from_value(value.clone()).unwrap();
                copy.state = CopyState::Following;
            }
            "connected" => {
                copy.connected_from = serde_json::from_value(value.clone()).unwrap();
                copy.connected_to.clone_from(&copy.connected_from);
            }
            "here" => copy.here = value.as_bool().unwrap(),
            "uncarried" => copy.uncarried_from = serde_json::from_value(value.clone()).unwrap(),
            "clients" => (copy.clients_from, copy.clients_to) = (value.as_u64(), value.as_u64()),
            "different" => {
                copy.different = value.as_u64();
                copy.quiet_sweeps = 2;
                copy.quiet_since = Some(now);
                copy.drained = Some(Side::From);
            }
            other => panic!("{other}"),
        }
    }
}

fn run(verdict: &str, now: Timestamp) -> Run {
    let result = |verdict| CheckResult {
        name: "session".into(),
        service: None,
        severity: Severity::Gate,
        required: false,
        verdict,
        message: "login answered 500".into(),
    };
    let verdict = match verdict {
        "pass" => Verdict::Pass,
        "fail" => Verdict::Fail,
        "undecided" => Verdict::Inconclusive,
        other => panic!("no such verdict: {other}"),
    };
    Run { started: now, finished: Some(now), results: vec![result(verdict)] }
}
