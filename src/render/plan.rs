//! What `sessionbackend plan` prints: the waves from here to the end, what each waits for, what stops it, what would be
//! left without a user, and how far one store may lag behind the other on the way.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::candidates::{Candidate, candidates};
use super::cost::{self, Cost};
use super::lag::{Expected, expected};
use super::{Mark, between, is_news, number, plural, span, words};
use crate::desired::{Desired, Target};
use crate::effect::Picture;
use crate::forecast::{End, Forecast, Wave, forecast};
use crate::identity::Owner;
use crate::observed::{Reading, Store};
use crate::plan::{Awaited, Block, Phase, Wait};
use crate::step::Step;

/// Everything `plan` says about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    owner: Owner,
    bake: Option<std::time::Duration>,
    services: Vec<String>,
    from: Option<Store>,
    to: Option<Store>,
    /// The store of the spec while it is not there.
    wanted: Option<String>,
    /// The way.
    pub forecast: Forecast,
    candidates: Vec<Candidate>,
    lag: Option<Expected>,
    costs: Vec<Cost>,
    open: bool,
}

/// How many things of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// To be made.
    pub add: usize,
    /// To be changed.
    pub change: usize,
    /// To be removed.
    pub remove: usize,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub fn total(self) -> usize {
        self.add + self.change + self.remove
    }
}

impl Preview {
    /// Looks ahead from `picture`.
    pub fn of(owner: &Owner, desired: &Desired, picture: &Picture, now: Timestamp) -> Self {
        let observed = &picture.observed;
        let target = target(desired);
        let open = picture.journal.open_migration();
        let moves = target.is_some() && open.is_none();
        let (from, to) = (observed.source.present().cloned(), observed.target.present().cloned());
        let copies = match open {
            Some(migration) => migration.copies && migration.drained.is_none(),
            None => target.is_some(),
        };
        let between = from.as_ref().filter(|_| copies).and_then(|from| {
            // A database that is not there yet is Upstash's or ours; either way the source decides.
            Some((from, to.clone().or_else(|| target.and_then(|target| unmade(target, from)))?))
        });
        let lag = between.as_ref().and_then(|(from, to)| expected(from, to));
        let costs = between.filter(|_| lag.is_some()).map(|(from, to)| cost::expected(from, &to)).unwrap_or_default();
        Self {
            owner: owner.clone(),
            bake: target.map(|target| target.migration.bake_time),
            services: target
                .map(|target| target.services.iter().map(|service| service.name.clone()).collect())
                .unwrap_or_default(),
            candidates: target.filter(|_| moves).map(|target| candidates(target, observed)).unwrap_or_default(),
            from,
            to,
            wanted: target.and_then(|target| wanted(target, &observed.target)),
            forecast: forecast(owner, desired, picture, now),
            costs,
            lag,
            open: open.is_some(),
        }
    }

