//! Asks Redis servers how they are. Where a network path is missing that is no fault of the server: it is hidden.

use futures::future::BoxFuture;

use crate::copy::{self, CopyError};
use crate::observed::{Reading, Server};
use crate::world::long::{Endpoint, Servers};

/// Asks over the network of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisServers;

impl Servers for RedisServers {
    fn ask<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Reading<Server>> {
        Box::pin(async move {
            let mut target = super::endpoint(endpoint);
            // A missing rule drops packets; an observation must not wait long for that.
            target.connect_timeout = std::time::Duration::from_secs(3);
            match copy::probe(&target).await {
                Ok(facts) => Reading::Present(server(facts)),
                Err(error @ CopyError::Unreachable { .. }) => {
                    Reading::Hidden(format!("not reachable from here: {error}"))
                }
                Err(error) => Reading::Unknown(super::cloud_error("INFO", &error)),
            }
        })
    }
}

fn server(facts: copy::StoreFacts) -> Server {
    Server {
        version: facts.version,
        keys: facts.databases,
        used_memory: facts.used_memory.unwrap_or_default(),
        max_memory: facts.maxmemory.unwrap_or_default(),
        clients: facts.connected_clients,
        evicted: facts.evicted_keys.unwrap_or_default(),
        eviction_policy: facts.maxmemory_policy.unwrap_or_default(),
    }
}
