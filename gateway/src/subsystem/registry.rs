//! Which subsystems are registered and up now.

use std::sync::{Arc, Mutex, PoisonError};

use doorward_launch::{Current, registrations::Registration};
use tokio_util::sync::CancellationToken;

use super::{Description, places::Places};
use crate::{
    backend::{failure::Faults, line::Line, link::Link},
    call::{EventName, SubsystemName},
};

/// All of them. Clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    now: Current<Snapshot>,
    /// Held by whoever makes the next snapshot out of the last.
    changing: Mutex<()>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { now: Current::new(Snapshot::default()), changing: Mutex::default() }
    }
}

/// What there is at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// In the order of their names.
    known: Vec<Known>,
}

/// A registered subsystem.
#[derive(Debug, Clone)]
pub struct Known {
    /// How it is reached.
    pub subsystem: Arc<Subsystem>,
    /// None: it is down.
    pub up: Option<Arc<Standing>>,
}

/// A subsystem while it is up.
#[derive(Debug)]
pub struct Standing {
    /// What it says of itself.
    pub description: Description,
    /// Cancelled when it is up no more.
    pub(super) over: CancellationToken,
}

/// A subsystem as root registered it.
#[derive(Debug)]
pub struct Subsystem {
    /// What clients call it.
    pub name: SubsystemName,
    pub(super) registration: Registration,
    /// For its description and its events: calls that fill theirs do not make it look dead.
    pub(super) watch: Line,
    /// For calls.
    pub(super) calls: Line,
    pub(super) places: Arc<Places>,
    pub(super) faults: Faults,
}

impl Subsystem {
    /// None for a registration whose name cannot be one, which the file's reader lets nobody have.
    pub(super) fn new(registration: Registration) -> Option<Arc<Self>> {
        let name = SubsystemName::parse(&registration.namespace, &registration.name)?;
        let link = Link { path: registration.socket.clone(), uid: registration.uid };
        Some(Arc::new(Self {
            watch: Line::shared(name.as_str(), link.clone()),
            calls: Line::shared(name.as_str(), link),
            places: Arc::default(),
            faults: Faults::default(),
            name,
            registration,
        }))
    }

    /// Gives its connections up.
    pub(super) fn hang_up(&self) {
        self.watch.hang_up();
        self.calls.hang_up();
    }
}

impl Registry {
    /// What there is now.
    pub fn now(&self) -> Arc<Snapshot> {
        self.0.now.get()
    }

    /// How often that has changed ([`Current::changes`]).
    pub fn changes(&self) -> u64 {
        self.0.now.changes()
    }

    /// It is registered, and down.
    pub(super) fn add(&self, subsystem: Arc<Subsystem>) {
        self.change(|known| {
            known.push(Known { subsystem, up: None });
            known.sort_by(|one, other| one.subsystem.name.cmp(&other.subsystem.name));
        });
    }

    /// It is registered no more.
    pub(super) fn remove(&self, subsystem: &Arc<Subsystem>) {
        self.change(|known| known.retain(|known| !Arc::ptr_eq(&known.subsystem, subsystem)));
    }

    /// It is up so, or it is down.
    pub(super) fn stands(&self, subsystem: &Arc<Subsystem>, up: Option<Arc<Standing>>) {
        self.change(|known| {
            if let Some(known) = known.iter_mut().find(|known| Arc::ptr_eq(&known.subsystem, subsystem)) {
                known.up = up;
            }
        });
    }

    /// As if one came or went.
    #[cfg(test)]
    pub(crate) fn stir(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Known>)) {
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.now());
        change(&mut next.known);
        self.0.now.set(next);
    }
}

impl Snapshot {
    /// The subsystem of this name.
    pub fn find(&self, name: &SubsystemName) -> Option<&Known> {
        let place = self.known.binary_search_by(|known| known.subsystem.name.cmp(name)).ok()?;
        self.known.get(place)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.iter()
    }

    /// Whose event this is, if it is a subsystem's.
    pub fn publisher(&self, event: &EventName) -> Option<&Known> {
        self.known.iter().find(|known| {
            known.subsystem.registration.events.iter().any(|registered| registered == event.as_str())
        })
    }
}
