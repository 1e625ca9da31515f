#!/usr/bin/env bash
# The benchmark of the client (see tests/bench/client/main.rs). Arguments go to it, `--help` shows them.
# Installs and builds what it needs, on Debian or Ubuntu with a Rust toolchain. Run it as root on a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tests/run --tools
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if ! command -v igzip >/dev/null || ! command -v pigz >/dev/null; then
    sudo=$( ((EUID)) && echo sudo || true)
    $sudo apt-get update -q
    $sudo apt-get install -y -q --no-install-recommends isal pigz
fi
cargo build --release -p cove -p cove-tests --bins
exec "${CARGO_TARGET_DIR:-target}/release/bench-client" "$@"
