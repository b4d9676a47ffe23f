//! Batches: many datagrams per system call, in buffers that live as long as the packet loop.

mod recv;
mod send;

pub use recv::{Received, RecvBatch};
pub use send::{FlushOutcome, SendBatch};
