//! Connections that are cut after a given number of messages, so that whoever talks through them dies in any place.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use sessionbackend::copy::Endpoint;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How many messages still pass, over all the connections that share it.
#[derive(Clone)]
pub(crate) struct Budget {
    left: Arc<AtomicI64>,
    cut: watch::Sender<bool>,
    /// What comes after the budget is held back instead, until it is let go.
    held: Option<watch::Sender<bool>>,
}

impl Budget {
    pub(crate) fn of(messages: i64) -> Self {
        Self { left: Arc::new(AtomicI64::new(messages)), cut: watch::Sender::new(messages <= 0), held: None }
    }

    /// As if the process stood still after so many messages.
    pub(crate) fn holding(messages: i64) -> Self {
        Self { held: Some(watch::Sender::new(false)), ..Self::of(messages) }
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.held.as_ref().is_some_and(|held| *held.borrow())
    }

    /// Lets everything pass that was held back.
    pub(crate) fn let_go(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
        self.held.as_ref().unwrap().send_replace(false);
    }

    async fn wait_until_let_go(&self) {
        if let Some(held) = &self.held {
            let _ = held.subscribe().wait_for(|held| !*held).await;
        }
    }

    pub(crate) fn left(&self) -> i64 {
        self.left.load(Ordering::SeqCst)
    }

    pub(crate) fn is_spent(&self) -> bool {
        *self.cut.borrow()
    }
}

/// A way to a store that ends with the budget. The message that spends it arrives and is carried out; its answer does
/// not come back.
pub(crate) struct Severed {
    pub(crate) endpoint: Endpoint,
    _serving: JoinSet<()>,
}

impl Severed {
    pub(crate) async fn way_to(store: &Endpoint, budget: &Budget) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { port: listener.local_addr().unwrap().port(), ..store.clone() };
        let (store, budget) = (format!("{}:{}", store.host, store.port), budget.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&store).await.unwrap();
                connections.spawn(relay(client, server, budget.clone()));
            }
        });
        Self { endpoint, _serving: serving }
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, budget: Budget) {
    let mut cut = budget.cut.subscribe();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            biased;
            () = async { drop(cut.wait_for(|cut| *cut).await) } => return,
            read = client.read(&mut asked) => match read {
                Ok(count) if count > 0 => {
                    let last = budget.left.fetch_sub(1, Ordering::SeqCst) <= 1;
                    if last && let Some(held) = &budget.held {
                        held.send_replace(true);
                        budget.wait_until_let_go().await;
                    }
                    let last = last && budget.held.is_none();
                    server.write_all(&asked[..count]).await.unwrap();
                    if last {
                        // It has been carried out when its answer is there.
                        let _ = server.read(&mut answered).await;
                        budget.cut.send_replace(true);
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(count) if count > 0 => {
                    if client.write_all(&answered[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
