//! A redis-server of a test's own.

use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use secrecy::SecretString;
use sessionbackend::checks::run::{Reach, RedisTarget};
use sessionbackend::identity::Address;
use tempfile::TempDir;

use crate::authority;

pub(crate) struct Store {
    child: Child,
    port: u16,
    tls: bool,
    _dir: TempDir,
}

impl Store {
    /// Starts a server with these lines of configuration.
    pub(crate) fn start(config: &[&str]) -> Self {
        Self::start_as(false, config)
    }

    /// The same behind TLS, with the authority's certificate.
    pub(crate) fn start_tls(config: &[&str]) -> Self {
        Self::start_as(true, config)
    }

    fn start_as(tls: bool, config: &[&str]) -> Self {
        // The port is free when it is read back; another process may still take it first.
        (0..10).find_map(|_| Self::try_start(tls, config)).expect("no redis-server came up")
    }

    fn try_start(tls: bool, config: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut text = format!("bind 127.0.0.1\nsave \"\"\ndir {}\n", dir.path().display());
        if tls {
            for (name, pem) in [("ca", authority::AUTHORITY), ("cert", authority::CERTIFICATE), ("key", authority::KEY)]
            {
                std::fs::write(dir.path().join(name), pem).unwrap();
            }
            let at = dir.path().display();
            write!(text, "port 0\ntls-port {port}\ntls-ca-cert-file {at}/ca\ntls-cert-file {at}/cert\ntls-key-file {at}/key\ntls-auth-clients no\n").unwrap();
        } else {
            writeln!(text, "port {port}").unwrap();
        }
        text.extend(config.iter().map(|line| format!("{line}\n")));
        let file = dir.path().join("redis.conf");
        std::fs::write(&file, text).unwrap();
        let child = Command::new("redis-server").arg(file).stdout(Stdio::null()).spawn().unwrap();
        let mut store = Self { child, port, tls, _dir: dir };
        for _ in 0..500 {
            if store.child.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(store);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// How a check reaches it, by the name in its certificate.
    pub(crate) fn target(&self, password: Option<&str>) -> RedisTarget {
        RedisTarget {
            address: Address { port: self.port, tls: self.tls, ..nowhere().address },
            password: password.map(SecretString::from),
            ..nowhere()
        }
    }

    /// What redis-cli answers as the user `root`, or without a user where there is none.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.tls {
            cli.args(["--tls", "--insecure"]);
        }
        let output = cli.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// How often each command was called, by other connections than redis-cli's own asking.
    pub(crate) fn calls(&self, login: &[&str], command: &str) -> u64 {
        let mut arguments = login.to_vec();
        arguments.extend(["INFO", "commandstats"]);
        let stats = self.ask(&arguments);
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// Stops the process where it stands: connections are accepted by the kernel and nobody answers.
    pub(crate) fn freeze(&self) {
        let done = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A target on this machine at a port nobody has.
pub(crate) fn nowhere() -> RedisTarget {
    RedisTarget {
        address: Address { host: "localhost".to_owned(), port: 1, db: 0, user: None, tls: false },
        password: None,
        reach: Reach::Internet,
        connection_limit: None,
        authorities: Some(authority::AUTHORITY.into()),
    }
}
