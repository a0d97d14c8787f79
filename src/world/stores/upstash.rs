//! Stores at Upstash. A database is found by its name only where no id is known: names need not be unique.

use crate::error::{Class, CloudError};
use crate::identity::{Address, StoreId};
use crate::journal::{Journal, Resource};
use crate::observed::{CommandQuota, Namesake, Placement, Reading, Store, StoreStatus};
use crate::price::FREE_COMMANDS;
use crate::upstash::{self, Database, State};

use super::super::{CloudWorld, cache, reading};
use super::{Found, Listings};

pub(super) fn no_key() -> String {
    "no Upstash API key was given (spec.store.upstash.apiKeySecretRef, or spec.migration.from.upstash.apiKeySecretRef): its databases cannot be seen".to_owned()
}

fn upstash_status(database: &Database) -> StoreStatus {
    match &database.state {
        State::Other(word) => StoreStatus::Failed(word.clone()),
        State::Active if !database.modifying.is_empty() => StoreStatus::Modifying,
        State::Active => StoreStatus::Available,
    }
}

impl Listings {
    /// The databases called `name`; names need not be unique.
    pub(in crate::world) fn databases_called(&self, name: &str) -> Reading<Vec<Namesake>> {
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
}

impl CloudWorld {
    pub(super) async fn list_databases(&self) -> Option<Result<Vec<Database>, CloudError>> {
        let upstash = self.upstash.as_ref()?;
        // The vendor's limits are undocumented: a list a few seconds old will do.
        if let Some(databases) = self.cache.databases.listed.get("", cache::LISTING) {
            return Some(Ok(databases));
        }
        let listed = upstash.databases().await;
        if let Ok(databases) = &listed {
            self.cache.databases.listed.put("", databases.clone());
        }
        Some(listed)
    }

    pub(super) async fn named_database(&self, name: &str, journal: &Journal, listings: &Listings) -> Reading<Found> {
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

    pub(super) async fn database(&self, id: &str) -> Reading<Found> {
        let Some(upstash) = &self.upstash else { return Reading::Hidden(no_key()) };
        let known = self.cache.databases.by_id.get(id, cache::LISTING);
        let database = if let Some(known) = known {
            known
        } else {
            let read = match upstash.database(id).await {
                Ok(database) => database,
                Err(error) => return reading(Err(error)),
            };
            self.cache.databases.by_id.put(id, read.clone());
            read
        };
        let quota = self.quota(upstash, &database).await;
        let hosts: Vec<String> = database.host.iter().cloned().collect();
        let address = hosts.first().map(|host| Address {
            host: host.clone(),
            port: database.port,
            db: 0,
            user: None,
            tls: database.tls,
        });
        // With Credential Protection a password is shown once; then it is in the vault.
        let ours = Resource::UpstashDatabase(database.name.clone());
        let password = database.password.clone().or_else(|| self.memory().kept(&ours, &database.id));
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
                quota,
                server: Reading::Absent,
            },
            password,
            hosts,
        })
    }

    /// Only the free plan ends; the others bill.
    async fn quota(&self, upstash: &upstash::Upstash, database: &Database) -> Option<CommandQuota> {
        let limit = match database.plan.as_deref() {
            Some("free") => database.request_limit.unwrap_or(FREE_COMMANDS),
            Some(_) | None => return None,
        };
        if let Some(used) = self.cache.databases.usage.get(&database.id, cache::USAGE) {
            return Some(CommandQuota { limit, used: used? });
        }
        // Only what was read is kept: one answer that fails must not hide the figure from all.
        let used = upstash.stats(&database.id).await.ok()?.monthly_requests;
        self.cache.databases.usage.put(&database.id, used);
        Some(CommandQuota { limit, used: used? })
    }
}
