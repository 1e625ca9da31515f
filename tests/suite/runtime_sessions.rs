//! Our runtime under those who call runtimes: podman as root and as an ordinary user, docker, and containerd's `ctr`. Each
//! session is held on Debian's runc too, which shows that what it expects is what users have today.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod runtime_sessions {
    mod containerd;
    mod detached;
    mod run;
    mod terminal;

    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use cove_tests::Engine;

    type Step = (&'static str, fn(&Engine));

    const STEPS: &[Step] = &[
        ("output and codes", run::output_and_codes),
        ("what cannot be run", run::what_cannot_be_run),
        ("settings", run::settings),
        ("files", run::files),
        ("rights", run::rights),
        ("a terminal for run", terminal::run),
        ("a terminal for exec", terminal::exec),
        ("life", detached::life),
        ("exec", detached::exec),
        ("signals", detached::signals),
    ];

    const STEPS_WITH_GROUPS: &[Step] =
        &[("limits", run::limits), ("pause", detached::pause), ("changed limits", detached::groups)];

    /// Everything that is said to an engine with the command line that podman and docker share. One step that fails does
    /// not hide what the next ones would find.
    pub fn engine(engine: &Engine) {
        let with_groups = STEPS_WITH_GROUPS.iter().filter(|_| engine.has_groups());
        let mut failed = Vec::new();
        for (name, step) in STEPS.iter().chain(with_groups) {
            if catch_unwind(AssertUnwindSafe(|| step(engine))).is_err() {
                failed.push(*name);
                engine.remove_all();
            }
        }
        assert!(failed.is_empty(), "failed, with reasons above: {failed:?}");
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
