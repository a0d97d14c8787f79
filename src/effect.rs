//! What success of a step, and the passing of time, would look like: the model behind the forecast and the simulator.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checks::{CheckResult, Run, Verdict};
use crate::desired::{Desired, StoreSpec};
use crate::identity::{Address, Arn, Fingerprint, OperationId, Owner, RuleId, StoreId};
use crate::journal::{Entry, Journal, Migration, Prior, Resource, Uncarried};
use crate::observed::{
    CatalogEntry, Claims, Connector, Copy, CopyState, Delivery, Namesake, Observed, Operation, OperationKind,
    OperationStatus, Placement, Reach, Reading, RoleAccess, Rule, Secret, ServiceStatus, Store, StoreStatus, Variable,
};
use crate::step::{CopyMode, ServicePatch, Setting, Step};

/// The world as far as the planner knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// What is seen.
    pub observed: Observed,
    /// What is written down.
    pub journal: Journal,
}

/// What a predicted value is called until the vendor says it.
pub const AFTER_APPLY: &str = "(known after apply)";

impl Picture {
    /// The picture after `step` succeeded. Gives the line the engine would journal for it.
    pub fn predict(&mut self, owner: &Owner, desired: &Desired, step: &Step, now: Timestamp) -> Option<Entry> {
        let entry = self.succeed(owner, desired, step, now);
        self.look_for_what_is_lost(step, entry.as_ref(), now);
        entry
    }

    fn succeed(&mut self, owner: &Owner, desired: &Desired, step: &Step, now: Timestamp) -> Option<Entry> {
        let observed = &mut self.observed;
        match step {
            Step::Journal { entry, .. } => self.journal = self.journal.apply(entry, now),
            Step::Claim { service, variables, .. } => {
                let claims = claims(observed, service);
                claims.sequence += 1;
                claims.holders.extend(variables.iter().map(|variable| (variable.clone(), owner.path())));
            }
            Step::Release { service, .. } => {
                let claims = claims(observed, service);
                claims.sequence += 1;
                claims.holders.retain(|_, holder| *holder != owner.path());
            }
            Step::CreateUpstashDatabase { name, .. } => {
                observed.target = Reading::Present(upstash(owner, name));
                observed.catalog.push(CatalogEntry {
                    id: StoreId::Upstash(AFTER_APPLY.to_owned()),
                    hosts: vec![format!("{name}.upstash.io")],
                });
                return Some(Entry::Made(Resource::UpstashDatabase(name.clone()), AFTER_APPLY.to_owned()));
            }
            Step::DeleteUpstashDatabase { id, .. } => forget(observed, &StoreId::Upstash(id.clone())),
            Step::CreateSubnetGroup { name, .. } => {
                return Some(Entry::Made(Resource::SubnetGroup(name.clone()), name.clone()));
            }
            Step::DeleteSubnetGroup { name } => return Some(Entry::Gone(Resource::SubnetGroup(name.clone()))),
            Step::CreateReplicationGroup { id, settings, .. } => {
                let groups = settings.security_groups.iter().map(|group| group.as_str().into()).collect();
                observed.target = Reading::Present(replication_group(owner, id, groups));
                // It is listed from the first moment on; its names come with its nodes.
                let entry = CatalogEntry { id: StoreId::ReplicationGroup(id.clone()), hosts: Vec::new() };
                observed.catalog.retain(|known| known.id != entry.id);
                observed.catalog.push(entry);
                return Some(Entry::Made(Resource::ReplicationGroup(id.clone()), id.clone()));
            }
            Step::DeleteReplicationGroup { id } => forget(observed, &StoreId::ReplicationGroup(id.clone())),
            Step::AuthorizeIngress { group, source, port } => {
                let id =
                    RuleId(format!("sgr-{}", crate::identity::digest(&[group.0.as_bytes(), source.0.as_bytes()], 8)));
                let rule = Rule {
                    group: group.clone(),
                    source: Some(source.clone()),
                    from_port: Some(*port),
                    to_port: Some(*port),
                    ours: true,
                };
                observed.rules.insert(id.clone(), Reading::Present(rule));
                return Some(Entry::Made(Step::rule_name(group, source, *port), id.0));
            }
            Step::RevokeIngress { rule, .. } => {
                observed.rules.insert(rule.clone(), Reading::Absent);
            }
            Step::CreateConnector { name, security_groups, .. } => {
                let found = |reading: &Reading<Connector>| {
                    reading.present().is_some_and(|connector| connector.ours == Some(true) && connector.name == *name)
                };
                if let Some((arn, _)) = observed.connectors.iter().find(|(_, reading)| found(reading)) {
                    return Some(Entry::Made(Resource::Connector(name.clone()), arn.0.clone()));
                }
                let arn = Arn(format!(
                    "arn:aws:apprunner:{}:{}:vpcconnector/{name}/{AFTER_APPLY}",
                    owner.region, owner.account
                ));
                let connector = Connector {
                    name: name.clone(),
                    vpc: vpc_of_target(observed),
                    groups: security_groups.iter().map(|group| group.as_str().into()).collect(),
                    nat: Some(true),
                    endpoints: Some(Vec::new()),
                    admitted_by: Some(Vec::new()),
                    ours: Some(true),
                };
                observed.connectors.insert(arn.clone(), Reading::Present(connector));
                return Some(Entry::Made(Resource::Connector(name.clone()), arn.0));
            }
            Step::DeleteConnector { arn } => {
                observed.connectors.insert(arn.clone(), Reading::Absent);
            }
            Step::CreateEpochSecret { name, .. } => {
                let arn =
                    Arn(format!("arn:aws:secretsmanager:{}:{}:secret:{name}-AbCdEf", owner.region, owner.account));
                observed.secrets.insert(name.clone(), Reading::Present(Secret { arn, deletion: None }));
                let services: Vec<String> = observed.services.keys().cloned().collect();
                observed.role_access.extend(services.into_iter().map(|service| RoleAccess {
                    service,
                    secret: name.clone(),
                    allowed: Reading::Present(true),
                }));
            }
            Step::DeleteSecret { name } if *name == owner.journal_secret() => self.journal = Journal::default(),
            Step::DeleteSecret { name } => {
                if let Some(secret) = observed.secrets.get_mut(name).and_then(Reading::present_mut) {
                    secret.deletion = Some(crate::plan::after(now, std::time::Duration::from_hours(168)));
                }
            }
            Step::PatchService(patch) => return self.patch(owner, patch, now),
            Step::Copy { mode, .. } => self.copy(*mode, now),
            Step::CountQuiet { drained, .. } => {
                if let Some(copy) = observed.copy.present_mut() {
                    copy.quiet_since = Some(now);
                    copy.drained = Some(*drained);
                    copy.quiet_sweeps = 0;
                    copy.different = None;
                }
            }
            Step::RunChecks { stage } => {
                observed.checks.insert(*stage, Run { started: now, finished: None, results: Vec::new() });
            }
        }
        // A store's own name is only known to the spec.
        if let (Desired::Present(target), Reading::Present(store)) = (desired, &mut self.observed.target)
            && target.store == StoreSpec::Disabled
        {
            store.status = StoreStatus::Available;
        }
        None
    }

