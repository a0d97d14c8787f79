//! From an object to its world: the account its credentials belong to, the clients, and what takes long plugged in.
//! The same for both runtimes; what many objects can share (credentials, connections) is made once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;

use crate::api::SessionBackendSpec;
use crate::api::admission::Violation;
use crate::api::spec::{self, External};
use crate::aws::Aws;
use crate::checks::run::Client;
use crate::checks::{Check, SecretKeyRef};
use crate::clock::{Clock, Time as _};
use crate::desired::Desired;
use crate::error::{Class, CloudError};
use crate::identity::{Owner, digest};
use crate::manifest;
use crate::observed::Lack;
use crate::runner::{LocalChecker, LocalCopiers, Plug, RedisServers};
use crate::upstash::{self, ApiKey, DEFAULT_URL, Upstash};
use crate::world::{Account, CloudWorld, Databases, Inputs, Long, StoreInputs};

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

/// Where an object lives: enough to read its journal, and to go on with what that knows.
pub struct Place {
    /// Whose.
    pub owner: Owner,
    /// Where it lives.
    pub world: CloudWorld,
    /// The copiers of this process, to be ended before it.
    pub copiers: Arc<LocalCopiers>,
}

/// An object by its name, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The installation.
    pub installation: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// The generation of the spec, where it has one.
    pub generation: Option<i64>,
    /// The spec.
    pub spec: &'a SessionBackendSpec,
    /// As understood.
    pub desired: &'a Desired,
}

/// Where values of Secrets come from.
pub trait Values {
    /// A key of the Secret that `field` refers to.
    ///
    /// # Errors
    /// When it is nowhere, or not fit to be used.
    fn get(&self, field: &str, secret: &str, key: &str) -> Result<SecretString, Violation>;
}

/// Why an object has no world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A Secret is missing or of no use.
    #[error("{0}")]
    Violation(Violation),
    /// A client cannot be set up, or nobody says whose credentials these are.
    #[error("{0}")]
    Cloud(CloudError),
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// The clients of this process, made when they are needed first and shared by all objects.
pub struct Clouds {
    upstash_url: String,
    upstash: reqwest::Client,
    http: Client,
    aws: Mutex<BTreeMap<Role, Arc<Identity>>>,
    /// By what stands for a key.
    databases: Mutex<BTreeMap<String, Databases>>,
}

/// A region, and the role in it where there is one.
type Role = (String, Option<String>);

#[derive(Default)]
struct Identity {
    aws: OnceCell<Aws>,
    account: OnceCell<String>,
    common: Account,
}

impl Clouds {
    /// Nothing is connected yet. `upstash_url` is where Upstash's management API is, if it is elsewhere.
    ///
    /// # Errors
    /// When the machine's certificates cannot be read.
    pub fn new(upstash_url: Option<&str>) -> Result<Self, Error> {
        let http = Client::new(None).map_err(|error| {
            Error::Cloud(CloudError::new(Class::Rejected, "sessionbackend", "connect", "", &error.to_string()))
        })?;
        Ok(Self {
            upstash_url: upstash_url.unwrap_or(DEFAULT_URL).to_owned(),
            upstash: upstash::http().map_err(Error::Cloud)?,
            http,
            aws: Mutex::default(),
            databases: Mutex::default(),
        })
    }

    /// Connects one object; copiers that `former` runs go on. What is being deleted needs no Secret: what cannot be reached
    /// without one is then out of sight.
    ///
    /// # Errors
    /// When a Secret is missing, or nobody says whose credentials these are.
    pub async fn connect(
        &self,
        whose: Whose<'_>,
        values: &(impl Values + Sync),
        former: Option<&Connection>,
    ) -> Result<Connection, Error> {
        self.connected(whose, values, former, former.map(|former| &former.copiers), None).await
    }

