//! Makes tar archives block by block, wrong ones too.

/// An archive that grows.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// A header block; the checksum is set when it is added.
#[derive(Clone)]
pub struct Block(pub [u8; 512]);

impl Block {
    /// A ustar header of a file that belongs to root.
    pub fn new(flag: u8, path: impl AsRef<[u8]>) -> Self {
        let mut block = Block([0; 512]);
        let path = path.as_ref();
        block.0[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        block.0[156] = flag;
        block.0[257..265].copy_from_slice(b"ustar\x0000");
        block.mode(if flag == b'5' { 0o755 } else { 0o644 }).owner(0, 0).size(0).mtime(1_000_000_000)
    }

    pub fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn mode(self, mode: u32) -> Self {
        self.field(100, format!("{mode:07o}\0").as_bytes())
    }

    pub fn owner(self, uid: u32, gid: u32) -> Self {
        self.field(108, format!("{uid:07o}\0{gid:07o}\0").as_bytes())
    }

    pub fn size(self, size: u64) -> Self {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    pub fn mtime(self, mtime: u64) -> Self {
        self.field(136, format!("{mtime:011o}\0").as_bytes())
    }

    pub fn link(self, link: impl AsRef<[u8]>) -> Self {
        self.field(157, link.as_ref())
    }

    pub fn device(self, major: u32, minor: u32) -> Self {
        self.field(329, format!("{major:07o}\0{minor:07o}\0").as_bytes())
    }

    pub fn gnu(self) -> Self {
        self.field(257, b"ustar  \0")
    }
}

impl Tar {
    pub fn new() -> Self {
        Tar::default()
    }

    /// Adds a header with the right checksum, and data with padding.
    pub fn add(&mut self, mut block: Block, data: &[u8]) -> &mut Self {
        block.0[148..156].fill(b' ');
        let sum: u32 = block.0.iter().map(|byte| u32::from(*byte)).sum();
        block.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block.0);
        self.raw(data)
    }

    /// Bytes with padding.
    pub fn raw(&mut self, data: &[u8]) -> &mut Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(&mut self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> &mut Self {
        let data = data.as_ref();
        self.add(Block::new(b'0', path).size(data.len() as u64), data)
    }

    pub fn folder(&mut self, path: impl AsRef<[u8]>) -> &mut Self {
        self.add(Block::new(b'5', path), &[])
    }

    pub fn link(&mut self, path: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> &mut Self {
        self.add(Block::new(b'2', path).link(to), &[])
    }

    pub fn hard(&mut self, path: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> &mut Self {
        self.add(Block::new(b'1', path).link(to), &[])
    }

    /// A PAX header with these records.
    pub fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        self.extension(b'x', &pax(records))
    }

    pub fn extension(&mut self, flag: u8, data: &[u8]) -> &mut Self {
        self.add(Block::new(flag, "extension").size(data.len() as u64), data)
    }

    /// The archive with its end marker.
    pub fn end(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// PAX records.
pub fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + rest.to_string().len();
        length = rest + length.to_string().len();
        bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}
