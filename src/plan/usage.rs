//! Who needs what, read off variables. Where it cannot be told whether something is needed, that is an answer of its own:
//! what could not be read is never an absence. Pure, and shared by the planner and the guard.

use std::collections::BTreeMap;

use crate::error::CloudError;
use crate::identity::{Arn, GroupId, SecretName, StoreId, Vendor};
use crate::journal::Resource;
use crate::observed::{Bystander, Delivery, Placement, Reach, Reading, Service, ServiceSource, Variable};
use crate::serving::identify;

use super::{Draft, Inputs, Reason};

/// A service, ours or another, as far as its variables are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    source: ServiceSource,
    variables: &'a BTreeMap<String, Variable>,
}

impl<'a> From<&'a Service> for User<'a> {
    fn from(service: &'a Service) -> Self {
        Self { source: service.source, variables: &service.variables }
    }
}

impl<'a> From<&'a Bystander> for User<'a> {
    fn from(other: &'a Bystander) -> Self {
        Self { source: other.source, variables: &other.variables }
    }
}

/// Whether a service needs something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It does.
    Yes,
    /// Everything it is told was read, and nothing of it says so.
    No,
    /// It may.
    Untold(Untold),
}

/// Why it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Untold {
    /// A variable whose value could not be read.
    Value(String, CloudError),
    /// App Runner does not show the variables.
    File,
}

impl Need {
    fn of(each: impl IntoIterator<Item = Self>) -> Self {
        let mut need = Self::No;
        for one in each {
            match (one, &need) {
                (Self::Yes, _) => return Self::Yes,
                (untold @ Self::Untold(_), Self::No) => need = untold,
                (Self::No | Self::Untold(_), _) => {}
            }
        }
        need
    }
}

impl User<'_> {
    fn each(&self, need: impl Fn(&str, &Variable) -> Need) -> Need {
        let hidden = match self.source {
            ServiceSource::CodeRepository => Need::Untold(Untold::File),
            ServiceSource::Image | ServiceSource::CodeApi => Need::No,
        };
        Need::of(self.variables.iter().map(|(name, variable)| need(name, variable)).chain([hidden]))
    }
}

/// Whether `user` needs the store `id`.
pub(crate) fn of_store(inputs: &Inputs<'_>, user: User<'_>, id: &StoreId) -> Need {
    user.each(|name, variable| match led_to(inputs, name, variable) {
        Ok(stores) if stores.contains(id) => Need::Yes,
        Ok(_) => Need::No,
        Err(untold) => Need::Untold(untold),
    })
}

/// Whether `user` names the secret `name`. A reference is shown whether its value can be read or not.
pub(crate) fn of_secret(user: User<'_>, name: &SecretName, arn: Option<&Arn>) -> Need {
    user.each(|_, variable| match &variable.delivery {
        Delivery::Reference(told) if Some(told) == arn || told.secret_name().as_ref() == Some(name) => Need::Yes,
        Delivery::Reference(_) | Delivery::Plain => Need::No,
    })
}

/// Whether `user` reaches a store that is in `group`.
pub(crate) fn of_group(inputs: &Inputs<'_>, user: User<'_>, group: &GroupId) -> Need {
    let observed = inputs.observed;
    let known = || [&observed.target, &observed.source].into_iter().filter_map(Reading::present);
    let record = inputs.journal.migration.iter().flat_map(|last| last.from.iter().chain([&last.to]));
    let placement = |id: &StoreId| {
        let frozen = || record.clone().find(|record| record.id == *id).map(|record| &record.placement);
        known().find(|store| store.id == *id).map(|store| &store.placement).or_else(frozen)
    };
    user.each(|name, variable| {
        let stores = match led_to(inputs, name, variable) {
            Ok(stores) => stores,
            Err(untold) => return Need::Untold(untold),
        };
        let behind = stores.iter().any(|id| match placement(id) {
            Some(Placement::Vpc { groups, .. }) => groups.contains(group),
            Some(Placement::Public | Placement::Nowhere) => false,
            None => variable.reach != Reach::Public,
        });
        // Whose names the internet knows are no private hosts.
        match (behind, &variable.reach, observed.unlisted.get(&Vendor::ElastiCache)) {
            (true, ..) => Need::Yes,
            // A private host that no complete list says is not a store.
            (false, Reach::Private(_), Some(error)) if stores.is_empty() => {
                Need::Untold(Untold::Value(name.to_owned(), error.clone()))
            }
            (false, ..) => Need::No,
        }
    })
}

