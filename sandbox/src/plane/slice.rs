//! A part of 127.0.0.0/8 that one sandbox has for itself, so that several run side by side on the vendors' ports.
//! Hands out addresses; who listens on them is not its business.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::{Mutex, PoisonError};

use crate::dataplane::PlaneError;

const FIRST: u8 = 64;
const LAST: u8 = 250;
/// Whoever listens here holds the slice; the kernel lets go of it when the process ends, however it ends.
const LOCK_PORT: u16 = 7061;
/// Ports of service instances: below the ephemeral range of Linux, disjoint between slices.
const INSTANCE_PORTS: u16 = 10_000;
const INSTANCE_PORTS_EACH: u16 = 100;

/// 127.x.0.0/16, held until dropped.
#[derive(Debug)]
pub(crate) struct Slice {
    second: u8,
    free: Mutex<Addresses>,
    next_port: Mutex<u16>,
    _lock: TcpListener,
}

#[derive(Debug)]
struct Addresses {
    never_used: u16,
    returned: VecDeque<Ipv4Addr>,
}

impl Slice {
    /// Takes the first slice nobody holds.
    pub(crate) fn take() -> Result<Self, PlaneError> {
        for second in FIRST..=LAST {
            match TcpListener::bind((Ipv4Addr::new(127, second, 255, 254), LOCK_PORT)) {
                Ok(lock) => {
                    return Ok(Self {
                        second,
                        free: Mutex::new(Addresses { never_used: 257, returned: VecDeque::new() }),
                        next_port: Mutex::new(0),
                        _lock: lock,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
                Err(e) => {
                    return Err(PlaneError::Failed(format!(
                        "127.{second}.255.254 cannot be bound ({e}): the sandbox needs Linux, where all of 127.0.0.0/8 is loopback"
                    )));
                }
            }
        }
        Err(PlaneError::Failed("all loopback slices are taken: end other sandboxes with `sandbox down`".to_owned()))
    }

    /// Where the sandbox itself listens (the clouds' endpoint).
    pub(crate) fn own(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, 0, 1)
    }

    /// Where the real Redis servers listen; nobody but the relays connects there.
    pub(crate) fn backing(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, 0, 2)
    }

    /// A fresh address for one host seen from one vantage.
    pub(crate) fn address(&self) -> Result<Ipv4Addr, PlaneError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // Returned ones only when the fresh ones are spent: a client that still knows an old address must not meet
        // another host there.
        if free.never_used < 0xff00 {
            let [third, fourth] = free.never_used.to_be_bytes();
            free.never_used += if fourth == 254 { 3 } else { 1 };
            return Ok(Ipv4Addr::new(127, self.second, third, fourth));
        }
        free.returned
            .pop_front()
            .ok_or_else(|| PlaneError::Failed(format!("127.{}.0.0/16 has no free address left", self.second)))
    }

    pub(crate) fn give_back(&self, address: Ipv4Addr) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).returned.push_back(address);
    }

    /// A port on which nothing listens at any address, for an application that binds them all.
    pub(crate) fn instance_port(&self) -> Result<u16, PlaneError> {
        let mut next = self.next_port.lock().unwrap_or_else(PoisonError::into_inner);
        let base = INSTANCE_PORTS + u16::from(self.second - FIRST) * INSTANCE_PORTS_EACH;
        for _ in 0..INSTANCE_PORTS_EACH {
            let port = base + *next;
            *next = (*next + 1) % INSTANCE_PORTS_EACH;
            if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
                return Ok(port);
            }
        }
        free_port(Ipv4Addr::UNSPECIFIED)
    }
}

/// A port that is free at `address` now.
pub(crate) fn free_port(address: Ipv4Addr) -> Result<u16, PlaneError> {
    let probe = || -> io::Result<SocketAddr> { TcpListener::bind(SocketAddrV4::new(address, 0))?.local_addr() };
    probe().map(|a| a.port()).map_err(|e| PlaneError::Failed(format!("no free port at {address}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_and_addresses_are_never_handed_out_twice() {
        let one = Slice::take().unwrap();
        let other = Slice::take().unwrap();
        assert_ne!(one.own(), other.own());
        let taken: Vec<_> = (0..1000).map(|_| one.address().unwrap()).collect();
        let unique: std::collections::BTreeSet<_> = taken.iter().collect();
        assert_eq!(unique.len(), taken.len());
        assert!(taken.iter().all(|a| !matches!(a.octets()[3], 0 | 255)), "{taken:?}");
    }
}
