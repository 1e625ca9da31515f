//! All options of a container together: what contradicts, what follows from what, and the image's part.

use std::collections::BTreeMap;

use cove_container::check::{Kernel, check, check_name};
use cove_container::config::{
    Config, EndpointSettings, HealthConfig, HostConfig, IpcMode, LogConfig, NetworkMode, RestartCondition,
    RestartPolicy,
};
use cove_oci::{Platform, Reference, RunConfig};

use super::devices::{device, pairs};
use super::values::Attached;
use super::{OptionError, environment, image, network, ports, security, volumes};
use crate::arguments::{ContainerOptions, Create};

/// When the image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Each time.
    Always,
    /// When it is not here.
    Missing,
    /// Not at all.
    Never,
}

/// A container that was asked for.
#[derive(Debug)]
pub struct Requested {
    /// What it is.
    pub config: Config,
    /// How it runs here.
    pub host_config: HostConfig,
    /// Its place in each of its networks.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// What is printed on stderr, each behind `WARNING: `.
    pub warnings: Vec<String>,
}

impl Create {
    /// The image as it was named.
    pub fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// When the image is pulled.
    pub fn pull(&self) -> Result<Pull, OptionError> {
        match self.pull.as_str() {
            "always" => Ok(Pull::Always),
            "missing" | "" => Ok(Pull::Missing),
            "never" => Ok(Pull::Never),
            other => Err(OptionError::Pull(other.to_owned())),
        }
    }

    /// The platform that was asked for.
    pub fn platform(&self) -> Result<Option<Platform>, OptionError> {
        let text = self.platform.as_deref().filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(OptionError::Platform)).transpose()
    }

    /// Refuses what can be told to be wrong before anybody looks for the image: so a wrong option pulls nothing.
    pub fn check_before_image(&self, kernel: &Kernel) -> Result<(), OptionError> {
        self.pull()?;
        self.options.refuse_what_is_not_done(self)?;
        let (mut config, mut host_config) = self.options.configs(&self.words)?;
        network::endpoints(&self.options)?;
        self.platform()?;
        if let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) {
            check_name(name)?;
        }
        if let Err(error) = self.image().parse::<Reference>() {
            return Err(OptionError::Reference(error));
        }
        check(&mut config, &mut host_config, kernel)?;
        Ok(())
    }
}

/// What the options of `create` (or `run`, then `detached` says whether in the background) and the image say together.
pub fn request(create: &Create, detached: bool, image: &RunConfig, kernel: &Kernel) -> Result<Requested, OptionError> {
    create.pull()?;
    create.options.refuse_what_is_not_done(create)?;
    let (mut config, mut host_config) = create.options.configs(&create.words)?;
    let (network_mode, mut endpoints) = network::endpoints(&create.options)?;
    host_config.network_mode = network_mode;
    if detached {
        if !create.options.attach.is_empty() {
            return Err(OptionError::AttachAndDetach);
        }
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    }
    image::add(&mut config, image);
    if config.cmd.is_empty() && config.entrypoint.is_empty() {
        return Err(OptionError::NoCommand);
    }
    let mut warnings = create.options.windows_warnings();
    warnings.extend(check(&mut config, &mut host_config, kernel)?);
    if host_config.network_mode == NetworkMode::Default {
        endpoints.entry("bridge".to_owned()).or_default();
    }
    Ok(Requested { config, host_config, endpoints, warnings })
}

impl ContainerOptions {
    /// What docker knows and nothing here can do.
    fn refuse_what_is_not_done(&self, create: &Create) -> Result<(), OptionError> {
        let not_done = |option, reason| Err(OptionError::NotDone { option, reason });
        if create.use_api_socket {
            return not_done("--use-api-socket", "there is no daemon whose socket could be given to a container");
        }
        if self.volume_driver.as_deref().is_some_and(|driver| !matches!(driver, "" | "local")) {
            return not_done("--volume-driver", "the only driver of volumes is `local`, leave the option away");
        }
        Ok(())
    }

    fn windows_warnings(&self) -> Vec<String> {
        let given = [
            (self.cpu_count.is_some(), "--cpu-count"),
            (self.cpu_percent.is_some(), "--cpu-percent"),
            (self.io_maxbandwidth.is_some(), "--io-maxbandwidth"),
            (self.io_maxiops.is_some(), "--io-maxiops"),
        ];
        let names = given.into_iter().filter_map(|(given, name)| given.then_some(name));
        names.map(|name| format!("{name} has no meaning but on Windows. It is ignored.")).collect()
    }

