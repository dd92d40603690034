//! Blocks that are loaded together: first the first layers of all of them, then the next ones.

use std::sync::Arc;
use std::time::Instant;

use super::gate::LayerGate;
use super::{Outcome, Place, Ticket};
use crate::store::{Key, Loaded};

/// A block of a group.
pub(super) struct Member {
    pub ticket: Ticket,
    pub key: Key,
    pub place: Place,
    /// Bytes of its parts in the store, as they were when loading was asked for.
    pub part_bytes: usize,
    /// Why it is not there; `None` as long as nothing failed.
    pub failure: Option<Outcome>,
}

/// Some parts of a block that one thread loads: all that the block needs for a stage and that no
/// earlier stage has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub member: usize,
    pub stage: usize,
    pub key: Key,
    pub place: Place,
    /// Bytes from the block's start.
    pub start: usize,
    pub end: usize,
}

/// A group. The stages of all its blocks have equal borders.
pub(super) struct Group {
    pub gate: Arc<LayerGate>,
    pub members: Vec<Member>,
    pub started: Option<Instant>,
    stage_bytes: usize,
    num_stages: usize,
    /// The next piece.
    stage: usize,
    member: usize,
    /// Pieces that have not come, by stage.
    missing: Vec<usize>,
    /// Stages that are there.
    ready: usize,
    num_under_way: usize,
    /// Members from here on are of no use: one before them cannot be had.
    limit: usize,
}

impl Group {
    /// Of blocks of `block_bytes` each.
    pub fn new(members: Vec<Member>, block_bytes: usize, stage_bytes: usize) -> Group {
        let stage_bytes = stage_bytes.clamp(1, block_bytes.max(1));
        let num_stages = block_bytes.div_ceil(stage_bytes).max(1);
        Group {
            gate: Arc::new(LayerGate::new(block_bytes)),
            missing: vec![members.len(); num_stages],
            limit: members.len(),
            members,
            started: None,
            stage_bytes,
            num_stages,
            stage: 0,
            member: 0,
            ready: 0,
            num_under_way: 0,
        }
    }

    /// What is to be loaded next, if anything is left.
    pub fn next(&mut self) -> Option<Piece> {
        if self.member >= self.limit {
            (self.stage, self.member) = (self.stage + 1, 0);
        }
        if self.stage >= self.num_stages || self.limit == 0 {
            self.stage = self.num_stages;
            return None;
        }
        let (stage, index) = (self.stage, self.member);
        self.member += 1;
        self.num_under_way += 1;
        if self.started.is_none() {
            self.started = Some(Instant::now());
            self.gate.start();
        }
        let Member { key, place, part_bytes, .. } = self.members[index];
        let border = |stage: usize| {
            let at = (stage * self.stage_bytes).min(place.bytes);
            at.next_multiple_of(part_bytes.max(1)).min(place.bytes)
        };
        Some(Piece {
            member: index,
            stage,
            key,
            place,
            start: border(stage),
            end: border(stage + 1),
        })
    }

    /// Whether `next` has something.
    pub fn has_next(&self) -> bool {
        self.limit > 0
            && (self.stage + 1 < self.num_stages
                || self.stage < self.num_stages && self.member < self.limit)
    }

    /// A piece has ended. The last stage is not told yet: first all is to be booked.
    pub fn end(&mut self, piece: &Piece, outcome: Outcome) {
        self.num_under_way -= 1;
        if outcome != Outcome::Loaded(Loaded::Hit) {
            self.members[piece.member].failure.get_or_insert(outcome);
            self.limit = self.limit.min(piece.member);
            self.gate.fail();
            return;
        }
        self.missing[piece.stage] -= 1;
        let before = self.ready;
        while self.ready < self.num_stages && self.missing[self.ready] == 0 {
            self.ready += 1;
        }
        if self.ready > before && self.ready < self.num_stages {
            self.gate.open(self.ready * self.stage_bytes);
        }
    }

    /// Nobody wants it any more: what is under way comes to its end, and nothing else is loaded.
    pub fn cancel(&mut self) {
        self.limit = 0;
        self.gate.abandon();
    }

    /// Whether nothing more will be written into its blocks.
    pub fn is_over(&self) -> bool {
        self.num_under_way == 0 && !self.has_next()
    }