    /// What would be made, changed and removed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for step in self.forecast.changes() {
            match Mark::of(step) {
                Mark::Add => counts.add += 1,
                Mark::Change => counts.change += 1,
                Mark::Remove => counts.remove += 1,
                Mark::Note => {}
            }
        }
        counts
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.open || self.counts().total() > 0
    }

    /// What stops the way to the end, if something does.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        match &self.forecast.end {
            End::Blocked(blocks) | End::MayBlock(blocks) => blocks,
            End::Converged | End::AwaitsApproval | End::Broken(_) => &[],
        }
    }

    /// What could not be read, where that is why no end is in sight: nothing can be foreseen from it.
    #[must_use]
    pub fn unread(&self) -> Vec<&str> {
        let is_reading = |wait: &Wait| matches!(wait.on, Awaited::Reading(_));
        let last = self.forecast.waves.last().filter(|_| matches!(self.forecast.end, End::Broken(_)));
        let last = last.filter(|wave| wave.steps.is_empty() && wave.waits.iter().all(is_reading));
        last.map(|wave| wave.waits.iter().map(|wait| wait.message.as_str()).collect()).unwrap_or_default()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}  (account {}, {})", self.owner, self.owner.account, self.owner.region);
        self.stores(&mut out);
        if self.forecast.end == End::Converged && !self.has_changes() {
            let _ = writeln!(out, "\nNo changes: everything is as the manifest says.");
            self.notes(&mut out);
            return out;
        }
        self.waves(&mut out);
        self.ends(&mut out);
        self.notes(&mut out);
        if !self.has_changes() {
            return out;
        }
        for store in self.out_of_reach() {
            let _ = writeln!(
                out,
                "\nNote: {} cannot be reached from here. Sessions are copied by the process that runs apply:\n  run it where both stores can be reached, such as inside the VPC.",
                crate::status::store_words(&store.id, &store.name)
            );
        }
        if let Some(lag) = &self.lag {
            let _ = writeln!(out, "\nExpected lag while old and new instances overlap: {}.", lag.text());
            if let Some(advice) = &lag.advice {
                let _ = writeln!(out, "  To lower it: {advice}.");
            }
        }
        for cost in &self.costs {
            let _ = writeln!(out, "Expected commands of the copy: {}.", cost.text());
        }
        if !self.candidates.is_empty() {
            out.push_str("\nNothing will use these any more, and they are not ours. To have them removed after the bake, paste:\n");
            out.push_str("  spec:\n    migration:\n      retire:\n        alsoRemove:\n");
            for candidate in &self.candidates {
                let _ = writeln!(out, "          {}", candidate.yaml());
            }
        }
        let counts = self.counts();
        let _ = writeln!(
            out,
            "\nPlan: {} to add, {} to change, {} to remove. Nothing has been changed.",
            counts.add, counts.change, counts.remove
        );
        out
    }

    /// Stores a copy would need and that this machine does not reach.
    fn out_of_reach(&self) -> impl Iterator<Item = &Store> {
        let stores = [&self.from, &self.to].into_iter().flatten().filter(|_| self.lag.is_some());
        stores.filter(|store| matches!(store.server, Reading::Hidden(_)))
    }

    fn stores(&self, out: &mut String) {
        let moves = self.has_changes() || self.to.is_none() || self.forecast.end != End::Converged;
        let to = self.to.as_ref().map_or_else(|| self.wanted.clone(), |store| Some(described(store)));
        match (self.from.as_ref().filter(|_| moves).map(described), to) {
            (Some(from), Some(to)) if from != to => {
                let _ = writeln!(out, "  from      {from}\n  to        {to}");
            }
            (Some(store), _) | (None, Some(store)) => {
                let _ = writeln!(out, "  store     {store}");
            }
            (None, None) => {}
        }
        if !self.services.is_empty() {
            let word = if self.services.len() == 1 { "service" } else { "services" };
            let _ = writeln!(out, "  {word:<8}  {}", self.services.join(", "));
        }
    }

    fn waves(&self, out: &mut String) {
        let mut phase = None;
        let mut said = BTreeSet::new();
        let mut count = 0;
        for wave in &self.forecast.waves {
            if phase != Some(wave.phase) {
                said.clear();
            }
            let lines = self.lines(wave);
            let fresh: Vec<_> = lines.into_iter().filter(|line| said.insert(line.clone())).collect();
            if fresh.is_empty() {
                continue;
            }
            if phase != Some(wave.phase) {
                phase = Some(wave.phase);
                let _ = writeln!(out, "\n{}", heading(wave.phase));
            }
            let mut numbered = wave.steps.iter().any(is_news);
            for line in fresh {
                if numbered {
                    count += 1;
                    numbered = false;
                    let _ = writeln!(out, "  {count:>3}  {line}");
                } else {
                    let _ = writeln!(out, "       {line}");
                }
            }
        }
    }

    fn lines(&self, wave: &Wave) -> Vec<String> {
        let steps = wave.steps.iter().filter(|step| is_news(step));
        let steps = steps.map(|step| format!("{} {}", Mark::of(step).sign(), words(step)));
        // A listing is waited for after a lost reply only, which nobody plans.
        let waits = wave.waits.iter().filter(|wait| !matches!(wait.on, Awaited::Listing(..)));
        steps.chain(waits.map(|wait| format!("  … {}", self.waiting(wait)))).collect()
    }

    /// What is waited for, without the figures of a world that has not happened yet.
    fn waiting(&self, wait: &Wait) -> String {
        let limit = match (&wait.on, wait.deadline, wait.expected) {
            (Awaited::Bake, _, _) => self.bake.map_or(String::new(), |bake| format!(": {}", span(bake))),
            (_, Some(deadline), _) => format!(", at most {}", span(between(wait.since, deadline))),
            (_, None, Some(expected)) => format!(": {}", span(between(wait.since, expected))),
            (_, None, None) => String::new(),
        };
        format!("{}{limit}", awaited(&wait.on, wait))
    }

    fn ends(&self, out: &mut String) {
        match &self.forecast.end {
            End::Converged => {}
            End::Blocked(blocks) => {
                out.push('\n');
                for block in blocks {
                    out.push_str(&blocked(block));
                }
            }
            End::MayBlock(blocks) => {
                out.push('\n');
                for block in blocks {
                    out.push_str(&would_block(block));
                }
            }
            End::AwaitsApproval => out.push_str("\nA person's word is needed to go on.\n"),
            End::Broken(_) if !self.unread().is_empty() => {
                out.push_str("\nWhat follows cannot be foreseen:\n");
                for what in self.unread() {
                    let _ = writeln!(out, "  {what}");
                }
            }
            End::Broken(why) => {
                let _ = writeln!(
                    out,
                    "\nNothing will be done: this plan contradicts itself. Please report it with `-o json`."
                );
                for why in why {
                    let _ = writeln!(out, "  {why}");
                }
            }
        }
    }

    fn notes(&self, out: &mut String) {
        for (at, note) in self.forecast.notes.iter().enumerate() {
            let _ = writeln!(out, "{}Note: {note}", if at == 0 { "\n" } else { "" });
        }
    }

    /// For scripts.
    #[must_use]
    pub fn json(&self) -> Value {
        let counts = self.counts();
        let waves: Vec<_> = self.forecast.waves.iter().map(|wave| self.wave_json(wave)).collect();
        let (end, broken): (_, &[String]) = match &self.forecast.end {
            End::Converged => ("Converged", &[]),
            End::Blocked(_) => ("Blocked", &[]),
            End::MayBlock(_) => ("MayBlock", &[]),
            End::AwaitsApproval => ("AwaitsApproval", &[]),
            End::Broken(_) if !self.unread().is_empty() => ("Unread", &[]),
            End::Broken(why) => ("Broken", why),
        };
        json!({
            "namespace": self.owner.namespace,
            "name": self.owner.name,
            "account": self.owner.account,
            "region": self.owner.region,
            "from": self.from.as_ref().map(|store| &store.id),
            "to": self.to.as_ref().map(|store| &store.id),
            "services": self.services,
            "changes": if self.has_changes() { counts.total().max(1) } else { 0 },
            "summary": counts,
            "end": end,
            "phase": self.forecast.phase,
            "waves": waves,
            "blocks": self.blocks(),
            "broken": broken,
            "unread": self.unread(),
            "notes": self.forecast.notes,
            "expectedLag": self.lag,
            "expectedCommands": self.costs,
            "alsoRemove": self.candidates,
            "outOfReach": self.out_of_reach().map(|store| &store.id).collect::<Vec<_>>(),
        })
    }

    fn wave_json(&self, wave: &Wave) -> Value {
        let step = |step: &Step| json!({ "mark": Mark::of(step), "kind": kind(step), "text": step.to_string() });
        let wait = |wait: &Wait| json!({ "on": wait.on, "text": self.waiting(wait) });
        json!({
            "phase": wave.phase,
            "steps": wave.steps.iter().map(step).collect::<Vec<_>>(),
            "waits": wave.waits.iter().map(wait).collect::<Vec<_>>(),
        })
    }
}

