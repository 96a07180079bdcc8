//! Work over a long list by all processors, for a start, when nothing else is done meanwhile.

use std::thread::{available_parallelism, scope};

/// Items of a list that one thread is done with before others are started.
const WORTH_SHARING: usize = 256;

/// What a function makes of the parts of a list, in their order: one for each processor, or one alone of a short list.
pub fn by_parts<T: Sync, R: Send>(items: &[T], of_part: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = available_parallelism().map_or(1, usize::from);
    if threads == 1 || items.len() < WORTH_SHARING {
        return vec![of_part(items)];
    }
    let mut parts = items.chunks(items.len().div_ceil(threads));
    let own = parts.next().unwrap_or_default();
    let of_part = &of_part;
    scope(|scope| {
        let others: Vec<_> = parts.map(|part| scope.spawn(move || of_part(part))).collect();
        let mut results = vec![of_part(own)];
        let joined =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.extend(joined);
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_part_in_order() {
        for length in [0, 1, WORTH_SHARING - 1, WORTH_SHARING, 1001] {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(by_parts(&items, <[usize]>::to_vec).concat(), items);
        }
    }

    #[test]
    fn a_panic_of_any_part_is_passed_on() {
        let items: Vec<usize> = (0..1000).collect();
        for bad in [0, 999] {
            let part = |part: &[usize]| assert!(!part.contains(&bad), "on purpose");
            assert!(std::panic::catch_unwind(|| by_parts(&items, part)).is_err());
        }
    }
}
