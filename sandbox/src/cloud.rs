//! The control planes as one thing: state, clock, faults, request log, and the data plane behind them.
//! [`Shared`] exists before the data plane (which asks it for paths and gives it log lines); [`Cloud`] ties both.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::clock::Clock;
use crate::dataplane::{DataPlane, Journal};
use crate::fault::Faults;
use crate::state::{State, logs::Logs};

/// How many states before a change are kept for stale reads.
const REMEMBERED: usize = 4;
/// How many calls the request log keeps.
const CALLS: usize = 100_000;

/// What an installation of the sandbox is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// AWS account number.
    pub account: String,
    /// The one region.
    pub region: String,
    /// Divides the vendors' durations.
    pub speed: f64,
    /// Email of the Upstash account.
    pub upstash_email: String,
    /// Its API key.
    pub upstash_key: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            speed: 1.0,
            upstash_email: "sandbox@example.com".into(),
            upstash_key: "sandbox-upstash-key".into(),
        }
    }
}

/// A call as the request log shows it; never a value of the request.
#[derive(Debug, Clone, Serialize)]
pub struct CallRecord {
    /// RFC 3339.
    pub time: String,
    /// Emulated service.
    pub service: String,
    /// Operation.
    pub operation: String,
    /// What it was about: an id, name or ARN.
    pub resource: String,
    /// `ok`, an error code, or what the fault did (`hang`, `lost`, `lost-reply`).
    pub outcome: String,
    /// Whether it may have changed something.
    pub mutating: bool,
}

/// What control plane and data plane both reach.
#[derive(Debug)]
pub struct Shared {
    /// As given.
    pub settings: Settings,
    /// Pace.
    pub clock: Clock,
    world: Mutex<World>,
    faults: Mutex<Faults>,
    calls: Mutex<VecDeque<CallRecord>>,
    logs: Mutex<Logs>,
}

#[derive(Debug)]
struct World {
    now: State,
    before: VecDeque<State>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// An empty account.
    pub fn new(settings: Settings) -> Arc<Self> {
        let state = State::new(&settings.account, &settings.region);
        Arc::new(Self {
            clock: Clock::new(settings.speed),
            settings,
            world: Mutex::new(World { now: state, before: VecDeque::new() }),
            faults: Mutex::default(),
            calls: Mutex::default(),
            logs: Mutex::default(),
        })
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.world).now)
    }

    /// Changes the state.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut lock(&self.world).now)
    }

    /// Looks at the state as it was before the latest mutating call.
    pub fn read_stale<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = {
            let world = lock(&self.world);
            world.before.back().unwrap_or(&world.now).clone()
        };
        look(&mut state)
    }

    /// Keeps the state as it is now for stale reads.
    pub fn remember(&self) {
        let mut world = lock(&self.world);
        let now = world.now.clone();
        world.before.push_back(now);
        if world.before.len() > REMEMBERED {
            world.before.pop_front();
        }
    }

    /// The faults in force.
    pub fn faults<T>(&self, with: impl FnOnce(&mut Faults) -> T) -> T {
        with(&mut lock(&self.faults))
    }

    /// The log groups.
    pub fn logs<T>(&self, with: impl FnOnce(&mut Logs) -> T) -> T {
        with(&mut lock(&self.logs))
    }

    /// Adds to the request log.
    pub fn record(&self, call: CallRecord) {
        let mut calls = lock(&self.calls);
        calls.push_back(call);
        if calls.len() > CALLS {
            calls.pop_front();
        }
    }

    /// The request log, oldest first.
    pub fn calls(&self) -> Vec<CallRecord> {
        lock(&self.calls).iter().cloned().collect()
    }

    fn log_group(&self, service: &str, kind: &str) -> Option<String> {
        self.read(|state| {
            state.apprunner.services.get(service).map(|s| format!("/aws/apprunner/{}/{}/{kind}", s.name, s.id))
        })
    }
}

impl Journal for Shared {
    fn event(&self, service: &str, operation: &str, line: &str) {
        let Some(group) = self.log_group(service, "service") else { return };
        let now = self.clock.now().as_millisecond();
        let line = format!("[AppRunner] {line}");
        self.logs(|logs| {
            if !operation.is_empty() {
                logs.append(&group, &format!("deployment/{}", operation.replace('-', "")), now, line.clone());
            }
            logs.append(&group, "events", now, line);
        });
    }

    fn application(&self, service: &str, instance: &str, line: &str) {
        let Some(group) = self.log_group(service, "application") else { return };
        let now = self.clock.now().as_millisecond();
        self.logs(|logs| logs.append(&group, &format!("instance/{instance}"), now, line.to_owned()));
    }
}

/// Everything a call can need. Cheap to clone.
#[derive(Clone)]
pub struct Cloud {
    /// State, clock, faults, logs.
    pub shared: Arc<Shared>,
    /// What really runs.
    pub plane: Arc<dyn DataPlane>,
}

impl Cloud {
    /// Ties the halves.
    pub fn new(shared: Arc<Shared>, plane: Arc<dyn DataPlane>) -> Self {
        Self { shared, plane }
    }

    /// Starts what goes on after the call has been answered.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(work);
    }
}