    /// Connects one object for the first time; what runs at its place goes on.
    ///
    /// # Errors
    /// When a Secret is missing, or nobody says whose credentials these are.
    pub async fn connect_placed(
        &self,
        place: Option<&Place>,
        whose: Whose<'_>,
        values: &(impl Values + Sync),
    ) -> Result<Connection, Error> {
        self.connected(whose, values, None, place.map(|place| &place.copiers), None).await
    }

    /// Connects one object without what its spec refers to: enough to read its journal, and to go on with what that knows.
    /// What runs at its place goes on.
    ///
    /// # Errors
    /// When nobody says whose credentials these are.
    pub async fn connect_without(
        &self,
        lack: Lack,
        place: Option<&Place>,
        whose: Whose<'_>,
        values: &(impl Values + Sync),
    ) -> Result<Connection, Error> {
        self.connected(whose, values, None, place.map(|place| &place.copiers), Some(lack)).await
    }

    /// Where one object lives whose spec is nobody's word but for its account.
    ///
    /// # Errors
    /// When nobody says whose credentials these are.
    pub async fn place(
        &self,
        installation: &str,
        namespace: &str,
        name: &str,
        spec: &spec::Aws,
    ) -> Result<Place, Error> {
        let (aws, account, common) = self.aws(spec).await.map_err(Error::Cloud)?;
        let owner = owner(installation, account, namespace, name, spec);
        let copiers = Arc::new(LocalCopiers::new(now));
        let plug = Plug { now, http: self.http.clone(), logs: aws.logs.clone(), secrets: BTreeMap::new() };
        let long = long(&copiers, &Arc::new(LocalChecker::new(plug)));
        let world = CloudWorld::new(aws, None, Inputs::default(), long).beside(common, Databases::default());
        Ok(Place { owner, world, copiers })
    }

    async fn connected(
        &self,
        whose: Whose<'_>,
        values: &(impl Values + Sync),
        former: Option<&Connection>,
        copiers: Option<&Arc<LocalCopiers>>,
        lack: Option<Lack>,
    ) -> Result<Connection, Error> {
        let Whose { installation, namespace, name, generation, spec, desired } = whose;
        let is_needed = lack.is_none() && matches!(desired, Desired::Present(_));
        let key = where_needed(is_needed, upstash_key(values, spec))?;
        let databases = key.as_ref().map(|(_, key)| self.databases(key)).unwrap_or_default();
        let upstash = key
            .map(|(secret, key)| {
                let client = Upstash::over(self.upstash.clone(), &self.upstash_url, key)?;
                Ok(client.of_secret(format!("{namespace}/{secret}")))
            })
            .transpose()
            .map_err(Error::Cloud)?;
        let inputs = where_needed(is_needed, inputs(values, spec))?;
        let (aws, account, common) = self.aws(&spec.aws).await.map_err(Error::Cloud)?;
        let owner = owner(installation, account, namespace, name, &spec.aws);
        let copiers = copiers.map_or_else(|| Arc::new(LocalCopiers::new(now)), Arc::clone);
        let secrets = where_needed(is_needed, headers(values, desired))?;
        let plug = Plug { now, http: self.http.clone(), logs: aws.logs.clone(), secrets };
        let checker = Arc::new(LocalChecker::new(plug));
        let mut world = CloudWorld::new(aws, upstash, inputs, long(&copiers, &checker)).beside(common, databases);
        world.lacks(lack);
        if let Some(former) = former.filter(|former| former.owner == owner) {
            world = world.succeeding(&former.world);
        }
        Ok(Connection { owner, desired: desired.clone(), generation, world, copiers, checker })
    }

