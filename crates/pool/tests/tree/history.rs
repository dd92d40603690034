//! The history of a run: every operation with the moments of its call and its return.

use std::cell::{Cell, RefCell};

use artesian_linear::{check_by_key, split_scans, MapCall, MapReply, Operation, Register};

/// The operations of all clients, in one thread.
#[derive(Default)]
pub struct History {
    moment: Cell<u64>,
    operations: RefCell<Vec<Operation<MapCall, MapReply>>>,
    value: Cell<u64>,
}

impl History {
    fn now(&self) -> u64 {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    /// A value that no other operation writes.
    pub fn fresh(&self) -> u64 {
        self.value.set(self.value.get() + 1);
        self.value.get()
    }

    /// An operation begins: it stays open until [`History::returns`].
    pub fn calls(&self, client: u32, call: MapCall) -> usize {
        let called = self.now();
        let operation = Operation { client, call, reply: None, called, returned: u64::MAX };
        let mut operations = self.operations.borrow_mut();
        operations.push(operation);
        operations.len() - 1
    }

    /// The operation that [`History::calls`] numbered `at` has come back.
    pub fn returns(&self, at: usize, reply: MapReply) {
        let returned = self.now();
        let operation = &mut self.operations.borrow_mut()[at];
        (operation.reply, operation.returned) = (Some(reply), returned);
    }

    /// Operations so far.
    pub fn len(&self) -> usize {
        self.operations.borrow().len()
    }

    /// Whether every key behaved as a register, also in the eyes of the scans.
    pub fn check(&self) -> Result<(), String> {
        check_by_key(&Register, split_scans(&self.operations.borrow()))
    }
}
