//! What is there, as far as it can be seen from here, at one moment.
//! A reading that failed is not an absence, and what cannot be seen is not an error. Holds no secret: values are fingerprints.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::admission::Violation;
use crate::api::condition::Reason;
use crate::checks::{Run, Stage};
use crate::error::CloudError;
use crate::identity::{Address, Arn, Fingerprint, GroupId, OperationId, RuleId, SecretName, StoreId, Vendor};
use crate::journal::{Journal, Resource, Uncarried};
use crate::step::CopyMode;

/// One thing read from the world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading<T> {
    /// It is not there: the vendor said so.
    #[default]
    Absent,
    /// It is there.
    Present(T),
    /// It could not be read; nothing may be concluded from that.
    Unknown(CloudError),
    /// It cannot be seen from here; the text says why.
    Hidden(String),
}

impl<T> Reading<T> {
    /// The value, if it is there.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown(_) | Self::Hidden(_) => None,
        }
    }

    /// The value for changing it, if it is there.
    pub fn present_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown(_) | Self::Hidden(_) => None,
        }
    }

    /// Whether the vendor said that it is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// Everything the planner may look at besides the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The account the credentials belong to.
    pub account: Reading<String>,
    /// The services of the spec (or of the journal), by service name.
    pub services: BTreeMap<String, Reading<Service>>,
    /// Bytes of their plain values as JSON texts, by service name and variable: what a way back may have to keep.
    pub plain_bytes: BTreeMap<String, BTreeMap<String, usize>>,
    /// The other services of the account: who else uses a store, a secret, a connector or a rule.
    pub bystanders: Reading<Vec<Bystander>>,
    /// The store the spec asks for.
    pub target: Reading<Store>,
    /// The store the services come from, once it is known which one that is.
    pub source: Reading<Store>,
    /// Identities of the account's stores and the names they answer to.
    pub catalog: Vec<CatalogEntry>,
    /// Whose stores may be missing in the catalog, and why: what is not in it then is not gone.
    pub unlisted: BTreeMap<Vendor, CloudError>,
    /// Stores the journal knows and no list has, without a break since then. See [`Self::miss`].
    #[serde(default)]
    pub missed: BTreeMap<StoreId, Timestamp>,
    /// Stores that are being made, changed or deleted, and since when that is seen: their vendor refuses to delete them now.
    #[serde(default)]
    pub busy: BTreeMap<StoreId, (StoreStatus, Timestamp)>,
    /// What answers to the names of the things of ours whose id the journal lacks. Every one of them is looked for,
    /// whatever the spec is; an empty list is the vendor's word that there is none.
    pub namesakes: BTreeMap<Resource, Reading<Vec<Namesake>>>,
    /// Connectors in use or named in the spec.
    pub connectors: BTreeMap<Arn, Reading<Connector>>,
    /// Security-group rules of the stores' groups, and those named in the spec.
    pub rules: BTreeMap<RuleId, Reading<Rule>>,
    /// Groups whose rules could not be read: that none of [`Self::rules`] is theirs says nothing.
    pub unread_groups: BTreeMap<GroupId, CloudError>,
    /// Secrets of ours, by name.
    pub secrets: BTreeMap<SecretName, Reading<Secret>>,
    /// Who claims what, by service name.
    pub claims: BTreeMap<String, Reading<Claims>>,
    /// Why the claims of an object that is being deleted may not all be here, if so.
    pub unsearched_claims: Option<CloudError>,
    /// Whether a service's instance role may read a secret, by (service name, secret name).
    pub role_access: Vec<RoleAccess>,
    /// The copier of the open migration.
    pub copy: Reading<Copy>,
    /// Runs of checks of this runtime, by stage.
    pub checks: BTreeMap<Stage, Run>,
    /// What the spec refers to and could not be had: nothing is begun, and nothing goes on, without it.
    #[serde(default)]
    pub lack: Option<Lack>,
}

/// Something a spec refers to that could not be had, such as a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// One stable word.
    pub reason: Reason,
    /// The field that refers to it.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Lack {
    /// Of what is wrong with a field.
    #[must_use]
    pub fn new(reason: Reason, Violation { field, problem, remedy }: Violation) -> Self {
        Self { reason, subject: field, message: problem, remedy }
    }
}

