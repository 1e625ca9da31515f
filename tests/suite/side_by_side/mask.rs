//! What no two runs have in common: ids, times, names by chance.

use std::sync::LazyLock;

use regex::Regex;

/// A pattern, what is written for it, and whether its width varies, and with it that of a column.
static MASKS: LazyLock<Vec<(Regex, &str, bool)>> = LazyLock::new(|| {
    [
        (r"\b[0-9a-f]{64}\b", "ID", false),
        (r"\b[0-9a-f]{12}\b", "SHORT", false),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d:?\d\d( [A-Z]+)?)?", "TIME", true),
        (r"(Less than a second|About an? (minute|hour)|\b\d+ (second|minute)s?)", "WHILE", true),
        (r"(?P<address>(0\.0\.0\.0|127\.0\.0\.1|::|\[::\]):)(3[2-9]|4\d|5\d|6[0-5])\d{3}\b", "${address}PORT", true),
        (r"\b[a-z]+_[a-z]+\d?\b(?P<end>[^:=.]|$)", "NAME${end}", true),
        (r"\b(?P<name>[Dd]ocker)\b", "cove", false),
    ]
    .map(|(pattern, text, varies)| (Regex::new(pattern).unwrap(), text, varies))
    .into_iter()
    .collect()
});

static GAPS: LazyLock<Regex> = LazyLock::new(|| Regex::new(" {2,}").unwrap());

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
