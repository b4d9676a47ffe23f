//! Span against the real kernel and real peers, in network namespaces.

mod bad_input;
mod behaviour;
mod ciphers;
mod configuration;
mod discovery;
mod interop;
mod mesh;
mod pair;
mod rekey;
mod threads;
