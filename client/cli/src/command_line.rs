//! Reads the command line with docker's rules: switches take `=false`, the last of several wins, values may begin
//! with a dash.

use std::ffi::OsString;

use clap::builder::{OsStr, Resettable, ValueParser};
use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches};

use crate::arguments::{Cove, Create, Exec, Global, Logs, Ps, RemoveContainers, Run, Start, Stop, Wait};
use crate::filter::go_bool;
use crate::help;
use crate::usage::{self, Refused};

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// Run a command.
    Run(Box<Cove>),
    /// Print this help.
    Help(String),
}

/// Reads the command line, the program's name first.
pub fn read(arguments: &[OsString], width: usize) -> Result<Asked, Refused> {
    if let Some(cove) = read_at_once(arguments) {
        return Ok(Asked::Run(Box::new(cove)));
    }
    let mut command = command();
    command.build();
    let mut parser = with_switches(Cove::command());
    // What stands behind the name of an image or a container belongs to the program that is run.
    let runs =
        usage::path(&command, arguments).last().is_some_and(|name| matches!(name.as_str(), "run" | "create" | "exec"));
    let arguments = &if runs { arguments.to_vec() } else { without_empty_platform(arguments) };
    if let Some(path) = help_command(&command, arguments)? {
        return Ok(Asked::Help(help::render(&command, &path, width)));
    }
    match parser.try_get_matches_from_mut(arguments) {
        Ok(matches) => match group_without_command(&matches, &command) {
            Some(path) => Ok(Asked::Help(help::render(&command, &path, width))),
            None => {
                let read = Cove::from_arg_matches(&matches);
                read.map(|cove| Asked::Run(Box::new(cove))).map_err(|error| usage::refuse(&error, &command, arguments))
            }
        },
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => {
            Ok(Asked::Help(help::render(&command, &usage::path(&command, arguments), width)))
        }
        Err(error) => Err(usage::refuse(&error, &command, arguments)),
    }
}

/// Gives a command its options.
type Augment = fn(Command) -> Command;

/// The commands that scripts call in loops. Making all commands takes several milliseconds, one of them a fraction.
const FREQUENT: [(&str, Augment); 9] = [
    ("run", Run::augment_args),
    ("exec", Exec::augment_args),
    ("create", Create::augment_args),
    ("start", Start::augment_args),
    ("stop", Stop::augment_args),
    ("rm", RemoveContainers::augment_args),
    ("ps", Ps::augment_args),
    ("logs", Logs::augment_args),
    ("wait", Wait::augment_args),
];

/// Reads a command line that begins with a frequent command and has no mistake; everything else is for [`read`], whose
/// answer is the same.
fn read_at_once(arguments: &[OsString]) -> Option<Cove> {
    let name = arguments.get(1)?.to_str()?;
    let (name, augment) = FREQUENT.iter().find(|(frequent, _)| *frequent == name)?;
    let top = Global::augment_args(Command::new("cove").disable_help_subcommand(true).disable_version_flag(true));
    let mut parser = with_switches(top.subcommand(augment(Command::new(*name))));
    let matches = parser.try_get_matches_from_mut(arguments).ok()?;
    Cove::from_arg_matches(&matches).ok()
}

/// `cove help [COMMAND…]`, where it is the first word behind the global options.
fn help_command(command: &Command, arguments: &[OsString]) -> Result<Option<Vec<String>>, Refused> {
    if !usage::path(command, arguments).is_empty() || usage::first_word(command, arguments) != Some("help") {
        return Ok(None);
    }
    let words = arguments.iter().skip_while(|word| *word != "help").skip(1).filter_map(|word| word.to_str());
    let words: Vec<&str> = words.filter(|word| !word.starts_with('-')).collect();
    let path = usage::path(
        command,
        &[&["cove"], words.as_slice()].concat().into_iter().map(OsString::from).collect::<Vec<_>>(),
    );
    match path.len() == words.len() {
        true => Ok(Some(path)),
        false => Err(Refused { text: format!("unknown help topic: {}", words.join(" ")), status: 1 }),
    }
}

