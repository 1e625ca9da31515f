//! The shapes against what dockerd 20.10 printed.

#![allow(clippy::unwrap_used)]

use super::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    host_config: HostConfig,
    mounts: Vec<MountPoint>,
    config: Config,
    network_settings: NetworkSettings,
}

/// `docker inspect`, without what this module does not know: `docker create` of an image without a configuration.
const PLAIN: &str = include_str!("testdata/plain.json");
/// The same with most of the options.
const FULL: &str = include_str!("testdata/full.json");

#[test]
fn what_docker_prints_is_written_again_letter_by_letter() {
    for text in [PLAIN, FULL] {
        let inspected: Inspected = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&inspected).unwrap(), text.trim());
    }
}

#[test]
fn what_docker_prints_is_understood() {
    let full: Inspected = serde_json::from_str(FULL).unwrap();
    let host = full.host_config;
    assert_eq!(host.memory, 64 << 20);
    assert_eq!(host.network_mode, NetworkMode::Named("x".to_owned()));
    assert_eq!(host.restart_policy, RestartPolicy { name: RestartCondition::OnFailure, maximum_retry_count: 3 });
    assert_eq!(host.mounts[2].bind_options.as_ref().unwrap().propagation, Some(Propagation::Rslave));
    assert_eq!(host.port_bindings["80/tcp"].as_ref().unwrap()[0].host_port, "8080");
    assert_eq!(full.mounts[0].propagation, Some(Propagation::Rslave));
    assert_eq!(full.config.healthcheck.unwrap().interval, 5_000_000_000);
}

#[test]
fn what_is_missing_or_null_has_its_default() {
    assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
    assert_eq!(serde_json::from_str::<HostConfig>("{}").unwrap(), HostConfig::default());
    assert_eq!(serde_json::from_str::<NetworkSettings>("{}").unwrap(), NetworkSettings::default());
    let nulls =
        json!({"Env": null, "Cmd": null, "Entrypoint": null, "Volumes": null, "Labels": null, "ExposedPorts": null});
    assert_eq!(serde_json::from_value::<Config>(nulls).unwrap(), Config::default());
    let nulls =
        json!({"Binds": null, "PortBindings": null, "Dns": null, "Tmpfs": null, "Mounts": null, "Ulimits": null});
    assert_eq!(serde_json::from_value::<HostConfig>(nulls).unwrap(), HostConfig::default());
    let exposed: NetworkSettings = serde_json::from_value(json!({"Ports": {"80/tcp": null}})).unwrap();
    assert_eq!(exposed.ports["80/tcp"], None);
}

#[test]
fn modes_are_words() {
    for text in ["default", "none", "host", "container:x", "bridge", "mine"] {
        assert_eq!(text.parse::<NetworkMode>().unwrap().to_string(), text);
    }
    for text in ["", "none", "private", "shareable", "host", "container:x"] {
        assert_eq!(text.parse::<IpcMode>().unwrap().to_string(), text);
    }
    for text in ["", "host", "container:x"] {
        assert_eq!(text.parse::<PidMode>().unwrap().to_string(), text);
    }
    for text in ["", "host", "private"] {
        assert_eq!(text.parse::<CgroupnsMode>().unwrap().to_string(), text);
    }
    assert_eq!("container:".parse::<PidMode>().unwrap_err().to_string(), "invalid PID mode: container:");
    assert_eq!("mine".parse::<UtsMode>().unwrap_err().to_string(), "invalid UTS mode: mine");
    assert_eq!("default".parse::<NetworkMode>().unwrap().network(), Some("bridge"));
    assert_eq!("host".parse::<NetworkMode>().unwrap().network(), None);
}
