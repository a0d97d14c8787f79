//! From a check as it is written to a check that cannot be wrong, naming every violation at once: field, rule, remedy.
//! Pure. Bounds that stand in the schema are checked again: an object may be older than a rule.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

mod request;

use self::request::request;
use super::spec::{
    BudgetSpec, CheckSpec, CommandBudgetSpec, ConnectionBudgetSpec, LatencySpec, LogsSpec, Method, RedisSpec,
    RequestSpec, SessionSpec, Tls, TokenSpec,
};
use super::{
    BudgetCheck, Check, CommandBudget, ConnectionBudget, Header, HeaderSource, Kind, Latency, LogsCheck, RedisCheck,
    Request, SessionCheck, Stage, Token,
};

const KINDS: &str = "redis, http, session, logs, budget";
/// A check with all its tries may take this long.
const LONGEST_CHECK: Duration = Duration::from_mins(10);

/// What is wrong with one check. Each entry reads `field: problem; remedy`.
pub(super) struct Violations {
    at: String,
    pub(super) found: Vec<String>,
}

impl Violations {
    pub(super) fn new(at: &str) -> Self {
        Self { at: at.to_owned(), found: Vec::new() }
    }

    pub(super) fn add(&mut self, field: &str, text: impl Display) {
        let dot = if field.is_empty() { "" } else { "." };
        self.found.push(format!("{}{dot}{field}: {text}", self.at));
    }

    fn number<T: PartialOrd + Copy + Display>(
        &mut self,
        field: &str,
        value: Option<T>,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let value = value?;
        if !range.contains(&value) {
            self.add(field, format_args!("{value} is out of range; use {} to {}", range.start(), range.end()));
        }
        Some(value)
    }

    fn duration(&mut self, field: &str, text: Option<&String>, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = text?;
        match duration(text) {
            Some(value) if range.contains(&value) => Some(value),
            Some(_) => {
                self.add(
                    field,
                    format_args!("is out of range; use {} to {}", shown(*range.start()), shown(*range.end())),
                );
                None
            }
            None => {
                self.add(field, "is not a duration; write it as 500ms, 5s or 1m30s");
                None
            }
        }
    }

    fn length(&mut self, field: &str, length: usize, range: RangeInclusive<usize>, what: &str) {
        if !range.contains(&length) {
            self.add(field, format_args!("has {length} {what}; use {} to {}", range.start(), range.end()));
        }
    }

    fn missing(&mut self, field: &str, remedy: &str) {
        self.add(field, format_args!("is missing; {remedy}"));
    }
}

/// A duration as people write it, in the largest unit that has no rest.
fn shown(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_millis());
    if millis % 1000 != 0 {
        format!("{millis}ms")
    } else if seconds == 0 || seconds % 60 != 0 {
        format!("{seconds}s")
    } else if seconds % 3600 != 0 {
        format!("{}m", seconds / 60)
    } else {
        format!("{}h", seconds / 3600)
    }
}

/// Seconds and their kin: `500ms`, `5s`, `1m30s`, `2h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let number: u32 = if number.len() <= 7 { number.parse().ok()? } else { return None };
        let base = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return None,
        };
        total = total.checked_add(base.checked_mul(number)?)?;
        rest = tail;
    }
    Some(total)
}

/// The check that `spec` describes, or every violation of it.
pub(super) fn check(spec: &CheckSpec, at: &str) -> Result<Check, Vec<String>> {
    let mut violations = Violations::new(at);
    name(&spec.name, &mut violations);
    let kind = kind(spec, &mut violations);
    // The settings are looked at even where the kind is wrong, so that all violations are reported at once.
    let stand_in = || Kind::Budget(BudgetCheck { connections: None, commands: None });
    let mut check = Check::new(&spec.name, kind.unwrap_or_else(stand_in));
    settings(spec, &mut check, &mut violations);
    if violations.found.is_empty() { Ok(check) } else { Err(violations.found) }
}

fn name(name: &str, violations: &mut Violations) {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !(inner && edge(name.chars().next()) && edge(name.chars().next_back()) && name.len() <= 63) {
        violations.add(
            "name",
            "is not a name; write 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end",
        );
    }
}

fn kind(spec: &CheckSpec, violations: &mut Violations) -> Option<Kind> {
    let later = [
        ("webSocket", spec.web_socket.is_some()),
        ("burst", spec.burst.is_some()),
        ("progress", spec.progress.is_some()),
        ("restart", spec.restart.is_some()),
    ];
    let mut refused = false;
    for (kind, _) in later.iter().filter(|(_, used)| *used) {
        violations.add(kind, format_args!("is not offered by this version; use one of {KINDS}"));
        refused = true;
    }
    let kinds = [
        spec.redis.as_ref().map(|redis| Some(self::redis(redis, violations))),
        spec.http.as_ref().map(|http| request("http", http, Method::Get, None, violations).map(Kind::Http)),
        spec.session.as_ref().map(|session| self::session(session, violations)),
        spec.logs.as_ref().map(|logs| Some(self::logs(logs, violations))),
        spec.budget.as_ref().map(|budget| Some(self::budget(budget, violations))),
    ];
    let mut kinds: Vec<_> = kinds.into_iter().flatten().collect();
    match kinds.len() {
        1 if !refused => kinds.pop().flatten(),
        0 if refused => None,
        0 => {
            violations.add("", format_args!("says nothing to look at; set one of {KINDS}"));
            None
        }
        _ => {
            violations.add("", format_args!("looks at several things; split it into one check for each of {KINDS}"));
            None
        }
    }
}

