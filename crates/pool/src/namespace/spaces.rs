//! A client's copy of the namespace table, by number, with its meter.

use super::meter::Meter;
use super::record::{Kind, Namespace};
use crate::config::meta;
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;

/// What a client knows of the namespaces.
pub struct Spaces {
    table: Vec<Option<Namespace>>,
    meter: Meter,
    read_ns: u64,
}

impl Spaces {
    /// Reads the table and the counters of the client's place.
    pub fn new(fabric: &Fabric) -> Result<Spaces> {
        let table = vec![None; meta::NUM_NAMESPACES as usize];
        let mut spaces = Spaces { table, meter: Meter::new(fabric)?, read_ns: 0 };
        spaces.refresh(fabric)?;
        Ok(spaces)
    }

    /// Reads the table again.
    #[cold]
    pub fn refresh(&mut self, fabric: &Fabric) -> Result<()> {
        self.read_ns = fabric.verbs().now_ns();
        let known = super::list(fabric)?;
        self.table.fill(None);
        for namespace in known {
            let id = namespace.id as usize;
            self.table[id] = Some(namespace);
        }
        Ok(())
    }

    /// [`Spaces::refresh`], if the copy is older than an eighth of a lease; tells all changes of
    /// usage as well.
    pub fn tick(&mut self, fabric: &Fabric) -> Result<()> {
        let age = fabric.verbs().now_ns().saturating_sub(self.read_ns);
        if age < u64::from(fabric.config().lease_ms) * 125_000 {
            return Ok(());
        }
        self.meter.flush(fabric)?;
        self.refresh(fabric)
    }

    /// The namespace of that number.
    pub fn get(&self, id: u16) -> Option<&Namespace> {
        self.table.get(id as usize)?.as_ref()
    }

    /// The namespace of that number, into which keys by hash are to be written. One that is not
    /// known is looked for.
    #[inline]
    pub fn for_writing(&mut self, fabric: &Fabric, id: u16) -> Result<&Namespace> {
        if !matches!(self.table.get(id as usize), Some(Some(_))) {
            self.refresh(fabric)?;
        }
        match self.table.get(id as usize) {
            Some(Some(known)) if known.kind == Kind::Tree => {
                let text = format!("namespace {:?} is ordered: use its tree", known.name);
                Err(PoolError::Invalid(text))
            }
            Some(Some(known)) => Ok(known),
            _ => Err(PoolError::Invalid(format!("there is no namespace with the number {id}"))),
        }
    }

    /// Whether `bytes` more may be added to a namespace; see [`Meter::admit`].
    #[inline]
    pub fn admit(&mut self, fabric: &Fabric, id: u16, bytes: u64) -> Result<()> {
        match self.table.get(id as usize) {
            Some(Some(known)) => self.meter.admit(fabric, known, bytes),
            _ => Ok(()),
        }
    }

    /// Counts bytes that were added to a namespace or taken off it.
    #[inline]
    pub fn count(&mut self, id: u16, bytes: i64) {
        if let Some(Some(known)) = self.table.get(id as usize) {
            self.meter.add(known, bytes);
        }
    }

    /// The meter.
    #[inline]
    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }
}
