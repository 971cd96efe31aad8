//! A client that is a socket and nothing else: what a test writes is what the server reads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::daemon::PATIENCE;

/// A connection, line by line.
#[derive(Debug)]
pub struct Peer(BufReader<TcpStream>);

impl Peer {
    /// Connects, and leaves the greeting to be read.
    pub fn connect(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|err| format!("{address}: {err}"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|err| err.to_string())?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Connects, reads the greeting and says `CONNECT` with these options.
    pub fn greeted(address: SocketAddr, options: &str) -> Result<Self, String> {
        let mut peer = Self::connect(address)?;
        peer.info()?;
        peer.send(&format!("CONNECT {options}\r\n"));
        Ok(peer)
    }

    /// Writes. A server that has closed is no error here: reading tells.
    pub fn send(&mut self, text: &str) {
        let _ = self.0.get_mut().write_all(text.as_bytes());
    }

    /// The next line without its end, or none if the server has closed. A PING is answered and is no line: on a slow
    /// machine a server asks two seconds after CONNECT, wherever a test is by then.
    pub fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            match self.any_line()? {
                Some(line) if line == "PING" => self.send("PONG\r\n"),
                line => return Ok(line),
            }
        }
    }

    /// The next line, also if it is a PING, which is left unanswered.
    pub fn any_line(&mut self) -> Result<Option<String>, String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line.trim_end().to_owned())),
            Err(err) if err.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(err) => Err(format!("no line: {err}")),
        }
    }

    /// The next line, which must be an INFO: what it says.
    pub fn info(&mut self) -> Result<Value, String> {
        let line = self.line()?.unwrap_or_default();
        let json = line.strip_prefix("INFO ").ok_or_else(|| format!("no INFO but {line:?}"))?;
        serde_json::from_str(json).map_err(|err| err.to_string())
    }

    /// All lines up to the end of the connection.
    pub fn rest(&mut self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line()? {
            lines.push(line);
        }
        Ok(lines)
    }

    /// What a request is answered: the body, or the header's first line where there is a header. Nothing else may come
    /// meanwhile.
    pub fn request(&mut self, subject: &str, body: &str) -> Result<String, String> {
        let size = body.len();
        self.send(&format!("SUB _R 9\r\nUNSUB 9 1\r\nPUB {subject} _R {size}\r\n{body}\r\n"));
        let line = self.line()?.unwrap_or_default();
        let size = line.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
        let size = size.ok_or_else(|| format!("no answer but {line:?}"))?;
        let mut message = vec![0; size + 2];
        self.0.read_exact(&mut message).map_err(|err| err.to_string())?;
        let text = String::from_utf8_lossy(&message);
        let lines =
            if line.starts_with("HMSG") { text.lines().next().unwrap_or_default() } else { text.trim_end() };
        Ok(lines.to_owned())
    }

    /// The same, as JSON.
    pub fn ask(&mut self, subject: &str, body: &str) -> Result<Value, String> {
        let answer = self.request(subject, body)?;
        serde_json::from_str(&answer).map_err(|err| format!("{err}: {answer}"))
    }

    /// Returns when the server has done all that it was told.
    pub fn fence(&mut self) -> Result<(), String> {
        self.send("PING\r\n");
        match self.line()?.as_deref() {
            Some("PONG") => Ok(()),
            other => Err(format!("no PONG but {other:?}")),
        }
    }
}
