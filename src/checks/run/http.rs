//! One request to a service's own host, and to nothing else: https, no proxy, no redirect, a bounded answer.
//! Shows no body and no address; a header from a Secret is marked sensitive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Method, Response, Url};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use super::{Context, Seen, ServiceUnderCheck};
use crate::checks::Outcome;
use crate::checks::evidence::{explained, scrubbed};
use crate::checks::request::{Answer, HeaderSource, Request};

/// As much of an answer as is read.
const LONGEST_BODY: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An HTTP client that can do nothing but what a check may do. Every request has a connection of its own, so that a
/// load balancer without stickiness spreads them.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

/// The client cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the HTTP client of the checks cannot be built: {0}: see that the CA bundle is readable PEM")]
pub struct ClientError(String);

impl Client {
    /// A client that trusts the system's authorities, and those in `authorities` (PEM) besides.
    ///
    /// # Errors
    /// If a certificate cannot be read.
    pub fn new(authorities: Option<&[u8]>) -> Result<Self, ClientError> {
        let unreadable = |error: reqwest::Error| ClientError(error.without_url().to_string());
        let authorities = authorities.map(Certificate::from_pem_bundle).transpose().map_err(unreadable)?;
        let client = reqwest::Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .dns_resolver(Arc::new(CheckedAddresses))
            .tls_certs_merge(authorities.unwrap_or_default())
            .user_agent(concat!("sessionbackend/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(unreadable)?;
        Ok(Self(client))
    }
}

/// Resolves once, looks at every address, and lets only those be dialled.
struct CheckedAddresses;

impl Resolve for CheckedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if addresses.iter().any(|address| is_forbidden(address.ip())) {
                return Err("the host resolves to an address no service can have".into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Addresses that a service's host never has and that answer with secrets or reach many: link-local (the metadata
/// endpoints), unspecified, multicast, broadcast. Loopback and private ranges stay: the host is App Runner's own answer,
/// and a private ingress endpoint resolves to addresses of the user's VPC.
fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            // The IPv6 address of the EC2 metadata service.
            let metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            let inner = embedded(v6).is_some_and(|v4| is_forbidden(IpAddr::V4(v4)));
            v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || v6 == metadata || inner
        }
    }
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match parts {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] if address != Ipv6Addr::LOCALHOST => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// The URL of `path` on the service, or why there is none.
pub(super) fn url(service: &ServiceUnderCheck, path: &str) -> Result<Url, Seen> {
    let unclear = |text: &str| Seen::new(Outcome::Unclear, text);
    let Some(host) = &service.host else {
        return Err(unclear("the service's URL is not known"));
    };
    let odd = unclear("the service's URL is not a host name with an optional port");
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => match port.parse::<u16>() {
            Ok(port) => (name, port),
            Err(_) => return Err(odd),
        },
        None => (host.as_str(), 443),
    };
    let Ok(url) = Url::parse(&format!("https://{host}{path}")) else { return Err(odd) };
    // Whatever the parser made of it, it must still be this host: a second look at the first one's work.
    let same = url.scheme() == "https"
        && url.host_str() == Some(name)
        && url.domain().is_some()
        && url.port_or_known_default() == Some(port)
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if same { Ok(url) } else { Err(odd) }
}

/// An answer, read as far as it is looked at.
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) took: Duration,
}

impl Received {
    pub(super) fn faults(&self, request: &Request) -> Vec<String> {
        request.faults(Answer { status: self.status, body: &self.body, took: self.took })
    }

    /// The body, to be diagnosed and never to be shown.
    pub(super) fn evidence(&self) -> String {
        format!("status {}; {}", self.status, String::from_utf8_lossy(&self.body))
    }

    /// What `faults` amount to.
    pub(super) fn outcome(&self, request: &Request) -> Outcome {
        let refused = matches!(self.status, 404 | 405 | 426 | 501) && !request.status.contains(&self.status);
        if refused { Outcome::Unsupported } else { Outcome::Broken }
    }
}

/// Sends `request`, whose placeholders are filled, with a cookie besides if there is one.
pub(super) async fn send(
    request: &Request,
    cookie: Option<&str>,
    limit: Duration,
    service: &ServiceUnderCheck,
    context: &Context,
) -> Result<Received, Seen> {
    let url = url(service, &request.path)?;
    let method = Method::from_bytes(request.method.as_str().as_bytes()).unwrap_or_default();
    let mut headers = headers(request, context)?;
    if let Some(cookie) = cookie {
        headers.insert(
            COOKIE,
            sensitive(cookie).ok_or_else(|| Seen::new(Outcome::Broken, "the session's cookie is no header text"))?,
        );
    }
    let mut builder = context.http.0.request(method, url).timeout(limit).headers(headers);
    if let Some(body) = &request.body {
        builder = builder.header(CONTENT_TYPE, &body.content_type).body(body.text.clone());
    }
    let began = Instant::now();
    let failed = |error: reqwest::Error| failure(error, limit, &context.secret_values());
    let response = builder.send().await.map_err(failed)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = bounded(response).await.map_err(failed)?;
    Ok(Received { status, headers, body, took: began.elapsed() })
}

