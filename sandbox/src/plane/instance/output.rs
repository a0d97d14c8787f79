//! What an instance prints, line by line, into the service's application log.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Child;

use crate::dataplane::Journal;

/// A longer line arrives in pieces (CloudWatch takes 256 KiB an event).
const LONGEST: u64 = 64 * 1024;

/// Follows both streams of `child` until they end.
pub(super) fn follow(child: &mut Child, journal: Arc<dyn Journal>, service: &str, instance: &str) {
    if let Some(out) = child.stdout.take() {
        tokio::spawn(lines(out, journal.clone(), service.to_owned(), instance.to_owned()));
    }
    if let Some(err) = child.stderr.take() {
        tokio::spawn(lines(err, journal, service.to_owned(), instance.to_owned()));
    }
}

async fn lines(from: impl AsyncRead + Unpin, journal: Arc<dyn Journal>, service: String, instance: String) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                journal.application(&service, &instance, String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            }
        }
    }
}
