//! One connection to one database of one store: every command is counted, timed out, and its errors are sorted.
//!
//! It knows what the server can do; it decides nothing. Credentials go in and never come out.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisConnectionInfo, TlsCertificates, Value, aio::MultiplexedConnection,
};
use secrecy::ExposeSecret;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Endpoint,
    error::{CopyError, classify, classify_reply},
};

/// Our connections carry this name, so that they can be told from the application's.
pub(crate) const CLIENT_NAME: &str = "sessionbackend";

/// A key that never exists.
const PROBE: &str = "__sessionbackend:probe";

/// What a server can do for us, found by asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// `PEXPIRETIME` (7.0); without it deadlines are computed from `PTTL` and are only exact to some milliseconds.
    pub(crate) expiretime: bool,
    /// `DUMP`; without it everything but strings is read and written command by command.
    pub(crate) dump: bool,
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    store: Arc<str>,
    spent: Arc<AtomicU64>,
    pub(crate) abilities: Abilities,
    /// Every command is paid for.
    pub(crate) counted: bool,
}

impl Link {
    /// Connects, authenticates, selects and names the connection.
    pub(crate) async fn open(endpoint: &Endpoint, database: u32, spent: Arc<AtomicU64>) -> Result<Self, CopyError> {
        let store = endpoint.name();
        // Credentials are sent below instead of here: the client drops the store's words when it authenticates, and
        // an exhausted quota (which refuses AUTH too) could not be told from a wrong password.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let client = client(endpoint, info)?;
        let config = config(endpoint);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let connection = opening.await.map_err(|error| classify(&store, "connect", &error))?;
        let abilities = Abilities { expiretime: true, dump: true };
        let mut link = Self { connection, store: store.into(), spent, abilities, counted: endpoint.counted };
        if let Some(password) = &endpoint.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &endpoint.user {
                auth.arg(user);
            }
            auth.arg(password.expose_secret());
            link.ask("AUTH", &auth).await?;
        }
        if database != 0 {
            link.ask("SELECT", redis::cmd("SELECT").arg(database)).await?;
        }
        match link.ask("CLIENT SETNAME", redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME)).await {
            // Only the count of the application's connections needs it.
            Ok(_) | Err(CopyError::NotPermitted { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(link)
    }

    /// Finds out what the server can do; whoever reads or writes keys must.
    pub(crate) async fn learn(&mut self) -> Result<(), CopyError> {
        let mut commands = redis::pipe();
        commands.cmd("PEXPIRETIME").arg(PROBE).cmd("DUMP").arg(PROBE);
        let replies = self.ask_all("PEXPIRETIME", &commands).await?;
        let can = |at: usize| !matches!(replies.get(at), Some(Value::ServerError(_)) | None);
        self.abilities = Abilities { expiretime: can(0), dump: can(1) };
        Ok(())
    }

    /// Connects for pushed messages (RESP3). Fails where the server has no RESP3.
    pub(crate) async fn open_push(
        endpoint: &Endpoint,
        spent: Arc<AtomicU64>,
        pushes: mpsc::UnboundedSender<redis::PushInfo>,
    ) -> Result<Self, CopyError> {
        let store = endpoint.name();
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name().set_protocol(ProtocolVersion::RESP3);
        if let Some(user) = &endpoint.user {
            info = info.set_username(user);
        }
        if let Some(password) = &endpoint.password {
            info = info.set_password(password.expose_secret());
        }
        let client = client(endpoint, info)?;
        let config = config(endpoint).set_push_sender(pushes);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let connection = opening.await.map_err(|error| classify(&store, "HELLO", &error))?;
        let abilities = Abilities { expiretime: true, dump: true };
        let mut link = Self { connection, store: store.into(), spent, abilities, counted: endpoint.counted };
        match link.ask("CLIENT SETNAME", redis::cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME)).await {
            Ok(_) | Err(CopyError::NotPermitted { .. }) => Ok(link),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// One command; an error reply is an error. `what` names it without arguments.
    pub(crate) async fn ask(&mut self, what: &str, command: &Cmd) -> Result<Value, CopyError> {
        self.spent.fetch_add(1, Ordering::Relaxed);
        let reply = self.connection.send_packed_command(command).await;
        let value = reply.map_err(|error| classify(&self.store, what, &error))?;
        self.check(what, value)
    }

    /// Many commands in one round trip; error replies are left among the values for the caller.
    pub(crate) async fn ask_all(&mut self, what: &str, commands: &Pipeline) -> Result<Vec<Value>, CopyError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.spent.fetch_add(commands.len() as u64, Ordering::Relaxed);
        let reply = self.connection.send_packed_commands(commands, 0, commands.len()).await;
        let values = reply.map_err(|error| classify(&self.store, what, &error))?;
        if values.len() == commands.len() {
            Ok(values)
        } else {
            Err(self.unexpected(what, "another number of replies than of commands"))
        }
    }

    /// An error reply becomes an error.
    pub(crate) fn check(&self, what: &str, value: Value) -> Result<Value, CopyError> {
        match value {
            Value::ServerError(error) => Err(classify_reply(&self.store, what, &error)),
            value => Ok(value),
        }
    }

    pub(crate) fn unexpected(&self, what: &str, detail: &str) -> CopyError {
        CopyError::Unexpected { store: self.store.to_string(), command: what.into(), detail: detail.into() }
    }

    /// How long a PING takes.
    pub(crate) async fn ping(&mut self) -> Result<std::time::Duration, CopyError> {
        let asked = Instant::now();
        self.ask("PING", &redis::cmd("PING")).await?;
        Ok(asked.elapsed())
    }
}

fn config(endpoint: &Endpoint) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(endpoint.connect_timeout))
        .set_response_timeout(Some(endpoint.command_timeout))
}

fn client(endpoint: &Endpoint, settings: RedisConnectionInfo) -> Result<Client, CopyError> {
    let Endpoint { host, port, tls, ca, .. } = endpoint;
    let address = if *tls {
        ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.clone(), *port)
    };
    let wrong = |error: redis::RedisError| classify(&endpoint.name(), "connect", &error);
    let info = address.into_connection_info().map_err(wrong)?.set_redis_settings(settings);
    match ca {
        Some(ca) if *tls => {
            let trusted = TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
            Client::build_with_tls(info, trusted).map_err(wrong)
        }
        Some(_) | None => Client::open(info).map_err(wrong),
    }
}

// === reading replies ===

/// The bytes of a string reply; `None` for nil.
pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        Value::Double(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

/// The text of a string reply, empty for anything else.
pub(crate) fn text(value: Value) -> String {
    bytes(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// An integer reply, or one in a string.
pub(crate) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
}

/// The items of an array, set or push; a map is flattened.
pub(crate) fn items(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Some(items),
        Value::Map(pairs) => Some(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        _ => None,
    }
}

/// The strings of an array.
pub(crate) fn strings(value: Value) -> Option<Vec<Vec<u8>>> {
    items(value)?.into_iter().map(bytes).collect()
}

/// What `TIME` answers, in milliseconds.
pub(crate) fn time(value: Value) -> Option<i64> {
    let parts = items(value)?;
    Some(int(parts.first()?)? * 1_000 + int(parts.get(1)?)? / 1_000)
}
