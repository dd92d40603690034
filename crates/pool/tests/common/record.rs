//! The history of a run: every operation with the moments of its call and its return.

use std::cell::{Cell, RefCell};

use artesian_linear::{check_by_key, Call, Forgetful, Operation, Register, Reply};

/// The operations of all clients, in one thread.
#[derive(Default)]
pub struct Record {
    moment: Cell<u64>,
    operations: RefCell<Vec<(u32, Operation<Call, Reply>)>>,
    value: Cell<u64>,
}

impl Record {
    fn now(&self) -> u64 {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }

    /// A value that no other operation writes.
    pub fn fresh(&self) -> u64 {
        self.value.set(self.value.get() + 1);
        self.value.get()
    }

    /// An operation begins: it stays open until [`Record::returns`].
    pub fn calls(&self, client: u32, key: u32, call: Call) -> usize {
        let called = self.now();
        let operation = Operation { client, call, reply: None, called, returned: u64::MAX };
        let mut operations = self.operations.borrow_mut();
        operations.push((key, operation));
        operations.len() - 1
    }

    /// The operation that [`Record::calls`] numbered `at` has come back.
    pub fn returns(&self, at: usize, reply: Reply) {
        let returned = self.now();
        let operation = &mut self.operations.borrow_mut()[at].1;
        (operation.reply, operation.returned) = (Some(reply), returned);
    }

    /// The operation that [`Record::calls`] numbered `at` has not happened and told nothing.
    pub fn withdraws(&self, at: usize) {
        // A read without a reply says nothing, and `check` leaves it out.
        self.operations.borrow_mut()[at].1.call = Call::Get;
    }

    /// Operations so far.
    pub fn len(&self) -> usize {
        self.operations.borrow().len()
    }

    /// Whether the keys behaved as registers; those that `forgets` names may empty themselves.
    pub fn check(&self, forgets: impl Fn(u32) -> bool) -> Result<(), String> {
        let operations = self.operations.borrow();
        let told = |operation: &Operation<Call, Reply>| {
            operation.call != Call::Get || operation.reply.is_some()
        };
        let operations = operations.iter().filter(|(_, operation)| told(operation));
        let (forgetful, others): (Vec<_>, Vec<_>) =
            operations.cloned().partition(|(key, _)| forgets(*key));
        check_by_key(&Register, others)?;
        check_by_key(&Forgetful, forgetful)
    }
}
