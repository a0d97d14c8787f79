//! Redis URLs, both ways: percent-encoding, default ports, user info, database, `rediss`.
//! An error never repeats any part of the URL: what stands before the `@` is a secret, and so may be what looks like a host.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::SecretString;

use super::host::host_name;
use crate::identity::Address;

/// RFC 3986 "unreserved" stays, everything else is escaped: the one set every client's decoder agrees on.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The port of a URL that names none.
pub const DEFAULT_PORT: u16 = 6379;

/// Why a text is no Redis URL. Says what to do, repeats nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("is no Redis URL; it must start with redis:// or rediss:// (value not shown)")]
    Scheme,
    /// Nothing to connect to.
    #[error("names no host; write rediss://user:password@host:port/0 (value not shown)")]
    NoHost,
    /// The host has characters no host name has.
    #[error(
        "has a host that is no host name; use letters, digits, dots and hyphens, or an address in brackets (value not shown)"
    )]
    Host,
    /// A place where no store is and credentials are.
    #[error(
        "names a link-local, metadata, multicast or unspecified host; name the Redis server itself (value not shown)"
    )]
    Forbidden,
    /// The port is no port.
    #[error("has a port that is not between 1 and 65535; correct it (value not shown)")]
    Port,
    /// The path is no database index.
    #[error("has a path that is no database index; end it with /0 or nothing (value not shown)")]
    Database,
    /// An `@` after the authority, or two in it: the password has not been escaped.
    #[error(
        "has an unescaped @, /, ? or # in its user or password; percent-encode them, such as @ as %40 (value not shown)"
    )]
    Unescaped,
    /// Escapes that are no UTF-8.
    #[error("has percent escapes that are not UTF-8; encode the user and the password as UTF-8 (value not shown)")]
    Encoding,
    /// White space or control characters, a trailing newline most often.
    #[error("contains white space or control characters; remove them, often a newline at the end (value not shown)")]
    WhiteSpace,
}

/// Escapes one part of a URL.
#[must_use]
pub fn escape(part: &str) -> String {
    utf8_percent_encode(part, ESCAPED).to_string()
}

/// Reads `redis[s]://[user[:password]@]host[:port][/db][?query]`. The user `default` is read as none, which is what it
/// means; of the query only `db` counts (redis-py's way to name a database).
///
/// # Errors
/// When the text is no such URL; the error repeats nothing of it.
pub fn parse_url(text: &str) -> Result<(Address, Option<SecretString>), UrlError> {
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("redis") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rediss") => (true, rest),
        Some(_) | None => return Err(UrlError::Scheme),
    };
    if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(UrlError::WhiteSpace);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains(['@', '#']) || authority.matches('@').count() > 1 {
        return Err(UrlError::Unescaped);
    }
    let (userinfo, place) = authority.split_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
    let (host, port) = split_port(place)?;
    let (user, password) = userinfo.map_or(Ok((None, None)), credentials)?;
    let db = database(tail)?;
    Ok((Address { host: host_name(host)?, port, db, user, tls }, password.map(SecretString::from)))
}

/// Whether a URL says which database it means; one that does not means 0, or leaves it to others.
#[must_use]
pub fn names_database(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let tail = rest.find(['/', '?']).map_or("", |end| &rest[end..]);
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    path.len() > 1 || query.split('&').any(|pair| pair.starts_with("db="))
}

/// Writes what [`parse_url`] reads.
pub(super) fn write_url(
    scheme: &str,
    address: &Address,
    user: Option<&str>,
    password: Option<&str>,
    path: &str,
) -> String {
    let mut url = format!("{scheme}://");
    match (user, password) {
        (None, None) => {}
        (Some(user), None) => {
            let _ = write!(url, "{}@", escape(user));
        }
        (user, Some(password)) => {
            let _ = write!(url, "{}:{}@", user.map(escape).unwrap_or_default(), escape(password));
        }
    }
    let _ = if address.host.contains(':') {
        write!(url, "[{}]:{}{path}", address.host, address.port)
    } else {
        write!(url, "{}:{}{path}", address.host, address.port)
    };
    url
}

