//! Seccomp: compiles the profile of `config.json` (runtime-spec, config-linux.md, "Seccomp") to a BPF program.
