#!/usr/bin/env bash
# Runs fuzz targets: each replays its committed corpus, then goes on from there for some seconds.
#
#   fuzz/run.sh [SECONDS [TARGET...]]      five seconds each, all targets
#   SEED=2 fuzz/run.sh ...                 elsewhere than last time; 0 goes where nobody has been
#
# Builds as cargo-fuzz does, with coverage and AddressSanitizer, but needs neither cargo-fuzz nor a nightly
# compiler. What a target finds is kept in fuzz/artifacts/, as cargo-fuzz keeps it.
set -euo pipefail
cd "$(dirname "$0")"

seconds="${1:-5}"
shift || true
mapfile -t targets < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else ls corpus; fi)

host="$(rustc -vV | sed -n 's/^host: //p')"
build="${CARGO_TARGET_DIR:-$PWD/../target}/fuzz"
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# An explicit target leaves build scripts and procedural macros without the flags.
cargo build --quiet --release --bins --target "$host" --target-dir "$build"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
for target in "${targets[@]}"; do
    mkdir -p "$scratch/$target" "artifacts/$target"
    echo "fuzzing $target"
    # The first directory takes what is new: the committed corpus is only read.
    if ! "$build/$host/release/$target" -seed="${SEED:-1}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "$scratch/$target" "corpus/$target" >"$scratch/$target.log" 2>&1; then
        tail -n 60 "$scratch/$target.log"
        echo "$target failed; what it failed on is in fuzz/artifacts/$target/"
        exit 1
    fi
    grep -E '^stat::number_of_executed_units|^stat::new_units_added' "$scratch/$target.log" || true
done
