//! Change feeds: hints that make the lag small. Sweeps stay the truth, so losing a feed costs one full sweep.
//!
//! A feed is client tracking in broadcast mode (node-based ElastiCache and plain Redis have it) or keyspace
//! notifications (Upstash has only those). A PING on the feed's own connection is a fence: whatever was acknowledged
//! before it has been delivered when its PONG arrives.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    Endpoint,
    error::CopyError,
    link::{Link, bytes, items, text},
    progress::Feed,
};

/// How often the fence is sent; PING is not billed by Upstash.
const FENCE_EVERY: Duration = Duration::from_millis(200);

/// More names than this wait for nobody: a sweep is cheaper.
const INBOX: usize = 100_000;

/// What a feed has brought since it was last emptied.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    pub(crate) keys: HashSet<Vec<u8>>,
    /// When the first of them arrived.
    pub(crate) since: Option<Instant>,
    /// Something may have been missed: sweep everything once.
    pub(crate) everything: bool,
    /// The earliest fence that came back.
    pub(crate) fence: Option<Instant>,
}

impl Hints {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.everything && self.fence.is_none()
    }
}

/// Where the feed of one side leaves its hints.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    hints: Mutex<Hints>,
    up: Mutex<bool>,
    arrived: Arc<Notify>,
}

impl Inbox {
    pub(crate) fn new(arrived: Arc<Notify>) -> Self {
        Self { hints: Mutex::default(), up: Mutex::new(false), arrived }
    }

    pub(crate) fn take(&self) -> Hints {
        std::mem::take(&mut *self.lock())
    }

    /// The feed is connected now.
    pub(crate) fn is_up(&self) -> bool {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, name: Vec<u8>) {
        let mut hints = self.lock();
        hints.since.get_or_insert_with(Instant::now);
        if hints.keys.len() < INBOX {
            hints.keys.insert(name);
        } else {
            hints.keys.clear();
            hints.everything = true;
        }
        drop(hints);
        self.arrived.notify_one();
    }

    fn everything(&self) {
        self.lock().everything = true;
        self.arrived.notify_one();
    }

    fn fence(&self, sent: Instant) {
        self.lock().fence.get_or_insert(sent);
        self.arrived.notify_one();
    }

    fn set_up(&self, up: bool) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = up;
        self.everything();
    }

    fn push(&self, push: PushInfo) {
        match push.kind {
            // The names that changed, or nil: everything may have (FLUSHDB).
            PushKind::Invalidate => match push.data.into_iter().next().and_then(items) {
                Some(names) => names.into_iter().filter_map(bytes).for_each(|name| self.key(name)),
                None => self.everything(),
            },
            // Pattern, channel, message; the channel names the event, the message the key.
            PushKind::PMessage => {
                if let Some(name) = push.data.into_iter().nth(2).and_then(bytes) {
                    self.key(name);
                }
            }
            // Confirmations, and the client's own word that the connection is gone, which the fence finds out.
            _ => {}
        }
    }
}

/// A feed that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Finds out which feed a store can give, without changing anything: the notifications' setting is returned where it
/// would have to be changed (as it is, as it should be).
pub(crate) async fn choose(
    endpoint: &Endpoint,
    link: &mut Link,
    spent: &Arc<AtomicU64>,
) -> Result<(Feed, Option<(String, String)>), CopyError> {
    let (pushes, _rest) = mpsc::unbounded_channel();
    match Link::open_push(endpoint, spent.clone(), pushes).await {
        Ok(mut probe) => {
            if start(&mut probe, Feed::Tracking).await.is_ok() {
                return Ok((Feed::Tracking, None));
            }
        }
        Err(error) if error.passes() => return Err(error),
        // No RESP3: no feed at all.
        Err(_) => return Ok((Feed::None, None)),
    }
    let asked = link.ask("CONFIG GET", redis::cmd("CONFIG").arg("GET").arg(NOTIFY)).await;
    let setting = match asked {
        Ok(reply) => items(reply).unwrap_or_default().into_iter().nth(1).map(text).unwrap_or_default(),
        Err(error) if error.passes() => return Err(error),
        Err(_) => return Ok((Feed::None, None)),
    };
    if tells_enough(&setting) {
        return Ok((Feed::Notifications, None));
    }
    let wanted: String = if setting.contains('K') { "KEA".into() } else { "EA".into() };
    Ok((Feed::Notifications, Some((setting, wanted))))
}

const NOTIFY: &str = "notify-keyspace-events";

/// Key events of every kind of write.
pub(crate) fn tells_enough(setting: &str) -> bool {
    setting.contains('E') && (setting.contains('A') || "g$lshzxet".chars().all(|class| setting.contains(class)))
}

pub(crate) async fn set_notify(link: &mut Link, setting: &str) -> Result<(), CopyError> {
    link.ask("CONFIG SET", redis::cmd("CONFIG").arg("SET").arg(NOTIFY).arg(setting)).await.map(drop)
}

/// Starts to listen; connects again, and again, until it is dropped.
pub(crate) fn listen(endpoint: Endpoint, feed: Feed, inbox: Arc<Inbox>, spent: Arc<AtomicU64>) -> Running {
    Running(tokio::spawn(async move {
        loop {
            let lost = follow(&endpoint, feed, &inbox, &spent).await;
            inbox.set_up(false);
            if let Err(error) = lost {
                tracing::debug!(store = endpoint.name(), %error, "the change feed was lost");
            }
            sleep(Duration::from_millis(500)).await;
        }
    }))
}

async fn follow(endpoint: &Endpoint, feed: Feed, inbox: &Inbox, spent: &Arc<AtomicU64>) -> Result<(), CopyError> {
    let (sender, mut arriving) = mpsc::unbounded_channel();
    let mut link = Link::open_push(endpoint, spent.clone(), sender).await?;
    start(&mut link, feed).await?;
    inbox.set_up(true);
    loop {
        let asked = Instant::now();
        link.ping().await?;
        // The client hands over pushes in the order of the stream, so all that came before the PONG are here.
        while let Ok(push) = arriving.try_recv() {
            inbox.push(push);
        }
        inbox.fence(asked);
        let next = asked + FENCE_EVERY;
        while let Ok(push) = tokio::time::timeout_at(next, arriving.recv()).await {
            match push {
                Some(push) => inbox.push(push),
                None => return Ok(()),
            }
        }
    }
}

async fn start(link: &mut Link, feed: Feed) -> Result<Value, CopyError> {
    match feed {
        Feed::None => Ok(Value::Okay),
        Feed::Tracking => {
            link.ask("CLIENT TRACKING", redis::cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST")).await
        }
        Feed::Notifications => link.ask("PSUBSCRIBE", redis::cmd("PSUBSCRIBE").arg("__keyevent@*__:*")).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_must_name_keys_for_every_kind_of_write() {
        assert!(tells_enough("AE") && tells_enough("KEA") && tells_enough("g$lshzxetE"));
        assert!(!tells_enough("") && !tells_enough("KA") && !tells_enough("Ex") && !tells_enough("Eg$"));
    }

    #[test]
    fn too_many_names_become_one_sweep() {
        let inbox = Inbox::default();
        for number in 0..=INBOX {
            inbox.key(number.to_be_bytes().to_vec());
        }
        let hints = inbox.take();
        assert!(hints.everything && hints.keys.is_empty());
        assert!(inbox.take().is_empty());
    }
}
