//! Zone serials and the epochs behind them.
//!
//! A [`Serial`] is what the SOA record shows: 32 bits that wrap, ordered only partially (RFC 1982 §3.2). An [`Epoch`]
//! is what livezone counts: 64 bits that never wrap in practice, one per commit. The serial is its low half.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The SOA serial (RFC 1035 §3.3.13), with the partial order of RFC 1982 §3.2.
///
/// Two serials that lie exactly 2^31 apart are not comparable, so there is no `Ord`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Serial(pub u32);

impl PartialOrd for Serial {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match other.0.wrapping_sub(self.0) {
            0 => Some(Ordering::Equal),
            0x8000_0000 => None,
            ahead if ahead < 0x8000_0000 => Some(Ordering::Less),
            _ => Some(Ordering::Greater),
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The count of a zone's commits: persisted, strictly increasing by one, a new zone starts at the Unix time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next commit.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }

    /// What the SOA record shows of this epoch: its low 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the serial is defined as the low half of the epoch")]
    pub fn serial(self) -> Serial {
        Serial(self.0 as u32)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_compare_across_the_wrap() {
        assert!(Serial(0xffff_ffff) < Serial(0));
        assert!(Serial(5) > Serial(0xffff_fff0));
        assert!(Serial(1) < Serial(2));
        assert_eq!(Serial(7).partial_cmp(&Serial(7)), Some(Ordering::Equal));
    }

    #[test]
    fn serials_half_the_circle_apart_have_no_order() {
        assert_eq!(Serial(0).partial_cmp(&Serial(0x8000_0000)), None);
        assert_eq!(Serial(0x8000_0000).partial_cmp(&Serial(0)), None);
    }

    #[test]
    fn the_serial_of_the_next_epoch_is_one_more_also_across_the_wrap() {
        let epoch = Epoch(0x1_ffff_ffff);
        assert_eq!(epoch.serial(), Serial(0xffff_ffff));
        assert_eq!(epoch.next().serial(), Serial(0));
        assert!(epoch.serial() < epoch.next().serial());
    }
}
