//! Namespaces by name: opened, or made when they are first asked for.

use artesian_pool::namespace::{self, Kind, Limits, Namespace};
use artesian_pool::{Fabric, PoolError};

/// What the caller wants of a namespace; `None` keeps what it has.
pub struct Wish {
    pub kind: Kind,
    pub quota: Option<u64>,
    pub default_ttl_ms: Option<u64>,
}

/// The namespace called `name` with these limits.
pub fn open(fabric: &Fabric, name: &str, wish: &Wish) -> Result<Namespace, PoolError> {
    let found = match namespace::open(fabric, name)? {
        Some(found) => found,
        None => match make(fabric, name, wish) {
            Ok(made) => return Ok(made),
            // Somebody else may have been quicker.
            Err(error) => namespace::open(fabric, name)?.ok_or(error)?,
        },
    };
    if found.kind != wish.kind {
        let (is, wanted) = (word_of(found.kind), word_of(wish.kind));
        return Err(PoolError::Invalid(format!(
            "the namespace {name:?} is a {is}, not a {wanted}: choose another name"
        )));
    }
    let limits = wish.limits(found.limits);
    if limits == found.limits {
        return Ok(found);
    }
    namespace::set_limits(fabric, name, limits)
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

fn make(fabric: &Fabric, name: &str, wish: &Wish) -> Result<Namespace, PoolError> {
    namespace::create(fabric, name, wish.kind, wish.limits(Limits::default()))
}

/// How messages and tables call a kind.
pub fn word_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Store => "store",
        Kind::Cache => "cache",
        Kind::Tree => "tree",
    }
}
