//! A short conversation of the sandbox with one of its own servers: RESP2, one command at a time.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(super) struct Session {
    stream: BufStream<TcpStream>,
    answer: Duration,
}

impl Session {
    pub(super) async fn open(address: SocketAddr, user: &str, password: &str, answer: Duration) -> io::Result<Self> {
        let stream = timeout(answer, TcpStream::connect(address)).await.map_err(|_| silent())??;
        let mut session = Self { stream: BufStream::new(stream), answer };
        session.command(&["AUTH", user, password]).await?;
        Ok(session)
    }

    /// The reply as text, the members of a list one a line; an error reply is an error.
    pub(super) async fn command(&mut self, words: &[&str]) -> io::Result<String> {
        let answer = self.answer;
        timeout(answer, self.exchange(words)).await.map_err(|_| silent())?
    }

    async fn exchange(&mut self, words: &[&str]) -> io::Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            // Writing to a string cannot fail.
            let _ = write!(request, "${}\r\n{word}\r\n", word.len());
        }
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        let mut members = Vec::new();
        let mut left = 1_usize;
        while left > 0 {
            left -= 1;
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            match line.trim_end().split_once('*') {
                Some(("", "-1")) => {}
                Some(("", length)) => left += length.parse::<usize>().map_err(|_| io::Error::other("not a length"))?,
                _ => members.push(self.member(line.trim_end()).await?),
            }
        }
        Ok(members.join("\n"))
    }

    /// What a line that begins no list says.
    async fn member(&mut self, line: &str) -> io::Result<String> {
        match line.split_at_checked(1) {
            Some(("+" | ":", text)) => Ok(text.to_owned()),
            Some(("-", error)) => Err(io::Error::other(error.to_owned())),
            // There is no such key.
            Some(("$", "-1")) => Ok(String::new()),
            Some(("$", length)) => {
                let length: usize = length.parse().map_err(|_| io::Error::other("not a length"))?;
                let mut body = vec![0; length + 2];
                self.stream.read_exact(&mut body).await?;
                body.truncate(length);
                String::from_utf8(body).map_err(io::Error::other)
            }
            Some(_) | None => Err(io::Error::other("the server closed the connection")),
        }
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server does not answer (frozen?)")
}
