//! The embedded store passes the suite of all stores; what only it can show stands here.

use super::*;
use crate::store::conformance::{self, bare, item, wait};
use crate::store::format::VERSION;

fn open_boxed(folder: &Path) -> Result<Box<dyn Store>, StoreError> {
    Ok(Box::new(Embedded::open(folder)?))
}

#[test]
fn a_conflict_leaves_nothing() {
    conformance::a_conflict_leaves_nothing(&open_boxed);
}

#[test]
fn concurrent_writes_are_carried_out_each_for_itself() {
    conformance::concurrent_writes_are_carried_out_each_for_itself(&open_boxed);
}

#[test]
fn history_is_bounded_and_in_order() {
    conformance::history_is_bounded_and_in_order(&open_boxed);
}

#[test]
fn a_second_open_is_refused() {
    conformance::a_second_open_is_refused(&open_boxed);
}

#[test]
fn a_checkpoint_tells_the_next_start_who_renewed() {
    conformance::a_checkpoint_tells_the_next_start_who_renewed(&open_boxed);
}

#[test]
fn a_restart_gives_back_what_was_committed() {
    conformance::a_restart_gives_back_what_was_committed(&open_boxed);
}

/// All records of the file.
fn dump(folder: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let database = Database::open(folder.join(FILE)).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut records = Vec::new();
    for table in TABLES {
        for entry in transaction.open_table(table).unwrap().iter().unwrap() {
            let (key, value) = entry.unwrap();
            records.push((key.value().to_vec(), value.value().to_vec()));
        }
    }
    records
}

#[test]
fn a_record_of_a_newer_program_is_an_error_and_nothing_is_changed() {
    let zone: Name = "z.".parse().unwrap();
    for table in [EPOCHS, SETTINGS, STARTS, ITEMS] {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        store.start(&zone, Wall(0)).unwrap();
        let items = vec![(item(1, 1).key(), Some((item(1, 1), Stamp::default())))];
        assert_eq!(wait(store.append(Write { items, ..bare(&zone, None, 100) })), Appended::Committed);
        drop(store);
        let database = Database::open(folder.path().join(FILE)).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(table).unwrap();
            let (key, mut value) = {
                let (key, value) = table.first().unwrap().unwrap();
                (key.value().to_vec(), value.value().to_vec())
            };
            value[0] = VERSION + 1;
            table.insert(key.as_slice(), value.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        let before = dump(folder.path());
        let store = Embedded::open(folder.path()).unwrap();
        let error = store.start(&zone, Wall(1)).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { cause, .. } if cause.contains("version 2")), "{error}");
        drop(store);
        assert_eq!(dump(folder.path()), before);
    }
}

#[test]
fn a_file_that_is_no_store_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let rubbish = vec![7; 5000];
    std::fs::write(&path, &rubbish).unwrap();
    let error = Embedded::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), rubbish);
}

#[test]
fn what_was_submitted_before_the_store_is_dropped_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let zone: Name = "z.".parse().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let pending: Vec<_> = (0..20)
        .map(|number: u64| {
            store.append(bare(&zone, number.checked_sub(1).map(|before| Epoch(100 + before)), 100 + number))
        })
        .collect();
    drop(store);
    for append in pending {
        assert_eq!(wait(append), Appended::Committed);
    }
    let store = Embedded::open(folder.path()).unwrap();
    assert_eq!(wait(store.epoch(&zone)), Ok(Some(Epoch(119))));
}
