//! The demo's hold on the sandbox: up, calls, commands inside, faults, down. It ends what it started, also when it is
//! dropped in the middle. It knows the sandbox by its command line only.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

/// How the sandbox is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `sandbox` binary.
    pub binary: PathBuf,
    /// Where it keeps what it needs while it runs.
    pub dir: PathBuf,
    /// Divides the clouds' durations.
    pub speed: u32,
    /// How long old and new instances serve side by side.
    pub overlap: Duration,
    /// The longest request the front allows.
    pub request_limit: Duration,
    /// Name of the image, and the command behind it.
    pub image: (String, String),
}

/// A running sandbox.
#[derive(Debug)]
pub struct Sandbox {
    binary: PathBuf,
    dir: PathBuf,
    up: bool,
}

/// Why the sandbox did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The binary cannot be started.
    #[error("{binary} cannot be started ({why}): build it, or say where it is with SANDBOX_BIN")]
    Start {
        /// The binary.
        binary: String,
        /// The system's reason.
        why: std::io::Error,
    },
    /// A command of it failed.
    #[error("`sandbox {command}` failed: {message}")]
    Command {
        /// What was asked.
        command: String,
        /// What it said.
        message: String,
    },
    /// It answered with something else than JSON.
    #[error("`sandbox {command}` did not answer with JSON: {why}")]
    Answer {
        /// What was asked.
        command: String,
        /// What is wrong with it.
        why: serde_json::Error,
    },
    /// A state was not reached in time.
    #[error("{what} after {} s: look at `sandbox log`", after.as_secs())]
    Late {
        /// What was awaited.
        what: String,
        /// For how long.
        after: Duration,
    },
}

impl Sandbox {
    /// Ends what an earlier run may have left in the directory, and starts a new sandbox there.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn up(settings: &Settings) -> Result<Self, SandboxError> {
        let mut sandbox = Self { binary: settings.binary.clone(), dir: settings.dir.clone(), up: false };
        if settings.dir.join("sandbox.json").exists() {
            sandbox.run(["down"]).await?;
        }
        let (name, command) = &settings.image;
        let up = [
            "up".to_owned(),
            "--speed".to_owned(),
            settings.speed.to_string(),
            "--overlap".to_owned(),
            format!("{}s", settings.overlap.as_secs()),
            "--request-limit".to_owned(),
            format!("{}s", settings.request_limit.as_secs()),
            "--image".to_owned(),
            format!("{name}='{command}'"),
        ];
        sandbox.up = true;
        sandbox.run(&up).await?;
        Ok(sandbox)
    }

    /// Calls an operation by its service and name; input and answer as the vendor names them.
    ///
    /// # Errors
    /// The vendor's error.
    pub async fn call(&self, service: &str, operation: &str, input: Value) -> Result<Value, SandboxError> {
        let output = self.run(["call", service, operation, &input.to_string()]).await?;
        if output.stdout.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        let command = format!("call {service} {operation}");
        serde_json::from_slice(&output.stdout).map_err(|why| SandboxError::Answer { command, why })
    }

    /// A command that runs inside, seen from `from` (`internet`, `vpc:ID` or `service:NAME`).
    pub fn exec(&self, from: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(["exec", "--from", from, "--"]);
        command.arg(program);
        command
    }

    /// Makes a store refuse a command to everybody.
    ///
    /// # Errors
    /// When there is no such store.
    pub async fn deny_command(&self, store: &str, command: &str) -> Result<(), SandboxError> {
        self.run(["fault", "deny", store, command]).await.map(drop)
    }

    /// Makes App Runner return quietly to the old configuration at the next deployment, after the new one has served.
    ///
    /// # Errors
    /// When the sandbox refuses.
    pub async fn roll_back_next_deployment(&self, service: &str) -> Result<(), SandboxError> {
        let fault = json!({ "deployment": "rollback-after-shift", "name": service, "count": 1 });
        self.run(["fault", "add", &fault.to_string()]).await.map(drop)
    }

    /// What a store answers behind its vendor's door.
    ///
    /// # Errors
    /// When there is no such store, or it refuses.
    pub async fn ask(&self, store: &str, command: &[&str]) -> Result<String, SandboxError> {
        let output = self.run([&["ask", store], command].concat()).await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Email and key of the Upstash account.
    ///
    /// # Errors
    /// When the state file cannot be read.
    pub fn upstash_account(&self) -> Result<(String, String), SandboxError> {
        let path = self.dir.join("sandbox.json");
        let failed = |message: String| SandboxError::Command { command: format!("up: {}", path.display()), message };
        let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        let state: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let member = |name: &str| state[name].as_str().map(str::to_owned);
        member("upstash_email")
            .zip(member("upstash_api_key"))
            .ok_or_else(|| failed("names no Upstash account".to_owned()))
    }

    /// Asks `look` until it says something.
    ///
    /// # Errors
    /// What `look` fails with, or that the deadline has passed.
    pub async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut(&Self) -> Result<Option<T>, SandboxError>,
    ) -> Result<T, SandboxError> {
        let asking = async {
            loop {
                if let Some(found) = look(self).await? {
                    return Ok(found);
                }
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        };
        let late = |_| SandboxError::Late { what: what.to_owned(), after: limit };
        tokio::time::timeout(limit, asking).await.map_err(late)?
    }

    /// Ends the sandbox with every process in it.
    ///
    /// # Errors
    /// When something is left.
    pub async fn down(mut self) -> Result<(), SandboxError> {
        self.run(["down"]).await?;
        self.up = false;
        Ok(())
    }

    /// Leaves the sandbox running for whoever wants to look around.
    pub fn leave_up(mut self) {
        self.up = false;
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env("SANDBOX_DIR", &self.dir).stdin(Stdio::null()).kill_on_drop(true);
        // Ctrl-C reaches the demo alone, which then ends the others in order.
        command.process_group(0);
        command
    }

    async fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Output, SandboxError> {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let start = |why| SandboxError::Start { binary: self.binary.display().to_string(), why };
        let output = self.command(&args).output().await.map_err(start)?;
        if output.status.success() {
            return Ok(output);
        }
        let words = args.iter().take(3).map(|arg| arg.to_string_lossy()).collect::<Vec<_>>();
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(SandboxError::Command { command: words.join(" "), message })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.up {
            // Only on a panic, an error or Ctrl-C: nobody could use the outcome any more.
            let mut down = std::process::Command::new(&self.binary);
            let _ = down.arg("down").env("SANDBOX_DIR", &self.dir).stdout(Stdio::null()).status();
        }
    }
}
