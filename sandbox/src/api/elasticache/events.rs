//! DescribeEvents: what happened to caches.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{paged, value};
use crate::api::{Call, Reply, epoch, text};
use crate::state::State;
use crate::state::elasticache::Event;

/// How far back events go.
const KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Writes an event down.
pub(super) fn note(state: &mut State, source: &str, kind: &'static str, message: String, at: Timestamp) {
    state.elasticache.events.push(Event { source: source.to_owned(), kind, message, at });
}

pub(super) fn describe(call: &mut Call<'_>, input: &Value) -> Reply {
    let now = call.now;
    let at = |member: &str| {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
        input[member].as_f64().and_then(|s| Timestamp::from_millisecond((s * 1000.0) as i64).ok())
    };
    let minutes = input["Duration"].as_i64().unwrap_or(60);
    let start = at("StartTime").unwrap_or(now - SignedDuration::from_mins(minutes));
    if now.duration_since(start) > KEPT {
        return Err(value("The time range must lie within the last 14 days."));
    }
    let end = at("EndTime").unwrap_or(now);
    let (source, kind) = (text(input, "SourceIdentifier"), text(input, "SourceType"));
    if source.is_some() && kind.is_none() {
        return Err(super::combination("SourceType must be given with SourceIdentifier."));
    }
    let meant = |e: &&Event| {
        (start..=end).contains(&e.at)
            && source.is_none_or(|s| s.eq_ignore_ascii_case(&e.source))
            && kind.is_none_or(|k| k == e.kind)
    };
    let shown = |e: &Event| json!({"SourceIdentifier": e.source, "SourceType": e.kind, "Message": e.message, "Date": epoch(e.at)});
    let all = call.state.elasticache.events.iter().filter(meant).map(shown).collect();
    paged(all, input, "Events")
}
