//! The heartbeat, beside the copying so that a long pass does not silence it, and what it sees of both stores: other
//! people's connections and evictions. Writes nothing but the heartbeat.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use redis::Value;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    CopySpec,
    apply::Fence,
    error::CopyError,
    fence::beat,
    key::Ours,
    link::{CLIENT_NAME, Link, text},
    progress::{Progress, Sides},
};
use crate::{error::presentable, merge::Side, observed::Client};

const EVERY: Duration = Duration::from_secs(1);

/// Connections that are told one by one.
const NAMED: usize = 5;

/// What the pulse has found last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vitals {
    pub(crate) heartbeat: Option<i64>,
    pub(crate) clients: Sides<Option<u64>>,
    /// Some of them.
    pub(crate) connected: Sides<Vec<Client>>,
    /// The stores' own counters.
    pub(crate) evicted: Sides<Option<u64>>,
    /// The fence is lost, or the target does not answer any more.
    pub(crate) fault: Option<CopyError>,
}

/// A pulse that beats until it is dropped.
#[derive(Debug)]
pub(crate) struct Pulse {
    task: JoinHandle<()>,
    pub(crate) vitals: watch::Receiver<Vitals>,
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts it.
pub(crate) fn start(
    spec: &CopySpec,
    ours: &Ours,
    fence: &Fence,
    progress: watch::Receiver<Progress>,
    spent: Sides<Arc<AtomicU64>>,
) -> Pulse {
    let (publish, vitals) = watch::channel(Vitals::default());
    let beating = Beating { spec: spec.clone(), ours: ours.clone(), fence: fence.clone(), progress, spent };
    Pulse { task: tokio::spawn(beating.run(publish)), vitals }
}

struct Beating {
    spec: CopySpec,
    ours: Ours,
    fence: Fence,
    progress: watch::Receiver<Progress>,
    spent: Sides<Arc<AtomicU64>>,
}

impl Beating {
    async fn run(self, publish: watch::Sender<Vitals>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut links: Sides<Option<Link>> = Sides::default();
        let (mut count, mut missed) = (0_u64, 0_u32);
        loop {
            ticks.tick().await;
            let mut vitals = publish.borrow().clone();
            // The keeping in step is when the counts are waited for; before it they are only of interest.
            let look = count.is_multiple_of(if self.progress.borrow().sealed { 2 } else { 10 });
            match self.beat(&mut links.target).await {
                Ok(at) => {
                    vitals.heartbeat = Some(at);
                    missed = 0;
                }
                Err(error) => {
                    links.target = None;
                    missed += 1;
                    // A connection may be lost once without anything being wrong.
                    if missed > 1 || !error.passes() {
                        vitals.fault = Some(error);
                    }
                }
            }
            if look {
                for (side, link) in [(Side::Old, &mut links.source), (Side::New, &mut links.target)] {
                    let (clients, evicted) = self.look(link, side).await;
                    *vitals.clients.on_mut(side) = clients.as_ref().map(|clients| clients.len() as u64);
                    *vitals.connected.on_mut(side) = clients.unwrap_or_default().into_iter().take(NAMED).collect();
                    *vitals.evicted.on_mut(side) = evicted;
                }
            }
            count += 1;
            publish.send_replace(vitals);
        }
    }

    async fn beat(&self, link: &mut Option<Link>) -> Result<i64, CopyError> {
        let to = &self.spec.to;
        let link = match link {
            Some(link) => link,
            None => link.insert(Link::open(to, to.database, self.spent.target.clone()).await?),
        };
        let progress = serde_json::to_string(&*self.progress.borrow()).unwrap_or_default();
        beat(link, &self.ours, &self.fence, &progress).await
    }

    /// Connections that are not ours, and evictions. What cannot be read is `None`.
    async fn look(&self, link: &mut Option<Link>, side: Side) -> (Option<Vec<Client>>, Option<u64>) {
        if link.is_none() {
            let endpoint = match side {
                Side::Old => &self.spec.from,
                Side::New => &self.spec.to,
            };
            let spent = self.spent.on(side);
            *link = Link::open(endpoint, endpoint.database, spent.clone()).await.ok();
        }
        let Some(open) = link else { return (None, None) };
        let clients = open.ask("CLIENT LIST", redis::cmd("CLIENT").arg("LIST")).await;
        let evicted = evictions(open).await;
        if matches!(&clients, Err(error) if error.passes()) {
            *link = None;
        }
        (clients.ok().map(others), evicted.ok().flatten())
    }
}

/// The store's counter of evicted keys, if it has one.
pub(crate) async fn evictions(link: &mut Link) -> Result<Option<u64>, CopyError> {
    let info = text(link.ask("INFO", redis::cmd("INFO").arg("stats")).await?);
    Ok(info.lines().find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse().ok()))
}

/// Connections of applications: not ours, not a replica's, not a primary's; the oldest first.
fn others(list: Value) -> Vec<Client> {
    let list = text(list);
    let app = |line: &str| {
        let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let is_app = !line.is_empty()
            && field("name").is_none_or(|name| !name.starts_with(CLIENT_NAME))
            && field("flags").is_none_or(|flags| !flags.contains(['S', 'M']));
        is_app.then(|| Client {
            name: presentable(field("name").unwrap_or_default(), 64),
            address: presentable(field("addr").unwrap_or_default(), 64),
            age: field("age").and_then(|age| age.parse().ok()).unwrap_or_default(),
        })
    };
    let mut clients: Vec<Client> = list.lines().filter_map(app).collect();
    clients.sort_by_key(|client| std::cmp::Reverse(client.age));
    clients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_connections_and_replicas_are_no_clients() {
        let list = "id=1 addr=10.0.0.1:5 name= age=3 flags=N db=0\nid=2 addr=a name=sessionbackend flags=t db=0\n\
                    id=3 addr=10.0.0.2:6 name=web age=71 flags=P db=0 user=default\nid=4 addr=a name= flags=S db=0\n";
        let client = |name: &str, address: &str, age| Client { name: name.into(), address: address.into(), age };
        assert_eq!(
            others(Value::BulkString(list.as_bytes().to_vec())),
            [client("web", "10.0.0.2:6", 71), client("", "10.0.0.1:5", 3)]
        );
    }
}
