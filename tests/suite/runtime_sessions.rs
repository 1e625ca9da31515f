//! Our runtime under those who call runtimes: podman as root and as an ordinary user, docker, and containerd's `ctr`. Each
//! session is held on Debian's runc too, which shows that what it expects is what users have today.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod runtime_sessions {
    mod containerd;
    mod detached;
    mod run;
    mod terminal;

    use std::path::Path;

    use cove_tests::Engine;

    /// Everything that is said to an engine with the command line that podman and docker share.
    pub fn engine(engine: &Engine) {
        run::output_and_codes(engine);
        run::what_cannot_be_run(engine);
        run::settings(engine);
        run::files(engine);
        run::rights(engine);
        terminal::run(engine);
        terminal::exec(engine);
        detached::life(engine);
        detached::exec(engine);
        detached::signals(engine);
        if engine.has_groups() {
            run::limits(engine);
            detached::pause(engine);
            detached::groups(engine);
        }
    }

    pub fn containerd(runtime: &Path) {
        containerd::session(runtime);
    }
}

use cove_tests::{Engine, runc_program, runtime_program};

#[test]
fn podman_on_ours() {
    runtime_sessions::engine(&Engine::podman(&runtime_program()));
}

#[test]
fn podman_on_runc() {
    runtime_sessions::engine(&Engine::podman(&runc_program()));
}

#[test]
fn rootless_podman_on_ours() {
    runtime_sessions::engine(&Engine::rootless(&runtime_program()));
}

#[test]
fn rootless_podman_on_runc() {
    runtime_sessions::engine(&Engine::rootless(&runc_program()));
}

#[test]
fn docker_on_ours() {
    runtime_sessions::engine(&Engine::docker(&runtime_program()));
}

#[test]
fn docker_on_runc() {
    runtime_sessions::engine(&Engine::docker(&runc_program()));
}

#[test]
fn containerd_on_ours() {
    runtime_sessions::containerd(&runtime_program());
}

#[test]
fn containerd_on_runc() {
    runtime_sessions::containerd(&runc_program());
}
