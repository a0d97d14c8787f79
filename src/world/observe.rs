//! One observation: everything the planner may look at, read as concurrently as its parts allow. Never fails.
//! Also remembers, for the steps that follow, what no step may carry: passwords, addresses, the format of the variables.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_apprunner::types::{ServiceStatus as SdkStatus, ServiceSummary};
use futures::future::join_all;
use secrecy::ExposeSecret;

use crate::clock::{Clock, Time as _};
use crate::desired::{DeletionPolicy, Desired, EgressPolicy, EnvFormat, StoreSpec, Target};
use crate::env;
use crate::error::CloudError;
use crate::identity::{Address, Arn, Owner};
use crate::journal::{Journal, Resource};
use crate::observed::{Bystander, CatalogEntry, Copy, Observed, Reading, Service, Store};

use super::long::{CopyJob, SceneService};
use super::lost::Listed;
use super::service::{self, Live};
use super::stores::{Found, Listings, Wired};
use super::{CloudWorld, cache, network, reading};

/// A service to look at.
struct Named {
    name: String,
    /// Where it is known.
    arn: Option<Arn>,
    /// Whether a service that was made anew under the same name is meant too.
    or_successor: bool,
}

/// The services with what their variables say.
#[derive(Default)]
struct Services {
    readings: BTreeMap<String, Reading<Service>>,
    wired: Vec<(Address, secrecy::SecretString)>,
    plain_bytes: BTreeMap<String, BTreeMap<String, usize>>,
}

impl CloudWorld {
    pub(super) async fn observe_all(&self, owner: &Owner, desired: &Desired, journal: &Journal) -> Observed {
        let target = match desired {
            Desired::Present(target) => Some(&**target),
            Desired::Absent { .. } => None,
        };
        if let Some(target) = target {
            self.memory().target = Some(target.clone());
        }
        let mut named = named(desired, journal);
        let asked: BTreeSet<String> = named.iter().map(|named| named.name.clone()).collect();
        let format = target.map(|target| &target.env.format);
        let (account, listed, stores, connectors, claims, copy) = futures::join!(
            self.account(),
            self.aws.apprunner.services(),
            self.list_stores(),
            self.aws.apprunner.connectors(),
            self.all_claims(owner, desired, &asked),
            self.copy(target, journal),
        );
        for service in claims.readings.keys().filter(|service| !asked.contains(*service)) {
            named.push(Named { name: service.clone(), arn: None, or_successor: true });
        }
        let catalog = stores.catalog();
        let (services, bystanders) = futures::join!(
            self.services(owner, &named, &listed, format, journal, &catalog),
            self.bystanders(owner, desired, journal, &listed, &named, &catalog),
        );
        let (target_store, source) = self.stores(owner, target, journal, &stores, &services).await;
        let groups = network::groups_of(
            [&target_store, &source].into_iter().filter_map(|reading| Some(&reading.present()?.placement)),
        );
        let wanted = network::wanted(owner, target, journal, &services.readings, &bystanders);
        let listed = Listed { stores: &stores, connectors: &connectors };
        let (namesakes, connectors, rules, secrets, forgotten) = futures::join!(
            self.namesakes(owner, journal, &listed),
            self.connectors(owner, &wanted, &connectors, &groups),
            self.rules(owner, &groups, target, journal),
            self.epoch_secrets(owner, format, journal, target_store.present()),
            self.forgotten(owner, journal, [&target_store, &source]),
        );
        let role_access = self.role_access(&services.readings, &secrets).await;
        self.remember_services(target, &services.readings);
        let mut observed = Observed {
            account: reading(account),
            services: services.readings,
            plain_bytes: services.plain_bytes,
            bystanders,
            target: target_store,
            source,
            catalog,
            unlisted: stores.gaps(journal),
            namesakes,
            connectors,
            rules: rules.readings,
            unread_groups: rules.unread,
            secrets,
            claims: claims.readings,
            unsearched_claims: claims.unsearched,
            role_access,
            copy,
            forgotten,
            checks: self.long.checker.runs(),
            missed: BTreeMap::new(),
            busy: BTreeMap::new(),
            lack: self.lack.clone(),
        };
        let mut memory = self.memory();
        let now = Clock.now();
        observed.miss(journal, &memory.missed, now);
        memory.missed.clone_from(&observed.missed);
        let busy = stores.busy().map(|(id, status)| {
            let known = memory.busy.get(&id).filter(|(known, _)| *known == status).map(|(_, since)| *since);
            (id, (status, known.unwrap_or(now)))
        });
        observed.busy = busy.collect();
        memory.busy.clone_from(&observed.busy);
        drop(memory);
        observed
    }

