//! Namespaces, as a client sees them.

use crate::client::Client;
use crate::error::{PoolError, Result};
use crate::namespace::{self, Kind, Limits, Namespace};

impl Client {
    /// The number of the namespace of that name, which is made if there is none; one that exists
    /// keeps its limits. Refused if it is of another kind.
    pub fn namespace(&mut self, name: &str, kind: Kind, limits: Limits) -> Result<u16> {
        let known = match namespace::open(&self.fabric, name)? {
            Some(known) => known,
            None => match namespace::create(&self.fabric, name, kind, limits) {
                Ok(new) => new,
                // Somebody else may have been quicker.
                Err(error) => namespace::open(&self.fabric, name)?.ok_or(error)?,
            },
        };
        if known.kind != kind {
            let text = format!("namespace {name:?} is a {:?}, not a {kind:?}", known.kind);
            return Err(PoolError::Invalid(text));
        }
        self.spaces.refresh(&self.fabric)?;
        Ok(known.id)
    }

    /// All namespaces.
    pub fn namespaces(&mut self) -> Result<Vec<Namespace>> {
        namespace::list(&self.fabric)
    }

    /// Changes the limits of a namespace. Other clients heed them from their next ticks on.
    pub fn set_limits(&mut self, name: &str, limits: Limits) -> Result<()> {
        namespace::set_limits(&self.fabric, name, limits)?;
        self.spaces.refresh(&self.fabric)
    }

    /// Bytes of the namespace's objects, as far as the clients have told: each keeps changes of
    /// less than a mebibyte back until its next tick.
    pub fn usage(&mut self, namespace: u16) -> Result<u64> {
        self.spaces.meter().flush(&self.fabric)?;
        let unknown = || PoolError::Invalid(format!("there is no namespace number {namespace}"));
        let space = self.spaces.get(namespace).ok_or_else(unknown)?;
        namespace::used(&self.fabric, space)
    }
}
