//! Who is compared: the clients, and scripts that do the least that could be done.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cove_tests::benchmarks::Watch;
use cove_tests::clients::{Cove, Docker, Podman, Skopeo};
use cove_tests::{Cmd, Distribution, Scratch};

use crate::codec::compress;
use crate::content::Content;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// A pull into an empty store, with everything written to the disk.
    Cold,
    /// The same once more.
    Warm,
    /// A pull of an image that differs in one layer of five, written to the disk.
    Update,
    /// A push of an image that was just loaded, to an empty registry.
    Push,
    /// The same once more.
    Again,
}

impl Row {
    pub const ALL: [Self; 5] = [Self::Cold, Self::Warm, Self::Update, Self::Push, Self::Again];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Update => "update",
            Self::Push => "push",
            Self::Again => "again",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Cold => "cold pull and sync",
            Self::Warm => "pull of what is there",
            Self::Update => "pull with one layer of five changed, and sync",
            Self::Push => "first push of freshly loaded layers",
            Self::Again => "push of what is there",
        }
    }

    /// Whether another row must come before this one, or is this one.
    pub fn needs(self, other: Self) -> bool {
        match self {
            Self::Cold => other == Self::Cold,
            Self::Warm => matches!(other, Self::Cold | Self::Warm),
            Self::Update => matches!(other, Self::Cold | Self::Update),
            Self::Push => other == Self::Push,
            Self::Again => matches!(other, Self::Push | Self::Again),
        }
    }
}

/// How long it took, and the most private memory in MB where that was watched.
pub struct Measured {
    pub time: Duration,
    pub memory: Option<f64>,
}

impl From<Duration> for Measured {
    fn from(time: Duration) -> Self {
        Self { time, memory: None }
    }
}

/// A client, or what stands for one.
pub trait Peer {
    fn name(&self) -> &'static str;
    fn version(&self) -> Option<String> {
        None
    }
    /// What is to be so before the clock starts.
    fn prepare(&mut self, _row: Row, _content: &Content, _target: &Distribution) {}
    /// Does it; none if it cannot be done.
    fn measure(&mut self, row: Row, content: &Content, target: &Distribution) -> Option<Measured>;
    /// Bytes of the layers that it has made, after the row in which it did.
    fn pushed(&self, row: Row, target: &Distribution) -> Option<u64> {
        (row == Row::Push).then(|| pushed_bytes(target))
    }
}

/// All of them.
pub fn all(_content: &Content) -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(Ours { cove: Cove::new() }),
        Box::new(Theirs { docker: Docker::new() }),
        Box::new(Podmans { podman: Podman::new() }),
        Box::new(Skopeos { skopeo: Skopeo::new(), folder: Scratch::new("bench-skopeo") }),
        Box::new(Limit { copies: false, folder: Scratch::new("bench-limit") }),
        Box::new(Limit { copies: true, folder: Scratch::new("bench-limit") }),
        Box::new(Codec { bytes: 0 }),
        Box::new(Pigz { bytes: 0 }),
    ]
}

/// Where a peer pushes to.
fn target_name(target: &Distribution) -> String {
    format!("{}/bench/image:1", target.address())
}

fn pushed_bytes(target: &Distribution) -> u64 {
    let manifest = target.registry().manifest("bench/image", "1").expect(200).json();
    manifest["layers"].as_array().expect("layers").iter().filter_map(|layer| layer["size"].as_u64()).sum()
}

/// What is written to the disk belongs to the time that it takes.
fn with_sync(start: Instant, folder: PathBuf) -> Duration {
    Cmd::new("sync").arg("-f").arg(folder).ok();
    start.elapsed()
}

struct Ours {
    cove: Cove,
}

