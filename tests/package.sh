#!/usr/bin/env bash
# Does all that `cargo publish` does to every crate that is published, but for the upload: packs them, and builds each from
# its package with the packages of the others. Then looks into the packages: nothing is missing that a registry or a
# reader expects, and nothing is in them that is not the crate's.
set -euo pipefail
cd "$(dirname "$0")/.."

# A place of its own, so that forgetting what is below costs nobody else anything.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/publish" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=false
packages="$CARGO_TARGET_DIR/package"
crates=()
for manifest in */Cargo.toml; do
    # A crate is called like its directory.
    grep -q '^publish = false' "$manifest" || crates+=("${manifest%/*}")
done

# Cargo takes what it once unpacked or built of a version of a registry for that version, and the version of ours is
# not published yet. The registries whose names begin with a dash are directories like the one that it makes here.
rm -rf "$packages" "$CARGO_TARGET_DIR"/debug/.fingerprint/span-* "${CARGO_HOME:-$HOME/.cargo}"/registry/src/-*/span-*
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
