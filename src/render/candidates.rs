//! What a migration leaves without a user and is not ours to remove: the candidates for `alsoRemove`, ready to paste.
//! Proposes only what the planner would not refuse: a rule or a connector that nothing uses once the services have moved.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::desired::{EgressPolicy, Target};
use crate::identity::{Arn, GroupId, RuleId, StoreId};
use crate::observed::{Egress, Observed, Placement, Reading};

/// Something made by hand that nothing uses after the migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Candidate {
    /// A security-group rule.
    Rule {
        /// Its id: naming it in the manifest is the consent to remove it.
        security_group_rule_id: RuleId,
        /// What it is for.
        why: String,
    },
    /// A VPC connector.
    Connector {
        /// Its ARN: naming it in the manifest is the consent to remove it.
        vpc_connector_arn: Arn,
        /// What it is for.
        why: String,
    },
}

impl Candidate {
    /// The line of YAML that names it.
    #[must_use]
    pub fn yaml(&self) -> String {
        match self {
            Self::Rule { security_group_rule_id: id, why } => format!("- securityGroupRuleId: {id}   # {why}"),
            Self::Connector { vpc_connector_arn: arn, why } => format!("- vpcConnectorArn: {arn}   # {why}"),
        }
    }
}

/// The candidates, rules first: a connector whose group is still admitted can be removed, but the rule would be left.
#[must_use]
pub fn candidates(target: &Target, observed: &Observed) -> Vec<Candidate> {
    let Some(source) = observed.source.present() else { return Vec::new() };
    if observed.target.present().is_some_and(|store| store.id == source.id) {
        return Vec::new();
    }
    // Who else goes through a connector is not known: nothing can be said to be free.
    let Some(bystanders) = observed.bystanders.present() else { return Vec::new() };
    let services: Vec<_> = observed.services.values().filter_map(Reading::present).collect();
    let now: BTreeSet<_> = services.iter().filter_map(|service| connector(&service.egress)).collect();
    let mut after: BTreeSet<_> = bystanders.iter().filter_map(|other| connector(&other.egress)).collect();
    after.extend(target.services.iter().filter_map(|spec| match &spec.egress {
        EgressPolicy::Keep => {
            observed.services.get(&spec.name).and_then(Reading::present).and_then(|service| connector(&service.egress))
        }
        EgressPolicy::Connector(arn) => Some(arn),
        EgressPolicy::Default | EgressPolicy::CreateConnector { .. } => None,
    }));
    let groups = |arns: &BTreeSet<&Arn>| -> BTreeSet<&GroupId> {
        let connectors = arns.iter().filter_map(|arn| observed.connectors.get(*arn).and_then(Reading::present));
        connectors.flat_map(|connector| &connector.groups).collect()
    };
    let leaving = &groups(&now) - &groups(&after);
    let mut found = rules(target, observed, &source.placement, &source.id, &leaving);
    for arn in &now - &after {
        let Some(connector) = observed.connectors.get(arn).and_then(Reading::present) else { continue };
        if connector.ours == Some(true) || target.migration.retire.connectors.contains(arn) {
            continue;
        }
        let users = services.iter().filter(|service| service.egress == Egress::Vpc(arn.clone())).count();
        let why =
            format!("{}: used by {} of this object, and by no other", connector.name, super::plural(users, "service"));
        found.push(Candidate::Connector { vpc_connector_arn: arn.clone(), why });
    }
    found
}

fn rules(
    target: &Target,
    observed: &Observed,
    placement: &Placement,
    store: &StoreId,
    leaving: &BTreeSet<&GroupId>,
) -> Vec<Candidate> {
    let Placement::Vpc { groups, .. } = placement else { return Vec::new() };
    let present = observed.rules.iter().filter_map(|(id, rule)| Some((id, rule.present()?)));
    present
        .filter(|(id, rule)| !rule.ours && groups.contains(&rule.group) && !target.migration.retire.rules.contains(id))
        .filter_map(|(id, rule)| {
            let source = rule.source.as_ref().filter(|source| leaving.contains(source))?;
            let ports = match (rule.from_port, rule.to_port) {
                (Some(from), Some(to)) if from == to => format!("port {from}"),
                (Some(from), Some(to)) => format!("ports {from}-{to}"),
                (None, _) | (_, None) => "every port".to_owned(),
            };
            let why = format!("admits {source} to {} of {store} on {ports}", rule.group);
            Some(Candidate::Rule { security_group_rule_id: id.clone(), why })
        })
        .collect()
}

fn connector(egress: &Egress) -> Option<&Arn> {
    match egress {
        Egress::Vpc(arn) => Some(arn),
        Egress::Default => None,
    }
}
