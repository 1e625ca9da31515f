//! Help in docker's layout: usage, what it is, aliases, options with the type of their value, commands in groups.

use clap::{Arg, ArgAction, Command};

/// Width where there is no terminal.
pub const PLAIN_WIDTH: usize = 80;
/// What people use most, in docker's order.
const COMMON: [&str; 11] =
    ["run", "exec", "ps", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// The help of the command at a path.
pub fn render(top: &Command, path: &[String], width: usize) -> String {
    let command = find(top, path);
    let mut out = format!("Usage:  {}\n", usage(top, path));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let about = about.to_string();
        let lines: Vec<String> =
            about.lines().filter(|line| !line.is_empty()).map(|line| wrapped(line, 0, width)).collect();
        out.push_str(&format!("\n{}\n", lines.join("\n")));
    }
    let aliases = aliases(path);
    if !aliases.is_empty() {
        out.push_str(&format!("\nAliases:\n  {}\n", aliases.join(", ")));
    }
    let commands = |title: &str, names: &mut dyn Iterator<Item = &Command>| {
        let lines: String = names.map(|command| format!("  {:<11} {}\n", command.get_name(), about(command))).collect();
        if lines.is_empty() { lines } else { format!("\n{title}:\n{lines}") }
    };
    let below = || command.get_subcommands().filter(|command| !command.is_hide_set());
    if path.is_empty() {
        let is_common = |command: &&Command| COMMON.contains(&command.get_name());
        let is_group = |command: &&Command| command.has_subcommands() && command.get_name() != "completion";
        out.push_str(&commands("Common Commands", &mut COMMON.iter().filter_map(|name| command.find_subcommand(name))));
        let mut groups: Vec<&Command> = below().filter(is_group).collect();
        groups.sort_by_key(|command| command.get_name());
        out.push_str(&commands("Management Commands", &mut groups.into_iter()));
        let mut others: Vec<&Command> = below().filter(|c| !is_common(c) && !is_group(c)).collect();
        others.sort_by_key(|command| command.get_name());
        out.push_str(&commands("Commands", &mut others.into_iter()));
        out.push_str(&options("Global Options", command, width));
    } else {
        out.push_str(&options("Options", command, width));
        out.push_str(&commands("Commands", &mut below()));
    }
    if command.has_subcommands() {
        out.push_str(&format!("\nRun '{} COMMAND --help' for more information on a command.\n", spoken(top, path)));
    }
    out
}

/// The command at a path; the deepest that there is.
pub fn find<'a>(top: &'a Command, path: &[String]) -> &'a Command {
    path.iter().fold(top, |command, name| command.find_subcommand(name).unwrap_or(command))
}

/// The words that call the command at a path.
pub fn spoken(top: &Command, path: &[String]) -> String {
    std::iter::once(top.get_name()).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

/// How to call the command at a path.
pub fn usage(top: &Command, path: &[String]) -> String {
    let command = find(top, path);
    let mut usage = spoken(top, path);
    if shown(command).next().is_some() {
        usage.push_str(" [OPTIONS]");
    }
    if command.has_subcommands() {
        usage.push_str(" COMMAND");
    }
    for argument in command.get_positionals() {
        let name = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let name = name.unwrap_or_default();
        usage.push(' ');
        // A command and its arguments: the name says it all.
        if argument.is_trailing_var_arg_set() {
            usage.push_str(&name);
            continue;
        }
        usage.push_str(&match (argument.is_required_set(), matches!(argument.get_action(), ArgAction::Append)) {
            (true, false) => name,
            (true, true) => format!("{name} [{name}...]"),
            (false, false) => format!("[{name}]"),
            (false, true) => format!("[{name}...]"),
        });
    }
    usage
}

/// The spellings of a command that has several.
fn aliases(path: &[String]) -> Vec<String> {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let spellings: &[&str] = match words.as_slice() {
        ["images"] | ["image", "ls"] => &["cove image ls", "cove image list", "cove images"],
        ["rmi"] | ["image", "rm"] => &["cove image rm", "cove image remove", "cove rmi"],
        ["info"] | ["system", "info"] => &["cove system info", "cove info"],
        ["volume", "ls"] => &["cove volume ls", "cove volume list"],
        ["volume", "rm"] => &["cove volume rm", "cove volume remove"],
        ["image", "unmount"] => &["cove image unmount", "cove image umount"],
        [name @ ("history" | "import" | "load" | "pull" | "push" | "save" | "tag")]
        | ["image", name @ ("history" | "import" | "load" | "pull" | "push" | "save" | "tag")] => {
            return vec![format!("cove image {name}"), format!("cove {name}")];
        }
        _ => &[],
    };
    spellings.iter().map(ToString::to_string).collect()
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_opts()
        .chain(command.get_arguments().filter(|arg| !arg.is_positional() && is_switch(arg)))
        .filter(|arg| !arg.is_hide_set() && arg.get_id() != "help")
}

/// Whether an option needs no value.
fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue) || arg.get_num_args().is_some_and(|number| number.min_values() == 0)
}

fn options(title: &str, command: &Command, width: usize) -> String {
    let mut options: Vec<&Arg> = shown(command).collect();
    options.sort_by_key(|arg| arg.get_long());
    options.dedup_by_key(|arg| arg.get_id());
    let spell = |arg: &Arg| {
        let short = arg.get_short().map_or("    ".to_owned(), |short| format!("-{short}, "));
        let value = match (is_switch(arg), arg.get_value_names()) {
            (false, Some([name, ..])) => format!(" {name}"),
            _ => String::new(),
        };
        format!("  {short}--{}{value}", arg.get_long().unwrap_or_default())
    };
    let column = options.iter().map(|arg| spell(arg).len() + 3).max().unwrap_or(0);
    let mut out = if options.is_empty() { String::new() } else { format!("\n{title}:\n") };
    for arg in options {
        let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
        out.push_str(&format!("{:<column$}{}\n", spell(arg), wrapped(&text, column, width)));
    }
    out
}

/// Breaks a text between words, each line after the first indented by `indent`.
fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent + 1).max(20);
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}
