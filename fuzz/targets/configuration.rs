//! A configuration file: whatever it says, it is read, or refused with words that name the place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use span_node::config::parse;

fuzz_target!(|text: &str| {
    if let Err(error) = parse(text) {
        // The message quotes the file; it must be able to quote anything.
        assert!(!error.to_string().is_empty());
    }
});
