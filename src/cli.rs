//! The command line: arguments in, exit code out. Every command reads its manifests, finds out whose account it is, and
//! then does one thing; the deciding is the core's, the wording [`crate::render`]'s.

pub mod apply;
pub mod args;
pub mod destroy;
pub mod drive;
pub mod environment;
pub mod error;
pub mod exit;
pub mod files;
pub mod look;
pub mod object;
pub mod output;
pub mod report;
pub mod secrets;
pub mod word;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser as _};

use self::args::{Arguments, Command};
use self::environment::Environment;
use self::error::Error;
use self::object::Session;
use crate::controller::{self, Grants, Options};
use crate::telemetry::Log;

/// Runs the command the arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell that standard output is gone.
            let _ = error.print();
            if let Some(file) = file_without_its_flag(&error) {
                eprintln!("did you mean -f {file}?");
            }
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::CONVERGED });
        }
    };
    let environment = Environment::read();
    // Two crates of the tree could bring a TLS provider; naming ours keeps rustls from having to guess.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    crate::telemetry::start(environment.log(), &log(&arguments.command));
    let form = Form::of(&arguments);
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Box::pin(run(arguments, environment))),
        Err(source) => Err(Error::Runtime(source)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            match form {
                Form::Lines => output::json_line(&error.json()),
                Form::Document => output::document(vec![error.json()]),
                Form::Text => {}
            }
            eprint!("{}", error.text());
            ExitCode::from(exit::ERROR)
        }
    }
}

/// A manifest that was given like an argument.
fn file_without_its_flag(error: &clap::Error) -> Option<&str> {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    std::path::Path::new(given).is_file().then_some(given.as_str())
}

/// How an error is told besides the text on standard error: scripts read standard output.
enum Form {
    Text,
    Document,
    Lines,
}

impl Form {
    fn of(arguments: &Arguments) -> Self {
        match (&arguments.command, arguments.output) {
            (_, args::Output::Text)
            | (Command::Run(_) | Command::Crd | Command::Conditions | Command::Completion { .. }, _) => Self::Text,
            (Command::Apply(_) | Command::Destroy(_), args::Output::Json) => Self::Lines,
            (_, args::Output::Json) => Self::Document,
        }
    }
}

/// A command says what it does itself; a controller has nothing but its log.
fn log(command: &Command) -> Log {
    match command {
        Command::Run(run) => Log { default: "info", json: run.log_format == args::LogFormat::Json },
        _ => Log { default: "warn", json: false },
    }
}

async fn run(arguments: Arguments, environment: Environment) -> Result<u8, Error> {
    let Arguments { command, output, installation, namespace } = arguments;
    let upstash_url = environment.upstash().map(str::to_owned);
    let session = |files: args::Files| Session {
        environment,
        output,
        installation: installation.clone(),
        namespace: namespace.clone(),
        files: files.file,
    };
    match command {
        Command::Plan(files) => look::plan(&session(files)).await,
        Command::Apply(files) => apply::apply(&session(files)).await,
        Command::Status(args::Status { no_checks, files }) => look::status(&session(files), !no_checks).await,
        Command::Approve(args::Approve { gate, files }) => word::approve(&session(files), &gate).await,
        Command::Abort(args::Word { migration, files }) => word::abort(&session(files), migration.as_ref()).await,
        Command::Retry(args::Word { migration, files }) => word::retry(&session(files), migration.as_ref()).await,
        Command::Validate(files) => files::validate(&session(files)),
        Command::Destroy(args::Destroy { yes, files }) => destroy::destroy(&session(files), yes).await,
        Command::Run(run) => {
            let args::Run { watch, listen, lease, identity, concurrency, services, roles, log_format: _ } = run;
            let grants = Grants { services, roles };
            let options =
                Options { installation, namespace, watch, listen, identity, lease, concurrency, upstash_url, grants };
            Box::pin(controller::run(options)).await.map_err(Error::Controller)?;
            Ok(exit::CONVERGED)
        }
        Command::Crd => {
            output::text(&crate::api::crd_yaml().map_err(Error::Schema)?);
            Ok(exit::CONVERGED)
        }
        Command::Conditions => {
            output::text(&crate::render::conditions::text());
            Ok(exit::CONVERGED)
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sessionbackend", &mut script);
            output::text(&String::from_utf8_lossy(&script));
            Ok(exit::CONVERGED)
        }
    }
}
