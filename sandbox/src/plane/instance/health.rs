//! Health checks as App Runner makes them: a TCP connection, or GET and a status of success.
//! Only looks; what follows from a failure is decided by the instance.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::dataplane::HealthCheck;

/// Local processes start in a fraction of a second: while one starts, it is asked more often than the vendor would.
const STARTING: Duration = Duration::from_millis(50);
/// However short the intervals are made by a fast clock, a process needs real time to start.
const LEAST_START: Duration = Duration::from_secs(10);
const LEAST_INTERVAL: Duration = Duration::from_millis(500);
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits for `healthy` successes in a row; the error says what was seen last.
pub(super) async fn starts(address: SocketAddr, check: &HealthCheck) -> Result<(), String> {
    let deadline = Instant::now() + (check.interval * check.unhealthy).max(LEAST_START);
    let mut in_a_row = 0;
    loop {
        match probe(address, check).await {
            Ok(()) => {
                in_a_row += 1;
                if in_a_row >= check.healthy.max(1) {
                    return Ok(());
                }
            }
            Err(error) if Instant::now() > deadline => return Err(describe(check, &error)),
            Err(_) => in_a_row = 0,
        }
        sleep(check.interval.min(STARTING)).await;
    }
}

/// Returns after `unhealthy` failures in a row, with the platform's words.
pub(super) async fn fails(address: SocketAddr, check: &HealthCheck) -> String {
    let mut in_a_row = 0;
    loop {
        sleep(check.interval.max(LEAST_INTERVAL)).await;
        match probe(address, check).await {
            Ok(()) => in_a_row = 0,
            Err(error) => {
                in_a_row += 1;
                if in_a_row >= check.unhealthy.max(1) {
                    return format!("Health check failed on {}.", describe(check, &error));
                }
            }
        }
    }
}

fn describe(check: &HealthCheck, error: &io::Error) -> String {
    match &check.http_path {
        Some(path) => format!("protocol `HTTP` [Path: '{path}']: {error}"),
        None => format!("protocol `TCP`: {error}"),
    }
}

async fn probe(address: SocketAddr, check: &HealthCheck) -> io::Result<()> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let Some(path) = &check.http_path else { return Ok(()) };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Read to its end, so that the application never sees a reset of ours.
        stream.take(256 * 1024).read_to_end(&mut answer).await?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        match status.and_then(|digits| digits.parse::<u16>().ok()) {
            Some(200..=399) => Ok(()),
            Some(status) => Err(io::Error::other(format!("status {status}"))),
            None => Err(io::Error::other("the answer is not HTTP")),
        }
    };
    timeout(check.timeout.max(LEAST_TIMEOUT), asking).await.map_err(|_| io::Error::other("timed out"))?
}
