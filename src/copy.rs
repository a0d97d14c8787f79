//! Moving keys between two Redis stores while people use both: the small door to a room of its own (DESIGN §7.2).
//!
//! A `Copier` is one task that copies, follows and, from the switch on, keeps both stores in step until the last old
//! instance is gone. What a key becomes is decided by [`crate::merge`], never here. It deletes nothing it has no base
//! for, and every write carries the fence, so a runner that was replaced cannot write.

mod apply;
mod base;
mod clear;
mod error;
mod feed;
mod fence;
mod intent;
mod key;
mod lag;
mod link;
mod marks;
mod probe;
mod progress;
mod pulse;
mod read;
mod rebase;
mod reconcile;
mod run;
mod seal;
mod survey;
mod sweep;
mod takeover;
mod traces;
mod typed;
mod value;
mod verify;
mod withdraw;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

pub use self::{
    clear::clear,
    error::{CopyError, Refusal, Silence},
    fence::{Stored, read_progress},
    probe::{Databases, StoreFacts, probe},
    progress::{Difference, Feed, Progress, Sides, State, Verification},
    traces::traces,
    withdraw::{Withdrawn, withdraw},
};
use crate::merge::Kind;

/// How to reach a store. `{:?}` never prints the password.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the port speaks TLS; the certificate is always verified.
    pub tls: bool,
    /// A CA to trust instead of the system's, PEM. Only read with `tls`.
    pub ca: Option<Vec<u8>>,
    /// ACL user; without one, `default`.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// Where our own few keys live; which databases are copied is said by [`CopySpec::databases`].
    pub database: u32,
    /// Whether each command costs money or quota: then it is swept rarely, followed by its feed, and read in bulk.
    pub counted: bool,
    /// For the TCP and TLS handshake.
    pub connect_timeout: Duration,
    /// For every answer.
    pub command_timeout: Duration,
}

impl Endpoint {
    /// Plain TCP, no credentials, database 0, 5 s for everything; counted if it is Upstash's by its name.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let timeout = Duration::from_secs(5);
        let host = host.into();
        Self {
            counted: host.ends_with(".upstash.io"),
            host,
            port,
            tls: false,
            ca: None,
            user: None,
            password: None,
            database: 0,
            connect_timeout: timeout,
            command_timeout: timeout,
        }
    }

    /// Host and port, as errors name a store.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What becomes of keys with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// They move.
    Copy,
    /// They stay behind and are not looked at.
    Drop,
}

/// One rule; of several, the first whose prefix matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRule {
    /// Bytes a key's name begins with; empty matches every key.
    pub prefix: Vec<u8>,
    /// Whether they move.
    pub strategy: Strategy,
    /// Who wins when one side deleted what the other changed.
    pub kind: Kind,
}

/// What becomes of keys that no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// They move, as sessions.
    #[default]
    Copy,
    /// They stay behind.
    Skip,
    /// Nothing moves until there is a rule for them.
    Block,
}

/// What to move, from where to where.
#[derive(Clone, Debug)]
pub struct CopySpec {
    /// Names our keys in the stores; two migrations never share one.
    pub migration: String,
    /// Names this runner; unique for every process that is started.
    pub runner: String,
    /// The store in use now.
    pub from: Endpoint,
    /// The store it goes to.
    pub to: Endpoint,
    /// First match wins.
    pub keys: Vec<KeyRule>,
    /// What no rule matches.
    pub unmatched: Unmatched,
    /// From database, to database; empty means from the one endpoint's to the other's.
    pub databases: Vec<(u32, u32)>,
    /// The lag that is wanted; decides how often a store without a feed is swept.
    pub max_lag: Duration,
    /// At most so many keys are read a second; `None`: as fast as the source allows without slowing down.
    pub keys_per_second: Option<u32>,
    /// Take over although another runner is alive.
    pub take_over: bool,
    /// Whether a runner of that name is gone for certain: then nobody waits until its silence tells.
    pub is_gone: fn(&str) -> bool,
    /// Which `retry` this is: a runner that meets the traces of an earlier one makes the base anew.
    pub attempt: u32,
}

impl CopySpec {
    /// Everything in the endpoints' own databases, with the fastest settings.
    #[must_use]
    pub fn new(migration: impl Into<String>, runner: impl Into<String>, from: Endpoint, to: Endpoint) -> Self {
        Self {
            migration: migration.into(),
            runner: runner.into(),
            from,
            to,
            keys: Vec::new(),
            unmatched: Unmatched::Copy,
            databases: Vec::new(),
            max_lag: Duration::from_secs(5),
            keys_per_second: None,
            take_over: false,
            is_gone: |_| false,
            attempt: 0,
        }
    }

    /// From database, to database.
    pub(crate) fn pairs(&self) -> Vec<(u32, u32)> {
        if self.databases.is_empty() { vec![(self.from.database, self.to.database)] } else { self.databases.clone() }
    }
}

/// Which way keys move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From the old store to the new one. Nobody else may write the keys in the new one.
    Follow,
    /// Both stores are kept in step. Once sealed there is no way back to `Follow`.
    BothWays,
    /// Nothing moves, and another runner may take over.
    Off,
}

/// What the copier is asked to do while it runs.
#[derive(Debug)]
pub(crate) enum Ask {
    Mode(Mode),
    Verify,
    CountQuiet,
    Stop(oneshot::Sender<()>),
}

/// A running copy. Dropping it ends the task at once, as a crash would; `stop` ends it cleanly.
#[derive(Debug)]
pub struct Copier {
    asks: mpsc::UnboundedSender<Ask>,
    progress: watch::Receiver<Progress>,
    attempt: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Copier {
    /// Starts to follow, or, where the migration is sealed already, to keep both stores in step.
    ///
    /// Must be called within a tokio runtime. Trouble with the stores shows in the progress.
    #[must_use]
    pub fn start(spec: CopySpec) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let (publish, progress) = watch::channel(Progress::starting(&spec));
        let attempt = Arc::new(AtomicU32::new(spec.attempt));
        let task = tokio::spawn(run::run(spec, attempt.clone(), asked, publish));
        Self { asks, progress, attempt, task }
    }

    /// Tells which `retry` it is by now. At work nothing changes by it, but whoever takes over must know of it: only a
    /// `retry` that was said after this runner had failed makes the base anew.
    pub fn set_attempt(&self, attempt: u32) {
        self.attempt.fetch_max(attempt, Ordering::Relaxed);
    }

    /// Asks for another direction. [`State::BothWays`] with `sealed` in the progress says that it is safe to switch.
    pub fn set_mode(&self, mode: Mode) {
        self.ask(Ask::Mode(mode));
    }

    /// What is happening; changes as it does.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Asks for a full comparison of both stores; its result appears in the progress as a new `verified`.
    pub fn verify(&self) {
        self.ask(Ask::Verify);
    }

    /// Starts counting quiet sweeps from zero, and sweeps as often as the stores allow while it counts.
    pub fn count_quiet_from_now(&self) {
        self.ask(Ask::CountQuiet);
    }

    /// Finishes what is under way, puts the stores' settings back, and lets another runner take over at once.
    pub async fn stop(mut self) {
        let (done, stopped) = oneshot::channel();
        if self.asks.send(Ask::Stop(done)).is_ok() {
            // An error means that the task has ended by itself: nothing is left to stop.
            let _ = stopped.await;
        }
        let _ = (&mut self.task).await;
    }

    fn ask(&self, ask: Ask) {
        // A task that has ended says so in its progress; there is nothing to tell it.
        let _ = self.asks.send(ask);
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.task.abort();
    }
}
