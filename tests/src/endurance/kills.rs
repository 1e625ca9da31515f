//! Random commands, and kills of random processes of theirs at random moments.

use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{LIMIT, Remains, assert_sane};
use crate::{CoveEngine, Dice, Finished};

/// So many kills at most before everything is taken away and counted.
const ROUND: u32 = 30;

/// How many containers the commands work on.
const CONTAINERS: u64 = 3;

/// Kills so many processes of an engine while commands run; after every few everything is put right and counted.
/// `progress` is told how many kills there were.
///
/// # Panics
/// If something is left, a command hangs, or says what it must not.
pub fn kills(engine: &CoveEngine, mut dice: Dice, count: u32, mut progress: impl FnMut(u32)) {
    // The first container makes the bridge, which stays.
    engine.run(["--rm", "box", "true"]).ok();
    let remains = Remains::of(engine);
    let mut killed = 0;
    while killed < count {
        let until = count.min(killed + ROUND);
        while killed < until {
            killed += u32::from(kill_one(engine, &remains, &mut dice));
        }
        put_right(engine);
        remains.assert_none();
        progress(killed);
    }
}

/// One command, or two at once, and one kill if there is a process at that moment.
fn kill_one(engine: &CoveEngine, remains: &Remains<'_>, dice: &mut Dice) -> bool {
    let commands: Vec<Vec<String>> = (0..1 + dice.within(0..2)).map(|_| command(remains.parent(), dice)).collect();
    let delay = Duration::from_micros(dice.within(0..[20_000, 80_000, 300_000][dice.clone().within(0..3) as usize]));
    let mut killed = false;
    thread::scope(|scope| {
        let running: Vec<_> =
            commands.iter().map(|words| scope.spawn(move || engine.words([]).args(words).limit(LIMIT).run())).collect();
        thread::sleep(delay);
        let processes = remains.processes();
        if let Some(victim) = dice.pick(&processes).and_then(|number| Pid::from_raw(*number)) {
            killed = kill_process(victim, Signal::KILL).is_ok();
        }
        let finished: Vec<Finished> = running.into_iter().map(|one| one.join().expect("it ends")).collect();
        finished.iter().for_each(|one| assert_sane(one, &commands));
    });
    killed
}

/// A random command on a random container.
fn command(parent: &str, dice: &mut Dice) -> Vec<String> {
    let name = format!("victim{}", dice.within(0..CONTAINERS));
    let lines = [
        "run -d --name NAME --cgroup-parent PARENT box sleep 1000",
        "run -d --name NAME --cgroup-parent PARENT -p 127.0.0.1::80 -v /anonymous box sleep 1000",
        "run -d --rm --name NAME --cgroup-parent PARENT --network none -v /anonymous box sleep 1000",
        "run --rm --cgroup-parent PARENT box sh -c 'sleep 0.05; seq 1000'",
        "run -d --name NAME --cgroup-parent PARENT --restart on-failure:2 box sh -c 'sleep 0.1; exit 3'",
        "create --name NAME --cgroup-parent PARENT box sleep 1000",
        "start NAME",
        "start NAME",
        "stop -t 0 NAME",
        "restart -t 0 NAME",
        "kill NAME",
        "rm -f -v NAME",
        "rm -v NAME",
        "pause NAME",
        "unpause NAME",
        "exec NAME sh -c 'sleep 0.05; echo done'",
        "logs NAME",
        "ps -a",
        "inspect NAME",
        "rename NAME victim0",
        "diff NAME",
        "commit NAME victim:1",
        "cp NAME:/bin/plain -",
        "update --memory 100m --memory-swap 200m NAME",
        "top NAME",
        "rmi victim:1",
    ];
    let line = dice.pick(&lines).expect("there are some").replace("NAME", &name).replace("PARENT", parent);
    words(&line)
}

/// Words of a line, with what is between quotes in one.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(place, part)| match place % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// What a user does next: looks, removes everything, makes another container, prunes.
fn put_right(engine: &CoveEngine) {
    let all = engine.words(["ps", "-aq", "--no-trunc"]).limit(LIMIT).ok();
    for id in all.lines() {
        let removed = engine.words(["rm", "-f", "-v", id]).limit(LIMIT).run();
        // One that goes with its end may be gone before.
        assert!(removed.succeeded() || removed.stderr.contains("No such container"), "{removed}");
    }
    assert_eq!(engine.words(["ps", "-aq"]).ok(), "");
    let _ = engine.words(["rmi", "victim:1"]).run();
    engine.run(["--rm", "box", "true"]).limit(LIMIT).ok();
    // Of containers that went with their end, of commands that were killed before there was one, and of commits.
    engine.words(["volume", "prune", "-f"]).limit(LIMIT).ok();
    engine.words(["system", "prune", "-f"]).limit(LIMIT).ok();
}
