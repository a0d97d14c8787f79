//! Makes what a migration needs: the store, the connectors, the rules. Intent first, then the call, then the id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::desired::{EgressPolicy, ReplicationGroupRef, RulesPolicy, StoreSpec, Target, UpstashDatabase};
use crate::identity::{Arn, Owner, RuleId, StoreId};
use crate::journal::{EgressChange, Entry, Made, Resource, StoreRecord};
use crate::observed::{Connector, Egress, Placement, Reading, Rule, Store, StoreStatus};
use crate::step::Step;

use super::lost::{LISTED, Lost};
use super::network::{Question, egress_change};
use super::settle::Using;
use super::{Awaited, Block, Draft, Late, Reason, Wait, after};

/// Terraform allows a replication group an hour to be created.
const CREATE_LIMIT: Duration = Duration::from_hours(1);

impl<'a> Draft<'a> {
    /// The store of the spec, once it serves.
    pub(super) fn store(&mut self, target: &Target) -> Option<&'a Store> {
        let reading = &self.inputs.observed.target;
        let store = match reading {
            Reading::Present(store) => store,
            Reading::Absent => {
                self.create_store(target);
                return None;
            }
            Reading::Unknown(_) | Reading::Hidden(_) => {
                self.unread_store(target);
                return None;
            }
        };
        if let Some((resource, id, made)) = self.found_without_id(target, store) {
            match self.lost(&resource, made)? {
                Lost::Found(found) if found == id => self.journal(Entry::Made(resource, id)),
                Lost::Foreign(by) => self.name_is_taken(&resource, by, adopting(&resource)),
                Lost::Found(_) | Lost::Nothing => self.unlisted(&resource, made.intended),
            }
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
            StoreStatus::Deleting | StoreStatus::Failed(_) => {
                self.say_how_it_fails(store);
                None
            }
        }
    }

    /// Whether there is a store to go to, or one that may be made: asked before anything is.
    pub(super) fn say_what_the_store_stops(&mut self, target: &Target) {
        match &self.inputs.observed.target {
            Reading::Unknown(_) | Reading::Hidden(_) => self.unread_store(target),
            Reading::Present(store) => {
                self.say_how_it_fails(store);
                if let Some((resource, _, made)) = self.found_without_id(target, store)
                    && let Some(Lost::Foreign(by)) = self.lost(&resource, made)
                {
                    self.name_is_taken(&resource, by, adopting(&resource));
                }
                if store.credential.is_none() && matches!(store.id, StoreId::Upstash(_)) {
                    self.block(
                        Reason::CredentialsMissing,
                        "spec.store",
                        format!(
                            "the password of {} is not known: Upstash shows it once where Credential Protection is on",
                            store.id
                        ),
                        "switch Credential Protection off for the database, or give its URL as spec.store.external",
                    );
                }
            }
            Reading::Absent => {
                let steps = self.plan.steps.len();
                self.create_store(target);
                // Only what stops it is said now; the store is made when its turn comes.
                self.plan.steps.truncate(steps);
            }
        }
    }

    /// The resource that `store` would be if it is ours, where the reply of the call that made it was lost.
    fn found_without_id(&self, target: &Target, store: &Store) -> Option<(Resource, String, &'a Made)> {
        let (resource, id) = found_again(target, store)?;
        let made = self.inputs.journal.made.get(&resource).filter(|made| made.id.is_none())?;
        Some((resource, id, made))
    }

    /// A store that does not serve.
    pub(super) fn say_how_it_fails(&mut self, store: &Store) {
        let (reason, how) = match &store.status {
            StoreStatus::Available | StoreStatus::Modifying | StoreStatus::Creating => return,
            StoreStatus::Deleting => (Reason::StoreGone, "being deleted".to_owned()),
            StoreStatus::Failed(status) => (Reason::StoreFailed, format!("in status {status:?} and does not serve")),
        };
        self.block(reason, "spec.store", format!("{} is {how}", store.id), reason.remedy());
    }

    /// The store of the spec cannot be told: why, and what would help.
    pub(super) fn unread_store(&mut self, target: &Target) {
        match (&target.store, &self.inputs.observed.target) {
            (StoreSpec::Upstash { managed: false, .. }, Reading::Hidden(_)) => self.block(
                Reason::CredentialsMissing,
                "spec.store.upstash.apiKeySecretRef",
                "without the management API's key the database can neither be found nor created",
                "name a Secret with the keys email and apiKey",
            ),
            (_, reading) => self.unread(reading, "spec.store"),
        }
    }

    fn create_store(&mut self, target: &Target) {
        match &target.store {
            StoreSpec::Upstash { database: UpstashDatabase::Named { name, region }, plan, managed: true } => {
                let resource = Resource::UpstashDatabase(name.clone());
                if self.was_settled_on(name) && !self.inputs.journal.made.contains_key(&resource) {
                    return self.gone(&resource);
                }
                let step =
                    Step::CreateUpstashDatabase { name: name.clone(), region: region.clone(), plan: plan.clone() };
                self.create(resource, step);
            }
            StoreSpec::Upstash { managed: false, .. } => self.block(
                Reason::CredentialsMissing,
                "spec.store.upstash.apiKeySecretRef",
                "without the management API's key the database can neither be found nor created",
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
                if let Some(resource) = self.settled_on(&target.store) {
                    return self.gone(&resource);
                }
                self.block(
                    Reason::StoreNotFound,
                    "spec.store",
                    "the store it names does not exist",
                    Reason::StoreNotFound.remedy(),
                );
            }
        }
    }

    /// Writes down that `resource` is about to be made, then makes it. A store that was made and is gone had data in it:
    /// it is not made again.
    fn create(&mut self, resource: Resource, step: Step) {
        match self.inputs.journal.made.get(&resource) {
            None => self.journal(Entry::Intend(resource)),
            Some(made) if made.id.is_none() => self.step(step),
            Some(made) if self.inputs.now < after(made.intended, LISTED) => self.unlisted(&resource, made.intended),
            Some(_) => self.gone(&resource),
        }
    }

    /// The store that the spec names by its id, where the services were left on it.
    fn settled_on(&self, spec: &StoreSpec) -> Option<Resource> {
        let settled = &self.inputs.journal.settled.as_ref()?.store;
        match (spec, settled) {
            (StoreSpec::Upstash { database: UpstashDatabase::Existing(id), .. }, StoreId::Upstash(was)) => {
                (id == was).then(|| Resource::UpstashDatabase(id.clone()))
            }
            (
                StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Existing(id), .. },
                StoreId::ReplicationGroup(was),
            ) => id.eq_ignore_ascii_case(was).then(|| Resource::ReplicationGroup(was.clone())),
            _ => None,
        }
    }

    fn gone(&mut self, resource: &Resource) {
        self.block(
            Reason::StoreGone,
            String::from(resource.clone()),
            "it was there and is gone, and its sessions with it: somebody deleted it",
            Reason::StoreGone.remedy(),
        );
    }

    /// A list of the vendor's may not have it yet.
    pub(super) fn unlisted(&mut self, resource: &Resource, since: jiff::Timestamp) {
        let what = String::from(resource.clone());
        let is_lost = self.inputs.journal.made.get(resource).is_some_and(|made| made.id.is_none());
        let was = if is_lost { "may have been" } else { "was" };
        self.wait(Wait {
            message: format!("{what} {was} made and is not listed yet"),
            on: Awaited::Reading(what),
            since,
            expected: None,
            deadline: Some(after(since, LISTED)),
        });
    }

    /// Something without data that we made and that is gone: it is forgotten, and made again.
    fn make_again(&mut self, resource: Resource) {
        match self.inputs.journal.made.get(&resource) {
            Some(made) if self.inputs.now < after(made.intended, LISTED) => self.unlisted(&resource, made.intended),
            Some(_) | None => self.journal(Entry::Gone(resource)),
        }
    }

    /// The connectors the spec asks us to make, by service name.
    pub(super) fn connectors_of_ours(&mut self, target: &Target) -> Option<BTreeMap<String, Arn>> {
        let mut made = BTreeMap::new();
        let mut complete = true;
        for (index, spec) in target.services.iter().enumerate() {
            let EgressPolicy::CreateConnector { subnets, security_groups } = &spec.egress else { continue };
            let name = self.inputs.owner.short_name(&format!("vpc{index}"));
            match self.connector_of_ours(&name, subnets, security_groups) {
                Some(arn) => {
                    made.insert(spec.name.clone(), arn);
                }
                None => complete = false,
            }
        }
        complete.then_some(made)
    }

    fn connector_of_ours(&mut self, name: &str, subnets: &[String], groups: &[String]) -> Option<Arn> {
        let resource = Resource::Connector(name.to_owned());
        let observed = self.inputs.observed;
        let made = self.inputs.journal.made.get(&resource);
        if let Some(made) = made.filter(|made| made.id.is_none()) {
            match self.lost(&resource, made)? {
                Lost::Found(arn) => self.journal(Entry::Made(resource, arn.to_owned())),
                Lost::Foreign(by) => self.name_is_taken(&resource, by, adopting(&resource)),
                Lost::Nothing => {
                    let (subnets, security_groups) = (subnets.to_vec(), groups.to_vec());
                    self.create(resource, Step::CreateConnector { name: name.to_owned(), subnets, security_groups });
                }
            }
            return None;
        }
        let by_name = |(arn, reading): (&'a Arn, &'a Reading<Connector>)| {
            reading.present().filter(|connector| connector.name == name).map(|connector| (arn, connector))
        };
        if let Some((arn, connector)) = observed.connectors.iter().find_map(by_name) {
            let are: BTreeSet<&str> = connector.groups.iter().map(|group| group.0.as_str()).collect();
            let asked: BTreeSet<&str> = groups.iter().map(String::as_str).collect();
            if are != asked {
                let are: Vec<_> = are.into_iter().collect();
                self.block(
                    Reason::Immutable,
                    format!("connector {name}"),
                    format!("it has the security groups {}, and a connector cannot be changed", are.join(", ")),
                    "put vpcConnector.create back as it was, or name another connector by its arn",
                );
                return None;
            }
            return Some(arn.clone());
        }
        let id = made.and_then(|made| made.id.clone());
        match id.map(|id| observed.connectors.get(&Arn(id)).unwrap_or(&Reading::Absent)) {
            None => {
                let (subnets, security_groups) = (subnets.to_vec(), groups.to_vec());
                let step = Step::CreateConnector { name: name.to_owned(), subnets, security_groups };
                self.create(resource, step);
            }
            Some(Reading::Absent | Reading::Present(_)) => self.make_again(resource),
            Some(unread) => self.unread(unread, &format!("connector {name}")),
        }
        None
    }

    pub(super) fn connector(&self, arn: &Arn) -> Option<&'a Connector> {
        self.inputs.observed.connectors.get(arn).and_then(Reading::present)
    }

    pub(super) fn question<'q>(
        target: &'q Target,
        using: &Using<'q>,
        made: Option<&'q Arn>,
        to: &'q Placement,
    ) -> Question<'q> {
        Question {
            name: &using.spec.name,
            service: using.service,
            policy: &using.spec.egress,
            made,
            to,
            consent: target.migration.consent,
        }
    }

    pub(super) fn egress_changes(
        &mut self,
        target: &Target,
        services: &[Using<'a>],
        store: &Store,
        made: &BTreeMap<String, Arn>,
    ) -> Option<Vec<EgressChange>> {
        // Every service has its say, also after one that could not be read.
        let read: Vec<_> = services.iter().map(|using| self.connectors_are_read(using)).collect();
        if read.contains(&false) {
            return None;
        }
        let answers: Vec<_> = services
            .iter()
            .map(|using| {
                let question = Self::question(target, using, made.get(&using.spec.name), &store.placement);
                egress_change(&question, |arn| self.connector(arn))
            })
            .collect();
        let blocks: Vec<Block> =
            answers.iter().filter_map(|answer| answer.as_ref().err().map(|block| (**block).clone())).collect();
        self.plan.blocks.extend(blocks);
        answers.into_iter().collect::<Result<_, _>>().ok()
    }

    /// One rule per (connector group, store group, port) where the new store is inside a VPC.
    pub(super) fn rules(
        &mut self,
        target: &Target,
        services: &[Using<'a>],
        store: &Store,
        egress: &[EgressChange],
    ) -> bool {
        let Placement::Vpc { groups, .. } = &store.placement else { return true };
        let policy = match &target.store {
            StoreSpec::ReplicationGroup { rules, .. } | StoreSpec::ServerlessCache { rules, .. } => *rules,
            StoreSpec::Upstash { .. } | StoreSpec::External { .. } | StoreSpec::Disabled => RulesPolicy::Unmanaged,
        };
        let Some(port) = store.address.as_ref().map(|address| address.port) else { return true };
        let mut admitted = true;
        let mut asked = BTreeSet::new();
        for (using, change) in services.iter().zip(egress) {
            let ends = match change {
                EgressChange::None => &using.service.egress,
                EgressChange::First(egress) | EgressChange::WithVariables(egress) | EgressChange::Last(egress) => {
                    egress
                }
            };
            let Egress::Vpc(arn) = ends else { continue };
            let Some(connector) = self.connector(arn) else { continue };
            let admits = |rule: &Rule| {
                groups.contains(&rule.group) && connector.groups.iter().any(|source| rule.admits(source, port))
            };
            let mut present =
                self.inputs.observed.rules.iter().filter_map(|(id, reading)| Some((id, reading.present()?)));
            if let Some((id, rule)) = present.find(|(_, rule)| admits(rule)) {
                admitted &= self.rule_is_known(id, rule, port);
                continue;
            }
            let (Some(group), Some(source)) = (groups.first(), connector.groups.first()) else { continue };
            admitted = false;
            // It may be admitted by a rule that could not be read.
            if let Some((group, error)) = self.inputs.observed.unread_groups.iter().find(|(id, _)| groups.contains(id))
            {
                self.unread(&Reading::<()>::Unknown(error.clone()), &format!("the rules of security group {group}"));
                continue;
            }
            match policy {
                RulesPolicy::Managed => {
                    if asked.insert((group, source)) {
                        let step = Step::AuthorizeIngress { group: group.clone(), source: source.clone(), port };
                        self.rule(Step::rule_name(group, source, port), step);
                    }
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

    /// Writes down the id of a rule of ours whose reply was lost.
    fn rule_is_known(&mut self, id: &RuleId, rule: &Rule, port: u16) -> bool {
        let Some(source) = rule.source.as_ref().filter(|_| rule.ours) else { return true };
        let resource = Step::rule_name(&rule.group, source, port);
        let is_lost = self.inputs.journal.made.get(&resource).is_some_and(|made| made.id.is_none());
        if is_lost {
            self.journal(Entry::Made(resource, id.0.clone()));
        }
        !is_lost
    }

    fn rule(&mut self, resource: Resource, step: Step) {
        let id = self.inputs.journal.made.get(&resource).and_then(|made| made.id.clone());
        match id.map(|id| self.inputs.observed.rules.get(&id.as_str().into()).unwrap_or(&Reading::Absent)) {
            None => self.create(resource, step),
            Some(Reading::Absent | Reading::Present(_)) => self.make_again(resource),
            Some(unread) => self.unread(unread, &String::from(resource)),
        }
    }
}

/// What to do about somebody else's resource that has the name of ours.
fn adopting(resource: &Resource) -> &'static str {
    match resource {
        Resource::UpstashDatabase(_) => {
            "name it by its id in spec.store.upstash.database to use it as it is, or choose another name"
        }
        Resource::ReplicationGroup(_) => {
            "name it in spec.store.elastiCache.replicationGroupId to use it as it is, or delete it"
        }
        Resource::Connector(_) => "name it by its arn in vpcConnector to use it as it is, or delete it",
        Resource::SubnetGroup(_) | Resource::Rule(_) | Resource::Secret(_) => "delete it, or give it another name",
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

/// Whether a spec asks for the store of a record, as far as names tell: for stores that are not there to be asked.
pub(super) fn asks_for(spec: &StoreSpec, record: &StoreRecord, owner: &Owner) -> bool {
    match (spec, &record.id) {
        (StoreSpec::Upstash { database: UpstashDatabase::Named { name, .. }, .. }, StoreId::Upstash(_)) => {
            *name == record.name
        }
        (StoreSpec::Upstash { database: UpstashDatabase::Existing(asked), .. }, StoreId::Upstash(id)) => asked == id,
        (StoreSpec::ReplicationGroup { group, .. }, StoreId::ReplicationGroup(id)) => match group {
            ReplicationGroupRef::Existing(asked) => asked == id,
            ReplicationGroupRef::Create(_) => *id == owner.short_name("cache"),
        },
        (StoreSpec::ServerlessCache { name, .. }, StoreId::ServerlessCache(id)) => name == id,
        (StoreSpec::External { .. }, StoreId::External(..)) | (StoreSpec::Disabled, StoreId::Disabled) => true,
        _ => false,
    }
}
