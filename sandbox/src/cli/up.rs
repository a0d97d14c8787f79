//! `up`, `down`, `status`: the life of the daemon as seen from outside.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::ground::{Ground, lock};
use super::{Format, Setup, client, orphans};

const TICK: Duration = Duration::from_millis(20);
const START: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Up {
    #[command(flatten)]
    setup: Setup,
    /// How to print the result.
    #[arg(short, long, default_value = "text")]
    output: Format,
}

pub(super) fn up(dir: &Path, up: &Up) -> Result<(), String> {
    let Some(free) = lock(dir)? else {
        return Err(format!("a sandbox runs in {} already: `sandbox status`, `sandbox down`", dir.display()));
    };
    tidy(dir);
    drop(free);
    let log_path = dir.join("daemon.log");
    let log = File::create(&log_path).map_err(|e| format!("{}: {e}", log_path.display()))?;
    let mut daemon = start(dir, &up.setup, log)?;
    for _ in 0..START.as_millis() / TICK.as_millis() {
        if let Ok(ground) = Ground::read(dir) {
            return greet(dir, &ground, up.output);
        }
        if let Ok(Some(status)) = daemon.try_wait() {
            let said = std::fs::read_to_string(&log_path).unwrap_or_default();
            return Err(format!("the daemon did not start ({status}):\n{}", said.trim_end()));
        }
        sleep(TICK);
    }
    let _ = daemon.kill();
    Err(format!("the daemon is not ready after {} s: see {}", START.as_secs(), log_path.display()))
}

/// Removes the traces of a daemon that has ended, however it did. Only while the lock is free.
fn tidy(dir: &Path) {
    if let Some(ground) = Ground::left(dir) {
        orphans::end(dir, ground.pid);
    }
    Ground::forget(dir);
}

fn start(dir: &Path, setup: &Setup, log: File) -> Result<Child, String> {
    let seconds = |d: Duration| format!("{}ms", d.as_millis());
    let errors = log.try_clone().map_err(|e| e.to_string())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sandbox").arg("--dir").arg(dir).arg("serve");
    command.args(["--speed", &setup.speed.to_string(), "--overlap", &seconds(setup.overlap)]);
    command.args(["--request-limit", &seconds(setup.request_limit), "--grace", &seconds(setup.grace)]);
    command.args(setup.refuse_web_sockets.then_some("--refuse-web-sockets"));
    command.args(setup.images.iter().flat_map(|(name, line)| ["--image".to_owned(), format!("{name}={line}")]));
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map_err(|e| format!("the daemon cannot be started: {e}"))
}

fn greet(dir: &Path, ground: &Ground, output: Format) -> Result<(), String> {
    match output {
        Format::Json => say!("{}", serde_json::to_string(ground).map_err(|e| e.to_string())?),
        Format::Text => {
            say!("The sandbox runs in {} (pid {}).", dir.display(), ground.pid);
            say!("  AWS        {} (account {}, {})", ground.aws_endpoint_url, ground.account, ground.region);
            say!("  Upstash    {} (from inside `exec`)", ground.upstash_api_url);
            say!("  trust      {}", ground.ca_file.display());
            say!("Next:");
            say!("  sandbox exec -- aws apprunner list-services");
            say!("  sandbox exec --from vpc:ID -- redis-cli -h NAME --tls");
            say!("  sandbox status | log | down");
        }
    }
    Ok(())
}

pub(super) fn down(dir: &Path) -> Result<(), String> {
    if !dir.join("lock").exists() || lock(dir)?.is_some() {
        tidy(dir);
        say!("No sandbox runs in {}.", dir.display());
        return Ok(());
    }
    let ground = Ground::read(dir)?;
    // The lock is held, so the pid is the daemon's and nobody else's.
    let daemon = Pid::from_raw(ground.pid);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        kill(daemon, signal).map_err(|e| format!("the daemon (pid {}) cannot be ended: {e}", ground.pid))?;
        for _ in 0..END.as_millis() / TICK.as_millis() {
            if lock(dir)?.is_some() {
                tidy(dir);
                say!("The sandbox in {} has ended.", dir.display());
                return Ok(());
            }
            sleep(TICK);
        }
    }
    Err(format!("the daemon (pid {}) does not end: see {}", ground.pid, dir.join("daemon.log").display()))
}

pub(super) fn status(dir: &Path, output: Format) -> Result<(), String> {
    let ground = Ground::read(dir)?;
    let state = client::get(ground.endpoint, "POST", "state", &Value::Null)?;
    match output {
        Format::Json => say!("{}", json!({ "sandbox": ground, "state": state })),
        Format::Text => {
            say!("pid {}   AWS {}   public port {}", ground.pid, ground.aws_endpoint_url, ground.public_port);
            table(&state["stores"], "STORE", &["id", "kind", "tls", "clients", "hosts"]);
            table(&state["deployments"], "DEPLOYMENT", &["service", "id", "instances", "healthy", "inFlight", "host"]);
            table(&state["images"], "IMAGE", &["name", "command"]);
        }
    }
    Ok(())
}

fn table(rows: &Value, title: &str, columns: &[&str]) {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    say!("{title}S: {}", rows.len());
    for row in rows {
        let cells: Vec<String> = columns.iter().map(|c| format!("{c}={}", cell(&row[*c]))).collect();
        say!("  {}", cells.join("  "));
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
