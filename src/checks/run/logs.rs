//! What a service wrote since the cut-over. Reads, through a door the AWS client opens, and never shows a line: what an
//! app logs is foreign text and may hold anything.

use std::time::Duration;

use tokio::time::timeout;

use super::{Context, LogEvent, Logs, Seen, ServiceUnderCheck};
use crate::checks::evidence::{explained, scrubbed};
use crate::checks::{LogGroup, LogsCheck, Outcome};
use crate::error::{Class, CloudError};

/// Looks at the service's log group once; `limit` is for the whole look.
pub(super) async fn probe(check: &LogsCheck, limit: Duration, service: &ServiceUnderCheck, context: &Context) -> Seen {
    let Some(logs) = &context.logs else {
        return Seen::skipped("logs cannot be read here");
    };
    let Some(group) = service.log_groups.get(&check.group) else {
        return Seen::new(Outcome::Unclear, "the service's log group is not known");
    };
    match timeout(limit, look(check, logs.as_ref(), group, context)).await {
        Ok(Ok(seen)) => seen,
        // An answer of the control plane is never a reason to roll back.
        Ok(Err(error)) if error.class == Class::NotFound => {
            Seen::new(Outcome::Unclear, "there is no log group yet: App Runner makes it with the first line")
        }
        Ok(Err(error)) => {
            let words = scrubbed(&error.to_string(), &context.secret_values(), 200);
            Seen::new(Outcome::Unclear, format!("the log group cannot be read: {words}"))
        }
        Err(_) => Seen::new(Outcome::Unclear, format!("CloudWatch Logs did not answer in {} ms", limit.as_millis())),
    }
}

async fn look(check: &LogsCheck, logs: &dyn Logs, group: &str, context: &Context) -> Result<Seen, CloudError> {
    let secrets = context.secret_values();
    let show = |text: &str| format!("\"{}\"", scrubbed(text, &secrets, 80));
    let mut found = Vec::new();
    for text in &check.absent {
        let events = events(logs, group, context, text).await?;
        if let Some(first) = events.iter().min_by_key(|event| event.timestamp) {
            let seen = format!("{} appears {} since {}", show(text), times(events.len()), second(first));
            found.push((seen, first.message.clone()));
        }
    }
    let mut missing = Vec::new();
    for text in &check.appear {
        if events(logs, group, context, text).await?.is_empty() {
            missing.push(show(text));
        }
    }
    if let Some((_, evidence)) = found.first() {
        let seen: Vec<_> = found.iter().map(|(seen, _)| seen.as_str()).collect();
        return Ok(Seen::new(Outcome::Broken, explained(&seen.join("; "), evidence)));
    }
    if !missing.is_empty() {
        let text = format!("{} not found since {:.0}", missing.join(", "), context.since);
        return Ok(Seen::new(Outcome::Broken, text));
    }
    let group = match check.group {
        LogGroup::Application => "application",
        LogGroup::Service => "service",
    };
    Ok(Seen::new(
        Outcome::Works,
        format!("{group} log since {:.0}: {} found, {} absent", context.since, check.appear.len(), check.absent.len()),
    ))
}

async fn events(logs: &dyn Logs, group: &str, context: &Context, text: &str) -> Result<Vec<LogEvent>, CloudError> {
    let mut events = logs.filter(group, context.since, text).await?;
    // A filter pattern is made of terms and says yes more often than a literal text does.
    events.retain(|event| event.timestamp >= context.since && event.message.contains(text));
    Ok(events)
}

fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn second(event: &LogEvent) -> String {
    format!("{:.0}", event.timestamp)
}
