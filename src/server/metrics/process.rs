//! What every process tells of itself, under the names that all client libraries of Prometheus use; from `/proc`, a few short
//! files.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::writer::Writer;

/// Writes what can be read.
pub(super) fn write(writer: &mut Writer<'_>) -> fmt::Result {
    let spent = std::time::Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    writer.counter("process_cpu_seconds", "User and system time spent.", spent.as_secs_f64())?;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(Stat { started, virtual_octets, resident_octets }) = Stat::parse(&stat, page_octets()) {
        writer.gauge("process_virtual_memory_bytes", "Size of virtual memory.", virtual_octets)?;
        writer.gauge("process_resident_memory_bytes", "Size of resident memory.", resident_octets)?;
        let boot = std::fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
        if let Some(boot) = boot {
            let start = boot + started / ticks();
            writer.gauge("process_start_time_seconds", "When the process began, since the Unix epoch.", start)?;
        }
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // The one that it is read by is gone when somebody looks at the figure.
        let open = super::count(entries.count()).saturating_sub(1);
        writer.gauge("process_open_fds", "Open file descriptors.", open)?;
    }
    let most = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, whole);
    writer.gauge("process_max_fds", "Most file descriptors that may be open.", most)
}

#[expect(clippy::cast_precision_loss, reason = "far from 2^53")]
fn whole(number: u64) -> f64 {
    number as f64
}

fn page_octets() -> u64 {
    super::count(page_size())
}

fn ticks() -> f64 {
    whole(clock_ticks_per_second().max(1))
}

/// Of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, PartialEq, Debug)]
struct Stat {
    /// When it began, in ticks since the machine did.
    started: f64,
    virtual_octets: u64,
    resident_octets: u64,
}

impl Stat {
    fn parse(text: &str, page: u64) -> Option<Stat> {
        // The name of the program, in parentheses, may have any character.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The first one here is the third there.
        let number = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            started: whole(number(22)?),
            virtual_octets: number(23)?,
            resident_octets: number(24)?.saturating_mul(page),
        })
    }
}

/// When the machine began, in seconds since the Unix epoch, from `/proc/stat`.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// Datagrams that the kernel dropped at sockets with these addresses.
pub(super) fn socket_drops(listening: &[SocketAddr]) -> u64 {
    let files =
        ["/proc/self/net/udp", "/proc/self/net/udp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    files
        .iter()
        .flat_map(|text| text.lines().skip(1))
        .filter_map(read_socket)
        .fold(0, |sum, (address, drops)| if listening.contains(&address) { sum + drops } else { sum })
}

/// A line of `/proc/net/udp`: the local address is the second column, drops are the last.
fn read_socket(line: &str) -> Option<(SocketAddr, u64)> {
    let mut columns = line.split_ascii_whitespace();
    let (address, port) = columns.nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of four octets, each in the order of the machine.
    let words = |text: &str| -> Option<Vec<u8>> {
        let starts = (0..text.len()).step_by(8);
        let words = starts.map(|at| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes()));
        words.collect::<Option<Vec<_>>>().map(|words| words.concat())
    };
    let octets = words(address)?;
    let ip = match octets.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
    };
    Some((SocketAddr::new(ip, port), columns.next_back()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_no_field() {
        let fields: Vec<String> = (4..53).map(|number: u64| (number * 1000).to_string()).collect();
        let stat = Stat::parse(&format!("77 (a) b (c d) S {}", fields.join(" ")), 4096).unwrap();
        assert_eq!(stat, Stat { started: 22_000.0, virtual_octets: 23_000, resident_octets: 24_000 * 4096 });
        assert_eq!(Stat::parse("77 (a) S 1 2", 4096), None);
    }

    #[test]
    fn drops_are_those_of_the_sockets_that_are_ours() {
        let v4 = "  77: 0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 4242 2 0000000000000000 17";
        assert_eq!(read_socket(v4), Some(("127.0.0.1:5353".parse().unwrap(), 17)));
        let v6 = "  1: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 1 2 0 3";
        assert_eq!(read_socket(v6), Some(("[::1]:53".parse().unwrap(), 3)));
        for line in ["", "sl local_address", "1: 0100007F 2 3"] {
            assert_eq!(read_socket(line), None, "{line}");
        }
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(socket_drops(&[socket.local_addr().unwrap()]), 0);
    }

    #[test]
    fn the_machine_tells_when_it_began() {
        assert_eq!(boot_time("cpu 1 2 3\nbtime 1795393247\nprocesses 9\n"), Some(1_795_393_247.0));
        assert!(boot_time(&std::fs::read_to_string("/proc/stat").unwrap()).is_some());
    }
}
