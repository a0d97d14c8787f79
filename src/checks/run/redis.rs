//! One look at the store: PING and INFO, which vendors do not bill, and at gates a key of our own.
//! Touches no key but its own, whose prefix the copier leaves out, and nothing at all at rest.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError, TlsCertificates, cmd};
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Context, Reach, RedisTarget, Seen};
use crate::checks::evidence::{explained, scrubbed};
use crate::checks::{Latency, Outcome, RedisCheck, Stage};

/// Where the probe's key lives; everything below `__sessionbackend:` is left out of a copy.
const PREFIX: &str = "__sessionbackend:probe:";
/// How much later than its SETEX a TTL may be read.
const TTL_SLACK: i64 = 5;

/// Looks at the context's store once; `limit` is for the whole look.
pub(super) async fn probe(check: &RedisCheck, limit: Duration, stage: Stage, context: &Context) -> Seen {
    let Some(store) = &context.store else {
        return Seen::skipped("there is no Redis to look at: the store is disabled");
    };
    if check.tls && !store.address.tls {
        return Seen::new(
            Outcome::Broken,
            "the connection is not TLS: use rediss://, or turn on encryption in transit",
        );
    }
    let deadline = Instant::now() + limit;
    if let Err(seen) = reach(store, limit / 2).await {
        return seen;
    }
    let hangs = |why: &str| {
        let text = format!("the host accepts connections and did not answer in {} ms: {why}", limit.as_millis());
        Seen::new(Outcome::Broken, text)
    };
    let trouble = |trouble: Trouble| trouble.seen(&context.secret_values());
    let mut connection = match timeout_at(deadline, dial(store)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return trouble(error),
        // A Redis without TLS takes the handshake for the beginning of a line and waits for its end.
        Err(_) if store.address.tls => return hangs("its port may not speak TLS, or the store hangs"),
        Err(_) => return hangs("the store hangs or is overloaded"),
    };
    match timeout_at(deadline, look(check, store, &mut connection, stage)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => trouble(error),
        Err(_) => hangs("the store hangs or is overloaded"),
    }
}

/// Whether the host accepts a connection. What is not even reached says nothing about the store: the fault may be ours.
async fn reach(store: &RedisTarget, limit: Duration) -> Result<(), Seen> {
    let dialled = timeout(limit, TcpStream::connect((store.address.host.as_str(), store.address.port))).await;
    let evidence = match dialled {
        Ok(Ok(_)) => return Ok(()),
        // Somebody answered, with a refusal.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(Seen::new(Outcome::Broken, explained("the store refuses connections", "connection refused")));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "connection timed out".to_owned(),
    };
    Err(match store.reach {
        Reach::Vpc => Seen::skipped("not reachable from the operator: the store is in a VPC"),
        Reach::Internet => Seen::new(Outcome::Unclear, explained("the store is not reached from here", &evidence)),
    })
}

/// What went wrong, and at which command.
struct Trouble {
    at: &'static str,
    error: RedisError,
}

impl Trouble {
    fn at(at: &'static str) -> impl Fn(RedisError) -> Self {
        move |error| Self { at, error }
    }

    /// The server's own words where there are any: code and detail, as it sent them.
    fn evidence(&self) -> String {
        match (self.error.code(), self.error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => self.error.to_string(),
        }
    }

    fn seen(&self, secrets: &[&str]) -> Seen {
        let Self { at, error } = self;
        let evidence = self.evidence();
        if error.code().is_none() && error.is_connection_dropped() {
            // The words of a dropped connection depend on the moment it dropped at.
            let seen = format!("the connection was closed at {at}");
            return Seen::new(Outcome::Broken, explained(&seen, &format!("{evidence}; connection closed by server")));
        }
        let unknown = evidence.to_ascii_lowercase().contains("unknown command");
        let outcome = if unknown { Outcome::Unsupported } else { Outcome::Broken };
        let seen = format!("{at} failed: {}", scrubbed(&evidence, secrets, 160));
        Seen::new(outcome, explained(&seen, &evidence))
    }
}

async fn look(
    check: &RedisCheck,
    store: &RedisTarget,
    connection: &mut MultiplexedConnection,
    stage: Stage,
) -> Result<Seen, Trouble> {
    login(store, connection).await?;
    let (mut faults, mut words) = (Vec::new(), vec!["PING".to_owned()]);
    let samples = check.latency.map_or(1, |latency| latency.samples);
    let times = ping(connection, samples).await?;
    if check.write && stage != Stage::Rest {
        faults.extend(write(connection, check.ttl).await?);
        words.push("SETEX, GET, TTL, DEL".to_owned());
    }
    if let Some(latency) = check.latency {
        let measured = percentile(times, latency.percentile);
        match slow(latency, measured) {
            Some(fault) => faults.push(fault),
            None => words.push(format!("p{} {:.1} ms", latency.percentile, millis(measured))),
        }
    }
    let mut unclear = None;
    if stage == Stage::Rest || check.max_connected_percent.is_some() {
        // Whoever may not read INFO still has a store that works.
        let info: Result<String, _> = cmd("INFO").query_async(connection).await;
        let info = info.unwrap_or_default();
        if field(&info, "role") == Some("slave") {
            faults.push(explained("the endpoint is a replica", "READONLY"));
        }
        match clients(check, store, &info) {
            Clients::Told(text) => words.push(text),
            Clients::TooMany(fault) => faults.push(fault),
            Clients::Unknown(why) if check.max_connected_percent.is_some() => unclear = Some(why),
            Clients::Unknown(_) => {}
        }
    }
    Ok(if !faults.is_empty() {
        Seen::new(Outcome::Broken, faults.join("; "))
    } else if let Some(why) = unclear {
        Seen::new(Outcome::Unclear, why)
    } else {
        Seen::new(Outcome::Works, words.join(", "))
    })
}

