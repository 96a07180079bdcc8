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
    /// The first epoch of a zone that others may still have from before: the smallest one from `time` on whose serial
    /// comes after each of theirs (RFC 1982 §3.2), so that they take what is published next for newer than what they have.
    ///
    /// Two serials 2^31 apart have no order, so neither comes after the other: the zone starts beyond such a one. Serials
    /// that lie around the whole circle leave none that comes after all: those behind `time` are left out then, since the
    /// clock has overtaken them.
    ///
    /// Cost: the square of how many there are.
    pub fn first(time: Epoch, serials: &[Serial]) -> Epoch {
        // What comes after a serial is the half circle behind it: the smallest epoch that is in all of these begins one.
        let beyond = |serial: &Serial| time.0 + u64::from(serial.0.wrapping_sub(time.serial().0)) + 1;
        let mut candidates: Vec<Epoch> = serials.iter().map(|serial| Epoch(beyond(serial))).collect();
        candidates.push(time);
        candidates.sort_unstable();
        let is_after_all = |epoch: &&Epoch| serials.iter().all(|&serial| serial < epoch.serial());
        if let Some(&first) = candidates.iter().find(is_after_all) {
            return first;
        }
        let ahead = serials.iter().filter(|serial| serial.partial_cmp(&&time.serial()) != Some(Ordering::Less));
        ahead.map(|serial| Epoch(beyond(serial))).max().unwrap_or(time)
    }

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
    use proptest::prelude::*;

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

    fn first(time: u64, serials: &[u32]) -> u64 {
        Epoch::first(Epoch(time), &serials.iter().map(|&serial| Serial(serial)).collect::<Vec<_>>()).0
    }

    #[test]
    fn a_zone_starts_at_the_time_unless_somebody_is_ahead_of_it() {
        const TIME: u64 = 1_800_000_000;
        assert_eq!(first(TIME, &[]), TIME);
        assert_eq!(first(TIME, &[1_799_999_999, 1_000_000_000]), TIME);
        assert_eq!(first(TIME, &[1_800_000_000]), TIME + 1, "the same is not after it");
        assert_eq!(first(TIME, &[1_800_000_041, 1_799_999_999, 1_800_000_007]), TIME + 42);
        // Behind the time by more than half of the circle is ahead of it.
        assert_eq!(first(3_000_000_000, &[1]), (1 << 32) + 2);
        // Across the wrap, and in the next round of serials.
        assert_eq!(first((1 << 32) - 2, &[5]), (1 << 32) + 6);
        assert_eq!(first((1 << 32) - 2, &[u32::MAX]), 1 << 32);
        assert_eq!(first((1 << 32) + 7, &[u32::MAX]), (1 << 32) + 7);
    }

    #[test]
    fn a_zone_starts_beyond_a_serial_that_has_no_order_with_the_time() {
        assert_eq!(first(5 << 32, &[1 << 31]), (5 << 32) + (1 << 31) + 1);
    }

    #[test]
    fn a_zone_goes_round_to_come_after_two_serials_far_apart() {
        // One is ahead of the time by nearly half of the circle, the other behind it by as much: what comes right after
        // the first is still before the second.
        let time = (1 << 32) + 500;
        assert_eq!(first(time, &[(1 << 31) + 499, (1 << 31) + 502]), time + (1 << 31) + 3);
    }

    #[test]
    fn where_no_serial_comes_after_all_those_behind_the_time_are_left_out() {
        const THIRD: u32 = 1_431_655_765;
        let time = (1 << 32) + 10;
        assert_eq!(first(time, &[0, THIRD, 2 * THIRD]), (1 << 32) + u64::from(THIRD) + 1);
        assert_eq!(first(time, &[12, 12 + (1 << 31)]), (1 << 32) + 13);
    }

    proptest! {
        #[test]
        fn near_the_time_the_first_epoch_is_one_beyond_the_farthest(
            time in (1u64 << 30)..u64::MAX / 1000,
            offsets in prop::collection::vec(-(1i64 << 29)..1 << 29, 0..6),
        ) {
            let low = |epoch: u64| Epoch(epoch).serial().0;
            let serials: Vec<u32> = offsets.iter().map(|&offset| low(time.checked_add_signed(offset).unwrap())).collect();
            let ahead = offsets.iter().filter_map(|&offset| u64::try_from(offset).ok()).max();
            prop_assert_eq!(first(time, &serials), ahead.map_or(time, |ahead| time + ahead + 1));
        }

        #[test]
        fn the_first_epoch_is_the_smallest_that_comes_after_all(
            time in 0u64..1 << 34,
            serials in prop::collection::vec(any::<u32>(), 0..5),
            others in prop::collection::vec(0u64..1 << 32, 20),
        ) {
            let found = first(time, &serials);
            prop_assert!(found >= time && found <= time + (1 << 32));
            let is_after_all = |epoch: u64| serials.iter().all(|&serial| Serial(serial) < Epoch(epoch).serial());
            let near = serials.iter().flat_map(|&serial| (0..3).map(move |beyond| u64::from(serial) + (time >> 32 << 32) + beyond));
            for other in others.iter().map(|offset| time + offset).chain(near).filter(|&other| other >= time) {
                prop_assert!(!is_after_all(other) || (is_after_all(found) && found <= other), "{other} is before {found}");
            }
        }
    }
}