    /// What is known of an account at Upstash.
    fn databases(&self, ApiKey { email, key }: &ApiKey) -> Databases {
        let whose = digest(&[email.as_bytes(), key.expose_secret().as_bytes()], 16);
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).entry(whose).or_default().clone()
    }

    /// The clients of a region and role, whose account that is, and what is known of it: nobody is asked where the spec says
    /// whose it is.
    async fn aws(&self, spec: &spec::Aws) -> Result<(Aws, String, Account), CloudError> {
        let role = spec.role_arn.as_ref().map(ToString::to_string);
        let key = (spec.region.to_string(), role.clone());
        let known = Arc::clone(self.aws.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let clients = || async {
            match &role {
                Some(role) => Box::pin(Aws::connect_as(role, &spec.region)).await,
                None => Box::pin(Aws::connect(Some(&spec.region))).await,
            }
        };
        let aws = known.aws.get_or_init(clients).await;
        let account = match &spec.account_id {
            Some(account) => account.to_string(),
            None => known.account.get_or_try_init(|| aws.sts.account()).await?.clone(),
        };
        Ok((aws.clone(), account, known.common.clone()))
    }
}

fn owner(installation: &str, account: String, namespace: &str, name: &str, spec: &spec::Aws) -> Owner {
    Owner {
        installation: installation.to_owned(),
        account,
        region: spec.region.to_string(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// What takes long, in this process.
fn long(copiers: &Arc<LocalCopiers>, checker: &Arc<LocalChecker>) -> Long {
    Long { copiers: Arc::clone(copiers) as _, checker: Arc::clone(checker) as _, servers: Arc::new(RedisServers) }
}

fn now() -> Timestamp {
    Clock.now()
}

fn where_needed<T: Default>(is_needed: bool, read: Result<T, Violation>) -> Result<T, Violation> {
    if is_needed { read } else { Ok(read.unwrap_or_default()) }
}

/// Values that headers of checks name.
fn headers(values: &impl Values, desired: &Desired) -> Result<BTreeMap<SecretKeyRef, SecretString>, Violation> {
    let Desired::Present(target) = desired else { return Ok(BTreeMap::new()) };
    let named: BTreeSet<_> = target.checks.iter().flat_map(Check::secrets).collect();
    let value = |named: &SecretKeyRef| Ok((named.clone(), values.get("spec.checks", &named.name, &named.key)?));
    named.into_iter().map(value).collect()
}

/// The key of Upstash's management API and its Secret: those of the store, else those of the store it comes from.
fn upstash_key(values: &impl Values, spec: &SessionBackendSpec) -> Result<Option<(String, ApiKey)>, Violation> {
    let of_store = spec.store.upstash.as_ref().and_then(|upstash| upstash.api_key_secret_ref.as_ref());
    let from = spec.migration.as_ref().and_then(|migration| migration.from.as_ref());
    let of_from = from.and_then(|from| from.upstash.as_ref()).and_then(|upstash| upstash.api_key_secret_ref.as_ref());
    let (field, secret) = match (of_store, of_from) {
        (Some(secret), _) => ("spec.store.upstash.apiKeySecretRef", secret),
        (None, Some(secret)) => ("spec.migration.from.upstash.apiKeySecretRef", secret),
        (None, None) => return Ok(None),
    };
    let email = values.get(field, &secret.name, "email")?.expose_secret().to_owned();
    let key = values.get(field, &secret.name, "apiKey")?;
    Ok(Some((secret.name.to_string(), ApiKey { email, key })))
}

fn inputs(values: &impl Values, spec: &SessionBackendSpec) -> Result<Inputs, Violation> {
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
    values: &impl Values,
    field: &str,
    external: Option<&External>,
    credentials: Option<&str>,
) -> Result<StoreInputs, Violation> {
    let mut inputs = StoreInputs::default();
    if let Some(external) = external {
        let key = &external.url_secret_key_ref;
        let field = format!("{field}.external.urlSecretKeyRef");
        let url = values.get(&field, &key.name, &key.key)?;
        // Judged before any cloud is called: its host may be one that nobody should connect to.
        manifest::external_url(&field, external, &url)?;
        inputs.url = Some(url);
    }
    if let Some(secret) = credentials {
        let field = format!("{field}.elastiCache.credentialsSecretRef");
        let user: SecretString = values.get(&field, secret, "username")?;
        inputs.username = Some(user.expose_secret().to_owned());
        inputs.password = Some(values.get(&field, secret, "password")?);
    }
    Ok(inputs)
}
