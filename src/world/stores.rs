//! Stores as the planner sees them: the account's catalog, the one the spec asks for, the one the services come from.
//! Only reads. A store that could not be looked up is `Unknown`, never taken for a different one.

use std::collections::BTreeMap;

use aws_sdk_elasticache::types::{ReplicationGroup, ServerlessCache};
use secrecy::SecretString;

use crate::desired::{ReplicationGroupRef, StoreSpec, UpstashDatabase};
use crate::env;
use crate::error::{Class, CloudError};
use crate::identity::{Address, Owner, StoreId, Vendor};
use crate::journal::{Journal, Resource, StoreRecord};
use crate::observed::{CatalogEntry, Placement, Reach, Reading, Server, Store, StoreStatus};
use crate::upstash::{Database, SERVICE as UPSTASH};

use self::elasticache::{group_hosts, serverless_hosts};
use self::upstash::no_key;
use super::long::{Endpoint, Limits};
use super::{CloudWorld, Known, StoreInputs, cache, reach};

mod elasticache;
mod upstash;

/// The stores of the account, as far as they could be listed.
pub(super) struct Listings {
    groups: Result<Vec<ReplicationGroup>, CloudError>,
    serverless: Result<Vec<ServerlessCache>, CloudError>,
    databases: Option<Result<Vec<Database>, CloudError>>,
}

/// A store with its password.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) store: Store,
    password: Option<SecretString>,
    hosts: Vec<String>,
}

/// What the services' variables say: addresses with the passwords beside them.
pub(super) type Wired = [(Address, SecretString)];

impl Listings {
    /// Identities and names, of what could be listed.
    pub(super) fn catalog(&self) -> Vec<CatalogEntry> {
        let groups = self.groups.iter().flatten().filter_map(|group| {
            let id = StoreId::ReplicationGroup(group.replication_group_id.as_ref()?.to_ascii_lowercase());
            Some(CatalogEntry { id, hosts: group_hosts(group) })
        });
        let caches = self.serverless.iter().flatten().filter_map(|cache| {
            let id = StoreId::ServerlessCache(cache.serverless_cache_name.as_ref()?.to_ascii_lowercase());
            Some(CatalogEntry { id, hosts: serverless_hosts(cache) })
        });
        let databases = self.databases.iter().flatten().flatten().map(|database| CatalogEntry {
            id: StoreId::Upstash(database.id.clone()),
            hosts: database.host.iter().cloned().collect(),
        });
        groups.chain(caches).chain(databases).collect()
    }

    /// Whose stores the catalog may lack, and why. Without a key the databases we know are out of sight, not gone.
    pub(super) fn gaps(&self, journal: &Journal) -> BTreeMap<Vendor, CloudError> {
        let made = || journal.made.keys().any(|resource| matches!(resource, Resource::UpstashDatabase(_)));
        let asked = || made() || journal.stores().iter().any(|store| matches!(store, StoreId::Upstash(_)));
        let unseen = || {
            let unseen = self.databases.is_none() && asked();
            unseen.then(|| CloudError::new(Class::Credentials, UPSTASH, "ListDatabases", "", &no_key()))
        };
        let upstash = self.upstash_gap().cloned().or_else(unseen);
        let each = [(Vendor::ElastiCache, self.elasticache_gap().cloned()), (Vendor::Upstash, upstash)];
        each.into_iter().filter_map(|(vendor, gap)| Some((vendor, gap?))).collect()
    }

    /// Why the catalog may lack the store at `host`, if it may.
    fn blind(&self, host: &str) -> Option<CloudError> {
        if env::is_upstash(host) { self.upstash_gap() } else { self.elasticache_gap() }.cloned()
    }

    fn elasticache_gap(&self) -> Option<&CloudError> {
        self.groups.as_ref().err().or(self.serverless.as_ref().err())
    }

    fn upstash_gap(&self) -> Option<&CloudError> {
        self.databases.as_ref()?.as_ref().err()
    }
}

impl CloudWorld {
    pub(super) async fn list_stores(&self) -> Listings {
        let (groups, serverless, databases) = futures::join!(
            self.aws.elasticache.replication_groups(),
            self.aws.elasticache.serverless_caches(),
            self.list_databases(),
        );
        Listings { groups, serverless, databases }
    }