/// The variant's name, which scripts may rely on.
#[must_use]
pub fn kind(step: &Step) -> String {
    match serde_json::to_value(step) {
        Ok(Value::Object(object)) => object.keys().next().cloned().unwrap_or_default(),
        Ok(Value::String(name)) => name,
        Ok(_) | Err(_) => String::new(),
    }
}

/// One block with its remedy.
#[must_use]
pub fn blocked(block: &Block) -> String {
    format!("Blocked: {} ({})\n  {}\n  → {}\n", block.subject, block.reason, block.message, block.remedy)
}

/// One that has not happened.
fn would_block(block: &Block) -> String {
    format!("Would block: {} ({})\n  {}\n  → {}\n", block.subject, block.reason, block.message, block.remedy)
}

/// A phase as a heading.
#[must_use]
pub fn heading(phase: Phase) -> &'static str {
    match phase {
        Phase::Preflight => "Preflight",
        Phase::Provisioning => "Provision",
        Phase::Copying => "Copy and follow",
        Phase::AwaitingApproval => "Approval",
        Phase::Switching => "Switch",
        Phase::Draining => "Drain",
        Phase::Checking => "Checks",
        Phase::Baking => "Bake",
        Phase::Retiring => "Retire",
        Phase::Ready => "At rest",
        Phase::RollingBack => "Way back",
        Phase::RolledBack => "Rolled back",
        Phase::Held => "On hold",
        Phase::Blocked => "Blocked",
        Phase::Deleting => "Delete",
        Phase::Deleted => "Deleted",
    }
}