    /// What is about to be made is looked for by its name until its id is written down.
    fn look_for_what_is_lost(&mut self, step: &Step, made: Option<&Entry>, now: Timestamp) {
        let namesakes = &mut self.observed.namesakes;
        if let Some(Entry::Made(resource, id)) = made {
            let ours = (!matches!(resource, Resource::UpstashDatabase(_))).then_some(true);
            let found = Namesake { id: id.clone(), created: Some(now), ours };
            namesakes.insert(resource.clone(), Reading::Present(vec![found]));
        }
        if let Step::Journal { entry, .. } = step {
            if let Entry::Intend(resource) = entry {
                namesakes.entry(resource.clone()).or_insert_with(|| Reading::Present(Vec::new()));
            }
            if let Entry::Made(resource, _) | Entry::Gone(resource) = entry {
                namesakes.remove(resource);
            }
        }
    }

    fn patch(&mut self, owner: &Owner, patch: &ServicePatch, now: Timestamp) -> Option<Entry> {
        let to = self.journal.migration.as_ref().map(|migration| migration.to.clone())?;
        let from = self.journal.migration.as_ref().and_then(|migration| migration.from.clone());
        let service = self.observed.services.get_mut(&patch.service).and_then(Reading::present_mut)?;
        for name in &patch.unset {
            service.variables.remove(name);
        }
        for (name, setting) in &patch.set {
            let pointing =
                |record: Option<&crate::journal::StoreRecord>| record.and_then(|record| record.address.clone());
            let credential =
                |record: Option<&crate::journal::StoreRecord>| record.and_then(|record| record.credential.clone());
            let variable = match setting {
                Setting::Secret(arn) => Variable {
                    delivery: Delivery::Reference(arn.clone()),
                    digest: Fingerprint::of(owner, &arn.0),
                    address: pointing(Some(&to)),
                    password: credential(Some(&to)),
                    names: Vec::new(),
                    reach: reach(Some(&to)),
                },
                Setting::Plain(value) => {
                    // A host alone, or a whole URL without a password in it.
                    let leads = |address: &Address| {
                        address.host == *value
                            || crate::env::parse_url(value).is_ok_and(|(told, _)| told.host == address.host)
                    };
                    let address = pointing(Some(&to)).filter(leads);
                    Variable {
                        delivery: Delivery::Plain,
                        digest: Fingerprint::of(owner, value),
                        reach: if address.is_some() { reach(Some(&to)) } else { Reach::None },
                        address,
                        password: None,
                        names: Vec::new(),
                    }
                }
                Setting::PlainSecret(address) => Variable {
                    delivery: Delivery::Plain,
                    digest: Fingerprint(AFTER_APPLY.to_owned()),
                    address: Some((**address).clone()),
                    password: credential(Some(&to)),
                    names: Vec::new(),
                    reach: reach(Some(&to)),
                },
                Setting::Prior(prior) => {
                    let (delivery, digest) = match prior {
                        Prior::Absent => continue,
                        Prior::Plain(_, digest) => (Delivery::Plain, digest.clone()),
                        Prior::Reference(arn) => (Delivery::Reference(arn.clone()), Fingerprint::of(owner, &arn.0)),
                    };
                    Variable {
                        delivery,
                        digest,
                        address: pointing(from.as_ref()),
                        password: credential(from.as_ref()),
                        names: Vec::new(),
                        reach: reach(from.as_ref()),
                    }
                }
            };
            service.variables.insert(name.clone(), variable);
        }
        if let Some(egress) = &patch.egress {
            service.egress = egress.clone();
        }
        if let Some(on) = patch.auto_deployments {
            service.auto_deployments = on;
        }
        let id = OperationId(format!("op-{}-{}", patch.service, service.operations.len()));
        service.status = ServiceStatus::OperationInProgress;
        service.operations.insert(
            0,
            Operation {
                id: id.clone(),
                kind: OperationKind::Update,
                status: OperationStatus::Running,
                started: Some(now),
                ended: None,
            },
        );
        Some(Entry::Moved(patch.direction, patch.service.clone(), id))
    }

