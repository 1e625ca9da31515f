//! Requests written by hand, byte for byte, for what no HTTP library would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cove_tests::Server;

/// A connection to the server.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    pub fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Raw { stream }
    }

    /// Sends bytes; a server that has hung up already is no failure of the test.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).ok();
        self
    }

    /// Says that nothing more will come.
    pub fn end(&mut self) -> &mut Self {
        self.stream.shutdown(std::net::Shutdown::Write).ok();
        self
    }

    /// Everything that the server sends until it closes.
    pub fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The status of the first answer; 0 if the connection was closed without one.
    pub fn status(&mut self) -> u16 {
        status_of(&self.read_to_end())
    }
}

pub fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Request line and headers with the administrator's login; the caller adds headers, the empty line and a body.
pub fn head(server: &Server, method: &str, path: &str) -> String {
    let login = STANDARD.encode(server.admin_login().pair());
    format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {login}\r\n", server.address())
}
