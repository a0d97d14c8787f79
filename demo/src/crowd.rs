//! Many visitors at once: log in thousands of sessions, let people click, and read every session once more at the end.
//! The one place of the visit that reads a clock. It asks the judge about everything and decides nothing itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::browser::Browser;
use crate::fleet::Fleet;
use crate::judge::{Answer, Asked, At, Broken, Exchange, Memory, Verdict, conclude};
use crate::tally::Findings;
use crate::visitor::{Habits, Intent, Visitor};

/// So many requests of a bulk are in flight at once.
const BULK: usize = 32;
/// How often some instance is asked for its store.
const LOOKOUT: Duration = Duration::from_millis(100);
/// An instance that answered within this time is taken to be serving.
const SERVING: Duration = Duration::from_secs(2);

/// Who comes, and how they behave.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// How many people click.
    pub visitors: usize,
    /// How many sessions are logged in before anything moves, spread over the people.
    pub sessions: usize,
    /// How long after an acknowledgement an answer may not know of it while two stores are in use.
    pub max_lag: Duration,
    /// The seed of everything people choose.
    pub seed: u64,
    /// How people behave.
    pub habits: Habits,
}

/// Why a visit could not begin.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// The service does not let people in.
    #[error("a login before the move was not acknowledged ({0}): look at the service's application log")]
    LogIn(Broken),
    /// A task of the visit ended in a panic.
    #[error("a visitor stopped in the middle of the visit: {0}")]
    Visitor(#[from] tokio::task::JoinError),
}

/// How far the story is, as far as people must know to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Before,
    Moving,
    Leaving,
}

/// Running counts for a line of progress.
#[derive(Debug, Default)]
pub struct Pulse {
    requests: AtomicU64,
    failed: AtomicU64,
    live: AtomicU64,
}

/// A crowd whose people are clicking.
#[derive(Debug)]
pub struct Visit {
    browser: Browser,
    begun: Instant,
    phase: watch::Sender<Phase>,
    pulse: Arc<Pulse>,
    before: u64,
    people: JoinSet<(Visitor, Findings)>,
    fleet: Arc<Mutex<Fleet>>,
    lookout: JoinHandle<()>,
}

impl Crowd {
    /// Logs in all sessions, then lets people click until [`Visit::finish`].
    ///
    /// # Errors
    /// When a login of the bulk is not acknowledged.
    pub async fn enter(&self, browser: &Browser) -> Result<Visit, VisitError> {
        let begun = Instant::now();
        let mut visitors: Vec<_> = (0..self.visitors as u64).map(|number| Visitor::new(number, self.seed)).collect();
        let opened: Vec<_> = stream::iter(0..self.sessions)
            .map(|index| {
                let user = visitors[index % self.visitors].user.clone();
                async move { log_in(browser, &user, begun).await.map(|memory| (index, memory)) }
            })
            .buffer_unordered(BULK)
            .try_collect()
            .await
            .map_err(VisitError::LogIn)?;
        for (index, memory) in opened {
            visitors[index % self.visitors].logged_in(memory);
        }
        let (phase, pulse) = (watch::Sender::new(Phase::Before), Arc::new(Pulse::default()));
        pulse.live.store(self.sessions as u64, Ordering::Relaxed);
        let mut people = JoinSet::new();
        for visitor in visitors {
            let person = Person {
                visitor,
                browser: browser.clone(),
                begun,
                habits: self.habits.clone(),
                max_lag: self.max_lag,
                phase: phase.subscribe(),
                pulse: Arc::clone(&pulse),
                findings: Findings::default(),
            };
            people.spawn(person.live());
        }
        let fleet = Arc::new(Mutex::default());
        let lookout = tokio::spawn(look_out(browser.clone(), begun, phase.subscribe(), Arc::clone(&fleet)));
        let before = self.sessions as u64;
        Ok(Visit { browser: browser.clone(), begun, phase, pulse, before, people, fleet, lookout })
    }
}

impl Visit {
    /// From now on requests count as sent during the move. Returns how many sessions are logged in.
    pub fn begin_move(&mut self) -> u64 {
        self.before = self.pulse.live.load(Ordering::Relaxed);
        self.phase.send_replace(Phase::Moving);
        self.before
    }

    /// Requests so far, and how many of them failed.
    pub fn pulse(&self) -> (u64, u64) {
        (self.pulse.requests.load(Ordering::Relaxed), self.pulse.failed.load(Ordering::Relaxed))
    }

    /// How many instances on each store answered in the last two seconds.
    pub fn serving(&self) -> BTreeMap<String, u64> {
        seen(&self.fleet).serving(self.begun.elapsed().saturating_sub(SERVING))
    }

    /// Lets people finish what they are doing and reads every session once more. Both stores must be in step by now.
    ///
    /// # Errors
    /// When a visitor's task ended in a panic.
    pub async fn finish(mut self) -> Result<Findings, VisitError> {
        self.phase.send_replace(Phase::Leaving);
        self.lookout.await?;
        let mut findings = Findings { fleet: seen(&self.fleet).clone(), ..Findings::default() };
        let mut memories = Vec::new();
        while let Some(person) = self.people.join_next().await {
            let (visitor, seen) = person?;
            memories.extend(visitor.sessions);
            findings.add(seen);
        }
        findings.sessions.before = self.before;
        let (browser, begun) = (&self.browser, self.begun);
        let mut endings = stream::iter(memories)
            .map(|memory| async move {
                let exchange = last_look(browser, &memory.token, begun).await;
                let ending = conclude(&memory, &exchange);
                (memory, ending)
            })
            .buffer_unordered(BULK);
        while let Some((memory, ending)) = endings.next().await {
            findings.conclude(&memory, &ending);
        }
        drop(endings);
        Ok(findings)
    }
}

