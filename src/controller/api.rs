//! Calls to the API server: each with its own deadline, each failure with what was called.

use std::future::Future;
use std::time::Duration;

/// For one call.
const DEADLINE: Duration = Duration::from_secs(10);

/// A call to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It answered with an error.
    #[error("{verb} {resource}: {}", said(&**source))]
    Answered {
        /// What was asked for.
        verb: &'static str,
        /// Of what.
        resource: &'static str,
        /// The server's words.
        source: Box<kube::Error>,
    },
    /// Nothing was called: another replica may act by now.
    #[error("{verb} {resource}: not called, another replica may act by now")]
    Deposed {
        /// What was to be asked for.
        verb: &'static str,
        /// Of what.
        resource: &'static str,
    },
    /// It did not answer.
    #[error("{verb} {resource}: the API server did not answer within {} s", DEADLINE.as_secs())]
    Silent {
        /// What was asked for.
        verb: &'static str,
        /// Of what.
        resource: &'static str,
    },
}

impl Error {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Answered { source, .. } => code(source),
            Self::Deposed { .. } | Self::Silent { .. } => None,
        }
    }

    /// Whether somebody else wrote first.
    #[must_use]
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether it is not there.
    #[must_use]
    pub(super) fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the object is against the definition. Of a field of the wrong type server-side apply says so with a 500: the
    /// object as it is stored cannot be typed.
    #[must_use]
    pub(super) fn is_invalid(&self) -> bool {
        let untyped = || self.to_string().contains("failed to create typed live object");
        self.code() == Some(422) || self.code() == Some(500) && untyped()
    }

    /// Whether we may not.
    #[must_use]
    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }
}

/// The server's status code, where it answered.
#[must_use]
pub(super) fn code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}

/// What went wrong, the server's words once: kube repeats them in the text of every error that carries them.
#[must_use]
pub(super) fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(at) = cause {
        if let Some(kube::Error::Api(status)) = at.downcast_ref() {
            return format!("{} ({} {})", status.message, status.code, status.reason);
        }
        cause = at.source();
    }
    crate::error::chain(error)
}

/// One call.
///
/// # Errors
/// When it failed or was not answered.
pub(super) async fn call<T>(
    verb: &'static str,
    resource: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|source| Error::Answered { verb, resource, source: Box::new(source) }),
        Err(_) => Err(Error::Silent { verb, resource }),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::runtime::watcher;

    use super::*;

    #[test]
    fn what_the_server_says_is_said_once() {
        const WORDS: &str = "leases.coordination.k8s.io \"sessionbackend\" is forbidden";
        let refused = || kube::Error::Api(Box::new(Status::failure(WORDS, "Forbidden").with_code(403)));
        let answered = Error::Answered { verb: "get", resource: "lease", source: Box::new(refused()) };
        assert_eq!(answered.to_string(), format!("get lease: {WORDS} (403 Forbidden)"));
        assert!(answered.is_forbidden());
        let listed = said(&watcher::Error::InitialListFailed(refused()));
        assert_eq!(listed, format!("{WORDS} (403 Forbidden)"));
        let watched = said(&watcher::Error::WatchError(Box::new(Status::failure(WORDS, "Expired").with_code(410))));
        assert_eq!(watched.matches(WORDS).count(), 1, "{watched}");
    }
}