    async fn account(&self) -> Result<String, CloudError> {
        if let Some(account) = self.cache.account.id.get("", cache::ACCOUNT) {
            return Ok(account);
        }
        let account = self.aws.sts.account().await?;
        self.cache.account.id.put("", account.clone());
        Ok(account)
    }

    async fn services(
        &self,
        owner: &Owner,
        named: &[Named],
        listed: &Result<Vec<ServiceSummary>, CloudError>,
        format: Option<&EnvFormat>,
        journal: &Journal,
        catalog: &[CatalogEntry],
    ) -> Services {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let readings = named.iter().map(|named| (named.name.clone(), Reading::Unknown(error.clone())));
                return Services { readings: readings.collect(), ..Services::default() };
            }
        };
        let lives = named.iter().map(|named| async move {
            let live = match named.find(listed) {
                Some(arn) => reading(self.live(&named.name, &arn, journal).await),
                None => Reading::Absent,
            };
            (&named.name, live)
        });
        let mut all = Services::default();
        for (name, live) in join_all(lives).await {
            let seen = match live {
                Reading::Present(live) => {
                    let ours = service::ours(format, journal, name);
                    let (service, passwords) = service::observe(owner, &live, format, &ours, catalog);
                    for (_, password) in &passwords {
                        self.keep(owner, password);
                    }
                    all.wired.extend(passwords);
                    all.plain_bytes.insert(name.clone(), service::plain_bytes(&live));
                    Reading::Present(service)
                }
                Reading::Absent => Reading::Absent,
                Reading::Unknown(error) => Reading::Unknown(error),
                Reading::Hidden(why) => Reading::Hidden(why),
            };
            all.readings.insert(name.clone(), seen);
        }
        all
    }

    async fn live(&self, name: &str, arn: &Arn, journal: &Journal) -> Result<Live, CloudError> {
        let awaited = service::awaited(journal, name);
        let enough = |operations: &[aws_sdk_apprunner::types::OperationSummary]| {
            awaited.iter().all(|id| operations.iter().any(|operation| operation.id.as_ref() == Some(id)))
        };
        let (described, operations) =
            futures::join!(self.aws.apprunner.service(arn), self.aws.apprunner.operations(arn, enough));
        let described = described?;
        let scaling = described.auto_scaling_configuration_summary.as_ref();
        let scaling = scaling.and_then(|scaling| scaling.auto_scaling_configuration_arn.clone());
        let (max_instances, references) =
            futures::join!(self.max_instances(scaling), self.resolve(service::references(&described)));
        Ok(Live { service: described, operations: operations?, max_instances, references })
    }

    /// A revision of a scaling configuration never changes; where it cannot be read the budget check says so.
    async fn max_instances(&self, scaling: Option<String>) -> Option<u32> {
        let arn = scaling?;
        if let Some(known) = self.cache.account.scaling.get(&arn, cache::HOUR) {
            return known;
        }
        let most = self.aws.apprunner.max_instances(&arn).await.ok()?;
        self.cache.account.scaling.put(&arn, most);
        most
    }

    /// The other services: asked for only where something could be taken away from them, and the values behind their
    /// references only where that could be a store.
    async fn bystanders(
        &self,
        owner: &Owner,
        desired: &Desired,
        journal: &Journal,
        listed: &Result<Vec<ServiceSummary>, CloudError>,
        ours: &[Named],
        catalog: &[CatalogEntry],
    ) -> Reading<Vec<Bystander>> {
        let taken = could_be_taken_away(desired, journal);
        if taken == Taken::Nothing {
            return Reading::Hidden("nothing that others could use is to be removed".to_owned());
        }
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return Reading::Unknown(error.clone()),
        };
        let ours: BTreeSet<Arn> = ours.iter().filter_map(|named| named.find(listed)).collect();
        let others = listed.iter().filter(|other| {
            let is_ours = other.service_arn.as_ref().is_some_and(|arn| ours.contains(&Arn(arn.clone())));
            !is_ours && other.status != Some(SdkStatus::Deleted)
        });
        let readings = others.filter_map(|other| {
            let (name, arn) = (other.service_name.clone()?, Arn(other.service_arn.clone()?));
            let updated = other.updated_at.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(async move {
                let key = format!("{arn} {updated}");
                let known = self.cache.account.bystanders.get(&key, cache::HOUR);
                let described = if let Some(known) = known {
                    known
                } else {
                    let described = self.aws.apprunner.service(&arn).await?;
                    self.cache.account.bystanders.put(&key, described.clone());
                    described
                };
                let references = match taken {
                    Taken::Store => self.resolve(service::references(&described)).await,
                    Taken::Access | Taken::Nothing => BTreeMap::new(),
                };
                let live = Live { service: described, operations: Vec::new(), max_instances: None, references };
                Ok::<_, CloudError>(service::bystander(owner, name, &live, catalog))
            })
        });
        match join_all(readings).await.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(others) => Reading::Present(others),
            Err(error) => Reading::Unknown(error),
        }
    }

    /// The store of the spec and the store in use.
    async fn stores(
        &self,
        owner: &Owner,
        target: Option<&Target>,
        journal: &Journal,
        listings: &Listings,
        services: &Services,
    ) -> (Reading<Store>, Reading<Store>) {
        let Some(target) = target else { return (Reading::Absent, Reading::Absent) };
        let (to, from) = futures::join!(
            self.store_of_spec(owner, &target.store, &self.inputs.store, journal, listings),
            self.source(owner, target, journal, listings, services),
        );
        let url = self.inputs.store.url.as_ref().filter(|_| matches!(target.store, StoreSpec::External { .. }));
        let database = Database {
            named: url.is_some_and(|url| env::names_database(url.expose_secret())),
            mapped: target.migration.rules.databases.first().map(|(_, to)| *to),
        };
        let to = in_use_of(database, to, &from);
        let wired: &Wired = &services.wired;
        // One after the other: the source is remembered last only where it is another store.
        let from = self.complete(owner, from, wired, journal).await;
        let to = self.complete(owner, to, wired, journal).await;
        (to, from)
    }

    /// The journal while a migration is open, else the spec's word, else what the running services say.
    async fn source(
        &self,
        owner: &Owner,
        target: &Target,
        journal: &Journal,
        listings: &Listings,
        services: &Services,
    ) -> Reading<Found> {
        if let Some(migration) = journal.open_migration() {
            return match &migration.from {
                Some(record) => self.store_of_record(record, &self.inputs.from, listings).await,
                None => Reading::Absent,
            };
        }
        if let Some(spec) = &target.migration.from {
            return self.store_of_spec(owner, spec, &self.inputs.from, journal, listings).await;
        }
        match told(target, &services.readings, owner, journal) {
            Told::Address(address) => self.store_at(&address, &self.inputs.from, listings).await,
            Told::Nothing => Reading::Absent,
            Told::Unread(error) => Reading::Unknown(error),
            Told::Hidden(why) => Reading::Hidden(why),
        }
    }

    async fn copy(&self, target: Option<&Target>, journal: &Journal) -> Reading<Copy> {
        match self.copy_job(target, journal) {
            Some(Ok(job)) => self.long.copiers.progress(&job).await,
            Some(Err(error)) => Reading::Unknown(error),
            None => Reading::Absent,
        }
    }

    /// The job of the open migration, if it copies anything.
    pub(super) fn copy_job(&self, target: Option<&Target>, journal: &Journal) -> Option<Result<CopyJob, CloudError>> {
        let migration = journal.open_migration().filter(|migration| migration.copies)?;
        let from = migration.from.as_ref()?;
        let ends = self.frozen(from, "Copy").and_then(|from| Ok((from, self.frozen(&migration.to, "Copy")?)));
        Some(ends.map(|(from, to)| CopyJob {
            migration: migration.id.clone(),
            from,
            to,
            rules: migration.rules.clone(),
            attempt: migration.attempt,
            max_lag: target.map_or(DEFAULT_LAG, |target| target.migration.max_lag),
        }))
    }

    fn remember_services(&self, target: Option<&Target>, services: &BTreeMap<String, Reading<Service>>) {
        let order = target.into_iter().flat_map(|target| &target.services);
        let seen = order.filter_map(|spec| {
            let service = services.get(&spec.name)?.present()?;
            Some(SceneService {
                name: spec.name.clone(),
                arn: service.arn.clone(),
                host: service.host.clone(),
                max_instances: service.max_instances,
            })
        });
        self.memory().services = seen.collect();
    }
}

