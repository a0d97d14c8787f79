//! Which names exist, and one loopback address for each of them at every vantage, so that a listener knows who
//! connects. Resolving is by hosts files; whether packets arrive is asked of the [`Network`] on every connection.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;

use crate::dataplane::{Network, PlaneError, Target, Vantage};
use crate::plane::gate::{Gate, Path};
use crate::plane::hosts::HostsFile;
use crate::plane::relay::{Wire, relay};
use crate::plane::slice::Slice;

/// Takes connections for public HTTPS hosts.
pub(crate) type FrontDoor = Arc<dyn Fn(TcpStream, SocketAddr) + Send + Sync>;

/// What answers behind a name and port.
#[derive(Clone)]
pub(crate) enum Behind {
    /// A store's server.
    Store { id: String, wire: Arc<Wire> },
    /// The HTTPS front.
    Front,
}

/// Names one set of addresses; the same [`Vantage`] can exist several times (old and new instances).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VantageId(u64);

/// All names and vantages of one sandbox.
pub(crate) struct Directory {
    slice: Arc<Slice>,
    network: Arc<dyn Network>,
    front: FrontDoor,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, BTreeMap<u16, Behind>>,
    vantages: HashMap<VantageId, Place>,
    last: u64,
}

struct Place {
    vantage: Vantage,
    hosts: HostsFile,
    addresses: HashMap<String, Seen>,
}

struct Seen {
    address: Ipv4Addr,
    gates: HashMap<u16, Gate>,
}

impl Directory {
    /// Hosts files go to `dir`.
    pub(crate) fn new(slice: Arc<Slice>, network: Arc<dyn Network>, front: FrontDoor, dir: PathBuf) -> Self {
        Self { slice, network, front, dir, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `host` exist at every vantage with something listening on `port`.
    pub(crate) fn add(&self, host: &str, port: u16, behind: &Behind) -> Result<(), PlaneError> {
        let mut state = self.state();
        let State { names, vantages, .. } = &mut *state;
        names.entry(host.to_owned()).or_default().insert(port, behind.clone());
        vantages.values_mut().try_for_each(|place| self.show(place, host, port, behind))
    }

    /// As [`Self::add`], unless that port of `host` is there already.
    pub(crate) fn add_once(&self, host: &str, port: u16, behind: &Behind) -> Result<(), PlaneError> {
        let known = self.state().names.get(host).is_some_and(|ports| ports.contains_key(&port));
        if known { Ok(()) } else { self.add(host, port, behind) }
    }

    /// Takes one port of `host` away; without any left the name stops resolving.
    pub(crate) fn remove(&self, host: &str, port: u16) {
        let mut state = self.state();
        let State { names, vantages, .. } = &mut *state;
        let Some(ports) = names.get_mut(host) else { return };
        ports.remove(&port);
        let gone = ports.is_empty();
        if gone {
            names.remove(host);
        }
        for place in vantages.values_mut() {
            let Some(seen) = place.addresses.get_mut(host) else { continue };
            seen.gates.remove(&port);
            if gone {
                if let Some(seen) = place.addresses.remove(host) {
                    self.slice.give_back(seen.address);
                }
                // A line that stays resolves to an address where nobody listens.
                let _ = place.hosts.remove(host);
            }
        }
    }

    /// A new set of addresses from which the world is seen as `vantage`.
    pub(crate) fn open_vantage(&self, vantage: Vantage) -> Result<(VantageId, PathBuf), PlaneError> {
        let mut state = self.state();
        state.last += 1;
        let id = VantageId(state.last);
        let path = self.dir.join(format!("{}.hosts", id.0));
        let hosts =
            HostsFile::create(path.clone()).map_err(|e| PlaneError::Failed(format!("{}: {e}", path.display())))?;
        let mut place = Place { vantage, hosts, addresses: HashMap::new() };
        for (host, ports) in &state.names {
            for (port, behind) in ports {
                self.show(&mut place, host, *port, behind)?;
            }
        }
        state.vantages.insert(id, place);
        Ok((id, path))
    }

    /// The hosts file of a vantage that is opened once and shared, such as the internet.
    pub(crate) fn shared_vantage(&self, vantage: &Vantage) -> Result<PathBuf, PlaneError> {
        let known = self.state().vantages.values().find(|p| p.vantage == *vantage).map(|p| p.hosts.path().to_owned());
        match known {
            Some(path) => Ok(path),
            None => Ok(self.open_vantage(vantage.clone())?.1),
        }
    }

    pub(crate) fn close_vantage(&self, id: VantageId) {
        if let Some(place) = self.state().vantages.remove(&id) {
            place.addresses.into_values().for_each(|seen| self.slice.give_back(seen.address));
        }
    }

    fn show(&self, place: &mut Place, host: &str, port: u16, behind: &Behind) -> Result<(), PlaneError> {
        let (address, is_new) = match place.addresses.get(host) {
            Some(seen) => (seen.address, false),
            None => (self.slice.address()?, true),
        };
        let gate = self.gate(&place.vantage, host, SocketAddrV4::new(address, port), behind)?;
        let seen = place.addresses.entry(host.to_owned()).or_insert_with(|| Seen { address, gates: HashMap::new() });
        seen.gates.insert(port, gate);
        if is_new {
            place.hosts.add(host, address).map_err(|e| PlaneError::Failed(format!("hosts file: {e}")))?;
        }
        Ok(())
    }

    fn gate(&self, from: &Vantage, host: &str, at: SocketAddrV4, behind: &Behind) -> Result<Gate, PlaneError> {
        let (network, from, host) = (self.network.clone(), from.clone(), host.to_owned());
        let opened = match behind.clone() {
            Behind::Store { id, wire } => {
                let path: Path = Arc::new(move || network.path_open(&from, Target::Store(&id)));
                let source = *at.ip();
                Gate::at(at, path, Arc::new(move |client, _| drop(tokio::spawn(relay(client, source, wire.clone())))))
            }
            Behind::Front => {
                let path: Path = Arc::new(move || network.path_open(&from, Target::PublicHost(&host)));
                Gate::at(at, path, self.front.clone())
            }
        };
        opened.map_err(|e| {
            PlaneError::Failed(format!(
                "cannot listen on {at}: {e}; does another program listen on port {} of all addresses?",
                at.port()
            ))
        })
    }
}
