//! The public validation programs of runtime-tools on our runtime and on Debian's runc: ours fails nothing that runc
//! passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use cove_tests::{
    Verdict, cache_folder, runc_program, runtime_program, runtime_version, validate, validation_programs,
};

/// What ours may fail and runc does not: the program, how the check's name begins, and why.
const EXPLAINED: &[(&str, &str, &str)] = &[];

#[test]
fn ours_fails_nothing_that_runc_passes() {
    let (programs, ours, runc) = (validation_programs(), runtime_program(), runc_program());
    assert_eq!(programs.len(), 58);
    let of_runc = validate(&runc, &programs);
    let mut of_ours = validate(&ours, &programs);
    // Some programs look at a state before the container can have reached it; a fault of ours is there again.
    for program in &programs {
        if !compared(program, &of_runc[program], &of_ours[program]).is_empty() {
            println!("{program} once more, alone");
            of_ours.extend(validate(&ours, std::slice::from_ref(program)));
        }
    }
    let table = table(&of_runc, &of_ours);
    let table = format!("{}\n{}\n\n{table}", runtime_version(&runc), runtime_version(&ours));
    println!("{table}");
    keep("runc", &of_runc);
    keep("ours", &of_ours);
    fs::write(folder().join("table"), &table).unwrap();

    let (checks, failed) = total(&of_runc);
    assert!(
        checks >= 3600 && failed <= 40,
        "runc itself: {checks} checks, {failed} not ok: the programs do not work here"
    );
    let worse: Vec<_> =
        programs.iter().flat_map(|program| compared(program, &of_runc[program], &of_ours[program])).collect();
    for (program, what) in &worse {
        println!("{program}: {what}");
    }
    for program in worse.iter().map(|(program, _)| program).collect::<std::collections::BTreeSet<_>>() {
        println!("---- {program}, on ours\n{}", of_ours[*program].printed);
    }
    assert!(worse.is_empty(), "{} findings against ours, listed above", worse.len());
}

/// Where the table and everything that was printed can be looked at afterwards.
fn folder() -> PathBuf {
    cache_folder().parent().unwrap().join("runtime-validation")
}

fn keep(name: &str, verdicts: &BTreeMap<String, Verdict>) {
    fs::create_dir_all(folder().join(name)).unwrap();
    for (program, verdict) in verdicts {
        fs::write(folder().join(name).join(program), &verdict.printed).unwrap();
    }
}

/// What is worse with ours than with runc.
fn compared<'a>(program: &'a str, runc: &Verdict, ours: &Verdict) -> Vec<(&'a str, String)> {
    let mut worse = Vec::new();
    let mut forgiven = runc.failed.clone();
    for name in &ours.failed {
        match forgiven.iter().position(|same| same == name) {
            Some(position) => drop(forgiven.swap_remove(position)),
            None if is_explained(program, name) => {}
            None => worse.push(format!("not ok: {name}")),
        }
    }
    if ours.complaints.len() > runc.complaints.len()
        && !ours.complaints.iter().all(|error| is_explained(program, error))
    {
        worse.push(format!("it complains: {:?}", ours.complaints));
    }
    if runc.complete && !ours.complete && !is_explained(program, "end") {
        worse.push("it ended early".to_owned());
    }
    if ours.timed_out && !runc.timed_out {
        worse.push("it did not end in time".to_owned());
    }
    if ours.checks < runc.checks && !is_explained(program, "checks") {
        worse.push(format!("{} checks, with runc {}", ours.checks, runc.checks));
    }
    if !ours.left.is_empty() && runc.left.is_empty() {
        worse.push(format!("left behind: {:?}", ours.left));
    }
    worse.into_iter().map(|what| (program, what)).collect()
}

fn is_explained(program: &str, name: &str) -> bool {
    EXPLAINED.iter().any(|(of, beginning, _)| *of == program && name.starts_with(beginning))
}

fn total(verdicts: &BTreeMap<String, Verdict>) -> (usize, usize) {
    verdicts.values().fold((0, 0), |(checks, failed), verdict| (checks + verdict.checks, failed + verdict.failed.len()))
}

/// A line for each program: checks and failed checks of both; `early` where it did not come to its end.
fn table(runc: &BTreeMap<String, Verdict>, ours: &BTreeMap<String, Verdict>) -> String {
    let cell = |verdict: &Verdict| {
        let mut text = format!("{:5} {:3}", verdict.checks, verdict.failed.len());
        if !verdict.complaints.is_empty() {
            text += " complains";
        }
        if !verdict.left.is_empty() {
            text += " leaves";
        }
        if verdict.timed_out {
            text += " hangs";
        } else if !verdict.complete {
            text += " early";
        }
        text
    };
    let mut text = format!("{:32} {:22} {}\n", "program", "runc: checks, not ok", "ours: checks, not ok");
    for (program, verdict) in runc {
        writeln!(text, "{program:32} {:22} {}", cell(verdict), cell(&ours[program])).unwrap();
    }
    let ((runc_checks, runc_failed), (checks, failed)) = (total(runc), total(ours));
    writeln!(text, "{:32} {runc_checks:5} {runc_failed:3} {:12} {checks:5} {failed:3}", "all", "").unwrap();
    text
}