/// The lag that is wanted where no spec says so any more.
const DEFAULT_LAG: std::time::Duration = std::time::Duration::from_secs(5);

/// Services of the spec, and those a migration has to bring back although the spec no longer names them. Where the object
/// goes, all it was ever about: also what was made anew under the name may use what we made.
fn named(desired: &Desired, journal: &Journal) -> Vec<Named> {
    let of =
        |name: &String, arn: Option<&Arn>, or_successor| Named { name: name.clone(), arn: arn.cloned(), or_successor };
    let (mut named, kept): (Vec<Named>, _) = match desired {
        Desired::Present(target) => {
            let spec = target.services.iter().map(|service| of(&service.name, service.arn.as_ref(), false));
            (spec.collect(), journal.open_migration())
        }
        Desired::Absent { services, .. } => {
            (services.iter().map(|name| of(name, None, true)).collect(), journal.migration.as_ref())
        }
    };
    let goes = matches!(desired, Desired::Absent { .. });
    for moved in kept.into_iter().flat_map(|migration| &migration.services) {
        match named.iter_mut().find(|named| named.name == moved.service) {
            Some(named) if goes => named.arn = Some(moved.arn.clone()),
            Some(_) => {}
            None => named.push(of(&moved.service, Some(&moved.arn), goes)),
        }
    }
    named
}