fn headers(request: &Request, context: &Context) -> Result<HeaderMap, Seen> {
    let mut headers = HeaderMap::new();
    for header in &request.headers {
        let value = match &header.source {
            HeaderSource::Plain(value) => value.clone(),
            HeaderSource::Secret { prefix, key } => {
                let Some(secret) = context.secrets.get(key) else {
                    let text =
                        format!("Secret {} has no key {}: create it, or correct secretKeyRef", key.name, key.key);
                    return Err(Seen::new(Outcome::Unclear, scrubbed(&text, &[], 300)));
                };
                format!("{prefix}{}", secret.expose_secret().trim_end())
            }
        };
        let odd = || Seen::new(Outcome::Unclear, format!("the value of header {} is no header text", header.name));
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| odd())?;
        headers.append(name, sensitive(&value).ok_or_else(odd)?);
    }
    Ok(headers)
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < LONGEST_BODY
        && let Some(chunk) = response.chunk().await?
    {
        let room = LONGEST_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(body)
}

/// A request without an answer. What never reached the service may be our own fault; an answer that does not come, or
/// breaks off, is the service's.
fn failure(error: reqwest::Error, limit: Duration, secrets: &[&str]) -> Seen {
    let (connecting, late) = (error.is_connect(), error.is_timeout());
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    if connecting {
        let seen = format!("the service is not reached from here: {}", scrubbed(&words, secrets, 120));
        return Seen::new(Outcome::Unclear, explained(&seen, if late { "connection timed out" } else { &words }));
    }
    if late {
        return Seen::new(Outcome::Broken, format!("no answer in {} ms: the request hangs", limit.as_millis()));
    }
    Seen::new(Outcome::Broken, format!("the answer broke off: {}", scrubbed(&words, secrets, 120)))
}

/// Sends the check's request once.
pub(super) async fn probe(request: &Request, limit: Duration, service: &ServiceUnderCheck, context: &Context) -> Seen {
    let received = match send(request, None, limit, service, context).await {
        Ok(received) => received,
        Err(seen) => return seen,
    };
    let faults = received.faults(request);
    let what = format!("{} {}", request.method.as_str(), scrubbed(&request.path, &[], 80));
    if faults.is_empty() {
        return Seen::new(
            Outcome::Works,
            format!("{what} answered {} in {} ms", received.status, received.took.as_millis()),
        );
    }
    let seen = format!("{what}: {}", faults.join("; "));
    Seen::new(received.outcome(request), explained(&seen, &received.evidence()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(host: &str) -> ServiceUnderCheck {
        ServiceUnderCheck { name: "web".to_owned(), host: Some(host.to_owned()), ..ServiceUnderCheck::default() }
    }

    #[test]
    fn a_url_is_the_service_s_own_host_or_none() {
        let url = |host: &str, path: &str| super::url(&service(host), path).map(|url| url.to_string());
        assert_eq!(url("abc.awsapprunner.com", "/health?x=1").unwrap(), "https://abc.awsapprunner.com/health?x=1");
        assert_eq!(url("abc.awsapprunner.com:8443", "/").unwrap(), "https://abc.awsapprunner.com:8443/");
        assert_eq!(url("abc.awsapprunner.com", "/../../x").unwrap(), "https://abc.awsapprunner.com/x");
        for host in [
            "",
            "169.254.169.254",
            "127.0.0.1",
            "[::1]",
            "0x7f.1",
            "2130706433",
            "017700000001",
            "user@host.example",
            "a:b@host.example",
            "host.example/x",
            "host.example#",
            "host.example?",
            "host.example:0x50",
            "host.example:99999",
            "a b",
            "host.example\\@evil",
            "h\u{f6}st.example",
            "http://host.example",
            "//evil.example",
            "host.example:443:443",
            "%31%32%37.0.0.1",
            "HOST.example",
            "１２７.0.0.1",
        ] {
            assert!(url(host, "/").is_err(), "{host}");
        }
        for path in ["@evil.example/", ".evil.example/", ":8443@evil.example/", "evil", "#x"] {
            assert!(url("abc.awsapprunner.com", path).is_err(), "{path}");
        }
    }

    #[test]
    fn metadata_and_its_disguises_are_never_dialled() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:0:0",
        ] {
            assert!(is_forbidden(address.parse().unwrap()), "{address}");
        }
        for address in ["52.1.2.3", "10.0.0.5", "127.9.0.1", "::1", "2600:1f18::1", "::ffff:52.1.2.3"] {
            assert!(!is_forbidden(address.parse().unwrap()), "{address}");
        }
    }
}
