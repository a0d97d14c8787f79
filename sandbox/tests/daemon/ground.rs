//! A sandbox of its own for one test, used as a person would: by its command line.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_sandbox");
const PATIENCE: Duration = Duration::from_mins(1);

/// Ended when dropped.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    /// The command line before its arguments.
    program: Vec<String>,
}

impl Sandbox {
    /// Starts one on a fast clock.
    pub(crate) fn up(options: &[&str]) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), program: vec![BINARY.to_owned()] }.start(options)
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
        Some(Self { dir, program }.start(options))
    }

    fn start(self, options: &[&str]) -> Self {
        let sandbox = self;
        let started = Instant::now();
        sandbox.must(&[&["up", "--speed", "500", "--overlap", "300ms", "--grace", "2s"], options].concat());
        assert!(started.elapsed() < Duration::from_secs(4), "ready after {:?}", started.elapsed());
        sandbox
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]).args(words).env("SANDBOX_DIR", self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command prints; it must succeed.
    pub(crate) fn must(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{words:?}: {said}{complained}\n{}", self.daemon_log());
        said
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.must(words)).unwrap()
    }

    pub(crate) fn call(&self, service: &str, operation: &str, input: &Value) -> Value {
        self.json(&["call", service, operation, &input.to_string()])
    }

    /// Asks again until the answer satisfies.
    pub(crate) fn call_until(
        &self,
        service: &str,
        operation: &str,
        input: &Value,
        done: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(service, operation, input);
            if done(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{operation} stays at {answer:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
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
        let ground = std::fs::read(self.dir.path().join("sandbox.json")).unwrap();
        serde_json::from_slice::<Value>(&ground).unwrap()["pid"].as_i64().unwrap().try_into().unwrap()
    }

    fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.run(&["down"]);
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
