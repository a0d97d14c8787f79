//! From an object to its world: the account its credentials belong to, the clients, and what takes long plugged in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::clock::Clock;
use super::drive::Time as _;
use super::error::Error;
use super::object::Session;
use super::secrets::Values;
use crate::api::spec::External;
use crate::aws::Aws;
use crate::checks::run::Client;
use crate::checks::{Check, SecretKeyRef};
use crate::desired::Desired;
use crate::error::CloudError;
use crate::identity::Owner;
use crate::manifest::{Entry, Manifest, name};
use crate::runner::{LocalChecker, LocalCopiers, Plug, RedisServers};
use crate::upstash::{ApiKey, DEFAULT_URL, Upstash};
use crate::world::{CloudWorld, Inputs, Long, StoreInputs};

/// An object and its world.
pub struct Connection {
    /// Whose.
    pub owner: Owner,
    /// What is wanted.
    pub desired: Desired,
    /// The generation of the spec, where it has one.
    pub generation: Option<i64>,
    /// Where it lives.
    pub world: CloudWorld,
    /// The copiers of this process, to be ended before it.
    pub copiers: Arc<LocalCopiers>,
    /// The checks of this process.
    pub checker: Arc<LocalChecker>,
}

/// Connects one object.
///
/// # Errors
/// When a Secret is missing, or nobody says whose credentials these are.
pub async fn connect(session: &Session, manifest: &Manifest, entry: &Entry) -> Result<Connection, Error> {
    let values = Values::new(session, manifest, entry);
    let object = session.path(entry)?;
    let cloud = |error: CloudError| Error::Cloud { object: object.clone(), error: Box::new(error) };
    let spec = &entry.object.spec;
    let upstash = upstash(&values, entry)?
        .map(|key| Upstash::new(session.environment.upstash().unwrap_or(DEFAULT_URL), key))
        .transpose()
        .map_err(cloud)?;
    let inputs = inputs(&values, entry)?;
    let aws = match &spec.aws.role_arn {
        Some(role) => Box::pin(Aws::connect_as(role, &spec.aws.region)).await,
        None => Box::pin(Aws::connect(Some(&spec.aws.region))).await,
    };
    let account = match &spec.aws.account_id {
        Some(account) => account.to_string(),
        None => aws.sts.account().await.map_err(cloud)?,
    };
    let owner = Owner {
        installation: session.installation.clone(),
        account,
        region: spec.aws.region.to_string(),
        namespace: session.namespace(entry)?,
        name: name(&entry.object).to_owned(),
    };
    let copiers = Arc::new(LocalCopiers::new(now));
    let http = Client::new(None).map_err(|error| Error::refused(error.to_string(), "look at SSL_CERT_FILE"))?;
    let plug = Plug { now, http, logs: aws.logs.clone(), secrets: headers(&values, entry)? };
    let checker = Arc::new(LocalChecker::new(plug));
    let long = Long {
        copiers: Arc::clone(&copiers) as _,
        checker: Arc::clone(&checker) as _,
        servers: Arc::new(RedisServers),
    };
    let world = CloudWorld::new(aws, upstash, inputs, long);
    let generation = entry.object.metadata.generation;
    Ok(Connection { owner, desired: entry.desired.clone(), generation, world, copiers, checker })
}

fn now() -> Timestamp {
    Clock.now()
}

/// Values that headers of checks name.
fn headers(values: &Values<'_>, entry: &Entry) -> Result<BTreeMap<SecretKeyRef, SecretString>, Error> {
    let Desired::Present(target) = &entry.desired else { return Ok(BTreeMap::new()) };
    let named: BTreeSet<_> = target.checks.iter().flat_map(Check::secrets).collect();
    let value = |named: &SecretKeyRef| Ok((named.clone(), values.get("spec.checks", &named.name, &named.key)?));
    named.into_iter().map(value).collect()
}

/// The key of Upstash's management API: that of the store, else that of the store it comes from.
fn upstash(values: &Values<'_>, entry: &Entry) -> Result<Option<ApiKey>, Error> {
    let spec = &entry.object.spec;
    let of_store = spec.store.upstash.as_ref().and_then(|upstash| upstash.api_key_secret_ref.as_ref());
    let from = spec.migration.as_ref().and_then(|migration| migration.from.as_ref());
    let of_from = from.and_then(|from| from.upstash.as_ref()).and_then(|upstash| upstash.api_key_secret_ref.as_ref());
    let (field, secret) = match (of_store, of_from) {
        (Some(secret), _) => ("spec.store.upstash.apiKeySecretRef", secret),
        (None, Some(secret)) => ("spec.migration.from.upstash.apiKeySecretRef", secret),
        (None, None) => return Ok(None),
    };
    let email = values.get(field, &secret.name, "email")?.expose_secret().to_owned();
    Ok(Some(ApiKey { email, key: values.get(field, &secret.name, "apiKey")? }))
}

fn inputs(values: &Values<'_>, entry: &Entry) -> Result<Inputs, Error> {
    let spec = &entry.object.spec;
    let cache = spec.store.elasti_cache.as_ref().and_then(|cache| cache.credentials_secret_ref.as_ref());
    let mut inputs = Inputs {
        store: store(values, "spec.store", spec.store.external.as_ref(), cache.map(|secret| &*secret.name))?,
        from: StoreInputs::default(),
    };
    if let Some(from) = spec.migration.as_ref().and_then(|migration| migration.from.as_ref()) {
        let cache = from.elasti_cache.as_ref().and_then(|cache| cache.credentials_secret_ref.as_ref());
        inputs.from = store(values, "spec.migration.from", from.external.as_ref(), cache.map(|secret| &*secret.name))?;
    }
    Ok(inputs)
}

fn store(
    values: &Values<'_>,
    field: &str,
    external: Option<&External>,
    credentials: Option<&str>,
) -> Result<StoreInputs, Error> {
    let mut inputs = StoreInputs::default();
    if let Some(external) = external {
        let key = &external.url_secret_key_ref;
        let field = format!("{field}.external.urlSecretKeyRef");
        inputs.url = Some(values.get(&field, &key.name, &key.key)?);
    }
    if let Some(secret) = credentials {
        let field = format!("{field}.elastiCache.credentialsSecretRef");
        let user: SecretString = values.get(&field, secret, "username")?;
        inputs.username = Some(user.expose_secret().to_owned());
        inputs.password = Some(values.get(&field, secret, "password")?);
    }
    Ok(inputs)
}
