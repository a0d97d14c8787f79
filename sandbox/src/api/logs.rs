//! CloudWatch Logs: groups, streams, events, and the text patterns of FilterLogEvents.

mod pattern;

use serde_json::{Value, json};

use super::{ApiError, Call, Operation, Reply, page, required, strings, text, without_nulls};
use crate::state::logs::{Event, Group, Logs, Stream};

use pattern::Pattern;

/// The function of an operation.
pub fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        "CreateLogGroup" => create_group,
        "DeleteLogGroup" => delete_group,
        "CreateLogStream" => create_stream,
        "PutLogEvents" => put_events,
        "FilterLogEvents" => filter_events,
        "GetLogEvents" => get_events,
        "DescribeLogGroups" => describe_groups,
        "DescribeLogStreams" => describe_streams,
        _ => return None,
    })
}

/// Events FilterLogEvents looks at for one page; a page can so be empty and have a token.
const LOOKED_AT: usize = 1000;
/// Bytes of overhead an event counts in PutLogEvents.
const OVERHEAD: usize = 26;

const DAY: i64 = 24 * 3600 * 1000;

fn no_group() -> ApiError {
    ApiError::new("ResourceNotFoundException", "The specified log group does not exist.")
}

fn no_stream() -> ApiError {
    ApiError::new("ResourceNotFoundException", "The specified log stream does not exist.")
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameterException", message)
}

/// The group's name from its name or its ARN.
fn group_name(input: &Value) -> Result<String, ApiError> {
    match (text(input, "logGroupName"), text(input, "logGroupIdentifier")) {
        (Some(_), Some(_)) => Err(invalid("Give either logGroupName or logGroupIdentifier, not both.")),
        (Some(name), None) => Ok(name.to_owned()),
        (None, Some(id)) => {
            let name = id.split(":log-group:").nth(1).unwrap_or(id);
            Ok(name.trim_end_matches(":*").to_owned())
        }
        (None, None) => Err(invalid("A log group must be given.")),
    }
}

fn group<'a>(logs: &'a mut Logs, name: &str) -> Result<&'a mut Group, ApiError> {
    logs.groups.get_mut(name).ok_or_else(no_group)
}

fn create_group(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "logGroupName").to_owned();
    let created = call.now.as_millisecond();
    call.cloud.shared.logs(|logs| {
        if logs.groups.contains_key(&name) {
            let text = "The specified log group already exists";
            return Err(ApiError::new("ResourceAlreadyExistsException", text));
        }
        logs.groups.insert(name, Group { created, ..Group::default() });
        Ok(Value::Null)
    })
}

fn delete_group(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = required(input, "logGroupName");
    call.cloud.shared.logs(|logs| logs.groups.remove(name).map(|_| Value::Null).ok_or_else(no_group))
}

fn create_stream(call: &mut Call<'_>, input: &Value) -> Reply {
    let created = call.now.as_millisecond();
    let name = required(input, "logStreamName").to_owned();
    call.cloud.shared.logs(|logs| {
        let group = group(logs, required(input, "logGroupName"))?;
        if group.streams.contains_key(&name) {
            let text = "The specified log stream already exists";
            return Err(ApiError::new("ResourceAlreadyExistsException", text));
        }
        group.streams.insert(name, Stream { created, ..Stream::default() });
        Ok(Value::Null)
    })
}