/// The stores a variable leads to: by its value, or, where that could not be read, by the secret of ours it refers to.
fn led_to(inputs: &Inputs<'_>, name: &str, variable: &Variable) -> Result<Vec<StoreId>, Untold> {
    let observed = inputs.observed;
    let mut stores = variable.names.clone();
    if let Some(address) = &variable.address {
        stores.push(identify(address, &observed.catalog));
        let known = [&observed.target, &observed.source].into_iter().filter_map(Reading::present);
        stores.extend(known.filter(|store| store.address.as_ref() == Some(address)).map(|store| store.id.clone()));
    }
    let Reach::Unknown(error) = &variable.reach else { return Ok(stores) };
    if !stores.is_empty() {
        return Ok(stores);
    }
    let told = match &variable.delivery {
        Delivery::Reference(arn) => arn.secret_name(),
        Delivery::Plain => None,
    };
    let bound = told.filter(|told| inputs.journal.made.contains_key(&Resource::Secret(told.clone())));
    let bound = bound.and_then(|told| bound_to(inputs, &told));
    bound.map(|id| vec![id]).ok_or_else(|| Untold::Value(name.to_owned(), error.clone()))
}

/// The store an epoch secret of ours was made for. Secrets never change, so its name says it.
fn bound_to(inputs: &Inputs<'_>, name: &SecretName) -> Option<StoreId> {
    let last = inputs.journal.migration.as_ref()?;
    last.tells_by(inputs.owner, name).then(|| last.to.id.clone())
}

/// Who needs something, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    certain: Vec<String>,
    untold: Vec<(String, Untold)>,
}

impl Users {
    /// Takes note of what `service` needs.
    pub(crate) fn weigh(&mut self, service: &str, need: Need) {
        match need {
            Need::Yes => self.certain.push(service.to_owned()),
            Need::No => {}
            Need::Untold(untold) => self.untold.push((service.to_owned(), untold)),
        }
    }
}

/// What to do about something that is needed, or may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remedy {
    /// Where somebody needs it.
    pub(crate) used: &'static str,
    /// Where it cannot be told.
    pub(crate) untold: &'static str,
}

impl<'a> Draft<'a> {
    /// All services of the account, ours first. `None` where they could not be read; the draft says so.
    pub(super) fn all_users(&mut self) -> Option<Vec<(String, User<'a>)>> {
        let ours = self.our_services()?;
        let others = self.bystanders()?;
        let others = others.iter().map(|other| (other.name.clone(), User::from(other)));
        Some(ours.into_iter().map(|(name, service)| (name, User::from(service))).chain(others).collect())
    }

    /// `Some` where nobody needs `what`; else the draft says who does, who may, or what has to be read again.
    pub(super) fn unused(&mut self, what: &str, users: &Users, remedy: Remedy) -> Option<()> {
        if !users.certain.is_empty() {
            let message = format!("it is still used by service {}", users.certain.join(", "));
            self.block(Reason::InUse, what, message, remedy.used);
            return None;
        }
        for (service, untold) in &users.untold {
            match untold {
                Untold::Value(name, error) if error.class.is_temporary() => {
                    self.unread(&Reading::<()>::Unknown(error.clone()), &format!("variable {name} of service {service}"));
                }
                Untold::Value(name, error) => self.block(
                    Reason::InUse,
                    what,
                    format!("service {service} may use it: variable {name} could not be read: {error}"),
                    format!("let the value be read (secretsmanager:GetSecretValue), or {}", remedy.untold),
                ),
                Untold::File => self.block(
                    Reason::InUse,
                    what,
                    format!(
                        "service {service} may use it: its variables come from apprunner.yaml in the repository, which App Runner does not show"
                    ),
                    remedy.untold,
                ),
            }
        }
        users.untold.is_empty().then_some(())
    }
}
