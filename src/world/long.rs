//! The doors to what takes long or speaks Redis: copying keys, running checks, asking a server how it is.
//! Steps start such a job and never wait inside; its progress is a reading. Passwords pass through here and are not shown.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::checks::{Check, Run, Stage};
use crate::desired::{App, CopyRules};
use crate::error::CloudError;
use crate::identity::{Address, Arn, MigrationId, Owner, StoreId};
use crate::observed::{CommandQuota, Copy, Reading, Server};
use crate::step::{CopyMode, Side};

/// How to log in to a store.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Which store it is.
    pub store: StoreId,
    /// Where, and as whom.
    pub address: Address,
    /// The password, where there is one; `{:?}` does not print it.
    pub password: Option<SecretString>,
}

/// What a copier moves, from where to where.
#[derive(Clone, Debug)]
pub struct CopyJob {
    /// The migration; names the copier's own keys.
    pub migration: MigrationId,
    /// The store in use before.
    pub from: Endpoint,
    /// The store it goes to.
    pub to: Endpoint,
    /// Which keys, as they were frozen when the migration began.
    pub rules: CopyRules,
    /// How often a person has said `retry` in this migration: a copier that meets an older number in what it left in
    /// the stores makes its base anew.
    pub attempt: u32,
    /// The lag that is wanted.
    pub max_lag: std::time::Duration,
}

/// Runs copiers, at most one a migration in this process.
pub trait Copiers: Send + Sync {
    /// Has the copier run in `mode`, starting it where it is not running here. Must return soon.
    fn run(&self, job: CopyJob, mode: CopyMode) -> BoxFuture<'_, Result<(), CloudError>>;

    /// Counts quiet sweeps of the drained side from now on, and compares both stores in full.
    fn count_quiet<'a>(&'a self, migration: &'a MigrationId, drained: Side) -> BoxFuture<'a, Result<(), CloudError>>;

    /// How the copier stands, here or, by what it left in the stores, elsewhere.
    fn progress<'a>(&'a self, job: &'a CopyJob) -> BoxFuture<'a, Reading<Copy>>;

    /// Those of `migrations` whose copiers left keys in a store.
    fn traces<'a>(
        &'a self,
        at: &'a Endpoint,
        migrations: &'a [MigrationId],
    ) -> BoxFuture<'a, Result<BTreeSet<MigrationId>, CloudError>>;
}

/// Everything a run of checks may need.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Whose checks these are.
    pub owner: Owner,
    /// When in the migration.
    pub stage: Stage,
    /// What is looked at.
    pub checks: Vec<Check>,
    /// What the app promises.
    pub app: App,
    /// The services, in switching order.
    pub services: Vec<SceneService>,
    /// The store the checks are about: at `Baseline` and after a rollback the old one, else the new one.
    pub store: Option<Endpoint>,
    /// What its vendor allows on that store.
    pub limits: Limits,
    /// Commands a copy to that store is still going to send, or has just sent.
    pub our_commands: u64,
    /// Logs count from here on: the first switch, or the beginning of the way back.
    pub since: Option<Timestamp>,
}

/// What a vendor allows on a store, as far as it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections: Option<u32>,
    /// Commands.
    pub quota: Option<CommandQuota>,
}

/// A service as checks see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SceneService {
    /// Its name.
    pub name: String,
    /// Its ARN; its log groups follow from it.
    pub arn: Arn,
    /// Its public host, without a scheme.
    pub host: Option<String>,
    /// Most instances its scaling allows.
    pub max_instances: Option<u32>,
}

/// Runs checks, at most one run a stage at a time.
pub trait Checker: Send + Sync {
    /// Starts a run. Must return soon.
    fn start(&self, scene: Scene) -> BoxFuture<'_, Result<(), CloudError>>;

    /// The newest run of each stage of this process.
    fn runs(&self) -> BTreeMap<Stage, Run>;
}

/// Asks Redis servers how they are.
pub trait Servers: Send + Sync {
    /// What the server says of itself: `Hidden` where it cannot be reached from here, `Unknown` where it refuses us.
    fn ask<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Reading<Server>>;
}

/// Nothing long can be run: every step that asks for it is refused, every reading says why.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unplugged;

const UNPLUGGED: &str = "this program runs neither copiers nor checks";

fn unplugged(operation: &str) -> CloudError {
    CloudError::new(crate::error::Class::Rejected, "sessionbackend", operation, "", UNPLUGGED)
}

impl Copiers for Unplugged {
    fn run(&self, _: CopyJob, _: CopyMode) -> BoxFuture<'_, Result<(), CloudError>> {
        Box::pin(async { Err(unplugged("Copy")) })
    }

    fn count_quiet<'a>(&'a self, _: &'a MigrationId, _: Side) -> BoxFuture<'a, Result<(), CloudError>> {
        Box::pin(async { Err(unplugged("CountQuiet")) })
    }

    fn progress<'a>(&'a self, _: &'a CopyJob) -> BoxFuture<'a, Reading<Copy>> {
        Box::pin(async { Reading::Absent })
    }

    fn traces<'a>(
        &'a self,
        _: &'a Endpoint,
        _: &'a [MigrationId],
    ) -> BoxFuture<'a, Result<BTreeSet<MigrationId>, CloudError>> {
        Box::pin(async { Ok(BTreeSet::new()) })
    }
}

impl Checker for Unplugged {
    fn start(&self, _: Scene) -> BoxFuture<'_, Result<(), CloudError>> {
        Box::pin(async { Err(unplugged("RunChecks")) })
    }

    fn runs(&self) -> BTreeMap<Stage, Run> {
        BTreeMap::new()
    }
}

impl Servers for Unplugged {
    fn ask<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, Reading<Server>> {
        Box::pin(async { Reading::Hidden(UNPLUGGED.to_owned()) })
    }
}