impl Observed {
    /// Whether a store is gone for certain: it is missing for certain, and no copier is at work in it.
    #[must_use]
    pub fn is_gone(&self, id: &StoreId, now: Timestamp) -> bool {
        let copies = self.copy.present().is_some_and(|copy| !matches!(copy.state, CopyState::Failed { .. }));
        !copies && self.is_missing(id) && self.missed.get(id).is_some_and(|since| now >= Self::certain(*since))
    }

    /// When a store that is missing since `since` is missing for certain: the lists of the vendors are eventually
    /// consistent, and one that lacks a store once may have it a moment later.
    #[must_use]
    pub fn certain(since: Timestamp) -> Timestamp {
        since.checked_add(Duration::from_secs(10)).unwrap_or(Timestamp::MAX)
    }

    /// Whether the vendor's list is whole and lacks a store, and nobody found it by itself.
    #[must_use]
    pub fn is_missing(&self, id: &StoreId) -> bool {
        let is_another = |reading: &Reading<Store>| match reading {
            Reading::Present(store) => store.id != *id,
            Reading::Absent => true,
            Reading::Unknown(_) | Reading::Hidden(_) => false,
        };
        id.vendor().is_some_and(|vendor| {
            is_another(&self.target)
                && is_another(&self.source)
                && !self.unlisted.contains_key(&vendor)
                && !self.catalog.iter().any(|entry| entry.id == *id)
        })
    }

    /// Takes note of which stores of `journal` are missing: from `now` on, or, where they were before, since `former` says.
    pub fn miss(&mut self, journal: &Journal, former: &BTreeMap<StoreId, Timestamp>, now: Timestamp) {
        let missing = journal.stores().into_iter().filter(|id| self.is_missing(id));
        self.missed = missing.map(|id| (id.clone(), former.get(&id).copied().unwrap_or(now))).collect();
    }
}

/// An App Runner service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its ARN.
    pub arn: Arn,
    /// Its public host, without a scheme.
    pub host: Option<String>,
    /// Its status.
    pub status: ServiceStatus,
    /// Who decides its variables.
    pub source: ServiceSource,
    /// Its variables by name; foreign ones are here only as a fingerprint.
    pub variables: BTreeMap<String, Variable>,
    /// Stands for everything about it that is not ours: foreign variables and settings. See [`crate::step::Expect`].
    pub foreign: Fingerprint,
    /// Its egress.
    pub egress: Egress,
    /// Whether a push deploys by itself.
    pub auto_deployments: bool,
    /// Its instance role.
    pub instance_role: Option<Arn>,
    /// Its operations, newest first.
    pub operations: Vec<Operation>,
    /// Most instances its scaling allows, where it could be read.
    pub max_instances: Option<u32>,
}

/// `Service.Status` of App Runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceStatus {
    /// Serving.
    Running,
    /// An operation is under way, ours or another's.
    OperationInProgress,
    /// Paused; refuses updates.
    Paused,
    /// Never came up.
    CreateFailed,
    /// Could not be deleted.
    DeleteFailed,
    /// Gone, still listed for a while.
    Deleted,
    /// A status this version does not know: waited out, never acted on.
    Other(String),
}

/// Who decides a service's variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceSource {
    /// An image: the API's variables count.
    Image,
    /// Code with `ConfigurationSource=API`.
    CodeApi,
    /// Code with `ConfigurationSource=REPOSITORY`: the API's variables are ignored and the file's are not shown.
    CodeRepository,
}

/// A variable of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// In plain text or by reference.
    pub delivery: Delivery,
    /// Stands for the plain value or the reference.
    pub digest: Fingerprint,
    /// The Redis it points to, if its value is a Redis URL, or the host part if it is one of ours by name and format.
    pub address: Option<Address>,
    /// Stores of the account whose host its value names, in whatever form.
    #[serde(default)]
    pub names: Vec<StoreId>,
    /// Stands for the password inside, if one could be read.
    pub password: Option<Fingerprint>,
    /// Whether it names a host that only the VPC reaches.
    pub reach: Reach,
}

/// How a variable's value reaches the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// In plain text.
    Plain,
    /// By reference to a secret or parameter.
    Reference(Arn),
}

