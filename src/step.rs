//! One thing to do: at most one mutating call, no choice left open, no secret and no foreign value inside.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checks::Stage;
use crate::desired::ReplicationGroupSettings;
use crate::identity::{
    Address, Arn, Epoch, Fingerprint, GroupId, MigrationId, OperationId, RuleId, SecretName, StoreId,
};
use crate::journal::{Copied, Direction, Entry, Prior, Resource};
use crate::observed::Egress;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Write one line of the journal, at the sequence after `expect`.
    Journal {
        /// The sequence the journal must be at.
        expect: u64,
        /// The line.
        entry: Entry,
    },
    /// Claim variables of a service for this owner.
    Claim {
        /// The service.
        service: String,
        /// Its variables.
        variables: Vec<String>,
        /// Writes of the claims secret so far; `None` creates it.
        expect: Option<u64>,
    },
    /// Give up this owner's claims on a service.
    Release {
        /// The service.
        service: String,
        /// Writes of the claims secret so far.
        expect: u64,
    },
    /// Create an Upstash database; its credentials go to the journal's vault before anything else.
    CreateUpstashDatabase {
        /// Its name.
        name: String,
        /// Its primary region.
        region: String,
        /// Its plan.
        plan: Option<String>,
    },
    /// Delete an Upstash database of ours.
    DeleteUpstashDatabase {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Create a cache subnet group.
    CreateSubnetGroup {
        /// Its name.
        name: String,
        /// Its subnets.
        subnets: Vec<String>,
    },
    /// Delete a cache subnet group of ours.
    DeleteSubnetGroup {
        /// Its name.
        name: String,
    },
    /// Create a replication group with TLS and the token the vault holds.
    CreateReplicationGroup {
        /// Its id.
        id: String,
        /// Its subnet group.
        subnet_group: String,
        /// What it should be.
        settings: ReplicationGroupSettings,
    },
    /// Delete a replication group of ours.
    DeleteReplicationGroup {
        /// Its id.
        id: String,
    },
    /// Admit a connector's group to a store's group.
    AuthorizeIngress {
        /// The store's group.
        group: GroupId,
        /// The connector's group.
        source: GroupId,
        /// The store's port.
        port: u16,
    },
    /// Remove one ingress rule.
    RevokeIngress {
        /// The group it belongs to.
        group: GroupId,
        /// The rule.
        rule: RuleId,
    },
    /// Create a VPC connector.
    CreateConnector {
        /// Its name.
        name: String,
        /// Its subnets.
        subnets: Vec<String>,
        /// Its security groups.
        security_groups: Vec<String>,
    },
    /// Delete a VPC connector nobody uses.
    DeleteConnector {
        /// The connector.
        arn: Arn,
    },
    /// Create the immutable secret behind a variable.
    CreateEpochSecret {
        /// Its name.
        name: SecretName,
        /// The epoch it belongs to.
        epoch: Epoch,
        /// The variable whose value it holds; the runtime renders it from the store's address and password.
        variable: String,
        /// The store it leads to.
        store: StoreId,
    },
    /// Delete a secret of ours, with a recovery window.
    DeleteSecret {
        /// Its name.
        name: SecretName,
    },
    /// Change variables, egress or automatic deployments of a service, everything else as it is.
    PatchService(ServicePatch),
    /// Have the copier of a migration run in `mode`, taking over where a former runner stopped.
    Copy {
        /// The migration.
        migration: MigrationId,
        /// How.
        mode: CopyMode,
    },
    /// Count sweeps that find nothing to carry away from the drained side, from now on, and compare both stores in full.
    CountQuiet {
        /// The migration.
        migration: MigrationId,
        /// The side whose last clients are leaving.
        drained: Side,
    },
    /// Start a run of checks.
    RunChecks {
        /// When in the migration.
        stage: Stage,
    },
}

/// One of the two stores of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The store it comes from.
    From,
    /// The store it goes to.
    To,
}

/// How a copier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyMode {
    /// The target follows the source.
    Follow,
    /// Both follow each other.
    BothWays,
    /// It ends and removes every trace of itself from both stores.
    Clear {
        /// The store that is gone for certain, whose traces went with it.
        gone: Option<Side>,
    },
    /// As `Clear`, and before that what it copied is removed from the new store again, so that it is as it was found.
    Withdraw,
}

