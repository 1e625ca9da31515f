//! What single options may say, and what they come to together. `tests/suite/container_options` compares all of them with docker.

#![allow(clippy::unwrap_used)]

use cove_container::check::Kernel;
use cove_container::config::{Empty, IpcMode};
use cove_oci::{Healthcheck, RunConfig};

use super::values::{cpus, duration, environment, extra_host, int, mount, network, search_domain, size};
use super::{OptionError, Requested, request};
use crate::arguments::Create;

#[derive(clap::Parser)]
#[command(name = "create", disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    create: Create,
}

fn create(line: &str) -> Create {
    let words = std::iter::once("create").chain(line.split(' '));
    let parser = crate::command_line::with_switches(<Line as clap::CommandFactory>::command());
    let matches = parser.try_get_matches_from(words).unwrap();
    <Line as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().create
}

fn asked(line: &str, image: &RunConfig) -> Result<Requested, OptionError> {
    request(&create(line), false, image, &Kernel::read())
}

#[test]
fn everything_behind_the_image_is_the_commands() {
    let create = create("-it --rm -e A=1 --name x image -it --rm -e B=2 -- --name y");
    assert_eq!(create.words, ["image", "-it", "--rm", "-e", "B=2", "--", "--name", "y"]);
    assert!(create.options.interactive && create.options.tty && create.options.rm);
    assert_eq!(create.options.env, ["A=1"]);
    assert_eq!(create.name.as_deref(), Some("x"));
}

#[test]
fn numbers_are_read_as_docker_reads_them() {
    for (text, bytes) in [("512", 512), ("1k", 1024), ("1.5g", 3 << 29), ("64 MiB", 64 << 20), ("3b", 3), ("0", 0)] {
        assert_eq!(size(text).unwrap(), bytes, "{text}");
    }
    assert_eq!(size("-1").unwrap_err().to_string(), "invalid size: '-1'");
    assert_eq!(size("10zb").unwrap_err().to_string(), "invalid suffix: 'zb'");
    for (text, nano) in [("1.5", 1_500_000_000), ("1/4", 250_000_000), ("5e-1", 500_000_000), (".1", 100_000_000)] {
        assert_eq!(cpus(text).unwrap(), nano, "{text}");
    }
    assert_eq!(cpus("1/3").unwrap_err().to_string(), "value is too precise");
    for (text, nanoseconds) in [("1h2m3.5s", 3_723_500_000_000), ("0", 0), ("-1s", -1_000_000_000), ("1.5us", 1500)] {
        assert_eq!(duration(text).unwrap(), nanoseconds, "{text}");
    }
    assert_eq!(duration("5").unwrap_err().to_string(), "time: missing unit in duration \"5\"");
    assert_eq!(duration("5x").unwrap_err().to_string(), "time: unknown unit \"x\" in duration \"5x\"");
    assert_eq!(int("-0x10").unwrap(), -16);
    assert_eq!(
        int("9223372036854775808").unwrap_err().to_string(),
        "strconv.ParseInt: parsing \"9223372036854775808\": value out of range"
    );
}

#[test]
fn names_and_addresses() {
    assert_eq!(extra_host("a=[::1]").unwrap(), "a:::1");
    assert_eq!(extra_host("a:host-gateway").unwrap(), "a:host-gateway");
    assert_eq!(search_domain("example.org.").unwrap(), "example.org");
    assert!(search_domain("a_b").is_err() && search_domain("1").is_err());
    assert_eq!(environment("A=").unwrap(), "A=");
    assert_eq!(environment("COVE_TEST_NOT_SET").unwrap(), "COVE_TEST_NOT_SET");
    let asked = network("name=mine,alias=a,alias=b,ip=1.2.3.4").unwrap();
    assert_eq!(
        (asked.name.as_str(), asked.endpoint.aliases.as_slice()),
        ("mine", &["a".to_owned(), "b".to_owned()][..])
    );
    let quoted = mount("type=volume,src=vol,dst=/v,\"volume-opt=o=a,b\"").unwrap();
    assert_eq!(quoted.volume_options.unwrap().driver_config.unwrap().options["o"], "a,b");
}

#[test]
fn the_image_adds_what_nobody_said() {
    let image = RunConfig {
        env: vec!["PATH=/bin".to_owned(), "A=image".to_owned()],
        entrypoint: Some(vec!["/entry".to_owned()]),
        cmd: Some(vec!["serve".to_owned()]),
        user: "web".to_owned(),
        working_dir: "/srv".to_owned(),
        stop_signal: "SIGQUIT".to_owned(),
        exposed_ports: [("80/tcp".to_owned(), cove_oci::Empty {})].into(),
        volumes: [("/data".to_owned(), cove_oci::Empty {})].into(),
        labels: [("a".to_owned(), "image".to_owned()), ("b".to_owned(), "image".to_owned())].into(),
        healthcheck: Some(Healthcheck {
            test: Some(vec!["CMD".to_owned(), "check".to_owned()]),
            interval: Some(7_000_000),
            ..Healthcheck::default()
        }),
        ..RunConfig::default()
    };
    let plain = asked("image", &image).unwrap().config;
    assert_eq!((plain.entrypoint, plain.cmd), (vec!["/entry".to_owned()], vec!["serve".to_owned()]));
    assert_eq!(
        (plain.user.as_str(), plain.working_dir.as_str(), plain.stop_signal.as_str()),
        ("web", "/srv", "SIGQUIT")
    );
    assert_eq!(plain.volumes["/data"], Empty {});
    let own = asked("-e A=own -l a=own -u me -p 8080:80 --health-interval 9ms image run", &image).unwrap();
    assert_eq!(own.config.env, ["A=own", "PATH=/bin"]);
    assert_eq!((own.config.labels["a"].as_str(), own.config.labels["b"].as_str()), ("own", "image"));
    assert_eq!((own.config.cmd, own.config.entrypoint), (vec!["run".to_owned()], vec!["/entry".to_owned()]));
    let health = own.config.healthcheck.unwrap();
    assert_eq!((health.interval, health.test.len()), (9_000_000, 2));
    let entry = asked("--entrypoint sh image", &image).unwrap().config;
    assert_eq!((entry.entrypoint, entry.cmd), (vec!["sh".to_owned()], Vec::new()), "the image's command goes with it");
    let none = asked("--entrypoint= image true", &image).unwrap().config;
    assert_eq!((none.entrypoint, none.cmd), (Vec::new(), vec!["true".to_owned()]));
    assert!(matches!(asked("--entrypoint= image", &image), Err(OptionError::NoCommand)));
}