    /// What became of each block, once it is over.
    pub fn outcome(&self, member: usize) -> Outcome {
        let failure = self.members[member].failure;
        failure.unwrap_or(if member < self.limit || self.ready == self.num_stages {
            Outcome::Loaded(Loaded::Hit)
        } else {
            Outcome::Skipped
        })
    }

    /// Opens the gate if all blocks are there.
    pub fn open_if_whole(&self) {
        if self.ready == self.num_stages {
            self.gate.open(self.num_stages * self.stage_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mover::GateState;

    const HIT: Outcome = Outcome::Loaded(Loaded::Hit);

    fn group(parts: &[usize], block_bytes: usize, stage_bytes: usize) -> Group {
        let member = |(index, &part_bytes): (usize, &usize)| Member {
            ticket: index as u64,
            key: [index as u8; 32],
            place: Place { offset: 1_000 * index, bytes: block_bytes },
            part_bytes,
            failure: None,
        };
        Group::new(parts.iter().enumerate().map(member).collect(), block_bytes, stage_bytes)
    }

    fn pieces(group: &mut Group) -> Vec<Piece> {
        std::iter::from_fn(|| group.next()).collect()
    }

    #[test]
    fn layers_come_in_order_and_each_byte_once() {
        let mut group = group(&[10, 25, 100, 7], 100, 20);
        let all = pieces(&mut group);
        assert!(!group.has_next() && !group.is_over());
        for (index, member) in group.members.iter().enumerate() {
            let mut end = 0;
            for piece in all.iter().filter(|piece| piece.member == index) {
                assert_eq!(piece.start, end);
                end = piece.end;
                assert!(end >= 100.min((piece.stage + 1) * 20), "what the stage promises");
                assert!(end % member.part_bytes == 0 || end == 100);
            }
            assert_eq!(end, 100);
        }
        let order: Vec<_> = all.iter().map(|piece| (piece.stage, piece.member)).collect();
        assert!(order.is_sorted() && order.len() == 20);
        // The second stage has come before the first one's last piece: the gate waits for that.
        let first = all.iter().position(|piece| piece.member == 2).unwrap();
        for piece in all.iter().enumerate().filter(|&(at, p)| at != first && p.stage < 2) {
            group.end(piece.1, HIT);
        }
        assert_eq!(group.gate.ready_bytes(), 0);
        group.end(&all[first], HIT);
        assert_eq!(group.gate.ready_bytes(), 40);
        all.iter().filter(|piece| piece.stage >= 2).for_each(|piece| group.end(piece, HIT));
        assert!(group.is_over() && !group.gate.is_complete());
        group.open_if_whole();
        assert!(group.gate.is_complete());
        assert!((0..4).all(|index| group.outcome(index) == HIT));
    }

    #[test]
    fn what_lies_behind_a_failure_is_not_loaded() {
        let mut group = group(&[20; 4], 100, 20);
        let mut first: Vec<_> = (0..4).filter_map(|_| group.next()).collect();
        let piece = first.remove(2);
        group.end(&piece, Outcome::Loaded(Loaded::Corrupt));
        assert_eq!(group.gate.state(), GateState::Failed);
        first.extend(pieces(&mut group));
        assert!(first.iter().all(|piece| piece.member < 2 || piece.stage == 0));
        first.iter().for_each(|piece| group.end(piece, HIT));
        assert!(group.is_over());
        let outcomes: Vec<_> = (0..4).map(|index| group.outcome(index)).collect();
        assert_eq!(outcomes, [HIT, HIT, Outcome::Loaded(Loaded::Corrupt), Outcome::Skipped]);
        assert!(!group.gate.is_complete());
    }

    #[test]
    fn a_cancelled_group_ends_with_what_is_under_way() {
        let mut group = group(&[20; 3], 100, 20);
        let piece = group.next().unwrap();
        group.cancel();
        assert!(group.next().is_none() && !group.is_over());
        group.end(&piece, HIT);
        assert!(group.is_over());
        assert!((0..3).all(|index| group.outcome(index) == Outcome::Skipped));
        assert_eq!(group.gate.state(), GateState::Abandoned);
    }
}
