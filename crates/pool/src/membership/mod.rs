//! Who is in the pool: leases, deaths, the master, changes of the view.
//!
//! Every client renews its lease and watches the others in [`tick`]. A silent client is *fenced*
//! (its process is ended) before it is declared dead, so nothing of it can still take effect. One
//! client is the **master**: it holds `meta::MASTER` on all meta nodes. It alone changes the view
//! (`change`); all it knows lies in records and views, so the next one goes on where it died.
//! A lost master stops nothing but changes of the view.

mod change;
mod death;
mod gate;
mod master;
mod recovery;
mod settle;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod tick;
mod views;
mod watch;
pub(crate) mod words;

pub(crate) use change::{change_view, refresh_view};
pub use death::{standing, Standing};
pub use gate::{hold_still, report_loss};
pub use master::resign;
pub use settle::EPOCH_JUMP;
pub(crate) use settle::{copy_tables, decide_rounds};
pub use tick::tick;
pub(crate) use tick::{look_after, renew_lease};
pub(crate) use views::read_views;
pub use views::{newest_view, store_view};
pub use watch::Watch;
