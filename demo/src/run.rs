//! `demo run`: the story from an empty sandbox to the report. It starts everything, shows how it goes, and ends all it
//! started, also on Ctrl-C. What holds is decided in `report`, what people met by the visitors.

mod operate;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

use crate::manifest;
use crate::pace::CriticalPath;
use crate::people::{People, Pulse};
use crate::product::{Apply, Checked, Product};
use crate::report::{Facts, Scenario};
use crate::sandbox::Sandbox;
use crate::terminal::{Terminal, thousands};
use crate::world::{self, World};
use operate::Operation;
use stage::Stage;

pub(crate) use stage::beside;

/// What ends a story early.
pub type Error = Box<dyn std::error::Error>;

/// `apply` has its own deadlines; this one is for an `apply` that hangs.
const PATIENCE: Duration = Duration::from_mins(8);
/// How often a line about the visitors is written when nothing changes.
const BEAT: Duration = Duration::from_secs(5);
/// The earliest moment at which `apply` is killed, in milliseconds since it was started.
const FIRST_KILL_MS: u64 = 50;

/// What to run, and with what.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which story.
    #[arg(long, value_enum, default_value = "migrate", env = "SCENARIO")]
    pub scenario: Scenario,
    /// Where report and manifest are written; the sandbox lives below it.
    #[arg(long, default_value = "target/demo")]
    pub dir: PathBuf,
    /// The sandbox; default: beside this binary.
    #[arg(long, env = "SANDBOX_BIN")]
    pub sandbox: Option<PathBuf>,
    /// The product; default: beside this binary.
    #[arg(long, env = "SESSIONBACKEND_BIN")]
    pub sessionbackend: Option<PathBuf>,
    /// The sample app; default: beside this binary.
    #[arg(long, env = "SESSIONS_APP_BIN")]
    pub app: Option<PathBuf>,
    /// Sessions logged in before the move; the report demands as many.
    #[arg(long, default_value_t = 5000)]
    pub sessions: u64,
    /// People who click.
    #[arg(long, default_value_t = 300)]
    pub visitors: u64,
    /// Requests the report demands during the move.
    #[arg(long, default_value_t = 10_000)]
    pub requests: u64,
    /// Divides the clouds' durations.
    #[arg(long, default_value_t = 60)]
    pub speed: u32,
    /// Seed of everything the visitors choose.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Kill `apply` (as `kill -9`) up to so many times at moments chosen by the seed, and start it again each time.
    #[arg(long, default_value_t = 0)]
    pub kills: u32,
    /// Run `sessionbackend` as the controller of a cluster instead, on a control plane of its own.
    #[arg(long)]
    pub cluster: bool,
    /// The cluster to use instead, as an administrator; its objects are made in the namespaces sessionbackend and liberty.
    #[arg(long, requires = "cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Leave the sandbox running at the end, to look around.
    #[arg(long)]
    pub keep: bool,
}

/// Tells the story; `true` if every condition of the scenario holds.
///
/// # Errors
/// What kept the story from being told to its end.
pub async fn run(args: &RunArgs) -> Result<bool, Error> {
    unless_interrupted(Box::pin(tell(args))).await
}

/// A story, to its end or to Ctrl-C.
pub(crate) async fn unless_interrupted<T>(story: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropping the story ends everything it started.
    tokio::select! {
        told = story => told,
        _ = interrupt.recv() => Err("interrupted; everything that was started has been ended".into()),
        _ = terminate.recv() => Err("terminated; everything that was started has been ended".into()),
    }
}

