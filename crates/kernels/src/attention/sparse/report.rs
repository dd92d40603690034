//! What sparse attention read, and what it was worth.

use std::cell::UnsafeCell;

/// Numbers of a report for each layer and query head.
pub const REPORT_FIELDS: usize = 4;

/// What a number of a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportField {
    /// Groups read for the KV head.
    GroupsRead = 0,
    /// Groups that dense attention would have read for it.
    GroupsVisible = 1,
    /// Part of the attention weight that was kept, as the stop rule saw it; NaN for selectors that
    /// do not look.
    EstimatedMass = 2,
    /// The same as the audit found it; NaN without an audit.
    TrueMass = 3,
}

/// `[entry][layer][query head][field]`; zeros for entries that attended to nothing here.
#[derive(Debug, Default)]
pub(in super::super) struct Report {
    numbers: Vec<UnsafeCell<[f32; REPORT_FIELDS]>>,
    num_layers: usize,
    num_heads: usize,
}

impl Report {
    /// Begins anew.
    pub fn start(&mut self, num_entries: usize, num_layers: usize, num_heads: usize) {
        self.numbers.clear();
        self.numbers.resize_with(num_entries * num_layers * num_heads, UnsafeCell::default);
        (self.num_layers, self.num_heads) = (num_layers, num_heads);
    }

    /// All numbers.
    pub fn numbers(&mut self) -> &[f32] {
        let (start, len) = (self.numbers.as_ptr(), self.numbers.len() * REPORT_FIELDS);
        // SAFETY: cells have the form of what is in them, and the borrow is the only one.
        unsafe { std::slice::from_raw_parts(start.cast(), len) }
    }

    /// Notes the numbers of a head, if there is room for them.
    ///
    /// # Safety
    /// No other thread notes the same head meanwhile.
    pub unsafe fn note(&self, entry: usize, layer: usize, head: usize, numbers: [f32; 4]) {
        if layer >= self.num_layers || head >= self.num_heads {
            return;
        }
        let place = (entry * self.num_layers + layer) * self.num_heads + head;
        if let Some(cell) = self.numbers.get(place) {
            // SAFETY: the caller's promise.
            unsafe { *cell.get() = numbers };
        }
    }
}
