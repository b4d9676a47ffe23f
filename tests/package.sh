#!/usr/bin/env bash
# Does all that `cargo publish` does to every crate that is published, but for the upload: packs them, and builds each from
# its package with the packages of the others. Then looks into the packages: nothing is missing that a registry or a
# reader expects, and nothing is in them that is not the crate's.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-$PWD/target}"
packages="$target/package"
crates=()
for manifest in */Cargo.toml; do
    # A crate is called like its directory.
    grep -q '^publish = false' "$manifest" || crates+=("${manifest%/*}")
done

rm -f "$packages"/*.crate
arguments=()
for crate in "${crates[@]}"; do arguments+=(-p "$crate"); done
cargo publish --dry-run --quiet --allow-dirty "${arguments[@]}"
# The packages themselves, which the line above does not keep.
cargo package --quiet --no-verify --allow-dirty "${arguments[@]}"

failed=0
fail() { echo "$*"; failed=1; }
for crate in "${crates[@]}"; do
    package=$(ls "$packages/$crate"-[0-9]*.crate 2>/dev/null) || { fail "$crate: was not packed"; continue; }
    files=$(tar -tzf "$package" | sed 's,^[^/]*/,,')
    for wanted in Cargo.toml LICENSE-MIT LICENSE-APACHE README.md src/lib.rs; do
        grep -qx "$wanted" <<<"$files" || fail "$crate: $wanted is not in the package"
    done
    if grep -E '^(target|tests|benches|corpus)/' <<<"$files"; then
        fail "$crate: the files above do not belong into the package"
    fi
    manifest=$(tar -xzOf "$package" --wildcards '*/Cargo.toml')
    for field in description license readme keywords categories rust-version; do
        grep -qE "^$field = " <<<"$manifest" || fail "$crate: Cargo.toml has no $field"
    done
    printf '%-16s %4d files %8d bytes\n' "$crate" "$(wc -l <<<"$files")" "$(stat -c %s "$package")"
done
exit $failed
