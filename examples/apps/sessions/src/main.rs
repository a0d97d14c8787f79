//! A small session service as an App Runner user would have it: any instance answers any request, because sessions
//! live in Redis and nowhere else. It reads its environment once, serves until SIGTERM and finishes what is in flight.
//! It must not know that stores are ever moved: there is no hook for it here.

mod config;
mod routes;
mod session;
mod store;

use std::process::ExitCode;

use config::Config;
use store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Two crates of the tree could bring a TLS provider; naming ours keeps rustls from having to guess.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("[App] CRITICAL: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::from_environment(&std::env::vars().collect())?;
    let instance = format!("{:08x}", rand::random::<u32>());
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((config.bind, config.port)).await?;
    println!("[App] Instance {instance} listening on {}", listener.local_addr()?);

    let store = Store::new(config.redis);
    store.warm_up().await;
    axum::serve(listener, routes::router(store, instance.clone(), config.session_ttl))
        .with_graceful_shutdown(async move {
            terminate.recv().await;
            println!("[App] SIGTERM received, finishing requests in flight");
        })
        .await?;
    println!("[App] Instance {instance} stopped");
    Ok(())
}
