//! EDNS (RFC 6891): what the other side's OPT record says, and ours.

use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::UDP_OCTETS;

use super::cookie::COOKIE_OCTETS;
use super::wire::{Malformed, Rcode};

/// Update Lease (RFC 9664).
pub const OPTION_UPDATE_LEASE: u16 = 2;
/// Name server identifier (RFC 5001).
pub const OPTION_NSID: u16 = 3;
/// How long a copy of a zone is still good (RFC 7314).
pub const OPTION_EXPIRE: u16 = 9;
/// What proves that a client is where its address says (RFC 7873).
pub const OPTION_COOKIE: u16 = 10;
/// How long a connection may be idle (RFC 7828).
pub const OPTION_TCP_KEEPALIVE: u16 = 11;
/// Extended DNS Error (RFC 8914).
pub const OPTION_EDE: u16 = 15;

/// The other side's OPT record.
#[derive(Clone, Copy, Debug)]
pub struct Edns<'m> {
    /// The largest UDP payload that it can take.
    pub size: u16,
    /// The upper eight bits of the rcode (RFC 6891 §6.1.3).
    pub extended_rcode: u8,
    /// The EDNS version; we speak 0.
    pub version: u8,
    /// DNSSEC OK, which is copied into the answer (RFC 3225 §3).
    pub dnssec_ok: bool,
    /// Update Lease: the lease, and the key lease if the long form was used.
    pub lease: Option<(u32, Option<u32>)>,
    /// Whether the client wants to know which server answers (RFC 5001 §2.1).
    pub nsid: bool,
    /// The keepalive option's data: a client has nothing to say there.
    pub keepalive: Option<&'m [u8]>,
    /// The expire option's data: none in a query, four octets in a response.
    pub expire: Option<&'m [u8]>,
    /// The cookie option's data, of the first if there are several (RFC 7873 §5.2); unchecked.
    pub cookie: Option<&'m [u8]>,
    options: &'m [u8],
}

impl<'m> Edns<'m> {
    /// Reads the fields of an OPT record.
    pub fn read(class: u16, ttl: u32, options: &'m [u8]) -> Result<Edns<'m>, Malformed> {
        let [extended_rcode, version, flags, _] = ttl.to_be_bytes();
        let mut edns = Edns {
            size: class,
            extended_rcode,
            version,
            dnssec_ok: flags & 0x80 != 0,
            lease: None,
            nsid: false,
            keepalive: None,
            expire: None,
            cookie: None,
            options,
        };
        let mut rest = options;
        while !rest.is_empty() {
            let (code, data, tail) = read_option(rest).ok_or(Malformed("an EDNS option ends early"))?;
            // Options that we don't know are ignored (RFC 6891 §6.1.2).
            if code == OPTION_UPDATE_LEASE {
                if edns.lease.is_some() {
                    return Err(Malformed("two Update Lease options"));
                }
                edns.lease = Some(read_lease(data)?);
            } else if code == OPTION_TCP_KEEPALIVE {
                edns.keepalive = Some(data);
            } else if code == OPTION_EXPIRE {
                edns.expire = Some(data);
            } else if code == OPTION_COOKIE {
                edns.cookie = edns.cookie.or(Some(data));
            }
            edns.nsid |= code == OPTION_NSID;
            rest = tail;
        }
        Ok(edns)
    }

    /// What the other side says of an error, the first if it says several things (RFC 8914 §2). The text is clipped.
    pub fn extended_error(&self) -> Option<ExtendedError> {
        let mut rest = self.options;
        while let Some((code, data, tail)) = read_option(rest) {
            if let (OPTION_EDE, Some((info, text))) = (code, data.split_first_chunk::<2>()) {
                // The text may end with a zero octet, which is none of it (RFC 8914 §2).
                let text = String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text));
                return Some(ExtendedError::new(u16::from_be_bytes(*info), clip(&text)));
            }
            rest = tail;
        }
        None
    }

    /// The options as they were sent.
    pub fn options(&self) -> &'m [u8] {
        self.options
    }
}

impl Edns<'_> {
    /// For how long whoever answers has the zone as good, if it says so (RFC 7314 §3).
    pub fn expires_in(&self) -> Option<Duration> {
        let seconds: [u8; 4] = self.expire?.try_into().ok()?;
        Some(Duration::from_secs(u32::from_be_bytes(seconds).into()))
    }
}

/// Appends an OPT record to a query that asks for how long the zone is good (RFC 7314 §3.1), and counts it.
pub fn ask_for_expire(message: &mut Vec<u8>) {
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&UDP_OCTETS.to_be_bytes());
    message.extend_from_slice(&[0, 0, 0, 0, 0, 4]);
    for word in [OPTION_EXPIRE, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    let additional = u16::from_be_bytes([message[10], message[11]]) + 1;
    message[10..12].copy_from_slice(&additional.to_be_bytes());
}

fn read_option(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = octets.split_at_checked(4)?;
    let (data, tail) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
    Some((u16::from_be_bytes([head[0], head[1]]), data, tail))
}

