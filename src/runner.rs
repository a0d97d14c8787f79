//! What runs long in this process: copiers, runs of checks, questions to servers. Plugs the rooms that know how into the
//! doors of [`crate::world::long`]; decides nothing, and keeps every password inside the types that hide it.

mod checker;
mod copiers;
mod life;
mod servers;

pub use checker::{LocalChecker, Plug};
pub use copiers::LocalCopiers;
pub use servers::RedisServers;

use crate::copy;
use crate::error::{Class, CloudError};
use crate::world::long::Endpoint;

/// Reads the clock.
pub type Now = fn() -> jiff::Timestamp;

/// How the copier's room names an endpoint.
fn endpoint(endpoint: &Endpoint) -> copy::Endpoint {
    let address = &endpoint.address;
    copy::Endpoint {
        tls: address.tls,
        user: address.user.clone(),
        password: endpoint.password.clone(),
        database: address.db,
        ..copy::Endpoint::new(address.host.clone(), address.port)
    }
}

/// What a failure of a store is to whoever asked for it.
fn cloud_error(operation: &str, error: &copy::CopyError) -> CloudError {
    use crate::copy::CopyError;
    let class = match error {
        CopyError::Unreachable { .. } | CopyError::Busy { .. } | CopyError::Held { .. } => Class::Transient,
        CopyError::Auth { .. } => Class::Credentials,
        CopyError::NotPermitted { .. } => Class::Denied,
        CopyError::Quota { .. } | CopyError::Full { .. } => Class::Quota,
        CopyError::TargetNotEmpty { .. }
        | CopyError::UnmatchedKeys { .. }
        | CopyError::Queues { .. }
        | CopyError::SameNames { .. }
        | CopyError::ClusterMode { .. }
        | CopyError::Fenced { .. }
        | CopyError::OtherRules
        | CopyError::Ending
        | CopyError::Emptied { .. }
        | CopyError::Evicting { .. }
        | CopyError::Refused { .. }
        | CopyError::Unexpected { .. } => Class::Rejected,
    };
    CloudError::new(class, "Redis", operation, "", &format!("{error}; {}", error.remedy()))
}
