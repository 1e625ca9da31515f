//! Settings: where they come from, what is refused, and the table that tells of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cove_tests::{Cmd, Scratch, Server};

/// The program with `--print-config`.
fn print_config() -> Cmd {
    Cmd::new(Server::program()).arg("--print-config")
}

/// The settings that it prints, by their names.
fn printed(command: &Cmd) -> BTreeMap<String, String> {
    let text = command.run().ok_exactly();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| line.split_once(" = ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    lines.map(|line| pair(line).unwrap_or_else(|| panic!("not a setting: {line}"))).collect()
}

/// A row of the table in `deploy/README.md`.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    flag: Option<String>,
    variable: String,
    key: Option<String>,
    default: Option<String>,
}

fn table() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/README.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("`COVE_"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [flag, variable, key, default, meaning] = cells[..] else { panic!("five cells: {line}") };
        assert!(meaning.len() > 10, "a meaning: {line}");
        let code = |cell: &str| cell.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        Row {
            flag: code(flag).map(|flag| flag.split(' ').next().unwrap_or_default().to_owned()),
            variable: code(variable).unwrap_or_else(|| panic!("a variable: {line}")),
            key: code(key),
            default: code(default),
        }
    })
    .collect()
}

/// The flags of `--help` with their variables.
fn flags() -> BTreeMap<String, String> {
    let help = Cmd::new(Server::program()).arg("--help").ok();
    let mut flags = BTreeMap::new();
    let mut flag = None;
    for line in help.lines().map(str::trim_start) {
        if line.starts_with("--") {
            flag = line.split([' ', '[', '=']).next();
        }
        if let Some((_, rest)) = line.split_once("[env: ") {
            let variable = rest.trim_end_matches(['=', ']']);
            let flag = flag.unwrap_or_else(|| panic!("a variable without a flag: {line}"));
            flags.insert(flag.to_owned(), variable.to_owned());
        }
    }
    flags
}

#[test]
fn the_table_tells_every_setting_as_it_is() {
    let table = table();
    let written: BTreeMap<_, _> =
        table.iter().filter_map(|row| Some((row.flag.clone()?, row.variable.clone()))).collect();
    assert_eq!(written, flags(), "flags and variables, in deploy/README.md and in --help");

    let text = print_config().run().ok_exactly();
    let name = |line: &str| line.trim_start_matches("# ").split(' ').next().unwrap_or_default().to_owned();
    let mut keys: Vec<_> = text.lines().map(name).collect();
    let mut written: Vec<_> = table.iter().filter_map(|row| row.key.clone()).collect();
    keys.sort();
    written.sort();
    assert_eq!(written, keys, "keys, in deploy/README.md and in --print-config");

    let defaults = printed(&print_config());
    for row in &table {
        let Some(key) = &row.key else { continue };
        let default = defaults.get(key).map(|value| value.trim_matches('"').to_owned());
        assert_eq!(row.default, default, "the default of {key}, in deploy/README.md and in --print-config");
        // One name in three forms.
        assert_eq!(row.variable, format!("COVE_{}", key.to_uppercase().replace('-', "_")));
        assert!(row.flag.as_ref().is_none_or(|flag| *flag == format!("--{key}")), "{row:?}");
    }
    assert!(table.len() < 30, "fewer than 30 settings: {}", table.len());
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let folder = Scratch::new("settings");
    // Name; in the file, in the variable, as a flag; and each as it is shown.
    for (name, values, shown) in [
        ("gc-grace", ["\"1h\"", "2h", "3h"], ["\"1h\"", "\"2h\"", "\"3h\""]),
        (
            "listen",
            ["\"127.0.0.1:1\"", "127.0.0.1:2", "127.0.0.1:3"],
            ["\"127.0.0.1:1\"", "\"127.0.0.1:2\"", "\"127.0.0.1:3\""],
        ),
        ("data", ["\"/a\"", "/b", "/c"], ["\"/a\"", "\"/b\"", "\"/c\""]),
        ("default-visibility", ["\"public\"", "private", "public"], ["\"public\"", "\"private\"", "\"public\""]),
        (
            "trusted-proxy",
            ["[\"10.0.0.1\"]", "10.0.0.2", "10.0.0.3"],
            ["[\"10.0.0.1/32\"]", "[\"10.0.0.2/32\"]", "[\"10.0.0.3/32\"]"],
        ),
        ("sparse-images", ["true", "false", "true"], ["true", "false", "true"]),
        ("sparse-images", ["false", "1", "false"], ["false", "true", "false"]),
        ("log", ["\"warn\"", "error", "debug"], ["\"warn\"", "\"error\"", "\"debug\""]),
    ] {
        let variable = format!("COVE_{}", name.to_uppercase().replace('-', "_"));
        let file = folder.write("cove.toml", format!("{name} = {}\n", values[0]));
        let command = print_config().arg("--config").arg(&file);
        assert_eq!(printed(&command)[name], shown[0], "{name} from the file");
        let by_variable = print_config().env("COVE_CONFIG", &file);
        assert_eq!(printed(&by_variable)[name], shown[0], "{name} from the file that COVE_CONFIG names");
        let command = command.env(variable, values[1]);
        assert_eq!(printed(&command)[name], shown[1], "{name} from the variable");
        let command = command.arg(format!("--{name}={}", values[2]));
        assert_eq!(printed(&command)[name], shown[2], "{name} from the flag");
    }
    let bare = print_config().arg("--sparse-images");
    assert_eq!(printed(&bare)["sparse-images"], "true", "a switch needs no value");
}