impl Named {
    fn find(&self, listed: &[ServiceSummary]) -> Option<Arn> {
        let successor = || find(listed, &self.name, None).filter(|_| self.or_successor);
        find(listed, &self.name, self.arn.as_ref()).or_else(successor)
    }
}

/// The ARN of a live service. A deleted one stays listed for a while, perhaps beside its successor.
pub(super) fn find(listed: &[ServiceSummary], name: &str, arn: Option<&Arn>) -> Option<Arn> {
    let matches = |summary: &&ServiceSummary| match arn {
        Some(arn) => summary.service_arn.as_ref() == Some(&arn.0),
        None => summary.service_name.as_deref() == Some(name),
    };
    let live = listed.iter().filter(matches).find(|summary| summary.status != Some(SdkStatus::Deleted));
    live.and_then(|summary| summary.service_arn.clone()).map(Arn)
}

/// The most that could be taken away from services that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Nothing,
    /// A connector, a rule, a secret: who uses it shows without the values behind references.
    Access,
    /// A store.
    Store,
}

fn could_be_taken_away(desired: &Desired, journal: &Journal) -> Taken {
    let is_store = |resource: &Resource| match resource {
        Resource::UpstashDatabase(_) | Resource::ReplicationGroup(_) => true,
        Resource::SubnetGroup(_) | Resource::Connector(_) | Resource::Rule(_) | Resource::Secret(_) => false,
    };
    let (store, access) = match desired {
        Desired::Present(target) => {
            let retire = &target.migration.retire;
            let leaves = target.services.iter().any(|service| service.egress != EgressPolicy::Keep);
            (retire.delete_old_store, leaves || !retire.rules.is_empty() || !retire.connectors.is_empty())
        }
        Desired::Absent { policy: DeletionPolicy::Delete, .. } => (journal.made.keys().any(is_store), false),
        Desired::Absent { policy: DeletionPolicy::Retain, .. } => (false, false),
    };
    match (store || journal.leftovers.iter().any(is_store), access || !journal.made.is_empty()) {
        (true, _) => Taken::Store,
        (false, true) => Taken::Access,
        (false, false) => Taken::Nothing,
    }
}

/// What the running services say about the store in use.
enum Told {
    Address(Address),
    Nothing,
    Unread(CloudError),
    Hidden(String),
}

/// The first address found, in switching order. Services that disagree are the planner's to refuse: it sees them all.
fn told(target: &Target, services: &BTreeMap<String, Reading<Service>>, owner: &Owner, journal: &Journal) -> Told {
    let names = env::names(&target.env.format);
    let mut hidden = None;
    for spec in &target.services {
        let service = match services.get(&spec.name) {
            Some(Reading::Present(service)) => service,
            Some(Reading::Unknown(error)) => return Told::Unread(error.clone()),
            Some(Reading::Absent | Reading::Hidden(_)) | None => continue,
        };
        match crate::serving::serving(service, &names, &[]) {
            crate::serving::Serving::Store(_, address) => return Told::Address(address),
            crate::serving::Serving::Nothing => {}
            crate::serving::Serving::Unseen(why) => {
                match crate::serving::told_by_name(service, &names, owner, journal.migration.as_ref()) {
                    Some(address) => return Told::Address(address),
                    None => hidden = hidden.or(Some(format!("service {}: {why}", spec.name))),
                }
            }
        }
    }
    hidden.map_or(Told::Nothing, Told::Hidden)
}

