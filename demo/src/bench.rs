//! `demo bench`: what the operator costs whoever runs it. How large the program is, how long it takes until it sees its
//! objects, and what it holds in memory when there is nothing left to do. Measured from outside, on a real API server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, Controller, NAMESPACE};
use crate::manifest;
use crate::run::{Error, beside, unless_interrupted};
use crate::sandbox::{Sandbox, Settings};
use crate::world;

/// How often it is started.
const STARTS: usize = 9;
/// For a start, and for an object to be Ready, on a slow machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// What the figures should be at most: milliseconds, MiB and MB.
const GOALS: [f64; 3] = [200.0, 25.0, 30.0];

/// What to measure, and with what.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The program as it is released.
    #[arg(long, env = "SESSIONBACKEND_BIN")]
    pub sessionbackend: Option<PathBuf>,
    /// Where sandbox, manifests and logs live meanwhile.
    #[arg(long, default_value = "target/bench")]
    pub dir: PathBuf,
    /// The sandbox; default: beside this binary.
    #[arg(long, env = "SANDBOX_BIN")]
    pub sandbox: Option<PathBuf>,
    /// The sample app; default: beside this binary.
    #[arg(long, env = "SESSIONS_APP_BIN")]
    pub app: Option<PathBuf>,
}

/// Measures, and prints a line for each figure as it is known. A goal that is missed is no failure.
///
/// # Errors
/// What kept something from being measured.
pub async fn bench(args: &BenchArgs) -> Result<(), Error> {
    unless_interrupted(Box::pin(measure(args))).await
}

async fn measure(args: &BenchArgs) -> Result<(), Error> {
    let binary = beside(args.sessionbackend.as_ref(), "sessionbackend")?;
    let [start_goal, memory_goal, size_goal] = GOALS;
    let size = megabytes(std::fs::metadata(&binary)?.len());
    println!("program                {size:>10.1} MB   (goal {size_goal})");

    std::fs::create_dir_all(&args.dir)?;
    let dir = args.dir.canonicalize()?;
    let app = beside(args.app.as_ref(), "sessions-app")?;
    let settings = Settings {
        binary: beside(args.sandbox.as_ref(), "sandbox")?,
        dir: dir.join("sandbox"),
        speed: 500,
        overlap: Duration::from_secs(1),
        request_limit: Duration::from_secs(5),
        image: (world::IMAGE.to_owned(), app.display().to_string()),
    };
    let sandbox = Sandbox::up(&settings).await?;
    let token = format!("{:032x}", rand::random::<u128>());
    let wired = world::wire(&sandbox, &token).await?;
    let cluster = Cluster::install(&sandbox, format!("vpc:{}", wired.vpc), binary, &dir, None).await?;

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(timeout(PATIENCE, start(&cluster)).await.map_err(|_| "it never saw its objects")??);
    }
    starts.sort_unstable();
    let [first, median, last] =
        [0, STARTS / 2, STARTS - 1].map(|which| starts.get(which).copied().unwrap_or_default().as_secs_f64() * 1e3);
    println!(
        "start to caches synced {median:>10.0} ms   (goal {start_goal}; the median of {STARTS}, {first:.0} to {last:.0})"
    );

    let Memory { resident, own } = at_rest(&cluster, &token).await?;
    println!(
        "memory at rest         {resident:>10.1} MiB  (goal {memory_goal}; one object, {own:.1} of it its own and no page of the \
         program)"
    );
    drop(cluster);
    Ok(sandbox.down().await?)
}

/// From the start of the process to its objects being listed. Nobody holds the lease, and it asks no cloud.
async fn start(cluster: &Cluster<'_>) -> Result<Duration, Error> {
    cluster.free_the_lease().await?;
    let began = Instant::now();
    let mut child = cluster.outside().spawn()?;
    let mut lines = BufReader::new(child.stderr.take().ok_or("its log cannot be read")?).lines();
    let mut said = String::new();
    while let Some(line) = lines.next_line().await? {
        if sees_its_objects(&line) {
            let took = began.elapsed();
            child.kill().await?;
            return Ok(took);
        }
        said = line;
    }
    Err(format!("it ended before it saw its objects: {said}").into())
}

fn sees_its_objects(line: &str) -> bool {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    line["message"] == "ready" && line["subject"].as_str().is_some_and(|subject| subject.starts_with("namespace "))
}

/// What one that was started anew holds when it has looked at its object once and made the checks.
async fn at_rest(cluster: &Cluster<'_>, token: &str) -> Result<Memory, Error> {
    cluster.free_the_lease().await?;
    let (tell, _) = mpsc::unbounded_channel();
    let mut first = cluster.start(&tell)?;
    let secret = manifest::secret("liberty-redis", &[("username", "default"), ("password", token)]);
    cluster.apply(&format!("{secret}\n---\n{}", manifest::ADOPTED), Some(NAMESPACE)).await?;
    cluster.wait("condition=Ready", PATIENCE).await?;
    first.kill().await?;
    let (tell, mut lines) = mpsc::unbounded_channel();
    let second = cluster.start(&tell)?;
    timeout(PATIENCE, lines.recv()).await.map_err(|_| "it never made the checks at rest")?;
    Memory::of(&second)
}

/// Of a process, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Memory {
    /// All that is in memory for it.
    resident: f64,
    /// What is there for it alone, and could not be read from a file again.
    own: f64,
}

impl Memory {
    fn of(controller: &Controller) -> Result<Self, Error> {
        let id = controller.id().ok_or("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        Ok(Self::read(&status).ok_or("the system does not say what it holds in memory")?)
    }

    fn read(status: &str) -> Option<Self> {
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
        };
        Some(Self { resident: mib("VmRSS")?, own: mib("RssAnon")? })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a program of more than 2^53 bytes is none")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_system_tells_it() {
        let status = "Name:\tsessionbackend\nVmHWM:\t   40960 kB\nVmRSS:\t   25600 kB\nRssAnon:\t   10240 kB\n";
        assert_eq!(Memory::read(status), Some(Memory { resident: 25.0, own: 10.0 }));
        assert_eq!(Memory::read("Name:\tgone\n"), None);
    }

    #[test]
    fn objects_are_seen_when_their_namespace_is_ready() {
        assert!(sees_its_objects(r#"{"message":"ready","subject":"namespace liberty"}"#));
        assert!(!sees_its_objects(r#"{"message":"ready","subject":"lease"}"#));
        assert!(!sees_its_objects(r#"{"message":"not ready","subject":"namespace liberty"}"#));
        assert!(!sees_its_objects("thread main panicked"));
    }
}
