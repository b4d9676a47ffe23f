//! Tokens: what a node needs to join a cluster.

use std::ffi::c_char;

use span_node::clock;
use span_node::span_discovery::url::ServiceUrl;
use span_node::token::Token;
use zeroize::Zeroizing;

use super::text;
use crate::boundary::call;
use crate::pointer;
use crate::status::Status;

/// Makes the token of a new cluster, whose members find each other at these discovery services: URLs with spaces in
/// between, NULL for none. Writes it, with a NUL, if `room` characters are enough, and an empty text otherwise; `length`
/// says how long it is, without the NUL. Any thread.
///
/// Whoever has the token can join. SPAN_STATUS_INVALID if a service is not a URL, or there are more than 16.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_token_generate(
    services: *const c_char,
    token: *mut c_char,
    room: usize,
    length: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (services, room, place) = unsafe {
            let services = if services.is_null() { "" } else { pointer::text(services)? };
            (services, text::room(token, room)?, pointer::place(length)?)
        };
        let services = services.split_whitespace().map(str::parse::<ServiceUrl>);
        let services = services.collect::<Result<Vec<_>, _>>().map_err(|_| Status::Invalid)?;
        let random = Zeroizing::new(clock::entropy().map_err(|_| Status::Entropy)?);
        let token = Token::generate(&random, services).map_err(|_| Status::Invalid)?.encode();
        text::write_whole(room, &token);
        place.write(token.len());
        Ok(())
    })
}
