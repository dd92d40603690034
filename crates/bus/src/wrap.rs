//! Connections around other ones: what they do not change goes to the inner one.

/// In an `impl Verbs`: calls of the named kinds go to the field `$inner`.
///
/// `memory` is all that looks at nodes and clients but `batch`; `time` is the clock and waiting;
/// `map` is pointers into memory.
#[macro_export]
macro_rules! pass_on {
    ($inner:ident: $($kind:ident),+) => { $($crate::pass_on!(@$kind $inner);)+ };
    (@memory $inner:ident) => {
        fn mailbox(&self, addr: $crate::GlobalAddr) -> u64 {
            self.$inner.mailbox(addr)
        }

        fn identity(&self) -> $crate::Identity {
            self.$inner.identity()
        }

        fn is_alive(&self, client: $crate::Identity) -> bool {
            self.$inner.is_alive(client)
        }

        fn fence(&self, client: $crate::Identity) -> $crate::Fate {
            self.$inner.fence(client)
        }

        fn nodes(&self) -> Vec<($crate::NodeId, u64)> {
            self.$inner.nodes()
        }

        fn tally(&self) -> $crate::Tally {
            self.$inner.tally()
        }
    };
    (@time $inner:ident) => {
        fn wait_mailbox(&self, addr: $crate::GlobalAddr, seen: u64, timeout_ns: u64) {
            self.$inner.wait_mailbox(addr, seen, timeout_ns);
        }

        fn wake_mailbox(&self, addr: $crate::GlobalAddr) {
            self.$inner.wake_mailbox(addr);
        }

        fn now_ns(&self) -> u64 {
            self.$inner.now_ns()
        }

        fn relax(&self, ns: u64) {
            self.$inner.relax(ns);
        }
    };
    (@map $inner:ident) => {
        fn map(&self, addr: $crate::GlobalAddr, len: usize) -> Option<*const u8> {
            self.$inner.map(addr, len)
        }

        fn anchor(&self) -> Option<::std::sync::Arc<dyn ::std::any::Any + Send + Sync>> {
            self.$inner.anchor()
        }
    };
}
