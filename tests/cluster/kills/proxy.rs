//! What stands between the operator and the clouds, and between it and the API server: passes everything on, counts the calls,
//! and ends the operator with SIGKILL on one side of one of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header, request};
use axum::response::{IntoResponse as _, Response};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::boundary::{Boundary, Call, Kill, Mask, Side, of_a_cloud, of_the_api_server};

/// Everything asynchronous of these tests runs here.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// More than any request has.
const LIMIT: usize = 8 << 20;
/// What belongs to one connection and not to a message.
const OF_A_CONNECTION: [HeaderName; 4] = [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::UPGRADE];

/// Counts the calls of one run, and knows which of them is the operator's last.
#[derive(Default)]
pub(crate) struct Count(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    calls: HashMap<Call, u32>,
    seen: Vec<Boundary>,
    changed: Option<Instant>,
    aim: Option<Kill>,
    victim: Option<i32>,
    has_struck: bool,
}

impl Count {
    fn inner(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts from here on, and ends the operator at `aim`.
    pub(crate) fn begin(&self, aim: Option<&Kill>) {
        let mut counted = self.inner();
        *counted = Counted { aim: aim.cloned(), victim: counted.victim, ..Counted::default() };
    }

    /// Names the process that makes the calls.
    pub(crate) fn victim(&self, pid: i32) {
        self.inner().victim = Some(pid);
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.inner().has_struck
    }

    pub(crate) fn seen(&self) -> Vec<Boundary> {
        self.inner().seen.clone()
    }

    /// When something that may have changed something was called last.
    pub(crate) fn changed(&self) -> Option<Instant> {
        self.inner().changed
    }

    fn meets(&self, call: Call) -> Option<Side> {
        let mut counted = self.inner();
        if call.changes {
            counted.changed = Some(Instant::now());
        }
        let nth = counted.calls.entry(call.clone()).or_default();
        *nth += 1;
        let boundary = Boundary { call, nth: *nth };
        let is_meant = !counted.has_struck && counted.aim.as_ref().is_some_and(|aim| aim.boundary == boundary);
        counted.seen.push(boundary);
        is_meant.then(|| counted.aim.as_ref().unwrap().side)
    }

    /// `kill -9`.
    fn strike(&self) {
        let mut counted = self.inner();
        kill(Pid::from_raw(counted.victim.unwrap()), Signal::SIGKILL).unwrap();
        counted.has_struck = true;
    }
}

/// Where a proxy leads.
pub(crate) enum To {
    /// The sandbox's endpoint.
    Clouds { url: String },
    /// The API server, with the certificate to trust.
    ApiServer { url: String, authority: String },
}

struct Road {
    to: String,
    is_api: bool,
    client: reqwest::Client,
    count: Arc<Count>,
    mask: Mask,
}

/// A running proxy. Ended when dropped.
pub(crate) struct Proxy {
    pub(crate) at: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    pub(crate) fn start(to: To, count: &Arc<Count>, mask: &Mask) -> Self {
        let plain = || reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let (url, is_api, client) = match to {
            To::Clouds { url } => (url, false, plain()),
            To::ApiServer { url, authority } => {
                let authority = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
                (url, true, plain().tls_certs_only([authority]))
            }
        };
        let client = client.build().unwrap();
        let road = Road { to: url, is_api, client, count: Arc::clone(count), mask: mask.clone() };
        let app = Router::new().fallback(pass).with_state(Arc::new(road));
        let (listener, at) = RUNTIME.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            (listener, at)
        });
        let serving = RUNTIME.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { at, serving }
    }
}

async fn pass(State(road): State<Arc<Road>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LIMIT).await else { return StatusCode::BAD_GATEWAY.into_response() };
    let call = if road.is_api {
        of_the_api_server(&head.method, &head.uri, &road.mask)
    } else {
        Some(of_a_cloud(&head.method, &head.uri, &head.headers, &body, &road.mask))
    };
    let side = call.and_then(|call| road.count.meets(call));
    if side == Some(Side::Before) {
        road.count.strike();
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let Ok(answer) = road.forward(&head, body).await else { return StatusCode::BAD_GATEWAY.into_response() };
    if side == Some(Side::After) {
        // The whole of it: nothing is under way any more.
        let _ = answer.bytes().await;
        road.count.strike();
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let (status, headers) = (answer.status(), without_connection(answer.headers()));
    (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
}

impl Road {
    async fn forward(&self, head: &request::Parts, body: Bytes) -> reqwest::Result<reqwest::Response> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = without_connection(&head.headers);
        headers.remove(header::CONTENT_LENGTH);
        if self.is_api {
            // It has a certificate for its own name; the clouds sign the name they were called by.
            headers.remove(header::HOST);
        }
        let request = self.client.request(head.method.clone(), format!("{}{path}", self.to));
        request.headers(headers).body(body).send().await
    }
}

fn without_connection(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
    headers
}
