//! The word to stop: asked once, everything in flight is finished first; asked twice, the process ends at once.
//! Both are safe, because whatever a call leaves behind is read again.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::error::{Class, CloudError};

/// Whether somebody asked to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Asks to stop.
#[derive(Debug)]
pub struct Asker(watch::Sender<bool>);

impl Stop {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> (Asker, Self) {
        let (asker, stop) = watch::channel(false);
        (Asker(asker), Self(stop))
    }

    /// Asked for by the signals of this process; `tell` says so.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub fn on_signals(tell: impl Fn(&str) + Send + 'static) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (asker, stop) = Self::new();
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(async move {
            for turn in 0.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if turn > 0 {
                    std::process::exit(crate::cli::exit::INTERRUPTED.into());
                }
                tell("stopping after the call in flight; once more stops at once");
                asker.ask();
            }
        });
        Ok(stop)
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked for.
    pub async fn asked(&self) {
        let mut asked = self.0.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Asker {
    /// Asks.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }
}

/// Lets a wave that has begun run to its end, with the lines that keep what its calls returned, and no new one begin once
/// the word to stop has come.
#[derive(Debug)]
pub struct Waves {
    stop: Stop,
    begun: AtomicBool,
}

impl Waves {
    /// None has begun.
    #[must_use]
    pub fn until(stop: &Stop) -> Self {
        Self { stop: stop.clone(), begun: AtomicBool::new(false) }
    }

    /// A new turn: what was begun is over.
    pub fn turn(&self) {
        self.begun.store(false, Ordering::SeqCst);
    }

    /// Before each call of a wave.
    ///
    /// # Errors
    /// When the wave has not begun and must not any more.
    pub fn call(&self) -> Result<(), CloudError> {
        if !self.begun.load(Ordering::SeqCst) && self.stop.is_asked() {
            let what = "interrupted before this call";
            return Err(CloudError::new(Class::Conflict, "sessionbackend", "apply", "", what));
        }
        self.begun.store(true, Ordering::SeqCst);
        Ok(())
    }
}
