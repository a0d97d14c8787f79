//! No migration is under way: see whether the services use the store of the spec, and if not, make everything ready
//! for one and begin it. Everything that could stop it is said before the first thing is made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::desired::{
    EgressPolicy, ReplicationGroupRef, RulesPolicy, ServiceRef, StoreSpec, Takeover, Target, UpstashDatabase, Writer,
};
use crate::env;
use crate::identity::{Arn, MigrationId, StoreId};
use crate::journal::{
    EgressChange, Entry, Latch, Migration, Prior, Resource, ServiceMove, Settled, StoreRecord, Undo, VaultKey,
};
use crate::observed::{Connector, Delivery, Egress, Placement, Reading, Service, ServiceSource, Store, StoreStatus};
use crate::serving::{Serving, serving};
use crate::step::Step;

use super::admission::Intention;
use super::network::{Question, egress_change};
use super::wiring::Wires;
use super::{Awaited, Block, Draft, Late, Phase, Reason};

/// Terraform allows a replication group an hour to be created.
const CREATE_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A service of the spec with what it uses now.
struct Using<'a> {
    spec: &'a ServiceRef,
    service: &'a Service,
    serving: Serving,
}

impl<'a> Draft<'a> {
    /// Brings the object to rest, or begins a migration.
    pub(super) fn settle(&mut self, target: &'a Target) {
        let Some(services) = self.services(target) else { return };
        if let Some(latch) = &self.inputs.journal.latch
            && self.is_latched(latch)
        {
            return self.latched(latch);
        }
        let settled_store = self.inputs.observed.target.present().map(|store| &store.id);
        let unseen: Vec<_> = services
            .iter()
            .filter_map(|using| match &using.serving {
                Serving::Unseen(why) => Some((using.spec.name.clone(), why.clone())),
                Serving::Store(..) | Serving::Nothing => None,
            })
            .collect();
        if settled_store.is_some_and(|id| services.iter().all(|using| using.serving.id().as_ref() == Some(id))) {
            return self.rest(target, &services);
        }
        self.rest_is_unseen(target, &unseen);
        self.say_what_stops_a_migration(target, &services);
        if !self.plan.blocks.is_empty() || !self.plan.waits.is_empty() {
            return;
        }
        self.prepare(target, &services);
    }

    fn rest_is_unseen(&mut self, target: &Target, unseen: &[(String, String)]) {
        if target.migration.from.is_some() {
            return;
        }
        for (name, why) in unseen {
            self.block(
                Reason::SourceUnknown,
                format!("service {name}"),
                why.clone(),
                "name the store in use in spec.migration.from",
            );
        }
    }

