//! Real servers on loopback, ended with the test; each flavour refuses what its vendor refuses.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use redis::{FromRedisValue, aio::MultiplexedConnection};
use secrecy::SecretString;
use sessionbackend::copy::{Copier, CopySpec, Endpoint, Progress, State};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::watch,
};

pub(crate) const PASSWORD: &str = "a-canary-password";

/// Whose rules a server follows (cloud-apis §3.7, §12.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// Everything is allowed.
    Plain,
    /// Node-based ElastiCache: no CONFIG, no replication or persistence commands, a password, TLS.
    ElastiCache,
    /// Upstash: database 0 only, no OBJECT, no CLIENT TRACKING, CONFIG only for notifications, a password, TLS.
    Upstash,
    /// No way to follow changes: neither tracking nor CONFIG.
    NoFeed,
    /// No RESTORE, as a server that knows other payload versions.
    NoRestore,
    /// Neither DUMP nor RESTORE.
    NoDump,
}

pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: Endpoint,
    flavor: Flavor,
    dir: TempDir,
}

impl Server {
    pub(crate) async fn start(flavor: Flavor) -> Self {
        Self::start_with(flavor, &[]).await
    }

    pub(crate) async fn start_with(flavor: Flavor, more: &[&str]) -> Self {
        let mut dir = tempfile::tempdir().unwrap();
        // Redis cannot be told to take any free port and say which; another process may be faster, so try again.
        for _ in 0..20 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let endpoint = endpoint(flavor, port);
            let child = spawn(flavor, &endpoint, &dir, more);
            let mut server = Self { child, endpoint, flavor, dir: tempfile::tempdir().unwrap() };
            std::mem::swap(&mut server.dir, &mut dir);
            if server.is_up().await {
                return server;
            }
            std::mem::swap(&mut server.dir, &mut dir);
        }
        panic!("no redis-server came up");
    }

    async fn is_up(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if sessionbackend::copy::probe(&self.endpoint).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Ends the server as a crash does.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again on the same port, empty.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.flavor, &self.endpoint, &self.dir, &[]);
        assert!(self.is_up().await);
    }

    pub(crate) async fn client(&self) -> Client {
        self.database(0).await
    }

    pub(crate) async fn database(&self, database: u32) -> Client {
        let endpoint = &self.endpoint;
        let scheme = if endpoint.tls { "rediss" } else { "redis" };
        let auth = if endpoint.password.is_some() { format!(":{PASSWORD}@") } else { String::new() };
        let url = format!("{scheme}://{auth}{}:{}/{database}", endpoint.host, endpoint.port);
        let client = match &endpoint.ca {
            Some(ca) => {
                let trusted = redis::TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                redis::Client::build_with_tls(url, trusted).unwrap()
            }
            None => redis::Client::open(url).unwrap(),
        };
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(10)))
            .set_response_timeout(Some(Duration::from_secs(20)));
        Client(client.get_multiplexed_async_connection_with_config(&config).await.unwrap())
    }
}

fn endpoint(flavor: Flavor, port: u16) -> Endpoint {
    let mut endpoint = Endpoint::new("127.0.0.1", port);
    if flavor == Flavor::Plain {
        return endpoint;
    }
    endpoint.tls = true;
    endpoint.counted = flavor == Flavor::Upstash;
    endpoint.password = Some(SecretString::from(PASSWORD));
    endpoint.ca = Some(include_bytes!("tls/ca.pem").to_vec());
    endpoint
}

fn spawn(flavor: Flavor, endpoint: &Endpoint, dir: &TempDir, more: &[&str]) -> Child {
    let mut command = Command::new("redis-server");
    let port = endpoint.port.to_string();
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    if endpoint.tls {
        command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
        command.args(["--tls-cert-file", &path("cert.pem"), "--tls-key-file", &path("key.pem")]);
        command.args(["--tls-ca-cert-file", &path("cert.pem")]);
        fs::write(path("cert.pem"), include_bytes!("tls/server.pem")).unwrap();
        fs::write(path("key.pem"), include_bytes!("tls/server.key")).unwrap();
        let acl = dir.path().join("users.acl");
        fs::write(&acl, format!("user default on >{PASSWORD} ~* &* {}\n", commands(flavor))).unwrap();
        command.arg("--aclfile").arg(acl);
    } else {
        command.args(["--port", &port, "--enable-debug-command", "yes"]);
    }
    if flavor == Flavor::Upstash {
        command.args(["--databases", "1"]);
    }
    command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("redis-server is installed")
}