/// `--platform ""` is none, for docker too.
fn without_empty_platform(arguments: &[OsString]) -> Vec<OsString> {
    let mut kept: Vec<OsString> = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            kept.push(argument.clone());
            kept.extend(rest.cloned());
            break;
        }
        if argument == "--platform" && rest.next_if(|value| value.is_empty()).is_some() || argument == "--platform=" {
            continue;
        }
        kept.push(argument.clone());
    }
    kept
}

/// All commands and their options, as help and completion show them.
pub fn command() -> Command {
    Cove::command()
}

/// The path of a group that was called without one of its commands: its help is the answer.
fn group_without_command(matches: &clap::ArgMatches, command: &Command) -> Option<Vec<String>> {
    let (mut matches, mut command, mut path) = (matches, command, Vec::new());
    while let Some((name, below)) = matches.subcommand() {
        command = command.find_subcommand(name)?;
        path.push(name.to_owned());
        matches = below;
    }
    let at_top = path.is_empty();
    if at_top && matches.get_flag("version") {
        return None;
    }
    command.has_subcommands().then_some(path)
}

/// Turns every switch into an option whose value may be left out, and lets values begin with a dash.
pub fn with_switches(command: Command) -> Command {
    let command = command.args_override_self(true).mut_args(|arg| {
        if arg.is_positional() || matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
            return arg;
        }
        // A variable that is set to nothing is not set.
        let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let arg = if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::<OsStr>::Reset) } else { arg };
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg.allow_hyphen_values(true);
        }
        let default = arg.get_default_values().first().cloned().unwrap_or_else(|| "false".into());
        arg.action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value(default)
            .value_parser(ValueParser::new(boolean))
    });
    command.mut_subcommands(with_switches)
}

