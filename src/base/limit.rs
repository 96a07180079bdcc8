//! Which limit was reached: what counters and log lines are about. The numbers stand in [`limits`](super::limits), in
//! the configuration, or beside the code that checks them.

/// A limit at which something is refused, dropped or forgotten early.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Limit {
    /// Unsigned updates a second from one source.
    UpdateRate,
    /// Sources whose rate is remembered.
    UpdateSources,
    /// Updates in the queue of a zone's publisher.
    PublisherQueue,
    /// Updates that wait for a zone's write under way.
    StoreQueue,
    /// Copies of updates that wait with their original.
    Retransmissions,
    /// Outcomes that are remembered for retransmissions.
    RecentUpdates,
    /// Replay marks of removed members.
    ReplayMarks,
    /// Records in one update.
    UpdateRecords,
    /// Octets of a name that a member would have.
    NameOctets,
    /// Addresses of a member or of a host.
    MemberAddresses,
    /// Metadata of a member.
    Metadata,
    /// Members of a service.
    ServiceMembers,
    /// Members that share a target.
    TargetMembers,
    /// Services that share a host name.
    HostServices,
    /// Octets of an RRset.
    RrsetOctets,
    /// Leases of a zone.
    ZoneLeases,
    /// Services of a zone.
    ZoneServices,
    /// Leases of one owner in a zone.
    OwnerLeases,
    /// Services of a zone that one owner has members in.
    OwnerServices,
    /// Zone transfers at once.
    Transfers,
    /// Updates on their way to a primary.
    Forwards,
    /// Answers a second to a network over UDP: dropped.
    AnswerRate,
    /// The same: told to use TCP.
    AnswerSlips,
    /// Datagrams that wait to be handled.
    GeneralQueue,
    /// Answers over UDP that the kernel takes.
    Unsent,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = Limit::ALL.len();

    /// All of them, each at the place of its number.
    pub const ALL: [Limit; 25] = [
        Limit::UpdateRate,
        Limit::UpdateSources,
        Limit::PublisherQueue,
        Limit::StoreQueue,
        Limit::Retransmissions,
        Limit::RecentUpdates,
        Limit::ReplayMarks,
        Limit::UpdateRecords,
        Limit::NameOctets,
        Limit::MemberAddresses,
        Limit::Metadata,
        Limit::ServiceMembers,
        Limit::TargetMembers,
        Limit::HostServices,
        Limit::RrsetOctets,
        Limit::ZoneLeases,
        Limit::ZoneServices,
        Limit::OwnerLeases,
        Limit::OwnerServices,
        Limit::Transfers,
        Limit::Forwards,
        Limit::AnswerRate,
        Limit::AnswerSlips,
        Limit::GeneralQueue,
        Limit::Unsent,
    ];

    /// Its name in logs and metrics, which stays the same.
    pub fn label(self) -> &'static str {
        self.texts().0
    }

    /// What is counted, for people.
    pub fn meaning(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Limit::UpdateRate => ("update-rate", "unsigned updates dropped, beyond dns.update-rate of their source"),
            Limit::UpdateSources => ("update-sources", "unsigned updates dropped, from more sources than are counted"),
            Limit::PublisherQueue => ("publisher-queue", "updates dropped, more than a zone's queue holds"),
            Limit::StoreQueue => ("store-queue", "updates answered SERVFAIL, more than may wait for the store"),
            Limit::Retransmissions => ("retransmissions", "copies of updates dropped, their originals are answered"),
            Limit::RecentUpdates => ("recent-updates", "outcomes forgotten early, a late copy counts as new"),
            Limit::ReplayMarks => ("replay-marks", "replay marks of removed members forgotten early"),
            Limit::UpdateRecords => ("update-records", "updates refused, with too many records"),
            Limit::NameOctets => ("name-octets", "registrations refused, names would be too long"),
            Limit::MemberAddresses => ("member-addresses", "registrations refused, with too many addresses"),
            Limit::Metadata => ("metadata", "registrations refused, with too much metadata"),
            Limit::ServiceMembers => ("service-members", "registrations refused, the service has too many members"),
            Limit::TargetMembers => ("target-members", "registrations refused, too many members share a target"),
            Limit::HostServices => ("host-services", "registrations refused, too many services share a host name"),
            Limit::RrsetOctets => ("rrset-octets", "registrations refused, a set would not fit an answer"),
            Limit::ZoneLeases => ("zone-leases", "registrations refused, the zone has too many leases"),
            Limit::ZoneServices => ("zone-services", "registrations refused, the zone has too many services"),
            Limit::OwnerLeases => ("owner-leases", "registrations refused, their owner has too many leases"),
            Limit::Forwards => ("forwards", "updates for copies dropped, more than may be on their way to a primary"),
            Limit::AnswerRate => ("answer-rate", "queries over UDP not answered, beyond dns.rrl.rate of their network"),
            Limit::AnswerSlips => {
                ("answer-slips", "queries over UDP told to use TCP, beyond dns.rrl.rate of their network")
            }
            Limit::Unsent => {
                ("unsent", "answers over UDP that the kernel did not take, its buffer full or no way there")
            }
            Limit::GeneralQueue => {
                ("general-queue", "datagrams dropped, more than wait for what takes more than copying")
            }
            Limit::Transfers => ("transfers", "zone transfers answered SERVFAIL, more than there may be at once"),
            Limit::OwnerServices => ("owner-services", "registrations refused, their owner is in too many services"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_limit_has_its_place_and_a_label_of_its_own() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{limit:?}");
            let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(limit.label().chars().all(kebab) && !limit.meaning().is_empty(), "{limit:?}");
        }
        let labels: HashSet<&str> = Limit::ALL.iter().map(|limit| limit.label()).collect();
        assert_eq!(labels.len(), Limit::COUNT);
    }
}
