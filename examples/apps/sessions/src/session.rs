//! One session as it is stored: a JSON string under `sess:<id>`. Pure; the store and the clock are elsewhere.

use serde::{Deserialize, Serialize};

/// What is kept about a logged-in user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    /// Who logged in.
    pub(crate) user: String,
    /// Seconds since the epoch, by the clock of the instance that took the login.
    pub(crate) created_at: u64,
    /// How often the user clicked.
    pub(crate) clicks: u64,
    /// What the user did last, as the client numbers it.
    pub(crate) step: u64,
    /// Token against forged forms.
    pub(crate) csrf: String,
    /// The page the user is on.
    pub(crate) page: String,
}

impl Session {
    /// A session as it is right after the login.
    pub(crate) fn new(user: String, created_at: u64) -> Self {
        let csrf = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        Self { user, created_at, clicks: 0, step: 0, csrf, page: "/".to_owned() }
    }

    /// The session after one more click, which the client numbered `step`.
    pub(crate) fn clicked(mut self, step: u64) -> Self {
        self.clicks += 1;
        self.step = step;
        self.page = format!("/feed?page={step}");
        self
    }
}

/// An unguessable id: 128 bits from the operating system's generator.
pub(crate) fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The key a session is stored under.
pub(crate) fn key(id: &str) -> String {
    format!("sess:{id}")
}

/// The start of an id, enough to find a line in a log and too little to steal the session.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Whether a client's id could be one of ours; anything else never reaches the store.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_keeps_who_it_is_and_counts() {
        let before = Session::new("ada".to_owned(), 7);
        let after = before.clone().clicked(41).clicked(42);
        assert_eq!((after.clicks, after.step, after.user.as_str(), after.created_at), (2, 42, "ada", 7));
        assert_eq!(after.csrf, before.csrf);
    }

    #[test]
    fn ids_are_ours_or_never_reach_the_store() {
        assert!(is_id(&new_id()));
        assert!(!is_id("short") && !is_id(&"*".repeat(32)));
        assert_eq!(short("0123456789abcdef"), "01234567");
    }
}
