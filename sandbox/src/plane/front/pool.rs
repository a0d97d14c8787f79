//! One upstream server and the connections kept open to it.
//! A kept connection is used again only while it is young, long before any server's own keep-alive time-out: a
//! request must never meet a server that is just closing.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::plane::front::body::RequestBody;

/// The shortest keep-alive time-out of servers in use is gunicorn's, 2 s.
const REUSE_WITHIN: Duration = Duration::from_secs(1);
const MOST_IDLE: usize = 128;

/// Where requests of a service can go: one instance, or one backend of the sandbox.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    healthy: AtomicBool,
    in_flight: AtomicU32,
    idle: Mutex<Vec<Kept>>,
    drained: Notify,
}

#[derive(Debug)]
struct Kept {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A request in flight at an upstream, until dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Upstream>);

/// A connection that can take one request.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Used before: a failure may only mean that the server closed it meanwhile.
    pub(crate) reused: bool,
}

impl Upstream {
    pub(crate) fn new(address: SocketAddr, healthy: bool) -> Self {
        Self {
            address,
            healthy: AtomicBool::new(healthy),
            in_flight: AtomicU32::new(0),
            idle: Mutex::default(),
            drained: Notify::new(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Only a healthy upstream is given requests. Its kept connections are closed when it is not.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
        if !healthy {
            self.idle().clear();
        }
    }

    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Seat(self.clone())
    }

    /// Waits until no request is in flight, then closes the kept connections.
    pub(crate) async fn drained(&self) {
        loop {
            let notified = self.drained.notified();
            if self.in_flight.load(Ordering::Acquire) == 0 {
                self.idle().clear();
                return;
            }
            notified.await;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn young(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle();
        let now = Instant::now();
        let newest = idle.pop()?;
        if now.duration_since(newest.since) < REUSE_WITHIN {
            return Some(newest.sender);
        }
        // The newest is the last: all others are older still.
        idle.clear();
        None
    }

    /// A connection kept from before, if `may_reuse`, or a new one.
    pub(crate) async fn connect(&self, may_reuse: bool) -> io::Result<Connection> {
        while let Some(mut sender) = self.young().filter(|_| may_reuse) {
            if sender.ready().await.is_ok() {
                return Ok(Connection { sender, reused: true });
            }
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        sender.ready().await.map_err(io::Error::other)?;
        Ok(Connection { sender, reused: false })
    }

    pub(crate) fn keep(&self, sender: SendRequest<RequestBody>) {
        let mut idle = self.idle();
        if idle.len() < MOST_IDLE && self.is_healthy() {
            idle.push(Kept { sender, since: Instant::now() });
        }
    }
}

impl Seat {
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.drained.notify_waiters();
        }
    }
}
