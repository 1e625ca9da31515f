//! An S3 server of one's own.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Cmd, Process, Scratch, free_port, tool};

/// An S3 server (versitygw) over a temporary folder on a free port of 127.0.0.1, with the bucket `cove`.
pub struct S3 {
    process: Process,
    port: u16,
    folder: Scratch,
}

impl S3 {
    /// The access key that it knows.
    pub const ACCESS_KEY: &str = "cove-access";
    /// The secret key that goes with it.
    pub const SECRET_KEY: &str = "cove-secret-key";
    /// The region that it says it is in.
    pub const REGION: &str = "us-east-1";

    /// Starts it.
    pub fn start() -> Self {
        let folder = Scratch::new("s3");
        let port = free_port();
        let process = Cmd::new(tool("versitygw"))
            .env("ROOT_ACCESS_KEY", Self::ACCESS_KEY)
            .env("ROOT_SECRET_KEY", Self::SECRET_KEY)
            .args(["--port", &format!("127.0.0.1:{port}"), "--region", Self::REGION, "--health", "/health", "posix"])
            .arg(folder.folder("buckets"))
            .start(&folder.join("log"));
        let mut s3 = Self { process, port, folder };
        let health = format!("{}/health", s3.endpoint());
        s3.process.wait_ready(Duration::from_secs(30), || Cmd::new("curl").args(["-fsS", &health]).run().succeeded());
        s3.request("PUT", "/cove").ok();
        s3
    }

    /// The endpoint's URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A place in the bucket, for `--blobs`.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://cove/{prefix}")
    }

    /// The settings that `cove-server` needs to reach it.
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("COVE_S3_ENDPOINT", self.endpoint()),
            ("COVE_S3_REGION", Self::REGION.to_owned()),
            ("COVE_S3_ACCESS_KEY", Self::ACCESS_KEY.to_owned()),
            ("COVE_S3_SECRET_KEY", Self::SECRET_KEY.to_owned()),
        ]
    }

    /// The folder that holds the bucket's objects, one file an object.
    pub fn objects(&self) -> PathBuf {
        self.folder.join("buckets/cove")
    }

    /// A signed request to the server.
    pub fn request(&self, method: &str, path: &str) -> Cmd {
        let provider = format!("aws:amz:{}:s3", Self::REGION);
        let keys = format!("{}:{}", Self::ACCESS_KEY, Self::SECRET_KEY);
        let empty = "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        Cmd::new("curl")
            .args(["-fsS", "-X", method, "--aws-sigv4", &provider, "-u", &keys, "-H", empty])
            .arg(format!("{}{path}", self.endpoint()))
    }
}
