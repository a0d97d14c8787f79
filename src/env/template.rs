//! The user's own variables: text with placeholders `{url} {host} {port} {user} {password} {tls} {db}`.
//! `{{` and `}}` stand for braces. Where the text is a URL (it contains `://`), user and password are percent-encoded.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{host, url};
use crate::identity::Address;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Url,
    Host,
    Port,
    User,
    Password,
    Tls,
    Db,
}

/// Every placeholder by its name.
const PARTS: [(&str, Part); 7] = [
    ("url", Part::Url),
    ("host", Part::Host),
    ("port", Part::Port),
    ("user", Part::User),
    ("password", Part::Password),
    ("tls", Part::Tls),
    ("db", Part::Db),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(Part),
}

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    is_url: bool,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No such placeholder.
    #[error(
        "has the unknown placeholder {{{0}}}; use {{url}}, {{host}}, {{port}}, {{user}}, {{password}}, {{tls}} or {{db}}"
    )]
    Unknown(String),
    /// A brace without its partner.
    #[error("has a single brace; close the placeholder, or write {{{{ or }}}} for a brace itself")]
    Brace,
}

impl Template {
    /// Takes a template apart.
    ///
    /// # Errors
    /// When it has an unknown placeholder or a single brace.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..];
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                literal.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let (name, after) =
                brace.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(TemplateError::Brace)?;
            let part = PARTS.iter().find(|(known, _)| *known == name);
            let (_, part) = part.ok_or_else(|| TemplateError::Unknown(name.chars().take(40).collect()))?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Part(*part));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pieces, is_url: text.contains("://") })
    }

    /// A template of a valid [`crate::desired::EnvFormat`]; text that is none stands for itself.
    pub(super) fn lenient(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self { pieces: vec![Piece::Text(text.to_owned())], is_url: false })
    }

    /// Whether it contains any placeholder at all.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// The value, and whether a password is in it.
    pub(super) fn fill(&self, address: &Address, password: Option<&str>, full_url: &str) -> (String, bool) {
        let secret = password.is_some()
            && self.pieces.iter().any(|piece| matches!(piece, Piece::Part(Part::Url | Part::Password)));
        let encode = |text: &str| if self.is_url { url::escape(text) } else { text.to_owned() };
        let value = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Part(Part::Url) => full_url.to_owned(),
            Piece::Part(Part::Host) => address.host.clone(),
            Piece::Part(Part::Port) => address.port.to_string(),
            Piece::Part(Part::User) => encode(address.user.as_deref().unwrap_or("default")),
            Piece::Part(Part::Password) => encode(password.unwrap_or_default()),
            Piece::Part(Part::Tls) => address.tls.to_string(),
            Piece::Part(Part::Db) => address.db.to_string(),
        });
        (value.collect(), secret)
    }

    /// The parts a value was filled with: each placeholder reaches to the next literal text.
    fn take_apart(&self, value: &str) -> Option<BTreeMap<Part, String>> {
        let (mut found, mut rest) = (BTreeMap::new(), value);
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Piece::Part(part) => {
                    let end = match self.pieces.get(index + 1) {
                        None => rest.len(),
                        Some(Piece::Text(next)) => rest.find(next.as_str())?,
                        Some(Piece::Part(_)) => return None,
                    };
                    found.insert(*part, rest[..end].to_owned());
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty().then_some(found)
    }
}

/// Address and password out of the values that `templates` were filled with.
pub(super) fn read(
    templates: &BTreeMap<String, String>,
    values: &BTreeMap<String, String>,
) -> Option<(Address, Option<SecretString>)> {
    let mut found: BTreeMap<Part, String> = BTreeMap::new();
    let mut whole = None;
    for (name, text) in templates {
        let (Some(value), template) = (values.get(name), Template::lenient(text)) else { continue };
        if let Ok(url) = url::parse_url(value) {
            whole.get_or_insert(url);
        } else {
            let decode = |text: String| {
                if template.is_url {
                    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
                } else {
                    text
                }
            };
            let parts = template.take_apart(value).unwrap_or_default();
            found.extend(parts.into_iter().map(|(part, text)| (part, decode(text))));
        }
    }
    if whole.is_some() {
        return whole;
    }
    let text = |part: Part| found.get(&part).filter(|text| !text.is_empty());
    let address = Address {
        host: host::host_name(text(Part::Host)?).ok()?,
        port: text(Part::Port).map_or(Some(url::DEFAULT_PORT), |port| url::parse_port(port).ok())?,
        db: text(Part::Db).map_or(Some(0), |db| db.parse().ok())?,
        user: text(Part::User).and_then(|user| url::named_user(user)),
        tls: text(Part::Tls).is_some_and(|tls| tls == "true"),
    };
    Some((address, text(Part::Password).map(|password| SecretString::from(password.clone()))))
}