/// A change of one service. What is not named stays bit for bit as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePatch {
    /// The service's name.
    pub service: String,
    /// Its ARN.
    pub arn: Arn,
    /// Which move of the migration this is; its journal line is already written.
    pub direction: Direction,
    /// Variables to set.
    pub set: BTreeMap<String, Setting>,
    /// Variables to take away.
    pub unset: Vec<String>,
    /// The egress to have, if it changes.
    pub egress: Option<Egress>,
    /// Automatic deployments, if they change.
    pub auto_deployments: Option<bool>,
    /// What must still be so right before the call, or it is not made.
    pub expect: Expect,
}

/// What a variable is set to, by reference to where the value is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// A reference to one of our secrets.
    Secret(Arn),
    /// A part of an address that is no secret.
    Plain(String),
    /// A value with a password in plain text, because it was asked for; rendered by the runtime from this address.
    PlainSecret(Box<Address>),
    /// What it was before.
    Prior(Prior),
}

/// What must still be so right before a service is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    /// Stands for every foreign variable and setting of the service.
    pub foreign: Fingerprint,
    /// The newest operation.
    pub newest_operation: Option<OperationId>,
    /// The journal's sequence: the line that allows the way back has been read back.
    pub journal: u64,
}

impl Step {
    /// Whether it removes something that could be missed. Such steps run alone.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        match self {
            Self::DeleteUpstashDatabase { .. }
            | Self::DeleteSubnetGroup { .. }
            | Self::DeleteReplicationGroup { .. }
            | Self::RevokeIngress { .. }
            | Self::DeleteConnector { .. }
            | Self::DeleteSecret { .. } => true,
            Self::Journal { .. }
            | Self::Claim { .. }
            | Self::Release { .. }
            | Self::CreateUpstashDatabase { .. }
            | Self::CreateSubnetGroup { .. }
            | Self::CreateReplicationGroup { .. }
            | Self::AuthorizeIngress { .. }
            | Self::CreateConnector { .. }
            | Self::CreateEpochSecret { .. }
            | Self::PatchService(_)
            | Self::Copy { .. }
            | Self::CountQuiet { .. }
            | Self::RunChecks { .. } => false,
        }
    }

    /// The name of an ingress rule of ours before it has an id.
    #[must_use]
    pub fn rule_name(group: &GroupId, source: &GroupId, port: u16) -> Resource {
        Resource::Rule(format!("{group} <- {source} : {port}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal { entry, .. } => write!(f, "journal: {entry}"),
            Self::Claim { service, variables, .. } => write!(f, "claim {} of service {service}", variables.join(", ")),
            Self::Release { service, .. } => write!(f, "release the claims on service {service}"),
            Self::CreateUpstashDatabase { name, region, plan } => {
                write!(f, "create Upstash database {name} in {region}")?;
                plan.as_ref().map_or(Ok(()), |plan| write!(f, ", plan {plan}"))
            }
            Self::DeleteUpstashDatabase { name, id } => write!(f, "delete Upstash database {name} ({id})"),
            Self::CreateSubnetGroup { name, subnets } => {
                write!(f, "create cache subnet group {name} over {}", subnets.join(", "))
            }
            Self::DeleteSubnetGroup { name } => write!(f, "delete cache subnet group {name}"),
            Self::CreateReplicationGroup { id, settings, .. } => {
                write!(f, "create replication group {id}: {}, {} replicas", settings.node_type, settings.replicas)
            }
            Self::DeleteReplicationGroup { id } => write!(f, "delete replication group {id}"),
            Self::AuthorizeIngress { group, source, port } => write!(f, "admit {source} to {group} on port {port}"),
            Self::RevokeIngress { group, rule } => write!(f, "remove rule {rule} from {group}"),
            Self::CreateConnector { name, subnets, .. } => {
                write!(f, "create VPC connector {name} over {}", subnets.join(", "))
            }
            Self::DeleteConnector { arn } => write!(f, "delete VPC connector {arn}"),
            Self::CreateEpochSecret { name, .. } => write!(f, "create secret {name}"),
            Self::DeleteSecret { name } => write!(f, "delete secret {name} (recoverable for 7 days)"),
            Self::PatchService(patch) => write!(f, "{patch}"),
            Self::Copy { mode, .. } => match mode {
                CopyMode::Follow => f.write_str("copy live sessions; the new store follows the old one"),
                CopyMode::BothWays => f.write_str("keep both stores in step, both ways"),
                CopyMode::Clear { gone: None } => f.write_str("end the copier and remove its traces from both stores"),
                CopyMode::Clear { gone: Some(_) } => {
                    f.write_str("end the copier and remove its traces from the store that is left")
                }
                CopyMode::Withdraw => {
                    f.write_str("end the copier and remove from the new store what it copied there, and its traces")
                }
            },
            Self::CountQuiet { .. } => f.write_str("wait for the last writes and compare both stores in full"),
            Self::RunChecks { stage } => write!(f, "run the checks: {stage}"),
        }
    }
}

