//! The parameters of SVCB and HTTPS records (RFC 9460 §2.1, §7 and appendix A).
//!
//! On the wire: per parameter its key, the length of its value and the value, by ascending key, no key twice. In text:
//! `key`, `key=value` or `key="value"` in any order. A value is unescaped as a character string first; lists are then
//! split at commas, where a backslash makes a comma or a backslash part of an item (appendix A.1). Keys that have no
//! name here, and those whose names readers of today don't share, are written `keyN`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::item::{Cursor, take};
use super::token::{quote, unescape};
use super::{Cause, TextError, Unshown};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
const DOHPATH: u16 = 7; // RFC 9461 §5
const OHTTP: u16 = 8; // RFC 9540 §4
/// "Invalid key" of the IANA registry.
const INVALID: u16 = 65_535;

const NAMES: [(&str, u16); 9] = [
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4_HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6_HINT),
    ("dohpath", DOHPATH),
    ("ohttp", OHTTP),
];

/// Keys up to this one are written by their names: those of RFC 9460, which every reader of SVCB knows.
const LAST_NAMED: u16 = IPV6_HINT;

/// Reads the words that are left and appends the parameters.
pub(super) fn read(cursor: &mut Cursor<'_, '_>, out: &mut Vec<u8>) -> Result<(), TextError> {
    let mut parameters = BTreeMap::new();
    let mut last = None;
    while !cursor.is_at_end() {
        let token = cursor.word("parameter")?;
        let (key, value) = parameter(token.text).map_err(|cause| cause.at(token))?;
        if parameters.insert(key, value).is_some() {
            return Err(Cause::Parameter("a key stands twice").at(token));
        }
        last = Some(token);
    }
    if let Some(token) = last {
        consistent(&parameters).map_err(|reason| Cause::Parameter(reason).at(token))?;
    }
    for (key, value) in parameters {
        out.extend_from_slice(&key.to_be_bytes());
        let len = u16::try_from(value.len()).expect("checked when it was read");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&value);
    }
    Ok(())
}

fn parameter(text: &str) -> Result<(u16, Vec<u8>), Cause> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let key = key(name).ok_or(Cause::Parameter("a key is one of the registered names, such as alpn, or keyN"))?;
    let value = value.unwrap_or("");
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let value = unescape(value)?;
    // RFC 9460 §2.1: behind `keyN`, the value is what goes on the wire.
    let wire = if name.starts_with("key") { value } else { encode(key, &value).map_err(Cause::Parameter)? };
    if wire.len() > usize::from(u16::MAX) {
        return Err(Cause::TooLong);
    }
    check(key, &wire).map_err(Cause::Parameter)?;
    Ok((key, wire))
}

fn key(name: &str) -> Option<u16> {
    if let Some(&(_, key)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(key);
    }
    // Without leading zeros (RFC 9460 §2.1).
    let digits = name.strip_prefix("key")?;
    let key: u16 = digits.parse().ok().filter(|&key| key != INVALID)?;
    (key.to_string() == digits).then_some(key)
}

/// Makes the unescaped value of a named key into its wire form.
fn encode(key: u16, value: &[u8]) -> Result<Vec<u8>, &'static str> {
    let text = str::from_utf8(value).map_err(|_| "this value must be ASCII");
    match key {
        MANDATORY => {
            let keys: Option<Vec<u16>> = text?.split(',').map(self::key).collect();
            let mut keys = keys.ok_or("mandatory is a list of keys with commas between them")?;
            keys.sort_unstable();
            Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        ALPN => {
            let mut wire = Vec::with_capacity(value.len() + 1);
            for id in split_list(value)? {
                wire.push(u8::try_from(id.len()).map_err(|_| "an ALPN id is at most 255 octets long")?);
                wire.extend_from_slice(&id);
            }
            Ok(wire)
        }
        PORT => {
            let text = text?;
            let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
            let port: Option<u16> = digits.and_then(|digits| digits.parse().ok());
            Ok(port.ok_or("port is a number from 0 to 65535")?.to_be_bytes().to_vec())
        }
        IPV4_HINT => {
            let addresses: Result<Vec<Ipv4Addr>, _> = text?.split(',').map(str::parse).collect();
            let addresses = addresses.map_err(|_| "ipv4hint is a list of IPv4 addresses with commas between them")?;
            Ok(addresses.iter().flat_map(Ipv4Addr::octets).collect())
        }
        IPV6_HINT => {
            let addresses: Result<Vec<Ipv6Addr>, _> = text?.split(',').map(str::parse).collect();
            let addresses = addresses.map_err(|_| "ipv6hint is a list of IPv6 addresses with commas between them")?;
            Ok(addresses.iter().flat_map(Ipv6Addr::octets).collect())
        }
        ECH => STANDARD.decode(value).map_err(|_| "ech must be base64, with its padding"),
        _ => Ok(value.to_vec()),
    }
}

/// RFC 9460 appendix A.1.
fn split_list(value: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut items = vec![Vec::new()];
    let mut octets = value.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b',' => items.push(Vec::new()),
            other => {
                let literal = match other {
                    b'\\' => match octets.next() {
                        Some(&escaped @ (b',' | b'\\')) => escaped,
                        _ => return Err("in a list, a backslash stands before a comma or a backslash only"),
                    },
                    other => other,
                };
                items.last_mut().expect("starts with one").push(literal);
            }
        }
    }
    Ok(items)
}

