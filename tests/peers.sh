#!/usr/bin/env bash
# Builds what the tests talk to besides Span itself, into target/interop/bin:
#   wireguard-go       the current module of golang.zx2c4.com/wireguard
#   discovery-service  Sidero's discovery service, the one Talos talks to
#   affiliate          a member driven by the discovery client Talos links
#   netstack           TCP over wireguard-go and its network stack in the process
#   post               stores any bytes with a discovery service
#   kubernetes         decodes manifests into the types of Kubernetes' API
#   boringtun-cli      Cloudflare's WireGuard in Rust
# Versions are pinned in tests/go/go.mod and below. What is already built is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

boringtun=0.7.1
bin="${CARGO_TARGET_DIR:-$PWD/target}/interop/bin"
mkdir -p "$bin"

# Rebuilt only when its pins or sources change: Go's own cache would do, but takes seconds to say so.
stamp="$bin/.go-$(find tests/go examples/go/interface/go.* -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ]; then
    if ! command -v go >/dev/null; then
        echo "peers.sh: Go 1.26 or newer is missing: install it from https://go.dev/dl/ and put go on the PATH" >&2
        exit 1
    fi
    export CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath"
    (
        cd tests/go
        go build -o "$bin/wireguard-go" golang.zx2c4.com/wireguard
        go build -o "$bin/discovery-service" github.com/siderolabs/discovery-service/cmd/discovery-service
        go build -o "$bin/" ./affiliate ./netstack ./post
        cd kubernetes
        go build -o "$bin/" .
        # Built by the tests, which have no network.
        cd ../../../examples/go/interface
        go mod download
    )
    rm -f "$bin"/.go-*
    touch "$stamp"
fi

if [ "$("$bin/boringtun-cli" --version 2>/dev/null)" != "boringtun $boringtun" ]; then
    build="$(mktemp -d)"
    trap 'rm -rf "$build"' EXIT
    cargo install --quiet --locked --force --root "$(dirname "$bin")" --target-dir "$build" boringtun-cli --version "$boringtun"
fi
