//! What the gate of instruction counts lets through. Counting itself needs valgrind: `cargo bench --bench instructions`.

#[path = "../benches/instructions/record.rs"]
mod record;

use record::{Comparison, Record, compare};

fn record(counts: &[(&str, u64)]) -> Record {
    let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Record { compiler: "rustc 1.90.0".to_owned(), counts }
}

fn held_against(recorded: u64, counted: u64) -> Comparison {
    compare(&record(&[("srv-8", recorded), ("a", 500)]), &record(&[("srv-8", counted), ("a", 500)]))
}

#[test]
fn a_count_more_than_three_percent_above_its_record_fails_and_says_so() {
    let comparison = held_against(1000, 1040);
    assert!(!comparison.is_good);
    assert!(comparison.text.contains("srv-8 takes 4.0 % more than its record: 1040 for 1000"), "{}", comparison.text);
    assert!(comparison.text.contains("-- --record"), "{}", comparison.text);
    assert!(!comparison.text.contains("a takes"), "{}", comparison.text);
    assert!(!held_against(1000, 1031).is_good);
}

#[test]
fn a_count_within_three_percent_of_its_record_is_good() {
    for counted in [970, 1000, 1030] {
        let comparison = held_against(1000, counted);
        assert!(comparison.is_good && !comparison.text.contains("--record"), "{}", comparison.text);
    }
}

#[test]
fn a_count_far_below_its_record_is_good_and_asks_for_a_lower_one() {
    let comparison = held_against(1000, 960);
    assert!(comparison.is_good);
    assert!(comparison.text.contains("srv-8 takes 4.0 % less than its record"), "{}", comparison.text);
}

#[test]
fn an_operation_must_be_both_recorded_and_counted() {
    let (one, both) = (record(&[("a", 500)]), record(&[("a", 500), ("b", 7)]));
    assert!(!compare(&one, &both).is_good);
    assert!(!compare(&both, &one).is_good);
}

#[test]
fn a_failure_under_another_compiler_says_that_it_is_another() {
    let mut recorded = record(&[("a", 500)]);
    recorded.compiler = "rustc 1.89.0".to_owned();
    let comparison = compare(&recorded, &record(&[("a", 600)]));
    assert!(!comparison.is_good && comparison.text.contains("rustc 1.89.0"), "{}", comparison.text);
}

#[test]
fn what_is_recorded_is_read_again_and_the_repository_has_a_record() {
    let both = record(&[("a", 500), ("srv-8", 1000)]);
    let read = Record::parse(&both.to_toml()).unwrap();
    assert_eq!((read.compiler, read.counts), (both.compiler, both.counts));
    let kept = Record::parse(include_str!("../benches/instructions/recorded.toml")).unwrap();
    assert!(kept.counts.contains_key("srv-8"));
}
