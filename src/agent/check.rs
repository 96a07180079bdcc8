//! Looking at the service, and what runs before it joins.
//!
//! Everything ends at its timeout. A command is its own process group, which is killed as a whole then. At most
//! [`ANSWER_OCTETS`] of an answer are read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::config::agent::{Check, OnJoin, Place};

use super::dns::resolve;

/// The first line of an answer is shorter, whatever answers.
const ANSWER_OCTETS: usize = 4096;

/// Where a service is by itself.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Its registered address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// Checks a service; an error says what is wrong.
pub async fn check(check: &Check, own: Own, patience: Duration) -> Result<(), String> {
    within(patience, async {
        match check {
            Check::Tcp(place) => connect(place.as_ref(), own).await.map(drop),
            Check::Memcached(place) => {
                ask_memcached(connect(place.as_ref(), own).await?, "version\r\n", "VERSION ").await
            }
            Check::Http { place, path } => ask_http(connect(Some(place), own).await?, place, path).await,
            Check::Exec(command) => run(command).await,
        }
    })
    .await
}

/// Does what has to be done before a member joins.
pub async fn join(on_join: &OnJoin, own: Own, patience: Duration) -> Result<(), String> {
    within(patience, async {
        match on_join {
            OnJoin::Flush(place) => ask_memcached(connect(place.as_ref(), own).await?, "flush_all\r\n", "OK").await,
            OnJoin::Exec(command) => run(command).await,
        }
    })
    .await
}

async fn within(patience: Duration, work: impl Future<Output = io::Result<()>>) -> Result<(), String> {
    match timeout(patience, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no result within {}", humantime::format_duration(patience))),
    }
}

async fn connect(place: Option<&Place>, own: Own) -> io::Result<TcpStream> {
    let addresses = match place {
        Some(place) => resolve(place).await?,
        None => vec![SocketAddr::new(own.address, own.port)],
    };
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(failure)
}

async fn ask_memcached(mut stream: TcpStream, question: &str, wanted: &str) -> io::Result<()> {
    stream.write_all(question.as_bytes()).await?;
    let line = read_line(&mut stream).await?;
    match line.starts_with(wanted) {
        true => Ok(()),
        false => Err(io::Error::other(format!("memcached answers \"{line}\""))),
    }
}

/// RFC 9112; only the status is of interest.
async fn ask_http(mut stream: TcpStream, place: &Place, path: &str) -> io::Result<()> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: livezone-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let line = read_line(&mut stream).await?;
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=299) => Ok(()),
        Some(_) => Err(io::Error::other(format!("it answers \"{line}\""))),
        None => Err(io::Error::other("it doesn't speak HTTP")),
    }
}

/// The first line, without its end.
async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut octets = Vec::new();
    while !octets.contains(&b'\n') {
        let mut buffer = [0; 512];
        let count = stream.read(&mut buffer).await?;
        if count == 0 || octets.len() + count > ANSWER_OCTETS {
            return Err(io::Error::other("the answer has no end of line"));
        }
        octets.extend_from_slice(&buffer[..count]);
    }
    let line = octets.split(|&octet| octet == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end().to_owned())
}

/// Runs a command by `sh -c`; dropping this kills all that it started.
async fn run(command: &str) -> io::Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let status = child.wait().await?;
    // What it left running in the background may stay.
    std::mem::forget(group);
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("the command ended with {status}"))),
    }
}

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(300);
    const LATE: Duration = Duration::from_secs(20);

    fn own(address: SocketAddr) -> Own {
        Own { address: address.ip(), port: address.port() }
    }

    /// A service that answers the first line of each connection with this text, and tells what it was.
    async fn service(answer: &'static str) -> (Own, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let line = read_line(&mut stream).await.unwrap();
                let _ = sender.send(line);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (own(address), receiver)
    }

    #[tokio::test]
    async fn tcp_is_a_connection_and_nobody_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = own(listener.local_addr().unwrap());
        assert_eq!(check(&Check::Tcp(None), there, LATE).await, Ok(()));
        drop(listener);
        let error = check(&Check::Tcp(None), there, LATE).await.unwrap_err();
        assert!(error.contains(&there.port.to_string()) && error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn memcached_is_asked_for_its_version_and_flushed() {
        let (there, mut asked) = service("VERSION 1.6.18\r\n").await;
        assert_eq!(check(&Check::Memcached(None), there, LATE).await, Ok(()));
        assert_eq!(asked.recv().await.unwrap(), "version");
        let error = join(&OnJoin::Flush(None), there, LATE).await.unwrap_err();
        assert!(error.contains("VERSION 1.6.18"), "{error}");
        assert_eq!(asked.recv().await.unwrap(), "flush_all");
        assert_eq!(join(&OnJoin::Flush(None), service("OK\r\n").await.0, LATE).await, Ok(()));
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = check(&Check::Memcached(None), own(silent.local_addr().unwrap()), SOON).await.unwrap_err();
        assert!(error.contains("300ms"), "{error}");
    }

    #[tokio::test]
    async fn http_is_well_with_any_2xx() {
        for (answer, well) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\n\r\n", true),
            ("HTTP/1.1 503 Busy\r\n\r\n", false),
            ("HTTP/1.1 301 Moved\r\n\r\n", false),
            ("SSH-2.0\r\n", false),
        ] {
            let (there, mut asked) = service(answer).await;
            let place = Place { host: there.address.to_string(), port: there.port };
            let result = check(&Check::Http { place, path: "/up?a=b".to_owned() }, there, LATE).await;
            assert_eq!(result.is_ok(), well, "{answer}: {result:?}");
            assert_eq!(asked.recv().await.unwrap(), "GET /up?a=b HTTP/1.1");
        }
    }

    #[tokio::test]
    async fn a_command_tells_by_its_status_and_is_killed_with_all_that_it_started() {
        let there = Own { address: [127, 0, 0, 1].into(), port: 1 };
        let exec = |text: &str| Check::Exec(text.to_owned());
        assert_eq!(check(&exec("test 1 = 1"), there, LATE).await, Ok(()));
        assert!(check(&exec("exit 3"), there, LATE).await.unwrap_err().contains('3'));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let start = Instant::now();
        let hanging = exec(&format!("sleep 1000 & echo $! > {}; wait", file.display()));
        assert!(check(&hanging, there, Duration::from_secs(1)).await.is_err());
        assert!(start.elapsed() < LATE);
        let grandchild = std::fs::read_to_string(&file).unwrap();
        let stat = format!("/proc/{}/stat", grandchild.trim());
        let is_gone = || match std::fs::read_to_string(&stat) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        while !is_gone() {
            assert!(start.elapsed() < LATE, "it goes on");
            tokio::task::yield_now().await;
        }
    }
}