fn settings(spec: &CheckSpec, check: &mut Check, violations: &mut Violations) {
    check.severity = spec.severity.unwrap_or(check.severity);
    check.required = spec.required.unwrap_or(check.required);
    check.expect = spec.expect.unwrap_or(check.expect);
    check.store = spec.store;
    check.consecutive = violations.number("consecutive", spec.consecutive, 1..=20).unwrap_or(check.consecutive);
    // More successes than the default number of tries are asked for: the tries follow.
    check.attempts =
        violations.number("attempts", spec.attempts, 1..=20).unwrap_or(check.attempts.max(check.consecutive));
    if check.consecutive > check.attempts {
        violations.add("consecutive", "is more than attempts; lower it or raise attempts");
    }
    let (shortest, longest) = (Duration::from_millis(100), Duration::from_mins(2));
    check.timeout = violations.duration("timeout", spec.timeout.as_ref(), shortest..=longest).unwrap_or(check.timeout);
    let minute = Duration::from_mins(1);
    check.interval =
        violations.duration("interval", spec.interval.as_ref(), Duration::ZERO..=minute).unwrap_or(check.interval);
    if (check.timeout + check.interval) * check.attempts.min(20) > LONGEST_CHECK {
        violations.add("attempts", "take more than 10m with their timeouts and pauses; lower attempts or timeout");
    }
    if let Some(services) = &spec.services {
        violations.length("services", services.len(), 1..=10, "entries");
        check.services.clone_from(services);
    }
    if let Some(stages) = &spec.stages {
        check.stages = stages.iter().copied().collect();
        stages_suit_the_kind(check, violations);
    }
}

fn stages_suit_the_kind(check: &Check, violations: &mut Violations) {
    if check.stages.is_empty() {
        violations.add("stages", "is empty; name a stage, or set disabled: true");
    }
    let writes = match &check.kind {
        Kind::Http(request) => !request.method.is_safe(),
        Kind::Session(_) => true,
        Kind::Redis(_) | Kind::Logs(_) | Kind::Budget(_) => false,
    };
    if writes && check.stages.contains(&Stage::Rest) {
        violations.add("stages", "must not hold Rest, as a check that writes is made at gates only; remove it");
    }
    let about_a_service = matches!(check.kind, Kind::Http(_) | Kind::Session(_) | Kind::Logs(_));
    if about_a_service && check.stages.contains(&Stage::Target) {
        violations.add("stages", "must not hold Target, as no service uses the new store before the switch; remove it");
    }
}

fn redis(spec: &RedisSpec, violations: &mut Violations) -> Kind {
    let RedisSpec { write, ttl, latency, tls, max_connected_percent } = spec;
    let (shortest, longest) = (Duration::from_secs(5), Duration::from_hours(24));
    let ttl = violations.duration("redis.ttl", ttl.as_ref(), shortest..=longest).unwrap_or(Duration::from_mins(1));
    if ttl.subsec_millis() != 0 {
        violations.add("redis.ttl", "SETEX takes whole seconds; drop the milliseconds");
    }
    let latency = latency.as_ref().and_then(|latency| self::latency(latency, violations));
    Kind::Redis(RedisCheck {
        write: write.unwrap_or(true),
        ttl,
        latency,
        tls: *tls == Some(Tls::Required),
        max_connected_percent: violations.number("redis.maxConnectedPercent", *max_connected_percent, 1..=100),
    })
}

fn latency(spec: &LatencySpec, violations: &mut Violations) -> Option<Latency> {
    let LatencySpec { percentile, max, samples } = spec;
    let percentile = violations.number("redis.latency.percentile", *percentile, 1..=100).unwrap_or(95);
    let samples = violations.number("redis.latency.samples", *samples, 1..=100).unwrap_or(20);
    if max.is_none() {
        violations.missing("redis.latency.max", "set the longest time a PING may take, such as 50ms");
    }
    let range = Duration::from_millis(1)..=Duration::from_secs(10);
    Some(Latency { percentile, max: violations.duration("redis.latency.max", max.as_ref(), range)?, samples })
}