fn credentials(userinfo: &str) -> Result<(Option<String>, Option<String>), UrlError> {
    let decode = |part: &str| {
        percent_decode_str(part).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| UrlError::Encoding)
    };
    let (user, password) = userinfo.split_once(':').map_or((userinfo, None), |(user, password)| (user, Some(password)));
    let user = decode(user)?;
    let password = password.map(decode).transpose()?.filter(|password| !password.is_empty());
    Ok((named_user(&user), password))
}

/// A user other than the one everybody is by default.
pub(super) fn named_user(user: &str) -> Option<String> {
    Some(user).filter(|user| !user.is_empty() && *user != "default").map(str::to_owned)
}

fn split_port(place: &str) -> Result<(&str, u16), UrlError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or(UrlError::Host)?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(UrlError::Host)?) })
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|port| !port.is_empty()).map_or(Ok(DEFAULT_PORT), parse_port)?;
    Ok((host, port))
}

pub(super) fn parse_port(text: &str) -> Result<u16, UrlError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(UrlError::Port)
}

fn database(tail: &str) -> Result<u32, UrlError> {
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let index = path.strip_prefix('/').unwrap_or(path);
    let index = query.split('&').find_map(|pair| pair.strip_prefix("db=")).unwrap_or(index);
    if index.is_empty() {
        return Ok(0);
    }
    if index.bytes().all(|b| b.is_ascii_digit()) {
        index.parse().map_err(|_| UrlError::Database)
    } else {
        Err(UrlError::Database)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(text: &str) -> (Address, Option<String>) {
        let (address, password) = parse_url(text).unwrap();
        (address, password.map(|password| password.expose_secret().to_owned()))
    }

    fn address(host: &str, port: u16, db: u32, user: Option<&str>, tls: bool) -> Address {
        Address { host: host.into(), port, db, user: user.map(str::to_owned), tls }
    }

    #[test]
    fn the_forms_of_the_runbooks_are_read() {
        assert_eq!(
            read("redis://default:your-password@your-instance.upstash.io:6379"),
            (address("your-instance.upstash.io", 6379, 0, None, false), Some("your-password".into()))
        );
        assert_eq!(
            read("rediss://default:AbC123XyZ@default-abc123.upstash.io:6379/0"),
            (address("default-abc123.upstash.io", 6379, 0, None, true), Some("AbC123XyZ".into()))
        );
        assert_eq!(read("redis://red-abc123:6379"), (address("red-abc123", 6379, 0, None, false), None));
    }

    #[test]
    fn ports_databases_users_and_addresses_are_read() {
        assert_eq!(
            read("rediss://app:p%40ss@Example.COM"),
            (address("example.com", 6379, 0, Some("app"), true), Some("p@ss".into()))
        );
        assert_eq!(read("redis://:p@h:7000/3"), (address("h", 7000, 3, None, false), Some("p".into())));
        assert_eq!(read("redis://h/?db=2"), (address("h", 6379, 2, None, false), None));
        assert_eq!(read("rediss://h:1/0?ssl_cert_reqs=none"), (address("h", 1, 0, None, true), None));
        assert_eq!(read("redis://[::1]:6380/1"), (address("::1", 6380, 1, None, false), None));
    }

    #[test]
    fn an_error_says_what_to_do_and_nothing_of_the_url() {
        for (text, error) in [
            ("http://canary@h", UrlError::Scheme),
            ("canary", UrlError::Scheme),
            ("redis://user:canary@", UrlError::NoHost),
            ("redis://user:canary@h_!", UrlError::Host),
            ("redis://user:canary@h:70000", UrlError::Port),
            ("redis://user:canary@h:+1", UrlError::Port),
            ("redis://user:canary@h/canary", UrlError::Database),
            ("redis://user:can/ary@h", UrlError::Unescaped),
            ("redis://user:can@ary@h", UrlError::Unescaped),
            ("redis://user:canary@h#1", UrlError::Unescaped),
            ("redis://user:%ffcanary@h", UrlError::Encoding),
            ("redis://user:canary@h/0\n", UrlError::WhiteSpace),
        ] {
            assert_eq!(parse_url(text).unwrap_err(), error, "{text:?}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn a_url_says_which_database_it_means_or_does_not() {
        for (url, names) in [
            ("redis://h", false),
            ("redis://h/", false),
            ("rediss://:p@h:6379?x=1", false),
            ("redis://h/0", true),
            ("redis://h:6379/3", true),
            ("redis://h?db=2", true),
        ] {
            assert_eq!(names_database(url), names, "{url}");
        }
    }
}