    fn copy(&mut self, mode: CopyMode, now: Timestamp) {
        let total = self.observed.source.present().and_then(|store| store.server.present());
        let total = total.map_or(0, |server| server.keys.values().sum());
        let state = match mode {
            CopyMode::Follow => CopyState::Starting,
            CopyMode::BothWays => CopyState::BothWays,
            CopyMode::Clear { .. } | CopyMode::Withdraw => {
                self.observed.copy = Reading::Absent;
                return;
            }
        };
        let fresh = Copy {
            state: state.clone(),
            heartbeat: now,
            here: true,
            total,
            copied: 0,
            lag_ms: None,
            worst_lag_ms: 0,
            conflicts: 0,
            quiet_sweeps: 0,
            quiet_since: None,
            drained: None,
            clients_from: None,
            clients_to: None,
            connected_from: Vec::new(),
            connected_to: Vec::new(),
            asked: Some(mode),
            different: None,
            uncarried_from: Uncarried::default(),
            uncarried_to: Uncarried::default(),
            other: None,
        };
        match self.observed.copy.present_mut() {
            Some(copy) => {
                copy.state = state;
                copy.asked = Some(mode);
                copy.here = true;
                copy.heartbeat = now;
            }
            None => self.observed.copy = Reading::Present(fresh),
        }
    }

    /// The picture when everything under way has ended well by `now`.
    pub fn elapse(&mut self, desired: &Desired, now: Timestamp) {
        let observed = &mut self.observed;
        for service in observed.services.values_mut().filter_map(Reading::present_mut) {
            for operation in &mut service.operations {
                operation.status = match operation.status {
                    OperationStatus::Running => OperationStatus::Succeeded,
                    OperationStatus::RollingBack => OperationStatus::Failed,
                    OperationStatus::Succeeded | OperationStatus::Failed => continue,
                };
                operation.ended = Some(now);
                service.status = ServiceStatus::Running;
            }
        }
        if let Some(store) = observed.target.present_mut()
            && store.status == StoreStatus::Creating
        {
            store.status = StoreStatus::Available;
            store.address.get_or_insert_with(|| Address {
                host: format!("master.{}.cache.amazonaws.com", store.name),
                port: 6379,
                db: 0,
                user: None,
                tls: true,
            });
            let (id, host) = (store.id.clone(), store.address.as_ref().map(|address| address.host.clone()));
            observed.catalog.retain(|entry| entry.id != id);
            observed.catalog.push(CatalogEntry { id, hosts: host.into_iter().collect() });
        }
        for (id, (status, _)) in std::mem::take(&mut observed.busy) {
            if status == StoreStatus::Deleting {
                forget(observed, &id);
            }
        }
        let former = std::mem::take(&mut observed.missed);
        observed.miss(&self.journal, &former, now);
        let ends = self.journal.open_migration();
        let ends = ends.into_iter().flat_map(Migration::sides);
        // What a lost store stopped does not go on by itself.
        let is_lost = ends.clone().any(|record| observed.is_gone(&record.id, now));
        if let Some(copy) = observed.copy.present_mut().filter(|copy| copy.here && !is_lost) {
            copy.elapse(now);
        }
        for (stage, run) in &mut observed.checks {
            if run.finished.is_none() {
                run.finished = Some(now);
                run.results = match desired {
                    Desired::Present(target) => target.checks.iter().map(|check| passed(&check.name, *stage)).collect(),
                    Desired::Absent { .. } => Vec::new(),
                };
            }
        }
    }
}