impl fmt::Display for ServicePatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.direction {
            Direction::Forward => "switch",
            Direction::Back => "switch back",
            Direction::Egress | Direction::Restore => "update",
        };
        write!(f, "{verb} service {}:", self.service)?;
        let set: Vec<_> = self.set.keys().map(|name| format!(" ~{name}")).collect();
        let unset: Vec<_> = self.unset.iter().map(|name| format!(" -{name}")).collect();
        write!(f, "{}{}", set.concat(), unset.concat())?;
        match &self.egress {
            Some(Egress::Default) => f.write_str(" egress → DEFAULT")?,
            Some(Egress::Vpc(arn)) => write!(f, " egress → {arn}")?,
            None => {}
        }
        match self.auto_deployments {
            Some(true) => f.write_str(" automatic deployments on"),
            Some(false) => f.write_str(" automatic deployments off"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline, on the store in use",
            Self::Target => "on the new store, before the switch",
            Self::AfterSwitch => "after the switch",
            Self::Bake => "during the bake",
            Self::AfterRollback => "after the way back",
            Self::Rest => "at rest",
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intend(resource) => write!(f, "about to create {}", String::from(resource.clone())),
            Self::Made(resource, id) => write!(f, "{} is {id}", String::from(resource.clone())),
            Self::Gone(resource) => write!(f, "{} is gone", String::from(resource.clone())),
            Self::Begin(migration) => write!(f, "migration {} begins; how to undo it is kept", migration.id),
            Self::Baseline(results) => write!(f, "baseline of {} checks", results.len()),
            Self::Approve(_, gate) => write!(f, "approved: {gate}"),
            Self::Sealed => f.write_str("everything is ready for the switch"),
            Self::Copied(Copied { cleared: true, .. }) => f.write_str("the copier's traces are gone"),
            Self::Copied(copied) => write!(f, "{} keys were copied, {} conflicts", copied.keys, copied.conflicts),
            Self::Moving(direction, service, _) => write!(f, "about to {} {service}", direction.verb()),
            Self::Moved(_, service, operation) => write!(f, "{service}: operation {operation}"),
            Self::NotMoved(_, service, None) => write!(f, "{service}: the call came to nothing and may be made again"),
            Self::Dropped(_, service) => write!(f, "{service}: nothing came of the call and it may be made again"),
            Self::NotMoved(_, service, Some(why)) => write!(f, "{service}: the call came to nothing: {why}"),
            Self::Drained => f.write_str("drained"),
            Self::Validated(_) => f.write_str("checks passed"),
            Self::EgressValidated(_) => f.write_str("checks passed with the new egress"),
            Self::Baked(_) => f.write_str("bake over"),
            Self::BackValidated(_) => f.write_str("checks passed on the former store"),
            Self::RollBack { reason, message } => write!(f, "rolling back: {reason}: {message}"),
            Self::Hold { reason, message } => write!(f, "on hold: {reason}: {message}"),
            Self::End(outcome, _) => write!(f, "migration ended: {outcome:?}"),
            Self::Retry => f.write_str("retry asked for"),
            Self::Abort => f.write_str("abort asked for"),
            Self::Settle(settled) => write!(f, "the services use {}", settled.store),
        }
    }
}

impl Direction {
    fn verb(self) -> &'static str {
        match self {
            Self::Forward => "switch",
            Self::Back => "switch back",
            Self::Egress => "change the egress of",
            Self::Restore => "give automatic deployments back to",
        }
    }
}

impl fmt::Display for crate::journal::Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch => "switch",
            Self::Handover => "handover",
            Self::Retire => "retire",
            Self::GiveUp => "giveUp",
        })
    }
}