async fn tell(args: &RunArgs) -> Result<bool, Error> {
    let terminal = Terminal::new();
    let stage = Stage::new(args)?;
    terminal.heading(&format!("sessionbackend demo: {}", name(args.scenario)));
    let sandbox = Sandbox::up(&stage.settings).await?;
    let pace = format!("up in {}, clouds {} times faster", stage.settings.dir.display(), args.speed);
    terminal.say("sandbox", &pace);

    let world = world::wire(&sandbox, &stage.token).await?;
    let instances = world::INSTANCES;
    terminal.say("world", &format!("{} with {instances} instances on {}", world::SERVICE, world.store));
    terminal.say("world", &format!("https://{}", world.host));

    let (mut people, sessions, took) = People::enter(stage.visit(&sandbox, &world)).await?;
    let logins = format!("{} sessions logged in within {:.1} s", thousands(sessions), took.as_secs_f64());
    terminal.say("visitors", &format!("{logins}; {} people begin to click", args.visitors));

    let product = stage.product(&sandbox, &world)?;
    let mut operation = None;
    if args.cluster {
        operation = Some(Operation::prepare(args, &terminal, &product, &stage.token).await?);
    }
    let Carried { exit, took, kills, checked } =
        carry_out(args, &terminal, &product, operation.as_mut(), &world, &mut people).await?;

    terminal.say("visitors", "leaving; every session is read once more");
    let findings = people.leave().await?;
    std::fs::write(args.dir.join("visitors.json"), serde_json::to_string_pretty(&findings)?)?;
    let after = world::configuration(&sandbox, &world.service_arn).await?;
    let operations = world::operations(&sandbox, &world.service_arn).await?;
    let plan_changes = product.plan().await.inspect_err(|error| terminal.say("plan", &error.to_string())).ok();
    let status = if let Some(operation) = &operation {
        operation.status().await?
    } else {
        let status = product.status().await.inspect_err(|error| terminal.say("status", &error.to_string()));
        status.unwrap_or_default()
    };
    product.say_all().await?;
    let canaries = world::canaries(&sandbox, &stage.token).await?;
    let facts = Facts {
        leaks: Vec::new(),
        scenario: args.scenario,
        exit,
        status,
        checked,
        findings,
        foreign: world.before.foreign(),
        foreign_changes: world.before.foreign_changes(&after),
        named: vec![world.connector.clone(), world.rule.clone()],
        removed: world::removed(&sandbox, &world).await?,
        old_store_available: world::old_store_available(&sandbox).await?,
        old_store: world.store.clone(),
        configuration_restored: restored(&world, &after),
        plan_changes,
        made: world::made(&sandbox, &world).await?,
        store_reference: after.store_variable().unwrap_or_default().to_owned(),
        kills,
        path: CriticalPath::of(args.scenario, &operations, manifest::waits(manifest::EXAMPLE)),
        seconds: took.as_secs_f64(),
    };
    let holds = stage.publish(&terminal, facts, &canaries)?;
    if args.keep {
        terminal.say(
            "sandbox",
            &format!(
                "left running; look around with\n\
                 SANDBOX_DIR={dir} {program} exec --from vpc:{vpc} -- {ours} status -f {manifest}\n\
                 and end it with\nSANDBOX_DIR={dir} {program} down",
                dir = stage.settings.dir.display(),
                program = stage.settings.binary.display(),
                vpc = world.vpc,
                ours = stage.sessionbackend.display(),
                manifest = stage.manifest().display(),
            ),
        );
        sandbox.leave_up();
    } else {
        sandbox.down().await?;
    }
    Ok(holds)
}

fn restored(world: &World, after: &world::Configuration) -> bool {
    world.before.store_variable() == after.store_variable() && world.before.egress == after.egress
}

/// What carrying out came to.
struct Carried {
    /// Exit code of the last `apply`.
    exit: Option<i32>,
    /// From the first `apply` to the end of the last.
    took: Duration,
    /// How often it was killed.
    kills: u32,
    /// The checks it told of.
    checked: Checked,
}

/// Runs `apply` to its end with its output shown as it goes, and lets the scenario's fault happen in its time.
async fn carry_out(
    args: &RunArgs,
    terminal: &Terminal,
    product: &Product<'_>,
    operation: Option<&mut Operation<'_>>,
    world: &World,
    people: &mut People,
) -> Result<Carried, Error> {
    if args.scenario == Scenario::PlatformRollback {
        product.sandbox.roll_back_next_deployment(world::SERVICE).await?;
        terminal.say("fault", "App Runner will return to the old configuration by itself, and say RUNNING");
    }
    let sessions = people.begin_move().await?;
    let begun = Instant::now();
    let command = if operation.is_some() { "kubectl" } else { "sessionbackend" };
    terminal.heading(&format!("{command} apply -f {}", product.manifest.display()));
    terminal.say("visitors", &format!("{} sessions when the move begins", thousands(sessions)));
    let (mut kills, mut checked) = (0, Checked::default());
    let carried = async {
        match operation {
            Some(operation) => operation.carry_out(args, terminal, &mut kills, &mut checked).await,
            None => apply(args, terminal, product, &mut kills, &mut checked).await,
        }
    };
    let exit = tokio::select! {
        exit = timeout(PATIENCE * (args.kills + 1), carried) => if let Ok(exit) = exit {
            exit?
        } else {
            terminal.say("apply", "has not ended, and is ended now");
            None
        },
        never = alongside(args.scenario, terminal, product.sandbox, world, people) => match never? {},
    };
    Ok(Carried { exit, took: begun.elapsed(), kills, checked })
}