    /// The store a spec asks for.
    pub(super) async fn store_of_spec(
        &self,
        owner: &Owner,
        spec: &StoreSpec,
        inputs: &StoreInputs,
        journal: &Journal,
        listings: &Listings,
    ) -> Reading<Found> {
        match spec {
            StoreSpec::Upstash { database: UpstashDatabase::Named { name, .. }, .. } => {
                self.named_database(name, journal, listings).await
            }
            StoreSpec::Upstash { database: UpstashDatabase::Existing(id), .. } => self.database(id).await,
            StoreSpec::ReplicationGroup { group, .. } => {
                let id = match group {
                    ReplicationGroupRef::Existing(id) => id.to_ascii_lowercase(),
                    ReplicationGroupRef::Create(_) => owner.short_name("cache"),
                };
                self.group(&id, inputs, listings).await
            }
            StoreSpec::ServerlessCache { name, .. } => self.serverless(name, inputs, listings).await,
            StoreSpec::External { .. } => self.external(inputs, journal, listings).await,
            StoreSpec::Disabled => Reading::Present(disabled()),
        }
    }

    /// A store by its identity; `at` is how it is reached where the vendor cannot tell.
    pub(super) async fn store_of_id(
        &self,
        id: &StoreId,
        at: Option<&Address>,
        inputs: &StoreInputs,
        listings: &Listings,
    ) -> Reading<Found> {
        match id {
            StoreId::Upstash(id) => self.database(id).await,
            StoreId::ReplicationGroup(id) => self.group(id, inputs, listings).await,
            StoreId::ServerlessCache(name) => self.serverless(name, inputs, listings).await,
            StoreId::External(host, port) => {
                let at =
                    at.cloned().unwrap_or(Address { host: host.clone(), port: *port, db: 0, user: None, tls: false });
                Reading::Present(external(at, None))
            }
            StoreId::Disabled => Reading::Present(disabled()),
        }
    }

    /// The store of a migration's record: where and as whom it says, its password from the vault.
    pub(super) async fn store_of_record(
        &self,
        record: &StoreRecord,
        inputs: &StoreInputs,
        listings: &Listings,
    ) -> Reading<Found> {
        let mut reading = self.store_of_id(&record.id, record.address.as_ref(), inputs, listings).await;
        if let Reading::Present(found) = &mut reading {
            if record.address.is_some() {
                found.store.address.clone_from(&record.address);
            }
            let kept = record.password.as_ref().and_then(|key| self.memory().vault.get(key).cloned());
            found.password = kept.or(found.password.take());
        }
        reading
    }

    /// The store at an address a variable names.
    pub(super) async fn store_at(
        &self,
        address: &Address,
        inputs: &StoreInputs,
        listings: &Listings,
    ) -> Reading<Found> {
        let entry = listings.catalog().into_iter().find(|entry| entry.hosts.contains(&address.host));
        let Some(entry) = entry else {
            // Without the list it could be one of the account's as well as a stranger: nothing may be concluded.
            return match listings.blind(&address.host) {
                Some(error) => Reading::Unknown(error),
                None => Reading::Present(external(address.clone(), None)),
            };
        };
        let mut reading = self.store_of_id(&entry.id, Some(address), inputs, listings).await;
        if let Reading::Present(found) = &mut reading {
            let tls = found.store.address.as_ref().map_or(address.tls, |known| known.tls);
            found.store.address = Some(Address { tls, ..address.clone() });
        }
        reading
    }