/// What a variable says about the network it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// No host in it.
    #[default]
    None,
    /// A host on the internet.
    Public,
    /// A private address or a name that only resolves inside the VPC (`rds.amazonaws.com`, …).
    Private(String),
    /// A reference whose value could not be read, and why.
    Unknown(CloudError),
}

/// Where a service's outbound traffic goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Egress {
    /// The internet, no VPC.
    Default,
    /// All of it through this connector.
    Vpc(Arn),
}

/// An operation of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// How it stands.
    pub status: OperationStatus,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// `OperationSummary.Type`, as far as we tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// `UPDATE_SERVICE`.
    Update,
    /// `START_DEPLOYMENT`.
    Deployment,
    /// Create, pause, resume, delete, or one this version does not know.
    Other,
}

/// `OperationSummary.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationStatus {
    /// Pending, running, or in a status this version does not know.
    Running,
    /// The only success there is: a service that says RUNNING may have been rolled back silently.
    Succeeded,
    /// The platform is going back to the former configuration.
    RollingBack,
    /// Failed, or rolled back by the platform.
    Failed,
}

impl OperationStatus {
    /// Whether it is over.
    #[must_use]
    pub fn has_ended(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Running | Self::RollingBack => false,
        }
    }
}

/// Another service of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bystander {
    /// Its name.
    pub name: String,
    /// Its egress.
    pub egress: Egress,
    /// Who decides its variables.
    pub source: ServiceSource,
    /// Its variables. Their values are read only where a store may go; else each reference says that nobody looked.
    pub variables: BTreeMap<String, Variable>,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Which.
    pub id: StoreId,
    /// The name people know it by.
    pub name: String,
    /// How it stands.
    pub status: StoreStatus,
    /// Where it is reached; absent while it is being created.
    pub address: Option<Address>,
    /// Stands for the password, where it is known.
    pub credential: Option<Fingerprint>,
    /// Where in the network it is.
    pub placement: Placement,
    /// Whether it speaks the cluster protocol.
    pub cluster: bool,
    /// Connections it allows.
    pub max_connections: Option<u32>,
    /// The plan or node type.
    pub plan: Option<String>,
    /// Its quota of commands, where its plan has one.
    pub quota: Option<CommandQuota>,
    /// What the server itself says, where it can be reached from here.
    pub server: Reading<Server>,
}

/// Commands that a plan allows in a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandQuota {
    /// All of them.
    pub limit: u64,
    /// Those that are used up.
    pub used: u64,
}

impl CommandQuota {
    /// Those that are left.
    #[must_use]
    pub const fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// How a store stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreStatus {
    /// Being created.
    Creating,
    /// Ready.
    Available,
    /// Being changed; serves.
    Modifying,
    /// Going away.
    Deleting,
    /// Exists and does not serve; the text is the vendor's status.
    Failed(String),
}

/// Where in the network a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// On the internet.
    Public,
    /// Inside a VPC only.
    Vpc {
        /// The VPC.
        vpc: String,
        /// Its security groups.
        groups: Vec<GroupId>,
    },
    /// No network at all (`disabled`).
    Nowhere,
}

/// What a Redis server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Keys by database.
    pub keys: BTreeMap<u32, u64>,
    /// Bytes in use.
    pub used_memory: u64,
    /// Bytes allowed, 0 for no limit.
    pub max_memory: u64,
    /// Connections, where it tells them.
    #[serde(default)]
    pub clients: Option<u64>,
    /// Keys evicted since it started.
    pub evicted: u64,
    /// `maxmemory_policy`.
    pub eviction_policy: String,
}

/// An account's store and the names it answers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// Which.
    pub id: StoreId,
    /// Host names, lower case.
    pub hosts: Vec<String>,
}

/// Something with the name of a thing of ours: made in a call whose reply was lost, or by somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namesake {
    /// The vendor's id.
    pub id: String,
    /// When it was made, where the vendor says so.
    pub created: Option<Timestamp>,
    /// Whether it carries our tag; `None` where the vendor has no tags.
    pub ours: Option<bool>,
}

/// A VPC connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// The VPC of its subnets.
    pub vpc: String,
    /// Its security groups.
    pub groups: Vec<GroupId>,
    /// Whether every subnet of it routes to a working NAT gateway; `None` where that could not be read.
    pub nat: Option<bool>,
    /// Gateway and interface endpoints of the VPC, by service name; `None` where they could not be read.
    pub endpoints: Option<Vec<String>>,
    /// Security groups in the VPC, other than the stores', that admit one of the connector's groups.
    pub admitted_by: Option<Vec<GroupId>>,
    /// Whether it carries our tag; `None` where its tags could not be read.
    pub ours: Option<bool>,
}

