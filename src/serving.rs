//! Which store serves a service now, read off the running service and nowhere else.

use crate::identity::{Address, Owner, StoreId};
use crate::journal::Migration;
use crate::observed::{CatalogEntry, Delivery, Service, ServiceSource};

/// What a service's own variables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// A store of the account, or an external one by host and port.
    Store(StoreId, Address),
    /// None of our variables is there: no Redis.
    Nothing,
    /// They are there and cannot be read; the text says which and why.
    Unseen(String),
}

impl Serving {
    /// The identity, where one is known; no Redis is an identity too.
    #[must_use]
    pub fn id(&self) -> Option<StoreId> {
        match self {
            Self::Store(id, _) => Some(id.clone()),
            Self::Nothing => Some(StoreId::Disabled),
            Self::Unseen(_) => None,
        }
    }
}

/// What the variables `names` of `service` point to. `names` are ours by name and format, the leading one first.
#[must_use]
pub fn serving(service: &Service, names: &[String], catalog: &[CatalogEntry]) -> Serving {
    if service.source == ServiceSource::CodeRepository {
        return Serving::Unseen(
            "its variables come from apprunner.yaml in the repository, which App Runner does not show".to_owned(),
        );
    }
    let mut unseen = None;
    for name in names {
        let Some(variable) = service.variables.get(name) else { continue };
        match &variable.address {
            Some(address) => return Serving::Store(identify(address, catalog), address.clone()),
            None => unseen = unseen.or(Some(name)),
        }
    }
    match unseen {
        Some(name) => Serving::Unseen(format!("variable {name} could not be read as a Redis address")),
        None => Serving::Nothing,
    }
}

/// Where `service` is led by a secret whose value cannot be read: `last` made it for its store, and its name says so.
#[must_use]
pub fn told_by_name(service: &Service, names: &[String], owner: &Owner, last: Option<&Migration>) -> Option<Address> {
    let last = last?;
    let is_told =
        names.iter().filter_map(|name| service.variables.get(name)).any(|variable| match &variable.delivery {
            Delivery::Reference(arn) => arn.secret_name().is_some_and(|secret| last.tells_by(owner, &secret)),
            Delivery::Plain => false,
        });
    last.to.address.clone().filter(|_| is_told)
}

/// The identity behind an address: a store of the account by its host names, else host and port.
#[must_use]
pub fn identify(address: &Address, catalog: &[CatalogEntry]) -> StoreId {
    let host = address.host.to_ascii_lowercase();
    catalog
        .iter()
        .find(|entry| entry.hosts.contains(&host))
        .map_or_else(|| StoreId::External(host, address.port), |entry| entry.id.clone())
}