impl Copy {
    /// The copier when everything under way has gone well by `now`.
    pub fn elapse(&mut self, now: Timestamp) {
        self.heartbeat = now;
        if matches!(self.state, CopyState::Starting | CopyState::Bulk | CopyState::Failed { temporary: true, .. }) {
            self.state = CopyState::Following;
        }
        if self.asked == Some(CopyMode::BothWays) && self.state == CopyState::Following {
            self.state = CopyState::BothWays;
        }
        self.copied = self.total;
        self.lag_ms = Some(10);
        if self.quiet_since.is_some() {
            self.quiet_sweeps = self.quiet_sweeps.saturating_add(2);
            self.different = Some(0);
        }
    }
}

fn reach(record: Option<&crate::journal::StoreRecord>) -> Reach {
    let Some(record) = record else { return Reach::None };
    match (&record.placement, &record.address) {
        (Placement::Vpc { .. }, Some(address)) => Reach::Private(address.host.clone()),
        (Placement::Public, Some(_)) => Reach::Public,
        (_, None) | (Placement::Nowhere, Some(_)) => Reach::None,
    }
}

fn passed(name: &str, _stage: crate::checks::Stage) -> CheckResult {
    CheckResult {
        name: name.to_owned(),
        service: None,
        severity: crate::checks::Severity::Gate,
        required: false,
        verdict: Verdict::Pass,
        message: String::new(),
    }
}

fn claims<'a>(observed: &'a mut Observed, service: &str) -> &'a mut Claims {
    let reading = observed.claims.entry(service.to_owned()).or_default();
    if reading.is_absent() {
        *reading = Reading::Present(Claims::default());
    }
    match reading {
        Reading::Present(claims) => claims,
        Reading::Absent | Reading::Unknown(_) | Reading::Hidden(_) => {
            unreachable!("an absent claim was just made present")
        }
    }
}

fn forget(observed: &mut Observed, id: &StoreId) {
    observed.catalog.retain(|entry| entry.id != *id);
    for reading in [&mut observed.target, &mut observed.source] {
        if reading.present().is_some_and(|store| store.id == *id) {
            *reading = Reading::Absent;
        }
    }
}

fn vpc_of_target(observed: &Observed) -> String {
    match observed.target.present().map(|store| &store.placement) {
        Some(Placement::Vpc { vpc, .. }) => vpc.clone(),
        Some(Placement::Public | Placement::Nowhere) | None => AFTER_APPLY.to_owned(),
    }
}

fn upstash(owner: &Owner, name: &str) -> Store {
    Store {
        id: StoreId::Upstash(AFTER_APPLY.to_owned()),
        name: name.to_owned(),
        status: StoreStatus::Available,
        address: Some(Address { host: format!("{name}.upstash.io"), port: 6379, db: 0, user: None, tls: true }),
        credential: Some(Fingerprint::of(owner, AFTER_APPLY)),
        placement: Placement::Public,
        cluster: false,
        max_connections: None,
        plan: None,
        quota: None,
        server: Reading::Absent,
    }
}

fn replication_group(owner: &Owner, id: &str, groups: Vec<crate::identity::GroupId>) -> Store {
    Store {
        id: StoreId::ReplicationGroup(id.to_owned()),
        name: id.to_owned(),
        status: StoreStatus::Creating,
        address: None,
        credential: Some(Fingerprint::of(owner, AFTER_APPLY)),
        placement: Placement::Vpc { vpc: AFTER_APPLY.to_owned(), groups },
        cluster: false,
        max_connections: None,
        plan: None,
        quota: None,
        server: Reading::Absent,
    }
}