fn awaited(on: &Awaited, wait: &Wait) -> String {
    match on {
        Awaited::Reading(what) => format!("until {what} can be read"),
        Awaited::Store => "until the store is available".to_owned(),
        Awaited::Operation(_, service) => {
            format!("until App Runner says that our operation on {service} has succeeded")
        }
        Awaited::Listing(_, service) => format!("until the operation on {service} is listed"),
        Awaited::ForeignOperation(service) => format!("until somebody else's operation on {service} is over"),
        Awaited::CopyCaughtUp => "until the new store has caught up".to_owned(),
        Awaited::CopyInStep => "until both stores are in step".to_owned(),
        Awaited::Checks(stage) => format!("until the checks have run: {stage}"),
        Awaited::LongestRequest => "until the last old instance can have answered (app.longestRequest)".to_owned(),
        Awaited::ClientsGone => "until nobody is connected to the drained store".to_owned(),
        Awaited::Quiet => "until two sweeps find nothing more and a full comparison finds no difference".to_owned(),
        Awaited::Bake => "the new store is watched (migration.bakeTime)".to_owned(),
        Awaited::Approval(_) => wait.message.clone(),
        Awaited::Unused(what) => format!("until nothing uses {what}"),
        Awaited::CopyCleared => "until the copier has removed its traces".to_owned(),
        Awaited::Missing(what) => format!("until {what} is missing for certain"),
    }
}

fn described(store: &Store) -> String {
    let mut text = crate::status::store_words(&store.id, &store.name);
    if let Some(address) = &store.address {
        let _ = write!(text, "  {address}{}", if address.tls { " TLS" } else { "" });
    }
    match &store.server {
        Reading::Present(server) => {
            let _ = write!(text, "  {}", plural_keys(server.keys.values().sum()));
        }
        Reading::Unknown(error) => {
            let _ = write!(text, "  ({error})");
        }
        Reading::Absent | Reading::Hidden(_) => {}
    }
    text
}

fn plural_keys(keys: u64) -> String {
    if keys == 1 { plural(1, "key") } else { format!("{} keys", number(keys)) }
}

fn target(desired: &Desired) -> Option<&Target> {
    match desired {
        Desired::Present(target) => Some(target),
        Desired::Absent { .. } => None,
    }
}

/// A stand-in for a store that is still to be made, so that lag and cost can be estimated.
fn unmade(target: &Target, from: &Store) -> Option<Store> {
    use crate::desired::{StoreSpec, UpstashDatabase};
    use crate::identity::StoreId;
    let (mut name, mut plan) = (String::new(), None);
    let id = match &target.store {
        StoreSpec::Upstash { database, plan: asked, .. } => {
            plan.clone_from(asked);
            name = match database {
                UpstashDatabase::Named { name, .. } => name.clone(),
                UpstashDatabase::Existing(id) => id.clone(),
            };
            StoreId::Upstash(crate::effect::AFTER_APPLY.to_owned())
        }
        StoreSpec::ReplicationGroup { .. } => StoreId::ReplicationGroup(crate::effect::AFTER_APPLY.to_owned()),
        StoreSpec::ServerlessCache { name, .. } => StoreId::ServerlessCache(name.clone()),
        StoreSpec::External { .. } | StoreSpec::Disabled => return None,
    };
    Some(Store { id, name, plan, quota: None, server: Reading::Absent, ..from.clone() })
}

/// The store of the spec in words, where it is to be made.
fn wanted(target: &Target, seen: &Reading<Store>) -> Option<String> {
    use crate::desired::{ReplicationGroupRef, StoreSpec, UpstashDatabase};
    // What could not be listed may well be there.
    let there = match seen {
        Reading::Unknown(_) | Reading::Hidden(_) => "could not be read",
        Reading::Absent | Reading::Present(_) => "not there yet",
    };
    match &target.store {
        StoreSpec::Upstash { database: UpstashDatabase::Named { name, region }, .. } => {
            Some(format!("Upstash {name} in {region} ({there})"))
        }
        StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Create(settings), .. } => {
            Some(format!("ElastiCache replication group of {} ({there})", settings.node_type))
        }
        StoreSpec::Disabled => Some("no Redis".to_owned()),
        StoreSpec::Upstash { database: UpstashDatabase::Existing(_), .. }
        | StoreSpec::ReplicationGroup { group: ReplicationGroupRef::Existing(_), .. }
        | StoreSpec::ServerlessCache { .. }
        | StoreSpec::External { .. } => None,
    }
}
