//! What lies between a service and a store.

use serde::{Deserialize, Serialize};

use crate::identity::GroupId;

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
