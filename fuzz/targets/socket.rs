//! A `set` request on the configuration socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use span_node::uapi::parse_set;

fuzz_target!(|body: &[u8]| {
    let set = parse_set(body);
    let lines = body.split(|&byte| byte == b'\n').count();
    assert!(set.operations.len() <= lines, "at most one operation a line");
    if let Some(failure) = set.failure {
        assert!(failure.line >= 2 && failure.line < lines + 2);
        assert_ne!(failure.errno().number(), 0);
        // What stood before the failing line says the same without what follows it.
        let before: Vec<&[u8]> = body.split_inclusive(|&byte| byte == b'\n').take(failure.line - 2).collect();
        let first = parse_set(&before.concat());
        assert_eq!(first.operations, set.operations);
        assert_eq!(first.failure, None);
    }
});
