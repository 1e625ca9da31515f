#!/usr/bin/env bash
# The benchmark of the launcher (see tests/bench/launcher/main.rs). Arguments go to it; a wrong one shows them.
# Installs and builds what it needs, on Debian or Ubuntu with a Rust toolchain. Run it as root on a quiet machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

YOUKI=0.7.0

tests/run --tools
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
if ! [[ -x $target/bench/youki/bin/youki ]]; then
    if ! [[ -e /usr/include/seccomp.h ]]; then
        sudo=$( ((EUID)) && echo sudo || true)
        $sudo apt-get update -q
        $sudo apt-get install -y -q --no-install-recommends libseccomp-dev
    fi
    cargo install youki --version "$YOUKI" --locked --no-default-features --features v1,v2,seccomp \
        --root "$target/bench/youki" --target-dir "$target/bench/youki-build"
fi
COVE_RUNTIME=$(runtime/build)
export COVE_RUNTIME
cargo build --release -p cove-tests --bin bench-launcher
# Static, as runtimes are at best; only this program, not what the crate depends on.
cargo rustc --release -p cove-tests --bin bench-launcher-limit -- -C target-feature=+crt-static
exec "$target/release/bench-launcher" "$@"
