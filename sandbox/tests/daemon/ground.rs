//! What a test of the daemon asks besides: as who it runs, what runs below it, how a path feels.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(crate) use super::starter::Sandbox;
use super::starter::text;

const BINARY: &str = env!("CARGO_BIN_EXE_sandbox");
const PATIENCE: Duration = Duration::from_mins(1);

impl Sandbox {
    pub(crate) fn up(options: &[&str]) -> Self {
        let started = Instant::now();
        let sandbox = Self::start(tempfile::tempdir().unwrap(), vec![BINARY.to_owned()], options);
        assert!(started.elapsed() < Duration::from_secs(4), "ready after {:?}", started.elapsed());
        sandbox
    }

    /// As a user who is not root; `None` = the tests run as one already.
    pub(crate) fn up_without_root(options: &[&str]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let nobody = Some(65_534);
        nix::unistd::chown(dir.path(), nobody.map(Into::into), nobody.map(Into::into)).unwrap();
        // The build's directory may be closed to others.
        let copy = dir.path().join("sandbox");
        std::fs::copy(BINARY, &copy).unwrap();
        let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
        let program = [&user[..], &[copy.display().to_string()]].concat();
        Some(Self::start(dir, program, options))
    }

    pub(crate) fn exec(&self, from: &str, words: &[&str]) -> String {
        let output = self.run(&[&["exec", "--from", from, "--"], words].concat());
        format!("{}{}", text(&output.stdout), text(&output.stderr)).trim().to_owned()
    }

    /// Does the command get neither an answer nor an error?
    pub(crate) fn hangs(&self, from: &str, words: &[&str]) -> bool {
        let mut command = self.command(&[&["exec", "--from", from, "--"], words].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        true
    }

    pub(crate) fn daemon(&self) -> i32 {
        self.ground()["pid"].as_i64().unwrap().try_into().unwrap()
    }
}

/// Processes that live and were started by `parent`.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        if stat(pid).is_some_and(|(state, owner)| owner == parent && state != 'Z') {
            children.push(pid);
        }
    }
    children
}

/// Whether a process is there and not only waits to be buried.
pub(crate) fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(PathBuf::from("/proc").join(pid.to_string()).join("stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "the condition must come true");
        std::thread::sleep(Duration::from_millis(20));
    }
}
