//! An App Runner service as it is seen.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::CloudError;
use crate::identity::{Address, Arn, Fingerprint, OperationId, StoreId};

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