#[test]
fn what_is_printed_can_be_read_back() {
    let folder = Scratch::new("settings");
    let command = print_config().args(["--gc-grace=90m", "--trusted-proxy=10.0.0.0/8,::1", "--sparse-images"]).args([
        "--public-url=https://a.example.com",
        "--log-format=json",
        "--listen=[::1]:5000",
    ]);
    let first = command.run().ok_exactly();
    let file = folder.write("cove.toml", &first);
    assert_eq!(print_config().arg("--config").arg(file).run().ok_exactly(), first);
}

#[test]
fn secrets_are_hidden() {
    let marker = "Pa55-that-nobody-may-see";
    let command = ["COVE_S3_ACCESS_KEY", "COVE_S3_SECRET_KEY", "COVE_ADMIN_PASSWORD"]
        .into_iter()
        .fold(print_config(), |command, name| command.env(name, marker))
        .env("COVE_DATABASE", format!("postgres://cove:{marker}@db.example.com/cove"));
    let finished = command.run();
    assert!(!finished.printed().contains(marker), "{finished}");
    let shown = printed(&command);
    for name in ["s3-access-key", "s3-secret-key", "admin-password"] {
        assert_eq!(shown[name], "\"(hidden)\"");
    }
    assert!(shown["database"].contains("cove:hidden@db.example.com"), "{}", shown["database"]);
    // Nor does the help show what the environment holds.
    let help = Cmd::new(Server::program()).arg("--help").env("COVE_S3_SECRET_KEY", marker);
    let help = help.env("COVE_DATABASE", format!("postgres://cove:{marker}@db/cove")).run();
    assert!(!help.printed().contains(marker), "{help}");
}

