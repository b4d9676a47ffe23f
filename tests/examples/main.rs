//! The examples of the repository, run as their readers would.

mod rust;