    /// Both configurations as docker's client sends them, without the network.
    fn configs(&self, words: &[String]) -> Result<(Config, HostConfig), OptionError> {
        if let Some(address) = self.mac_address.as_ref().filter(|text| !network::is_mac_address(text)) {
            return Err(OptionError::MacAddress(address.clone()));
        }
        if let Some(swappiness) = self.memory_swappiness.filter(|value| !(-1..=100).contains(value)) {
            return Err(OptionError::Swappiness(swappiness));
        }
        let (binds, anonymous) = volumes::volumes(&self.volume)?;
        let (exposed_ports, port_bindings) = ports::ports(&self.publish, &self.expose)?;
        let devices = self.device.iter().map(|text| device(text)).collect::<Result<_, _>>()?;
        let env = environment::of_options(&self.env_file, &self.env)?;
        let labels = environment::lines(&self.label_file, &self.label, |_| None)?;
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let mode = |option, kind| move |_| OptionError::Mode(option, kind);
        let pid_mode = text(&self.pid).parse().map_err(mode("--pid", "PID"))?;
        let uts_mode = text(&self.uts).parse().map_err(mode("--uts", "UTS"))?;
        let userns_mode = text(&self.userns).parse().map_err(mode("--userns", "USER"))?;
        let cgroupns_mode = text(&self.cgroupns).parse().map_err(mode("--cgroupns", "CGROUP"))?;
        let restart_policy = restart_policy(self.restart.as_deref().unwrap_or_default())?;
        let log_config = self.log_config()?;
        let (security_opt, shows_all) = security::security(&self.security_opt)?;
        let healthcheck = self.healthcheck()?;
        if self.rm && restart_policy.name != RestartCondition::No {
            return Err(OptionError::RestartAndRemove);
        }
        let ipc_mode = match self.ipc.as_deref() {
            None | Some("") => IpcMode::Private,
            Some(text) => text.parse()?,
        };
        let attached = |stream| self.attach.contains(&stream) || self.attach.is_empty() && stream != Attached::Stdin;
        let attach_stdin = attached(Attached::Stdin) || self.interactive;
        let config = Config {
            hostname: text(&self.hostname),
            domainname: text(&self.domainname),
            user: text(&self.user),
            attach_stdin,
            attach_stdout: attached(Attached::Stdout),
            attach_stderr: attached(Attached::Stderr),
            exposed_ports,
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && attach_stdin,
            env,
            cmd: words.iter().skip(1).cloned().collect(),
            healthcheck,
            image: words.first().cloned().unwrap_or_default(),
            volumes: anonymous,
            working_dir: text(&self.workdir),
            entrypoint: self.entrypoint.iter().cloned().collect(),
            mac_address: text(&self.mac_address),
            labels: pairs(&labels),
            stop_signal: text(&self.stop_signal),
            stop_timeout: self.stop_timeout,
            ..Config::default()
        };
        let (masked_paths, readonly_paths) =
            if shows_all { (Some(Vec::new()), Some(Vec::new())) } else { (None, None) };
        let links_are_hosts = !matches!(self.network.first(), Some(network) if is_made_by_user(&network.name));
        let host_config = HostConfig {
            binds,
            container_id_file: self.cidfile.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            log_config,
            port_bindings,
            restart_policy,
            auto_remove: self.rm,
            volume_driver: text(&self.volume_driver),
            volumes_from: self.volumes_from.clone(),
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            cgroupns_mode,
            dns: self.dns.clone(),
            dns_options: self.dns_option.clone(),
            dns_search: self.dns_search.clone(),
            extra_hosts: self.add_host.clone(),
            group_add: self.group_add.clone(),
            ipc_mode,
            links: if links_are_hosts { self.link.clone() } else { Vec::new() },
            oom_score_adj: self.oom_score_adj.unwrap_or_default(),
            pid_mode,
            privileged: self.privileged,
            publish_all_ports: self.publish_all,
            readonly_rootfs: self.read_only,
            security_opt,
            storage_opt: self.storage()?,
            tmpfs: volumes::tmpfs(&self.tmpfs),
            uts_mode,
            userns_mode,
            shm_size: self.shm_size.filter(|size| *size != 0).unwrap_or(HostConfig::SHM_SIZE),
            sysctls: pairs(&self.sysctl),
            runtime: text(&self.runtime),
            isolation: text(&self.isolation),
            mounts: self.mount.clone(),
            masked_paths,
            readonly_paths,
            init: self.init,
            annotations: pairs(&self.annotation),
            ..self.limits(devices)
        };
        Ok((config, host_config))
    }

