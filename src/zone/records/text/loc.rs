//! The text of LOC records: a place on earth (RFC 1876).
//!
//! `d1 [m1 [s1]] N|S d2 [m2 [s2]] E|W alt[m] [size[m] [horizontal[m] [vertical[m]]]]`. On the wire: version 0, three
//! sizes of one octet each (a digit and a power of ten, in centimetres), latitude and longitude in thousandths of an
//! arc second from 2^31, altitude in centimetres from 100,000 m below the ellipsoid. Numbers are read as decimal
//! digits, never as floating point, so that they read back exactly.

use std::fmt::Write as _;

use super::item::{Cursor, take};
use super::token::Token;
use super::{Cause, TextError, Unshown};

/// Of latitude and longitude: the equator and the prime meridian.
const MIDDLE: u32 = 1 << 31;
/// Thousandths of an arc second in a degree.
const DEGREE: u32 = 3_600_000;
/// Centimetres from the lowest altitude up to the ellipsoid.
const GROUND: u64 = 10_000_000;
/// The sizes that stand for those left out (RFC 1876 §3): 1 m, 10 km, 10 m.
const DEFAULT_SIZES: [u8; 3] = [0x12, 0x16, 0x13];

const COORDINATE: &str = "a coordinate is degrees, then perhaps minutes and seconds, then N, S, E or W";
const ALTITUDE: &str = "the altitude must be metres from -100000.00 to 42849672.95";
const SIZE: &str = "a size must be metres from 0 to 90000000.00";

/// Reads the words of a location and appends its 16 octets.
pub(super) fn read(cursor: &mut Cursor<'_, '_>, out: &mut Vec<u8>) -> Result<(), TextError> {
    let latitude = coordinate(cursor, "latitude", 90, ["N", "S"])?;
    let longitude = coordinate(cursor, "longitude", 180, ["E", "W"])?;
    let token = cursor.word("altitude")?;
    let altitude = altitude(token.text).ok_or(Cause::Location(ALTITUDE).at(token))?;
    let mut sizes = DEFAULT_SIZES;
    for size in &mut sizes {
        let Some(token) = cursor.next() else { break };
        *size = centimetres(token.text).and_then(pack).ok_or(Cause::Location(SIZE).at(token))?;
    }
    out.push(0);
    out.extend_from_slice(&sizes);
    for value in [latitude, longitude, altitude] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

fn coordinate(
    cursor: &mut Cursor<'_, '_>,
    what: &'static str,
    most: u32,
    hemispheres: [&str; 2],
) -> Result<u32, TextError> {
    let mut value = 0;
    // Degrees, minutes and seconds: what one counts in thousandths of a second, its bound, its decimal places.
    for (unit, below, places) in [(DEGREE, u64::from(most) + 1, 0), (60_000, 60, 0), (1, 60_000, 3)] {
        let token = cursor.word(what)?;
        if unit != DEGREE
            && let Some(wire) = turn(token, value, hemispheres)
        {
            return Ok(wire);
        }
        let part = decimal(token.text, places).filter(|&part| part < below).and_then(|part| u32::try_from(part).ok());
        value += part.ok_or(Cause::Location(COORDINATE).at(token))? * unit;
        if value > most * DEGREE {
            return Err(Cause::Location("a latitude ends at 90 degrees and a longitude at 180").at(token));
        }
    }
    let token = cursor.word(what)?;
    turn(token, value, hemispheres).ok_or(Cause::Location(COORDINATE).at(token))
}

/// The wire value, if the word names a hemisphere.
fn turn(token: &Token<'_>, value: u32, [plus, minus]: [&str; 2]) -> Option<u32> {
    if token.text.eq_ignore_ascii_case(plus) {
        Some(MIDDLE + value)
    } else if token.text.eq_ignore_ascii_case(minus) {
        Some(MIDDLE - value)
    } else {
        None
    }
}

fn altitude(text: &str) -> Option<u32> {
    let value = match text.strip_prefix('-') {
        Some(depth) => GROUND.checked_sub(centimetres(depth)?)?,
        None => GROUND + centimetres(text)?,
    };
    u32::try_from(value).ok()
}

fn centimetres(text: &str) -> Option<u64> {
    decimal(text.strip_suffix(['m', 'M']).unwrap_or(text), 2)
}

/// A decimal number times ten to the power of `places`; more places than that are refused, as is a sign.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.len() + fraction.len();
    // Ten digits hold every number that a field has room for, and can't overflow 64 bits.
    if whole.is_empty() || digits > 10 || fraction.len() > places || (places == 0 && text.contains('.')) {
        return None;
    }
    let number = |part: &str| {
        part.bytes().try_fold(0u64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
    };
    let scale = |power: usize| (0..power).fold(1u64, |value, _| value * 10);
    Some(number(whole)? * scale(places) + number(fraction)? * scale(places - fraction.len()))
}

/// A size as a digit and a power of ten; further digits are cut off, as RFC 1876's own code does.
fn pack(centimetres: u64) -> Option<u8> {
    let (mut digit, mut power) = (centimetres, 0u8);
    while digit > 9 {
        digit /= 10;
        power += 1;
    }
    (power <= 9).then(|| u8::try_from(digit).expect("one digit") << 4 | power)
}

/// Takes 16 octets and appends their text. Another version than 0 is none that has a text (RFC 1876 §2).
pub(super) fn show(rest: &mut &[u8], text: &mut String) -> Result<(), Unshown> {
    let octets = take(rest, rest.len())?;
    if octets.first().is_some_and(|&version| version != 0) {
        return Err(Unshown::Inexpressible);
    }
    let octets: [u8; 16] = octets.try_into().map_err(|_| Unshown::Malformed)?;
    let word = |at: usize| u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    show_coordinate(word(4), 90, ["N", "S"], text)?;
    text.push(' ');
    show_coordinate(word(8), 180, ["E", "W"], text)?;
    let altitude = i64::from(word(12)) - 10_000_000;
    let sign = if altitude < 0 { "-" } else { "" };
    let altitude = altitude.unsigned_abs();
    write!(text, " {sign}{}.{:02}m", altitude / 100, altitude % 100).expect("a String takes whatever is written");
    for &size in &octets[1..4] {
        let (digit, power) = (size >> 4, size & 15);
        if digit > 9 || power > 9 {
            return Err(Unshown::Malformed);
        }
        if digit == 0 && power > 0 {
            return Err(Unshown::Inexpressible); // nothing, in an unusual form
        }
        let size = (0..power).fold(u64::from(digit), |value, _| value * 10);
        write!(text, " {}.{:02}m", size / 100, size % 100).expect("a String takes whatever is written");
    }
    Ok(())
}

fn show_coordinate(wire: u32, most: u32, [plus, minus]: [&str; 2], text: &mut String) -> Result<(), Unshown> {
    let value = wire.abs_diff(MIDDLE);
    if value > most * DEGREE {
        return Err(Unshown::Malformed);
    }
    let (degrees, minutes) = (value / DEGREE, value / 60_000 % 60);
    let (seconds, thousandths) = (value / 1000 % 60, value % 1000);
    let hemisphere = if wire >= MIDDLE { plus } else { minus };
    write!(text, "{degrees} {minutes} {seconds}.{thousandths:03} {hemisphere}")
        .expect("a String takes whatever is written");
    Ok(())
}
