//! The embedded store passes the suite of all stores; what only it can show stands here.

use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable};

use crate::base::RecordType;
use crate::base::limits::{HISTORY_COMMITS, HISTORY_OCTETS};
use crate::store::conformance::{self, Model, bare, item, wait};
use crate::store::format::VERSION;
use crate::store::items::{PART, StoredItem, WAITING};
use crate::zone::Record;

use super::fake_disk::{FakeDisk, Fault};
use super::file::RETRY;
use super::tables::{ITEMS, TABLES};
use super::*;

fn open_boxed(folder: &Path) -> Result<Box<dyn Store>, StoreError> {
    Ok(Box::new(Embedded::open(folder)?))
}

#[test]
fn a_conflict_leaves_nothing() {
    conformance::a_conflict_leaves_nothing(&open_boxed);
}

#[test]
fn copies_know_their_age() {
    conformance::copies_know_their_age(&open_boxed);
}

#[test]
fn concurrent_writes_are_carried_out_each_for_itself() {
    conformance::concurrent_writes_are_carried_out_each_for_itself(&open_boxed);
}

#[test]
fn a_write_begins_when_it_is_handed_over() {
    conformance::a_write_begins_when_it_is_handed_over(&open_boxed);
}

#[test]
fn history_is_bounded_and_in_order() {
    conformance::history_is_bounded_and_in_order(&open_boxed);
}

#[test]
fn a_page_of_the_history_is_bounded_in_octets() {
    conformance::a_page_of_the_history_is_bounded_in_octets(&open_boxed);
}

