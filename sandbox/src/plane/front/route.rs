//! Who serves a host now: the upstreams of all routed deployments, taken in turn. Choosing one and counting the
//! request against it happen under one lock, so that whoever is taken out of the route gets nothing any more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::plane::front::pool::{Seat, Upstream};

/// All routes, by host.
#[derive(Default)]
pub(crate) struct Routes {
    by_host: RwLock<HashMap<String, Route>>,
}

#[derive(Default)]
struct Route {
    turn: AtomicUsize,
    /// Upstreams with the deployment they belong to.
    upstreams: Vec<(u64, Arc<Upstream>)>,
}

/// Where a request goes.
pub(crate) enum Routed {
    /// No such host.
    Nowhere,
    /// The host is known and nobody can serve it.
    Unhealthy,
    /// This upstream, which counts the request as in flight until the seat is dropped.
    To(Seat),
}

impl Routes {
    pub(crate) fn pick(&self, host: &str) -> Routed {
        let by_host = self.by_host.read().unwrap_or_else(PoisonError::into_inner);
        let known = by_host.get(host).or_else(|| by_host.get(&host.to_ascii_lowercase()));
        let Some(route) = known else { return Routed::Nowhere };
        let count = route.upstreams.len();
        let first = route.turn.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(|step| &route.upstreams[(first.wrapping_add(step)) % count].1)
            .find(|upstream| upstream.is_healthy())
            .map_or(Routed::Unhealthy, |upstream| Routed::To(upstream.seat()))
    }

    /// Adds a deployment's upstreams, between those that are there. Returns whether others serve the host already.
    pub(crate) fn join(&self, host: &str, deployment: u64, upstreams: &[Arc<Upstream>]) -> bool {
        let mut by_host = self.by_host.write().unwrap_or_else(PoisonError::into_inner);
        let route = by_host.entry(host.to_owned()).or_default();
        let others = route.upstreams.iter().any(|(owner, _)| *owner != deployment);
        route.upstreams.retain(|(owner, _)| *owner != deployment);
        for (index, upstream) in upstreams.iter().enumerate() {
            let at = (index * 2).min(route.upstreams.len());
            route.upstreams.insert(at, (deployment, upstream.clone()));
        }
        others
    }

    /// Only this deployment serves the host from now on.
    pub(crate) fn keep_only(&self, host: &str, deployment: u64) {
        let mut by_host = self.by_host.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = by_host.get_mut(host) {
            route.upstreams.retain(|(owner, _)| *owner == deployment);
        }
    }

    /// The deployment serves no more; the host is unknown when it was the last one.
    pub(crate) fn leave(&self, host: &str, deployment: u64) {
        let mut by_host = self.by_host.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = by_host.get_mut(host) {
            route.upstreams.retain(|(owner, _)| *owner != deployment);
            if route.upstreams.is_empty() {
                by_host.remove(host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use super::*;

    fn upstreams(ports: std::ops::Range<u16>) -> Vec<Arc<Upstream>> {
        ports.map(|port| Arc::new(Upstream::new(SocketAddr::from(([127, 0, 0, 1], port)), true))).collect()
    }

    fn spread(routes: &Routes, requests: usize) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            match routes.pick("A.example") {
                Routed::To(seat) => *counts.entry(seat.upstream().address().port()).or_default() += 1,
                Routed::Nowhere | Routed::Unhealthy => *counts.entry(0).or_default() += 1,
            }
        }
        counts
    }

    #[test]
    fn requests_are_spread_evenly_over_old_and_new_and_then_only_over_new() {
        let routes = Routes::default();
        assert!(matches!(routes.pick("a.example"), Routed::Nowhere));
        assert!(!routes.join("a.example", 1, &upstreams(1..4)));
        assert!(routes.join("a.example", 2, &upstreams(11..14)));
        assert_eq!(spread(&routes, 600).into_values().collect::<Vec<_>>(), vec![100; 6]);
        routes.keep_only("a.example", 2);
        assert_eq!(spread(&routes, 300).into_iter().collect::<Vec<_>>(), [(11, 100), (12, 100), (13, 100)]);
        routes.leave("a.example", 2);
        assert!(matches!(routes.pick("a.example"), Routed::Nowhere));
    }

    #[test]
    fn an_unhealthy_instance_gets_nothing() {
        let routes = Routes::default();
        let both = upstreams(1..3);
        routes.join("a.example", 1, &both);
        both[0].set_healthy(false);
        assert_eq!(spread(&routes, 10).into_iter().collect::<Vec<_>>(), [(2, 10)]);
        both[1].set_healthy(false);
        assert!(matches!(routes.pick("a.example"), Routed::Unhealthy));
    }
}
