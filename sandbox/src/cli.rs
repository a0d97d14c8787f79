//! The command line: what a person types. Asks the daemon over its HTTP endpoint; holds no state but the files of
//! the sandbox's directory.

/// Prints a line for the caller, who may have stopped reading (`sandbox log | head`).
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

mod call;
mod client;
mod enter;
mod ground;
mod logs;
mod orphans;
mod serve;
mod up;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A local emulator of AWS App Runner, EC2 networking, ElastiCache, Secrets Manager and Upstash.
#[derive(Debug, Parser)]
#[command(name = "sandbox", version)]
struct Cli {
    /// Files of the sandbox; several sandboxes can run side by side in different directories.
    #[arg(long, global = true, env = "SANDBOX_DIR", default_value = "target/sandbox")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a sandbox in the background and wait until it is ready.
    Up(up::Up),
    /// Run the sandbox in the foreground.
    #[command(hide = true)]
    Serve(Setup),
    /// End the sandbox and everything it runs.
    Down,
    /// Say what runs.
    Status {
        /// How to print it.
        #[arg(short, long, default_value = "text")]
        output: Format,
    },
    /// Run a command that meets the emulated clouds instead of the real ones.
    Exec(enter::Exec),
    /// Replace this process by a command in a mount namespace of its own.
    #[command(hide = true)]
    Enter(enter::Enter),
    /// Make one API call and print its answer as JSON.
    Call(call::Call),
    /// Ask a store behind its vendor's door, as its operator could.
    Ask(call::Ask),
    /// Let things fail.
    Fault(call::Fault),
    /// Show or change the speed of life-cycles.
    Clock(call::Clock),
    /// Every API call so far: time, operation, outcome.
    Log(logs::Log),
    /// Register local commands as images.
    Image(call::Image),
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What a sandbox is started with.
#[derive(Debug, Clone, Args)]
struct Setup {
    /// How much faster than the vendors' life-cycles are. Timestamps stay wall time.
    #[arg(long, default_value_t = 20.0, value_parser = speed)]
    speed: f64,
    /// How long old and new instances serve side by side in a deployment.
    #[arg(long, default_value = "5s", value_parser = duration)]
    overlap: Duration,
    /// The longest a request to a service may take (App Runner: 120 s).
    #[arg(long, default_value = "120s", value_parser = duration)]
    request_limit: Duration,
    /// Answer WebSocket upgrades with 403, as App Runner's own proxy does.
    #[arg(long)]
    refuse_web_sockets: bool,
    /// How long an instance has between SIGTERM and SIGKILL.
    #[arg(long, default_value = "30s", value_parser = duration)]
    grace: Duration,
    /// Register a local command as an image: NAME='COMMAND ARGUMENTS'. Can be repeated.
    #[arg(long = "image", value_name = "NAME=COMMAND", value_parser = image)]
    images: Vec<(String, String)>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("sandbox: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, String> {
    let dir = std::path::absolute(&cli.dir).map_err(|e| format!("{}: {e}", cli.dir.display()))?;
    let done = match cli.command {
        Command::Exec(exec) => return enter::exec(&dir, &exec),
        Command::Enter(enter) => return enter::enter(&enter),
        Command::Up(options) => up::up(&dir, &options),
        Command::Serve(setup) => serve::serve(&dir, &setup),
        Command::Down => up::down(&dir),
        Command::Status { output } => up::status(&dir, output),
        Command::Call(call) => call::call(&dir, call),
        Command::Ask(ask) => call::ask(&dir, &ask),
        Command::Fault(fault) => call::fault(&dir, fault),
        Command::Clock(clock) => call::clock(&dir, &clock),
        Command::Log(log) => logs::log(&dir, &log),
        Command::Image(image) => call::image(&dir, image),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Environment variables of this process. The one place where it is read.
fn environment() -> BTreeMap<String, String> {
    std::env::vars().collect()
}

fn speed(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|s| s.is_finite() && *s > 0.0).ok_or_else(|| "a number above 0".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err("write it like 500ms, 5s or 2m".to_owned()),
    };
    let number = number.parse::<f64>().ok().filter(|n| n.is_finite() && (0.0..1e9).contains(n));
    number.map(|n| Duration::from_secs_f64(n * unit)).ok_or_else(|| "write it like 500ms, 5s or 2m".to_owned())
}

fn image(text: &str) -> Result<(String, String), String> {
    let (name, command) = text.split_once('=').ok_or("write NAME='COMMAND ARGUMENTS'")?;
    Ok((name.to_owned(), command.to_owned()))
}
