//! Numbers and addresses as text, without the cost of formatting: the digest of a service has a line per member, and is
//! made anew whenever one of them changes. And times, as people read them.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use super::Wall;

/// Appends a number in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u16) {
    let mut digits = [0; 5];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an address in the form of RFC 5952.
pub fn push_address(out: &mut Vec<u8>, address: &IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (number, octet) in v4.octets().into_iter().enumerate() {
                if number > 0 {
                    out.push(b'.');
                }
                push_number(out, u16::from(octet));
            }
        }
        IpAddr::V6(v6) => push_ipv6(out, v6),
    }
}

fn push_ipv6(out: &mut Vec<u8>, address: &Ipv6Addr) {
    if address.to_ipv4_mapped().is_some() {
        return write!(out, "{address}").expect("writing to memory doesn't fail");
    }
    let groups = address.segments();
    let (start, len) = longest_zeros(&groups);
    for (number, &group) in groups.iter().enumerate() {
        if number == start && len > 0 {
            out.extend_from_slice(b"::");
        }
        if (start..start + len).contains(&number) {
            continue;
        }
        if number > 0 && number != start + len {
            out.push(b':');
        }
        push_hexadecimal(out, group);
    }
}

/// The longest run of two or more groups of zero, the first of those; of length 0 if there is none (RFC 5952 §4.2).
fn longest_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let (mut longest, mut run) = ((8, 0), (0, 0));
    for (number, &group) in groups.iter().enumerate() {
        run = if group == 0 { (run.0, run.1 + 1) } else { (number + 1, 0) };
        if run.1 > longest.1 && run.1 > 1 {
            longest = run;
        }
    }
    longest
}

fn push_hexadecimal(out: &mut Vec<u8>, group: u16) {
    let digits = [group >> 12, group >> 8 & 15, group >> 4 & 15, group & 15];
    let first = digits[..3].iter().position(|digit| *digit != 0).unwrap_or(3);
    out.extend(digits[first..].iter().map(|&digit| b"0123456789abcdef"[usize::from(digit)]));
}

/// A point in time: RFC 3339, UTC, milliseconds. What lies beyond the year 9999 is the epoch's beginning: no clock says so.
pub fn time(at: Wall) -> String {
    /// The last millisecond that the format can say.
    const LAST: u64 = 253_402_300_799_999;
    let at = if at.0 <= LAST { at.0 } else { 0 };
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_they_are_formatted(number in any::<u16>()) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }

        #[test]
        fn addresses_are_written_as_they_are_formatted(
            v4 in any::<[u8; 4]>(),
            groups in prop::array::uniform8(prop_oneof![3 => Just(0u16), 1 => Just(0xffff), 2 => any::<u16>()]),
        ) {
            for address in [IpAddr::from(v4), IpAddr::from(groups)] {
                let mut out = Vec::new();
                push_address(&mut out, &address);
                prop_assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
            }
        }
    }

    #[test]
    fn special_addresses_are_written_as_they_are_formatted() {
        for text in [
            "::",
            "::1",
            "1::",
            "::ffff:192.0.2.1",
            "::192.0.2.1",
            "0:1::",
            "1:0:0:2::",
            "1:2:3:4:5:6:7::",
            "fe80::1:0:0:1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            let mut out = Vec::new();
            push_address(&mut out, &address);
            assert_eq!(String::from_utf8(out).unwrap(), address.to_string(), "{text}");
        }
    }
}
