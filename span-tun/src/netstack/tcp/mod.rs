//! TCP: what surrounds smoltcp's state machine.

mod connection;
mod listener;
mod process;
mod stream;

pub(super) use connection::{Connection, Flow};
pub(super) use listener::Listener;
pub use listener::{Incoming, TcpListener};
pub use stream::{Readiness, TcpStream};
