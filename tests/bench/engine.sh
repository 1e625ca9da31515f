#!/usr/bin/env bash
# The benchmark of the engine (see tests/bench/engine/main.rs). Arguments go to it; a wrong one shows them.
# Installs and builds what it needs, on Debian or Ubuntu with a Rust toolchain. Run it as root on a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tests/run --tools
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
COVE_RUNTIME=$(runtime/build)
export COVE_RUNTIME
cargo build --release -p cove
cargo build --release -p cove-tests --bin bench-engine
exec "${CARGO_TARGET_DIR:-target}/release/bench-engine" "$@"
