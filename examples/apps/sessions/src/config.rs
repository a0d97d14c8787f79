//! What the environment says: the port, the lifetime of a session and where Redis is, in any of the spellings in use.
//! Pure: the environment is an argument. No message of its errors may repeat a value, they can hold a password.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

const DEFAULT_PORT: u16 = 8080;
const DEFAULT_REDIS_PORT: u16 = 6379;
const DEFAULT_SESSION_TTL_SECONDS: u64 = 2 * 60 * 60;

/// Everything the service is told from outside.
pub(crate) struct Config {
    /// The address to listen on.
    pub(crate) bind: Ipv4Addr,
    /// The port to listen on; 0 asks the kernel for one.
    pub(crate) port: u16,
    /// Lifetime of a session in seconds, counted anew at every click and renewal.
    pub(crate) session_ttl: u64,
    /// Where sessions are kept; `None` = not configured, every session request is refused with 503.
    pub(crate) redis: Option<ConnectionInfo>,
}

/// Why the environment cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A number was expected.
    #[error("{0} is not a valid number: correct the variable")]
    NotANumber(&'static str),
    /// An IPv4 address was expected.
    #[error("{0} is not an IPv4 address: correct the variable")]
    NotAnAddress(&'static str),
    /// Not a Redis URL.
    #[error("REDIS_URL is not a URL of the form redis[s]://user:password@host:port/database: correct the variable")]
    RedisUrl,
}

impl Config {
    /// Reads `PORT`, `BIND`, `SESSION_TTL` and one of `REDIS_URL`, `REDIS_ENDPOINT`/… and `REDIS_HOST`/….
    pub(crate) fn from_environment(env: &HashMap<String, String>) -> Result<Self, ConfigError> {
        let bind = match env.get("BIND") {
            Some(text) => text.parse().map_err(|_| ConfigError::NotAnAddress("BIND"))?,
            None => Ipv4Addr::UNSPECIFIED,
        };
        let port = number(env, "PORT", DEFAULT_PORT)?;
        let session_ttl = number(env, "SESSION_TTL", DEFAULT_SESSION_TTL_SECONDS)?;
        Ok(Self { bind, port, session_ttl, redis: redis(env)? })
    }
}

fn number<T: std::str::FromStr>(
    env: &HashMap<String, String>,
    name: &'static str,
    default: T,
) -> Result<T, ConfigError> {
    env.get(name).map_or(Ok(default), |text| text.trim().parse().map_err(|_| ConfigError::NotANumber(name)))
}

fn redis(env: &HashMap<String, String>) -> Result<Option<ConnectionInfo>, ConfigError> {
    if let Some(url) = env.get("REDIS_URL") {
        return from_url(url).map(Some);
    }
    // An endpoint is a managed store: TLS unless it is turned off. A bare host is not: TLS when it is turned on.
    for (name, tls_by_default) in [("REDIS_ENDPOINT", true), ("REDIS_HOST", false)] {
        if let Some(host) = env.get(name) {
            let port = number(env, "REDIS_PORT", DEFAULT_REDIS_PORT)?;
            let tls = env.get("REDIS_TLS").map_or(tls_by_default, |text| truthy(text));
            return from_parts(host, port, tls, env.get("REDIS_PASSWORD").map(String::as_str)).map(Some);
        }
    }
    Ok(None)
}

fn from_url(url: &str) -> Result<ConnectionInfo, ConfigError> {
    // `ssl_cert_reqs` and the like are for Python's clients.
    let bare = url.split_once('?').map_or(url, |(before, _)| before);
    let info = bare.into_connection_info().map_err(|_| ConfigError::RedisUrl)?;
    // Upstash speaks TLS only, whatever the scheme says.
    match info.addr() {
        ConnectionAddr::Tcp(host, port) if host.ends_with(".upstash.io") => {
            let addr = tls_address(host.clone(), *port);
            Ok(info.set_addr(addr))
        }
        _ => Ok(info),
    }
}

fn from_parts(host: &str, port: u16, tls: bool, password: Option<&str>) -> Result<ConnectionInfo, ConfigError> {
    let host = host.trim().to_owned();
    let addr = if tls { tls_address(host, port) } else { ConnectionAddr::Tcp(host, port) };
    let info = addr.into_connection_info().map_err(|_| ConfigError::RedisUrl)?;
    let settings = RedisConnectionInfo::default();
    Ok(info.set_redis_settings(match password {
        Some(password) if !password.is_empty() => settings.set_password(password),
        _ => settings,
    }))
}

fn tls_address(host: String, port: u16) -> ConnectionAddr {
    ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
}

fn truthy(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn redis_of(pairs: &[(&str, &str)]) -> ConnectionInfo {
        Config::from_environment(&env(pairs)).unwrap().redis.unwrap()
    }

    fn is_tls(info: &ConnectionInfo) -> bool {
        matches!(info.addr(), ConnectionAddr::TcpTls { .. })
    }

    #[test]
    fn an_empty_environment_has_defaults_and_no_store() {
        let config = Config::from_environment(&env(&[])).unwrap();
        assert_eq!((config.port, config.session_ttl), (8080, 7200));
        assert!(config.redis.is_none());
    }

    #[test]
    fn a_url_is_decoded_and_foreign_parameters_are_dropped() {
        let info = redis_of(&[("REDIS_URL", "rediss://default:a%40b%3A@x.upstash.io:6380/0?ssl_cert_reqs=none")]);
        assert!(is_tls(&info));
        assert_eq!(info.addr().to_string(), "x.upstash.io:6380");
        assert_eq!(info.redis_settings().username(), Some("default"));
        assert_eq!(info.redis_settings().password(), Some("a@b:"));
    }

    #[test]
    fn tls_is_implied_for_upstash_and_for_nobody_else() {
        assert!(is_tls(&redis_of(&[("REDIS_URL", "redis://default:p@x.upstash.io:6379")])));
        assert!(!is_tls(&redis_of(&[("REDIS_URL", "redis://cache.internal:6379")])));
    }

    #[test]
    fn an_endpoint_has_tls_unless_told_otherwise_and_a_host_only_if_told() {
        let master = "master.audio.u6km1j.use1.cache.amazonaws.com";
        assert!(is_tls(&redis_of(&[("REDIS_ENDPOINT", master)])));
        assert!(!is_tls(&redis_of(&[("REDIS_ENDPOINT", master), ("REDIS_TLS", "false")])));
        assert!(!is_tls(&redis_of(&[("REDIS_HOST", "localhost")])));
        let told =
            redis_of(&[("REDIS_HOST", "h"), ("REDIS_PORT", "7000"), ("REDIS_TLS", "true"), ("REDIS_PASSWORD", "s")]);
        assert!(is_tls(&told));
        assert_eq!(told.addr().to_string(), "h:7000");
        assert_eq!(told.redis_settings().password(), Some("s"));
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_value() {
        let error = Config::from_environment(&env(&[("REDIS_URL", "http://user:canary@host")])).err().unwrap();
        assert_eq!(error, ConfigError::RedisUrl);
        assert!(!error.to_string().contains("canary"));
        assert_eq!(Config::from_environment(&env(&[("PORT", "x")])).err(), Some(ConfigError::NotANumber("PORT")));
    }
}
