//! What the app is told: the six formats, as variables with values, and the way back from variables to an address.
//! Pure; the one room besides the shell where a password is in clear. It never prints one and puts none into an error.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret as _, SecretString};

use crate::desired::{EnvFormat, PartNames, SslCertReqs};
use crate::identity::Address;

mod host;
mod template;
mod url;

pub use host::is_forbidden;
pub use template::{Template, TemplateError};
pub use url::{DEFAULT_PORT, UrlError, escape, names_database, parse_url};

/// The variables of Celery that default to `REDIS_URL` in the app.
pub const CELERY_VARIABLES: [&str; 2] = ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"];

/// Well-known names whose value is a whole URL.
const URL_NAMES: [&str; 4] = ["REDIS_URL", "REDIS_TLS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"];
/// Well-known names whose value is a host; the port stands beside them.
const HOST_NAMES: [&str; 2] = ["REDIS_ENDPOINT", "REDIS_HOST"];

/// A variable with its value.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The value; `{:?}` does not print it.
    pub value: SecretString,
    /// Whether it must be delivered as a secret.
    pub holds_password: bool,
    /// The variable whose epoch secret it shares (itself, unless two variables have the same value).
    pub secret_key: String,
}

/// A variable as far as it can be known without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outline {
    /// The whole value; no password in it.
    Plain(String),
    /// The value holds a password.
    Secret {
        /// The variable whose epoch secret it shares.
        key: String,
    },
}

/// Why a format cannot name an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// `UrlImplicitTls` at a TLS store that is not Upstash.
    #[error(
        "spec.env.format: UrlImplicitTls writes redis:// and the app turns TLS on for *.upstash.io only, but {host} needs TLS; \
         use format Url (rediss://)"
    )]
    ImplicitTls {
        /// The store's host.
        host: String,
    },
    /// A format of parts has no variable for a database.
    #[error("spec.env.format: {format} has no variable for database {db}; use format Url or Template")]
    Database {
        /// The format.
        format: &'static str,
        /// The database index.
        db: u32,
    },
    /// A format of parts has no variable for a user.
    #[error(
        "spec.env.format: {format} has no variable for the user {user}; use format Url or Template, or the default user"
    )]
    User {
        /// The format.
        format: &'static str,
        /// The ACL user.
        user: String,
    },
}

/// A leftover variable of another format that an app could prefer to ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub variable: String,
    /// Where it points; `None` where that could not be read.
    pub address: Option<Address>,
}

/// Every variable a format may write, in the order a reader expects.
#[must_use]
pub fn names(format: &EnvFormat) -> Vec<String> {
    match format {
        EnvFormat::Url { url } | EnvFormat::UrlImplicitTls { url } => vec![url.clone()],
        EnvFormat::Celery { url, aliases, .. } => {
            std::iter::once(url).chain(aliases.iter().map(|alias| &alias.name)).cloned().collect()
        }
        EnvFormat::EndpointPortTls(parts) | EnvFormat::HostPortPassword(parts) => {
            vec![parts.host.clone(), parts.port.clone(), parts.tls.clone(), parts.password.clone()]
        }
        EnvFormat::Template(variables) => variables.keys().cloned().collect(),
    }
}

/// Whether a host is Upstash's, which is where an app of the format `UrlImplicitTls` turns TLS on.
#[must_use]
pub fn is_upstash(host: &str) -> bool {
    host.ends_with(".upstash.io")
}

/// Whether `format` can say all there is to say about `address`.
///
/// # Errors
/// When it cannot; the error names the field and what to use instead.
pub fn fits(format: &EnvFormat, address: &Address) -> Result<(), Misfit> {
    let part = match format {
        EnvFormat::UrlImplicitTls { .. } if address.tls && !is_upstash(&address.host) => {
            return Err(Misfit::ImplicitTls { host: address.host.clone() });
        }
        EnvFormat::Url { .. }
        | EnvFormat::UrlImplicitTls { .. }
        | EnvFormat::Celery { .. }
        | EnvFormat::Template(_) => {
            return Ok(());
        }
        EnvFormat::EndpointPortTls(_) => "EndpointPortTls",
        EnvFormat::HostPortPassword(_) => "HostPortPassword",
    };
    match &address.user {
        _ if address.db != 0 => Err(Misfit::Database { format: part, db: address.db }),
        Some(user) => Err(Misfit::User { format: part, user: user.clone() }),
        None => Ok(()),
    }
}

