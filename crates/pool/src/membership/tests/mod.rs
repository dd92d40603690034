//! Threads on the heap transport. A client is "killed" by fencing it from outside: that is what the
//! transport shows of an ended process.

mod harness;
mod loss;
mod people;
mod store;
