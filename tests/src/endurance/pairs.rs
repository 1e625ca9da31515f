//! Every two commands on one container at the same instant.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{LIMIT, Remains, assert_sane};
use crate::{Cmd, CoveEngine, Dice, Finished};

/// What the container does when the two commands come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It runs.
    Running,
    /// It runs, and goes with its end.
    Passing,
    /// It stands still.
    Paused,
    /// It has ended.
    Ended,
}

/// A command of the table.
struct Command {
    words: &'static str,
    /// It ends with the container only.
    stays: bool,
}

const fn ends(words: &'static str) -> Command {
    Command { words, stays: false }
}

const fn stays(words: &'static str) -> Command {
    Command { words, stays: true }
}

const COMMANDS: [Command; 26] = [
    ends("start ID"),
    ends("stop -t 0 ID"),
    ends("restart -t 0 ID"),
    ends("kill ID"),
    ends("rm ID"),
    ends("rm -f ID"),
    ends("pause ID"),
    ends("unpause ID"),
    ends("exec ID true"),
    ends("logs ID"),
    stays("logs -f ID"),
    stays("attach --no-stdin ID"),
    stays("wait ID"),
    ends("rename ID NEW"),
    ends("top ID"),
    ends("stats --no-stream ID"),
    ends("inspect ID"),
    ends("cp FILE ID:/copied"),
    ends("cp ID:/bin/plain -"),
    ends("diff ID"),
    ends("commit ID"),
    ends("export -o EXPORT ID"),
    ends("update --memory 100m --memory-swap 200m ID"),
    ends("port ID"),
    ends("ps -a"),
    ends("volume prune -f"),
];

/// What a command that came too late may say: the words of docker's daemon, or of its client.
const REFUSALS: [&str; 16] = [
    "No such container",
    "No such object",
    "is not running",
    "is already paused",
    "is not paused",
    "is paused, unpause the container before",
    "cannot start a paused container, try unpause instead",
    "cannot remove container",
    "You cannot attach to a",
    "is restarting, wait until the container is running",
    "is already in use by container",
    "removal of container",
    "is paused and must be unpaused first",
    "is paused. Unpause the container before stopping or killing",
    "process does not exist",
    "cannot exec in a stopped container",
];

/// Runs pairs of commands, each pair on a container of its own: with `every`, all in both orders; else each two once, in an
/// order of the dice. `progress` is told of each command's row.
///
/// # Panics
/// If a command hangs or says what it must not, or something is left.
pub fn pairs(engine: &CoveEngine, kind: Kind, every: bool, mut dice: Dice, mut progress: impl FnMut(usize)) {
    // The first container makes the bridge, which stays.
    engine.run(["--rm", "box", "true"]).ok();
    let remains = Remains::of(engine);
    for first in 0..COMMANDS.len() {
        let mut row: Vec<(usize, usize)> = Vec::new();
        for second in if every { 0 } else { first }..COMMANDS.len() {
            row.push(if every || dice.percent(50) { (first, second) } else { (second, first) });
        }
        let next = std::sync::Mutex::new(row.into_iter());
        thread::scope(|scope| {
            for _ in 0..3 {
                let (next, remains) = (&next, &remains);
                scope.spawn(move || {
                    loop {
                        let pair = next.lock().expect("nobody panics with it").next();
                        let Some((first, second)) = pair else { break };
                        pair_of(engine, remains.parent(), kind, [&COMMANDS[first], &COMMANDS[second]]);
                    }
                });
            }
        });
        // Images that commits have made, which nobody has named.
        engine.words(["image", "prune", "-f"]).limit(LIMIT).ok();
        remains.assert_none();
        progress(first);
    }
}

/// Two commands on a new container, which is removed afterwards.
fn pair_of(engine: &CoveEngine, parent: &str, kind: Kind, pair: [&Command; 2]) {
    let removed = if kind == Kind::Passing { "--rm=true" } else { "--rm=false" };
    let run = ["-d", removed, "--cgroup-parent", parent, "-p", "127.0.0.1::80", "box", "sleep", "1000"];
    let id = engine.run(run).limit(LIMIT).ok();
    match kind {
        Kind::Running | Kind::Passing => {}
        Kind::Paused => drop(engine.words(["pause", &id]).ok()),
        Kind::Ended => drop(engine.words(["stop", "-t", "0", &id]).ok()),
    }
    let scratch = engine.cove().scratch();
    let file = scratch.join(format!("file-{}", &id[..12]));
    let export = scratch.join(format!("export-{}", &id[..12]));
    std::fs::write(&file, "copied").expect("write a file");
    let line = |command: &Command, new: &str| -> Cmd {
        let words = command.words.split(' ').map(|word| {
            word.replace("ID", &id)
                .replace("NEW", new)
                .replace("FILE", &file.display().to_string())
                .replace("EXPORT", &export.display().to_string())
        });
        engine.words([]).args(words).limit(LIMIT)
    };
    let names = ["one", "two"].map(|name| format!("{name}{}", &id[..12]));
    let lines = [line(pair[0], &names[0]), line(pair[1], &names[1])];
    let instant = Barrier::new(2);
    let finished: Vec<Finished> = thread::scope(|scope| {
        let run = |line: Cmd| {
            let instant = &instant;
            scope.spawn(move || {
                instant.wait();
                line.run()
            })
        };
        let running = lines.map(run);
        let waited = running.iter().zip(pair).filter(|(_, command)| !command.stays);
        for (one, _) in waited {
            while !one.is_finished() {
                thread::sleep(Duration::from_millis(2));
            }
        }
        // Who stays sees the end now.
        let last = engine.words(["rm", "-f", "-v", &id]).limit(LIMIT).run();
        assert!(last.succeeded() || last.stderr.contains("No such container"), "after {pair:?}: {last}");
        running.into_iter().map(|one| one.join().expect("it ends")).collect()
    });
    for one in &finished {
        assert_sane(one, &pair);
        let said = &one.stderr;
        let is_docker = one.code != Some(1) || REFUSALS.iter().any(|words| said.contains(words));
        assert!(is_docker, "beside {pair:?} on {kind:?} it says what docker does not: {one}");
    }
    let _ = std::fs::remove_file(file);
    let _ = std::fs::remove_file(export);
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words)
    }
}
