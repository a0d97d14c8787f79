//! Makes foreign text fit to be shown: no secret, no address, no control character, not too long.
//! Pure. What a message says must still be readable when the journal keeps it, so every message is short.

use super::diagnose::{Diagnosis, diagnose};
use crate::error::presentable;

/// Longest message of a result, bytes: a baseline of a hundred results fits a journal version of 64 KiB.
pub const LONGEST_MESSAGE: usize = 480;

/// `text` without the given secrets, without credentials in URLs and without IP addresses, at most `limit` bytes.
#[must_use]
pub fn scrubbed(text: &str, secrets: &[&str], limit: usize) -> String {
    let mut text = text.to_owned();
    // A very short secret would tear holes into every word, and hides nothing.
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, "****");
    }
    presentable(&without_addresses(&without_userinfo(&text)), limit)
}

/// `seen`, and what is known about `evidence`: signature and remedy, in our own words.
#[must_use]
pub fn explained(seen: &str, evidence: &str) -> String {
    let text = match diagnose(evidence) {
        Some(Diagnosis { signature, remedy, .. }) => format!("{seen}; {signature}: {remedy}"),
        None => seen.to_owned(),
    };
    presentable(&text, LONGEST_MESSAGE)
}

/// `scheme://user:password@host` becomes `scheme://****@host`.
fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end =
            tail.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '<' | '>')).unwrap_or(tail.len());
        rest = match tail[..end].rfind('@') {
            Some(sign) => {
                out.push_str("****");
                &tail[sign..]
            }
            None => tail,
        };
    }
    out.push_str(rest);
    out
}

/// Every word that is an IP address, with or without a port, becomes `<address>`.
fn without_addresses(text: &str) -> String {
    let of_address = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '%');
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if of_address(c) {
            word.push(c);
            continue;
        }
        if is_address(&word) {
            out.push_str("<address>");
        } else {
            out.push_str(&word);
        }
        word.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn is_address(word: &str) -> bool {
    let word = word.trim_matches(|c| matches!(c, '.' | '%')).trim_end_matches(':');
    let is = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    // `10.0.0.1:6379`, and an IPv6 address whose brackets ended the word.
    is(word) || word.rsplit_once(':').is_some_and(|(host, port)| is(host) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        scrubbed(text, &[], 400)
    }

    #[test]
    fn addresses_are_taken_out_and_the_words_around_them_stay() {
        assert_eq!(plain("connect ECONNREFUSED 127.0.0.1:6379"), "connect ECONNREFUSED <address>");
        assert_eq!(plain("MOVED 3999 10.0.1.17:6379"), "MOVED 3999 <address>");
        assert_eq!(plain("to [2001:db8::1]:443, then ::ffff:10.0.0.1."), "to [<address>]:443, then <address>");
        assert_eq!(plain("at 12:30 version 7.0.15 took 3.5 s: bad"), "at 12:30 version 7.0.15 took 3.5 s: bad");
    }

    #[test]
    fn credentials_in_urls_and_known_secrets_are_taken_out() {
        assert_eq!(
            plain("Connecting to: redis://default:s3cr3t@x.upstash.io:6379/0"),
            "Connecting to: redis://****@x.upstash.io:6379/0"
        );
        assert_eq!(
            plain("rediss://u:p@@h, and http://plain.example/a@b"),
            "rediss://****@h, and http://plain.example/a@b"
        );
        assert_eq!(scrubbed("token canary-1 refused", &["canary-1", "e"], 400), "token **** refused");
    }

    #[test]
    fn a_message_is_bounded_and_explained() {
        let message = explained(&"x".repeat(2000), "NOAUTH Authentication required");
        assert!(message.len() <= LONGEST_MESSAGE + '…'.len_utf8());
        assert_eq!(
            explained("PING was refused", "NOAUTH Authentication required."),
            "PING was refused; PasswordMissing: the store wants a password and none was sent: put it into the URL or into REDIS_PASSWORD"
        );
        assert_eq!(explained("odd", "odd"), "odd");
    }
}