/// A security-group rule (ingress).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The group it belongs to.
    pub group: GroupId,
    /// The group it admits, if it names one.
    pub source: Option<GroupId>,
    /// First port, `None` for all.
    pub from_port: Option<u16>,
    /// Last port, `None` for all.
    pub to_port: Option<u16>,
    /// Whether it carries our tag.
    pub ours: bool,
}

impl Rule {
    /// Whether it lets `source` reach `port`.
    #[must_use]
    pub fn admits(&self, source: &GroupId, port: u16) -> bool {
        self.source.as_ref() == Some(source)
            && self.from_port.is_none_or(|from| from <= port)
            && self.to_port.is_none_or(|to| port <= to)
    }
}

/// A secret of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its ARN, with the random suffix.
    pub arn: Arn,
    /// When it will be gone, if it is scheduled for deletion.
    pub deletion: Option<Timestamp>,
}

/// Who writes which variables of a service: the content of its claims secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Writes so far; the next write's token is made of it.
    pub sequence: u64,
    /// Owner path by variable name.
    pub holders: BTreeMap<String, String>,
}

/// What is known about a role's access to a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleAccess {
    /// The service.
    pub service: String,
    /// The secret.
    pub secret: SecretName,
    /// Whether its role may read it; `Unknown` where the policy could not be simulated.
    pub allowed: Reading<bool>,
}

/// How the copier of the open migration stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// What it is doing.
    pub state: CopyState,
    /// Whether the runner is alive: its last heartbeat.
    pub heartbeat: Timestamp,
    /// Whether the runner is in this process.
    pub here: bool,
    /// Keys at the source when the bulk began.
    pub total: u64,
    /// Keys copied so far.
    pub copied: u64,
    /// What a user can feel, milliseconds.
    pub lag_ms: Option<u64>,
    /// The worst of it since the switch, milliseconds.
    pub worst_lag_ms: u64,
    /// Keys changed on both sides.
    pub conflicts: u64,
    /// Consecutive sweeps that found nothing to carry away from the drained side, counted since `quiet_since`.
    pub quiet_sweeps: u32,
    /// When counting quiet sweeps began.
    pub quiet_since: Option<Timestamp>,
    /// The side they are counted for.
    pub drained: Option<crate::step::Side>,
    /// Connections of the app to the old store, where they can be counted.
    pub clients_from: Option<u64>,
    /// Connections of the app to the new store, where they can be counted.
    pub clients_to: Option<u64>,
    /// Some of the connections to the old store.
    pub connected_from: Vec<Client>,
    /// Some of the connections to the new store.
    pub connected_to: Vec<Client>,
    /// What it was asked for last, where it runs in this process.
    pub asked: Option<CopyMode>,
    /// Keys found different by the last full comparison, if there was one since `quiet_since`.
    pub different: Option<u64>,
    /// What came into the old store after the seal and is not carried from it.
    #[serde(default)]
    pub uncarried_from: Uncarried,
    /// What came into the new store after the seal and is not carried from it.
    #[serde(default)]
    pub uncarried_to: Uncarried,
    /// When the runner that this one watches was last alive, where another one drives the migration.
    #[serde(default)]
    pub other: Option<Timestamp>,
}

/// A connection to a store that is not ours, as the store tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// What it calls itself; often nothing.
    pub name: String,
    /// Where it comes from.
    pub address: String,
    /// For how many seconds it has been connected.
    pub age: u64,
}

/// The reason of a copier that waits because another runner is at work.
pub const HELD: &str = "Held";

/// What the copier is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyState {
    /// Connecting, looking at both stores.
    Starting,
    /// First pass.
    Bulk,
    /// The target follows the source.
    Following,
    /// Both follow each other; the base is sealed.
    BothWays,
    /// It stopped; the text names what is wrong and what to do.
    Failed {
        /// One stable word.
        reason: String,
        /// What is wrong and what to do.
        message: String,
        /// Whether trying again may help.
        temporary: bool,
    },
}