impl Peer for Ours {
    fn name(&self) -> &'static str {
        "cove"
    }

    fn version(&self) -> Option<String> {
        Some(Cmd::new(Cove::program()).arg("--version").ok())
    }

    fn prepare(&mut self, row: Row, content: &Content, target: &Distribution) {
        match row {
            Row::Cold => self.cove = Cove::new(),
            Row::Push => {
                self.cove = Cove::new();
                self.cove.words(["load", "-q", "-i"]).arg(&content.archive).ok();
                self.cove.words(["tag", content.name, &target_name(target)]).ok();
            }
            Row::Warm | Row::Update | Row::Again => {}
        }
    }

    fn measure(&mut self, row: Row, content: &Content, target: &Distribution) -> Option<Measured> {
        let name = target_name(target);
        let words = match row {
            Row::Cold | Row::Warm => ["pull", &content.references[0]],
            Row::Update => ["pull", &content.references[1]],
            Row::Push | Row::Again => ["push", &name],
        };
        let (start, mut watch) = (Instant::now(), None);
        let mut time = self.cove.words(words).time(|id| watch = Some(Watch::of(id)));
        if matches!(row, Row::Cold | Row::Update) {
            time = with_sync(start, self.cove.root().to_owned());
        }
        Some(Measured { time, memory: watch.map(Watch::peak) })
    }
}

struct Theirs {
    docker: Docker,
}

impl Peer for Theirs {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn version(&self) -> Option<String> {
        Some(format!("docker {}", self.docker.command().args(["version", "--format", "{{.Server.Version}}"]).ok()))
    }

    fn prepare(&mut self, row: Row, content: &Content, target: &Distribution) {
        match row {
            Row::Cold => self.docker = Docker::new(),
            Row::Push => {
                self.docker = Docker::new();
                self.docker.command().args(["load", "-q", "-i"]).arg(&content.archive).ok();
                self.docker.command().args(["tag", content.name, &target_name(target)]).ok();
            }
            Row::Warm | Row::Update | Row::Again => {}
        }
    }

    fn measure(&mut self, row: Row, content: &Content, target: &Distribution) -> Option<Measured> {
        let docker = |words: [&str; 2]| self.docker.command().args(words).time(|_| {});
        let start = Instant::now();
        let time = match row {
            Row::Warm => docker(["pull", &content.references[0]]),
            Row::Push | Row::Again => docker(["push", &target_name(target)]),
            Row::Cold | Row::Update => {
                docker(["pull", &content.references[usize::from(row == Row::Update)]]);
                with_sync(start, self.docker.data())
            }
        };
        Some(time.into())
    }
}

struct Podmans {
    podman: Podman,
}

impl Peer for Podmans {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn version(&self) -> Option<String> {
        Some(self.podman.command().arg("--version").ok().replace(" version", ""))
    }

    fn prepare(&mut self, row: Row, content: &Content, target: &Distribution) {
        match row {
            Row::Cold => self.podman = Podman::new(),
            Row::Push => {
                self.podman = Podman::new();
                self.podman.command().args(["load", "-q", "-i"]).arg(&content.archive).ok();
                self.podman.command().args(["tag", content.name, &target_name(target)]).ok();
            }
            Row::Warm | Row::Update | Row::Again => {}
        }
    }

    fn measure(&mut self, row: Row, content: &Content, target: &Distribution) -> Option<Measured> {
        let podman =
            |word: &str, name: &str| self.podman.command().args([word, "-q", "--tls-verify=false", name]).time(|_| {});
        let start = Instant::now();
        let time = match row {
            Row::Warm => podman("pull", &content.references[0]),
            Row::Push | Row::Again => podman("push", &target_name(target)),
            Row::Cold | Row::Update => {
                podman("pull", &content.references[usize::from(row == Row::Update)]);
                with_sync(start, self.podman.data())
            }
        };
        Some(time.into())
    }
}

struct Skopeos {
    skopeo: Skopeo,
    folder: Scratch,
}

