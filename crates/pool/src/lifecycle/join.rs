//! Joining a pool.

use artesian_bus::{GlobalAddr, NodeId, Verb, Verbs};

use super::header::read_header;
use crate::address::ClientId;
use crate::config::{area, meta, record, NodeLayout, PoolConfig, CLIENT_AREA};
use crate::error::{PoolError, Result};
use crate::fabric::Fabric;
use crate::membership::newest_view;
use crate::object::word;
use crate::view::{NodeState, View};

/// How often a view or a place that others are changing is looked at again.
const ATTEMPTS: u32 = 64;

/// Joins the pool that `verbs` reaches, as a new client.
pub fn join(verbs: Box<dyn Verbs>) -> Result<Fabric> {
    let config = agreed_config(&*verbs)?;
    for attempt in 0..ATTEMPTS {
        let view = steady_view(&*verbs, &config)?;
        refuse_unformatted(&*verbs, &view)?;
        let layout = NodeLayout::of(&config);
        let table = GlobalAddr::new(view.meta[0], layout.meta + meta::CLIENT_TABLE);
        let Some(me) = claim(&*verbs, &config, table)? else {
            verbs.relax(1_000 << attempt.min(10));
            continue;
        };
        let fabric = Fabric::new(verbs, config, view, me);
        enter(&fabric)?;
        return Ok(fabric);
    }
    Err(PoolError::Timeout { what: "a place in the client table".into(), waited_ms: 50 })
}

/// The numbers that all reachable headers agree on.
pub fn agreed_config(verbs: &dyn Verbs) -> Result<PoolConfig> {
    let mut agreed: Option<(NodeId, PoolConfig)> = None;
    let mut first_error = None;
    for (node, _) in verbs.nodes() {
        match (read_header(verbs, node), agreed) {
            (Err(error), _) => first_error = first_error.or(Some(error)),
            (Ok(config), None) => agreed = Some((node, config)),
            (Ok(config), Some((other, known))) if config.pool_id != known.pool_id => {
                return Err(PoolError::Invalid(format!(
                    "memory node {} belongs to pool {:#x}, node {} to pool {:#x}: do not mix them",
                    node.0, config.pool_id, other.0, known.pool_id
                )));
            }
            (Ok(_), Some(_)) => {}
        }
    }
    let none = || PoolError::Invalid("no memory node of the pool can be reached".into());
    agreed.map(|(_, config)| config).ok_or_else(|| first_error.unwrap_or_else(none))
}

/// The newest view. One that is just being written is looked at again.
fn steady_view(verbs: &dyn Verbs, config: &PoolConfig) -> Result<View> {
    for attempt in 0..ATTEMPTS {
        match newest_view(verbs, config) {
            Err(error @ PoolError::Bus(_)) => return Err(error),
            Err(_) => verbs.relax(1_000 << attempt.min(12)),
            view => return view,
        }
    }
    newest_view(verbs, config)
}

/// A node that the view counts on must carry a header, or the pool's creation was cut short.
fn refuse_unformatted(verbs: &dyn Verbs, view: &View) -> Result<()> {
    for (node, _) in verbs.nodes() {
        if view.nodes.get(node.0 as usize) == Some(&NodeState::Live) {
            read_header(verbs, node)?;
        }
    }
    Ok(())
}

/// Takes the first free place; `None` if others were quicker and a look again may help.
fn claim(verbs: &dyn Verbs, config: &PoolConfig, table: GlobalAddr) -> Result<Option<ClientId>> {
    let places = u64::from(config.max_clients);
    let mut bytes = vec![0; (places * meta::CLIENT_RECORD) as usize];
    verbs.batch(&mut [Verb::read(table, &mut bytes)])?;
    let (mut live, mut dead, mut lost_race) = (0, 0, false);
    for index in 1..places {
        let at = index * meta::CLIENT_RECORD + record::STATE;
        let found = word(&bytes, at as usize);
        let (state, last) = record::split(found);
        match state {
            record::FREE => {}
            record::JOINING | record::LIVE => {
                live += 1;
                continue;
            }
            _ => {
                dead += 1;
                continue;
            }
        }
        // Incarnation 0 is skipped: an all-zero owner word always means nobody.
        let incarnation = last.incarnation.wrapping_add(1).max(1);
        let me = ClientId { index: index as u16, incarnation };
        let pid = u64::from(verbs.identity().pid & 0xff_ffff) << 32;
        let mine = record::state_word(record::JOINING, me) | pid;
        let mut cas = [Verb::cas(table.add(at), found, mine)];
        verbs.batch(&mut cas)?;
        if cas[0].found() == found {
            return Ok(Some(me));
        }
        lost_race = true;
    }
    if lost_race {
        return Ok(None);
    }
    Err(PoolError::Invalid(format!(
        "all {} client places of the pool are taken ({live} by live clients, {dead} by dead ones \
         that are not recovered yet): close a client, wait for the recovery, or create the pool \
         with more places",
        places - 1
    )))
}

