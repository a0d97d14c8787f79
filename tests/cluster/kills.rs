//! The operator is ended with SIGKILL before a request is sent on, or after its answer was given, at the mutating calls of its
//! stories to the clouds and to the API server, and started again: every story ends as the undisturbed one.
//!
//! A few such moments a story are chosen by a seed (`SEED=` repeats a choice); `KILLS_ALL=1` takes all of them, and goes on where
//! it was interrupted: what has passed is kept in `KILLS_DIR` by the programs it was proved of.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use control_plane::ControlPlane;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::boundary::{Boundary, Kill, Side};
use self::end::{differences, end};
use self::story::Story;
use super::plane::plane;

mod boundary;
mod end;
mod proxy;
mod story;
mod world;

/// For one run. What may have been made in a call that was never answered is looked for two minutes long.
const PATIENCE: Duration = Duration::from_mins(5);
/// For the undisturbed one.
const UNDISTURBED: Duration = Duration::from_secs(90);
/// How long a story that is over may still tidy up.
const TIDYING: Duration = Duration::from_secs(30);
/// How long nothing is changed when a story is over.
const QUIET: Duration = Duration::from_secs(3);
/// Moments of a story that are chosen where not all are asked for, and how long such a choice may take.
const SAMPLE: usize = 3;
const BUDGET: Duration = Duration::from_mins(1);
/// A call of these that was never made is only believed not to have been made after minutes: not in a choice.
const SLOW: [&str; 6] = [
    "POST",
    "CreateReplicationGroup",
    "CreateCacheSubnetGroup",
    "CreateVpcConnector",
    "AuthorizeSecurityGroupIngress",
    "UpdateService",
];
/// Reads of a story that are tried besides.
const READS: usize = 3;

/// What a run came to.
struct Run {
    end: Value,
    seen: Vec<Boundary>,
    was_ended: bool,
}

/// Tells a line even where the harness keeps what a test that passes has said.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "kills: {line}");
}

/// The undisturbed story.
fn undisturbed(story: Story, plane: &'static ControlPlane) -> Run {
    let world = story.begin(plane, None);
    let deadline = Instant::now() + UNDISTURBED;
    loop {
        let object = world.object();
        let is_quiet = world.count.changed().is_some_and(|at| at.elapsed() > QUIET);
        if story.is_over(object.as_ref()) && is_quiet {
            return Run { end: end(&world), seen: world.count.seen(), was_ended: false };
        }
        assert!(Instant::now() < deadline, "{story}: {:#}\n{}", object.unwrap_or_default()["status"], world.log());
        pause();
    }
}

/// The story with an operator that is ended at `kill` and started again; what is different at its end.
fn disturbed(story: Story, plane: &'static ControlPlane, kill: &Kill, expected: &Value) -> Result<Run, String> {
    let mut world = story.begin(plane, Some(kill));
    let (mut deadline, mut over, mut was_ended) = (Instant::now() + PATIENCE, false, false);
    loop {
        // Asked first: one that was ended from here is known to have been by the time it is asked for.
        let has_ended = world.has_ended();
        if !was_ended && world.count.has_struck() {
            was_ended = true;
            world.somebody_logs_in();
            world.start();
        } else if has_ended {
            // As a kubelet does with one that gave up by itself, as for want of its lease on a machine that is busy.
            world.start();
        }
        let object = world.object();
        if !over && story.is_over(object.as_ref()) {
            (over, deadline) = (true, Instant::now() + TIDYING);
        }
        let is_late = Instant::now() > deadline;
        if over || is_late {
            let end = end(&world);
            let different = differences(expected, &end);
            if different.is_empty() {
                return Ok(Run { end, seen: world.count.seen(), was_ended });
            }
            if is_late {
                let status = object.map(|object| format!("{:#}", object["status"])).unwrap_or_default();
                return Err(format!("{}\n{status}\n{}", different.join("\n"), world.log()));
            }
        }
        pause();
    }
}

/// Between two looks at what is awaited.
fn pause() {
    std::thread::sleep(Duration::from_millis(200));
}

/// Every moment worth a run: both sides of every call that may change something, and of some that do not.
fn moments(seen: &[Boundary], chance: &mut StdRng) -> Vec<Kill> {
    let (changes, mut reads): (Vec<_>, Vec<_>) = seen.iter().cloned().partition(|boundary| boundary.call.changes);
    reads.retain(|read| read.nth == 1);
    reads.shuffle(chance);
    reads.truncate(READS);
    let both = |boundary: Boundary| [Side::Before, Side::After].map(|side| Kill { side, boundary: boundary.clone() });
    changes.into_iter().chain(reads).flat_map(both).collect()
}

fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let told = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = told.unwrap_or_else(|| u64::from(std::process::id()));
        tell(&format!("SEED={seed}"));
        seed
    })
}

/// What has passed before of these programs; each line is a moment.
struct Kept(PathBuf);

impl Kept {
    fn of(story: Story) -> Self {
        let folder = std::env::var_os("KILLS_DIR").map_or_else(|| PathBuf::from("target/kills"), PathBuf::from);
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sessionbackend"));
        let mut proved = Sha256::new();
        for program in [program.with_file_name("sandbox"), program] {
            proved.update(std::fs::read(program).unwrap());
        }
        let proved: String = proved.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let folder = folder.join(proved);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder.join(format!("{story}.passed")))
    }

    /// Writes down what there is to pass.
    fn list(&self, moments: &[Kill]) {
        let lines: Vec<_> = moments.iter().map(|kill| format!("{kill}\n")).collect();
        std::fs::write(self.0.with_extension("moments"), lines.concat()).unwrap();
    }

    fn passed(&self) -> BTreeSet<String> {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn keep(&self, kill: &Kill) {
        let mut file = std::fs::File::options().create(true).append(true).open(&self.0).unwrap();
        writeln!(file, "{kill}").unwrap();
    }
}

/// Ends the operator at the moments of a story, each in a run of its own.
fn ends_as_undisturbed(story: Story) {
    let Some(plane) = plane() else { return };
    let mut chance = StdRng::seed_from_u64(seed());
    let run = undisturbed(story, plane);
    let mut moments = moments(&run.seen, &mut chance);
    let all = moments.len();
    let takes_all = std::env::var_os("KILLS_ALL").is_some_and(|all| all == "1");
    let kept = takes_all.then(|| Kept::of(story));
    if let Some(kept) = &kept {
        kept.list(&moments);
        let passed = kept.passed();
        moments.retain(|kill| !passed.contains(&kill.to_string()));
        tell(&format!("{story}: {all} moments, {} passed before", all - moments.len()));
    } else {
        moments.retain(|kill| kill.side == Side::After || !SLOW.contains(&kill.boundary.call.verb.as_str()));
        moments.shuffle(&mut chance);
        moments.truncate(SAMPLE);
    }
    let (began, mut failed, mut unmet) = (Instant::now(), Vec::new(), 0);
    for (index, kill) in moments.iter().enumerate() {
        if !takes_all && index > 0 && began.elapsed() > BUDGET {
            break;
        }
        let started = Instant::now();
        // A run that breaks off, as its beginning does on a machine that is busy, must not keep the others from being made.
        let came_to = catch_unwind(AssertUnwindSafe(|| disturbed(story, plane, kill, &run.end)))
            .unwrap_or_else(|_| Err("it broke off: see above".to_owned()));
        let took = started.elapsed().as_secs();
        match came_to {
            Ok(run) => {
                unmet += usize::from(!run.was_ended);
                let met = if run.was_ended { "ends as the undisturbed one" } else { "does not come to this call" };
                tell(&format!("{story}, {kill}: {met}, {took} s"));
                if let Some(kept) = &kept {
                    kept.keep(kill);
                }
            }
            Err(different) => {
                tell(&format!("{story}, {kill}: FAILED, {took} s\n{different}"));
                failed.push(format!("{story}, {kill}:\n{different}"));
            }
        }
    }
    tell(&format!("{story}: {} of {all} moments tried now, {} failed, {unmet} not met", moments.len(), failed.len()));
    assert!(failed.is_empty(), "SEED={}\n{}", seed(), failed.join("\n\n"));
}

#[test]
fn wherever_it_is_killed_while_a_store_is_made_the_store_is_made_once() {
    ends_as_undisturbed(Story::Create);
}

#[test]
fn wherever_it_is_killed_in_a_migration_the_migration_completes() {
    ends_as_undisturbed(Story::Migrate);
}

#[test]
fn wherever_it_is_killed_in_a_migration_that_fails_it_is_rolled_back() {
    ends_as_undisturbed(Story::FailingMigrate);
}

#[test]
fn wherever_it_is_killed_while_an_object_goes_nothing_of_it_is_left() {
    ends_as_undisturbed(Story::Delete);
}
