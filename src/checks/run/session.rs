//! One session, made once and read many times, each time on a connection of its own: without stickiness another
//! instance answers, and only a shared store knows the session there.
//! Ends the session it made where the check says how; never touches another.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::header::{HeaderMap, SET_COOKIE};
use serde_json::Value;
use tokio::time::Instant;

use super::http::{Received, send};
use super::{Context, Seen, ServiceUnderCheck};
use crate::checks::evidence::explained;
use crate::checks::request::{Placeholders, Request, lookup};
use crate::checks::{Outcome, SessionCheck, Token};

const LONGEST_TOKEN: usize = 4096;
/// Pause between two reads within the grace period.
const GRACE_PAUSE: Duration = Duration::from_millis(250);

/// Makes the session and reads it; `limit` is for each request.
pub(super) async fn probe(
    check: &SessionCheck,
    limit: Duration,
    service: &ServiceUnderCheck,
    context: &Context,
) -> Seen {
    let random = format!("{:016x}", rand::random::<u64>());
    let link = Link { limit, service, context };
    let create = check.create.filled(Placeholders { token: "", random: &random });
    let created = match link.good(&create, None, "the session cannot be created").await {
        Ok(created) => created,
        Err(seen) => return seen,
    };
    let began = Instant::now();
    let token = match captured(&check.token, &created) {
        Ok(token) => token,
        Err(fault) => return Seen::new(Outcome::Broken, fault),
    };
    let values = Placeholders { token: &token, random: &random };
    let cookie = match &check.token {
        Token::Cookie(name) => Some(format!("{name}={token}")),
        Token::Json(_) => None,
    };
    let session = Session { check, link, cookie: cookie.as_deref(), values };
    let read = session.read(began).await;
    // Whatever the reads gave, our session must not stay behind.
    let ended = session.end().await;
    match (read, ended) {
        (Err(seen), _) | (Ok(_), Err(seen)) => seen,
        (Ok(instances), Ok(ended)) => session.verdict(&instances, ended),
    }
}

/// What every request of the session needs.
#[derive(Clone, Copy)]
struct Link<'a> {
    limit: Duration,
    service: &'a ServiceUnderCheck,
    context: &'a Context,
}

impl Link<'_> {
    async fn send(&self, request: &Request, cookie: Option<&str>) -> Result<Received, Seen> {
        send(request, cookie, self.limit, self.service, self.context).await
    }

    /// The answer if it is as expected, else what is wrong with it.
    async fn good(&self, request: &Request, cookie: Option<&str>, otherwise: &str) -> Result<Received, Seen> {
        let received = self.send(request, cookie).await?;
        let faults = received.faults(request);
        if faults.is_empty() {
            return Ok(received);
        }
        let seen = format!("{otherwise}: {}", faults.join("; "));
        Err(Seen::new(received.outcome(request), explained(&seen, &received.evidence())))
    }
}

/// A session that was made.
struct Session<'a> {
    check: &'a SessionCheck,
    link: Link<'a>,
    cookie: Option<&'a str>,
    values: Placeholders<'a>,
}

impl Session<'_> {
    /// The instances that answered, by the header that names them.
    async fn read(&self, began: Instant) -> Result<BTreeSet<String>, Seen> {
        let request = self.check.validate.filled(self.values);
        let mut instances = BTreeSet::new();
        for number in 1..=self.check.times {
            loop {
                let received = self.link.send(&request, self.cookie).await?;
                let faults = received.faults(&request);
                if faults.is_empty() {
                    instances.extend(self.instance(&received.headers));
                    break;
                }
                if began.elapsed() < self.check.grace {
                    tokio::time::sleep(GRACE_PAUSE).await;
                    continue;
                }
                let seen = format!("read {number} of {}: {}", self.check.times, faults.join("; "));
                // A session that one instance made and another does not know is the fault this check is there for.
                return Err(Seen::new(Outcome::Broken, explained(&seen, &received.evidence())));
            }
        }
        Ok(instances)
    }

    fn instance(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(self.check.instance_header.as_ref()?)?;
        Some(String::from_utf8_lossy(value.as_bytes()).chars().take(128).collect())
    }

    /// Ends the session, if the check says how, and sees that it is over.
    async fn end(&self) -> Result<bool, Seen> {
        let Some(end) = &self.check.end else { return Ok(false) };
        self.link.good(&end.filled(self.values), self.cookie, "the session cannot be ended").await?;
        let validate = self.check.validate.filled(self.values);
        let received = self.link.send(&validate, self.cookie).await?;
        if received.faults(&validate).is_empty() {
            return Err(Seen::new(Outcome::Broken, "the session is still valid after its end"));
        }
        Ok(true)
    }

    fn verdict(&self, instances: &BTreeSet<String>, ended: bool) -> Seen {
        let SessionCheck { times, min_instances, instance_header, .. } = self.check;
        let answered = instances.len();
        if answered < usize::try_from(*min_instances).unwrap_or(usize::MAX) && *min_instances > 1 {
            let text = format!(
                "{answered} of {min_instances} instances answered in {times} reads: raise times, or see how many run"
            );
            return Seen::new(Outcome::Unclear, text);
        }
        let by = if instance_header.is_some() { format!(" by {answered} instances") } else { String::new() };
        let end = if ended { ", ended" } else { "" };
        Seen::new(Outcome::Works, format!("created, read {times} times{by}{end}"))
    }
}

fn captured(token: &Token, created: &Received) -> Result<String, String> {
    let found = match token {
        Token::Cookie(name) => {
            cookie(&created.headers, name).ok_or_else(|| format!("the answer sets no cookie {name}"))?
        }
        Token::Json(place) => {
            let body = serde_json::from_slice::<Value>(&created.body).unwrap_or_default();
            match lookup(&body, place) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => return Err(format!("the answer has no session at {place}")),
            }
        }
    };
    let sound = !found.is_empty() && found.len() <= LONGEST_TOKEN && found.chars().all(|c| c.is_ascii_graphic());
    if sound { Ok(found) } else { Err("the session in the answer is empty, too long or no visible ASCII".to_owned()) }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pair = |value: &str| {
        let (found, value) = value.split(';').next()?.split_once('=')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    };
    // A cookie that is set twice is the one set last.
    values.filter_map(pair).next_back()
}
