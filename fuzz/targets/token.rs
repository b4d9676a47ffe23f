//! A token: what is taken is a token that says the same when it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use span_node::token::Token;

fuzz_target!(|text: &str| {
    match text.parse::<Token>() {
        Ok(token) => {
            let again: Token = token.encode().parse().expect("a token that was just written");
            assert_eq!(*again.encode(), *token.encode());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