    fn services(&mut self, target: &'a Target) -> Option<Vec<Using<'a>>> {
        let names = env::names(&target.env.format);
        let mut found = Vec::new();
        for spec in &target.services {
            match self.inputs.observed.services.get(&spec.name) {
                Some(Reading::Present(service)) => {
                    let serving = serving(service, &names, &self.inputs.observed.catalog);
                    found.push(Using { spec, service, serving });
                }
                Some(Reading::Absent) => self.block(
                    Reason::ServiceNotFound,
                    format!("service {}", spec.name),
                    format!("App Runner has no service of that name in {}", self.inputs.owner.region),
                    Reason::ServiceNotFound.remedy(),
                ),
                Some(other) => self.unread(other, &format!("service {}", spec.name)),
                None => self.unread::<Service>(&Reading::Absent, &format!("service {}", spec.name)),
            }
        }
        (found.len() == target.services.len()).then_some(found)
    }

    fn is_latched(&self, latch: &Latch) -> bool {
        match &self.inputs.observed.target {
            Reading::Present(store) => store.id == latch.store,
            // A name that leads nowhere now is not the store that failed; what cannot be read might be.
            Reading::Absent => false,
            Reading::Unknown(_) | Reading::Hidden(_) => true,
        }
    }

    fn latched(&mut self, latch: &Latch) {
        self.phase(Phase::RolledBack);
        self.block(
            Reason::RolledBack,
            "spec.store",
            format!("{}: {}; the services are back on the former store", latch.reason, latch.message),
            Reason::RolledBack.remedy(),
        );
    }

    /// The services use the store of the spec: take note of it, hold the claims, remove what a migration left.
    fn rest(&mut self, target: &'a Target, services: &[Using<'a>]) {
        self.phase(Phase::Ready);
        let Some(store) = self.inputs.observed.target.present() else { return };
        if !self.claims(target, services) {
            return;
        }
        if self.inputs.journal.settled.as_ref().is_none_or(|settled| settled.store != store.id) {
            let database = store.address.as_ref().map_or(0, |address| address.db);
            return self.journal(Entry::Settle(Settled {
                store: store.id.clone(),
                database,
                epoch: None,
                binding: None,
            }));
        }
        if let Some(migration) = &self.inputs.journal.migration
            && let Some(settled) = &self.inputs.journal.settled
            && let Some(epoch) = settled.epoch
            && migration.to.id == settled.store
        {
            let wires = Wires { owner: self.inputs.owner, target, observed: self.inputs.observed };
            let drifted: Vec<_> = services
                .iter()
                .filter(|using| {
                    !wires.is_told(using.service, &wires.wiring(using.service, &migration.to, epoch), &migration.to)
                })
                .map(|using| using.spec.name.clone())
                .collect();
            for name in drifted {
                self.note(format!(
                    "service {name}: its variables lead to the right store but are not as we wrote them"
                ));
            }
        }
        self.retire(target);
    }

