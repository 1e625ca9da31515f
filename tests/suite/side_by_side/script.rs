//! The scripts: lists of command lines, what each may differ in, and the run of one by docker or by `cove`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_tests::{Cmd, Scratch, words};

/// Which clients of docker say something else than `cove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// All.
    All,
    /// Those before 28, whose wording is another.
    Old,
    /// Those from 28 on.
    New,
}

/// A line of a script.
///
/// `name = words…  << input  ## reason`. The name stands for the id that is printed, as `@name`, in lines below; `$` before the
/// words runs another program than docker or `cove`; `%`: lines come in any order;
/// `F/` is a folder that each side has of its own. Behind `##` stands why the
/// output differs from docker's, behind `#20` why it differs from that of a client before 28, behind `#28` from that of a newer.
#[derive(Debug, Clone)]
pub struct Line {
    pub text: String,
    pub words: Vec<String>,
    pub on_host: bool,
    pub in_any_order: bool,
    pub input: Option<String>,
    pub name: Option<String>,
    pub reason: Option<(Clients, String)>,
}

impl Line {
    fn read(text: &str) -> Self {
        let mut rest = text;
        let mut reason = None;
        for (mark, clients) in [("  ## ", Clients::All), ("  #20 ", Clients::Old), ("  #28 ", Clients::New)] {
            if let Some((before, why)) = rest.split_once(mark) {
                reason = Some((clients, why.to_owned()));
                rest = before;
            }
        }
        let input = rest.split_once("  << ").map(|(before, input)| {
            rest = before;
            format!("{input}\n")
        });
        let in_any_order = rest.starts_with("% ");
        rest = rest.strip_prefix("% ").unwrap_or(rest);
        let on_host = rest.starts_with("$ ");
        rest = rest.strip_prefix("$ ").unwrap_or(rest);
        let mut name = None;
        if let Some((before, behind)) = rest.split_once(" = ")
            && before.chars().all(char::is_alphanumeric)
        {
            name = Some(before.to_owned());
            rest = behind;
        }
        Self { text: text.to_owned(), words: words(rest), on_host, in_any_order, input, name, reason }
    }

    /// Whether a JSON document is compared by its places.
    pub fn inspects(&self) -> bool {
        self.words.iter().any(|word| word == "inspect")
            && !self.words.iter().any(|word| word.starts_with("-f") || word == "--format")
    }
}

/// The lines of all scripts, by the names of their files.
pub fn scripts() -> BTreeMap<String, Vec<Line>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite/side_by_side/scripts");
    let wanted = std::env::var("COVE_SCRIPTS").ok();
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter_map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if wanted.as_ref().is_some_and(|wanted| !wanted.split(',').any(|one| one == name)) {
                return None;
            }
            let text = fs::read_to_string(path).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with("# ") && !line.is_empty());
            Some((name, lines.map(Line::read).collect()))
        })
        .collect()
}

/// What a line came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// One that runs scripts.
pub struct Side {
    /// The program, and what it needs to find its containers.
    command: Cmd,
    files: Scratch,
    /// What is elsewhere for each side, and what is written in its place.
    places: Vec<(String, &'static str)>,
}

impl Side {
    /// One with files that options name.
    pub fn new(command: Cmd, places: &[(PathBuf, &'static str)]) -> Self {
        let files = Scratch::new("side");
        files.write("env", "A=1\n# comment\n\nB= two \n");
        files.write("relative", "relative\n");
        files.folder("folder");
        files.write("folder/file", "in the folder\n");
        let mut places: Vec<_> = places.iter().map(|(path, name)| (path.display().to_string(), *name)).collect();
        places.push((files.path().display().to_string(), "F"));
        Self { command, files, places }
    }

    /// Runs a script, and then takes away the containers that it has left.
    pub fn run(&self, lines: &[Line]) -> Vec<Outcome> {
        let mut ids = HashMap::new();
        let outcomes = lines.iter().map(|line| self.run_line(line, &mut ids)).collect();
        let left = self.command.clone().args(["ps", "-aq"]).run().stdout;
        if !left.is_empty() {
            self.command.clone().args(["rm", "-f", "-v"]).args(left.lines()).run();
        }
        outcomes
    }

    fn run_line(&self, line: &Line, ids: &mut HashMap<String, String>) -> Outcome {
        let folder = format!("{}/", self.files.path().display());
        let mut words = line.words.clone();
        for word in &mut words {
            *word = word.replace("F/", &folder);
            for (name, id) in &*ids {
                *word = word.replace(&format!("@{name}:12"), &id[..12]).replace(&format!("@{name}"), id);
            }
        }
        let command = match line.on_host {
            true => Cmd::new(&words[0]).args(&words[1..]),
            false => self.command.clone().args(&words),
        };
        let command =
            line.input.iter().fold(command, |command, input| command.input(input)).limit(Duration::from_secs(60));
        let Ok(done) = catch_unwind(AssertUnwindSafe(|| command.run())) else {
            return Outcome { code: None, stdout: "did not end".to_owned(), stderr: String::new() };
        };
        if let Some(name) = &line.name {
            let id = done.stdout.trim().to_owned();
            if id.len() == 64 {
                ids.insert(name.clone(), id);
            }
        }
        Outcome { code: done.code, stdout: self.placed(done.stdout), stderr: self.placed(done.stderr) }
    }

    fn placed(&self, text: String) -> String {
        self.places.iter().fold(text, |text, (path, name)| text.replace(path, name))
    }
}
