//! A span device and a boringtun tunnel, and the fuzzer as everything between them. The same game as the
//! property test of span-core, drawn from the input instead of a seed.
#![no_main]

#[path = "../../span-core/tests/common/mod.rs"]
mod common;
#[path = "../../span-core/tests/duel/mod.rs"]
mod duel;

use common::Draws;
use duel::World;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut world = World::new("this input", Draws::from_input(input));
    while !world.is_over() {
        world.step();
    }
    world.calm();
});
