//! `livezone demo`: the server in a scratch folder, with members that come, flap and return.
//!
//! The members are no shortcut: each sends DNS UPDATE messages to the server's socket, as any registrar would.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, SRV};
use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::base::Name;
use crate::config::{self, Config};
use crate::dns::tsig::Keys;
use crate::server::visible::OnCommit;
use crate::server::{self, Options, StartError, reading};

use super::serve::{
    Error, HttpAddress, LogArgs, Received, Signals, THREAD_PATIENCE, is_terminal, listen_for_http, parse_http, print,
    start,
};
use super::{logging, show};

/// Show the server at work, with simulated members
///
/// Runs in a scratch folder that is removed at the end. Prints each commit: epoch, serial, cause, and the records that went
/// and came.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:\n  livezone demo\n  dig @127.0.0.1 -p 5353 _memcached._tcp.svc.example.test SRV")]
pub struct Args {
    /// Listen here
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    pub listen: SocketAddr,
    /// Serve HTTP here; "" serves none [default: 127.0.0.1:8053, or another port if that one is taken]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_http)]
    pub http: Option<HttpAddress>,
    /// What to log, and how
    #[command(flatten)]
    pub log: LogArgs,
}

const ZONE: &str = include_str!("../../zones/svc.example.test.toml");
const STATICS: &str = include_str!("../../zones/svc.example.test.zone");

/// Serves until SIGTERM or SIGINT.
pub fn run(args: &Args) -> Result<(), Error> {
    // Commits are printed; the log tells the rest.
    logging::init(Some(args.log.log.as_deref().unwrap_or("warn")), args.log.log_format)?;
    let scratch = tempfile::Builder::new().prefix("livezone-demo-").tempdir()?;
    std::fs::write(scratch.path().join("svc.example.test.toml"), ZONE)?;
    std::fs::write(scratch.path().join("svc.example.test.zone"), STATICS)?;
    let mut config: Config = config::load(None)?;
    config.data_dir = scratch.path().join("data");
    config.zones_dir = scratch.path().to_owned();
    config.dns.listen = vec![args.listen];
    listen_for_http(&mut config, args.http)?;
    let zones = config::load_zones(&config.zones_dir, &Keys::default())?;
    let zones = zones.into_iter().map(reading::read_zone).collect::<Result<Vec<_>, _>>()?;
    let on_commit: OnCommit = Arc::new(|_: &Name, commit: &crate::zone::Commit| {
        // A reader that went away doesn't stop the demo.
        let _ = print(&show::commit(commit));
    });
    let options = |config| Options {
        config,
        zones: zones.clone(),
        source: None,
        epoch: None,
        on_commit: Some(on_commit.clone()),
    };
    let runtime = server::runtime()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let started = match start(options(config.clone()), &mut signals).await {
            Err(Error::Start(StartError::ListenHttp { address, cause })) if args.http.is_none() => {
                print(&format!("{address} can't be had for HTTP ({cause}): another port is taken\n"))?;
                config.http.listen = Some(SocketAddr::new(address.ip(), 0));
                start(options(config), &mut signals).await
            }
            started => started,
        };
        let Some(server) = started? else { return Ok(()) };
        print(&show::started(&server))?;
        let address = server.addresses()[0];
        if !is_terminal() {
            print(&format!("try: {}\n", show::try_these(address, &server.zones()[0].origin)[0]))?;
        }
        let members: Vec<_> = cast().into_iter().map(|member| tokio::spawn(member.play(address))).collect();
        // There is nothing to reload.
        while matches!(signals.next().await, Received::Reload) {}
        for member in members {
            member.abort();
        }
        server.stop().await;
        Ok(())
    });
    runtime.shutdown_timeout(THREAD_PATIENCE);
    result
}

