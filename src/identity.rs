//! Who owns what: the owner's name, and every name derived from it.
//! Pure functions of the owner, so that after a crash the same names are found and nothing is made twice.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The installation where none is named.
pub const DEFAULT_INSTALLATION: &str = "default";

/// One `SessionBackend`, identified by name and not by uid: a re-created object gets its data back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The installation of this product: a setting, `default` for the command line.
    pub installation: String,
    /// The AWS account, twelve digits.
    pub account: String,
    /// The AWS region.
    pub region: String,
    /// The object's namespace, `default` for the command line.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Owner {
    /// An owner of nothing, where one has to be named before it is known.
    #[must_use]
    pub(crate) fn nobody() -> Self {
        let empty = String::new;
        Self { installation: empty(), account: empty(), region: empty(), namespace: empty(), name: empty() }
    }

    /// `installation/namespace/name`: the form in tags, claims and messages.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.installation, self.namespace, self.name)
    }

    /// Ten hex digits that stand for the path where a name has to be short.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&[self.path().as_bytes()], 5)
    }

    fn prefix(&self) -> String {
        format!("sessionbackend/{}", self.path())
    }

    /// The secret that holds the journal.
    #[must_use]
    pub fn journal_secret(&self) -> SecretName {
        SecretName(format!("{}/journal", self.prefix()))
    }

    /// The secret behind `variable` in `epoch`. The binding is part of the name: a secret is immutable, so another
    /// store or another password needs another secret.
    #[must_use]
    pub fn epoch_secret(&self, epoch: Epoch, binding: &Fingerprint, variable: &str) -> SecretName {
        SecretName(format!("{}/epochs/{}.{}/{variable}", self.prefix(), epoch.0, binding.0))
    }

    /// The secret that arbitrates who writes which variable of a service. Shared by all owners of an account.
    #[must_use]
    pub fn claims_secret(service_name: &str) -> SecretName {
        SecretName(format!("sessionbackend/claims/{service_name}/variables"))
    }

    /// Name of a replication group or connector of ours: 4–40 characters, letters, digits and single hyphens, lower case.
    #[must_use]
    pub fn short_name(&self, role: &str) -> String {
        let head: String = format!("sb-{}", self.name)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(20)
            .collect();
        let head = head.trim_end_matches('-').replace("--", "-");
        format!("{head}-{role}-{}", self.digest())
    }

    /// The tags on everything of ours that can carry tags.
    #[must_use]
    pub fn tags(&self) -> [(String, String); 2] {
        [
            ("sessionbackend.dev/owner".to_owned(), self.path()),
            ("sessionbackend.dev/installation".to_owned(), self.installation.clone()),
        ]
    }

    /// The request token of journal write number `sequence`: two writers of the same sequence collide, which is the lock.
    #[must_use]
    pub fn journal_token(&self, sequence: u64) -> String {
        digest(&[self.path().as_bytes(), b"journal", &sequence.to_be_bytes()], 16)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The first `bytes` bytes of a SHA-256 over length-prefixed parts, in hex.
#[must_use]
pub fn digest(parts: &[&[u8]], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::with_capacity(2 * bytes);
    for byte in hash.finalize().iter().take(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

macro_rules! text_newtype {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    )*};
}

text_newtype! {
    /// The name of a secret in Secrets Manager, without the random suffix of its ARN.
    SecretName;
    /// An Amazon resource name.
    Arn;
    /// The id of an App Runner operation.
    OperationId;
    /// The id of one migration: `<owner digest>-<epoch>`. Approvals name it, so that an old one cannot fire later.
    MigrationId;
    /// Stands for a secret value (salted with the owner) wherever the value itself must not be: plans, observations, logs.
    Fingerprint;
    /// A security-group rule, `sgr-…`.
    RuleId;
    /// A security group, `sg-…`.
    GroupId;
}

impl Fingerprint {
    /// The fingerprint of a secret value within one owner's scope.
    #[must_use]
    pub fn of(owner: &Owner, value: &str) -> Self {
        Self(digest(&[owner.path().as_bytes(), b"fingerprint", value.as_bytes()], 6))
    }
}

impl Arn {
    /// The secret's name in a Secrets Manager ARN (the six random characters and a JSON-key selector cut off), if it is one.
    #[must_use]
    pub fn secret_name(&self) -> Option<SecretName> {
        let rest = self.0.split(":secret:").nth(1)?;
        let full = rest.split(':').next()?;
        let cut = full.rfind('-').filter(|at| full.len() - at == 7)?;
        Some(SecretName(full[..cut].to_owned()))
    }
}

/// Every key of ours in a store begins with this: none of them is copied, counted or compared.
pub const OUR_KEYS: &str = "__sessionbackend:";

impl MigrationId {
    /// The migration of an owner that tells the services `epoch`.
    #[must_use]
    pub fn new(owner: &Owner, epoch: Epoch) -> Self {
        Self(format!("{}-{}", owner.digest(), epoch.0))
    }
}

/// A generation of what the services are told. Every switch, rotation and way back is a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Which store, not how to reach it: another identity is a migration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StoreId {
    /// An Upstash database by its id.
    Upstash(String),
    /// An ElastiCache replication group by its (lower-case) id.
    ReplicationGroup(String),
    /// An ElastiCache serverless cache by its name.
    ServerlessCache(String),
    /// Any other Redis by host and port.
    External(String, u16),
    /// No Redis: sessions live in the process or in the app's fallback.
    Disabled,
}

