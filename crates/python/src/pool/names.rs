//! Namespaces by name: opened, or made when they are first asked for.

use artesian_pool::client::Client;
use artesian_pool::namespace::{Kind, Limits};
use artesian_pool::store::Expiry;
use artesian_pool::PoolError;
use pyo3::prelude::*;

use super::store::expiry;

/// What the caller wants of a namespace; `None` keeps what it has.
pub struct Wish {
    pub kind: Kind,
    pub quota: Option<u64>,
    pub default_ttl_ms: Option<u64>,
}

/// The number of the namespace called `name`, with these limits.
pub fn open(client: &mut Client, name: &str, wish: &Wish) -> Result<u16, PoolError> {
    let id = client.namespace(name, wish.kind, wish.limits(Limits::default()))?;
    if wish.quota.is_some() || wish.default_ttl_ms.is_some() {
        let known = client.namespaces()?.into_iter().find(|known| known.id == id);
        let before = known.map(|known| known.limits).unwrap_or_default();
        if wish.limits(before) != before {
            client.set_limits(name, wish.limits(before))?;
        }
    }
    Ok(id)
}

impl Wish {
    fn limits(&self, before: Limits) -> Limits {
        Limits {
            quota: self.quota.unwrap_or(before.quota),
            default_ttl_ms: self.default_ttl_ms.unwrap_or(before.default_ttl_ms),
            ..before
        }
    }
}

/// Milliseconds of a namespace's time to live, from seconds: `None` keeps it, 0 is never.
pub fn ttl_ms(ttl: Option<f64>) -> PyResult<Option<u64>> {
    Ok(match expiry(ttl)? {
        Expiry::Default => None,
        Expiry::Never => Some(0),
        Expiry::In(ms) => Some(ms),
    })
}

/// How messages and tables call a kind.
pub fn word_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Store => "store",
        Kind::Cache => "cache",
        Kind::Tree => "tree",
    }
}
