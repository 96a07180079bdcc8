//! TXT records: the state of a service, the mark of a known service at its host name, and members' metadata.
//!
//! The TXT at the SRV owner lets clients that hash over the list check that they share one: `epoch=` of the service's
//! last change, `members=`, and `digest=`, the first 16 hex digits of SHA-256 over one line per SRV record,
//! `priority weight port target address,address`, numbers in decimal, the target with its final dot, IPv4 before IPv6, each
//! ascending in RFC 5952 text, the lines sorted as octets. A target without addresses in the zone ends its line after the
//! space.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::base::{Epoch, Name, text};
use crate::zone::rrset::Rdata;

/// What clients can compare of a service: changes exactly when its published list does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fingerprint {
    /// Published members; static SRV records don't count.
    pub members: usize,
    /// The first half of the digest's 16 octets that are shown: 8 octets, 16 hex digits.
    pub digest: [u8; 8],
    /// How many slots there are; none: the service has none.
    pub slots: Option<u32>,
    /// Whether a member is held.
    pub hold: bool,
}

/// The lines of a digest, one behind the other.
#[derive(Debug, Default)]
pub struct Lines {
    octets: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Lines {
    /// Adds the line of one SRV record; its target's addresses may come in any order.
    pub fn push(&mut self, priority: u16, weight: u16, port: u16, target: &Name, addresses: &[IpAddr]) {
        let start = self.octets.len();
        for number in [priority, weight, port] {
            text::push_number(&mut self.octets, number);
            self.octets.push(b' ');
        }
        target.push_text(&mut self.octets);
        self.octets.push(b' ');
        match addresses {
            // Already in order.
            [address] => text::push_address(&mut self.octets, address),
            [v4 @ IpAddr::V4(_), v6 @ IpAddr::V6(_)] => {
                text::push_address(&mut self.octets, v4);
                self.octets.push(b',');
                text::push_address(&mut self.octets, v6);
            }
            addresses => self.push_sorted(addresses),
        }
        self.octets.push(b'\n');
        self.places.push(start..self.octets.len());
    }

    fn push_sorted(&mut self, addresses: &[IpAddr]) {
        let mut texts: Vec<(bool, String)> =
            addresses.iter().map(|address| (address.is_ipv6(), address.to_string())).collect();
        texts.sort();
        texts.dedup();
        for (number, (_, text)) in texts.iter().enumerate() {
            self.octets.extend_from_slice(if number == 0 { b"" } else { b"," });
            self.octets.extend_from_slice(text.as_bytes());
        }
    }

    /// The fingerprint over the lines, in whatever order they came.
    pub fn fingerprint(self, members: usize) -> Fingerprint {
        let mut lines: Vec<&[u8]> = self.places.into_iter().map(|place| &self.octets[place]).collect();
        lines.sort_unstable();
        lines.dedup();
        let mut hasher = Sha256::new();
        lines.iter().for_each(|line| hasher.update(line));
        let mut digest = [0; 8];
        digest.copy_from_slice(&hasher.finalize()[..8]);
        Fingerprint { members, digest, ..Fingerprint::default() }
    }
}

/// Octets of the data of [`service_rdata`] at most: five strings with their lengths, the numbers of 64 bits but for that of
/// slots, which has 32.
pub const SERVICE_OCTETS: usize = 1 + 6 + 20 + 1 + 8 + 20 + 1 + 7 + 16 + 1 + 6 + 10 + 1 + 6;

/// The TXT at the SRV owner.
pub fn service_rdata(epoch: Epoch, fingerprint: &Fingerprint) -> Rdata {
    let mut digest = String::with_capacity(16);
    for octet in fingerprint.digest {
        write!(digest, "{octet:02x}").expect("writing to a string doesn't fail");
    }
    let mut texts =
        vec![format!("epoch={epoch}"), format!("members={}", fingerprint.members), format!("digest={digest}")];
    texts.extend(fingerprint.slots.map(|slots| format!("slots={slots}")));
    texts.extend(fingerprint.hold.then(|| "hold=1".to_owned()));
    strings(&texts)
}

/// What the TXT at an SRV owner says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceText {
    /// The epoch of the service's last change.
    pub epoch: Epoch,
    /// Published members.
    pub members: usize,
    /// The digest, in hexadecimal digits.
    pub digest: String,
    /// How many slots there are, if it has some.
    pub slots: Option<u32>,
    /// Whether a member is held.
    pub hold: bool,
}

/// Reads what [`service_rdata`] writes; none of any other text.
pub fn read_service(rdata: &[u8]) -> Option<ServiceText> {
    let mut strings = strings_in(rdata).map(|string| std::str::from_utf8(string).ok());
    let mut value = |key: &str| strings.next()??.strip_prefix(key)?.strip_prefix('=');
    let (epoch, members, digest) = (value("epoch")?, value("members")?, value("digest")?);
    let (mut slots, mut hold) = (None, false);
    for string in strings.flatten() {
        match string.split_once('=') {
            Some(("slots", count)) => slots = count.parse().ok(),
            Some(("hold", mark)) => hold = mark == "1",
            _ => {}
        }
    }
    Some(ServiceText {
        epoch: Epoch(epoch.parse().ok()?),
        members: members.parse().ok()?,
        digest: digest.to_owned(),
        slots,
        hold,
    })
}