fn boolean(text: &str) -> Result<bool, String> {
    go_bool(text).ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::arguments::Command as Named;

    fn parse(line: &str) -> Result<Cove, Refused> {
        let words: Vec<OsString> = std::iter::once("cove").chain(line.split_whitespace()).map(Into::into).collect();
        match read(&words, 80)? {
            Asked::Run(cove) => Ok(*cove),
            Asked::Help(text) => panic!("{line} asked for help: {text}"),
        }
    }

    fn refused(line: &str) -> (String, u8) {
        let refused = parse(line).unwrap_err();
        (refused.text, refused.status)
    }

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        let Some(Named::Pull(pull)) = parse("pull -qa=false --platform=linux/arm64 x").unwrap().command else {
            panic!()
        };
        assert!(pull.quiet && !pull.all_tags);
        assert_eq!(pull.platform.unwrap().to_string(), "linux/arm64");
        let Some(Named::Images(images)) =
            parse("images -aq --no-trunc=true x --format a --format b -fdangling=1").unwrap().command
        else {
            panic!()
        };
        assert!(images.all && images.quiet && images.no_trunc && !images.digests);
        assert_eq!((images.format.as_deref(), images.repository.as_deref()), (Some("b"), Some("x")));
        assert_eq!(images.filter.len(), 1);
        let Some(Named::History(history)) = parse("history -H=false x").unwrap().command else { panic!() };
        assert!(!history.human);
        let Some(Named::History(history)) = parse("history x").unwrap().command else { panic!() };
        assert!(history.human);
        let Some(Named::Import(import)) = parse("import -m=-x - a:b").unwrap().command else { panic!() };
        assert_eq!((import.message.as_deref(), import.file.to_str()), (Some("-x"), Some("-")));
    }

    /// Frequent commands are read by another way, which must not be another language.
    #[test]
    fn a_frequent_command_is_read_as_any_other() {
        for line in [
            "run --rm -it -p 80:80 -e A=b --name x image sh -c true",
            "run --network=none --init=false -d image",
            "exec -it -e A=b -w / x sh -l",
            "create --restart always image",
            "start -a -i x",
            "stop -t 3 -s INT x y",
            "rm -f -v x",
            "ps -a --filter name=x --format json",
            "logs -f --tail 3 -t x",
            "wait x y",
        ] {
            let words: Vec<OsString> = std::iter::once("cove").chain(line.split_whitespace()).map(Into::into).collect();
            let at_once = read_at_once(&words).unwrap();
            let parsed =
                Cove::from_arg_matches(&with_switches(Cove::command()).try_get_matches_from_mut(&words).unwrap());
            assert_eq!(format!("{at_once:?}"), format!("{:?}", parsed.unwrap()), "{line}");
        }
        for line in ["run --help", "run", "exec -z x true", "ps -a=maybe", "--debug ps", "image ls"] {
            let words: Vec<OsString> = std::iter::once("cove").chain(line.split_whitespace()).map(Into::into).collect();
            assert!(read_at_once(&words).is_none(), "{line}");
        }
        assert_eq!(
            FREQUENT.len(),
            FREQUENT.iter().filter(|(name, _)| Cove::command().find_subcommand(name).is_some()).count()
        );
    }

    /// The right sides are docker 28.2.2's, with `cove` in `docker`'s place.
    #[test]
    fn mistakes_are_answered_as_docker_answers_them() {
        let pull = "\n\nUsage:  cove pull [OPTIONS] NAME[:TAG|@DIGEST]\n\nRun 'cove pull --help' for more information";
        let images =
            "\n\nUsage:  cove images [OPTIONS] [REPOSITORY[:TAG]]\n\nRun 'cove images --help' for more information";
        let top = "\n\nUsage:  cove [OPTIONS] COMMAND [ARG...]\n\nRun 'cove --help' for more information";
        for (line, first, rest, status) in [
            ("pull --badflag", "unknown flag: --badflag", pull, 125),
            ("pull -z", "unknown shorthand flag: 'z' in -z", pull, 125),
            ("pull -qz x", "unknown shorthand flag: 'z' in -z", pull, 125),
            ("pull --platform", "flag needs an argument: --platform", pull, 125),
            ("images -f", "flag needs an argument: 'f' in -f", images, 125),
            ("--badglobal", "unknown flag: --badglobal", top, 125),
            ("pull", "cove: 'cove pull' requires 1 argument", pull, 1),
            ("pull a b", "cove: 'cove pull' requires 1 argument", pull, 1),
            ("images a b", "cove: 'cove images' requires at most 1 argument", images, 1),
            (
                "pull -a=maybe x",
                "invalid argument \"maybe\" for \"-a, --all-tags\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
                pull,
                125,
            ),
            (
                "images -f foo",
                "invalid argument \"foo\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
                images,
                125,
            ),
        ] {
            assert_eq!(refused(line), (format!("{first}{rest}"), status), "{line}");
        }
        assert!(refused("rmi").0.starts_with(
            "cove: 'cove rmi' requires at least 1 argument\n\nUsage:  cove rmi [OPTIONS] IMAGE [IMAGE...]"
        ));
        assert!(refused("version x").0.starts_with("cove: 'cove version' accepts no arguments"));
        assert!(refused("tag a").0.starts_with(
            "cove: 'cove tag' requires 2 arguments\n\nUsage:  cove tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"
        ));
        assert_eq!(
            refused("nosuch"),
            ("cove: unknown command: cove nosuch\n\nRun 'cove --help' for more information".into(), 1)
        );
        assert_eq!(
            refused("image nosuch"),
            (
                "cove: unknown command: cove image nosuch\n\nUsage:  cove image\n\nRun 'cove image --help' for more information".into(),
                1
            )
        );
        assert!(refused("image ls --nosuch").0.contains("Run 'cove image ls --help'"));
    }

    #[test]
    fn the_structures_are_sound() {
        command().debug_assert();
        with_switches(Cove::command()).debug_assert();
    }
}
