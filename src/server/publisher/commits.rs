//! From a batch to a write for the store, and what comes of it.

use std::time::Duration;

use crate::base::limits::RECENT_UPDATES;
use crate::base::{Limit, Now, SeededMap};
use crate::dns::update::request::MessageId;
use crate::membership::{Key, Stamp};
use crate::store::{Appended, Write};

use super::{Advance, Batch, InFlight, Publisher, Remembered};

impl Publisher {
    /// Closes the batch, if it is due, into a write for the store; until it is, more of what waits becomes part of it.
    /// Nothing is written for a batch that changes nothing; its replies go to the outbox.
    pub fn seal(&mut self, now: Now) -> Option<Write> {
        if self.in_flight.is_some() {
            return None;
        }
        if !self.is_due(now) {
            self.resume(now);
        }
        if !self.is_due(now) {
            return None;
        }
        let batch = std::mem::take(&mut self.batch);
        let staged = self.zone.stage(now.wall);
        let edits = self.table.edits();
        let slots = self.table.changed_slots().next().is_some();
        if staged.commit.is_none() && edits.is_empty() && !slots && batch.settings.is_none() && batch.statics.is_empty()
        {
            self.zone.publish(staged);
            self.configuration_sealed(false);
            self.outbox.extend(batch.replies);
            return None;
        }
        let swept = self.table.sweep_tombstones(now.wall);
        let buried =
            edits.iter().filter_map(|edit| edit.tombstone(now.wall).map(|mark| (edit.key.clone(), Some(mark))));
        let tombstones = swept.iter().map(|key| (key.clone(), None)).chain(buried).collect();
        let write = Write {
            zone: self.snapshot().origin().clone(),
            expected: self.stored,
            commit: staged.commit.clone(),
            tombstones,
            items: edits.into_iter().map(|edit| (edit.key, edit.after.map(|item| (item, edit.stamp)))).collect(),
            slots: self.table.changed_slots().map(|(name, slots)| (name.clone(), slots.cloned())).collect(),
            services: staged.services.iter().map(|name| (name.clone(), self.zone.service_state(name))).collect(),
            settings: batch.settings,
            statics: batch.statics,
            refreshed: None,
            replaces: false,
        };
        let Batch { replies, joined, lapsed, .. } = batch;
        self.in_flight = Some(InFlight {
            staged,
            replies,
            joined,
            lapsed,
            swept,
            since: now.mono,
            stalled: Duration::ZERO,
            stalls: 0,
            heard: SeededMap::default(),
            given_up: false,
        });
        self.configuration_sealed(true);
        Some(write)
    }

    /// The write under way has ended. Returns the commit that is to be made visible, if there is one; replies follow.
    ///
    /// [`Appended::Unknown`] is settled by the caller, who reads the epoch back; here it counts as not written.
    pub fn appended(&mut self, result: &Appended, now: Now) -> Option<Advance> {
        let in_flight = self.in_flight.take()?;
        self.configuration_ended(*result == Appended::Committed, now.mono);
        let advance = match result {
            Appended::Committed => {
                // A message that comes again after the lease that it was given has ended is no retransmission.
                let lapsed = &in_flight.lapsed;
                if !lapsed.is_empty() {
                    let concerned = |keys: &[Key]| keys.iter().any(|key| lapsed.contains(key));
                    self.recent.retain(|_, remembered| remembered.keys.as_deref().is_some_and(|keys| !concerned(keys)));
                }
                self.table.accept(now);
                self.counters.count_many(Limit::ReplayMarks, self.table.take_displaced());
                let commit = in_flight.staged.commit.clone();
                for (id, remembered) in in_flight.joined {
                    self.remember(id, remembered, now);
                }
                let published = self.zone.publish(in_flight.staged);
                let epoch = self.zone.snapshot().epoch;
                self.outbox.extend(in_flight.replies.into_iter().map(|reply| reply.visible_from(epoch)));
                self.stored = self.stored.max(commit.as_ref().map(|commit| commit.epoch));
                published.zip(commit).map(|(published, commit)| Advance { published, commit })
            }
            Appended::Conflict(_) | Appended::Unavailable(_) | Appended::Unknown(_) => {
                self.table.abandon(now.mono, in_flight.since);
                self.void_notes();
                for (key, at) in in_flight.heard {
                    if let Some(index) = self.table.find(&key) {
                        self.table.renew(index, at, None);
                    }
                }
                self.table.restore_swept(in_flight.swept);
                self.zone.revert(in_flight.staged);
                let replies = in_flight.replies.into_iter();
                self.outbox.extend(replies.map(|reply| reply.refused("the store can't be written; retry later")));
                None
            }
        };
        self.resume(now);
        advance
    }

    /// Whether the batch has gathered for long enough.
    fn is_due(&self, now: Now) -> bool {
        self.batch.opened.is_some_and(|opened| now.mono >= opened.after(self.policy.settle))
    }

    fn remember(&mut self, id: MessageId, remembered: Remembered, now: Now) {
        self.recent.insert(id, remembered);
        self.recent_order.push_back((now.mono, id));
        while self.recent_order.len() > RECENT_UPDATES {
            self.counters.count(Limit::RecentUpdates);
            self.drop_oldest_recent();
        }
    }

    pub(super) fn drop_oldest_recent(&mut self) {
        if let Some((_, id)) = self.recent_order.pop_front() {
            self.recent.remove(&id);
        }
    }

    /// Who has renewed since the start without the store knowing.
    pub fn checkpoint(&mut self) -> Vec<(Key, Stamp)> {
        self.table.renewed_since_start()
    }
}
