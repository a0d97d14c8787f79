//! The one door to Redis: a shared connection made when it is needed, with the deadlines of the runbooks (connect 5 s,
//! command 2 s). It retries once on a connection that turned out to be closed, and otherwise fails fast: there is no
//! copy of a session in this process. It must not log a password.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, RedisError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::session::{Session, key};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failed attempt nobody tries again for this long: waiting requests fail at once instead of queueing up.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Why a session could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// No variable says where Redis is.
    #[error("REDIS_URL environment variable is not set")]
    NotConfigured,
    /// Connecting failed a moment ago.
    #[error("Redis is not connected: {0}")]
    NotConnected(String),
    /// Redis did not answer, or with an error.
    #[error("Redis client error: {0}")]
    Redis(#[from] RedisError),
    /// What is stored is not a session.
    #[error("a stored session cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

enum Link {
    Down { since: Option<Instant>, why: String },
    Up { generation: u64, connection: MultiplexedConnection },
}

struct Remote {
    client: Client,
    address: String,
    scheme: &'static str,
    link: Mutex<Link>,
    generations: AtomicU64,
}

/// A handle on the session store, cheap to clone.
#[derive(Clone)]
pub(crate) struct Store(Option<Arc<Remote>>);

impl Store {
    /// A store that connects when it is first needed.
    pub(crate) fn new(info: Option<ConnectionInfo>) -> Self {
        let Some(info) = info else {
            println!("[Redis] CRITICAL: REDIS_URL environment variable is not set");
            return Self(None);
        };
        let address = info.addr().to_string();
        let scheme = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) { "rediss" } else { "redis" };
        let link = Mutex::new(Link::Down { since: None, why: String::new() });
        match Client::open(info) {
            Ok(client) => {
                Self(Some(Arc::new(Remote { client, address, scheme, link, generations: AtomicU64::new(0) })))
            }
            Err(error) => {
                println!("[Redis] Failed to initialize Redis: {error}");
                Self(None)
            }
        }
    }

    /// Connects before the first request comes, if it can.
    pub(crate) async fn warm_up(&self) {
        if let Some(remote) = &self.0 {
            // The reason of a failure is in the log; requests will try again.
            let _ = remote.connection().await;
        }
    }

    /// Where sessions are kept, without credentials.
    pub(crate) fn address(&self) -> Option<&str> {
        self.0.as_deref().map(|remote| remote.address.as_str())
    }

    /// Creates or replaces a session; it lives `ttl` seconds from now.
    pub(crate) async fn create(&self, id: &str, session: &Session, ttl: u64) -> Result<(), StoreError> {
        let value = serde_json::to_string(session)?;
        let () = self.run(Cmd::new().arg("SET").arg(key(id)).arg(value).arg("EX").arg(ttl)).await?;
        Ok(())
    }

    /// Replaces a session that still exists, with a full lifetime; `false` if it is gone.
    pub(crate) async fn save(&self, id: &str, session: &Session, ttl: u64) -> Result<bool, StoreError> {
        let value = serde_json::to_string(session)?;
        let done: Option<String> =
            self.run(Cmd::new().arg("SET").arg(key(id)).arg(value).arg("EX").arg(ttl).arg("XX")).await?;
        Ok(done.is_some())
    }

    /// Reads a session.
    pub(crate) async fn load(&self, id: &str) -> Result<Option<Session>, StoreError> {
        let value: Option<String> = self.run(Cmd::new().arg("GET").arg(key(id))).await?;
        Ok(value.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// The seconds a session still has; negative if there is none.
    pub(crate) async fn remaining(&self, id: &str) -> Result<i64, StoreError> {
        self.run(Cmd::new().arg("TTL").arg(key(id))).await
    }

    /// Gives a session `ttl` seconds from now, its value untouched; `false` if it is gone.
    pub(crate) async fn touch(&self, id: &str, ttl: u64) -> Result<bool, StoreError> {
        self.run(Cmd::new().arg("EXPIRE").arg(key(id)).arg(ttl)).await
    }

    /// Ends a session; `false` if there was none.
    pub(crate) async fn end(&self, id: &str) -> Result<bool, StoreError> {
        self.run(Cmd::new().arg("DEL").arg(key(id))).await
    }

    /// Writes and reads back a short-lived value of this instance's own.
    pub(crate) async fn probe(&self, instance: &str) -> Result<bool, StoreError> {
        let (name, nonce) = (format!("health:{instance}"), format!("{:016x}", rand::random::<u64>()));
        let () = self.run(Cmd::new().arg("SET").arg(&name).arg(&nonce).arg("EX").arg(10)).await?;
        let read: Option<String> = self.run(Cmd::new().arg("GET").arg(&name)).await?;
        Ok(read.as_deref() == Some(nonce.as_str()))
    }

    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let remote = self.0.as_deref().ok_or(StoreError::NotConfigured)?;
        match remote.attempt(command).await {
            // The server closed an idle or retired connection: every command here may be sent twice.
            Err(StoreError::Redis(error)) if error.is_connection_dropped() && !error.is_timeout() => {
                remote.attempt(command).await
            }
            outcome => outcome,
        }
    }
}

impl Remote {
    async fn attempt<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let (generation, mut connection) = self.connection().await?;
        let outcome = command.query_async(&mut connection).await;
        if let Err(error) = &outcome
            && (error.is_io_error() || error.is_unrecoverable_error())
        {
            let mut link = self.link.lock().await;
            // Many requests share a connection and see it break; only the first may replace it.
            if matches!(&*link, Link::Up { generation: current, .. } if *current == generation) {
                println!("[Redis] Redis client error: {error}");
                *link = Link::Down { since: None, why: error.to_string() };
            }
        }
        Ok(outcome?)
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        let mut link = self.link.lock().await;
        match &*link {
            Link::Up { generation, connection } => return Ok((*generation, connection.clone())),
            Link::Down { since: Some(since), why } if since.elapsed() < RECONNECT_PAUSE => {
                return Err(StoreError::NotConnected(why.clone()));
            }
            Link::Down { .. } => {}
        }
        println!("[Redis] Connecting to: {}://****@{}", self.scheme, self.address);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT));
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => {
                println!("[Redis] Connected successfully to {}", self.address);
                let generation = self.generations.fetch_add(1, Ordering::Relaxed);
                *link = Link::Up { generation, connection: connection.clone() };
                Ok((generation, connection))
            }
            Err(error) => {
                let reason = if error.is_timeout() { "Connection timeout".to_owned() } else { error.to_string() };
                println!("[Redis] Redis initialization error: Error: {reason}");
                *link = Link::Down { since: Some(Instant::now()), why: reason };
                Err(error.into())
            }
        }
    }
}
