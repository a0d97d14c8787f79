//! The public HTTPS side: TLS ends here, requests go by their Host header to the instances of a service, one after
//! the other and without stickiness, or to another public backend. HTTP/1.1 and WebSocket, as Envoy in front of App
//! Runner: its headers, its error texts, its limit on the time of a request.

mod body;
mod forward;
mod pool;
mod route;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use self::body::FrontBody;
use self::forward::is_upgrade;
pub(crate) use self::pool::Upstream;
pub(crate) use self::route::{Routed, Routes};

/// A client that does not finish its TLS handshake by then is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// One for the whole sandbox.
pub(crate) struct Front {
    acceptor: TlsAcceptor,
    pub(crate) routes: Routes,
    limits: Limits,
}

/// What the front refuses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For the whole request, body included; App Runner's is 120 s.
    pub(crate) request: Duration,
    /// Whether upgrades are passed on. App Runner's proxy answers them with 403.
    pub(crate) web_sockets: bool,
}

impl Front {
    pub(crate) fn new(tls: Arc<ServerConfig>, limits: Limits) -> Self {
        Self { acceptor: TlsAcceptor::from(tls), routes: Routes::default(), limits }
    }

    pub(crate) fn request_limit(&self) -> Duration {
        self.limits.request
    }

    /// Serves one client connection to its end.
    pub(crate) async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let Ok(Ok(stream)) = timeout(HANDSHAKE, self.acceptor.accept(stream)).await else { return };
        let front = &self;
        let service = service_fn(move |request| async move { front.answer(request, peer).await });
        // An error here is the client's connection ending; there is nobody left to tell.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Result<Response<FrontBody>, Infallible> {
        let deadline = Instant::now() + self.limits.request;
        let Some(host) = host_of(&request) else {
            return Ok(FrontBody::say(StatusCode::BAD_REQUEST, ""));
        };
        let response = match self.routes.pick(host) {
            Routed::Nowhere => FrontBody::say(StatusCode::NOT_FOUND, ""),
            Routed::Unhealthy => FrontBody::say(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream"),
            Routed::To(_) if !self.limits.web_sockets && is_upgrade(request.headers()) => {
                FrontBody::say(StatusCode::FORBIDDEN, "")
            }
            Routed::To(seat) => forward::forward(&self.routes, seat, request, peer, deadline).await,
        };
        Ok(response)
    }
}

/// The name of the Host header without its port.
fn host_of<B>(request: &Request<B>) -> Option<&str> {
    let host = match request.headers().get(header::HOST) {
        Some(host) => host.to_str().ok()?,
        None => request.uri().authority()?.as_str(),
    };
    Some(host.rsplit_once(':').map_or(host, |(name, _)| name))
}
