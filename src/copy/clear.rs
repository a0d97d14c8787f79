//! The end of a copy: its traces go from both stores, and their settings are put back.
//!
//! Whoever ends it holds the fence, so nobody writes meanwhile. The record goes last and in one script with the rest of
//! what tells that there was a copy, so an end that was interrupted anywhere can be begun again. It touches no key of
//! the application.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    CopySpec, Endpoint,
    apply::Fence,
    base::discard,
    error::CopyError,
    feed::{set_notify, tells_enough},
    fence::{
        Ending, Grasp, Record, ask_guarded, beat, grasp, guarded, held, plant, plant_over, read_record, write_record,
    },
    key::Ours,
    link::{Link, bytes, items, text},
    progress::Sides,
};
use crate::merge::Side;

/// How often whoever ends a copy says that he is alive.
const BEAT: Duration = Duration::from_secs(1);

/// The end of a copy, under way.
pub(crate) struct Exit {
    pub(crate) ours: Ours,
    pub(crate) fence: Fence,
    /// What the copier left; `None` where it owned nothing, or where the target is gone.
    pub(crate) record: Option<Record>,
    /// The target, where all but the marks of the source are; `None` where it is gone.
    control: Option<Link>,
    beaten: Instant,
}

impl Exit {
    /// Takes the fence in the target, and with it the right to end the copy. A runner that is alive is not pushed aside.
    pub(crate) async fn begin(spec: &CopySpec, gone: Option<Side>) -> Result<Self, CopyError> {
        let ours = Ours::new(&spec.migration);
        let fence = Fence { key: ours.fence(), token: format!("{}#{:016x}", spec.runner, rand::random::<u64>()) };
        let mut exit = Self { ours, fence, record: None, control: None, beaten: Instant::now() };
        if gone == Some(Side::New) {
            return Ok(exit);
        }
        if gone.is_none() {
            // Before anything is marked: a store that does not answer must not leave the other one with a mark of ours.
            open(&spec.from, spec.from.database).await?;
        }
        let mut control = open(&spec.to, spec.to.database).await?;
        match grasp(&mut control, &exit.ours, &exit.fence, spec).await? {
            Grasp::Taken { .. } => {}
            Grasp::Held { by, silent_ms } => {
                return Err(held(&by, silent_ms));
            }
        }
        exit.record = read_record(&mut control, &exit.ours).await?;
        exit.control = Some(control);
        Ok(exit)
    }

    /// Writes down how far the end has come. A runner that finds it so does not go on with what is left.
    pub(crate) async fn mark(&mut self, ending: Ending) -> Result<(), CopyError> {
        let (Some(record), Some(control)) = (&mut self.record, &mut self.control) else { return Ok(()) };
        record.ending = ending;
        write_record(control, &self.ours, &self.fence, record).await
    }

    /// Stays alive; to be called between any two things that may take a while.
    pub(crate) async fn keep_alive(&mut self) -> Result<(), CopyError> {
        let Some(control) = self.control.as_mut().filter(|_| self.beaten.elapsed() >= BEAT) else { return Ok(()) };
        beat(control, &self.ours, &self.fence, "").await?;
        self.beaten = Instant::now();
        Ok(())
    }

    /// Puts the fence into another database.
    pub(crate) async fn plant(&mut self, link: &mut Link) -> Result<(), CopyError> {
        if let Some(control) = &mut self.control {
            return plant(control, &self.ours, link, &self.fence).await;
        }
        // With the target gone nobody can be copying, and nobody's heartbeat can be asked for.
        let before = bytes(link.ask("GET", redis::cmd("GET").arg(&self.fence.key)).await?).unwrap_or_default();
        plant_over(link, &self.fence, &before).await.map(drop)
    }

    /// Removes every trace from the stores that are left.
    pub(crate) async fn clear(mut self, spec: &CopySpec, gone: Option<Side>) -> Result<(), CopyError> {
        self.mark(Ending::Clearing).await?;
        for side in [Side::Old, Side::New].into_iter().filter(|side| Some(*side) != gone) {
            let endpoint = match side {
                Side::Old => &spec.from,
                Side::New => &spec.to,
            };
            self.put_back(endpoint, side).await?;
            for database in self.databases(spec, side) {
                if side == Side::Old || database != endpoint.database {
                    let mut link = open(endpoint, database).await?;
                    self.plant(&mut link).await?;
                    discard(&mut link, &self.fence, &self.ours.pattern(), &[self.ours.fence()]).await?;
                    forget(&mut link, &self.fence, &[self.ours.fence()]).await?;
                }
                self.keep_alive().await?;
            }
        }
        let Some(mut control) = self.control else { return Ok(()) };
        let ours = &self.ours;
        let last = [ours.record(), ours.progress(), ours.heartbeat(), ours.fence()];
        discard(&mut control, &self.fence, &ours.pattern(), &last).await?;
        forget(&mut control, &self.fence, &last).await
    }

