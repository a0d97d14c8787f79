//! One listening address that can vanish: while its path is closed, SYNs are dropped, as behind a missing
//! security-group rule or route; connecting hangs instead of being refused. Knows nothing of what is behind it.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nix::sys::socket::{Backlog, listen};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Is the path open right now?
pub(crate) type Path = Arc<dyn Fn() -> bool + Send + Sync>;
/// Takes a connection that came through.
pub(crate) type Door = Arc<dyn Fn(TcpStream, SocketAddr) + Send + Sync>;

/// How soon a change of the network is felt.
const POLL: Duration = Duration::from_millis(200);
const OPEN_BACKLOG: i32 = 1024;
/// Linux queues one connection more than the backlog and drops SYNs from then on.
const CLOSED_BACKLOG: i32 = 1;
const FILLERS: usize = 2;

/// Stops listening when dropped; connections that came through live on.
#[derive(Debug)]
pub(crate) struct Gate(JoinHandle<()>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Gate {
    /// Listens at `address`; port 0 is not meant here.
    pub(crate) fn at(address: SocketAddrV4, path: Path, door: Door) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address.into())?;
        let socket = socket.listen(CLOSED_BACKLOG.unsigned_abs())?;
        Ok(Self(tokio::spawn(watch(Listener { socket, address, fillers: Vec::new() }, path, door))))
    }
}

struct Listener {
    socket: TcpListener,
    address: SocketAddrV4,
    /// Connections of ours that keep the accept queue full. Empty = open.
    fillers: Vec<TcpStream>,
}

async fn watch(mut gate: Listener, path: Path, door: Door) {
    let mut open = path();
    if open {
        gate.backlog(OPEN_BACKLOG);
    } else {
        gate.close(&door).await;
    }
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if open {
            tokio::select! {
                accepted = gate.socket.accept() => {
                    let Ok((stream, peer)) = accepted else { continue };
                    if path() {
                        door(stream, peer);
                    } else {
                        open = false;
                        gate.close(&door).await;
                        // The kernel has shaken hands already; answering nothing is the nearest thing to a lost SYN.
                        tokio::spawn(never_answer(stream));
                    }
                }
                _ = ticks.tick() => if !path() {
                    open = false;
                    gate.close(&door).await;
                },
            }
        } else {
            ticks.tick().await;
            if path() {
                open = true;
                gate.open(&door);
            }
        }
    }
}

impl Listener {
    fn backlog(&self, backlog: i32) {
        // Calling listen(2) again on a listening socket changes its backlog. It cannot fail on a socket that listens.
        if let Ok(backlog) = Backlog::new(backlog) {
            let _ = listen(&self.socket, backlog);
        }
    }

    fn accept_waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        self.socket.accept().now_or_never()?.ok()
    }

    async fn close(&mut self, door: &Door) {
        self.backlog(CLOSED_BACKLOG);
        while let Some((stream, peer)) = self.accept_waiting() {
            door(stream, peer);
        }
        while self.fillers.len() < FILLERS {
            // Full already (a client slipped in): its place is as good as ours.
            match timeout(Duration::from_millis(100), TcpStream::connect(SocketAddr::V4(self.address))).await {
                Ok(Ok(filler)) => self.fillers.push(filler),
                Ok(Err(_)) | Err(_) => break,
            }
        }
    }

    fn open(&mut self, door: &Door) {
        self.backlog(OPEN_BACKLOG);
        let ours: Vec<SocketAddr> = self.fillers.iter().filter_map(|f| f.local_addr().ok()).collect();
        let mut left = ours.len();
        while left > 0 {
            let Some((stream, peer)) = self.accept_waiting() else { break };
            if ours.contains(&peer) {
                left -= 1;
            } else {
                door(stream, peer);
            }
        }
        self.fillers.clear();
    }
}

async fn never_answer(stream: TcpStream) {
    let mut ignored = [0_u8; 4096];
    loop {
        if stream.readable().await.is_err() || matches!(stream.try_read(&mut ignored), Ok(0)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::plane::slice::Slice;

    const HANGS: Duration = Duration::from_millis(1500);

    #[tokio::test]
    async fn a_closed_path_hangs_and_the_waiting_client_gets_through_when_it_opens() {
        let slice = Slice::take().unwrap();
        let address = SocketAddrV4::new(slice.address().unwrap(), 6379);
        let is_open = Arc::new(AtomicBool::new(false));
        let came = Arc::new(AtomicU32::new(0));
        let (path, count) = (is_open.clone(), came.clone());
        let _gate = Gate::at(
            address,
            Arc::new(move || path.load(Ordering::SeqCst)),
            Arc::new(move |_, _| {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        )
        .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(address.ip() != &Ipv4Addr::LOCALHOST);
        for _ in 0..3 {
            let connecting = timeout(HANGS, TcpStream::connect(SocketAddr::V4(address))).await;
            assert!(connecting.is_err(), "must hang, got {connecting:?}");
        }
        let waiting = tokio::spawn(TcpStream::connect(SocketAddr::V4(address)));
        is_open.store(true, Ordering::SeqCst);
        timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
        TcpStream::connect(SocketAddr::V4(address)).await.unwrap();
        let both = async {
            while came.load(Ordering::SeqCst) < 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), both).await.expect("our own fillers never reach the door, both clients do");
        is_open.store(false, Ordering::SeqCst);
        tokio::time::sleep(POLL * 3).await;
        assert!(timeout(HANGS, TcpStream::connect(SocketAddr::V4(address))).await.is_err(), "closes again");
        assert_eq!(came.load(Ordering::SeqCst), 2);
    }
}
