//! Messages that only renew a lease are noted, so that they are counted in place from then on; what changes voids the notes
//! of those whose outcome may depend on it.

use crate::base::Name;
use crate::base::limits::BATCH_REQUESTS;
use crate::dns::update::Request;
use crate::dns::update::renewal::{self, names_of};
use crate::membership::{Item, MemberId};
use crate::zone::registration::Outcome;

use super::Publisher;

impl Publisher {
    /// Notes a message that did nothing but renew a lease, so that it is counted in place from now on. What it renewed is
    /// not edited by the batch or by the write under way.
    pub(super) fn note(&mut self, request: &Request, outcome: &Outcome) {
        let (Some(digest), [index], true) = (request.renewal, outcome.renewals.as_slice(), self.noting) else { return };
        let Some(Item::Member(member)) = self.table.item(*index) else { return };
        let contents = self.zone.contents();
        if let Some(heartbeat) = renewal::of_member(request, outcome, member, contents, &self.policy.rules) {
            self.table.note(*index, digest);
            self.voided.clear();
            self.notes_mind_services |= heartbeat.minds_services;
        }
    }

    /// An item changes: messages that look at its names may come to something else from here on.
    pub(super) fn void_notes_beside(&mut self, item: &Item) {
        let contents = self.zone.contents();
        for name in names_of(item, |service| contents.layout(service)) {
            // Members that change together may share a name with many.
            if self.voided.contains(&name) {
                continue;
            }
            let mut concerned: Vec<(&Name, &MemberId)> =
                contents.members_with_target(&name).iter().map(|(service, id)| (service, id)).collect();
            let (parent, id) = (name.parent(), MemberId::from_label(name.first_label()).ok());
            if let (Some(parent), Some(id)) = (&parent, &id) {
                let at_host = contents.services_at_host(parent).iter().chain([parent]);
                concerned.extend(at_host.map(|service| (service, id)));
            }
            for (service, id) in concerned {
                if let Some((index, _)) = self.table.member(service, id.as_str()) {
                    self.table.void_note(index);
                }
            }
            if self.voided.len() >= BATCH_REQUESTS {
                self.voided.clear();
            }
            self.voided.insert(name);
        }
    }

    /// Anything may have changed.
    pub(super) fn void_notes(&mut self) {
        self.table.void_notes();
        self.notes_mind_services = false;
    }

    /// There are other services than there were.
    pub(super) fn void_notes_minding_services(&mut self) {
        if self.notes_mind_services {
            self.void_notes();
        }
    }
}
