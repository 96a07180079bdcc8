//! Words of a master file with their place, and the escapes inside them (RFC 1035 §5.1).

use std::fmt;

use super::{Cause, TextError};

/// A place in a text. The order is that of reading.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1; a tab is one.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One word or quoted string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    /// What was written, escapes untouched, without the quotation marks around it.
    pub text: &'a str,
    /// Whether quotation marks stood around it.
    pub quoted: bool,
    /// Where it starts; of a quoted string, the opening mark.
    pub at: Position,
}

impl Token<'_> {
    /// The octets that the text stands for.
    pub(super) fn octets(&self) -> Result<Vec<u8>, TextError> {
        unescape(self.text).map_err(|cause| cause.at(self))
    }
}

/// Replaces `\DDD` and `\X`. A bare quotation mark is refused: what it would delimit is not clear.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, Cause> {
    let mut octets = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        octets.push(match byte {
            b'"' => return Err(Cause::InnerQuote),
            b'\\' => match bytes.next().ok_or(Cause::Escape)? {
                first if first.is_ascii_digit() => {
                    let mut value = u32::from(first - b'0');
                    for _ in 0..2 {
                        let digit = bytes.next().filter(u8::is_ascii_digit).ok_or(Cause::Escape)?;
                        value = value * 10 + u32::from(digit - b'0');
                    }
                    u8::try_from(value).map_err(|_| Cause::Escape)?
                }
                other => other,
            },
            other => other,
        });
    }
    Ok(octets)
}

/// Appends octets in quotation marks, so that every reader takes them for one string.
pub(super) fn quote(octets: &[u8], text: &mut String) {
    text.push('"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(octet));
            }
            b' '..=b'~' => text.push(char::from(octet)),
            _ => text.push_str(&format!("\\{octet:03}")),
        }
    }
    text.push('"');
}

/// Reads a time in seconds, plain or in BIND's units: `300`, `5m`, `1h30m`, `2W`. Without a unit the number stands
/// alone. `None`: not such a text, or more than 64 bits.
pub fn parse_seconds(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let (mut total, mut number, mut digits) = (0u64, 0u64, false);
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_digit() {
            number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            digits = true;
            if at + 1 == text.len() {
                // A number without a unit: only if there was no unit before.
                return text.bytes().all(|byte| byte.is_ascii_digit()).then_some(number);
            }
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if !digits {
            return None;
        }
        total = total.checked_add(number.checked_mul(unit)?)?;
        (number, digits) = (0, false);
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_in_the_units_of_bind() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("300", Some(300)),
            ("1h30m", Some(5400)),
            ("1W2D3H4m5S", Some(604_800 + 2 * 86_400 + 3 * 3600 + 245)),
            ("", None),
            ("h", None),
            ("1h30", None),
            ("1hm", None),
            ("1y", None),
            ("-1", None),
            ("+1", None),
            ("99999999999999999999", None),
            ("30500568904944w", None),
        ] {
            assert_eq!(parse_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn every_octet_reads_back_from_its_quoted_text() {
        let octets: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        quote(&octets, &mut text);
        assert_eq!(unescape(&text[1..text.len() - 1]), Ok(octets));
        for bad in ["\\", "\\25", "\\256", "\\1x2"] {
            assert_eq!(unescape(bad), Err(Cause::Escape), "{bad}");
        }
        assert_eq!(unescape("a\"b"), Err(Cause::InnerQuote));
        assert_eq!(unescape("\\\"\\;\\ \\a"), Ok(b"\"; a".to_vec()));
    }
}