/// Both forms of the option: 4 octets, or 8 with KEY-LEASE (RFC 9664 §4).
fn read_lease(data: &[u8]) -> Result<(u32, Option<u32>), Malformed> {
    let number = |at: usize| u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    match data.len() {
        4 => Ok((number(0), None)),
        8 => Ok((number(0), Some(number(4)))),
        _ => Err(Malformed("an Update Lease option has neither 4 nor 8 octets")),
    }
}

/// An Extended DNS Error: the code and a text for people (RFC 8914).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtendedError {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT.
    pub text: String,
}

#[expect(missing_docs, reason = "each constant is the name of the IANA registry")]
impl ExtendedError {
    pub const OTHER: u16 = 0;
    pub const NOT_READY: u16 = 14;
    pub const PROHIBITED: u16 = 18;
    pub const NOT_AUTHORITATIVE: u16 = 20;
    pub const NOT_SUPPORTED: u16 = 21;
    pub const INVALID_DATA: u16 = 24;

    pub fn new(code: u16, text: impl Into<String>) -> ExtendedError {
        ExtendedError { code, text: text.into() }
    }
}

/// Our OPT record.
#[derive(Clone, Debug, Default)]
pub struct EdnsReply {
    /// The largest UDP payload that we take.
    pub size: u16,
    /// Copied from the client.
    pub dnssec_ok: bool,
    /// What went wrong, for people.
    pub error: Option<ExtendedError>,
    /// Which server this is, if the client asked.
    pub nsid: Option<Arc<[u8]>>,
    /// What an update was granted, in the form in which it was asked for.
    pub lease: Option<(u32, Option<u32>)>,
    /// How long the connection may be idle, in units of 100 ms (RFC 7828 §3.1).
    pub keepalive: Option<u16>,
    /// For how many seconds the zone is good, if the client asked (RFC 7314 §3).
    pub expire: Option<u32>,
    /// The cookie of client and server, if the client sent one (RFC 7873 §5.2).
    pub cookie: Option<[u8; COOKIE_OCTETS]>,
}

/// Octets of an OPT record without options.
pub(super) const BARE: usize = 11;
/// The longest text of an Extended DNS Error that we send, since it must fit beside everything else in 512 octets; and that
/// we take.
const ERROR_TEXT: usize = 200;

impl EdnsReply {
    /// How many octets the record takes.
    pub fn len(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |error| 6 + clip(&error.text).len());
        let lease = self.lease.map_or(0, |(_, key)| if key.is_some() { 12 } else { 8 });
        let nsid = self.nsid.as_ref().map_or(0, |nsid| 4 + nsid.len());
        let keepalive = if self.keepalive.is_some() { 6 } else { 0 };
        let expire = if self.expire.is_some() { 8 } else { 0 };
        let cookie = if self.cookie.is_some() { 4 + COOKIE_OCTETS } else { 0 };
        BARE + cookie + error + lease + nsid + keepalive + expire
    }

    /// Always false: even an OPT record without options has octets.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Appends the record; the upper bits of the rcode go into it.
    pub fn write(&self, rcode: Rcode, out: &mut Vec<u8>) {
        let extended = u8::try_from(rcode.0 >> 4 & 0xff).expect("masked to 8 bits");
        out.extend_from_slice(&[0, 0, 41]);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&[extended, 0, if self.dnssec_ok { 0x80 } else { 0 }, 0]);
        let length = u16::try_from(self.len() - BARE).expect("a few short options");
        out.extend_from_slice(&length.to_be_bytes());
        // First, since it is the only one in most replies.
        if let Some(cookie) = &self.cookie {
            out.extend_from_slice(&OPTION_COOKIE.to_be_bytes());
            out.extend_from_slice(&u16::try_from(COOKIE_OCTETS).expect("24").to_be_bytes());
            out.extend_from_slice(cookie);
        }
        if let Some((lease, key_lease)) = self.lease {
            let len: u16 = if key_lease.is_some() { 8 } else { 4 };
            out.extend_from_slice(&OPTION_UPDATE_LEASE.to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&lease.to_be_bytes());
            out.extend(key_lease.into_iter().flat_map(u32::to_be_bytes));
        }
        if let Some(nsid) = &self.nsid {
            out.extend_from_slice(&OPTION_NSID.to_be_bytes());
            out.extend_from_slice(&u16::try_from(nsid.len()).expect("bounded where it is made").to_be_bytes());
            out.extend_from_slice(nsid);
        }
        if let Some(timeout) = self.keepalive {
            for word in [OPTION_TCP_KEEPALIVE, 2, timeout] {
                out.extend_from_slice(&word.to_be_bytes());
            }
        }
        if let Some(seconds) = self.expire {
            for word in [OPTION_EXPIRE, 4] {
                out.extend_from_slice(&word.to_be_bytes());
            }
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        if let Some(error) = &self.error {
            let text = clip(&error.text);
            out.extend_from_slice(&OPTION_EDE.to_be_bytes());
            out.extend_from_slice(&u16::try_from(2 + text.len()).expect("clipped").to_be_bytes());
            out.extend_from_slice(&error.code.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(ERROR_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