/// Fills in the record and the area, then goes live. A change of the view that began before this
/// client could be asked to hold still is noticed at the end: one that is over, by the view, and
/// the record is written once more; one that is under way, by `meta::CHANGE`, and the client's own
/// mailbox asks it to hold still at its first operation.
fn enter(fabric: &Fabric) -> Result<()> {
    let me = fabric.me();
    let primary = fabric.client_record(me.index, record::STATE)[0];
    let mut joining = [0; 8];
    fabric.verbs().batch(&mut [Verb::read(primary, &mut joining)])?;
    let joining = u64::from_le_bytes(joining);
    if record::split(joining) != (record::JOINING, me) {
        return Err(taken_back());
    }
    introduce(fabric)?;
    clear_area(fabric)?;
    for _ in 0..ATTEMPTS {
        write_record(fabric)?;
        go_live(fabric, joining)?;
        heed_change(fabric)?;
        let view = steady_view(fabric.verbs(), fabric.config())?;
        if view.epoch <= fabric.view().epoch {
            return Ok(());
        }
        fabric.adopt(view);
    }
    Err(PoolError::Timeout { what: "a view that stays".into(), waited_ms: 0 })
}

/// Writes who this is, so that the place can be taken back should this client die while it joins.
fn introduce(fabric: &Fabric) -> Result<()> {
    let identity = fabric.verbs().identity();
    let mut words = [0; 16];
    words[..8].copy_from_slice(&u64::from(identity.pid).to_le_bytes());
    words[8..].copy_from_slice(&identity.started.to_le_bytes());
    const { assert!(record::STARTED == record::PID + 8) };
    let copies = fabric.client_record(fabric.me().index, record::PID);
    let mut verbs: Vec<Verb<'_>> = copies.iter().map(|&copy| Verb::write(copy, &words)).collect();
    Ok(fabric.verbs().batch(&mut verbs)?)
}

/// Lets the own mailbox ask for a change that is under way. The master announces the change before
/// it reads the client table, and this client reads the announcement after it went live: one of
/// the two sees the other.
fn heed_change(fabric: &Fabric) -> Result<()> {
    let mut announced = [0; 8];
    let change = fabric.meta(meta::CHANGE)[0];
    fabric.verbs().batch(&mut [Verb::read(change, &mut announced)])?;
    let announced = u64::from_le_bytes(announced);
    if announced.is_multiple_of(2) {
        return Ok(());
    }
    for copy in fabric.client_record(fabric.me().index, record::MAILBOX) {
        let mut old = [0; 8];
        fabric.verbs().batch(&mut [Verb::read(copy, &mut old)])?;
        let old = u64::from_le_bytes(old);
        if old < announced {
            fabric.verbs().batch(&mut [Verb::cas(copy, old, announced)])?;
        }
    }
    Ok(())
}

fn taken_back() -> PoolError {
    let text = "joining took so long that the place was taken back: join again";
    PoolError::Invalid(text.into())
}

/// Zeroes the area except for the usage counters, which go on over all clients of the place.
fn clear_area(fabric: &Fabric) -> Result<()> {
    let zeros = [0; area::LOG_BYTES as usize];
    let index = fabric.me().index;
    for (start, end) in [(0, area::USAGE), (area::LOGS, CLIENT_AREA)] {
        let zeros = &zeros[..(end - start) as usize];
        let copies = fabric.client_area(index, start);
        let mut verbs: Vec<Verb<'_>> =
            copies.iter().map(|&copy| Verb::write(copy, zeros)).collect();
        fabric.verbs().batch(&mut verbs)?;
    }
    Ok(())
}

/// Writes all words but the state to all copies of the record.
fn write_record(fabric: &Fabric) -> Result<()> {
    let (verbs, identity) = (fabric.verbs(), fabric.verbs().identity());
    let mut epoch = [0; 8];
    verbs.batch(&mut [Verb::read(fabric.meta(meta::EPOCH)[0], &mut epoch)])?;
    let lease = verbs.now_ns() + u64::from(fabric.config().lease_ms) * 1_000_000;
    let mut words = [0; 40];
    words[..8].copy_from_slice(&u64::from(identity.pid).to_le_bytes());
    words[8..16].copy_from_slice(&identity.started.to_le_bytes());
    words[16..24].copy_from_slice(&lease.to_le_bytes());
    words[24..32].copy_from_slice(&epoch);
    const { assert!(record::PINNED == record::REPAIRER + 8) };
    const { assert!(record::WINDOW == record::REPAIRER + 32) };
    const { assert!(record::PID == 8 && record::FLUSHED == 40 && record::REPORTED == 32) };
    let asked = fabric.view().epoch * 2;
    for copy in fabric.client_record(fabric.me().index, 0) {
        let mut old = [0; 8];
        let at = copy.add(record::MAILBOX);
        let mut batch = [
            Verb::write(copy.add(record::PID), &words),
            Verb::write(copy.add(record::REPAIRER), &[0; 40]),
            Verb::read(at, &mut old),
        ];
        verbs.batch(&mut batch)?;
        // A master may be asking already: only an older view's mailbox is overwritten.
        let old = u64::from_le_bytes(old);
        if old < asked {
            verbs.batch(&mut [Verb::cas(at, old, asked)])?;
        }
    }
    Ok(())
}

/// Makes the state LIVE, on the primary last.
fn go_live(fabric: &Fabric, joining: u64) -> Result<()> {
    let me = fabric.me();
    let live = record::state_word(record::LIVE, me);
    let copies = fabric.client_record(me.index, record::STATE);
    for &copy in &copies[1..] {
        fabric.verbs().batch(&mut [Verb::write(copy, &live.to_le_bytes())])?;
    }
    let mut cas = [Verb::cas(copies[0], joining, live)];
    fabric.verbs().batch(&mut cas)?;
    if cas[0].found() != joining && cas[0].found() != live {
        return Err(taken_back());
    }
    Ok(())
}
