//! The demo's command line. It reads arguments and the environment once and hands them on; no decision is made here.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use demo::bench::{BenchArgs, bench};
use demo::run::{RunArgs, run};
use demo::visit::{VisitArgs, visit};

/// Moves a busy service between stores on the sandbox and lets its visitors judge.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Visit a service until told to leave: lines `move` and `leave` on stdin, JSON lines on stdout.
    Visit(VisitArgs),
    /// Tell the whole story on a sandbox of its own, and report; exit 0 only if everything holds.
    Run(RunArgs),
    /// Measure the operator: its size, its start, its memory at rest; a line each.
    Bench(BenchArgs),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Two crates of the tree could bring a TLS provider; naming ours keeps rustls from having to guess.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Cli::parse().command {
        Command::Visit(args) => visit(&args).await.map(|()| true),
        Command::Run(args) => run(&args).await,
        Command::Bench(args) => bench(&args).await.map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