/// What decides the database of the store of the spec.
#[derive(Clone, Copy)]
struct Database {
    /// The URL in the spec names one: that is the word of the user, nothing overrides it.
    named: bool,
    /// What the mapping leads to.
    mapped: Option<u32>,
}

/// The database of the store of the spec: the one its URL names, else the one the mapping names, else, where that store is
/// in use already, the one in use.
fn in_use_of(database: Database, mut to: Reading<Found>, from: &Reading<Found>) -> Reading<Found> {
    let in_use = from.present().and_then(|from| {
        let same = to.present().is_some_and(|to| to.store.id == from.store.id);
        from.store.address.clone().filter(|_| same)
    });
    if let Some(address) = to.present_mut().and_then(|found| found.store.address.as_mut()) {
        match (database.named, database.mapped, in_use) {
            (true, _, _) | (false, None, None) => {}
            (false, Some(db), _) => address.db = db,
            (false, None, Some(used)) => {
                address.db = used.db;
                address.user = address.user.take().or(used.user);
            }
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::super::stores::external;
    use super::*;

    fn summary(arn: &str, status: SdkStatus) -> ServiceSummary {
        ServiceSummary::builder().service_name("web").service_arn(arn).status(status).build()
    }

    #[test]
    fn where_the_object_goes_a_service_made_anew_under_the_name_is_the_one_that_counts() {
        let listed = [summary("arn:old", SdkStatus::Deleted), summary("arn:new", SdkStatus::Running)];
        let named = |or_successor| Named { name: "web".into(), arn: Some(Arn("arn:old".into())), or_successor };
        assert_eq!(named(true).find(&listed), Some(Arn("arn:new".into())));
        assert_eq!(named(false).find(&listed), None);
        let both = [summary("arn:other", SdkStatus::Running), summary("arn:old", SdkStatus::Running)];
        assert_eq!(named(true).find(&both), Some(Arn("arn:old".into())));
    }

    #[test]
    fn where_the_object_goes_the_services_of_its_spec_are_looked_at_though_no_migration_names_them() {
        let gone = Desired::Absent { policy: DeletionPolicy::Delete, services: vec!["web".into()] };
        let found = named(&gone, &Journal::default());
        assert_eq!(
            found.iter().map(|named| (named.name.as_str(), named.or_successor)).collect::<Vec<_>>(),
            [("web", true)]
        );
    }

    #[test]
    fn the_values_of_others_are_read_only_where_a_store_may_go() {
        let of = |policy, resource: Option<Resource>| {
            let mut journal = Journal::default();
            if let Some(resource) = resource {
                journal = journal.apply(&crate::journal::Entry::Intend(resource), jiff::Timestamp::UNIX_EPOCH);
            }
            could_be_taken_away(&Desired::absent(policy), &journal)
        };
        let database = || Some(Resource::UpstashDatabase("liberty".into()));
        assert_eq!(of(DeletionPolicy::Delete, database()), Taken::Store);
        assert_eq!(of(DeletionPolicy::Retain, database()), Taken::Access);
        assert_eq!(of(DeletionPolicy::Delete, Some(Resource::Secret("s".into()))), Taken::Access);
        assert_eq!(of(DeletionPolicy::Delete, None), Taken::Nothing);
    }

    #[test]
    fn the_database_a_url_names_stays_whatever_is_in_use() {
        let store = |db| Address { host: "redis.example".into(), port: 6379, db, user: None, tls: true };
        let database = |named, mapped, spec, used| {
            let found = |db| Reading::Present(external(store(db), None));
            let to = in_use_of(Database { named, mapped }, found(spec), &found(used));
            to.present().and_then(|to| to.store.address.as_ref()).map(|address| address.db)
        };
        assert_eq!(database(true, None, 3, 1), Some(3));
        assert_eq!(database(true, None, 0, 1), Some(0), "also where it names 0");
        assert_eq!(database(true, Some(2), 3, 1), Some(3));
        assert_eq!(database(false, None, 0, 1), Some(1), "none is named: the one in use is meant");
        assert_eq!(database(false, Some(2), 0, 1), Some(2));
        let elsewhere = Reading::Present(external(Address { host: "other.example".into(), ..store(1) }, None));
        let to =
            in_use_of(Database { named: false, mapped: None }, Reading::Present(external(store(0), None)), &elsewhere);
        assert_eq!(to.present().and_then(|to| to.store.address.as_ref()).map(|address| address.db), Some(0));
    }
}
