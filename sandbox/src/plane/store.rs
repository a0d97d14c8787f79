//! One real Redis server per store: its configuration, its life, and live changes through its own ACL.
//! Clients never meet it directly, only through the relays.

mod commands;
mod session;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::Child;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use self::session::Session;
use crate::dataplane::{PlaneError, StoreSpec, StoreUsage};
use crate::plane::authority::Authority;
use crate::plane::child::{self, Launch, Launcher, Output};
use crate::plane::relay::Wire;
use crate::plane::slice::{Slice, free_port};

/// The sandbox's own user at every server.
const USER: &str = "sandbox";
/// A server that says nothing for so long is frozen or overloaded.
const ANSWER: Duration = Duration::from_secs(2);
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(1);

/// A running store.
pub(crate) struct Store {
    pub(crate) spec: StoreSpec,
    pub(crate) wire: Arc<Wire>,
    admin: SocketAddr,
    password: String,
    child: Mutex<Child>,
    dir: PathBuf,
}

/// What stores need of the sandbox around them.
pub(crate) struct Ground<'a> {
    pub(crate) slice: &'a Slice,
    pub(crate) authority: &'a Authority,
    pub(crate) launcher: &'a Launcher,
    pub(crate) server: &'a Path,
    pub(crate) dir: &'a Path,
}