/// Asks now and then which instance keeps its sessions where: the only look behind the scenes, and through HTTP too.
async fn look_out(browser: Browser, begun: Instant, mut phase: watch::Receiver<Phase>, fleet: Arc<Mutex<Fleet>>) {
    loop {
        if let Some(there) = browser.whereabouts().await {
            seen(&fleet).see(&there.instance, &there.store, begun.elapsed());
        }
        let left = phase.wait_for(|phase| *phase == Phase::Leaving);
        if tokio::time::timeout(LOOKOUT, left).await.is_ok() {
            return;
        }
    }
}

fn seen(fleet: &Mutex<Fleet>) -> MutexGuard<'_, Fleet> {
    fleet.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Person {
    visitor: Visitor,
    browser: Browser,
    begun: Instant,
    habits: Habits,
    max_lag: Duration,
    phase: watch::Receiver<Phase>,
    pulse: Arc<Pulse>,
    findings: Findings,
}

impl Person {
    async fn live(mut self) -> (Visitor, Findings) {
        loop {
            let pause = self.visitor.pause(&self.habits);
            let left = self.phase.wait_for(|phase| *phase == Phase::Leaving);
            // A closed channel means that nobody waits for the findings any more.
            if tokio::time::timeout(pause, left).await.is_ok() {
                return (self.visitor, self.findings);
            }
            self.act().await;
        }
    }

    async fn act(&mut self) {
        let moving = *self.phase.borrow() >= Phase::Moving;
        let intent = self.visitor.next(&self.habits);
        let (index, asked, work) = match intent {
            Intent::LogIn => return self.log_in(moving).await,
            Intent::Click(index, work) => (index, Asked::Click(self.visitor.sessions[index].next_step()), work),
            Intent::Renew(index) => (index, Asked::Renew, Duration::ZERO),
            Intent::Look(index) | Intent::LookBack(index) => (index, Asked::Look, Duration::ZERO),
            Intent::LogOut(index) => (index, Asked::LogOut, Duration::ZERO),
        };
        let memory = &mut self.visitor.sessions[index];
        let exchange = ask(&self.browser, &memory.token, asked, work, self.begun).await;
        let was_live = memory.is_live();
        let verdict = memory.hear(&exchange, self.max_lag);
        if was_live && !memory.is_live() {
            self.pulse.live.fetch_sub(1, Ordering::Relaxed);
        }
        let id = memory.token.get(..8).unwrap_or_default().to_owned();
        self.count(&verdict, moving, || {
            format!("{:.3}s {asked:?} on session {id}, {} ms", exchange.sent.as_secs_f64(), took(&exchange).as_millis())
        });
    }

    async fn log_in(&mut self, moving: bool) {
        let sent = self.begun.elapsed();
        let verdict = match log_in(&self.browser, &self.visitor.user, self.begun).await {
            Ok(memory) => {
                self.visitor.logged_in(memory);
                self.pulse.live.fetch_add(1, Ordering::Relaxed);
                Verdict::Fine
            }
            Err(how) => Verdict::Failed(how),
        };
        let user = self.visitor.user.clone();
        self.count(&verdict, moving, || format!("{:.3}s login of {user}", sent.as_secs_f64()));
    }

    fn count(&mut self, verdict: &Verdict, moving: bool, what: impl FnOnce() -> String) {
        let failed = self.findings.requests.failed;
        self.findings.count(verdict, self.max_lag, moving, what);
        self.pulse.requests.fetch_add(1, Ordering::Relaxed);
        self.pulse.failed.fetch_add(self.findings.requests.failed - failed, Ordering::Relaxed);
    }
}

async fn log_in(browser: &Browser, user: &str, begun: Instant) -> Result<Memory, Broken> {
    let sent = begun.elapsed();
    let opened = browser.log_in(user).await?;
    let memory = Memory::new(opened.session, sent, begun.elapsed(), Duration::from_secs(opened.expires_in));
    Ok(Memory { opened_by: opened.by, ..memory })
}

async fn ask(browser: &Browser, token: &str, asked: Asked, work: Duration, begun: Instant) -> Exchange {
    let sent = begun.elapsed();
    let (answer, by) = browser.ask(token, asked, work).await;
    Exchange { sent, answered: begun.elapsed(), asked, answer, by }
}

/// The last look may be broken by chance once; a session that cannot be read twice is not there for its owner.
async fn last_look(browser: &Browser, token: &str, begun: Instant) -> Exchange {
    let first = ask(browser, token, Asked::Look, Duration::ZERO, begun).await;
    match first.answer {
        Answer::Broken(_) => ask(browser, token, Asked::Look, Duration::ZERO, begun).await,
        Answer::Accepted { .. } | Answer::Refused => first,
    }
}

fn took(exchange: &Exchange) -> At {
    exchange.answered.saturating_sub(exchange.sent)
}