fn session(spec: &SessionSpec, violations: &mut Violations) -> Option<Kind> {
    const BEFORE: &[&str] = &["{random}"];
    const AFTER: &[&str] = &["{token}", "{random}"];
    let SessionSpec { create, token, validate, end, times, grace, instance_header, min_instances } = spec;
    let minute = Duration::from_mins(1);
    let times = violations.number("session.times", *times, 1..=100).unwrap_or(10);
    let grace = violations.duration("session.grace", grace.as_ref(), Duration::ZERO..=minute).unwrap_or_default();
    let min_instances = violations.number("session.minInstances", *min_instances, 1..=25).unwrap_or(1);
    if min_instances > 1 && instance_header.is_none() {
        violations
            .add("session.minInstances", "needs session.instanceHeader, by which instances are told apart; set it");
    }
    if min_instances > times {
        violations.add("session.minInstances", "is more than session.times; raise times");
    }
    let token = self::token(token.as_ref(), violations);
    let end = end.as_ref().map(|end| request("session.end", end, Method::Post, Some(AFTER), violations));
    let required = |field: &str, spec: &Option<RequestSpec>, method, template, violations: &mut Violations| {
        if spec.is_none() {
            violations.missing(field, "set its path");
        }
        spec.as_ref().and_then(|spec| request(field, spec, method, Some(template), violations))
    };
    let create = required("session.create", create, Method::Post, BEFORE, violations);
    let validate = required("session.validate", validate, Method::Get, AFTER, violations);
    let (create, validate, token) = (create?, validate?, token?);
    if matches!(token, Token::Json(_)) && !carries_token(&validate) {
        violations.add(
            "session.validate",
            "does not say where the session goes; put {token} into its path, a header or its body",
        );
    }
    let end = match end {
        Some(end) => Some(end?),
        None => None,
    };
    let instance_header = instance_header.as_ref().map(|name| name.to_ascii_lowercase());
    Some(Kind::Session(Box::new(SessionCheck {
        create,
        token,
        validate,
        end,
        times,
        grace,
        instance_header,
        min_instances,
    })))
}

fn carries_token(request: &Request) -> bool {
    let plain = |header: &Header| match &header.source {
        HeaderSource::Plain(value) => value.contains("{token}"),
        HeaderSource::Secret { .. } => false,
    };
    request.path.contains("{token}")
        || request.body.as_ref().is_some_and(|body| body.text.contains("{token}"))
        || request.headers.iter().any(plain)
}

fn token(spec: Option<&TokenSpec>, violations: &mut Violations) -> Option<Token> {
    match spec {
        Some(TokenSpec { cookie: Some(cookie), json: None }) => Some(Token::Cookie(cookie.clone())),
        Some(TokenSpec { cookie: None, json: Some(json) }) => Some(Token::Json(json.clone())),
        Some(_) => {
            violations.add("session.token", "must have exactly one of cookie and json; keep one");
            None
        }
        None => {
            violations.missing("session.token", "say where the session is: cookie: its name, or json: its place");
            None
        }
    }
}

fn logs(spec: &LogsSpec, violations: &mut Violations) -> Kind {
    let LogsSpec { group, appear, absent } = spec;
    let mut texts = |field: &str, texts: &Option<Vec<String>>| {
        let texts = texts.clone().unwrap_or_default();
        violations.length(field, texts.len(), 0..=16, "entries");
        for text in &texts {
            violations.length(field, text.len(), 1..=256, "bytes in a text");
            if text.chars().any(char::is_control) {
                violations.add(field, "holds a control character; write one line of visible text");
            }
        }
        texts
    };
    let (appear, absent) = (texts("logs.appear", appear), texts("logs.absent", absent));
    if appear.is_empty() && absent.is_empty() {
        violations.add("logs", "looks for nothing; set appear or absent");
    }
    Kind::Logs(LogsCheck { group: group.unwrap_or_default(), appear, absent })
}

fn budget(spec: &BudgetSpec, violations: &mut Violations) -> Kind {
    let BudgetSpec { connections, commands } = spec;
    if connections.is_none() && commands.is_none() {
        violations.add("budget", "compares nothing; set connections: {} or commands: {}");
    }
    let connections = connections.as_ref().map(|spec| {
        let ConnectionBudgetSpec { per_instance, instances, limit, max_percent } = spec;
        ConnectionBudget {
            per_instance: violations.number("budget.connections.perInstance", *per_instance, 1..=10_000),
            instances: violations.number("budget.connections.instances", *instances, 1..=1_000),
            limit: violations.number("budget.connections.limit", *limit, 1..=1_000_000),
            max_percent: violations.number("budget.connections.maxPercent", *max_percent, 1..=100).unwrap_or(100),
        }
    });
    let commands = commands.as_ref().map(|spec| {
        let CommandBudgetSpec { per_day, limit_per_day, max_percent } = spec;
        let trillion = 1_000_000_000_000;
        CommandBudget {
            per_day: violations.number("budget.commands.perDay", *per_day, 1..=trillion),
            limit_per_day: violations.number("budget.commands.limitPerDay", *limit_per_day, 1..=trillion),
            max_percent: violations.number("budget.commands.maxPercent", *max_percent, 1..=100).unwrap_or(100),
        }
    });
    Kind::Budget(BudgetCheck { connections, commands })
}

#[cfg(test)]
mod tests;