fn commands(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Plain => "+@all",
        Flavor::ElastiCache => {
            "+@all -config -debug -migrate -psync -sync -replicaof -slaveof -shutdown -save -bgsave -bgrewriteaof \
             -acl|setuser -acl|load -acl|save -acl|deluser"
        }
        Flavor::NoRestore => "+@all -restore",
        Flavor::NoDump => "+@all -restore -dump",
        Flavor::NoFeed => "+@all -config -client|tracking",
        Flavor::Upstash => {
            "+@all -object -sort -move -swapdb -migrate -cluster -client|kill -client|tracking -client|no-evict \
             -client|reply -debug -latency -slowlog -save -bgsave -lastsave -psync -sync -replicaof -slaveof -lcs \
             -ssubscribe -spublish -module -shutdown -config +config|get +config|set"
        }
    }
}

/// An application's connection.
#[derive(Clone)]
pub(crate) struct Client(MultiplexedConnection);

impl Client {
    /// One command, its words separated by blanks.
    pub(crate) async fn run<T: FromRedisValue>(&mut self, words: &str) -> T {
        let words: Vec<&str> = words.split(' ').collect();
        self.args(&words).await
    }

    pub(crate) async fn args<T: FromRedisValue, A: redis::ToRedisArgs>(&mut self, args: &[A]) -> T {
        let mut command = redis::Cmd::new();
        for arg in args {
            command.arg(arg);
        }
        command.query_async(&mut self.0).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn pipe(&mut self, commands: &redis::Pipeline) {
        commands.exec_async(&mut self.0).await.unwrap();
    }

    /// One command that may fail.
    pub(crate) async fn attempt(&mut self, words: &str) -> redis::RedisResult<redis::Value> {
        let mut command = redis::Cmd::new();
        words.split(' ').for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut self.0).await
    }

    /// All names but ours.
    pub(crate) async fn names(&mut self) -> Vec<String> {
        let names: Vec<Vec<u8>> = self.run("KEYS *").await;
        let mut names: Vec<String> = names.iter().map(|name| name.escape_ascii().to_string()).collect();
        names.retain(|name| !name.starts_with("__sessionbackend:"));
        names.sort();
        names
    }

    /// Every key of ours.
    pub(crate) async fn traces(&mut self) -> Vec<String> {
        self.run("KEYS __sessionbackend:*").await
    }
}

pub(crate) fn spec(from: &Server, to: &Server, runner: &str) -> CopySpec {
    CopySpec::new("m1", runner, from.endpoint.clone(), to.endpoint.clone())
}

/// Ends the copy; a runner that has died counts as alive for some seconds more.
pub(crate) async fn cleared(from: &Server, to: &Server) {
    let wanted = spec(from, to, "end");
    eventually("cleared", async || match sessionbackend::copy::clear(&wanted, None).await {
        Ok(()) => true,
        Err(error) if error.passes() => false,
        Err(error) => panic!("{error}"),
    })
    .await;
}

/// Waits until the progress is as wanted, and tells what it was if it never is.
pub(crate) async fn until(copier: &Copier, what: &str, wanted: impl Fn(&Progress) -> bool) -> Progress {
    until_seen(&mut copier.progress(), what, wanted).await
}

pub(crate) async fn until_seen(
    progress: &mut watch::Receiver<Progress>,
    what: &str,
    wanted: impl Fn(&Progress) -> bool,
) -> Progress {
    let failed = |progress: &Progress| matches!(progress.state, State::Failed(_));
    let found = tokio::time::timeout(
        Duration::from_mins(1),
        progress.wait_for(|progress| wanted(progress) || failed(progress)),
    )
    .await
    .map(|found| found.map(|found| found.clone()));
    match found {
        Ok(Ok(found)) if wanted(&found) => found,
        other => panic!("waiting for {what}: {other:?}; now {:?}", progress.borrow()),
    }
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
