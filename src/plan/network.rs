//! The network table: whether, when and how the egress of a service changes on the way from one store to another.
//! With VPC egress all outbound traffic goes through the connector, so without NAT the internet is gone;
//! with Default egress the VPC is gone (App Runner developer guide, "Enabling VPC access for outgoing traffic").

use crate::desired::{Consent, EgressPolicy};
use crate::identity::Arn;
use crate::journal::EgressChange;
use crate::observed::{Connector, Egress, Placement, Reach, Service};

use super::{Block, Reason};

/// What the table is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The service's name.
    pub name: &'a str,
    /// The service as it is.
    pub service: &'a Service,
    /// What the spec says of its egress; a connector of ours is already made and given by ARN.
    pub policy: &'a EgressPolicy,
    /// The connector of ours, once it exists.
    pub made: Option<&'a Arn>,
    /// Where the new store is.
    pub to: &'a Placement,
    /// What was consented to.
    pub consent: Consent,
}

/// The answer: a change of egress, or what is missing.
pub type Answer = Result<EgressChange, Box<Block>>;

/// Looks up one row. `connector` gives the reading of a connector by ARN.
pub fn egress_change<'a>(question: &Question<'_>, connector: impl Fn(&Arn) -> Option<&'a Connector>) -> Answer {
    let now = &question.service.egress;
    let asked = asked(question)?;
    let ends = asked.as_ref().unwrap_or(now);
    match question.to {
        Placement::Public => to_public(question, now, ends, &connector),
        Placement::Vpc { vpc, .. } => to_vpc(question, now, ends, vpc, &connector),
        Placement::Nowhere if ends == now => Ok(EgressChange::None),
        Placement::Nowhere => {
            if *ends == Egress::Default {
                no_private_host(question)?;
            }
            Ok(EgressChange::Last(ends.clone()))
        }
    }
}

fn asked(question: &Question<'_>) -> Result<Option<Egress>, Box<Block>> {
    Ok(match question.policy {
        EgressPolicy::Keep => None,
        EgressPolicy::Default => Some(Egress::Default),
        EgressPolicy::Connector(arn) => Some(Egress::Vpc(arn.clone())),
        EgressPolicy::CreateConnector { .. } => {
            let missing = || {
                block(question, Reason::Unreachable, "the connector does not exist yet", "wait for it to be created")
            };
            Some(Egress::Vpc(question.made.cloned().ok_or_else(missing)?))
        }
    })
}

fn to_public<'a>(
    question: &Question<'_>,
    now: &Egress,
    ends: &Egress,
    connector: &impl Fn(&Arn) -> Option<&'a Connector>,
) -> Answer {
    let Egress::Vpc(arn) = now else {
        return match ends {
            Egress::Default => Ok(EgressChange::None),
            Egress::Vpc(next) => with_nat(question, next, connector, EgressChange::Last(ends.clone())),
        };
    };
    match nat(question, arn, connector)? {
        true if ends == now => Ok(EgressChange::None),
        true => match ends {
            Egress::Default => {
                no_private_host(question)?;
                Ok(EgressChange::Last(Egress::Default))
            }
            Egress::Vpc(next) => with_nat(question, next, connector, EgressChange::Last(ends.clone())),
        },
        false => match ends {
            Egress::Default => {
                nothing_else_in_the_vpc(question, arn, connector)?;
                Ok(EgressChange::WithVariables(Egress::Default))
            }
            Egress::Vpc(next) if next != arn => {
                with_nat(question, next, connector, EgressChange::WithVariables(ends.clone()))
            }
            Egress::Vpc(_) => Err(block(
                question,
                Reason::NetworkPath,
                format!("its connector {arn} has no NAT, so the new store on the internet cannot be reached"),
                "add a NAT gateway to the connector's subnets, set egress.type: Default for the service, or stay",
            )),
        },
    }
}

fn to_vpc<'a>(
    question: &Question<'_>,
    now: &Egress,
    ends: &Egress,
    vpc: &str,
    connector: &impl Fn(&Arn) -> Option<&'a Connector>,
) -> Answer {
    let Egress::Vpc(next) = ends else {
        return Err(block(
            question,
            Reason::Unreachable,
            format!("its egress is public and the new store is inside {vpc}"),
            "set egress.type: VPC for the service, with vpcConnector.arn of a connector in that VPC or vpcConnector.create",
        ));
    };
    let found = read(question, next, connector)?;
    if found.vpc != vpc {
        return Err(block(
            question,
            Reason::NetworkPath,
            format!("connector {next} is in {}, the new store in {vpc}", found.vpc),
            "name a connector in the store's VPC",
        ));
    }
    match now {
        _ if ends == now => Ok(EgressChange::None),
        Egress::Vpc(_) => Ok(EgressChange::WithVariables(ends.clone())),
        Egress::Default => enter_vpc(question, ends, next, found),
    }
}