    /// Every database that may hold traces: those that are mapped now, and those that were.
    fn databases(&self, spec: &CopySpec, side: Side) -> BTreeSet<u32> {
        let on = |(from, to): (u32, u32)| match side {
            Side::Old => from,
            Side::New => to,
        };
        let known = self.record.iter().flat_map(|record| record.databases.iter().copied());
        let own = (spec.from.database, spec.to.database);
        spec.pairs().into_iter().chain(known).chain([own]).map(on).collect()
    }

    /// Puts the notifications' setting back, unless it is not ours any more. A store that does not let us any more
    /// keeps what it has: nothing else depends on it.
    async fn put_back(&mut self, endpoint: &Endpoint, side: Side) -> Result<(), CopyError> {
        let Some(mut record) = self.record.clone() else { return Ok(()) };
        let Some(former) = record.notify.on_mut(side).take() else { return Ok(()) };
        let mut link = open(endpoint, endpoint.database).await?;
        match restore(&mut link, &former).await {
            Err(error) if !error.passes() => {
                tracing::warn!(store = link.store(), %error, "notify-keyspace-events could not be put back");
                Ok(())
            }
            other => other,
        }
    }
}

async fn restore(link: &mut Link, former: &str) -> Result<(), CopyError> {
    let asked = link.ask("CONFIG GET", redis::cmd("CONFIG").arg("GET").arg("notify-keyspace-events")).await?;
    let now = items(asked).unwrap_or_default().into_iter().nth(1).map(text).unwrap_or_default();
    if tells_enough(&now) { set_notify(link, former).await } else { Ok(()) }
}

async fn open(endpoint: &Endpoint, database: u32) -> Result<Link, CopyError> {
    Link::open(endpoint, database, Arc::new(AtomicU64::new(0))).await
}

/// Deletes in one script; the fence may be among the names.
async fn forget(link: &mut Link, fence: &Fence, names: &[String]) -> Result<(), CopyError> {
    let names: Vec<Vec<u8>> = names.iter().map(|name| name.clone().into_bytes()).collect();
    let mut commands = redis::pipe();
    commands.add_command(guarded(fence, "DEL", &names, &[]));
    ask_guarded(link, "DEL", &commands).await
}

/// Ends a copy: removes every trace of it from the stores that are left and puts their settings back.
///
/// `gone` names a store that does not exist any more; nothing of it is asked for. Where that is the target, what the
/// copier wrote down is gone too: the source is cleaned of keys that are ours by name, in the databases of the spec,
/// and its notifications' setting stays. While another runner is alive the answer is [`CopyError::Busy`]. Can be
/// called again after it was interrupted anywhere, and when nothing is left.
pub async fn clear(spec: &CopySpec, gone: Option<Side>) -> Result<(), CopyError> {
    Exit::begin(spec, gone).await?.clear(spec, gone).await
}

/// Takes back what a runner had set in a target it turned out not to be allowed to use, as long as it holds the fence.
pub(crate) async fn leave_target(spec: &CopySpec, ours: &Ours, fence: &Fence) -> Result<(), CopyError> {
    let databases: BTreeSet<u32> = spec.pairs().into_iter().map(|(_, to)| to).collect();
    for database in databases.into_iter().filter(|database| *database != spec.to.database).chain([spec.to.database]) {
        let mut link = open(&spec.to, database).await?;
        discard(&mut link, fence, &ours.pattern(), &[ours.fence()]).await?;
        forget(&mut link, fence, &[ours.fence()]).await?;
    }
    Ok(())
}

/// Commands are counted nowhere while a copy ends.
pub(crate) fn uncounted() -> Sides<Arc<AtomicU64>> {
    Sides { source: Arc::new(AtomicU64::new(0)), target: Arc::new(AtomicU64::new(0)) }
}