fn put_events(call: &mut Call<'_>, input: &Value) -> Reply {
    let now = call.now.as_millisecond();
    let given = input["logEvents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = |event: &Value| event["timestamp"].as_i64().unwrap_or_default();
    let size: usize = given.iter().map(|e| required(e, "message").len() + OVERHEAD).sum();
    if size > 1_048_576 || given.len() > 10_000 {
        return Err(invalid("Upload too large: the batch must not exceed 1048576 bytes and 10000 events."));
    }
    if given.windows(2).any(|pair| at(&pair[0]) > at(&pair[1])) {
        return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
    }
    if let (Some(first), Some(last)) = (given.first(), given.last())
        && at(last) - at(first) > DAY
    {
        return Err(invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    let too_old = given.iter().take_while(|e| at(e) < now - 14 * DAY).count();
    let too_new = given.iter().position(|e| at(e) > now + DAY / 12);
    call.cloud.shared.logs(|logs| {
        group(logs, required(input, "logGroupName"))?
            .streams
            .get(required(input, "logStreamName"))
            .ok_or_else(no_stream)?;
        let end = too_new.unwrap_or(given.len());
        let mut events = Vec::new();
        for event in &given[too_old.min(end)..end] {
            let id = logs.number();
            events.push(Event { id, at: at(event), ingested: now, message: required(event, "message").to_owned() });
        }
        let group = group(logs, required(input, "logGroupName"))?;
        let stream = group.streams.get_mut(required(input, "logStreamName")).ok_or_else(no_stream)?;
        stream.events.extend(events);
        let rejected = (too_old > 0 || too_new.is_some()).then(|| {
            without_nulls(json!({"tooOldLogEventEndIndex": (too_old > 0).then_some(too_old),
                "tooNewLogEventStartIndex": too_new}))
        });
        Ok(without_nulls(json!({"nextSequenceToken": "0", "rejectedLogEventsInfo": rejected})))
    })
}

fn filter_events(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = group_name(input)?;
    let pattern = Pattern::parse(text(input, "filterPattern").unwrap_or_default())
        .map_err(|problem| invalid(format!("Invalid filter pattern: {problem}")))?;
    let names = strings(input, "logStreamNames");
    let prefix = text(input, "logStreamNamePrefix");
    if !names.is_empty() && prefix.is_some() {
        return Err(invalid("Give either logStreamNames or logStreamNamePrefix, not both."));
    }
    let (start, end) = (input["startTime"].as_i64().unwrap_or(0), input["endTime"].as_i64().unwrap_or(i64::MAX));
    let limit = usize::try_from(input["limit"].as_u64().unwrap_or(10_000)).unwrap_or(10_000);
    let token = match text(input, "nextToken") {
        None => 0,
        Some(token) => token
            .strip_prefix("sbx-")
            .and_then(|n| n.parse::<usize>().ok())
            .ok_or_else(|| invalid("The specified nextToken is invalid."))?,
    };
    call.cloud.shared.logs(|logs| {
        let group = group(logs, &name)?;
        if let Some(missing) = names.iter().find(|n| !group.streams.contains_key(*n)) {
            return Err(ApiError::new(
                "ResourceNotFoundException",
                format!("The specified log stream does not exist: {missing}"),
            ));
        }
        let meant =
            |n: &str| (names.is_empty() || names.iter().any(|w| w == n)) && prefix.is_none_or(|p| n.starts_with(p));
        let streams = group.streams.iter().filter(|(n, _)| meant(n));
        let mut all: Vec<(&String, &Event)> = streams
            .flat_map(|(n, s)| s.events.iter().map(move |e| (n, e)))
            .filter(|(_, e)| (start..=end).contains(&e.at))
            .collect();
        all.sort_by_key(|(_, e)| (e.at, e.id));
        let (mut events, mut next) = (Vec::new(), None);
        for (n, (stream, event)) in all.iter().enumerate().skip(token) {
            if events.len() == limit || n == token + LOOKED_AT {
                next = Some(format!("sbx-{n}"));
                break;
            }
            if pattern.matches(&event.message) {
                events.push(json!({"logStreamName": stream, "timestamp": event.at, "message": event.message,
                    "ingestionTime": event.ingested, "eventId": event_id(event)}));
            }
        }
        Ok(without_nulls(json!({"events": events, "searchedLogStreams": [], "nextToken": next})))
    })
}

fn event_id(event: &Event) -> String {
    format!("{:020}{:036}", event.at, event.id)
}

/// Tokens are never null; the end is where the token stays the same.
fn get_events(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = group_name(input)?;
    let (start, end) = (input["startTime"].as_i64().unwrap_or(0), input["endTime"].as_i64().unwrap_or(i64::MAX));
    let limit = usize::try_from(input["limit"].as_u64().unwrap_or(10_000)).unwrap_or(10_000);
    let head = input["startFromHead"].as_bool().unwrap_or(false);
    call.cloud.shared.logs(|logs| {
        let stream = group(logs, &name)?.streams.get(required(input, "logStreamName")).ok_or_else(no_stream)?;
        let all: Vec<&Event> = stream.events.iter().filter(|e| (start..end).contains(&e.at)).collect();
        let (from, to) = match text(input, "nextToken").and_then(|t| t.split_once('/')) {
            Some(("f", n)) => {
                let from = n.parse::<usize>().map_err(|_| invalid("The specified nextToken is invalid."))?;
                (from.min(all.len()), (from + limit).min(all.len()))
            }
            Some(("b", n)) => {
                let to = n.parse::<usize>().map_err(|_| invalid("The specified nextToken is invalid."))?.min(all.len());
                (to.saturating_sub(limit), to)
            }
            Some(_) => return Err(invalid("The specified nextToken is invalid.")),
            None if head => (0, limit.min(all.len())),
            None => (all.len().saturating_sub(limit), all.len()),
        };
        let events: Vec<Value> = all[from..to]
            .iter()
            .map(|e| json!({"timestamp": e.at, "message": e.message, "ingestionTime": e.ingested}))
            .collect();
        Ok(json!({"events": events, "nextForwardToken": format!("f/{to}"), "nextBackwardToken": format!("b/{from}")}))
    })
}

fn limit(input: &Value) -> Result<usize, ApiError> {
    let limit = input["limit"].as_u64().unwrap_or(50);
    if !(1..=50).contains(&limit) {
        return Err(invalid("Value at 'limit' must be between 1 and 50"));
    }
    Ok(usize::try_from(limit).unwrap_or(50))
}

fn describe_groups(call: &mut Call<'_>, input: &Value) -> Reply {
    let prefix = text(input, "logGroupNamePrefix").unwrap_or_default();
    let state = &*call.state;
    let all: Vec<Value> = call.cloud.shared.logs(|logs| {
        let meant = logs.groups.iter().filter(|(name, _)| name.starts_with(prefix));
        meant
            .map(|(name, group)| {
                let bytes: usize =
                    group.streams.values().flat_map(|s| &s.events).map(|e| e.message.len() + OVERHEAD).sum();
                let arn = state.arn("logs", &format!("log-group:{name}"));
                json!({"logGroupName": name, "creationTime": group.created, "metricFilterCount": 0,
                    "arn": format!("{arn}:*"), "logGroupArn": arn, "storedBytes": bytes, "logGroupClass": "STANDARD"})
            })
            .collect()
    });
    let (items, next) = page(all, text(input, "nextToken"), limit(input)?)
        .map_err(|()| invalid("The specified nextToken is invalid."))?;
    Ok(without_nulls(json!({"logGroups": items, "nextToken": next})))
}

fn describe_streams(call: &mut Call<'_>, input: &Value) -> Reply {
    let name = group_name(input)?;
    let by_time = text(input, "orderBy") == Some("LastEventTime");
    let prefix = text(input, "logStreamNamePrefix");
    if by_time && prefix.is_some() {
        return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let arn = call.state.arn("logs", &format!("log-group:{name}"));
    let mut all: Vec<(i64, Value)> = call.cloud.shared.logs(|logs| {
        let streams = &group(logs, &name)?.streams;
        let meant = streams.iter().filter(|(n, _)| prefix.is_none_or(|p| n.starts_with(p)));
        Ok::<_, ApiError>(
            meant
                .map(|(n, s)| {
                    let (first, last) = (s.events.iter().map(|e| e.at).min(), s.events.iter().map(|e| e.at).max());
                    let shown = without_nulls(json!({"logStreamName": n, "creationTime": s.created,
                        "firstEventTimestamp": first, "lastEventTimestamp": last,
                        "lastIngestionTime": s.events.last().map(|e| e.ingested),
                        "arn": format!("{arn}:log-stream:{n}"), "storedBytes": 0, "uploadSequenceToken": "0"}));
                    (last.unwrap_or(0), shown)
                })
                .collect(),
        )
    })?;
    if by_time {
        all.sort_by_key(|(last, _)| *last);
    }
    if input["descending"] == true {
        all.reverse();
    }
    let all = all.into_iter().map(|(_, shown)| shown).collect();
    let (items, next) = page(all, text(input, "nextToken"), limit(input)?)
        .map_err(|()| invalid("The specified nextToken is invalid."))?;
    Ok(without_nulls(json!({"logStreams": items, "nextToken": next})))
}
