//! App Runner: services with what they should be and what is deployed, their operations, connectors, scaling.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde_json::Value;

use super::Tags;
use crate::dataplane::DeploymentHandle;

/// All of App Runner.
#[derive(Debug, Clone, Default)]
pub struct AppRunner {
    /// By ARN, deleted ones included.
    pub services: BTreeMap<String, Service>,
    /// By ARN, deleted ones included.
    pub connectors: BTreeMap<String, Connector>,
    /// By ARN.
    pub scaling: BTreeMap<String, Scaling>,
}

/// What UpdateService can change; each member is replaced as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// `SourceConfiguration`.
    pub source: Value,
    /// `InstanceConfiguration`, in numeric units.
    pub instance: Value,
    /// `HealthCheckConfiguration`.
    pub health: Value,
    /// `NetworkConfiguration`.
    pub network: Value,
    /// `ObservabilityConfiguration`.
    pub observability: Value,
    /// ARN of the auto scaling configuration.
    pub scaling: String,
}

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// ARN.
    pub arn: String,
    /// 32 hexadecimal digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// Host, no scheme.
    pub url: String,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Deletion.
    pub deleted: Option<Timestamp>,
    /// ServiceStatus on the wire.
    pub status: &'static str,
    /// What the latest call asked for.
    pub desired: Config,
    /// What the last successful deployment runs.
    pub active: Option<Config>,
    /// What serves now.
    pub deployment: Option<DeploymentHandle>,
    /// Newest first.
    pub operations: VecDeque<Operation>,
    /// Tags.
    pub tags: Tags,
    /// `EncryptionConfiguration`.
    pub encryption: Value,
}

/// An operation on a service.
#[derive(Debug, Clone)]
pub struct Operation {
    /// UUID.
    pub id: String,
    /// OperationType.
    pub kind: &'static str,
    /// OperationStatus.
    pub status: &'static str,
    /// Call.
    pub started: Timestamp,
    /// End.
    pub ended: Option<Timestamp>,
    /// Last change of status.
    pub updated: Timestamp,
    /// ListOperations does not show it yet.
    pub hidden: bool,
}

/// A VPC connector; immutable.
#[derive(Debug, Clone)]
pub struct Connector {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// Revision.
    pub revision: u32,
    /// Subnets, all of one VPC.
    pub subnets: Vec<String>,
    /// Security groups of its interfaces.
    pub groups: Vec<String>,
    /// Creation.
    pub created: Timestamp,
    /// Deletion; the connector is INACTIVE then.
    pub deleted: Option<Timestamp>,
    /// Tags.
    pub tags: Tags,
}

/// An auto scaling configuration; immutable.
#[derive(Debug, Clone)]
pub struct Scaling {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// Revision.
    pub revision: u32,
    /// Concurrency per instance.
    pub concurrency: u32,
    /// Least instances.
    pub min: u32,
    /// Most instances.
    pub max: u32,
    /// Creation.
    pub created: Timestamp,
    /// Deletion.
    pub deleted: Option<Timestamp>,
    /// Tags.
    pub tags: Tags,
}

impl Config {
    /// ARN of the VPC connector, with VPC egress.
    pub fn connector(&self) -> Option<&str> {
        let egress = &self.network["EgressConfiguration"];
        (egress["EgressType"] == "VPC").then(|| egress["VpcConnectorArn"].as_str()).flatten()
    }
}

impl AppRunner {
    /// The live service of that name.
    pub fn service_named(&self, name: &str) -> Option<&Service> {
        self.services.values().find(|s| s.name == name && s.status != "DELETED")
    }

    /// Services that use a connector, now or in the deployment that serves.
    pub fn users_of<'a>(&'a self, connector: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.values().filter(move |s| {
            s.status != "DELETED"
                && (s.desired.connector() == Some(connector)
                    || s.active.as_ref().and_then(Config::connector) == Some(connector))
        })
    }
}
