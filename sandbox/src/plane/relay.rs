//! Carries bytes between a client and a store's server, adding latency and enforcing the limit of connections.
//! Does not look into the bytes: TLS ends in Redis.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

const CHUNK: usize = 16 * 1024;
/// Chunks on their way in a slow direction; more would only hide back-pressure.
const IN_FLIGHT: usize = 256;

/// The way to one store's server.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Where the server listens for clients.
    pub(crate) backend: SocketAddr,
    pub(crate) tls: bool,
    /// Enforced here and not by the server, so that the sandbox itself can always get in.
    pub(crate) max_clients: Option<u32>,
    latency_micros: AtomicU64,
    clients: AtomicU32,
}

impl Wire {
    pub(crate) fn new(backend: SocketAddr, tls: bool, max_clients: Option<u32>) -> Self {
        Self { backend, tls, max_clients, latency_micros: AtomicU64::new(0), clients: AtomicU32::new(0) }
    }

    /// Added each way from now on, to open connections too.
    pub(crate) fn set_latency(&self, latency: Duration) {
        self.latency_micros.store(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Connected now.
    pub(crate) fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_micros.load(Ordering::Relaxed))
    }
}

struct Seat(Arc<Wire>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one client until either side closes. The server sees `source` as its address, so that CLIENT LIST tells
/// vantages apart.
pub(crate) async fn relay(mut client: TcpStream, source: Ipv4Addr, wire: Arc<Wire>) {
    let before = wire.clients.fetch_add(1, Ordering::Relaxed);
    let seat = Seat(wire.clone());
    if wire.max_clients.is_some_and(|most| before >= most) {
        // Redis writes this before any handshake, so TLS clients see the connection close and nothing else.
        if !wire.tls {
            let _ = client.write_all(b"-ERR max number of clients reached\r\n").await;
        }
        return;
    }
    let Ok(server) = connect(source, wire.backend).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::join!(one_way(client_in, server_out, &wire), one_way(server_in, client_out, &wire));
    drop(seat);
}

async fn connect(source: Ipv4Addr, backend: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(backend).await
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wire: &Wire) {
    let mut chunk = vec![0_u8; CHUNK];
    while wire.latency().is_zero() {
        match from.read(&mut chunk).await {
            Ok(0) | Err(_) => {
                let _ = to.shutdown().await;
                return;
            }
            // A latency that came while we waited for these bytes holds for them.
            Ok(read) if !wire.latency().is_zero() => {
                tokio::time::sleep(wire.latency()).await;
                if to.write_all(&chunk[..read]).await.is_err() {
                    return;
                }
            }
            Ok(read) => {
                if to.write_all(&chunk[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
    slowly(from, to, wire, chunk).await;
}

/// Bytes keep their distance: a pipeline is delayed once, not once a chunk.
async fn slowly(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wire: &Wire, mut chunk: Vec<u8>) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Bytes)>(IN_FLIGHT);
    let reading = async move {
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let due = Instant::now() + wire.latency();
            if sender.send((due, Bytes::copy_from_slice(&chunk[..read]))).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
