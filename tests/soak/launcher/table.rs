//! The same attacks on several runtimes, as a table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cove_tests::attacks::{Outcome, RACES, links, race};
use cove_tests::{Bundle, OciRuntime};

/// Prints the table; whether the first runtime held everything.
pub fn print(programs: &[PathBuf], rounds: u64) -> bool {
    let runtimes: Vec<_> = programs.iter().map(|program| OciRuntime::of(program)).collect();
    println!("| attack | {} |", runtimes.iter().map(OciRuntime::name).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(runtimes.len()));
    // Whoever starts nothing holds everything: that is no merit.
    let starts = runtimes.iter().map(|runtime| match runtime.run(&Bundle::script("echo ran")).stdout == "ran\n" {
        true => "starts",
        false => "**does not start**",
    });
    println!("| an ordinary container | {} |", starts.collect::<Vec<_>>().join(" | "));
    let (mut held, mut broken) = (true, vec![0; runtimes.len()]);
    let mut details = Vec::new();
    let mut row = |name: &str, outcomes: &[Vec<Outcome>]| {
        let cells = outcomes.iter().enumerate().map(|(column, outcomes)| {
            let bad = outcomes.iter().filter(|outcome| **outcome != Outcome::Held).count();
            broken[column] += bad;
            held &= column > 0 || bad == 0;
            if bad == 0 { "held".to_owned() } else { format!("**broke** {bad} of {}", outcomes.len()) }
        });
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    let mut places: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for attack in links() {
        let place = attack.name.split(" (").next().expect("it has a name").to_owned();
        places.entry(place).or_default().push(attack);
    }
    for (place, attacks) in &places {
        let outcomes: Vec<Vec<_>> =
            runtimes.iter().map(|runtime| attacks.iter().map(|attack| attack.run(runtime)).collect()).collect();
        row(place, &outcomes);
        note(&mut details, place, &runtimes, &outcomes);
    }
    for one in RACES.iter().filter(|race| race.is_the_runtime_s_to_hold()) {
        let name = format!("race of {rounds}: {}", one.name);
        let outcomes: Vec<Vec<_>> = runtimes.iter().map(|runtime| vec![race(runtime, one, rounds).0]).collect();
        row(&name, &outcomes);
        note(&mut details, &name, &runtimes, &outcomes);
    }
    println!("| all | {} |", broken.iter().map(|count| format!("{count} broke")).collect::<Vec<_>>().join(" | "));
    println!("\nHow, the first of each:\n");
    for line in details {
        println!("- {line}");
    }
    held
}

fn note(details: &mut Vec<String>, name: &str, runtimes: &[OciRuntime], outcomes: &[Vec<Outcome>]) {
    for (runtime, outcomes) in runtimes.iter().zip(outcomes) {
        if let Some(outcome) = outcomes.iter().find(|outcome| **outcome != Outcome::Held) {
            let text: String = outcome.to_string().chars().take(300).collect();
            details.push(format!("{name}, {}: {text}", runtime.name()));
        }
    }
}
