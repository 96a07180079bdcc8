//! What commands print for people.

use std::fmt::Write;
use std::io::IsTerminal;
use std::net::SocketAddr;

use crate::base::Name;
use crate::server::Server;
use crate::zone::file::record_text;
use crate::zone::{Commit, Record};

/// One line per listener, HTTP included, and zone; on a terminal, two commands to try.
pub fn started(server: &Server) -> String {
    let mut text = String::new();
    for address in server.addresses() {
        line(&mut text, format_args!("listening on {address}, UDP and TCP"));
    }
    for address in server.tls_addresses() {
        line(&mut text, format_args!("listening on {address}, DNS over TLS"));
    }
    if let Some(address) = server.http_address() {
        line(&mut text, format_args!("http on {address}"));
    }
    for zone in server.zones() {
        if let Some(answers) = zone.answers.load().as_deref() {
            let snapshot = answers.snapshot();
            line(
                &mut text,
                format_args!("zone {} with serial {}, {} names", zone.origin, snapshot.epoch.serial(), snapshot.len()),
            );
        } else if zone.source.load().is_some() {
            line(&mut text, format_args!("zone {}, which waits for its primary", zone.origin));
        }
    }
    if std::io::stdout().is_terminal()
        && let (Some(address), Some(zone)) = (server.addresses().first(), server.zones().first())
    {
        let [query, update] = try_these(*address, &zone.origin);
        line(&mut text, format_args!("try:\n  {query}\n  {update}"));
    }
    text
}

/// A query, and a registration for it to show.
pub fn try_these(address: SocketAddr, origin: &Name) -> [String; 2] {
    let (host, port) = (address.ip(), address.port());
    let service = format!("_memcached._tcp.{origin}");
    let member = format!("i-1.memcached.{origin}");
    [
        format!("dig @{host} -p {port} {service} SRV"),
        format!(
            r"printf 'server {host} {port}\nzone {origin}\nupdate add {service} 5 SRV 0 256 11211 {member}\nupdate add {member} 5 A 192.0.2.1\nsend\n' | nsupdate"
        ),
    ]
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string doesn't fail");
}

/// A commit with its delta.
pub fn commit(commit: &Commit) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("epoch {} serial {}: {}", commit.epoch, commit.epoch.serial(), commit.summary()));
    let records = |records: &[Record]| -> Vec<String> { records.iter().map(record_text).collect() };
    delta(&mut text, &records(&commit.delta.removed), &records(&commit.delta.added));
    text
}

/// The records that a commit took away and added, a line each.
pub fn delta(text: &mut String, removed: &[String], added: &[String]) {
    for (sign, records) in [('-', removed), ('+', added)] {
        for record in records {
            line(text, format_args!("  {sign} {record}"));
        }
    }
}
