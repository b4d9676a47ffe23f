#!/usr/bin/env bash
# Proves that span-core and span-aead need no std: they are built against a sysroot that holds core and alloc
# and nothing else, so any `extern crate std` in them or in what they depend on is an error. Stable Rust is enough.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
case "$(rustc -vV | sed -n 's/^host: //p')" in
    "$target") ;;
    aarch64-unknown-linux-gnu) target=aarch64-unknown-linux-gnu ;;
    *) echo "no-std.sh: this proof is written for Linux on x86_64 or aarch64" >&2; exit 1 ;;
esac

build="${CARGO_TARGET_DIR:-$PWD/target}/no-std"
rm -rf "$build/sysroot"
mkdir -p "$build/sysroot/lib/rustlib/$target/lib"
libraries="$(rustc --print sysroot)/lib/rustlib/$target/lib"
for crate in core alloc compiler_builtins rustc_std_workspace_core; do
    # The .rmeta files too: an .rlib of the standard library holds only a stub of its metadata.
    for file in "$libraries/lib$crate"-*.r{lib,meta}; do
        [ ! -e "$file" ] || ln -s "$file" "$build/sysroot/lib/rustlib/$target/lib/"
    done
done

# The proof must be able to fail: the same sysroot refuses a crate that uses std.
if echo 'pub fn now() -> std::time::Instant { std::time::Instant::now() }' |
    rustc --sysroot "$build/sysroot" --target "$target" --crate-type lib --emit metadata -o "$build/std.rmeta" - 2>"$build/std.log"; then
    echo "no-std.sh: a crate that uses std was built: the sysroot is not what it should be" >&2
    exit 1
fi
grep -q "can't find crate for .std." "$build/std.log" || { cat "$build/std.log" >&2; exit 1; }

# An explicit target leaves build scripts and procedural macros on the ordinary sysroot.
flags="CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_RUSTFLAGS"
export "$flags=--sysroot $build/sysroot"
for features in "" ring; do
    cargo build --quiet -p span-core --target "$target" --target-dir "$build" --no-default-features --features "$features"
    echo "span-core with features [$features]: no std"
done
cargo build --quiet -p span-aead --target "$target" --target-dir "$build"
echo "span-aead: no std"
