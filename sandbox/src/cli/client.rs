//! Asks the daemon. Blocking and on the standard library alone: `exec` needs it before any thread exists.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any call of the emulated clouds takes, hanging ones apart.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the daemon said: its status and JSON.
pub(super) fn ask(endpoint: SocketAddr, method: &str, route: &str, body: &Value) -> Result<(u16, Value), String> {
    let failed = |e: std::io::Error| format!("the sandbox at {endpoint} does not answer ({e}): see daemon.log");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /_sandbox/{route} HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(endpoint).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    parse(&answer).ok_or_else(|| format!("the sandbox at {endpoint} closed the connection without an answer"))
}

/// The JSON of a good answer; the words of a refusal as the error.
pub(super) fn get(endpoint: SocketAddr, method: &str, route: &str, body: &Value) -> Result<Value, String> {
    match ask(endpoint, method, route, body)? {
        (200..=299, answer) => Ok(answer),
        (_, refusal) => Err(refusal["error"].as_str().map_or_else(|| refusal.to_string(), str::to_owned)),
    }
}

/// With `Connection: close` and a length, the body is all that follows the head.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    let body = answer.get(end + 4..)?;
    let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).ok()? };
    Some((status, value))
}