#[test]
fn a_start_knows_the_lapses_of_all_commits() {
    conformance::a_start_knows_the_lapses_of_all_commits(&open_boxed);
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
fn a_start_that_came_to_nothing_does_not_count() {
    conformance::a_start_that_came_to_nothing_does_not_count(&open_boxed);
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
    for table in TABLES[..4].iter().copied() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        store.start(&zone, Wall(0)).unwrap();
        assert_eq!(wait(store.begin(&zone, Wall(0))), Ok(()));
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
        // Of an item it is told when its part is read.
        let started =
            store.start(&zone, Wall(1)).and_then(|stored| stored.map_or(Ok(()), |mut stored| stored.items.gather()));
        let error = started.unwrap_err();
        assert!(
            matches!(&error, StoreError::Damaged { cause, .. } if cause.contains(&format!("version {}", VERSION + 1))),
            "{error}"
        );
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

#[test]
fn history_is_bounded_in_octets_and_keeps_the_last_commit_whatever_its_size() {
    let zone: Name = "z.".parse().unwrap();
    let disk = FakeDisk::new(1);
    let mut file = StoreFile::open(Box::new(disk)).unwrap();
    let large = |epoch: u64, octets: usize| {
        let mut write = bare(&zone, epoch.checked_sub(101).map(|before| Epoch(before + 100)), epoch);
        let record = |_| Record {
            owner: "a.z.".parse().unwrap(),
            rtype: RecordType::NULL,
            ttl: crate::base::Ttl(0),
            rdata: vec![0; 60_000].into(),
        };
        Arc::get_mut(write.commit.as_mut().unwrap()).unwrap().delta.added = (0..octets / 60_000).map(record).collect();
        write
    };
    let mut append = |write| file.write(&[Entry::Append(Box::new(write))], Instant::now());
    let third = usize::try_from(HISTORY_OCTETS / 3).unwrap();
    for epoch in 100..105 {
        assert_eq!(append(large(epoch, third)), [Appended::Committed]);
    }
    assert_eq!(append(large(105, 4 * third)), [Appended::Committed]);
    assert_eq!(append(large(106, 100_000)), [Appended::Committed]);
    let epochs = |file: &mut StoreFile| -> Vec<u64> {
        file.commits(&zone, None, usize::MAX).unwrap().iter().map(|commit| commit.epoch.0).collect()
    };
    assert_eq!(epochs(&mut file), [106], "the large one has gone with those before it");
    for epoch in 107..107 + HISTORY_COMMITS + 5 {
        assert_eq!(file.write(&[Entry::Append(Box::new(large(epoch, 0)))], Instant::now()), [Appended::Committed]);
    }
    assert_eq!(epochs(&mut file), (112..107 + HISTORY_COMMITS + 5).collect::<Vec<_>>());
}

/// Random writes, restarts and losses of power. An error is a violation of what the store promises.
fn lose_power_often(seed: u64, fault: Fault) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = FakeDisk::new(rng.u64(..));
    let zone: Name = "z.".parse().unwrap();
    let mut model = Model::default();
    let mut time = 1000;
    // What the store may hold if the process was stopped in the middle of a write.
    let mut perhaps: Option<Model> = None;
    for _ in 0..6 {
        disk.set_fault(Fault::None);
        let mut file = StoreFile::open(Box::new(disk.clone())).map_err(|error| error.to_string())?;
        time += 1;
        let stored = file.start(&zone, Wall(time)).map_err(|error| error.to_string())?;
        if let Some(perhaps) = perhaps.take()
            && stored.as_ref().is_some_and(|stored| Some(stored.epoch) == perhaps.epoch)
        {
            model = perhaps;
        }
        let begun = file.write(&[Entry::Begin(zone.clone(), Wall(time))], Instant::now());
        assert_eq!(begun, [Appended::Committed]);
        let found = stored.as_ref().map(|stored| stored.epoch);
        if found != model.epoch {
            return Err(format!("the store has {found:?} after {:?}", model.epoch));
        }
        model.starts.begin(Wall(time));
        if fault == Fault::None {
            model.check(stored);
        }
        disk.set_fault(fault);
        if rng.u8(0..4) > 0 {
            disk.stop_after(rng.u64(1..200));
        }
        for _ in 0..rng.usize(0..12) {
            time += 1;
            let parts: Vec<_> = (0..rng.usize(0..4)).map(|_| (rng.u8(0..5), rng.u8(0..5), rng.u8(0..4))).collect();
            let mut next = model.clone();
            let write = next.write(&zone, true, false, &parts, time);
            match file.write(&[Entry::Append(Box::new(write))], Instant::now()).as_slice() {
                [Appended::Committed] => model = next,
                outcome => {
                    assert!(disk.is_stopped(), "{outcome:?}");
                    perhaps = Some(next);
                    break;
                }
            }
        }
        if rng.bool() {
            disk.kill();
        } else {
            disk.lose_power();
        }
        // The killed process never gets to run its destructors; here they find a dead disk.
        drop(file);
    }
    Ok(())
}

#[test]
fn a_loss_of_power_at_any_step_keeps_what_was_acknowledged_and_writes_whole() {
    for seed in 0..150 {
        lose_power_often(seed, Fault::None).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let violations = (0..20).filter(|&seed| lose_power_often(seed, Fault::Lying).is_err()).count();
    assert!(violations > 5, "{violations} of 20 seeds");
}

#[test]
fn a_failing_disk_refuses_writes_whole_and_is_used_again_when_it_works() {
    let zone: Name = "z.".parse().unwrap();
    for fault in [Fault::Full, Fault::ReadOnly, Fault::Unsynced] {
        for seed in 0..20 {
            let disk = FakeDisk::new(seed);
            let mut file = StoreFile::open(Box::new(disk.clone())).unwrap();
            file.start(&zone, Wall(0)).unwrap();
            let mut now = Instant::now();
            let write = |file: &mut StoreFile, expected: Option<u64>, epoch: u64, now: Instant| {
                let mut write = bare(&zone, expected.map(Epoch), epoch);
                Arc::get_mut(write.commit.as_mut().unwrap()).unwrap().delta.added = vec![Record {
                    owner: "a.z.".parse().unwrap(),
                    rtype: RecordType::NULL,
                    ttl: crate::base::Ttl(0),
                    rdata: vec![7; 60_000].into(),
                }];
                file.write(&[Entry::Append(Box::new(write))], now).remove(0)
            };
            assert_eq!(write(&mut file, None, 100, now), Appended::Committed);
            disk.set_fault(fault);
            let mut last = 100;
            let mut refused = 0;
            for _ in 0..40 {
                now += RETRY;
                match write(&mut file, Some(last), last + 1, now) {
                    Appended::Committed => last += 1,
                    Appended::Unavailable(_) => refused += 1,
                    Appended::Unknown(_) => {
                        refused += 1;
                        // Whoever asks is told what is durable, or has to ask again.
                        if let Ok(Some(found)) = file.epoch(&zone) {
                            assert!(found.0 == last || found.0 == last + 1, "{found}");
                            last = found.0;
                        }
                    }
                    conflict @ Appended::Conflict(_) => panic!("{conflict:?}"),
                }
            }
            assert!(refused > 0, "{fault:?}, seed {seed}");
            // In between the disk is left alone.
            assert!(matches!(write(&mut file, Some(last), last + 1, now), Appended::Unavailable(_)) || refused < 40);
            disk.set_fault(Fault::None);
            now += RETRY;
            let found = file.epoch(&zone).unwrap().unwrap().0;
            assert!(
                found == last || (fault == Fault::Unsynced && found == last + 1),
                "{fault:?}: {found} after {last}"
            );
            assert_eq!(write(&mut file, Some(found), found + 1, now), Appended::Committed);
            drop(file);
            disk.lose_power();
            let mut file = StoreFile::open(Box::new(disk)).unwrap();
            assert_eq!(file.epoch(&zone), Ok(Some(Epoch(found + 1))));
        }
    }
}

#[test]
fn what_the_disk_lost_in_a_failed_sync_is_not_taken_for_durable() {
    let zone: Name = "z.".parse().unwrap();
    let mut lost = 0;
    for seed in 0..60 {
        let disk = FakeDisk::new(seed);
        let mut file = StoreFile::open(Box::new(disk.clone())).unwrap();
        file.start(&zone, Wall(0)).unwrap();
        let first = Entry::Append(Box::new(bare(&zone, None, 100)));
        assert_eq!(file.write(&[first], Instant::now()), [Appended::Committed]);
        disk.set_fault(Fault::Unsynced);
        let second = Entry::Append(Box::new(bare(&zone, Some(Epoch(100)), 101)));
        assert!(matches!(file.write(&[second], Instant::now()).as_slice(), [Appended::Unknown(_)]));
        disk.set_fault(Fault::None);
        let found = file.epoch(&zone).unwrap().unwrap();
        drop(file);
        disk.lose_power();
        let mut file = StoreFile::open(Box::new(disk)).unwrap();
        assert_eq!(file.epoch(&zone), Ok(Some(found)), "seed {seed}");
        lost += usize::from(found == Epoch(100));
    }
    assert!((1..60).contains(&lost), "{lost} of 60: both cases should occur");
}

#[test]
fn a_store_whose_file_has_gone_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let zone: Name = "z.".parse().unwrap();
    let mut file = StoreFile::open(Box::new(path.clone())).unwrap();
    let first = Entry::Append(Box::new(bare(&zone, None, 100)));
    assert_eq!(file.write(&[first], Instant::now()), [Appended::Committed]);
    file.close();
    std::fs::remove_file(&path).unwrap();
    let second = Entry::Append(Box::new(bare(&zone, Some(Epoch(100)), 101)));
    let later = Instant::now() + Duration::from_secs(1);
    assert!(matches!(file.write(&[second], later).as_slice(), [Appended::Unavailable(_)]));
    assert!(!path.exists());
}

#[test]
fn a_start_hands_over_the_items_of_a_large_zone_by_the_part_for_as_long_as_somebody_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let zone: Name = "z.".parse().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    store.start(&zone, Wall(0)).unwrap();
    let count = (WAITING + 3) * PART + 7;
    let numbered = |number: usize| {
        let crate::membership::Item::Leased(record) = item(0, 0) else { panic!("it is a leased record") };
        let rdata = u32::try_from(number).unwrap().to_be_bytes().as_slice().into();
        crate::membership::Item::Leased(crate::membership::LeasedRecord { rdata, ..record })
    };
    let items = (0..count).map(|number| (numbered(number).key(), Some((numbered(number), Stamp::default())))).collect();
    assert_eq!(wait(store.append(Write { items, ..bare(&zone, None, 100) })), Appended::Committed);
    let started = || store.start(&zone, Wall(1)).unwrap().unwrap();
    let parts: Vec<Vec<StoredItem>> = started().items.map(Result::unwrap).collect();
    let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
    assert_eq!(lengths, [vec![PART; WAITING + 3], vec![7]].concat());
    let order: Vec<_> = parts.concat().into_iter().map(|(item, ..)| item).collect();
    assert!(order.into_iter().eq((0..count).map(numbered)));
    // Whoever takes its time holds up nothing, and sees the zone as it was.
    let mut slow = started();
    assert_eq!(slow.items.next().unwrap().unwrap().len(), PART);
    let last = (numbered(count - 1).key(), None);
    assert_eq!(
        wait(store.append(Write { items: vec![last], ..bare(&zone, Some(Epoch(100)), 101) })),
        Appended::Committed
    );
    assert_eq!(slow.items.map(|part| part.unwrap().len()).sum::<usize>(), count - PART);
    drop(started());
    assert_eq!(started().items.map(|part| part.unwrap().len()).sum::<usize>(), count - 1);
    drop(store);
    // A record that can't be read, behind others that can.
    let database = Database::open(folder.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(ITEMS).unwrap();
        let key = table.last().unwrap().unwrap().0.value().to_vec();
        table.insert(key.as_slice(), [VERSION, 0xff].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let store = Embedded::open(folder.path()).unwrap();
    let parts: Vec<_> = store.start(&zone, Wall(2)).unwrap().unwrap().items.collect();
    let (last, others) = parts.split_last().unwrap();
    assert!(matches!(last, Err(StoreError::Damaged { .. })) && others.iter().all(Result::is_ok), "{last:?}");
    assert_eq!(others.len(), WAITING + 3);
}