/// Connects, with TLS if the address says so; the deadline is the caller's.
async fn dial(store: &RedisTarget) -> Result<MultiplexedConnection, Trouble> {
    let connecting = Trouble::at("the handshake");
    let (host, port) = (store.address.host.clone(), store.address.port);
    let address = if store.address.tls {
        // Two crates of the tree could bring a TLS provider; naming ours keeps rustls from having to guess.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let info = address.into_connection_info().map_err(&connecting)?;
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    let info = info.set_redis_settings(settings);
    let authorities = TlsCertificates { client_tls: None, root_cert: store.authorities.clone() };
    let client = if store.address.tls { Client::build_with_tls(info, authorities) } else { Client::open(info) };
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let client = client.map_err(&connecting)?;
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(connecting)
}

/// Logs in with commands of our own: the client would put words of its own in place of the server's, and a quota that
/// is used up is told in the answer to AUTH.
async fn login(store: &RedisTarget, connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
    if let Some(password) = &store.password {
        let mut auth = cmd("AUTH");
        if let Some(user) = &store.address.user {
            auth.arg(user);
        }
        auth.arg(password.expose_secret()).exec_async(connection).await.map_err(Trouble::at("AUTH"))?;
    }
    if store.address.db != 0 {
        cmd("SELECT").arg(store.address.db).exec_async(connection).await.map_err(Trouble::at("SELECT"))?;
    }
    Ok(())
}

async fn ping(connection: &mut MultiplexedConnection, samples: u32) -> Result<Vec<Duration>, Trouble> {
    let mut times = Vec::new();
    for _ in 0..samples.max(1) {
        let began = Instant::now();
        cmd("PING").exec_async(connection).await.map_err(Trouble::at("PING"))?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// What is wrong with what was read back. The key is deleted whatever happens; should that fail too, it expires.
async fn write(connection: &mut MultiplexedConnection, ttl: Duration) -> Result<Vec<String>, Trouble> {
    let key = format!("{PREFIX}{:032x}", rand::random::<u128>());
    let value = format!("{:016x}", rand::random::<u64>());
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    // The command itself and not SET … EX: it is what sessions libraries send and what an ACL may forbid.
    cmd("SETEX").arg(&key).arg(seconds).arg(&value).exec_async(connection).await.map_err(Trouble::at("SETEX"))?;
    let read: Result<Option<String>, _> = cmd("GET").arg(&key).query_async(connection).await;
    let left: Result<i64, _> = cmd("TTL").arg(&key).query_async(connection).await;
    let gone: Result<i64, _> = cmd("DEL").arg(&key).query_async(connection).await;
    let (read, left, gone) =
        (read.map_err(Trouble::at("GET"))?, left.map_err(Trouble::at("TTL"))?, gone.map_err(Trouble::at("DEL"))?);
    let mut faults = Vec::new();
    match read {
        Some(read) if read == value => {}
        Some(_) => faults.push("GET gave another value than SETEX had set".to_owned()),
        None => faults.push("GET found nothing right after SETEX: writes are lost, or go to another server".to_owned()),
    }
    if !(seconds.saturating_sub(TTL_SLACK)..=seconds).contains(&left) {
        faults.push(format!("TTL is {left} right after SETEX with {seconds}"));
    }
    if gone != 1 {
        faults.push(format!("DEL removed {gone} keys, expected 1"));
    }
    Ok(faults)
}

fn slow(latency: Latency, measured: Duration) -> Option<String> {
    let Latency { percentile, max, samples } = latency;
    (measured > max).then(|| {
        format!("PING p{percentile} of {samples} is {:.1} ms, at most {:.1} ms", millis(measured), millis(max))
    })
}

/// The smallest of `times` that at least `percent` of them do not exceed (nearest rank).
fn percentile(mut times: Vec<Duration>, percent: u32) -> Duration {
    times.sort_unstable();
    let rank = (times.len() * usize::try_from(percent).unwrap_or(100)).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

enum Clients {
    Told(String),
    TooMany(String),
    Unknown(String),
}

fn clients(check: &RedisCheck, store: &RedisTarget, info: &str) -> Clients {
    let number = |name: &str| field(info, name).and_then(|text| text.parse::<u64>().ok());
    let limit = store.connection_limit.map(u64::from).or_else(|| number("maxclients"));
    let (Some(connected), Some(limit)) = (number("connected_clients"), limit) else {
        return Clients::Unknown("the store does not tell its connections or their limit".to_owned());
    };
    let allowed = limit * u64::from(check.max_connected_percent.unwrap_or(100)) / 100;
    if connected > allowed {
        let seen = format!("{connected} of {limit} connections are in use, at most {allowed}");
        return Clients::TooMany(explained(&seen, "max number of clients reached"));
    }
    Clients::Told(format!("{connected} of {limit} connections"))
}

/// A field of an INFO answer.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times: Vec<_> = (1..=20).rev().map(Duration::from_millis).collect();
        let of = |percent| percentile(times.clone(), percent).as_millis();
        assert_eq!((of(1), of(50), of(95), of(96), of(100)), (1, 10, 19, 20, 20));
        assert_eq!(percentile(vec![Duration::from_secs(1)], 1).as_secs(), 1);
    }

    #[test]
    fn a_field_of_info_is_not_mistaken_for_a_longer_one() {
        let info = "# Clients\r\nconnected_clients_normal:9\r\nconnected_clients:3\r\nmaxclients:10\r\nrole:master\r\n";
        assert_eq!(field(info, "connected_clients"), Some("3"));
        assert_eq!(field(info, "role"), Some("master"));
        assert_eq!(field(info, "clients"), None);
    }
}
