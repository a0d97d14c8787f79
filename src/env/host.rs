//! Which host names and addresses a store may have. Refuses the places a Redis is never at and a credential always is
//! (instance metadata, link-local), in every notation, before anything is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::url::UrlError;

/// Instance metadata by name, at the clouds that have one.
const METADATA_NAMES: [&str; 3] = ["metadata.google.internal", "metadata", "instance-data.ec2.internal"];

/// Instance metadata over IPv6 at EC2.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The host in lower case, if it is a name or an address that may be dialled.
pub(super) fn host_name(host: &str) -> Result<String, UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let host = host.to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        return if is_forbidden(address) { Err(UrlError::Forbidden) } else { Ok(host) };
    }
    let name = host.strip_suffix('.').unwrap_or(&host);
    let is_name = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
    // inet_aton also reads 0xA9FEA9FE, 2852039166, 0251.0376.1 and 127.1: a last label that is a number is no name.
    let looks_numeric = name.rsplit('.').next().is_none_or(|last| {
        let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        hex || last.bytes().all(|b| b.is_ascii_digit())
    });
    if !is_name || looks_numeric {
        return Err(UrlError::Host);
    }
    if METADATA_NAMES.contains(&name) { Err(UrlError::Forbidden) } else { Ok(host) }
}

/// Whether no store can be there: link-local, unspecified, multicast, or an IPv6 form of such an IPv4 address.
#[must_use]
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => {
            v6 == METADATA_V6
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || embedded(v6).is_some_and(|v4| is_forbidden(IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address inside a mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056) address.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(join(high, low)),
        _ => v6.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_stores_are_accepted_in_lower_case() {
        for host in [
            "redis",
            "Master.X.abc.use1.cache.amazonaws.com",
            "y.upstash.io",
            "10.0.0.7",
            "127.0.0.1",
            "::1",
            "a_b.c-d",
        ] {
            assert_eq!(host_name(host), Ok(host.to_ascii_lowercase()));
        }
    }

    #[test]
    fn metadata_is_refused_in_every_notation() {
        for host in [
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "fe80::1",
            "::",
            "fd00:ec2::254",
            "::ffff:a9fe:a9fe",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "metadata.google.internal",
            "METADATA.google.internal",
        ] {
            assert_eq!(host_name(host), Err(UrlError::Forbidden), "{host}");
        }
        for host in ["0xA9FEA9FE", "2852039166", "0251.0376.0251.0376", "127.1", "169.254.169.254.", "1.2.3.4.5"] {
            assert_eq!(host_name(host), Err(UrlError::Host), "{host}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for host in ["a..b", "-!", "good.example\u{3002}evil", "a b", &"x".repeat(64), ".", "{host}"] {
            assert_eq!(host_name(host), Err(UrlError::Host), "{host}");
        }
    }
}
