//! One request to one upstream and its answer back. An upstream that vanishes becomes the answer Envoy gives; a
//! connection that the server had closed meanwhile becomes a second try, never an answer.

use std::net::SocketAddr;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::{self, OnUpgrade};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::{Instant, timeout_at};

use crate::plane::front::body::{FrontBody, RequestBody};
use crate::plane::front::host_of;
use crate::plane::front::pool::Seat;
use crate::plane::front::route::{Routed, Routes};

const TRIES: u32 = 4;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const UPSTREAM_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const TIMED_OUT: &str = "upstream request timeout";
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
const REFUSED: &str = "upstream connect error or disconnect/reset before headers. reset reason: connection failure";

pub(crate) async fn forward(
    routes: &Routes,
    seat: Seat,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    deadline: Instant,
) -> Response<FrontBody> {
    let started = Instant::now();
    let client = is_upgrade(request.headers()).then(|| upgrade::on(&mut request));
    let request = outbound(request, peer, client.is_some());
    let (mut response, sender, seat) = match timeout_at(deadline, send(routes, seat, request)).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(reason)) => return FrontBody::say(StatusCode::SERVICE_UNAVAILABLE, reason),
        Err(_) => return FrontBody::say(StatusCode::GATEWAY_TIMEOUT, TIMED_OUT),
    };
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert(UPSTREAM_TIME, HeaderValue::from(took));
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else {
            return FrontBody::say(StatusCode::BAD_GATEWAY, "protocol error");
        };
        let server = upgrade::on(&mut response);
        tokio::spawn(tunnel(client, server, seat));
        return response.map(|_| FrontBody::empty());
    }
    let headers = response.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(KEEP_ALIVE);
    response.map(|body| FrontBody::upstream(body, sender, seat, deadline))
}

type Answered = (Response<Incoming>, SendRequest<RequestBody>, Seat);

async fn send(routes: &Routes, mut seat: Seat, mut request: Request<RequestBody>) -> Result<Answered, &'static str> {
    let mut may_reuse = true;
    for _ in 0..TRIES {
        let Ok(mut connection) = seat.upstream().connect(may_reuse).await else {
            // Nothing was sent: another instance may have it.
            if let Some(Routed::To(other)) = host_of(&request).map(|host| routes.pick(host)) {
                seat = other;
                continue;
            }
            return Err(REFUSED);
        };
        let copy = if connection.reused { repeat(&request) } else { None };
        match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, connection.sender, seat)),
            Err(mut failed) => {
                // Given back = not a byte was sent. Otherwise only what may be sent twice is, and only because the
                // server can have closed a kept connection while the request was on its way.
                let Some(unsent) = failed.take_message().or(copy) else { return Err(RESET) };
                request = unsent;
                may_reuse = false;
            }
        }
    }
    Err(REFUSED)
}

/// The same request once more, if sending it twice does no harm.
fn repeat(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let harmless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !harmless || !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}

/// Does the client ask to leave HTTP?
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let asked = |name: HeaderName, word: &str| {
        headers.get(name).and_then(|v| v.to_str().ok()).is_some_and(|v| v.to_ascii_lowercase().contains(word))
    };
    asked(header::CONNECTION, "upgrade") && headers.contains_key(header::UPGRADE)
}

/// What a proxy has to say and to keep to itself.
fn outbound(request: Request<Incoming>, peer: SocketAddr, upgrading: bool) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        parts.uri = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    }
    let headers = &mut parts.headers;
    if !upgrading {
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
    headers.remove(KEEP_ALIVE);
    let chain = match headers.get(&FORWARDED_FOR).and_then(|v| v.to_str().ok()) {
        Some(before) => format!("{before}, {}", peer.ip()),
        None => peer.ip().to_string(),
    };
    if let Ok(chain) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    let body = if body.is_end_stream() { RequestBody::Empty } else { RequestBody::Client(body) };
    Request::from_parts(parts, body)
}

/// Bytes both ways until one side closes. The seat counts the connection as in flight meanwhile.
async fn tunnel(client: OnUpgrade, server: OnUpgrade, seat: Seat) {
    if let (Ok(client), Ok(server)) = (client.await, server.await) {
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    }
    drop(seat);
}
