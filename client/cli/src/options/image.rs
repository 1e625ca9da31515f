//! What a container takes from its image where nobody said otherwise.

use cove_container::config::{Config, Empty, HealthConfig};
use cove_oci::{Healthcheck, RunConfig};

/// Adds to a container's configuration what the image says.
pub fn add(config: &mut Config, image: &RunConfig) {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = config.env.iter().map(|variable| name(variable)).collect();
    config.env.extend(image.env.iter().filter(|variable| !given.contains(&name(variable))).cloned());
    for (label, value) in &image.labels {
        config.labels.entry(label.clone()).or_insert_with(|| value.clone());
    }
    config.exposed_ports.extend(image.exposed_ports.keys().map(|port| (with_protocol(port), Empty {})));
    config.volumes.extend(image.volumes.keys().map(|path| (path.clone(), Empty {})));
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    // Another entry point has other arguments: the image's command goes with the image's.
    if config.entrypoint.is_empty() {
        if config.cmd.is_empty() {
            config.cmd = image.cmd.clone().unwrap_or_default();
            config.args_escaped = image.args_escaped;
        }
        config.entrypoint = image.entrypoint.clone().unwrap_or_default();
    }
    // `--entrypoint ""`: none, whatever the image says.
    if config.entrypoint == [""] {
        config.entrypoint.clear();
    }
    if let Some(check) = &image.healthcheck {
        add_health(config.healthcheck.get_or_insert_default(), check);
    }
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

fn add_health(own: &mut HealthConfig, image: &Healthcheck) {
    if own.test.is_empty() {
        own.test = image.test.clone().unwrap_or_default();
    }
    let add = |own: &mut i64, image: Option<i64>| {
        if *own == 0 {
            *own = image.unwrap_or_default();
        }
    };
    add(&mut own.interval, image.interval);
    add(&mut own.timeout, image.timeout);
    add(&mut own.start_period, image.start_period);
    add(&mut own.start_interval, image.start_interval);
    add(&mut own.retries, image.retries);
}