/// The rules of one value on the wire.
fn check(key: u16, value: &[u8]) -> Result<(), &'static str> {
    let whole = |size: usize| !value.is_empty() && value.len().is_multiple_of(size);
    match key {
        MANDATORY => {
            let keys: Vec<&[u8]> = value.chunks(2).collect();
            let ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
            let sound = whole(2) && ascending && keys[0] != MANDATORY.to_be_bytes();
            sound.then_some(()).ok_or("mandatory names at least one key, none twice, and not itself")
        }
        ALPN => alpn_ids(value).map(|_| ()).ok_or("alpn has at least one id, and none is empty"),
        NO_DEFAULT_ALPN | OHTTP => value.is_empty().then_some(()).ok_or("no-default-alpn and ohttp have no value"),
        PORT => (value.len() == 2).then_some(()).ok_or("port has two octets"),
        IPV4_HINT => whole(4).then_some(()).ok_or("ipv4hint has at least one address of four octets"),
        IPV6_HINT => whole(16).then_some(()).ok_or("ipv6hint has at least one address of sixteen octets"),
        ECH => (!value.is_empty()).then_some(()).ok_or("ech has a value"),
        DOHPATH => str::from_utf8(value).map(|_| ()).map_err(|_| "dohpath is UTF-8"),
        INVALID => Err("65535 is no key"),
        _ => Ok(()),
    }
}

fn alpn_ids(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut ids = Vec::new();
    let mut rest = value;
    while let Some((&len, tail)) = rest.split_first() {
        let (id, tail) = tail.split_at_checked(usize::from(len))?;
        if id.is_empty() {
            return None;
        }
        ids.push(id);
        rest = tail;
    }
    (!ids.is_empty()).then_some(ids)
}

/// The rules between parameters (RFC 9460 §2.4.3 with §8, and §7.1.1).
fn consistent<V: AsRef<[u8]>>(parameters: &BTreeMap<u16, V>) -> Result<(), &'static str> {
    let mandatory = parameters.get(&MANDATORY).map_or(&[][..], AsRef::as_ref);
    if mandatory.chunks_exact(2).any(|key| !parameters.contains_key(&u16::from_be_bytes([key[0], key[1]]))) {
        return Err("a key that mandatory names is not there");
    }
    if parameters.contains_key(&NO_DEFAULT_ALPN) && !parameters.contains_key(&ALPN) {
        return Err("no-default-alpn needs alpn beside it");
    }
    Ok(())
}

/// Takes all that is left and appends its text.
pub(super) fn show(rest: &mut &[u8], text: &mut String) -> Result<(), Unshown> {
    let mut parameters = BTreeMap::new();
    let number = |octets: &[u8]| u16::from_be_bytes([octets[0], octets[1]]);
    while !rest.is_empty() {
        let key = number(take(rest, 2)?);
        let len = number(take(rest, 2)?);
        let value = take(rest, usize::from(len))?;
        if parameters.last_key_value().is_some_and(|(&previous, _)| key <= previous) || check(key, value).is_err() {
            return Err(Unshown::Malformed);
        }
        parameters.insert(key, value);
    }
    consistent(&parameters).map_err(|_| Unshown::Malformed)?;
    for (at, (&key, value)) in parameters.iter().enumerate() {
        if at > 0 {
            text.push(' ');
        }
        push_key(key, text);
        if !value.is_empty() {
            text.push('=');
            quote(&decode(key, value), text);
        }
    }
    Ok(())
}

fn push_key(key: u16, text: &mut String) {
    match NAMES.get(usize::from(key)) {
        Some((name, _)) if key <= LAST_NAMED => text.push_str(name),
        _ => write!(text, "key{key}").expect("a String takes whatever is written"),
    }
}

/// The value as it stands in text, before character-string escapes.
fn decode(key: u16, value: &[u8]) -> Vec<u8> {
    let list = |items: Vec<String>| items.join(",").into_bytes();
    match key {
        MANDATORY => list(
            value
                .chunks_exact(2)
                .map(|key| {
                    let mut text = String::new();
                    push_key(u16::from_be_bytes([key[0], key[1]]), &mut text);
                    text
                })
                .collect(),
        ),
        ALPN => {
            let mut text = Vec::new();
            for (at, id) in alpn_ids(value).unwrap_or_default().into_iter().enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                for &octet in id {
                    if matches!(octet, b',' | b'\\') {
                        text.push(b'\\');
                    }
                    text.push(octet);
                }
            }
            text
        }
        PORT => list(value.chunks_exact(2).map(|port| u16::from_be_bytes([port[0], port[1]]).to_string()).collect()),
        IPV4_HINT => {
            list(value.as_chunks().0.iter().map(|&octets: &[u8; 4]| Ipv4Addr::from(octets).to_string()).collect())
        }
        IPV6_HINT => {
            list(value.as_chunks().0.iter().map(|&octets: &[u8; 16]| Ipv6Addr::from(octets).to_string()).collect())
        }
        ECH => STANDARD.encode(value).into_bytes(),
        _ => value.to_vec(),
    }
}