#[test]
fn in_the_background_nothing_is_attached() {
    let found = request(&create("-i image true"), true, &RunConfig::default(), &Kernel::read()).unwrap();
    let config = &found.config;
    assert!(config.open_stdin && !config.attach_stdin && !config.attach_stdout && !config.stdin_once);
    assert_eq!(found.host_config.ipc_mode, IpcMode::Private);
    let both = request(&create("-a stdout image true"), true, &RunConfig::default(), &Kernel::read()).unwrap_err();
    assert_eq!(both.to_string(), "conflicting options: cannot specify both --attach and --detach");
}

#[test]
fn who_says_it_decides_the_status() {
    let client = asked("-p x image true", &RunConfig::default()).unwrap_err();
    assert_eq!((client.status("create"), client.status("run")), (125, 125));
    assert_eq!(
        client.text("create"),
        "cove: invalid containerPort: x\n\nRun 'cove create --help' for more information"
    );
    let daemon = asked("-m 1m image true", &RunConfig::default()).unwrap_err();
    assert_eq!((daemon.status("create"), daemon.status("run")), (1, 125));
    assert_eq!(daemon.text("create"), "Error response from daemon: Minimum memory limit allowed is 6MB");
    assert!(daemon.text("run").ends_with("Run 'cove run --help' for more information"));
}

/// Every command that is not wired in yet, so that clap judges its structure.
#[derive(clap::Parser)]
#[command(name = "cove", disable_help_subcommand = true)]
#[allow(dead_code)] // parsed, never run
enum Commands {
    Attach(crate::arguments::Attach),
    Commit(crate::arguments::Commit),
    Cp(crate::arguments::Copy),
    Create(Box<Create>),
    Diff(crate::arguments::Diff),
    Events(crate::arguments::Events),
    Exec(crate::arguments::Exec),
    Export(crate::arguments::Export),
    Inspect(crate::arguments::InspectContainers),
    Kill(crate::arguments::Kill),
    Logs(crate::arguments::Logs),
    NetworkInspect(crate::arguments::InspectNetworks),
    NetworkLs(crate::arguments::ListNetworks),
    Pause(crate::arguments::Pause),
    Port(crate::arguments::Port),
    Prune(crate::arguments::PruneContainers),
    Ps(crate::arguments::Ps),
    Rename(crate::arguments::Rename),
    Restart(crate::arguments::Restart),
    Rm(crate::arguments::RemoveContainers),
    Run(Box<crate::arguments::Run>),
    Start(crate::arguments::Start),
    Stats(crate::arguments::Stats),
    Stop(crate::arguments::Stop),
    Top(crate::arguments::Top),
    Unpause(crate::arguments::Unpause),
    Update(crate::arguments::Update),
    VolumeCreate(crate::arguments::CreateVolume),
    VolumeInspect(crate::arguments::InspectVolumes),
    VolumeLs(crate::arguments::ListVolumes),
    VolumePrune(crate::arguments::PruneVolumes),
    VolumeRm(crate::arguments::RemoveVolumes),
    Wait(crate::arguments::Wait),
}

fn parsed(line: &str) -> Commands {
    let parser = crate::command_line::with_switches(<Commands as clap::CommandFactory>::command());
    let matches = parser.try_get_matches_from(line.split(' ')).unwrap();
    <Commands as clap::FromArgMatches>::from_arg_matches(&matches).unwrap()
}

#[test]
fn the_structures_of_all_commands_are_sound() {
    <Commands as clap::CommandFactory>::command().debug_assert();
    crate::command_line::with_switches(<Commands as clap::CommandFactory>::command()).debug_assert();
    let Commands::Run(run) = parsed("cove run -itd --rm -h box --sig-proxy=false image sh -c true") else {
        unreachable!()
    };
    assert!(run.detach && run.create.options.tty && !run.sig_proxy);
    assert_eq!(run.create.options.hostname.as_deref(), Some("box"));
    let Commands::Exec(exec) = parsed("cove exec -it -w /tmp box ls -it --help") else { unreachable!() };
    assert_eq!(exec.words, ["box", "ls", "-it", "--help"]);
    let Commands::Stop(stop) = parsed("cove stop --time -1 a b") else { unreachable!() };
    assert_eq!((stop.timeout, stop.containers.len()), (Some(-1), 2));
    let Commands::Commit(commit) = parsed("cove commit -p=false -m x box name:tag") else { unreachable!() };
    assert!(!commit.pause);
    let Commands::Top(top) = parsed("cove top box -o pid,comm") else { unreachable!() };
    assert_eq!(top.words, ["box", "-o", "pid,comm"]);
}
