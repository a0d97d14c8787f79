//! People who know only instances: each request meets an old or a new one, as it happens. They remember what was
//! acknowledged, and judge by it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;

use crate::server::{Client, Server};

/// What visitors remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Sessions acknowledged and not logged out.
    pub(crate) held: BTreeSet<String>,
    /// Sessions whose logout was acknowledged.
    pub(crate) logged_out: BTreeSet<String>,
    pub(crate) requests: u64,
    /// Requests with a session an instance did not know, and the longest after the last acknowledgement.
    pub(crate) refused: u64,
    pub(crate) longest_refusal: Duration,
}

impl Memory {
    fn add(&mut self, other: Self) {
        self.held.extend(other.held);
        self.logged_out.extend(other.logged_out);
        self.requests += other.requests;
        self.refused += other.refused;
        self.longest_refusal = self.longest_refusal.max(other.longest_refusal);
    }

    /// Sessions that one of the stores does not have although somebody holds them, and the other way round.
    pub(crate) async fn judge(&self, stores: &mut [Client]) -> (Vec<String>, Vec<String>) {
        let (mut lost, mut zombies) = (Vec::new(), Vec::new());
        for store in stores {
            let there: BTreeSet<String> = store.names().await.into_iter().collect();
            lost.extend(self.held.difference(&there).cloned());
            zombies.extend(self.logged_out.intersection(&there).cloned());
        }
        (lost, zombies)
    }
}

/// Which instances serve.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) old: AtomicBool,
    pub(crate) new: AtomicBool,
    stop: AtomicBool,
    think_ms: AtomicU64,
}

pub(crate) struct Crowd {
    pub(crate) fleet: Arc<Fleet>,
    visitors: Vec<JoinHandle<Memory>>,
}

impl Crowd {
    /// Old instances only, until the fleet is told otherwise.
    pub(crate) async fn enter(count: u64, old: &Server, new: &Server, think: Duration) -> Self {
        let fleet = Arc::new(Fleet::default());
        fleet.old.store(true, Ordering::SeqCst);
        fleet.think_ms.store(u64::try_from(think.as_millis()).unwrap(), Ordering::SeqCst);
        // An instance has a pool; one connection serves many visitors.
        let (old, new) = (old.client().await, new.client().await);
        let visitors =
            (0..count).map(|seed| tokio::spawn(visit(seed, fleet.clone(), old.clone(), new.clone()))).collect();
        Self { fleet, visitors }
    }

    pub(crate) async fn leave(self) -> Memory {
        self.fleet.stop.store(true, Ordering::SeqCst);
        let mut all = Memory::default();
        for visitor in self.visitors {
            all.add(visitor.await.unwrap());
        }
        all
    }
}

struct Session {
    name: String,
    acknowledged: Instant,
}

async fn visit(seed: u64, fleet: Arc<Fleet>, mut old: Client, mut new: Client) -> Memory {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut memory = Memory::default();
    let mut session: Option<Session> = None;
    let mut count = 0;
    while !fleet.stop.load(Ordering::SeqCst) {
        let think = fleet.think_ms.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(chance.random_range(think / 4..=think))).await;
        let (serves_old, serves_new) = (fleet.old.load(Ordering::SeqCst), fleet.new.load(Ordering::SeqCst));
        let client = match (serves_old, serves_new) {
            (true, true) if chance.random_bool(0.5) => &mut old,
            (true | false, true) => &mut new,
            (true | false, false) => &mut old,
        };
        memory.requests += 1;
        let Some(held) = &mut session else {
            count += 1;
            let name = format!("sess:{seed}:{count}");
            let _: () = client.run(&format!("SET {name} login EX 3600")).await;
            session = Some(Session { name, acknowledged: Instant::now() });
            continue;
        };
        if request(client, &held.name, &mut chance).await {
            held.acknowledged = Instant::now();
        } else {
            memory.refused += 1;
            memory.longest_refusal = memory.longest_refusal.max(held.acknowledged.elapsed());
            continue;
        }
        if chance.random_bool(0.1) {
            let removed: u64 = client.run(&format!("DEL {}", held.name)).await;
            if removed == 1 {
                memory.logged_out.insert(std::mem::take(&mut held.name));
                session = None;
            }
        }
    }
    if let Some(Session { name, .. }) = session {
        memory.held.insert(name);
    }
    memory
}

/// A click or a renewal, as an application does it: read, then write only if it is there.
async fn request(client: &mut Client, name: &str, chance: &mut StdRng) -> bool {
    let found: Option<String> = client.run(&format!("GET {name}")).await;
    if found.is_none() {
        return false;
    }
    if chance.random_bool(0.5) {
        let renewed: u64 = client.run(&format!("EXPIRE {name} {}", 3_600 + chance.random_range(0..600))).await;
        return renewed == 1;
    }
    let clicks: u32 = chance.random();
    let written: Option<String> = client.run(&format!("SET {name} click-{clicks} EX 3600 XX")).await;
    written.is_some()
}