/// The variables of `format` for a store at `address`. `present` are the names the service has now (Celery's aliases are
/// written where they are present or listed); `upstash` writes the user as Upstash's own connection strings do.
/// Ask [`fits`] first: where `UrlImplicitTls` does not fit, the scheme says `rediss` after all.
#[must_use]
pub fn render(
    format: &EnvFormat,
    present: &BTreeSet<String>,
    address: &Address,
    password: Option<&str>,
    upstash: bool,
) -> BTreeMap<String, Rendered> {
    written(format, present, address, password, upstash)
        .into_iter()
        .map(|(name, Written { value, secret, key })| {
            (name, Rendered { value: value.into(), holds_password: secret, secret_key: key })
        })
        .collect()
}

/// What [`render`] gives, without needing the password: `has_password` stands for it.
#[must_use]
pub fn outline(
    format: &EnvFormat,
    present: &BTreeSet<String>,
    address: &Address,
    has_password: bool,
    upstash: bool,
) -> BTreeMap<String, Outline> {
    // The stand-in never gets out: whatever would contain it is reduced to its key.
    written(format, present, address, has_password.then_some("-"), upstash)
        .into_iter()
        .map(|(name, Written { value, secret, key })| {
            (name, if secret { Outline::Secret { key } } else { Outline::Plain(value) })
        })
        .collect()
}

struct Written {
    value: String,
    secret: bool,
    key: String,
}

fn written(
    format: &EnvFormat,
    present: &BTreeSet<String>,
    address: &Address,
    password: Option<&str>,
    upstash: bool,
) -> BTreeMap<String, Written> {
    let own = |name: &String, value: String, secret: bool| (name.clone(), Written { value, secret, key: name.clone() });
    let plain = |name: &String, value: String| own(name, value, false);
    match format {
        EnvFormat::Url { url } => [own(url, full_url(address, password, upstash), password.is_some())].into(),
        EnvFormat::UrlImplicitTls { url } => {
            let scheme = if address.tls && !is_upstash(&address.host) { "rediss" } else { "redis" };
            let path = if address.db == 0 { String::new() } else { format!("/{}", address.db) };
            let value = url::write_url(scheme, address, user(address, password, upstash), password, &path);
            [own(url, value, password.is_some())].into()
        }
        EnvFormat::Celery { url, aliases, ssl_cert_reqs } => {
            let query = match (address.tls, ssl_cert_reqs) {
                (false, _) | (true, SslCertReqs::Omit) => "",
                (true, SslCertReqs::Required) => "?ssl_cert_reqs=required",
                (true, SslCertReqs::None) => "?ssl_cert_reqs=none",
            };
            let value = format!("{}{query}", full_url(address, password, upstash));
            let aliases = aliases.iter().filter(|alias| alias.listed || present.contains(&alias.name));
            std::iter::once(url)
                .chain(aliases.map(|alias| &alias.name))
                .map(|name| {
                    (name.clone(), Written { value: value.clone(), secret: password.is_some(), key: url.clone() })
                })
                .collect()
        }
        EnvFormat::EndpointPortTls(parts) => {
            let mut variables = part_variables(parts, address, password);
            variables.extend([plain(&parts.tls, address.tls.to_string())]);
            variables
        }
        EnvFormat::HostPortPassword(parts) => {
            let mut variables = part_variables(parts, address, password);
            variables.extend(address.tls.then(|| plain(&parts.tls, "true".to_owned())));
            variables
        }
        EnvFormat::Template(variables) => variables
            .iter()
            .map(|(name, text)| {
                let (value, secret) =
                    Template::lenient(text).fill(address, password, &full_url(address, password, upstash));
                own(name, value, secret)
            })
            .collect(),
    }
}

fn part_variables(parts: &PartNames, address: &Address, password: Option<&str>) -> BTreeMap<String, Written> {
    let own = |name: &String, value: String, secret: bool| (name.clone(), Written { value, secret, key: name.clone() });
    [own(&parts.host, address.host.clone(), false), own(&parts.port, address.port.to_string(), false)]
        .into_iter()
        .chain(password.map(|password| own(&parts.password, password.to_owned(), true)))
        .collect()
}

fn full_url(address: &Address, password: Option<&str>, upstash: bool) -> String {
    let scheme = if address.tls { "rediss" } else { "redis" };
    url::write_url(scheme, address, user(address, password, upstash), password, &format!("/{}", address.db))
}

