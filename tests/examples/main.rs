//! The examples of the repository, run as their readers would.

mod container;
mod index;
mod kubernetes;
mod rust;