    async fn external(&self, inputs: &StoreInputs, journal: &Journal, listings: &Listings) -> Reading<Found> {
        let Some(url) = &inputs.url else {
            // Deleting, or a manifest without its secret: the journal may still know the address.
            let record = journal.open_migration().map(|migration| &migration.to);
            return match record.filter(|record| matches!(record.id, StoreId::External(..))) {
                Some(record) => self.store_of_id(&record.id, record.address.as_ref(), inputs, listings).await,
                None => Reading::Hidden("the secret with the store's URL was not given".to_owned()),
            };
        };
        match env::parse_url(secrecy::ExposeSecret::expose_secret(url)) {
            Ok((address, password)) => {
                // The same store under the name the account knows it by: else it would be moved onto itself.
                let mut reading = self.store_at(&address, inputs, listings).await;
                if let Reading::Present(found) = &mut reading {
                    found.password = password.or(found.password.take());
                }
                reading
            }
            Err(error) => {
                let message = format!("spec.store.external: the URL {error}");
                Reading::Unknown(CloudError::new(Class::Rejected, "Redis", "URL", "", &message))
            }
        }
    }

    /// Completes a store: the password the services know if no one else does, what the server says, and what stands for
    /// the password. From here on steps can name the store.
    pub(super) async fn complete(
        &self,
        owner: &Owner,
        reading: Reading<Found>,
        wired: &Wired,
        journal: &Journal,
    ) -> Reading<Store> {
        let mut found = match reading {
            Reading::Present(found) => found,
            Reading::Absent => return Reading::Absent,
            Reading::Unknown(error) => return Reading::Unknown(error),
            Reading::Hidden(why) => return Reading::Hidden(why),
        };
        if found.password.is_none() {
            let told = wired.iter().find(|(address, _)| found.hosts.contains(&address.host));
            if let Some((address, password)) = told {
                found.password = Some(password.clone());
                let user = address.user.clone();
                found.store.address = found.store.address.map(|address| Address { user, ..address });
            } else if let Some(last) = journal.migration.as_ref().filter(|last| last.to.id == found.store.id) {
                // Whoever took the variables away took the password with them; the journal keeps it.
                found.password = last.to.password.as_ref().and_then(|key| self.memory().vault.get(key).cloned());
                let user = last.to.address.as_ref().and_then(|address| address.user.clone());
                found.store.address = found.store.address.map(|address| Address { user, ..address });
            }
        }
        found.store.credential = found.password.as_ref().map(|password| self.keep(owner, password));
        if let Some(address) = found.store.address.clone() {
            let endpoint =
                Endpoint { store: found.store.id.clone(), address: address.clone(), password: found.password };
            found.store.server = self.server(&endpoint).await;
            let known = Known {
                address,
                credential: found.store.credential.clone(),
                limits: Limits { connections: found.store.max_connections, quota: found.store.quota },
                keys: found.store.server.present().map(|server| server.keys.values().sum()),
            };
            self.memory().stores.insert(found.store.id.clone(), known);
        }
        Reading::Present(found.store)
    }

    async fn server(&self, endpoint: &Endpoint) -> Reading<Server> {
        let key = format!("{}:{}", endpoint.address.host, endpoint.address.port);
        if let Some(server) = self.cache.servers.get(&key, cache::SERVER) {
            return server;
        }
        let server = self.long.servers.ask(endpoint).await;
        self.cache.servers.put(&key, server.clone());
        server
    }
}

fn disabled() -> Found {
    Found {
        store: Store {
            id: StoreId::Disabled,
            name: "disabled".to_owned(),
            status: StoreStatus::Available,
            address: None,
            credential: None,
            placement: Placement::Nowhere,
            cluster: false,
            max_connections: None,
            plan: None,
            quota: None,
            server: Reading::Absent,
        },
        password: None,
        hosts: Vec::new(),
    }
}

/// A Redis no vendor's API tells about. A private name is in some VPC, which one is not known.
pub(super) fn external(address: Address, password: Option<SecretString>) -> Found {
    let placement = match reach::of_host(&address.host) {
        Reach::Private(_) => Placement::Vpc { vpc: String::new(), groups: Vec::new() },
        Reach::None | Reach::Public | Reach::Unknown(_) => Placement::Public,
    };
    Found {
        hosts: vec![address.host.clone()],
        store: Store {
            id: StoreId::External(address.host.clone(), address.port),
            name: address.to_string(),
            status: StoreStatus::Available,
            address: Some(address),
            credential: None,
            placement,
            cluster: false,
            max_connections: None,
            plan: None,
            quota: None,
            server: Reading::Absent,
        },
        password,
    }
}
