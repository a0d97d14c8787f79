//! CloudWatch Logs: what services and the platform print. Read only; an absent group is an absence, not an error.

use aws_config::SdkConfig;
use jiff::Timestamp;

use super::Deadlines;
use crate::error::{Class, CloudError};

const SERVICE: &str = "CloudWatch Logs";
/// Empty pages with a token are normal; so many in a row are given up on until the next call.
const PAGES: usize = 20;

/// The client.
#[derive(Clone, Debug)]
pub struct Logs(aws_sdk_cloudwatchlogs::Client, Deadlines);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The vendor's id of it: events can come twice and out of order.
    pub id: String,
    /// When it was written.
    pub at: Timestamp,
    /// The stream it is in.
    pub stream: String,
    /// What it says.
    pub message: String,
}

/// What to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The group.
    pub group: String,
    /// Streams whose names begin so; empty for all.
    pub stream_prefix: String,
    /// From here on.
    pub since: Option<Timestamp>,
    /// CloudWatch filter pattern; empty for everything.
    pub pattern: String,
    /// At most so many lines.
    pub limit: usize,
}

impl Logs {
    pub(super) fn new(config: &SdkConfig, deadlines: Deadlines) -> Self {
        Self(aws_sdk_cloudwatchlogs::Client::new(config), deadlines)
    }

    /// FilterLogEvents, oldest first, until the limit or the end. A group that is not there yet has no lines:
    /// App Runner makes its groups with the first line.
    pub async fn lines(&self, query: &Query) -> Result<Vec<Line>, CloudError> {
        let (mut lines, mut token): (Vec<Line>, Option<String>) = (Vec::new(), None);
        for _ in 0..PAGES {
            let answer = self
                .1
                .read(SERVICE, "FilterLogEvents", || {
                    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
                    self.0
                        .filter_log_events()
                        .log_group_name(&query.group)
                        .set_log_stream_name_prefix(some(&query.stream_prefix))
                        .set_filter_pattern(some(&query.pattern))
                        .set_start_time(query.since.map(Timestamp::as_millisecond))
                        .set_next_token(token.clone())
                        .send()
                })
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if error.class == Class::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            lines.extend(answer.events.unwrap_or_default().into_iter().filter_map(|event| {
                Some(Line {
                    id: event.event_id?,
                    at: Timestamp::from_millisecond(event.timestamp?).ok()?,
                    stream: event.log_stream_name.unwrap_or_default(),
                    message: event.message.unwrap_or_default(),
                })
            }));
            token = answer.next_token;
            if token.is_none() || lines.len() >= query.limit {
                break;
            }
        }
        lines.truncate(query.limit);
        Ok(lines)
    }
}
