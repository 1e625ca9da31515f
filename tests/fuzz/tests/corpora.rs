//! The fuzz targets without libFuzzer: on their corpora, and on random changes of them. `COVE_FUZZ_ROUNDS` says how many,
//! `COVE_FUZZ_SEED` which ones.

use std::path::Path;

use cove_fuzz::TARGETS;

/// xorshift64: enough to choose changes, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(12)).min(bytes.len());
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 => {
            let likely = b"\0 /.:@=>\",\\\n-_0aAw\xff";
            bytes.insert(at, likely[random.below(likely.len())]);
        }
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        4 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(64)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        5 => bytes.truncate(at),
        6 if at < bytes.len() => bytes[at] = random.below(256) as u8,
        _ => {
            let words: [&[u8]; 9] =
                [b".wh.", b".wh..wh..opq", b"../", b"/", b"./", b"sha256:", b"18446744073709551616", b"\"", b"-1"];
            bytes.splice(at..at, words[random.below(words.len())].iter().copied());
        }
    }
}

#[test]
fn nothing_in_the_corpora_or_near_them_is_a_find() {
    let number = |name: &str, or: u64| std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(or);
    let rounds = number("COVE_FUZZ_ROUNDS", 2000);
    let seed = number("COVE_FUZZ_SEED", 1);
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        corpus.iter().for_each(|bytes| target(bytes));
        for round in 0..rounds {
            let mut random = Random((seed << 32 | (round + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let mut bytes = corpus[random.below(corpus.len())].clone();
            for _ in 0..1 + random.below(4) {
                change(&mut bytes, &corpus, &mut random);
            }
            let found = std::panic::catch_unwind(|| target(&bytes));
            if found.is_err() {
                let kept = std::env::temp_dir().join(format!("{name}-{round}"));
                std::fs::write(&kept, &bytes).unwrap();
                panic!("{name}, round {round}: kept in {}", kept.display());
            }
        }
    }
}
