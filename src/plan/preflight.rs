//! What would stop a migration, said all at once and before the first thing is made.
//! Reads only; everything it says is a block or a note.

use std::collections::BTreeSet;

use crate::desired::{
    EgressPolicy, KeyStrategy, ReplicationGroupRef, RulesPolicy, SecretDelivery, StoreSpec, Takeover, Target,
    TlsPolicy, Unmatched, Writer,
};
use crate::env::{self, Outline};
use crate::identity::{Address, StoreId};
use crate::journal::room::{GROWTH, LIMIT};
use crate::journal::{Outcome, Resource};
use crate::observed::{Delivery, Egress, Placement, Reading, ServiceSource, Store, Variable};
use crate::serving::{Serving, identify};

use super::admission::Intention;
use super::network::egress_change;
use super::settle::Using;
use super::{Draft, Reason};

/// Variables an App Runner service may have.
const MOST_VARIABLES: usize = 50;

impl<'a> Draft<'a> {
    pub(super) fn say_what_stops_a_migration(&mut self, target: &'a Target, services: &[Using<'a>]) {
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
            self.block(
                Reason::ServicesDisagree,
                "spec.services",
                format!("they use different stores: {}", each.join(", ")),
                Reason::ServicesDisagree.remedy(),
            );
        }
        self.say_what_the_journal_cannot_hold(target);
        self.say_what_ends(target, &ids);
        self.say_what_stops_source(target, services);
        if let Some(source) = self.copied_from(target) {
            self.say_what_queues_stop(target);
            if !self.says_that_it_is_lost(source) {
                self.say_what_is_out_of_reach(source, "the store in use");
            }
            if let Some(store) = self.inputs.observed.target.present() {
                self.say_what_is_out_of_reach(store, "spec.store");
            }
        }
        if let Some(store) = self.inputs.observed.target.present() {
            self.say_what_stops_store(target, store);
            self.say_what_databases_stop(target, services, store);
        }
    }

    /// The way back is written down before the first call: it must fit, with room for what is added on the way.
    fn say_what_the_journal_cannot_hold(&mut self, target: &Target) {
        let names = env::names(&target.env.format);
        let plain = self.inputs.observed.plain_bytes.iter().flat_map(|(service, values)| {
            let ours = values.iter().filter(|(name, _)| names.contains(name));
            ours.map(move |(name, bytes)| (service.len() + name.len(), *bytes))
        });
        let services = target.services.iter().filter_map(|spec| self.service(&spec.name));
        let references = services.flat_map(|service| {
            let ours = service.variables.iter().filter(|(name, _)| names.contains(name));
            ours.filter_map(|(name, variable)| match &variable.delivery {
                Delivery::Reference(arn) => Some(name.len() + arn.0.len()),
                Delivery::Plain => None,
            })
        });
        let rules = &target.migration.rules;
        let size = self.inputs.journal.size_with(target.services.len(), rules, plain, references);
        if size + GROWTH > LIMIT {
            self.block(
                Reason::QuotaExceeded,
                "spec.services",
                format!(
                    "the way back of {} services would take {size} bytes of the journal, which has room for {}: a secret of AWS holds {LIMIT}, and {GROWTH} are needed on the way",
                    target.services.len(),
                    LIMIT - GROWTH,
                ),
                "let large variables that env.format writes be references to secrets instead of plain values, fewer or shorter prefixes in migration.keys, or divide the services among several objects",
            );
        }
    }

    fn say_what_ends(&mut self, target: &Target, ids: &BTreeSet<StoreId>) {
        let from_redis = self.inputs.observed.source.present().is_some_and(|source| source.id.is_redis())
            || ids.iter().any(StoreId::is_redis);
        if target.store == StoreSpec::Disabled {
            if !target.migration.consent.data_loss && from_redis {
                self.block(
                    Reason::DataLoss,
                    "spec.store.disabled",
                    "switching Redis off ends every session in it",
                    "set spec.migration.consent.dataLoss: true if that is meant",
                );
            } else if from_redis {
                self.note(
                    "nothing is copied: every session in the store in use ends with the switch (consent.dataLoss)",
                );
            }
        } else if self.inputs.observed.source.is_absent() && ids.iter().all(|id| !id.is_redis()) && !ids.is_empty() {
            self.note(
                "nothing is copied: the services use no Redis now, and sessions in their memory end with the switch",
            );
        }
    }

    fn say_what_stops_source(&mut self, target: &Target, services: &[Using<'a>]) {
        let reading = &self.inputs.observed.source;
        let is_unseen = services.iter().any(|using| matches!(using.serving, Serving::Unseen(_)));
        match reading {
            Reading::Present(_) | Reading::Absent => {}
            // What hides it has been said, service by service.
            Reading::Hidden(_) if is_unseen => return,
            Reading::Unknown(_) | Reading::Hidden(_) => return self.unread(reading, "the store in use"),
        }
        if !reading.is_absent() {
            return;
        }
        if target.migration.from.is_some() {
            self.block(
                Reason::StoreNotFound,
                "spec.migration.from",
                "the store it names does not exist",
                "correct it, or leave it out to have the store in use read off the services",
            );
        } else if self.plan.blocks.is_empty()
            && let Some(using) = services.iter().find(|using| matches!(using.serving, Serving::Store(..)))
        {
            self.block(
                Reason::SourceUnknown,
                format!("service {}", using.spec.name),
                "it points to a store that does not exist any more",
                Reason::SourceUnknown.remedy(),
            );
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
                "set env.writer: Operator",
            ),
        }
        match using.service.source {
            ServiceSource::Image | ServiceSource::CodeApi => {}
            ServiceSource::CodeRepository => self.block(
                Reason::VariablesHidden,
                subject.clone(),
                "ConfigurationSource is REPOSITORY, so App Runner ignores variables written through its API",
                "set ConfigurationSource=API on the service",
            ),
        }
        self.say_what_takeover_stops(target, using, &subject);
        self.say_what_variables_stop(target, using, &subject);
        self.say_what_network_stops(target, using);
    }

    fn say_what_variables_stop(&mut self, target: &'a Target, using: &Using<'a>, subject: &str) {
        let store = self.inputs.observed.target.present();
        if store.is_some_and(|store| !store.id.is_redis()) || target.store == StoreSpec::Disabled {
            return;
        }
        let address = store.and_then(|store| store.address.clone());
        let unmade = Address { host: String::new(), port: env::DEFAULT_PORT, db: 0, user: None, tls: true };
        let present: BTreeSet<String> = using.service.variables.keys().cloned().collect();
        let has_password = store.is_none_or(|store| store.credential.is_some());
        let outline =
            env::outline(&target.env.format, &present, address.as_ref().unwrap_or(&unmade), has_password, false);
        let secret = outline.values().any(|outline| matches!(outline, Outline::Secret { .. }));
        if secret && target.env.secrets == SecretDelivery::SecretsManager && using.service.instance_role.is_none() {
            self.block(
                Reason::SecretUnreadable,
                subject,
                "it has no instance role, so it cannot be given a secret",
                "set InstanceRoleArn on the service, or write env.secrets.provider: PlainText",
            );
        }
        let all = present.iter().chain(outline.keys()).collect::<BTreeSet<_>>().len();
        if all > MOST_VARIABLES {
            self.block(
                Reason::TooManyVariables,
                subject,
                format!("it would have {all} variables, and App Runner allows {MOST_VARIABLES}"),
                Reason::TooManyVariables.remedy(),
            );
        }
        let pointing =
            using.service.variables.iter().map(|(name, variable)| (name.as_str(), variable.address.as_ref()));
        for rival in env::rivals(&target.env.format, pointing, address.as_ref().unwrap_or(&unmade)) {
            let place =
                rival.address.map_or("somewhere that could not be read".to_owned(), |address| address.to_string());
            self.block(
                Reason::RivalVariable,
                subject,
                format!("variable {} points to {place}, and the app could prefer it", rival.variable),
                "remove it by hand, or choose the env.format that writes it",
            );
        }
        if let Some(Err(misfit)) = address.map(|to| env::fits(&target.env.format, &to)) {
            let message = misfit.to_string();
            let (message, remedy) = message.rsplit_once("; ").unwrap_or((&message, "choose another format"));
            let message = message.strip_prefix("spec.env.format: ").unwrap_or(message);
            self.block(Reason::FormatMismatch, "spec.env.format", message, remedy);
        }
    }

    fn say_what_takeover_stops(&mut self, target: &Target, using: &Using<'_>, subject: &str) {
        let source = self.inputs.observed.source.present().map(|store| &store.id);
        for name in env::names(&target.env.format) {
            let Some(variable) = using.service.variables.get(&name) else { continue };
            if self.is_written_by_us(using, variable) {
                continue;
            }
            let why = match target.env.takeover {
                Takeover::Always => continue,
                Takeover::Never => "spec.env.takeover is Never".to_owned(),
                // Parts of an address (port, TLS, password) belong to the host they stand beside.
                Takeover::IfServingFrom => {
                    let Some(address) = &variable.address else { continue };
                    let id = identify(address, &self.known_stores());
                    // Services that lead elsewhere as a whole are said once, as services that disagree.
                    let disagrees = target.migration.from.is_none() && using.serving.id().as_ref() == Some(&id);
                    if disagrees || source.is_none_or(|source| *source == id) {
                        continue;
                    }
                    format!("its value leads to {id}, not to the store in use")
                }
            };
            self.block(
                Reason::ForeignVariable,
                subject,
                format!("variable {name} was not written by us, and {why}"),
                Reason::ForeignVariable.remedy(),
            );
        }
    }

    /// Ours by its secret, or beside one that is: the services are as a completed migration left them.
    fn is_written_by_us(&self, using: &Using<'_>, variable: &Variable) -> bool {
        let journal = self.inputs.journal;
        let by_secret = match &variable.delivery {
            Delivery::Reference(arn) => {
                arn.secret_name().is_some_and(|name| journal.made.contains_key(&Resource::Secret(name)))
            }
            Delivery::Plain => false,
        };
        let settled = journal.settled.as_ref().filter(|settled| settled.epoch.is_some());
        by_secret || settled.is_some_and(|settled| using.serving.id().as_ref() == Some(&settled.store))
    }

    /// The network table, asked before anything is made; connectors that are still to be made are asked about later.
    fn say_what_network_stops(&mut self, target: &'a Target, using: &Using<'a>) {
        let placement = match (&self.inputs.observed.target, &target.store) {
            (Reading::Present(store), _) => store.placement.clone(),
            (Reading::Absent, StoreSpec::Upstash { .. }) => Placement::Public,
            (Reading::Absent, StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Create(_), .. }) => {
                Placement::Vpc { vpc: "the VPC of spec.store.elastiCache.create".to_owned(), groups: Vec::new() }
            }
            _ => return,
        };
        let made = match &using.spec.egress {
            EgressPolicy::CreateConnector { .. } => return,
            EgressPolicy::Keep | EgressPolicy::Default | EgressPolicy::Connector(_) => None,
        };
        // Which VPC a store that is still to be made will be in is known only to the vendor.
        let ends_in_vpc = match &using.spec.egress {
            EgressPolicy::Keep => using.service.egress != Egress::Default,
            EgressPolicy::Default => false,
            EgressPolicy::Connector(_) | EgressPolicy::CreateConnector { .. } => true,
        };
        if self.inputs.observed.target.is_absent() && placement != Placement::Public && ends_in_vpc {
            return;
        }
        if !self.connectors_are_read(using) {
            return;
        }
        let question = Self::question(target, using, made, &placement);
        match egress_change(&question, |arn| self.connector(arn)) {
            Err(block) => self.plan.blocks.push(*block),
            Ok(change) => {
                if let Some(store) = self.inputs.observed.target.present().filter(|_| rules_are_theirs(&target.store)) {
                    self.rules(target, std::slice::from_ref(using), store, &[change]);
                }
            }
        }
    }

    /// Whether the connectors a question is about could be read; says which could not.
    pub(super) fn connectors_are_read(&mut self, using: &Using<'a>) -> bool {
        let asked = match &using.spec.egress {
            EgressPolicy::Connector(arn) => Some(arn),
            EgressPolicy::Keep | EgressPolicy::Default | EgressPolicy::CreateConnector { .. } => None,
        };
        let now = match &using.service.egress {
            Egress::Vpc(arn) => Some(arn),
            Egress::Default => None,
        };
        let mut read = true;
        for arn in [now, asked].into_iter().flatten().collect::<BTreeSet<_>>() {
            let reading = self.inputs.observed.connectors.get(arn);
            if let Some(reading @ (Reading::Unknown(_) | Reading::Hidden(_))) = reading {
                self.unread(reading, &format!("connector {arn}"));
                read = false;
            }
        }
        read
    }

    fn say_what_stops_store(&mut self, target: &Target, store: &Store) {
        if !store.id.is_redis() {
            return;
        }
        if store.cluster != target.app.cluster_client {
            let (is, client) = if store.cluster { ("speaks", "does not") } else { ("does not speak", "does") };
            self.block(
                Reason::ClusterMismatch,
                "spec.app.clusterClient",
                format!("{} {is} the cluster protocol and the app's client {client}", store.id),
                Reason::ClusterMismatch.remedy(),
            );
        }
        if let (StoreSpec::External { tls }, Some(address)) = (&target.store, &store.address) {
            let wrong = match tls {
                TlsPolicy::Required => !address.tls,
                TlsPolicy::Preferred => false,
                TlsPolicy::Disabled => address.tls,
            };
            if wrong {
                let scheme = if address.tls { "rediss://, with TLS" } else { "redis://, without TLS" };
                self.block(
                    Reason::TlsMismatch,
                    "spec.store.external.tls",
                    format!("is {tls:?}, and the URL is {scheme}"),
                    Reason::TlsMismatch.remedy(),
                );
            }
        }
        if let (Some(allowed), Some(needed)) = (store.max_connections, target.app.max_connections)
            && allowed < needed
        {
            self.block(
                Reason::ConnectionLimit,
                "spec.app.maxConnections",
                format!("{} allows {allowed} connections and the app needs {needed}", store.id),
                Reason::ConnectionLimit.remedy(),
            );
        }
        self.say_what_amounts_stop(target, store);
    }

    /// Databases other than 0 are mapped by consent, and every service is told one database.
    fn say_what_databases_stop(&mut self, target: &Target, services: &[Using<'_>], store: &Store) {
        let Some(source) = self.copied_from(target) else { return };
        let policy = &target.migration;
        let to = store.address.as_ref().map_or(0, |address| address.db);
        let names = env::names(&target.env.format);
        let catalog = self.known_stores();
        let told = services.iter().flat_map(|using| {
            let variables = names.iter().filter_map(|name| using.service.variables.get(name)?.address.as_ref());
            variables.filter(|address| identify(address, &catalog) == source.id).map(|address| address.db)
        });
        let used: BTreeSet<u32> = told.chain(source.address.as_ref().map(|address| address.db)).collect();
        let mapping = if policy.rules.databases.is_empty() { vec![(0, 0)] } else { policy.rules.databases.clone() };
        for db in &used {
            let problem = match mapping.iter().find(|(from, _)| from == db) {
                Some((_, mapped)) if *mapped == to => continue,
                Some((_, mapped)) => {
                    format!("database {db} is mapped to {mapped}, but the services will be told database {to}")
                }
                None => format!("the services use database {db} of {}, whose keys would be left behind", source.id),
            };
            self.block(
                Reason::UnmatchedKeys,
                "spec.migration.databases",
                problem,
                format!("write {{ from: {db}, to: {to} }}"),
            );
        }
        let Some(server) = source.server.present() else { return };
        for (db, keys) in server.keys.iter().filter(|(db, keys)| **keys > 0 && !used.contains(db)) {
            if !mapping.iter().any(|(from, _)| from == db) {
                self.note(format!(
                    "database {db} of {} has {keys} keys that no service here uses; they stay behind",
                    source.id
                ));
            }
        }
    }

    /// The store in use, where keys are to be copied from it.
    pub(super) fn copied_from(&self, target: &Target) -> Option<&'a Store> {
        let rules = &target.migration.rules;
        let copies_keys =
            rules.unmatched != Unmatched::Skip || rules.keys.iter().any(|rule| rule.strategy == KeyStrategy::Copy);
        let source = self.inputs.observed.source.present().filter(|source| source.id.is_redis() && copies_keys)?;
        let leaves = match self.inputs.observed.target.present() {
            Some(store) => {
                let db = store.address.as_ref().map_or(0, |address| address.db);
                let stays = source.id == store.id && source.address.as_ref().is_none_or(|address| address.db == db);
                store.id.is_redis() && !stays
            }
            // It is made first.
            None => target.store != StoreSpec::Disabled,
        };
        leaves.then_some(source)
    }

    /// Keys are copied by this process: it has to reach both stores, and be let in.
    fn say_what_is_out_of_reach(&mut self, store: &Store, field: &str) {
        let what = format!("{field}, {}", store.id);
        match &store.server {
            Reading::Hidden(why) => self.block(
                Reason::Hidden,
                what,
                format!("sessions cannot be copied: {why}"),
                "run this where both stores can be reached, for one in a VPC inside that VPC",
            ),
            unread @ Reading::Unknown(_) => self.unread(unread, &what),
            Reading::Present(_) | Reading::Absent => {}
        }
    }

    /// Whether `name` is what the services were left on, and it is gone: it is not quietly made anew, empty.
    pub(super) fn was_settled_on(&self, name: &str) -> bool {
        let last = self.inputs.journal.migration.as_ref();
        last.is_some_and(|last| {
            last.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Completed) && last.to.name == name
        })
    }
}

fn rules_are_theirs(store: &StoreSpec) -> bool {
    match store {
        StoreSpec::ReplicationGroup { rules, .. } | StoreSpec::ServerlessCache { rules, .. } => {
            *rules == RulesPolicy::Unmanaged
        }
        StoreSpec::Upstash { .. } | StoreSpec::External { .. } | StoreSpec::Disabled => true,
    }
}