/// The user in a URL. Redis before 6 refuses `AUTH default …`, so it is left out, except where the vendor writes it.
fn user<'a>(address: &'a Address, password: Option<&str>, upstash: bool) -> Option<&'a str> {
    address.user.as_deref().or((upstash && password.is_some()).then_some("default"))
}

/// The address and password a service is told by `format`, read off the values of its variables. `None` where they are
/// absent or no address.
#[must_use]
pub fn read(format: &EnvFormat, values: &BTreeMap<String, String>) -> Option<(Address, Option<SecretString>)> {
    match format {
        EnvFormat::Url { url } => parse_url(values.get(url)?).ok(),
        EnvFormat::UrlImplicitTls { url } => {
            let (address, password) = parse_url(values.get(url)?).ok()?;
            let tls = address.tls || is_upstash(&address.host);
            Some((Address { tls, ..address }, password))
        }
        EnvFormat::Celery { url, aliases, .. } => std::iter::once(url)
            .chain(aliases.iter().map(|alias| &alias.name))
            .find_map(|name| parse_url(values.get(name)?).ok()),
        // The audio app's own rule (`REDIS_TLS !== 'false'`): TLS unless it is switched off.
        EnvFormat::EndpointPortTls(parts) => read_parts(parts, values, |tls| tls != Some("false")),
        EnvFormat::HostPortPassword(parts) => {
            read_parts(parts, values, |tls| tls.is_some_and(|tls| matches!(tls, "true" | "1" | "yes" | "on")))
        }
        EnvFormat::Template(templates) => template::read(templates, values),
    }
}

fn read_parts(
    parts: &PartNames,
    values: &BTreeMap<String, String>,
    tls: impl Fn(Option<&str>) -> bool,
) -> Option<(Address, Option<SecretString>)> {
    let host = host::host_name(values.get(&parts.host)?).ok()?;
    let port = values.get(&parts.port).map_or(Some(DEFAULT_PORT), |port| url::parse_port(port).ok())?;
    let tls = tls(values.get(&parts.tls).map(|tls| tls.to_ascii_lowercase()).as_deref());
    let password = values.get(&parts.password).filter(|password| !password.is_empty()).cloned();
    Some((Address { host, port, db: 0, user: None, tls }, password.map(SecretString::from)))
}

/// Where a variable points, judged by its name and value alone (and, for a host, its neighbours): for variables that are
/// not ours.
#[must_use]
pub fn pointed(name: &str, values: &BTreeMap<String, String>) -> Option<Address> {
    let value = values.get(name)?;
    if let Ok((address, _)) = parse_url(value) {
        return Some(address);
    }
    let parts = |tls_default: bool| {
        let parts = PartNames {
            host: name.to_owned(),
            port: "REDIS_PORT".into(),
            tls: "REDIS_TLS".into(),
            password: "REDIS_PASSWORD".into(),
        };
        read_parts(&parts, values, |tls| tls.map_or(tls_default, |tls| tls != "false")).map(|(address, _)| address)
    };
    match HOST_NAMES.iter().position(|known| *known == name)? {
        0 => parts(true),
        _ => parts(false),
    }
}

/// Leftovers that an app could prefer to what we write: variables with the names of another format which point elsewhere
/// than `to`, or where that cannot be read. `variables` are those of the service, with where each points.
#[must_use]
pub fn rivals<'a>(
    format: &EnvFormat,
    variables: impl IntoIterator<Item = (&'a str, Option<&'a Address>)>,
    to: &Address,
) -> Vec<Rival> {
    let ours: BTreeSet<String> = names(format).into_iter().collect();
    variables
        .into_iter()
        .filter(|(name, _)| (URL_NAMES.contains(name) || HOST_NAMES.contains(name)) && !ours.contains(*name))
        .filter(|(_, address)| address.is_none_or(|address| (&address.host, address.port) != (&to.host, to.port)))
        .map(|(name, address)| Rival { variable: name.to_owned(), address: address.cloned() })
        .collect()
}

/// The plain value behind a rendered variable, for the one place that sends it.
#[must_use]
pub fn reveal(rendered: &Rendered) -> &str {
    rendered.value.expose_secret()
}

#[cfg(test)]
#[path = "env/tests.rs"]
mod tests;