    fn limits(&self, devices: Vec<cove_container::config::DeviceMapping>) -> HostConfig {
        let mut ulimits = BTreeMap::new();
        for ulimit in &self.ulimit {
            ulimits.insert(ulimit.name.clone(), ulimit.clone());
        }
        HostConfig {
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            memory: self.memory.unwrap_or_default(),
            nano_cpus: self.cpus.unwrap_or_default(),
            cgroup_parent: self.cgroup_parent.clone().unwrap_or_default(),
            blkio_weight: self.blkio_weight.unwrap_or_default(),
            blkio_weight_device: self.blkio_weight_device.clone(),
            blkio_device_read_bps: self.device_read_bps.clone(),
            blkio_device_write_bps: self.device_write_bps.clone(),
            blkio_device_read_iops: self.device_read_iops.clone(),
            blkio_device_write_iops: self.device_write_iops.clone(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or_default(),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            devices,
            device_cgroup_rules: self.device_cgroup_rule.clone(),
            device_requests: self.gpus.clone(),
            kernel_memory: self.kernel_memory.unwrap_or_default(),
            memory_reservation: self.memory_reservation.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            memory_swappiness: self.memory_swappiness.filter(|value| *value != -1),
            oom_kill_disable: Some(self.oom_kill_disable),
            pids_limit: self.pids_limit.filter(|limit| *limit != 0),
            ulimits: ulimits.into_values().collect(),
            ..HostConfig::default()
        }
    }

    fn storage(&self) -> Result<BTreeMap<String, String>, OptionError> {
        match self.storage_opt.iter().any(|text| !text.contains('=')) {
            true => Err(OptionError::Storage),
            false => Ok(pairs(&self.storage_opt)),
        }
    }

    fn log_config(&self) -> Result<LogConfig, OptionError> {
        let kind = self.log_driver.clone().filter(|driver| !driver.is_empty());
        if let Some(driver) = kind.as_ref().filter(|driver| *driver == "none" && !self.log_opt.is_empty()) {
            return Err(OptionError::LogOptions(driver.clone()));
        }
        Ok(LogConfig { kind: kind.unwrap_or(LogConfig::default().kind), config: pairs(&self.log_opt) })
    }

    fn healthcheck(&self) -> Result<Option<HealthConfig>, OptionError> {
        let spans = [
            (self.health_interval, "--health-interval"),
            (self.health_timeout, "--health-timeout"),
            (self.health_retries, "--health-retries"),
            (self.health_start_period, "--health-start-period"),
            (self.health_start_interval, "--health-start-interval"),
        ];
        let command = self.health_cmd.clone().filter(|command| !command.is_empty());
        let given = command.is_some() || spans.iter().any(|(value, _)| value.is_some_and(|value| value != 0));
        if self.no_healthcheck {
            let none = HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() };
            return if given { Err(OptionError::Health) } else { Ok(Some(none)) };
        }
        if !given {
            return Ok(None);
        }
        if let Some((_, option)) = spans.iter().find(|(value, _)| value.is_some_and(|value| value < 0)) {
            return Err(OptionError::Negative(option));
        }
        Ok(Some(HealthConfig {
            test: command.map(|command| vec!["CMD-SHELL".to_owned(), command]).unwrap_or_default(),
            interval: self.health_interval.unwrap_or_default(),
            timeout: self.health_timeout.unwrap_or_default(),
            start_period: self.health_start_period.unwrap_or_default(),
            start_interval: self.health_start_interval.unwrap_or_default(),
            retries: self.health_retries.unwrap_or_default(),
        }))
    }
}

fn is_made_by_user(network: &str) -> bool {
    !matches!(network, "" | "default" | "bridge" | "host" | "none") && !network.starts_with("container:")
}

/// `no`, `on-failure[:COUNT]`, `always`, `unless-stopped`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, OptionError> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && text.contains(':') {
        return Err(OptionError::RestartName);
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => count.parse().map_err(|_| OptionError::RestartCount)?,
    };
    let name = match name {
        "" | "no" => RestartCondition::No,
        "on-failure" => RestartCondition::OnFailure,
        "always" => RestartCondition::Always,
        "unless-stopped" => RestartCondition::UnlessStopped,
        other => return Err(OptionError::RestartPolicy(other.to_owned())),
    };
    Ok(RestartPolicy { name, maximum_retry_count })
}