impl Peer for Skopeos {
    fn name(&self) -> &'static str {
        "skopeo"
    }

    fn version(&self) -> Option<String> {
        Some(self.skopeo.command().arg("--version").ok().replace(" version", ""))
    }

    fn prepare(&mut self, row: Row, _content: &Content, _target: &Distribution) {
        if row == Row::Cold {
            self.folder = Scratch::new("bench-skopeo");
        }
    }

    fn measure(&mut self, row: Row, content: &Content, target: &Distribution) -> Option<Measured> {
        let layout = self.folder.join("layout");
        let copy = |from: String, to: String| {
            let flags = ["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
            self.skopeo.command().args(flags).args([from, to]).time(|_| {})
        };
        let pull = |which: usize| {
            copy(format!("docker://{}", content.references[which]), format!("oci:{}:1", layout.display()))
        };
        let push = || {
            copy(format!("docker-archive:{}", content.archive.display()), format!("docker://{}", target_name(target)))
        };
        let start = Instant::now();
        let time = match row {
            Row::Warm => pull(0),
            Row::Push | Row::Again => push(),
            Row::Cold | Row::Update => {
                pull(usize::from(row == Row::Update));
                with_sync(start, self.folder.path().to_owned())
            }
        };
        Some(time.into())
    }
}

/// The least that a pull could be: every layer at once from the network through a decompressor to files; and the
/// least that ours could be, which keeps what it fetches and makes sure of both digests.
struct Limit {
    copies: bool,
    folder: Scratch,
}

const PLAIN: &str = r#"cd "$1"; shift
for url in "$@"; do
    mkdir "${url##*:}"; curl -fsS "$url" | igzip -dc | tar -xp --numeric-owner -C "${url##*:}" -f - &
done; wait"#;

const WITH_COPIES: &str = r#"cd "$1"; shift
for url in "$@"; do
    name=${url##*:}; mkdir "$name"
    curl -fsS "$url" | tee "$name.blob" >(openssl dgst -sha256 >"$name.digest") | igzip -dc |
        tee >(openssl dgst -sha256 >"$name.diff-id") | tar -xp --numeric-owner -C "$name" -f - &
done; wait"#;

impl Peer for Limit {
    fn name(&self) -> &'static str {
        if self.copies { "limit-with-copies" } else { "limit" }
    }

    fn prepare(&mut self, row: Row, _content: &Content, _target: &Distribution) {
        if row == Row::Cold {
            self.folder = Scratch::new("bench-limit");
        }
    }

    fn measure(&mut self, row: Row, content: &Content, _target: &Distribution) -> Option<Measured> {
        if row != Row::Cold {
            return None;
        }
        let script = if self.copies { WITH_COPIES } else { PLAIN };
        let start = Instant::now();
        Cmd::new("bash").args(["-c", script, "bash"]).arg(self.folder.path()).args(&content.urls).time(|_| {});
        Some(with_sync(start, self.folder.path().to_owned()).into())
    }

    fn pushed(&self, _row: Row, _target: &Distribution) -> Option<u64> {
        None
    }
}

/// libdeflate, which is what cove compresses with, on all cores.
struct Codec {
    bytes: u64,
}

impl Peer for Codec {
    fn name(&self) -> &'static str {
        "codec"
    }

    fn measure(&mut self, row: Row, content: &Content, _target: &Distribution) -> Option<Measured> {
        let (time, bytes) = (row == Row::Push).then(|| compress(&content.layers))?;
        self.bytes = bytes;
        Some(time.into())
    }

    fn pushed(&self, row: Row, _target: &Distribution) -> Option<u64> {
        (row == Row::Push).then_some(self.bytes)
    }
}

/// pigz, the usual way to compress on all cores.
struct Pigz {
    bytes: u64,
}

impl Peer for Pigz {
    fn name(&self) -> &'static str {
        "pigz"
    }

    fn measure(&mut self, row: Row, content: &Content, _target: &Distribution) -> Option<Measured> {
        if row != Row::Push {
            return None;
        }
        let start = Instant::now();
        let script = "for layer; do pigz -c \"$layer\" | wc -c; done";
        let counts = Cmd::new("sh").args(["-c", script, "sh"]).args(&content.layers).ok();
        self.bytes = counts.lines().filter_map(|count| count.trim().parse::<u64>().ok()).sum();
        Some(start.elapsed().into())
    }

    fn pushed(&self, row: Row, _target: &Distribution) -> Option<u64> {
        (row == Row::Push).then_some(self.bytes)
    }
}
