//! The authority the tests' clients trust, and its certificate for `localhost`, good until 2126. The authority's key was
//! thrown away; the key of `localhost` protects nothing.

/// PEM of the authority.
pub(crate) const AUTHORITY: &str = include_str!("certificates/authority.pem");
/// PEM of the certificate for `localhost`.
pub(crate) const CERTIFICATE: &str = include_str!("certificates/localhost.pem");
/// PEM of its key.
pub(crate) const KEY: &str = include_str!("certificates/localhost.key");
