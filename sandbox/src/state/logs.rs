//! CloudWatch Logs: groups, streams, events. Lives outside [`super::State`]: it only grows.

use std::collections::BTreeMap;

/// All log groups, by name.
#[derive(Debug, Default)]
pub struct Logs {
    /// By name.
    pub groups: BTreeMap<String, Group>,
    next: u64,
}

/// A log group.
#[derive(Debug, Default)]
pub struct Group {
    /// Epoch milliseconds.
    pub created: i64,
    /// By name.
    pub streams: BTreeMap<String, Stream>,
}

/// A log stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// Epoch milliseconds.
    pub created: i64,
    /// In the order they arrived.
    pub events: Vec<Event>,
}

/// An event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Unique, growing.
    pub id: u64,
    /// Epoch milliseconds.
    pub at: i64,
    /// When it arrived.
    pub ingested: i64,
    /// Text.
    pub message: String,
}

/// Events a stream keeps; then the older half goes.
const KEPT: usize = 100_000;

impl Logs {
    /// Appends, making group and stream as App Runner does when it first writes.
    pub fn append(&mut self, group: &str, stream: &str, now: i64, message: String) {
        self.next += 1;
        let event = Event { id: self.next, at: now, ingested: now, message };
        let group = self.groups.entry(group.to_owned()).or_insert_with(|| Group { created: now, ..Group::default() });
        let made = || Stream { created: now, ..Stream::default() };
        let events = &mut group.streams.entry(stream.to_owned()).or_insert_with(made).events;
        events.push(event);
        if events.len() > KEPT {
            events.drain(..KEPT / 2);
        }
    }

    /// A number for an event put by a client.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
