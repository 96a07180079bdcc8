//! Work over a long list by all processors at once: what a start does before anything is answered, and a reload for a zone
//! that comes.

use std::thread::{Builder, available_parallelism, scope};

/// Work, counted in names, below which starting threads costs more than it saves.
const WORTH_SHARING: usize = 4096;

/// What a function makes of the parts of a list, in their order: one for each processor, of about the same weight; or one
/// alone where the whole weighs little.
pub(super) fn by_parts<T: Sync, R: Send>(
    items: &[T],
    weight: impl Fn(&T) -> usize,
    of_part: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    let total = items.iter().map(&weight).sum::<usize>();
    let threads = if total < WORTH_SHARING { 1 } else { available_parallelism().map_or(1, usize::from) };
    let mut parts = cut(items, &weight, total.div_ceil(threads).max(1));
    let Some(own) = parts.pop() else { return vec![of_part(items)] };
    let of_part = &of_part;
    scope(|scope| {
        let others: Vec<_> = parts
            .into_iter()
            .map(|part| (part, Builder::new().name("zone".to_owned()).spawn_scoped(scope, move || of_part(part))))
            .collect();
        let last = of_part(own);
        let joined = others.into_iter().map(|(part, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => of_part(part), // the system has no thread to give
        });
        joined.chain([last]).collect()
    })
}

/// Cuts a list where a part has at least this weight.
fn cut<T>(items: &[T], weight: impl Fn(&T) -> usize, enough: usize) -> Vec<&[T]> {
    let (mut parts, mut rest) = (Vec::new(), items);
    while !rest.is_empty() {
        let mut gathered = 0;
        let end = rest.iter().position(|item| {
            gathered += weight(item);
            gathered >= enough
        });
        let (part, others) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        parts.push(part);
        rest = others;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_part_in_order() {
        for (length, weight) in [(0, 1), (1, 1), (1, 5000), (100, 1), (100, 100), (3, 100_000), (10_001, 1)] {
            let items: Vec<usize> = (0..length).collect();
            let parts = by_parts(&items, |_| weight, <[usize]>::to_vec);
            assert_eq!(parts.concat(), items, "{length} {weight}");
            let most = available_parallelism().map_or(1, usize::from);
            assert!(parts.len() <= most && (length * weight >= WORTH_SHARING || parts.len() == 1), "{length} {weight}");
        }
    }

    #[test]
    fn parts_have_about_the_same_weight() {
        let items: Vec<usize> = (0..1000).map(|number| if number % 100 == 0 { 500 } else { 1 }).collect();
        let parts = cut(&items, |weight| *weight, items.iter().sum::<usize>().div_ceil(4));
        let weights: Vec<usize> = parts.iter().map(|part| part.iter().sum()).collect();
        assert_eq!(weights.len(), 4);
        assert!(weights.iter().all(|weight| (600..1900).contains(weight)), "{weights:?}");
    }

    #[test]
    fn a_panic_of_any_part_is_passed_on() {
        let items: Vec<usize> = (0..10_000).collect();
        for bad in [0, 9_999] {
            let part = |part: &[usize]| assert!(!part.contains(&bad), "on purpose");
            assert!(std::panic::catch_unwind(|| by_parts(&items, |_| 1, part)).is_err());
        }
    }
}