    fn say_what_stops_a_migration(&mut self, target: &'a Target, services: &[Using<'a>]) {
        for using in services {
            self.say_what_stops(target, using);
        }
        let ids: BTreeSet<_> = services.iter().filter_map(|using| using.serving.id()).collect();
        if ids.len() > 1 && target.migration.from.is_none() {
            let each: Vec<_> = services
                .iter()
                .map(|using| {
                    format!("{} on {}", using.spec.name, using.serving.id().map_or("?".into(), |id| id.to_string()))
                })
                .collect();
            self.block(Reason::ServicesDisagree, "spec.services", each.join(", "), Reason::ServicesDisagree.remedy());
        }
        if target.store == StoreSpec::Disabled
            && !target.migration.consent.data_loss
            && !ids.contains(&StoreId::Disabled)
        {
            self.block(
                Reason::DataLoss,
                "spec.store.disabled",
                "switching Redis off ends every session in it",
                "set spec.migration.consent.dataLoss: true if that is meant",
            );
        }
        if let Some(store) = self.inputs.observed.target.present() {
            self.say_what_stops_store(target, store);
        }
    }

    fn say_what_stops(&mut self, target: &'a Target, using: &Using<'a>) {
        let subject = format!("service {}", using.spec.name);
        self.admitted(&using.spec.name, using.service, Intention::Begin);
        match using.spec.writer {
            Writer::Operator => {}
            Writer::ConfigFile | Writer::External => self.block(
                Reason::Unsupported,
                subject.clone(),
                "its variables are to be written by somebody else, which this version cannot wait for yet",
                Reason::Unsupported.remedy(),
            ),
        }
        match using.service.source {
            ServiceSource::Image | ServiceSource::CodeApi => {}
            ServiceSource::CodeRepository => self.block(
                Reason::VariablesHidden,
                subject.clone(),
                "ConfigurationSource is REPOSITORY, so App Runner ignores variables written through its API",
                Reason::VariablesHidden.remedy(),
            ),
        }
        self.say_what_takeover_stops(target, using, &subject);
        let Some(to) = self.inputs.observed.target.present().and_then(|store| store.address.as_ref()) else { return };
        let pointing =
            using.service.variables.iter().map(|(name, variable)| (name.as_str(), variable.address.as_ref()));
        for rival in env::rivals(&target.env.format, pointing, to) {
            let place =
                rival.address.map_or("somewhere that could not be read".to_owned(), |address| address.to_string());
            self.block(
                Reason::RivalVariable,
                subject.clone(),
                format!("variable {} points to {place}, and the app could prefer it", rival.variable),
                "remove it by hand, or choose the env.format that writes it",
            );
        }
        if let Err(misfit) = env::fits(&target.env.format, to) {
            self.block(Reason::Rejected, "spec.env.format", misfit.to_string(), "choose another spec.env.format");
        }
    }

    fn say_what_takeover_stops(&mut self, target: &Target, using: &Using<'_>, subject: &str) {
        if target.env.takeover == Takeover::Always {
            return;
        }
        let leading = using.serving.id();
        let source = self.inputs.observed.source.present().map(|store| store.id.clone());
        for name in env::names(&target.env.format) {
            let Some(variable) = using.service.variables.get(&name) else { continue };
            let foreign = match target.env.takeover {
                Takeover::Never => true,
                Takeover::Always => false,
                // Parts of an address (port, TLS, password) belong to the host they stand beside.
                Takeover::IfServingFrom => {
                    variable.address.is_some() && leading.is_some() && source.is_some() && leading != source
                }
            };
            if foreign {
                self.block(
                    Reason::ForeignVariable,
                    subject,
                    format!("variable {name} was not written by us and spec.env.takeover does not allow to take it"),
                    Reason::ForeignVariable.remedy(),
                );
            }
        }
    }

    fn say_what_stops_store(&mut self, target: &Target, store: &Store) {
        if store.cluster != target.app.cluster_client {
            let (is, client) = if store.cluster { ("speaks", "is none") } else { ("does not speak", "is one") };
            self.block(
                Reason::ClusterMismatch,
                "spec.app.clusterClient",
                format!("{} {is} the cluster protocol and the app's client {client}", store.id),
                Reason::ClusterMismatch.remedy(),
            );
        }
        if let (Some(server), Some(source)) = (store.server.present(), self.inputs.observed.source.present())
            && let Some(from) = source.server.present()
        {
            let needed = from.used_memory.saturating_add(from.used_memory / 4);
            if server.max_memory != 0 && server.max_memory < needed {
                self.block(
                    Reason::WouldNotFit,
                    "spec.store",
                    format!(
                        "it allows {} bytes and the store in use holds {}; 25 % more are needed",
                        server.max_memory, from.used_memory
                    ),
                    Reason::WouldNotFit.remedy(),
                );
            }
            if from.evicted > 0 {
                self.note(format!(
                    "the store in use has evicted {} keys: sessions are being lost already",
                    from.evicted
                ));
            }
            if server.eviction_policy.starts_with("allkeys") {
                self.note(format!(
                    "the new store's eviction policy {} may evict sessions before they expire",
                    server.eviction_policy
                ));
            }
        }
    }

    /// Makes what is missing, then begins. Each part says what it does or waits for, and the next one starts when it is done.
    fn prepare(&mut self, target: &'a Target, services: &[Using<'a>]) {
        if !self.claims(target, services) {
            return;
        }
        self.phase(Phase::Provisioning);
        let Some(store) = self.store(target) else { return };
        if store.address.is_none() && store.id.is_redis() {
            return self.unread(&store.server, "the address of the new store");
        }
        let Some(connectors) = self.connectors_of_ours(target) else { return };
        let Some(egress) = self.egress_changes(target, services, store, &connectors) else { return };
        if !self.rules(target, services, store, &egress) {
            return;
        }
        self.begin(target, services, store, egress);
    }

    fn claims(&mut self, target: &Target, services: &[Using<'a>]) -> bool {
        let ours = self.inputs.owner.path();
        let mut held = true;
        for using in services {
            let name = &using.spec.name;
            let variables = env::names(&target.env.format);
            let claims = self.inputs.observed.claims.get(name).unwrap_or(&Reading::Absent);
            let (holders, expect) = match claims {
                Reading::Present(claims) => (claims.holders.clone(), Some(claims.sequence)),
                Reading::Absent => (BTreeMap::new(), None),
                Reading::Unknown(_) | Reading::Hidden(_) => {
                    self.unread(claims, &format!("the claims on service {name}"));
                    held = false;
                    continue;
                }
            };
            let other = variables.iter().find_map(|variable| {
                holders.get(variable).filter(|holder| **holder != ours).map(|holder| (variable, holder))
            });
            if let Some((variable, holder)) = other {
                self.block(
                    Reason::Claimed,
                    format!("service {name}"),
                    format!("variable {variable} is claimed by {holder}"),
                    Reason::Claimed.remedy(),
                );
                held = false;
            } else if !variables.iter().all(|variable| holders.contains_key(variable)) {
                self.step(Step::Claim { service: name.clone(), variables, expect });
                held = false;
            }
        }
        held
    }

    fn store(&mut self, target: &Target) -> Option<&'a Store> {
        let reading = &self.inputs.observed.target;
        let store = match reading {
            Reading::Present(store) => store,
            Reading::Absent => {
                self.create_store(target);
                return None;
            }
            Reading::Unknown(_) | Reading::Hidden(_) => {
                self.unread(reading, "spec.store");
                return None;
            }
        };
        if let Some((resource, id)) = found_again(target, store)
            && self.inputs.journal.made.get(&resource).is_some_and(|made| made.id.is_none())
        {
            self.journal(Entry::Made(resource, id));
            return None;
        }
        match &store.status {
            StoreStatus::Available | StoreStatus::Modifying => Some(store),
            StoreStatus::Creating => {
                let since = found_again(target, store)
                    .and_then(|(resource, _)| self.inputs.journal.made.get(&resource))
                    .map_or(self.inputs.now, |made| made.intended);
                self.wait_until(
                    Awaited::Store,
                    since,
                    CREATE_LIMIT,
                    format!("{} is being created", store.id),
                    Late { reason: Reason::StoreFailed, subject: "spec.store", remedy: Reason::StoreFailed.remedy() },
                );
                None
            }
            StoreStatus::Deleting => {
                self.block(
                    Reason::StoreGone,
                    "spec.store",
                    format!("{} is being deleted", store.id),
                    Reason::StoreGone.remedy(),
                );
                None
            }
            StoreStatus::Failed(status) => {
                self.block(
                    Reason::StoreFailed,
                    "spec.store",
                    format!("{} is {status}", store.id),
                    Reason::StoreFailed.remedy(),
                );
                None
            }
        }
    }

    fn create_store(&mut self, target: &Target) {
        match &target.store {
            StoreSpec::Upstash { database: UpstashDatabase::Named { name, region }, plan, managed: true } => {
                let resource = Resource::UpstashDatabase(name.clone());
                let step =
                    Step::CreateUpstashDatabase { name: name.clone(), region: region.clone(), plan: plan.clone() };
                self.create(resource, step);
            }
            StoreSpec::Upstash { managed: false, .. } => self.block(
                Reason::CredentialsMissing,
                "spec.store.upstash.apiKeySecretRef",
                "without the management API's credentials the database can neither be found nor created",
                "name a Secret with the keys email and apiKey",
            ),
            StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Create(settings), .. } => {
                let id = self.inputs.owner.short_name("cache");
                let subnet_group = self.inputs.owner.short_name("subnets");
                let subnets = Resource::SubnetGroup(subnet_group.clone());
                if self.inputs.journal.made.get(&subnets).is_none_or(|made| made.id.is_none()) {
                    let step = Step::CreateSubnetGroup { name: subnet_group, subnets: settings.subnets.clone() };
                    return self.create(subnets, step);
                }
                let step = Step::CreateReplicationGroup { id: id.clone(), subnet_group, settings: settings.clone() };
                self.create(Resource::ReplicationGroup(id), step);
            }
            StoreSpec::Upstash { .. }
            | StoreSpec::ReplicationGroup { .. }
            | StoreSpec::ServerlessCache { .. }
            | StoreSpec::External { .. }
            | StoreSpec::Disabled => {
                self.block(
                    Reason::StoreNotFound,
                    "spec.store",
                    "the store it names does not exist",
                    Reason::StoreNotFound.remedy(),
                );
            }
        }
    }

    /// Writes down that `resource` is about to be made, then makes it. What was made and is gone is not made again.
    fn create(&mut self, resource: Resource, step: Step) {
        match self.inputs.journal.made.get(&resource) {
            None => self.journal(Entry::Intend(resource)),
            Some(made) if made.id.is_none() => self.step(step),
            Some(_) => {
                let name = String::from(resource);
                self.block(
                    Reason::StoreGone,
                    name,
                    "we made it and it is gone: somebody deleted it",
                    Reason::StoreGone.remedy(),
                );
            }
        }
    }

    /// The connectors the spec asks us to make, by service name.
    fn connectors_of_ours(&mut self, target: &Target) -> Option<BTreeMap<String, Arn>> {
        let mut made = BTreeMap::new();
        let mut complete = true;
        for (index, spec) in target.services.iter().enumerate() {
            let EgressPolicy::CreateConnector { subnets, security_groups } = &spec.egress else { continue };
            let name = self.inputs.owner.short_name(&format!("vpc{index}"));
            let found = self
                .inputs
                .observed
                .connectors
                .iter()
                .find(|(_, reading)| reading.present().is_some_and(|connector| connector.name == name));
            if let Some((arn, _)) = found {
                made.insert(spec.name.clone(), arn.clone());
                continue;
            }
            let step = Step::CreateConnector {
                name: name.clone(),
                subnets: subnets.clone(),
                security_groups: security_groups.clone(),
            };
            self.create(Resource::Connector(name), step);
            complete = false;
        }
        complete.then_some(made)
    }

    fn egress_changes(
        &mut self,
        target: &Target,
        services: &[Using<'a>],
        store: &Store,
        made: &BTreeMap<String, Arn>,
    ) -> Option<Vec<EgressChange>> {
        let observed = self.inputs.observed;
        let connector =
            |arn: &Arn| -> Option<&'a Connector> { observed.connectors.get(arn).and_then(Reading::present) };
        let answers: Vec<_> = services
            .iter()
            .map(|using| {
                let question = Question {
                    name: &using.spec.name,
                    service: using.service,
                    policy: &using.spec.egress,
                    made: made.get(&using.spec.name),
                    to: &store.placement,
                    consent: target.migration.consent,
                };
                egress_change(&question, connector)
            })
            .collect();
        let blocks: Vec<Block> =
            answers.iter().filter_map(|answer| answer.as_ref().err().map(|block| (**block).clone())).collect();
        self.plan.blocks.extend(blocks);
        answers.into_iter().collect::<Result<_, _>>().ok()
    }

    /// One rule per (connector group, store group, port) where the new store is inside a VPC.
    fn rules(&mut self, target: &Target, services: &[Using<'a>], store: &Store, egress: &[EgressChange]) -> bool {
        let Placement::Vpc { groups, .. } = &store.placement else { return true };
        let policy = match &target.store {
            StoreSpec::ReplicationGroup { rules, .. } | StoreSpec::ServerlessCache { rules, .. } => *rules,
            StoreSpec::Upstash { .. } | StoreSpec::External { .. } | StoreSpec::Disabled => RulesPolicy::Unmanaged,
        };
        let Some(port) = store.address.as_ref().map(|address| address.port) else { return true };
        let mut admitted = true;
        for (using, change) in services.iter().zip(egress) {
            let ends = match change {
                EgressChange::None => &using.service.egress,
                EgressChange::First(egress) | EgressChange::WithVariables(egress) | EgressChange::Last(egress) => {
                    egress
                }
            };
            let Egress::Vpc(arn) = ends else { continue };
            let Some(connector) = self.inputs.observed.connectors.get(arn).and_then(Reading::present) else { continue };
            let open = self.inputs.observed.rules.values().filter_map(Reading::present).any(|rule| {
                groups.contains(&rule.group) && connector.groups.iter().any(|source| rule.admits(source, port))
            });
            let (Some(group), Some(source), false) = (groups.first(), connector.groups.first(), open) else { continue };
            admitted = false;
            match policy {
                RulesPolicy::Managed => {
                    let resource = Step::rule_name(group, source, port);
                    let step = Step::AuthorizeIngress { group: group.clone(), source: source.clone(), port };
                    self.create(resource, step);
                }
                RulesPolicy::Unmanaged => self.block(
                    Reason::Unreachable,
                    format!("service {}", using.spec.name),
                    format!("no rule of {group} admits {source} on port {port}"),
                    "add the rule, or set securityGroupRules: Managed",
                ),
            }
        }
        admitted
    }

    fn begin(&mut self, target: &Target, services: &[Using<'a>], store: &Store, egress: Vec<EgressChange>) {
        let owner = self.inputs.owner;
        let epoch = self.inputs.journal.epoch.next();
        let from = match &self.inputs.observed.source {
            Reading::Present(source) => Some(record(source, "from")),
            Reading::Absent => None,
            other => return self.unread(other, "the store in use"),
        };
        if store.id.is_redis() && store.credential.is_none() && needs_credential(&store.id) {
            return self.block(
                Reason::CredentialsMissing,
                "spec.store",
                format!("the password of {} is not known", store.id),
                "name a Secret with it in spec.store",
            );
        }
        let to = record(store, "to");
        let copies = from.as_ref().is_some_and(|from| from.id.is_redis() && from.id != to.id) && to.id.is_redis();
        let wires = Wires { owner, target, observed: self.inputs.observed };
        let moves = services
            .iter()
            .zip(egress)
            .map(|(using, egress)| {
                let wiring = wires.wiring(using.service, &to, epoch);
                let names = wiring.set.keys().chain(&wiring.unset);
                let variables = names.map(|name| (name.clone(), prior(using, name))).collect();
                ServiceMove {
                    service: using.spec.name.clone(),
                    arn: using.service.arn.clone(),
                    undo: Undo {
                        variables,
                        egress: using.service.egress.clone(),
                        auto_deployments: using.service.auto_deployments,
                    },
                    egress,
                    egress_moved: None,
                    forward: None,
                    back: None,
                    deployments_restored: None,
                    refused: None,
                }
            })
            .collect();
        self.journal(Entry::Begin(Box::new(Migration {
            id: MigrationId(format!("{}-{}", owner.digest(), epoch.0)),
            epoch,
            from,
            to,
            copies,
            began: self.inputs.now,
            services: moves,
            baseline: None,
            approved: BTreeSet::new(),
            sealed: None,
            egress_validated: None,
            drained: None,
            validated: None,
            baked: None,
            rollback: None,
            hold: None,
            ended: None,
        })));
    }
}

/// The resource of ours that `store` is, if the spec lets us make it, with the vendor's id.
fn found_again(target: &Target, store: &Store) -> Option<(Resource, String)> {
    match (&target.store, &store.id) {
        (StoreSpec::Upstash { database: UpstashDatabase::Named { name, .. }, .. }, StoreId::Upstash(id)) => {
            Some((Resource::UpstashDatabase(name.clone()), id.clone()))
        }
        (StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Create(_), .. }, StoreId::ReplicationGroup(id)) => {
            Some((Resource::ReplicationGroup(id.clone()), id.clone()))
        }
        _ => None,
    }
}

fn needs_credential(id: &StoreId) -> bool {
    matches!(id, StoreId::Upstash(_))
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

fn prior(using: &Using<'_>, name: &str) -> Prior {
    match using.service.variables.get(name) {
        None => Prior::Absent,
        Some(variable) => match &variable.delivery {
            Delivery::Plain => {
                Prior::Plain(VaultKey(format!("undo/{}/{name}", using.spec.name)), variable.digest.clone())
            }
            Delivery::Reference(arn) => Prior::Reference(arn.clone()),
        },
    }
}