/// Default egress today, the store inside a VPC. Without NAT the internet ends with the call: what else is out there
/// needs consent, and a store that is out there can only be left in the very same call.
fn enter_vpc(question: &Question<'_>, ends: &Egress, arn: &Arn, found: &Connector) -> Answer {
    if found.nat == Some(true) {
        return Ok(EgressChange::First(ends.clone()));
    }
    let variables = || question.service.variables.iter();
    let elsewhere = variables().find(|(_, variable)| {
        let out = matches!(variable.reach, Reach::Public | Reach::Unknown(_));
        out && variable.address.is_none()
    });
    if let Some((name, variable)) = elsewhere.filter(|_| !question.consent.no_internet) {
        let nat = match found.nat {
            Some(_) => "has no NAT",
            None => "may have no NAT (its routes could not be read)",
        };
        let why = match variable.reach {
            Reach::Unknown(_) => "refers to a value that could not be read",
            Reach::None | Reach::Public | Reach::Private(_) => "names a host on the internet",
        };
        let endpoints = match &found.endpoints {
            Some(endpoints) if endpoints.is_empty() => "none".to_owned(),
            Some(endpoints) => endpoints.join(", "),
            None => "could not be read".to_owned(),
        };
        return Err(block(
            question,
            Reason::NoInternet,
            format!(
                "connector {arn} {nat}: the service would lose the internet, and variable {name} {why} (endpoints found in the VPC: {endpoints})"
            ),
            "add a NAT gateway, or set spec.migration.consent.noInternet: true",
        ));
    }
    let leaves_a_public_store =
        variables().any(|(_, variable)| variable.address.is_some() && variable.reach == Reach::Public);
    Ok(if leaves_a_public_store {
        EgressChange::WithVariables(ends.clone())
    } else {
        EgressChange::First(ends.clone())
    })
}

fn with_nat<'a>(
    question: &Question<'_>,
    arn: &Arn,
    connector: &impl Fn(&Arn) -> Option<&'a Connector>,
    change: EgressChange,
) -> Answer {
    if nat(question, arn, connector)? {
        return Ok(change);
    }
    Err(block(
        question,
        Reason::NetworkPath,
        format!("connector {arn} has no NAT, so the new store on the internet cannot be reached through it"),
        "add a NAT gateway to its subnets, or name another egress",
    ))
}

fn nat<'a>(
    question: &Question<'_>,
    arn: &Arn,
    connector: &impl Fn(&Arn) -> Option<&'a Connector>,
) -> Result<bool, Box<Block>> {
    read(question, arn, connector)?.nat.ok_or_else(|| {
        block(
            question,
            Reason::NetworkPath,
            format!("whether connector {arn} has a NAT gateway could not be read"),
            "grant ec2:DescribeRouteTables and ec2:DescribeNatGateways",
        )
    })
}

fn read<'a>(
    question: &Question<'_>,
    arn: &Arn,
    connector: &impl Fn(&Arn) -> Option<&'a Connector>,
) -> Result<&'a Connector, Box<Block>> {
    connector(arn).ok_or_else(|| {
        block(
            question,
            Reason::NetworkPath,
            format!("connector {arn} was not found or could not be read"),
            "check its ARN and apprunner:DescribeVpcConnector",
        )
    })
}

/// What is certain to be cut off: a private host in a variable that is not the store's.
fn no_private_host(question: &Question<'_>) -> Result<(), Box<Block>> {
    for (name, variable) in &question.service.variables {
        if let Reach::Private(host) = &variable.reach
            && variable.address.is_none()
        {
            return Err(block(
                question,
                Reason::VpcNeeded,
                format!(
                    "variable {name} names {host}, which only the VPC reaches; with egress Default it would be cut off"
                ),
                "set egress.type: Keep for the service",
            ));
        }
    }
    Ok(())
}

/// No private host in other variables and no group that admits the connector's; what cannot be read is unknown, never none.
fn nothing_else_in_the_vpc<'a>(
    question: &Question<'_>,
    arn: &Arn,
    connector: &impl Fn(&Arn) -> Option<&'a Connector>,
) -> Result<(), Box<Block>> {
    let needed = |why: String, remedy: &str| Err(block(question, Reason::VpcNeeded, why, remedy));
    let keep = "add a NAT gateway to the connector's subnets and keep the egress, or stay";
    for (name, variable) in &question.service.variables {
        let why = match &variable.reach {
            Reach::Private(host) if variable.address.is_none() => {
                format!("variable {name} names {host}, which only the VPC reaches")
            }
            Reach::Unknown(_) => format!("variable {name} refers to a value that could not be read"),
            Reach::None | Reach::Public | Reach::Private(_) => continue,
        };
        let remedy = match &variable.reach {
            Reach::Unknown(_) => {
                "let the value be read (secretsmanager:GetSecretValue), add a NAT gateway and keep the egress, or stay"
            }
            Reach::None | Reach::Public | Reach::Private(_) => keep,
        };
        return needed(format!("{why}; without the connector it would be cut off"), remedy);
    }
    match &read(question, arn, connector)?.admitted_by {
        Some(groups) if groups.is_empty() => Ok(()),
        Some(groups) => {
            let names: Vec<_> = groups.iter().map(ToString::to_string).collect();
            needed(format!("something else in the VPC may be in use: {} admits the connector", names.join(", ")), keep)
        }
        None => needed(
            "which security groups admit the connector could not be read".to_owned(),
            "grant ec2:DescribeSecurityGroupRules",
        ),
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "the error of every answer of the table, and a large one")]
fn block(question: &Question<'_>, reason: Reason, message: impl Into<String>, remedy: &str) -> Box<Block> {
    Box::new(Block {
        reason,
        subject: format!("service {}", question.name),
        message: message.into(),
        remedy: remedy.to_owned(),
    })
}
