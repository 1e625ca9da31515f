//! `cove top`: what the machine's `ps` tells of a container's processes.

use std::process::{Command, Stdio};

use cove_container::events::Event;
use cove_container::{Container, Status};

use crate::arguments::Top;
use crate::containers::ask_runtime;
use crate::context::Context;
use crate::error::Error;

/// Lists the processes of a container.
pub fn run(context: &Context, arguments: &Top) -> Result<(), Error> {
    let (name, options) = arguments.words.split_first().ok_or(Error::Options("a container is needed"))?;
    let container = super::find(context, name)?;
    match container.state()?.0.status {
        Status::Running | Status::Paused => {}
        Status::Restarting => {
            let text = format!("Container {} is restarting, wait until the container is running", container.id());
            return Err(Error::Refused(text));
        }
        _ => return Err(Error::Refused(format!("Container {} is not running", container.id()))),
    }
    let pids = pids(&container)?;
    let usual = ["-ef".to_owned()];
    let options = if options.is_empty() { &usual } else { options };
    // With the numbers only those are looked at; some options contradict them, then all are listed and sorted out.
    let list: Vec<String> = pids.iter().map(i32::to_string).collect();
    let listed = ps(options, Some(&list.join(",")))?;
    let text = match listed {
        Ok(text) => text,
        Err(_) => ps(options, None)?.map_err(|said| Error::Refused(format!("ps: {said}")))?,
    };
    let lines = processes(&text, &pids).map_err(|text| Error::Refused(text.to_owned()))?;
    context.tell(&Event::of_container(&container.record()?, "top", &[]));
    Ok(context.printer.text(&table(&lines))?)
}

/// The numbers of a container's processes, as the runtime knows them.
pub(super) fn pids(container: &Container) -> Result<Vec<i32>, Error> {
    let not_running = || Error::Refused(format!("Container {} is not running", container.id()));
    let told = match ask_runtime(container, &container.record()?, ["ps", "--format", "json"]) {
        // It may have ended in this moment.
        Err(Error::Refused(_)) if !container.state()?.0.status.is_running() => return Err(not_running()),
        told => told?.ok_or_else(not_running)?,
    };
    Ok(serde_json::from_slice(&told).map_err(std::io::Error::from)?)
}

/// What `ps` prints, or what it complains of.
fn ps(options: &[String], pids: Option<&str>) -> Result<Result<String, String>, Error> {
    let mut command = Command::new("ps");
    command.args(options).stdin(Stdio::null());
    if let Some(pids) = pids {
        command.arg(format!("-q{pids}"));
    }
    let output = command.output().map_err(|source| Error::NoRuntime { path: "ps".into(), source })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // It ends with 1 also when nothing is to be listed.
    Ok(match output.status.success() || (!output.stdout.is_empty() && output.stderr.is_empty()) {
        true => Ok(text(&output.stdout)),
        // What follows is how `ps` is used.
        false => Err(text(&output.stderr).trim().lines().next().unwrap_or_default().to_owned()),
    })
}

/// Docker's columns here are wider than elsewhere.
fn table(lines: &[Vec<String>]) -> String {
    const LEAST: usize = 20;
    const PADDING: usize = 3;
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let length =
        move |column: usize| lines.iter().filter_map(move |line| line.get(column)).map(|cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|column| LEAST.max(length(column).max().unwrap_or(0) + PADDING)).collect();
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let width = if column + 1 == line.len() { 0 } else { widths[column] };
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

/// The titles, then the lines of these processes, cut into fields. The last field has the rest of its line.
fn processes(text: &str, pids: &[i32]) -> Result<Vec<Vec<String>>, &'static str> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let at = titles.iter().position(|title| title == "PID").ok_or("Couldn't find PID field in ps output")?;
    let count = titles.len();
    let mut found = vec![titles];
    // A line without a number goes with the process above it: its thread.
    let mut is_ours = false;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let mut fields: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        match fields.get(at).map(String::as_str) {
            Some("-") => {}
            Some(number) => is_ours = number.parse().is_ok_and(|number: i32| pids.contains(&number)),
            None => is_ours = false,
        }
        if !is_ours {
            continue;
        }
        if fields.len() > count {
            let rest = fields.split_off(count - 1).join(" ");
            fields.push(rest);
        }
        found.push(fields);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::processes;

    #[test]
    fn lines_of_ps_are_cut_into_fields() {
        let text = "  PID CMD\n   12 sleep 10\n    - -\n   13 sh\n    - -\n  x y\n";
        let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let expected = vec![line(&["PID", "CMD"]), line(&["12", "sleep 10"]), line(&["-", "-"])];
        assert_eq!(processes(text, &[12]), Ok(expected));
        assert_eq!(processes("CMD\nsleep\n", &[12]), Err("Couldn't find PID field in ps output"));
    }
}