impl Store {
    /// Starts the server and waits until it answers.
    pub(crate) async fn start(spec: StoreSpec, ground: &Ground<'_>) -> Result<Self, PlaneError> {
        let plain = free_port(ground.slice.backing())?;
        let tls = if spec.tls { Some(free_port(ground.slice.backing())?) } else { None };
        let password = hex(&rand::random::<[u8; 16]>());
        let dir = ground.dir.join(spec.id.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_"));
        let address = ground.slice.backing();
        let io = |e: std::io::Error| PlaneError::Failed(format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(&dir).map_err(io)?;
        if spec.tls {
            let pair = ground.authority.sign(&spec.hosts)?;
            write_private(&dir.join("tls.crt"), &pair.certificate).map_err(io)?;
            write_private(&dir.join("tls.key"), &pair.key).map_err(io)?;
        }
        let conf = configuration(&spec, &format!("bind {address}\nport {plain}\n"), tls, &password);
        write_private(&dir.join("redis.conf"), &conf).map_err(io)?;
        let child = ground.launcher.start(Launch {
            command: vec![ground.server.display().to_string(), "redis.conf".to_owned()],
            env: BTreeMap::new(),
            hosts: None,
            dir: dir.clone(),
            output: Output::File(dir.join("redis.log")),
        });
        let child = child.await.map_err(io)?;
        let backend = SocketAddr::from((address, tls.unwrap_or(plain)));
        let store = Self {
            wire: Arc::new(Wire::new(backend, spec.tls, spec.max_clients)),
            admin: (address, plain).into(),
            password,
            child: Mutex::new(child),
            dir,
            spec,
        };
        store.ready().await?;
        Ok(store)
    }

    async fn ready(&self) -> Result<(), PlaneError> {
        let deadline = Instant::now() + START;
        loop {
            if self.session().await.is_ok() {
                return Ok(());
            }
            let ended = self.child.lock().await.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(self.dir.join("redis.log")).unwrap_or_default();
                let last: Vec<_> = said.lines().rev().take(4).collect();
                let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
                return Err(PlaneError::Failed(format!("the server of store {} did not start: {last}", self.spec.id)));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn session(&self) -> Result<Session, PlaneError> {
        Session::open(self.admin, USER, &self.password, ANSWER)
            .await
            .map_err(|e| PlaneError::Failed(format!("store {}: {e}", self.spec.id)))
    }

    async fn alter_default(&self, rules: &[String]) -> Result<(), PlaneError> {
        let mut command = vec!["ACL", "SETUSER", "default"];
        command.extend(rules.iter().map(String::as_str));
        let said = self.session().await?.command(&command).await;
        said.map(drop).map_err(|e| PlaneError::Failed(format!("store {}: {e}", self.spec.id)))
    }

    /// Only these passwords from now on; who is in stays in.
    pub(crate) async fn set_passwords(&self, passwords: &[String]) -> Result<(), PlaneError> {
        self.alter_default(&credentials(passwords)).await
    }

    /// Refuses a command, such as `GET` or `CLIENT TRACKING`, or accepts it again unless the vendor refuses it too.
    pub(crate) async fn deny(&self, command: &str, denied: bool) -> Result<(), PlaneError> {
        let command = command.split_whitespace().collect::<Vec<_>>().join("|").to_ascii_lowercase();
        if !denied && commands::refused_by_acl(self.spec.kind).contains(&command.as_str()) {
            return Ok(());
        }
        let mut rules = vec![format!("{}{command}", if denied { '-' } else { '+' })];
        if !denied {
            // `+client` would bring back subcommands the vendor refuses.
            let below = format!("{command}|");
            let refused = commands::refused_by_acl(self.spec.kind).iter().filter(|c| c.starts_with(&below));
            rules.extend(refused.map(|c| format!("-{c}")));
        }
        self.alter_default(&rules).await
    }

    /// What the server counted. Connections of the sandbox itself and commands vendors do not bill are left out.
    pub(crate) async fn usage(&self) -> Result<StoreUsage, PlaneError> {
        let mut session = self.session().await?;
        let info = session.command(&["INFO", "everything"]).await;
        let info = info.map_err(|e| PlaneError::Failed(format!("store {}: {e}", self.spec.id)))?;
        Ok(read_usage(&info))
    }

    /// What the server answers to the sandbox, whose own user no vendor's list keeps from asking.
    pub(crate) async fn ask(&self, command: &[&str]) -> Result<String, PlaneError> {
        let said = self.session().await?.command(command).await;
        said.map_err(|e| PlaneError::Failed(format!("store {}: {e}", self.spec.id)))
    }

    /// Stops the process where it stands, or lets it go on.
    pub(crate) async fn freeze(&self, frozen: bool) {
        child::signal(&*self.child.lock().await, if frozen { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    pub(crate) fn describe(&self) -> Value {
        json!({
            "id": self.spec.id, "kind": format!("{:?}", self.spec.kind), "tls": self.spec.tls, "hosts": self.spec.hosts,
            "port": self.spec.port, "clients": self.wire.clients(), "backend": self.wire.backend,
        })
    }

    pub(crate) async fn end(&self) {
        let mut child = self.child.lock().await;
        child::signal(&child, Signal::SIGCONT);
        child::end(&mut child, END).await;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// ACL rules for the passwords of one user; hashed, so that none is written to a file or shown by ACL LIST.
fn credentials(passwords: &[String]) -> Vec<String> {
    if passwords.is_empty() {
        return vec!["nopass".to_owned()];
    }
    let hashed = passwords.iter().map(|p| format!("#{}", hex(&Sha256::digest(p.as_bytes()))));
    std::iter::once("resetpass".to_owned()).chain(hashed).collect()
}

fn configuration(spec: &StoreSpec, listen: &str, tls: Option<u16>, admin: &str) -> String {
    let mut conf = format!(
        "{listen}protected-mode no\ndaemonize no\nsave \"\"\nappendonly no\ndatabases {}\nmaxclients 10000\n\
         tcp-backlog 511\nloglevel notice\ntimeout 0\n",
        spec.databases.max(1)
    );
    if let Some(port) = tls {
        let _ = writeln!(
            conf,
            "tls-port {port}\ntls-cert-file tls.crt\ntls-key-file tls.key\ntls-auth-clients no\n\
             tls-protocols \"TLSv1.2 TLSv1.3\""
        );
    }
    for command in commands::unknown(spec.kind) {
        let _ = writeln!(conf, "rename-command {command} \"\"");
    }
    let _ = write!(conf, "user default reset on {} ~* &* +@all", credentials(&spec.passwords).join(" "));
    for command in commands::refused_by_acl(spec.kind) {
        let _ = write!(conf, " -{command}");
    }
    conf.push('\n');
    let _ = writeln!(conf, "user {USER} reset on {} ~* &* +@all", credentials(&[admin.to_owned()]).join(" "));
    conf
}

fn read_usage(info: &str) -> StoreUsage {
    let mut usage = StoreUsage::default();
    for (name, value) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
        let field =
            |key: &str| value.split(',').find_map(|f| f.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok());
        match name {
            "connected_clients" => usage.connections = value.parse::<u64>().unwrap_or(0).saturating_sub(1),
            "used_memory" => usage.used_memory = value.parse().unwrap_or(0),
            _ => {
                if let Some(command) = name.strip_prefix("cmdstat_") {
                    let main = command.split('|').next().unwrap_or(command);
                    if !commands::UNBILLED.contains(&main) && command != "acl|setuser" {
                        usage.commands += field("calls").unwrap_or(0);
                    }
                } else if name.strip_prefix("db").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) {
                    usage.keys += field("keys").unwrap_or(0);
                }
            }
        }
    }
    usage
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_counts_what_a_vendor_would_bill() {
        let info = "# Clients\r\nconnected_clients:3\r\nused_memory:1024\r\nused_memory_rss:9\r\n\
                    cmdstat_get:calls=5,usec=1\r\ncmdstat_ping:calls=9,usec=1\r\ncmdstat_client|id:calls=2,usec=1\r\n\
                    cmdstat_config|get:calls=7,usec=1\r\ndb0:keys=4,expires=1\r\ndb3:keys=2,expires=0\r\n";
        assert_eq!(read_usage(info), StoreUsage { commands: 7, connections: 2, keys: 6, used_memory: 1024 });
    }
}
