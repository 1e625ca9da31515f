//! A certificate authority of one's own.

use std::path::{Path, PathBuf};

use crate::{Cmd, Scratch};

/// A certificate authority, made by openssl, whose certificates are for 127.0.0.1, localhost and hub.test.
pub struct Authority {
    folder: Scratch,
}

impl Authority {
    /// Makes its key and certificate.
    pub fn new() -> Self {
        let folder = Scratch::new("authority");
        folder.write("extensions", "subjectAltName = IP:127.0.0.1, DNS:localhost, DNS:hub.test\n");
        openssl(&["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=Tests", "-keyout"])
            .arg(folder.join("key.pem"))
            .arg("-out")
            .arg(folder.join("ca.crt"))
            .ok();
        Self { folder }
    }

    /// Its certificate, for clients to trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A folder with its certificate as `ca.crt`, as docker, podman and skopeo take it by `--cert-dir`.
    pub fn folder(&self) -> PathBuf {
        let folder = self.folder.folder("trusted");
        std::fs::copy(self.certificate(), folder.join("ca.crt")).expect("copy the certificate");
        folder
    }

    /// Writes a new key and a certificate for it, each call with another serial number.
    pub fn issue(&self, certificate: &Path, key: &Path) {
        let request = self.folder.join("request.pem");
        openssl(&["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1"])
            .arg("-keyout")
            .arg(key)
            .arg("-out")
            .arg(&request)
            .ok();
        openssl(&["x509", "-req", "-days", "2", "-CAcreateserial", "-in"])
            .arg(&request)
            .arg("-CA")
            .arg(self.certificate())
            .arg("-CAkey")
            .arg(self.folder.join("key.pem"))
            .arg("-extfile")
            .arg(self.folder.join("extensions"))
            .arg("-out")
            .arg(certificate)
            .ok();
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn openssl(arguments: &[&str]) -> Cmd {
    Cmd::new("openssl").args(arguments)
}