/// A simulated member: it comes after a while, renews its lease for some time, falls silent, and returns.
#[derive(Clone, Debug)]
struct Simulated {
    service: &'static str,
    host: String,
    port: u16,
    address: Ipv4Addr,
    /// Before it comes, in seconds.
    delay: u64,
    /// How long it is there and how long away, in seconds; it says goodbye every second time.
    up: u64,
    away: u64,
}

/// Who takes part: steady members, and some that come and go.
fn cast() -> Vec<Simulated> {
    let member = |service, label: &str, number: u8, port, (delay, up, away)| Simulated {
        service,
        host: format!("i-{number}.{label}"),
        port,
        address: Ipv4Addr::new(192, 0, 2, number),
        delay,
        up,
        away,
    };
    const STEADY: u64 = 1_000_000;
    vec![
        member("_memcached._tcp", "memcached", 1, 11211, (0, STEADY, 1)),
        member("_memcached._tcp", "memcached", 2, 11211, (1, STEADY, 1)),
        member("_memcached._tcp", "memcached", 3, 11211, (3, 9, 4)),
        member("_memcached._tcp", "memcached", 4, 11211, (7, 25, 11)),
        member("_www._tcp", "www", 10, 80, (2, STEADY, 1)),
        member("_www._tcp", "www", 11, 80, (5, 14, 8)),
    ]
}

/// The lease that the members ask for, in seconds, and how often they renew it.
const LEASE: u32 = 5;
const HEARTBEAT: Duration = Duration::from_millis(1600);

impl Simulated {
    async fn play(self, server: SocketAddr) {
        let seconds = Duration::from_secs;
        tokio::time::sleep(seconds(self.delay)).await;
        for round in 0u64.. {
            let until = tokio::time::Instant::now() + seconds(self.up);
            while tokio::time::Instant::now() < until {
                self.send(server, LEASE).await;
                tokio::time::sleep(HEARTBEAT).await;
            }
            if round % 2 == 1 {
                self.send(server, 0).await;
            }
            tokio::time::sleep(seconds(self.away)).await;
        }
    }

    /// Sends one update; a lease of 0 withdraws. What isn't answered within a second is sent again, twice.
    async fn send(&self, server: SocketAddr, lease: u32) {
        let attempt = async {
            let socket = UdpSocket::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0)).await?;
            socket.connect(server).await?;
            let message = self.message(lease).and_then(|message| message.to_vec());
            let message = message.map_err(std::io::Error::other)?;
            let mut answer = [0; 512];
            for _ in 0..3 {
                socket.send(&message).await?;
                if let Ok(received) = timeout(Duration::from_secs(1), socket.recv(&mut answer)).await {
                    received?;
                    break;
                }
            }
            Ok::<(), std::io::Error>(())
        };
        if let Err(error) = attempt.await {
            tracing::warn!(%error, host = self.host, "a simulated member can't reach the server");
        }
    }

    /// The registration: an SRV record and the target's address, with the Update Lease option (RFC 9664).
    fn message(&self, lease: u32) -> Result<Message, hickory_proto::ProtoError> {
        let zone = WireName::from_ascii("svc.example.test.")?;
        let service = WireName::from_ascii(self.service)?.append_domain(&zone)?;
        let host = WireName::from_ascii(&self.host)?.append_domain(&zone)?;
        let mut message = Message::new(0, MessageType::Query, OpCode::Update);
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|error| hickory_proto::ProtoError::from(error.to_string()))?;
        message.metadata.id = u16::from_ne_bytes(id);
        let mut section = Query::query(zone, RecordType::SOA);
        section.set_query_class(DNSClass::IN);
        message.add_query(section);
        message.add_authority(Record::from_rdata(service, 5, RData::SRV(SRV::new(0, 256, self.port, host.clone()))));
        message.add_authority(Record::from_rdata(host, 5, RData::A(A(self.address))));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut().insert(EdnsOption::Unknown(u16::from(EdnsCode::UL), lease.to_be_bytes().to_vec()));
        message.set_edns(edns);
        Ok(message)
    }
}
