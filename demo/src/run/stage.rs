//! What a story needs before it begins and after it ends: directories, binaries, settings, the manifest, the report's
//! files. Resolved once; it takes no part in the story itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, RunArgs, name};
use crate::canary::{self, Canary};
use crate::cluster::NAMESPACE;
use crate::manifest::{self, Ids};
use crate::product::{Product, SAID};
use crate::report::{Bounds, Facts};
use crate::sandbox::{Sandbox, Settings};
use crate::terminal::Terminal;
use crate::world::{self, World};

/// Sessions beyond those asked for, where there is time to log out before the move begins.
const SPARE: u64 = 100;
/// The least time in which instances on both stores must answer side by side.
const OVERLAP_MS: u64 = 5000;
/// How long the sandbox lets old and new instances serve together; measured from outside it comes out a little shorter.
const OVERLAP: Duration = Duration::from_secs(7);
/// As `longestRequest` in the manifest.
const LONGEST_REQUEST: Duration = Duration::from_secs(5);

fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A binary where it was said to be, else beside this one.
pub(crate) fn beside(given: Option<&PathBuf>, name: &str) -> Result<PathBuf, Error> {
    let path = match given {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name(name),
    };
    let absent = |why| format!("{} is not there ({why}): build it first", path.display());
    Ok(path.canonicalize().map_err(absent)?)
}

/// Paths, binaries and settings, resolved once.
pub(super) struct Stage<'a> {
    args: &'a RunArgs,
    /// How the sandbox is started.
    pub(super) settings: Settings,
    /// Where everything is written.
    dir: PathBuf,
    pub(super) sessionbackend: PathBuf,
    /// The old store's auth token.
    pub(super) token: String,
}

impl<'a> Stage<'a> {
    pub(super) fn new(args: &'a RunArgs) -> Result<Self, Error> {
        std::fs::create_dir_all(&args.dir)?;
        // What is there afterwards is of this run, or not there.
        for stale in SAID.into_iter().chain(["report.json", "visitors.json"]) {
            std::fs::remove_file(args.dir.join(stale)).or_else(absent)?;
        }
        let dir = args.dir.canonicalize()?;
        let app = beside(args.app.as_ref(), "sessions-app")?;
        let settings = Settings {
            binary: beside(args.sandbox.as_ref(), "sandbox")?,
            dir: dir.join("sandbox"),
            speed: args.speed.max(1),
            overlap: OVERLAP,
            request_limit: LONGEST_REQUEST,
            image: (world::IMAGE.to_owned(), app.display().to_string()),
        };
        let token = format!("{:032x}", rand::random::<u128>());
        let sessionbackend = beside(args.sessionbackend.as_ref(), "sessionbackend")?;
        Ok(Self { args, settings, dir, sessionbackend, token })
    }

    pub(super) fn visit(&self, sandbox: &Sandbox, world: &World) -> tokio::process::Command {
        // The path was found when the demo started; a missing one fails as any command would.
        let demo = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("demo"));
        let mut visit = sandbox.exec("internet", demo);
        visit.args(["visit", "--url", &format!("https://{}", world.host)]);
        // Who logs out while a control plane starts is made up for.
        let sessions = self.args.sessions + if self.args.cluster { SPARE } else { 0 };
        visit.args(["--sessions", &sessions.to_string(), "--visitors", &self.args.visitors.to_string()]);
        visit.args(["--seed", &self.args.seed.to_string()]);
        visit
    }

    pub(super) fn product<'s>(&self, sandbox: &'s Sandbox, world: &World) -> Result<Product<'s>, Error> {
        let account = sandbox.upstash_account()?;
        let ids = Ids { connector: &world.connector, rule: &world.rule, email: &account.0, api_key: &account.1 };
        let text = if self.args.cluster {
            let edited = manifest::edited(manifest::EDITED, &world.connector, &world.rule)?;
            let secret = manifest::secret("upstash-api", &[("email", &account.0), ("apiKey", &account.1)]);
            format!("{secret}\n---\n{edited}")
        } else {
            manifest::concrete(manifest::EXAMPLE, ids)?
        };
        let manifest = self.manifest();
        std::fs::write(&manifest, text)?;
        let vantage = format!("vpc:{}", world.vpc);
        let namespace = self.args.cluster.then_some(NAMESPACE);
        Ok(Product { sandbox, vantage, binary: self.sessionbackend.clone(), manifest, namespace })
    }

    /// Where the manifest is written, with its Secret.
    pub(super) fn manifest(&self) -> PathBuf {
        self.dir.join(if self.args.cluster { "upstash.yaml" } else { "elasticache-to-upstash.yaml" })
    }

    /// Writes the report, then looks for secrets in all that was written, and says what holds.
    pub(super) fn publish(&self, terminal: &Terminal, mut facts: Facts, canaries: &[Canary]) -> Result<bool, Error> {
        let bounds = Bounds { sessions: self.args.sessions, requests: self.args.requests, overlap_ms: OVERLAP_MS };
        let path: &Path = &self.dir.join("report.json");
        std::fs::write(path, serde_json::to_string_pretty(&facts.report())? + "\n")?;
        // The clouds keep secrets, and the user has written one into the manifest.
        facts.leaks = canary::below(canaries, &self.dir, &[&self.settings.dir, &self.manifest()])?;
        facts.leaks.extend(canary::in_text(canaries, &facts.text(&facts.conditions(bounds)), "this report"));
        let conditions = facts.conditions(bounds);
        terminal.heading(&format!("Report: {}", name(self.args.scenario)));
        terminal.print(&facts.text(&conditions));
        let failed = conditions.iter().filter(|condition| !condition.holds).count();
        let verdict = match failed {
            0 => "Every condition holds.".to_owned(),
            1 => "1 condition does not hold.".to_owned(),
            failed => format!("{failed} conditions do not hold."),
        };
        terminal.print(&format!("\n{verdict} Also in {}.", path.display()));
        Ok(failed == 0)
    }
}
