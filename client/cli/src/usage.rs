//! What is said about a command line that cannot be read: docker's words, for scripts and fingers know them.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::help;

/// Docker's status for options that it does not know.
const WRONG_FLAG: u8 = 125;
/// Docker's status for everything else, wrong commands and numbers of arguments among it.
const WRONG_USE: u8 = 1;

/// A command line that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is printed on stderr.
    pub text: String,
    /// Exit status.
    pub status: u8,
}

/// Says in docker's words what clap found wrong.
pub fn refuse(error: &clap::Error, command: &Command, arguments: &[OsString]) -> Refused {
    let path = path(command, arguments);
    let spoken = help::spoken(command, &path);
    let found = help::find(command, &path);
    let context = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.first().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let argument = context(ContextKind::InvalidArg);
    let first = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            return unknown_command(&spoken, &context(ContextKind::InvalidSubcommand), path.is_empty());
        }
        ErrorKind::UnknownArgument if argument.starts_with("--") => format!("unknown flag: {argument}"),
        ErrorKind::UnknownArgument if argument.starts_with('-') && argument.len() > 1 => {
            format!("unknown shorthand flag: '{}' in {argument}", argument.chars().nth(1).unwrap_or('-'))
        }
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues if found.has_subcommands() => {
            return unknown_command(&spoken, &argument, path.is_empty());
        }
        ErrorKind::UnknownArgument
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::TooManyValues
        | ErrorKind::TooFewValues => {
            return Refused {
                text: format!("cove: '{spoken}' {}{}", wanted(found), advice(command, &path)),
                status: WRONG_USE,
            };
        }
        _ => {
            let value = context(ContextKind::InvalidValue);
            let flag = found.get_arguments().find(|flag| names(flag, &argument));
            match flag {
                Some(flag) if value.is_empty() && error.kind() != ErrorKind::ValueValidation => {
                    needs_argument(flag, arguments)
                }
                Some(flag) => {
                    format!("invalid argument {value:?} for {:?} flag: {}", spelled(flag), reason(error, flag))
                }
                None => error.to_string().trim_end().to_owned(),
            }
        }
    };
    Refused { text: first + &advice(command, &path), status: WRONG_FLAG }
}

fn unknown_command(spoken: &str, name: &str, at_top: bool) -> Refused {
    let usage = if at_top { String::new() } else { format!("Usage:  {spoken}\n\n") };
    let text = format!("cove: unknown command: {spoken} {name}\n\n{usage}Run '{spoken} --help' for more information");
    Refused { text, status: WRONG_USE }
}

/// How to use the command, and where to read more.
fn advice(command: &Command, path: &[String]) -> String {
    let usage = match path.is_empty() {
        true => "cove [OPTIONS] COMMAND [ARG...]".to_owned(),
        false => help::usage(command, path),
    };
    format!("\n\nUsage:  {usage}\n\nRun '{} --help' for more information", help::spoken(command, path))
}

/// How many arguments a command takes.
fn wanted(command: &Command) -> String {
    let required = command.get_positionals().filter(|argument| argument.is_required_set());
    let least = required.map(|argument| argument.get_num_args().map_or(1, |range| range.min_values().max(1))).sum();
    let several = command.get_positionals().any(|argument| matches!(argument.get_action(), ArgAction::Append));
    let most = command.get_positionals().count();
    let arguments = |number: usize| if number == 1 { "1 argument".to_owned() } else { format!("{number} arguments") };
    match (least, most) {
        _ if several => format!("requires at least {}", arguments(least)),
        (_, 0) => "accepts no arguments".to_owned(),
        (least, most) if least == most => format!("requires {}", arguments(least)),
        (0, most) => format!("requires at most {}", arguments(most)),
        (least, most) => format!("requires at least {least} and at most {}", arguments(most)),
    }
}

/// Whether clap's way of naming an option, such as `--filter <filter>`, means this one.
fn names(flag: &Arg, named: &str) -> bool {
    let first = named.split([' ', '=', '[']).next().unwrap_or_default();
    match first.strip_prefix("--") {
        Some(long) => flag.get_long() == Some(long),
        None => {
            first.strip_prefix('-').is_some_and(|short| flag.get_short().map(String::from).as_deref() == Some(short))
        }
    }
}

fn spelled(flag: &Arg) -> String {
    let long = flag.get_long().unwrap_or_default();
    match flag.get_short() {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    }
}

fn needs_argument(flag: &Arg, arguments: &[OsString]) -> String {
    let last = arguments.last().map(|last| last.to_string_lossy().into_owned()).unwrap_or_default();
    match flag.get_short() {
        Some(short) if !last.starts_with("--") => format!("flag needs an argument: '{short}' in {last}"),
        _ => format!("flag needs an argument: --{}", flag.get_long().unwrap_or_default()),
    }
}

/// Why a value was refused.
fn reason(error: &clap::Error, flag: &Arg) -> String {
    let possible: Vec<String> = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values.clone(),
        _ => Vec::new(),
    };
    if !possible.is_empty() {
        return format!("must be {}", possible.join(", "));
    }
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match flag.get_value_names() {
        // As docker's reader of numbers says it.
        Some([name]) if *name == "int" && !source.starts_with("strconv.") => {
            let value = match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) => value.as_str(),
                _ => "",
            };
            format!("strconv.ParseInt: parsing {value:?}: invalid syntax")
        }
        _ => source,
    }
}

/// The first word that is neither an option nor the value of one.
pub fn first_word<'a>(command: &Command, arguments: &'a [OsString]) -> Option<&'a str> {
    walk(command, arguments).1
}

/// The commands that the arguments name, from the top down, as far as they are known.
pub fn path(command: &Command, arguments: &[OsString]) -> Vec<String> {
    walk(command, arguments).0
}

/// The commands, and the word behind them.
fn walk<'a>(command: &Command, arguments: &'a [OsString]) -> (Vec<String>, Option<&'a str>) {
    let (mut command, mut path) = (command, Vec::new());
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix('-') {
            let takes_value = |flag: &Arg| {
                let named = match name.strip_prefix('-') {
                    Some(long) => flag.get_long() == Some(long),
                    None => flag.get_short().is_some_and(|short| name.len() == 1 && name.starts_with(short)),
                };
                named && !matches!(flag.get_action(), ArgAction::SetTrue | ArgAction::Help | ArgAction::HelpShort)
            };
            if command.get_arguments().any(takes_value) {
                words.next();
            }
            continue;
        }
        match command.find_subcommand(word) {
            Some(below) => {
                path.push(below.get_name().to_owned());
                command = below;
            }
            None => return (path, Some(word)),
        }
    }
    (path, None)
}
