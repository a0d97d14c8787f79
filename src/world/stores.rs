//! Stores as the planner sees them: the account's catalog, the one the spec asks for, the one the services come from.
//! Only reads. A store that could not be looked up is `Unknown`, never taken for a different one.

use std::collections::BTreeSet;

use aws_sdk_elasticache::types::{ConnectionType, Endpoint as SdkEndpoint, ReplicationGroup, ServerlessCache};
use secrecy::SecretString;

use crate::desired::{ReplicationGroupRef, StoreSpec, UpstashDatabase};
use crate::env;
use crate::error::{Class, CloudError};
use crate::identity::{Address, GroupId, Owner, StoreId};
use crate::journal::{Journal, Resource, StoreRecord};
use crate::observed::{CatalogEntry, Namesake, Placement, Reach, Reading, Server, Store, StoreStatus};
use crate::upstash::{self, Database, State};

use super::journal::resource_key;
use super::long::Endpoint;
use super::{CloudWorld, Known, StoreInputs, cache, reach};

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

    /// Why the catalog may lack a store, if it may. Without a key the databases we made are out of sight, not gone.
    pub(super) fn gap(&self, journal: &Journal) -> Option<CloudError> {
        let gap = self.elasticache_gap().or(self.upstash_gap()).cloned();
        let asked = || journal.made.keys().any(|resource| matches!(resource, Resource::UpstashDatabase(_)));
        gap.or_else(|| {
            let unseen = self.databases.is_none() && asked();
            unseen.then(|| CloudError::new(Class::Credentials, upstash::SERVICE, "ListDatabases", "", &no_key()))
        })
    }

    /// The databases called `name`; names need not be unique.
    pub(super) fn databases_called(&self, name: &str) -> Reading<Vec<Namesake>> {
        match &self.databases {
            None => Reading::Hidden(no_key()),
            Some(Err(error)) => Reading::Unknown(error.clone()),
            Some(Ok(databases)) => {
                let same = databases.iter().filter(|database| database.name == name);
                let found =
                    same.map(|database| Namesake { id: database.id.clone(), created: database.created, ours: None });
                Reading::Present(found.collect())
            }
        }
    }

    /// The ARN of the replication group `id`, if there is one.
    pub(super) fn group_called(&self, id: &str) -> Result<Option<String>, CloudError> {
        let groups = self.groups.as_ref().map_err(Clone::clone)?;
        let group = groups.iter().find(|group| is_called(group, id));
        Ok(group.map(|group| group.arn.clone().unwrap_or_default()))
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

fn endpoint_host(endpoint: Option<&SdkEndpoint>) -> Option<String> {
    endpoint?.address.as_ref().map(|host| host.to_ascii_lowercase())
}

fn group_hosts(group: &ReplicationGroup) -> Vec<String> {
    let nodes = group.node_groups.iter().flatten();
    let shards = nodes.clone().flat_map(|node| [node.primary_endpoint.as_ref(), node.reader_endpoint.as_ref()]);
    let members =
        nodes.flat_map(|node| node.node_group_members.iter().flatten()).map(|member| member.read_endpoint.as_ref());
    let all = [group.configuration_endpoint.as_ref()].into_iter().chain(shards).chain(members);
    all.filter_map(endpoint_host).collect::<BTreeSet<_>>().into_iter().collect()
}

fn serverless_hosts(cache: &ServerlessCache) -> Vec<String> {
    let all = [cache.endpoint.as_ref(), cache.reader_endpoint.as_ref()];
    all.into_iter().filter_map(endpoint_host).collect::<BTreeSet<_>>().into_iter().collect()
}

fn port(endpoint: &SdkEndpoint) -> u16 {
    endpoint.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(env::DEFAULT_PORT)
}

/// ElastiCache's status word; `snapshotting` serves.
fn elasticache_status(word: Option<&str>) -> StoreStatus {
    match word.unwrap_or_default() {
        "creating" => StoreStatus::Creating,
        "available" => StoreStatus::Available,
        "modifying" | "snapshotting" => StoreStatus::Modifying,
        "deleting" => StoreStatus::Deleting,
        other => StoreStatus::Failed(crate::error::presentable(other, 64)),
    }
}

/// Ids are stored in lower case whatever was asked for.
fn is_called(group: &ReplicationGroup, id: &str) -> bool {
    group.replication_group_id.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(id))
}

/// A group is ready when it says so and each of its shards does.
fn group_status(group: &ReplicationGroup) -> StoreStatus {
    let shards_ready =
        group.node_groups.iter().flatten().all(|shard| shard.status.as_deref().is_none_or(|word| word == "available"));
    match elasticache_status(group.status.as_deref()) {
        StoreStatus::Available if !shards_ready => StoreStatus::Modifying,
        status => status,
    }
}

fn upstash_status(database: &Database) -> StoreStatus {
    match &database.state {
        State::Other(word) => StoreStatus::Failed(word.clone()),
        State::Active if !database.modifying.is_empty() => StoreStatus::Modifying,
        State::Active => StoreStatus::Available,
    }
}

