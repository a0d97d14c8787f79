//! What a variable's value says about the network it needs: a host inside a VPC, one on the internet, or none.
//! Pure. Errs towards seeing a host: a service that loses its database is worse than a question too many.

use std::net::Ipv4Addr;

use crate::observed::Reach;

/// Names that resolve to private addresses only, by their ends.
const PRIVATE_ENDS: [&str; 10] = [
    ".rds.amazonaws.com",
    ".rds.amazonaws.com.cn",
    ".cache.amazonaws.com",
    ".cache.amazonaws.com.cn",
    ".docdb.amazonaws.com",
    ".redshift.amazonaws.com",
    ".vpce.amazonaws.com",
    ".internal",
    ".local",
    ".lan",
];

/// Ends by which a bare word with dots (no scheme, no port) is taken for a host and not for a module or a file.
const PUBLIC_ENDS: [&str; 20] = [
    "com", "net", "org", "io", "dev", "app", "cloud", "co", "ai", "gov", "edu", "info", "biz", "us", "uk", "de", "eu",
    "fr", "jp", "in",
];

/// What `value` says, whatever its form: the private host in it if there is one, else whether there is a public one.
pub(super) fn of(value: &str) -> Reach {
    let mut found = Reach::None;
    for token in value.split(|c: char| c.is_whitespace() || "\"'`,;<>()[]{}|=&\\".contains(c)) {
        match of_token(token) {
            Reach::None | Reach::Unknown(_) => {}
            Reach::Public => found = Reach::Public,
            private @ Reach::Private(_) => return private,
        }
    }
    found
}

/// What a host says.
pub(super) fn of_host(host: &str) -> Reach {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return of_address(address, &host);
    }
    // A serverless cache can be public by choice since September 2026.
    if host.contains(".public.serverless.") {
        return Reach::Public;
    }
    let opensearch = host.starts_with("vpc-") && host.ends_with(".es.amazonaws.com");
    let private = PRIVATE_ENDS.iter().any(|end| host.ends_with(end)) || host.contains(".memorydb.") || opensearch;
    match (private, host.as_str()) {
        (true, _) => Reach::Private(host),
        (false, "localhost" | "") => Reach::None,
        (false, _) => Reach::Public,
    }
}

fn of_address(address: Ipv4Addr, host: &str) -> Reach {
    let [first, second, ..] = address.octets();
    // 100.64.0.0/10 is what larger networks use behind carrier NAT and AWS allows in a VPC.
    let shared = first == 100 && (64..128).contains(&second);
    if address.is_private() || shared {
        Reach::Private(host.to_owned())
    } else if address.is_loopback() || address.is_unspecified() || address.is_link_local() {
        Reach::None
    } else {
        Reach::Public
    }
}

fn of_token(token: &str) -> Reach {
    let (schemed, rest) = match token.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, token),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let place = authority.rsplit('@').next().unwrap_or(authority);
    let (host, ported) = match place.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (host, true),
        Some(_) | None => (place, false),
    };
    if !is_name(host) {
        return Reach::None;
    }
    match of_host(host) {
        Reach::Public if !schemed && !ported && !is_likely(host) => Reach::None,
        reach => reach,
    }
}

fn is_name(host: &str) -> bool {
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let well_formed = labels
        .iter()
        .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    let named = labels.last().is_some_and(|last| last.len() > 1 && last.bytes().all(|b| b.is_ascii_alphabetic()));
    labels.len() > 1 && well_formed && (named || host.parse::<Ipv4Addr>().is_ok())
}

fn is_likely(host: &str) -> bool {
    let end = host.rsplit('.').next().unwrap_or(host).to_ascii_lowercase();
    PUBLIC_ENDS.contains(&end.as_str()) || host.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_what_network_it_needs() {
        let private = |host: &str| Reach::Private(host.to_owned());
        for (value, expected) in [
            (
                "postgres://u:p@db.abc.us-east-1.rds.amazonaws.com:5432/app",
                private("db.abc.us-east-1.rds.amazonaws.com"),
            ),
            ("db.abc.us-east-1.RDS.amazonaws.com", private("db.abc.us-east-1.rds.amazonaws.com")),
            ("host=10.0.3.7 port=5432 dbname=app", private("10.0.3.7")),
            ("http://172.16.0.1/health", private("172.16.0.1")),
            ("172.32.0.1", Reach::Public),
            ("100.64.1.1:80", private("100.64.1.1")),
            (
                "clustercfg.x.memorydb.us-east-1.amazonaws.com:6379",
                private("clustercfg.x.memorydb.us-east-1.amazonaws.com"),
            ),
            ("https://api.stripe.com/v1", Reach::Public),
            ("smtp.gmail.com", Reach::Public),
            ("https://a.example.com,http://b.internal:8080", private("b.internal")),
            ("c-x.public.serverless.use1.cache.amazonaws.com:6379", Reach::Public),
            ("app.settings.production", Reach::None),
            ("config.py", Reach::None),
            ("1.2.3", Reach::None),
            ("redis://127.0.0.1:6379/0", Reach::None),
            ("http://localhost:8000", Reach::None),
            ("true", Reach::None),
            ("", Reach::None),
            ("arn:aws:s3:::bucket", Reach::None),
        ] {
            assert_eq!(of(value), expected, "{value}");
        }
    }
}
