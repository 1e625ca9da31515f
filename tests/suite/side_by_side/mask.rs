//! What no two runs have in common: ids, times, names by chance.

use std::sync::LazyLock;

use regex_lite::Regex;

/// A pattern, what is written for it, and whether its width varies, and with it that of a column.
static MASKS: LazyLock<Vec<(Regex, &str, bool)>> = LazyLock::new(|| {
    [
        (r":::(?P<port>\d)", "[::]:${port}", false),
        (r"\b[0-9a-f]{64}\b", "ID", false),
        (r"\b[0-9a-f]{12}\b", "SHORT", false),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d:?\d\d( [A-Z]+)?)?", "TIME", true),
        (r"(Less than a second|About an? (minute|hour)|\b\d+ (second|minute)s?)", "WHILE", true),
        (r"(?P<address>(0\.0\.0\.0|127\.0\.0\.1|::|\[::\]):)(3[2-9]|4\d|5\d|6[0-5])\d{3}\b", "${address}PORT", true),
        (r"\b[a-z]+_[a-z]+\d?\b(?P<end>[^:=.]|$)", "NAME${end}", true),
        (r"(?P<dates>[A-Z][a-z][a-z] [ \d]\d) \d\d:\d\d", "${dates} TIME", false),
        (r"\b(?P<name>[Dd]ocker)\b", "cove", false),
        // Its own slips of the pen.
        (r"(See|SRun) '(?P<command>[a-z ]+) --help' for more", "Run '${command} --help' for more", false),
    ]
    .map(|(pattern, text, varies)| (Regex::new(pattern).unwrap(), text, varies))
    .into_iter()
    .collect()
});

static NUMBERS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b\d[\d.:]*\b").unwrap());

static GAPS: LazyLock<Regex> = LazyLock::new(|| Regex::new(" {2,}").unwrap());

/// What a client before 28 says, in the words of later ones.
static OLD_WORDS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\.?\nSee '(?P<command>[a-z ]+) --help'\.", "\n\nRun '${command} --help' for more information"),
        (r"(?m)^Error: No such (container|network|volume|image): ", "Error response from daemon: No such $1: "),
    ]
    .map(|(pattern, text)| (Regex::new(pattern).unwrap(), text))
    .into_iter()
    .collect()
});

/// The same of a list of processes: their numbers, and what they have used.
pub fn mask_numbers(text: &str) -> String {
    let shown = NUMBERS.replace_all(text, "N");
    GAPS.replace_all(&shown, "  ").into_owned()
}

/// What is said on stderr, both sides alike: letters are small, for newer daemons write some of them small.
pub fn mask_words(text: &str) -> String {
    let mut shown = mask(text);
    for (pattern, words) in OLD_WORDS.iter() {
        shown = pattern.replace_all(&shown, *words).into_owned();
    }
    let shown: Vec<&str> = shown.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    shown.join("\n").to_lowercase()
}

/// Words without what docker's client logs of its own connection, which comes or not, by chance.
pub fn without_log(words: &str) -> String {
    words.lines().filter(|line| !line.starts_with("time=\"time\" level=error")).collect::<Vec<_>>().join("\n")
}

/// Words without the last line, which says where to read more: not all clients have it, and they end the line before it
/// in their own ways.
pub fn without_advice(words: &str) -> String {
    let words = words.rsplit_once("\nrun 'cove run --help'").map_or(words, |(before, _)| before);
    words.trim_end_matches(['.', '\n']).to_owned()
}

/// The text without what differs from run to run. Where its width differs, columns are as far apart as they need be.
pub fn mask(text: &str) -> String {
    let mut shown = text.trim_end().replace('\r', "");
    let mut moved = false;
    for (pattern, name, varies) in MASKS.iter() {
        if pattern.is_match(&shown) {
            shown = pattern.replace_all(&shown, *name).into_owned();
            moved |= varies;
        }
    }
    if moved {
        shown = GAPS.replace_all(&shown, "  ").into_owned();
        shown = shown.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    }
    shown
}