fn group_address(group: &ReplicationGroup) -> Option<Address> {
    let primary = || group.node_groups.as_ref()?.first()?.primary_endpoint.as_ref();
    let endpoint = group.configuration_endpoint.as_ref().or_else(primary)?;
    let host = endpoint.address.as_ref()?.to_ascii_lowercase();
    let tls = group.transit_encryption_enabled.unwrap_or(false);
    Some(Address { host, port: port(endpoint), db: 0, user: None, tls })
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

    async fn list_databases(&self) -> Option<Result<Vec<Database>, CloudError>> {
        let upstash = self.upstash.as_ref()?;
        // The vendor's limits are undocumented: a list a few seconds old will do.
        if let Some(databases) = self.cache.databases.get("", cache::LISTING) {
            return Some(Ok(databases));
        }
        let listed = upstash.databases().await;
        if let Ok(databases) = &listed {
            self.cache.databases.put("", databases.clone());
        }
        Some(listed)
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

    async fn named_database(&self, name: &str, journal: &Journal, listings: &Listings) -> Reading<Found> {
        let databases = match &listings.databases {
            Some(Ok(databases)) => databases,
            Some(Err(error)) => return Reading::Unknown(error.clone()),
            None => return Reading::Hidden(no_key()),
        };
        // One that we made is known by its id, whatever else is called so.
        let made = journal.made.get(&Resource::UpstashDatabase(name.to_owned())).and_then(|made| made.id.as_ref());
        if let Some(known) = made.filter(|id| databases.iter().any(|database| database.id == **id)) {
            return self.database(known).await;
        }
        let matching: Vec<_> = databases.iter().filter(|database| database.name == name).collect();
        match matching.as_slice() {
            [] => Reading::Absent,
            [one] => self.database(&one.id).await,
            several => {
                let ids: Vec<_> = several.iter().map(|database| database.id.as_str()).collect();
                let message = format!(
                    "ambiguous: {} databases are called {name:?} ({}); give spec.store.upstash.database.id instead",
                    several.len(),
                    ids.join(", ")
                );
                Reading::Unknown(CloudError::new(Class::Rejected, upstash::SERVICE, "ListDatabases", "", &message))
            }
        }
    }

    async fn database(&self, id: &str) -> Reading<Found> {
        let Some(upstash) = &self.upstash else { return Reading::Hidden(no_key()) };
        let database = match self.cache.database.get(id, cache::LISTING) {
            Some(database) => Ok(database),
            None => upstash.database(id).await,
        };
        let database = match database {
            Ok(database) => database,
            Err(error) => return super::reading(Err(error)),
        };
        self.cache.database.put(id, database.clone());
        let commands_left = self.commands_left(upstash, &database).await;
        let hosts: Vec<String> = database.host.iter().cloned().collect();
        let address = hosts.first().map(|host| Address {
            host: host.clone(),
            port: database.port,
            db: 0,
            user: None,
            tls: database.tls,
        });
        // With Credential Protection a password is shown once; then it is in the vault.
        let key = resource_key(&Resource::UpstashDatabase(database.name.clone()));
        let password = database.password.clone().or_else(|| self.vaulted(&key));
        Reading::Present(Found {
            store: Store {
                id: StoreId::Upstash(database.id.clone()),
                name: database.name.clone(),
                status: upstash_status(&database),
                address,
                credential: None,
                placement: Placement::Public,
                cluster: false,
                max_connections: database.max_clients,
                plan: database.plan.clone(),
                commands_left,
                server: Reading::Absent,
            },
            password,
            hosts,
        })
    }

    /// Only the free plan ends; the others bill.
    async fn commands_left(&self, upstash: &upstash::Upstash, database: &Database) -> Option<u64> {
        let limit = match database.plan.as_deref() {
            Some("free") => database.request_limit.unwrap_or(FREE_COMMANDS),
            Some(_) | None => return None,
        };
        if let Some(used) = self.cache.usage.get(&database.id, cache::USAGE) {
            return Some(limit.saturating_sub(used?));
        }
        let used = upstash.stats(&database.id).await.ok().and_then(|stats| stats.monthly_requests);
        self.cache.usage.put(&database.id, used);
        Some(limit.saturating_sub(used?))
    }

    fn vaulted(&self, key: &crate::journal::VaultKey) -> Option<SecretString> {
        let memory = self.memory();
        memory.vault.get(key).or_else(|| memory.pending.get(key)).cloned()
    }

    async fn group(&self, id: &str, inputs: &StoreInputs, listings: &Listings) -> Reading<Found> {
        let groups = match &listings.groups {
            Ok(groups) => groups,
            Err(error) => return Reading::Unknown(error.clone()),
        };
        let Some(group) = groups.iter().find(|group| is_called(group, id)) else { return Reading::Absent };
        let placement = match self.group_placement(group).await {
            Ok(placement) => placement,
            Err(error) => return Reading::Unknown(error),
        };
        let vaulted = self.vaulted(&resource_key(&Resource::ReplicationGroup(id.to_owned())));
        let open = group.auth_token_enabled == Some(false) && group.user_group_ids.iter().flatten().next().is_none();
        let password = inputs.password.clone().or(vaulted).filter(|_| !open);
        let address = group_address(group);
        Reading::Present(Found {
            store: Store {
                id: StoreId::ReplicationGroup(id.to_owned()),
                name: id.to_owned(),
                status: group_status(group),
                address: address.map(|address| Address { user: user(inputs), ..address }),
                credential: None,
                placement,
                cluster: group.cluster_enabled.unwrap_or(false),
                max_connections: None,
                plan: group.cache_node_type.clone(),
                commands_left: None,
                server: Reading::Absent,
            },
            password,
            hosts: group_hosts(group),
        })
    }

    /// Security groups and VPC of a group: only a member cluster tells.
    async fn group_placement(&self, group: &ReplicationGroup) -> Result<Placement, CloudError> {
        // While a group is being created it may have no members yet.
        let Some(member) = group.member_clusters.iter().flatten().next() else {
            return Ok(Placement::Vpc { vpc: String::new(), groups: Vec::new() });
        };
        if let Some(placement) = self.cache.placements.get(member, cache::PLACEMENT) {
            return Ok(placement);
        }
        let cluster = self.aws.elasticache.cluster(member).await?;
        let groups = cluster.security_groups.iter().flatten().filter_map(|group| group.security_group_id.clone());
        let groups = groups.map(GroupId).collect();
        let vpc = match &cluster.cache_subnet_group_name {
            Some(name) => self.aws.elasticache.subnet_group(name).await?.vpc_id,
            None => None,
        };
        let placement = Placement::Vpc { vpc: vpc.unwrap_or_default(), groups };
        self.cache.placements.put(member, placement.clone());
        Ok(placement)
    }

    async fn serverless(&self, name: &str, inputs: &StoreInputs, listings: &Listings) -> Reading<Found> {
        let caches = match &listings.serverless {
            Ok(caches) => caches,
            Err(error) => return Reading::Unknown(error.clone()),
        };
        let cache = caches
            .iter()
            .find(|cache| cache.serverless_cache_name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)));
        let Some(cache) = cache else { return Reading::Absent };
        let placement = if cache.connection_type == Some(ConnectionType::Public) {
            Placement::Public
        } else {
            match self.serverless_vpc(cache).await {
                Ok(vpc) => {
                    let groups = cache.security_group_ids.iter().flatten().cloned().map(GroupId).collect();
                    Placement::Vpc { vpc, groups }
                }
                Err(error) => return Reading::Unknown(error),
            }
        };
        let address = cache.endpoint.as_ref().and_then(|endpoint| {
            let host = endpoint.address.as_ref()?.to_ascii_lowercase();
            Some(Address { host, port: port(endpoint), db: 0, user: user(inputs), tls: true })
        });
        Reading::Present(Found {
            store: Store {
                id: StoreId::ServerlessCache(name.to_ascii_lowercase()),
                name: name.to_owned(),
                status: elasticache_status(cache.status.as_deref()),
                address,
                credential: None,
                placement,
                cluster: true,
                max_connections: Some(SERVERLESS_CLIENTS),
                plan: Some("serverless".to_owned()),
                commands_left: None,
                server: Reading::Absent,
            },
            password: inputs.password.clone(),
            hosts: serverless_hosts(cache),
        })
    }

    async fn serverless_vpc(&self, cache: &ServerlessCache) -> Result<String, CloudError> {
        let subnets = cache.subnet_ids.clone().unwrap_or_default();
        let subnets = self.aws.ec2.subnets(&subnets).await?;
        Ok(subnets.into_iter().find_map(|subnet| subnet.vpc_id).unwrap_or_default())
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
    pub(super) async fn complete(&self, owner: &Owner, reading: Reading<Found>, wired: &Wired) -> Reading<Store> {
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
            }
        }
        found.store.credential = found.password.as_ref().map(|password| self.keep(owner, password));
        if let Some(address) = found.store.address.clone() {
            let known = Known { address: address.clone(), credential: found.store.credential.clone() };
            self.memory().stores.insert(found.store.id.clone(), known);
            let endpoint = Endpoint { store: found.store.id.clone(), address, password: found.password };
            found.store.server = self.server(&endpoint).await;
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

/// Commands a month of Upstash's free plan, where the database does not say.
const FREE_COMMANDS: u64 = 500_000;
/// Clients a serverless cache takes.
const SERVERLESS_CLIENTS: u32 = 65_000;

fn no_key() -> String {
    "no Upstash API key was given (spec.store.upstash.apiKeySecretRef): its databases cannot be seen".to_owned()
}

fn user(inputs: &StoreInputs) -> Option<String> {
    inputs.username.clone().filter(|user| user != "default")
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
            commands_left: None,
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
        Reach::None | Reach::Public | Reach::Unknown => Placement::Public,
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
            commands_left: None,
            server: Reading::Absent,
        },
        password,
    }
}