/// Runs `apply` until it ends by itself; it is killed before as often and as soon as the arguments say.
async fn apply(
    args: &RunArgs,
    terminal: &Terminal,
    product: &Product<'_>,
    kills: &mut u32,
    checked: &mut Checked,
) -> Result<Option<i32>, Error> {
    let mut moments = moments(args);
    while *kills < args.kills {
        let mut killed = product.apply()?;
        let moment = moments();
        if let Ok(exit) = timeout(moment, follow(terminal, &mut killed, checked)).await {
            return exit;
        }
        killed.child.kill().await?;
        *kills += 1;
        let seed = args.seed;
        terminal.say("kill -9", &format!("after {:.3} s (seed {seed}); apply is started again", moment.as_secs_f64()));
    }
    follow(terminal, &mut product.apply()?, checked).await
}

/// The moments of the kills, each since the one before, as the seed wants them. One kill can come at any time of the move;
/// several share it, so that most of them come before its end.
fn moments(args: &RunArgs) -> impl FnMut() -> Duration + use<> {
    let mut dice = StdRng::seed_from_u64(args.seed);
    let share = FIRST_KILL_MS..lasts_ms(args.scenario) / u64::from(args.kills.max(1));
    move || Duration::from_millis(dice.random_range(share.clone()))
}

async fn follow(terminal: &Terminal, apply: &mut Apply, checked: &mut Checked) -> Result<Option<i32>, Error> {
    while let Some(line) = apply.lines.recv().await {
        checked.hear(&line);
        terminal.say("apply", &format!("│ {line}"));
    }
    let status = apply.child.wait().await?;
    terminal.say("apply", &format!("ended with {status}"));
    Ok(status.code())
}

/// What happens while `apply` runs. It goes on until it is dropped.
async fn alongside(
    scenario: Scenario,
    terminal: &Terminal,
    sandbox: &Sandbox,
    world: &World,
    people: &People,
) -> Result<std::convert::Infallible, Error> {
    let fault = async {
        switched(sandbox, world).await?;
        terminal.say("service", "the switch has begun: its configuration names another store");
        if scenario == Scenario::Rollback {
            sandbox.deny_command(&world::new_store(sandbox).await?, "SETEX").await?;
            terminal.say("fault", "the new store refuses SETEX from now on; the app itself uses SET");
        }
        std::future::pending::<Result<_, Error>>().await
    };
    tokio::select! {
        ended = fault => ended,
        never = watch(terminal, people) => Ok(never),
    }
}

/// Waits until the service's configuration names another store than before.
async fn switched(sandbox: &Sandbox, world: &World) -> Result<(), Error> {
    let look = async |sandbox: &Sandbox| {
        let now = world::configuration(sandbox, &world.service_arn).await?;
        Ok((now.store_variable() != world.before.store_variable()).then_some(()))
    };
    Ok(sandbox.wait("the service was not switched", PATIENCE, look).await?)
}

/// A line about the visitors when the serving stores change, and now and then.
async fn watch(terminal: &Terminal, people: &People) -> std::convert::Infallible {
    let mut pulse = people.pulse();
    let mut told = (Instant::now(), Pulse::default());
    loop {
        if pulse.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let now = pulse.borrow_and_update().clone();
        if now.serving == told.1.serving && told.0.elapsed() < BEAT {
            continue;
        }
        let serving = now.serving.iter().map(|(store, count)| format!("{count} × {}", short(store)));
        let serving = serving.collect::<Vec<_>>().join(", ");
        let line = format!("{} requests, {} failed; serving: {serving}", thousands(now.requests), now.failed);
        terminal.say("visitors", &line);
        told = (Instant::now(), now);
    }
}

/// A store's name without what all of its vendor's names share.
fn short(store: &str) -> &str {
    let host = store.split(':').next().unwrap_or(store);
    if host.ends_with(".cache.amazonaws.com") { "ElastiCache" } else { host }
}

/// About how long an undisturbed move takes.
fn lasts_ms(scenario: Scenario) -> u64 {
    match scenario {
        Scenario::Migrate => 60_000,
        Scenario::Rollback => 37_000,
        Scenario::PlatformRollback => 29_000,
    }
}

fn name(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Migrate => "migrate",
        Scenario::Rollback => "rollback",
        Scenario::PlatformRollback => "platform-rollback",
    }
}
