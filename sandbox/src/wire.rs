//! The HTTP endpoint: finds out which service and protocol a request speaks, and speaks it back.
//! Knows names and errors on the wire, nothing of what operations do.

mod json;
mod query;
mod upstash;
mod xml;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::admin;
use crate::api::Disposition;
use crate::cloud::Cloud;
use crate::models::{self, Model};

/// Routes of the other half below `/_sandbox/`: (path, body or null) → answer, or `None` if it is not theirs.
pub type Extra = Arc<dyn Fn(String, Value) -> BoxFuture<'static, Option<Result<Value, String>>> + Send + Sync>;

/// Largest request body; Secrets Manager's 64 KiB and CloudWatch's 1 MiB fit.
const BODY: usize = 4 << 20;
/// How long a hanging call keeps its connection.
const HANG: Duration = Duration::from_hours(1);
/// Host of the Upstash management API.
pub const UPSTASH_HOST: &str = "api.upstash.com";

/// An answer ready to be sent; `Err` closes the connection instead.
pub(crate) type Answer = Result<Response<Full<Bytes>>, Closed>;

/// The connection is to be reset without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on request")]
pub(crate) struct Closed;

/// Serves until the listener fails. Makes `api.upstash.com` reachable through the data plane.
///
/// # Errors
/// When the data plane cannot offer the public host or accepting fails.
pub async fn serve(listener: TcpListener, cloud: Cloud, extra: Extra) -> std::io::Result<()> {
    let here: SocketAddr = listener.local_addr()?;
    cloud.plane.add_public_host(UPSTASH_HOST, here).await.map_err(std::io::Error::other)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(connection(stream, cloud.clone(), extra.clone()));
    }
}

async fn connection(stream: TcpStream, cloud: Cloud, extra: Extra) {
    let Ok(stream) = stream.into_std() else { return };
    let Ok(kept) = stream.try_clone() else { return };
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let service = service_fn(move |request| {
        let (cloud, extra) = (cloud.clone(), extra.clone());
        async move { answer(request, &cloud, &extra).await }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if served.is_err() {
        // Linger 0 turns the close into a reset, which is what a lost request looks like.
        let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(&kept, sockopt::Linger, &reset);
    }
}

async fn answer(request: Request<Incoming>, cloud: &Cloud, extra: &Extra) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY).collect().await.map(http_body_util::Collected::to_bytes) else {
        return Ok(plain(413, "application/json", "{\"__type\":\"RequestEntityTooLarge\"}".into()));
    };
    let path = head.uri.path();
    if let Some(route) = path.strip_prefix("/_sandbox/") {
        return admin::answer(cloud, extra, &head.method, route, &body).await;
    }
    let host = head.headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or_default();
    if host == UPSTASH_HOST || path.starts_with("/v2/") {
        return upstash::answer(cloud, &head, &body).await;
    }
    if head.method != Method::POST {
        return Ok(plain(405, "text/plain", "the AWS endpoint takes POST requests".into()));
    }
    if let Some(target) = head.headers.get("x-amz-target").and_then(|t| t.to_str().ok()) {
        return json::answer(cloud, target, &head.headers, &body).await;
    }
    query::answer(cloud, &head.headers, &body).await
}

/// Waits where a fault says so; `Ok` carries the reply to be written.
pub(crate) async fn settle(disposition: Disposition) -> Result<crate::api::Reply, Closed> {
    match disposition {
        Disposition::Reply(reply) => Ok(reply),
        Disposition::Hang => {
            tokio::time::sleep(HANG).await;
            Err(Closed)
        }
        Disposition::Drop => Err(Closed),
    }
}

/// Who signed, as far as the header tells.
pub(crate) enum Signature<'a> {
    /// No usable Authorization header.
    Missing,
    /// Signing name of a service the sandbox has not.
    Unknown(&'a str),
    /// A service.
    Known(&'static Model),
}

/// Reads the service of the credential scope: `Credential=AKID/20261121/us-east-1/ec2/aws4_request`.
pub(crate) fn signature(headers: &HeaderMap) -> Signature<'_> {
    let scope = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .filter(|value| value.starts_with("AWS4-"))
        .and_then(|value| value.split("Credential=").nth(1))
        .and_then(|credential| credential.split(',').next())
        .and_then(|credential| credential.rsplit('/').nth(1));
    match scope {
        None => Signature::Missing,
        Some(name) => {
            models::all().iter().find(|m| m.signing == name).map_or(Signature::Unknown(name), Signature::Known)
        }
    }
}

/// A response without anything of a vendor's.
pub(crate) fn plain(status: u16, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    }
    response
}