#[test]
fn what_is_wrong_is_refused_with_its_name() {
    let folder = Scratch::new("settings");
    let in_file = |content: &str| {
        let file = folder.write("wrong.toml", content);
        let printed = print_config().arg("--config").arg(&file).fails();
        assert!(printed.contains("wrong.toml"), "the file is named: {printed}");
        printed
    };
    for (content, words) in [
        ("listten = \"127.0.0.1:1\"\n", &["unknown field `listten`", "line 1"][..]),
        ("gc-grace = \"soon\"\n", &["gc-grace", "line 1"]),
        ("gc-grace = 5\n", &["gc-grace", "expected a string"]),
        ("sparse-images = \"yes\"\n", &["sparse-images", "expected a boolean"]),
        ("trusted-proxy = [\"10.0.0/8\"]\n", &["an address or a network"]),
        ("default-visibility = \"secret\"\n", &["`secret`", "`private`", "`public`"]),
        ("[server]\nlisten = \"127.0.0.1:1\"\n", &["unknown field `server`"]),
        ("listen = \n", &["line 1"]),
    ] {
        let printed = in_file(content);
        assert!(words.iter().all(|word| printed.contains(word)), "{content:?}: {words:?} in {printed}");
    }
    let refused = |arguments: &[&str], variable: Option<(&str, &str)>, words: &[&str]| {
        let command = Cmd::new(Server::program()).args(arguments);
        let command = variable.into_iter().fold(command, |command, (name, value)| command.env(name, value));
        let command = command.env("COVE_DATA", folder.join("data"));
        let printed = command.fails();
        assert!(words.iter().all(|word| printed.contains(word)), "{command}: {words:?} in {printed}");
        assert!(!printed.contains("panicked"), "{printed}");
    };
    refused(&["--listten", "x"], None, &["--listten"]);
    refused(&["--listen", "here"], None, &["--listen", "here"]);
    refused(&["--gc-grace", "soon"], None, &["--gc-grace", "soon"]);
    refused(&["--trusted-proxy", "10.0.0/99"], None, &["10.0.0/99", "such as 10.0.0.0/8"]);
    refused(&[], Some(("COVE_IDLE_TIMEOUT", "soon")), &["--idle-timeout", "soon"]);
    refused(&[], Some(("COVE_NO_AUTH", "perhaps")), &["--no-auth", "perhaps"]);
    refused(&["--tls-key", "key.pem"], None, &["--tls-certificate", "--tls-key"]);
    refused(&["--tls-key", "k", "--tls-certificate", "/nowhere/c"], None, &["/nowhere/c"]);
    refused(&["--no-auth", "--listen", "0.0.0.0:0"], None, &["--no-auth", "loopback"]);
    refused(&["--public-url", "https://a.example.com/registry"], None, &["--public-url", "no path"]);
    refused(&["--config", "/nowhere/cove.toml"], None, &["/nowhere/cove.toml"]);
    refused(&["--database", "mysql://a/b"], None, &["`mysql`", "postgres://"]);
    refused(&["--blobs", "ftp://a/b"], None, &["ftp://a/b", "s3://"]);
}

/// Every command's help, from the program's own list of commands.
fn walk(path: &mut Vec<String>, seen: &mut usize) {
    let help = Cmd::new(Server::program()).args(&*path).arg("-h").ok();
    let whose = path.join(" ");
    let first = help.lines().next().unwrap_or_default();
    assert!(first.starts_with(char::is_uppercase) && !first.ends_with('.'), "{whose}: {first:?}");
    *seen += 1;
    let mut section = "";
    let mut commands = Vec::new();
    let lines: Vec<&str> = help.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if !line.starts_with(' ') {
            section = line;
            continue;
        }
        let entry = line.trim_start();
        let is_entry = match section {
            "Commands:" | "Arguments:" => line.starts_with("  ") && !line.starts_with("   "),
            _ => entry.starts_with("--") || entry.starts_with("-h") || entry.starts_with("-V"),
        };
        if !section.ends_with(':') || !is_entry {
            continue;
        }
        // What it means stands behind it, or on the next line where it is long.
        let next = lines.get(number + 1).map(|next| next.trim_start()).unwrap_or_default();
        let meaning = entry.split_once("  ").map_or(next, |(_, meaning)| meaning.trim_start());
        assert!(meaning.len() > 2 && !meaning.starts_with('['), "{whose}: what does it mean: {line:?}");
        if section == "Commands:" {
            commands.push(entry.split(' ').next().unwrap_or_default().to_owned());
        }
    }
    for command in commands.into_iter().filter(|command| command != "help") {
        path.push(command);
        walk(path, seen);
        path.pop();
    }
}

#[test]
fn every_command_explains_itself() {
    let mut seen = 0;
    walk(&mut Vec::new(), &mut seen);
    assert!(seen > 15, "the commands were found: {seen}");
    let printed = Cmd::new(Server::program()).args(["user", "ad"]).fails();
    assert!(printed.contains("add") && printed.contains("--help"), "a slip is answered with advice: {printed}");
}
