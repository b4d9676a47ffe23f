//! The examples of the repository, run as their readers would.

mod c;
mod container;
mod index;
mod kubernetes;
mod rust;
