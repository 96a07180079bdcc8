//! Telling systemd how the agent stands (sd_notify): a datagram to the socket that it names in `NOTIFY_SOCKET`.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Whom to tell, if anybody.
#[derive(Debug, Default)]
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// As the environment says. A socket that can't be had is told in the log, and nobody is told anything.
    pub fn from_environment() -> Notify {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Notify(None);
        };
        Notify::to(name.as_bytes()).unwrap_or_else(|error| {
            tracing::warn!(%error, socket = ?name, "nobody is told of readiness: NOTIFY_SOCKET can't be used");
            Notify(None)
        })
    }

    fn to(name: &[u8]) -> io::Result<Notify> {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        // Nobody waits for a full queue.
        socket.set_nonblocking(true)?;
        Ok(Notify(Some((socket, address))))
    }

    /// Tells a state, such as `READY=1`.
    pub fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::debug!(%error, state, "systemd is not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_state_goes_to_a_path_or_to_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notify::to(path.as_os_str().as_bytes()).unwrap().tell("READY=1");
        assert_eq!(receive(&socket), "READY=1");
        let name = format!("livezone-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::to(format!("@{name}").as_bytes()).unwrap().tell("STOPPING=1");
        assert_eq!(receive(&socket), "STOPPING=1");
        drop(socket);
        Notify::to(format!("@{name}").as_bytes()).unwrap().tell("nobody is there");
        Notify(None).tell("nobody wants to know");
    }
}
