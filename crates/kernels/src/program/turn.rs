//! KV blocks of a program's layers, to new positions.

use super::exec::Program;
use super::steps::Step;
use super::ProgramError;
use crate::attention::{Turn, TurnScratch};
use crate::threads::ThreadPool;

impl Program {
    /// Copies block `from[i]` of the arena to `to[i]` for tokens that stand `delta` positions
    /// further on (negative: earlier): keys are rotated as their layers rotate, values are copied.
    ///
    /// # Safety
    /// `arena` is writable memory of `num_blocks` blocks of the program's layout, 64-byte aligned;
    /// nobody writes the blocks `from` or uses the blocks `to` meanwhile.
    ///
    /// # Errors
    /// [`ProgramError::Batch`] for blocks outside of the arena, and when a block of `to` is there
    /// twice or also in `from`.
    pub unsafe fn turn(
        &self,
        pool: &ThreadPool,
        arena: *mut u8,
        num_blocks: usize,
        from: &[i32],
        to: &[i32],
        delta: i32,
    ) -> Result<(), ProgramError> {
        let pairs = pairs(from, to, num_blocks)?;
        let turns = self.turns(delta);
        let (block_bytes, num_layers) = (self.layout.block_bytes(), self.layout.num_layers());
        let arena = arena.expose_provenance();
        pool.run(&|worker| {
            let mut scratch = TurnScratch::new();
            worker.for_each(pairs.len() * num_layers, |item| {
                let (from, to) = pairs[item / num_layers];
                let layer = self.layout.layer_range(item % num_layers).start;
                let place = |block| {
                    std::ptr::with_exposed_provenance_mut(arena + block * block_bytes + layer)
                };
                // SAFETY: the blocks lie in the arena, no two items have a place in `to` in common,
                // and no block is in both lists.
                unsafe {
                    turns[item % num_layers].layer(
                        self.isa,
                        &self.layout,
                        place(from),
                        place(to),
                        &mut scratch,
                    );
                }
            });
        });
        Ok(())
    }

    /// The rotation of each layer; none for one without attention.
    fn turns(&self, delta: i32) -> Vec<Turn> {
        let by_rope: Vec<Turn> = self.ropes.iter().map(|rope| Turn::new(rope, delta)).collect();
        let mut turns = vec![Turn::none(); self.layout.num_layers()];
        for step in &self.steps {
            if let Step::Attention { op, .. } = step {
                if let (Some(rope), Some(turn)) = (op.rope, turns.get_mut(op.layer)) {
                    *turn = by_rope[rope].clone();
                }
            }
        }
        turns
    }
}

/// Checked block numbers, side by side.
fn pairs(from: &[i32], to: &[i32], num_blocks: usize) -> Result<Vec<(usize, usize)>, ProgramError> {
    if from.len() != to.len() {
        return Err(ProgramError::Batch(format!(
            "{} blocks cannot be turned into {}: each needs one",
            from.len(),
            to.len()
        )));
    }
    let mut is_target = vec![false; num_blocks];
    let number = |block: i32| {
        usize::try_from(block).ok().filter(|&block| block < num_blocks).ok_or_else(|| {
            ProgramError::Batch(format!("block {block} is none of the arena's {num_blocks}"))
        })
    };
    for &block in to {
        if std::mem::replace(&mut is_target[number(block)?], true) {
            return Err(ProgramError::Batch(format!("block {block} is the target of two")));
        }
    }
    let pair = |(&from, &to): (&i32, &i32)| {
        let (from, to) = (number(from)?, number(to)?);
        if is_target[from] {
            return Err(ProgramError::Batch(format!("block {from} is both source and target")));
        }
        Ok((from, to))
    };
    from.iter().zip(to).map(pair).collect()
}