/// The TXT at the host name of a known service without addresses: keeps the name from being NXDOMAIN, also on stock
/// secondaries. Names the service below the origin (`service=_memcached._tcp`).
pub fn host_rdata(service: &Name, origin: &Name) -> Rdata {
    let below = service.labels().count().saturating_sub(origin.labels().count());
    let labels: Vec<_> = service.labels().take(below).map(String::from_utf8_lossy).collect();
    strings(&[format!("service={}", labels.join(".")).as_bytes()])
}

/// Metadata as TXT data; a member without any has one empty string (RFC 6763 §6.1).
pub fn metadata_rdata(metadata: &[Box<[u8]>]) -> Rdata {
    if metadata.is_empty() { strings(&[b""]) } else { strings(metadata) }
}

/// The character strings in TXT data; the single empty one stands for none.
pub fn metadata(rdata: &[u8]) -> Box<[Box<[u8]>]> {
    let mut strings: Vec<Box<[u8]>> = strings_in(rdata).map(Into::into).collect();
    if strings.len() == 1 && strings[0].is_empty() {
        strings.clear();
    }
    strings.into()
}

/// The character strings in TXT data as they stand.
pub fn strings_in(mut rdata: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, tail) = rdata.split_first()?;
        let (string, tail) = tail.split_at(usize::from(len).min(tail.len()));
        rdata = tail;
        Some(string)
    })
}

/// Character strings one after the other (RFC 1035 §3.3.14); longer ones are cut at 255 octets.
fn strings<S: AsRef<[u8]>>(texts: &[S]) -> Rdata {
    let mut rdata = Vec::new();
    for text in texts {
        let text = text.as_ref();
        let len = text.len().min(255);
        rdata.push(u8::try_from(len).expect("at most 255"));
        rdata.extend_from_slice(&text[..len]);
    }
    rdata.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_documented_lines() {
        let target = |text: &str| text.parse::<Name>().unwrap();
        let mut lines = Lines::default();
        let addresses = ["fd00::1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        lines.push(0, 256, 11211, &target("I-1.memcached.z."), &addresses);
        lines.push(0, 256, 11211, &target("elsewhere."), &[]);
        assert_eq!(
            String::from_utf8_lossy(&lines.octets),
            "0 256 11211 i-1.memcached.z. 10.0.0.2,fd00::1\n0 256 11211 elsewhere. \n"
        );
        // printf '0 256 11211 elsewhere. \n0 256 11211 i-1.memcached.z. 10.0.0.2,fd00::1\n' | sha256sum | cut -c1-16
        let print = lines.fingerprint(2);
        let rdata = service_rdata(Epoch(7), &print);
        assert_eq!(
            metadata(&rdata).iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>(),
            ["epoch=7", "members=2", "digest=3723b842fd6bc478"]
        );
        let digest = "3723b842fd6bc478".to_owned();
        let read = ServiceText { epoch: Epoch(7), members: 2, digest, slots: None, hold: false };
        assert_eq!(read_service(&rdata), Some(read));
        for other in [&b""[..], b"\0", b"\x07epoch=7", b"\x07epoch=x\x09members=2\x08digest=0"] {
            assert_eq!(read_service(other), None);
        }
    }

    #[test]
    fn slots_and_a_hold_follow_in_this_order() {
        let print = Fingerprint { members: 1, slots: Some(3), hold: true, ..Fingerprint::default() };
        let rdata = service_rdata(Epoch(7), &print);
        let texts: Vec<_> = strings_in(&rdata).map(String::from_utf8_lossy).collect();
        assert_eq!(texts, ["epoch=7", "members=1", "digest=0000000000000000", "slots=3", "hold=1"]);
        let read = read_service(&rdata).unwrap();
        assert_eq!((read.slots, read.hold), (Some(3), true));
    }

    #[test]
    fn no_epoch_and_no_count_makes_more_octets_than_are_reckoned_with() {
        let largest = Fingerprint { members: usize::MAX, digest: [255; 8], slots: Some(u32::MAX), hold: true };
        assert_eq!(service_rdata(Epoch(u64::MAX), &largest).len(), SERVICE_OCTETS);
    }

    #[test]
    fn ipv4_comes_before_ipv6_each_ascending_as_text() {
        let addresses: Vec<IpAddr> =
            ["10.0.0.9", "fd00::2", "10.0.0.10", "::1"].map(|text| text.parse().unwrap()).into();
        for (addresses, text) in [
            (&addresses[..], "10.0.0.10,10.0.0.9,::1,fd00::2"),
            (&addresses[..2], "10.0.0.9,fd00::2"),
            (&addresses[1..3], "10.0.0.10,fd00::2"),
            (&addresses[1..2], "fd00::2"),
        ] {
            let mut lines = Lines::default();
            lines.push(1, 2, 3, &"t.".parse().unwrap(), addresses);
            assert_eq!(String::from_utf8_lossy(&lines.octets), format!("1 2 3 t. {text}\n"));
        }
    }

    #[test]
    fn metadata_reads_back() {
        let pairs: Box<[Box<[u8]>]> = vec![b"az=a".as_slice().into(), b"v=1".as_slice().into()].into();
        assert_eq!(metadata(&metadata_rdata(&pairs)), pairs);
        assert_eq!(&*metadata_rdata(&[]), &[0]);
        assert!(metadata(&[0]).is_empty());
    }
}
