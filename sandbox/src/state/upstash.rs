//! Upstash: databases of one account.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// All of Upstash.
#[derive(Debug, Clone, Default)]
pub struct Upstash {
    /// By id.
    pub databases: BTreeMap<String, Database>,
}

/// A database.
#[derive(Clone)]
pub struct Database {
    /// UUID.
    pub id: String,
    /// Name.
    pub name: String,
    /// First label of its host.
    pub slug: String,
    /// Password of the user `default`.
    pub password: String,
    /// REST tokens: read-write, read-only.
    pub tokens: (String, String),
    /// `aws` or `gcp`.
    pub platform: String,
    /// Primary region.
    pub primary: String,
    /// Read regions.
    pub read: Vec<String>,
    /// Plan name such as `payg`.
    pub plan: String,
    /// US dollars a month.
    pub budget: i64,
    /// Eviction of keys when full.
    pub eviction: bool,
    /// Upgrade by itself.
    pub auto_upgrade: bool,
    /// `active`, `suspended`, `passive`.
    pub state: &'static str,
    /// Empty when idle.
    pub modifying: String,
    /// Connection limit.
    pub max_clients: u32,
    /// Production pack.
    pub prod_pack: bool,
    /// Creation.
    pub created: Timestamp,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Database {
    /// Its host.
    pub fn host(&self) -> String {
        format!("{}.upstash.io", self.slug)
    }
}