/// Whose list a store of an account is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Vendor {
    /// AWS ElastiCache.
    ElastiCache,
    /// Upstash.
    Upstash,
}

impl StoreId {
    /// Whose list it is in; `None` where no list has it.
    #[must_use]
    pub const fn vendor(&self) -> Option<Vendor> {
        match self {
            Self::Upstash(_) => Some(Vendor::Upstash),
            Self::ReplicationGroup(_) | Self::ServerlessCache(_) => Some(Vendor::ElastiCache),
            Self::External(..) | Self::Disabled => None,
        }
    }

    /// Whether there is a Redis behind it at all.
    #[must_use]
    pub fn is_redis(&self) -> bool {
        *self != Self::Disabled
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstash(id) => write!(f, "Upstash {id}"),
            Self::ReplicationGroup(id) => write!(f, "ElastiCache {id}"),
            Self::ServerlessCache(name) => write!(f, "ElastiCache serverless {name}"),
            Self::External(host, port) => write!(f, "Redis {host}:{port}"),
            Self::Disabled => f.write_str("no Redis"),
        }
    }
}

/// Where a Redis is reached and as whom. Never the password.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Host name, lower case.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database index.
    pub db: u32,
    /// ACL user; `None` means `default`.
    pub user: Option<String>,
    /// Whether the connection is TLS.
    pub tls: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)?;
        if self.db != 0 {
            write!(f, "/{}", self.db)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            installation: "default".into(),
            account: "123456789012".into(),
            region: "us-east-1".into(),
            namespace: "team".into(),
            name: name.into(),
        }
    }

    #[test]
    fn short_names_fit_the_vendors_rules_whatever_the_owner_is_called() {
        for name in ["a", "liberty-social", &"x".repeat(253), "dots.and-more", "ends-in-hyphen-at-17--"] {
            let short = owner(name).short_name("vpc");
            assert!((4..=40).contains(&short.len()), "{short}");
            assert!(short.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{short}");
            assert!(!short.contains("--") && !short.ends_with('-'), "{short}");
        }
    }

    #[test]
    fn names_differ_where_only_the_cut_off_part_differs() {
        let (a, b) = (format!("{}a", "x".repeat(60)), format!("{}b", "x".repeat(60)));
        assert_ne!(owner(&a).short_name("vpc"), owner(&b).short_name("vpc"));
    }

    #[test]
    fn a_secret_arn_gives_its_name_back_without_suffix_or_selector() {
        let arn = Arn::from("arn:aws:secretsmanager:us-east-1:123456789012:secret:app/redis-AbCdEf:url::");
        assert_eq!(arn.secret_name(), Some("app/redis".into()));
        assert_eq!(Arn::from("arn:aws:ssm:us-east-1:123456789012:parameter/x").secret_name(), None);
    }

    #[test]
    fn no_secret_name_ends_like_an_arn_suffix() {
        // Secrets Manager: a name that ends in a hyphen and six characters confuses partial-ARN look-ups.
        let binding = Fingerprint::of(&owner("web"), "value");
        for name in [owner("web").journal_secret(), owner("web").epoch_secret(Epoch(3), &binding, "REDIS_URL")] {
            let last_hyphen = name.0.rfind('-').map(|at| name.0.len() - at);
            assert_ne!(last_hyphen, Some(7), "{name}");
        }
    }
}
