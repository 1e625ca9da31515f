//! HTTP/1.1 by hand, for what a good client never does: break off in the middle of a body, send slowly, read
//! slowly, and take it calmly when the server dies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Answer, Login};

/// One connection that carries one request.
pub struct Wire {
    stream: BufReader<TcpStream>,
    request: String,
    chunked: bool,
}

impl Wire {
    /// Connects to `HOST:PORT` and sends a request's headers. `length` is that of the body to come; none makes it
    /// a stream (`Transfer-Encoding: chunked`), which ends with [`Wire::answer`].
    pub fn begin(
        address: &str,
        login: &Login,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: Option<u64>,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        stream.set_write_timeout(Some(Duration::from_secs(120)))?;
        let mut wire =
            Self { stream: BufReader::new(stream), request: format!("{method} {path}"), chunked: length.is_none() };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        head.push_str(&format!("Authorization: Basic {}\r\n", BASE64.encode(login.pair())));
        match length {
            Some(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
            None => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        wire.socket().write_all(head.as_bytes())?;
        Ok(wire)
    }

    /// Sends a whole request and reads the answer.
    pub fn ask(
        address: &str,
        login: &Login,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut wire = Self::begin(address, login, method, path, headers, Some(body.len() as u64))?;
        let sent = wire.send(body);
        // A server that refuses a body answers before it has come to its end.
        wire.answer().map_err(|error| sent.err().unwrap_or(error))
    }

    /// Sends some of the body.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.chunked {
            return self.socket().write_all(bytes);
        }
        if bytes.is_empty() {
            return Ok(()); // an empty chunk would be the end
        }
        self.socket().write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        self.socket().write_all(bytes)?;
        self.socket().write_all(b"\r\n")
    }

    /// Ends the body and reads the answer to its end.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let (mut answer, length) = self.answer_head()?;
        match length {
            Some(length) => {
                answer.body.resize(length, 0);
                self.stream.read_exact(&mut answer.body)?;
            }
            None => {
                self.stream.read_to_end(&mut answer.body)?;
            }
        }
        Ok(answer)
    }

    /// Ends the body and reads the answer's headers; and the length of its body, if it is told.
    pub fn answer_head(&mut self) -> io::Result<(Answer, Option<usize>)> {
        if self.chunked {
            // Refused early, the body has no end that anybody would read.
            let _ = self.socket().write_all(b"0\r\n\r\n");
        }
        let status = self.line()?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = code.ok_or_else(|| io::Error::other(format!("not a status line: {status:?}")))?;
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(io::Error::other)?;
            headers.append(name, HeaderValue::from_str(value).map_err(io::Error::other)?);
        }
        let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        let bodiless = self.request.starts_with("HEAD ") || status == 204 || status == 304;
        let answer = Answer { request: self.request.clone(), status, headers, body: Vec::new() };
        Ok((answer, if bodiless { Some(0) } else { length }))
    }

    /// Reads some of the answer's body: at most `length` bytes, fewer only at its end.
    pub fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Ends the connection without a word, as a client does whose network is gone.
    pub fn break_off(self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }

    fn socket(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }
}
