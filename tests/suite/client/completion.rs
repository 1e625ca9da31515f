//! Completion in shells that run: what the tabulator makes of a line.

use std::path::Path;

use cove_tests::clients::Cove;
use cove_tests::{Image, Terminal};

/// A shell, and what is typed before anything is completed.
struct Shell {
    line: &'static [&'static str],
    prepare: &'static str,
}

const BASH: Shell = Shell { line: &["bash", "--norc", "--noprofile", "-i"], prepare: "source <(cove completion bash)" };
const BASH_WITH_PACKAGE: Shell = Shell {
    line: &["bash", "--norc", "--noprofile", "-i"],
    prepare: "source /usr/share/bash-completion/bash_completion; source <(cove completion bash)",
};
const ZSH: Shell = Shell {
    line: &["zsh", "-f", "-i"],
    prepare: "bindkey -e; autoload -U compinit; compinit -u -D; source <(cove completion zsh)",
};
const FISH: Shell = Shell { line: &["fish", "--no-config", "-i"], prepare: "cove completion fish | source" };

/// A store with some images, and a shell that knows the program as `cove`.
struct World {
    cove: Cove,
}

impl World {
    fn new() -> Self {
        let cove = Cove::new();
        cove.load(&Image::new(1, 1000), "debian:stable");
        for name in ["alpine:3.22", "alpine:3.23", "127.0.0.1:5000/team/app:1.0"] {
            cove.words(["tag", "debian:stable", name]).ok();
        }
        Self { cove }
    }

    fn start(&self, shell: &Shell) -> Terminal {
        let programs = Cove::program();
        let programs = programs.parent().map(Path::to_owned).unwrap_or_default();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let command = self.cove.run_as(shell.line[0], &shell.line[1..]).env("PATH", path);
        let mut terminal = Terminal::run(&command, 200);
        terminal.wait_until_quiet();
        terminal.press(shell.prepare);
        terminal.press("\r");
        terminal.wait_until_quiet();
        terminal
    }
}

/// The words of the line after these keys were pressed. The line is not run: it becomes what `printf` is given.
fn words(terminal: &mut Terminal, keys: &str) -> Vec<String> {
    let before = terminal.shown().len();
    let (typed, tabs) = keys.split_at(keys.find('\t').unwrap());
    terminal.press(typed);
    terminal.wait_until_quiet();
    for _ in tabs.chars() {
        terminal.press("\t");
        terminal.wait_until_quiet();
    }
    terminal.press("\x01printf '<<%s>>' end: \x05 ;echo\r");
    terminal.wait_until(&format!("{keys:?} is completed"), |shown| {
        shown[before..].contains("<<end:>>") && shown[before..].matches("<<").count() > 2
    });
    terminal.wait_until_quiet();
    let shown = terminal.shown()[before..].to_owned();
    let (_, printed) = shown.split_once("<<end:>>").unwrap();
    printed.split("<<").skip(1).map(|word| word.split(">>").next().unwrap().to_owned()).collect()
}

fn completes(shell: &Shell) {
    let world = World::new();
    let mut terminal = world.start(shell);
    let expect = [
        ("cove rmi deb\t", "cove rmi debian:stable"),
        ("cove rmi debian:s\t", "cove rmi debian:stable"),
        ("cove image inspect 127.0.0.1:50\t", "cove image inspect 127.0.0.1:5000/team/app:1.0"),
        ("cove tag 'a b' deb\t", "cove tag a b debian:stable"),
        ("cove hist\t", "cove history"),
        ("cove image prun\t", "cove image prune"),
        ("cove images --no-t\t", "cove images --no-trunc"),
        ("cove push --progress js\t", "cove push --progress json"),
        // As far as all agree.
        ("cove rmi alp\t", "cove rmi alpine:3.2"),
    ];
    for (keys, line) in expect {
        assert_eq!(words(&mut terminal, keys).join(" ").trim_end(), line, "{:?} {keys:?}", shell.line);
    }
}

#[test]
fn in_bash() {
    completes(&BASH);
}

#[test]
fn in_bash_with_its_package() {
    completes(&BASH_WITH_PACKAGE);
}

#[test]
fn in_zsh() {
    completes(&ZSH);
}

#[test]
fn in_fish() {
    completes(&FISH);
}
