//! A span device and a boringtun tunnel, under thousands of random operations: see [`duel`].

mod common;
mod duel;

use common::Draws;
use duel::{Tally, World};

fn run(seed: u64, steps: usize) -> Tally {
    let mut world = World::new(&format!("seed {seed}"), Draws::new(seed));
    for step in 0..steps {
        world.step();
        if step % 400 == 399 {
            world.calm();
        }
    }
    world.tally
}

#[test]
fn ten_thousand_random_operations() {
    let tally = run(1, 10_000);
    // The operations must have been worth something.
    assert!(tally.must > 3_000 && tally.handshakes > 40 && tally.moved > 20, "{tally:?}");
    assert!(tally.refused > 200 && tally.cookies > 10, "{tally:?}");
    println!("{tally:?}");
}

#[test]
fn other_seeds() {
    for seed in 2..=7 {
        let tally = run(seed, 2_000);
        assert!(tally.must > 400, "seed {seed}: {tally:?}");
    }
}

/// The shortest form of the above, either side beginning.
#[test]
fn either_side_begins() {
    for boring_begins in [false, true] {
        let mut world = World::new("seed 99", Draws::new(99));
        if boring_begins {
            world.send_from_boring();
        } else {
            world.send_from_span();
        }
        world.settle();
        world.send_from_span();
        world.send_from_boring();
        world.settle();
        assert!(world.sent_to_span.is_empty() && world.sent_to_boring.is_empty());
    }
}
