//! The word to stop: asked once, everything in flight is finished first; asked twice, the process ends at once.
//! Both are safe, because whatever a call leaves behind is read again.

use tokio::sync::watch;

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

    /// Asked for by the signals of this process, and said on standard error.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub fn on_signals() -> std::io::Result<Self> {
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
                eprintln!("stopping after the call in flight; once more stops at once");
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
