//! Names for containers that nobody names: an adjective and a scientist.

use std::io::Read;

const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "ample", "ardent", "awake", "bold", "brave", "bright", "brisk", "calm", "candid", "cheerful",
    "clear", "clever", "cosy", "curious", "daring", "deft", "eager", "earnest", "fair", "faithful", "fearless", "fond",
    "frank", "gentle", "glad", "golden", "grand", "happy", "hardy", "hopeful", "humble", "jolly", "keen", "kind",
    "lively", "lucid", "lucky", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "playful", "polite",
    "proud", "quick", "quiet", "ready", "serene", "sharp", "silent", "sincere", "steady", "sunny", "swift", "tender",
    "tidy", "vivid", "warm", "wise",
];

const SCIENTISTS: [&str; 96] = [
    "agnesi",
    "alhazen",
    "almeida",
    "archimedes",
    "babbage",
    "banach",
    "bell",
    "bernoulli",
    "bohr",
    "boltzmann",
    "boole",
    "born",
    "bose",
    "brahe",
    "cannon",
    "cantor",
    "carson",
    "cauchy",
    "chandrasekhar",
    "chern",
    "church",
    "copernicus",
    "curie",
    "darwin",
    "dijkstra",
    "dirac",
    "einstein",
    "elion",
    "emmy",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "godel",
    "goodall",
    "hamilton",
    "hawking",
    "heisenberg",
    "hermite",
    "hertz",
    "hilbert",
    "hodgkin",
    "hopper",
    "hubble",
    "huygens",
    "hypatia",
    "jacobi",
    "joule",
    "kepler",
    "khayyam",
    "kolmogorov",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "lavoisier",
    "leavitt",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mcclintock",
    "meitner",
    "mendel",
    "mirzakhani",
    "napier",
    "nash",
    "newton",
    "nightingale",
    "noether",
    "pascal",
    "pasteur",
    "pauli",
    "planck",
    "poincare",
    "ptolemy",
    "ramanujan",
    "ride",
    "riemann",
    "rubin",
    "sagan",
    "shannon",
    "somerville",
    "tesla",
    "turing",
    "wu",
    "yalow",
];

/// A name for which `is_free` says yes. Before long a digit follows, as docker does, so there always is one.
pub(crate) fn free(is_free: impl Fn(&str) -> bool) -> String {
    let mut number = 0usize;
    loop {
        let random = random();
        let (adjective, scientist) = (random % ADJECTIVES.len(), random / ADJECTIVES.len() % SCIENTISTS.len());
        let mut name = format!("{}_{}", ADJECTIVES[adjective], SCIENTISTS[scientist]);
        if number > 4 {
            name.push_str(&(number - 5).to_string());
        }
        if is_free(&name) {
            return name;
        }
        number += 1;
    }
}

/// Without random numbers every name is the first one with a digit, which does no harm.
fn random() -> usize {
    let mut bytes = [0; 8];
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    usize::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::free;

    #[test]
    fn a_name_is_two_words_and_there_is_always_one() {
        let name = free(|_| true);
        assert_eq!(name.split('_').count(), 2);
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(free(|name| name.ends_with("12")).ends_with("12"), "digits go on until one is free");
    }
}
