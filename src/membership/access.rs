//! Who may register what, and who may transfer a zone.
//!
//! An entry names a key, a network, or both, and what they may touch: services, ids, whose members, and which other
//! records. A signed request is judged by the entries that name its key; only where no entry names the key, and for
//! unsigned requests, do the entries with just a network count. Several entries for the same key add up.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::base::Name;

/// Who sent a request, as far as it was proven.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The TSIG key whose signature was verified.
    pub key: Option<Name>,
    /// Where the request came from.
    pub address: IpAddr,
    /// Whether that address was proven by a handshake (TCP), or could be forged (UDP).
    pub connected: bool,
}

/// The same, borrowed.
#[derive(Clone, Copy)]
struct Asker<'a> {
    key: Option<&'a Name>,
    address: IpAddr,
    connected: bool,
}

impl Identity {
    fn asker(&self) -> Asker<'_> {
        Asker { key: self.key.as_ref(), address: self.address, connected: self.connected }
    }
}

/// Who registered a member or record: the key or the access entry. Ends with the member.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Owner(pub Arc<str>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose members an entry lets its holder touch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Only those that the same owner registered.
    Own,
    /// Everybody's.
    Any,
}

/// Patterns in which `*` stands for any run of characters, dots included, and `?` for one character. Matching ignores
/// case. A pattern with a final dot is held against the absolute name, any other against the name below the origin.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Globs(pub Vec<String>);

impl Globs {
    /// Every name.
    pub fn all() -> Globs {
        Globs(vec!["*".to_owned()])
    }

    /// Whether a plain text (an id) matches.
    pub fn match_text(&self, text: &str) -> bool {
        self.0.iter().any(|glob| matches(glob.as_bytes(), text.as_bytes()))
    }

    /// Whether a name in the zone `origin` matches; the origin itself is `@`.
    pub fn match_name(&self, name: &Name, origin: &Name) -> bool {
        // Most entries admit everything or nothing: then the text of the name is not needed.
        if self.0.is_empty() || self.0.iter().any(|glob| glob == "*") {
            return !self.0.is_empty();
        }
        let absolute = name.to_string();
        let origin = origin.to_string();
        let relative = match absolute.strip_suffix(&origin) {
            Some("") => "@",
            Some(below) if origin == "." || below.ends_with('.') => below.trim_end_matches('.'),
            _ => &absolute,
        };
        self.0.iter().any(|glob| {
            let subject = if glob.ends_with('.') { absolute.as_str() } else { relative };
            matches(glob.as_bytes(), subject.as_bytes())
        })
    }
}

/// Linear in practice, never exponential: on a mismatch only the last star moves on.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g + 1, t));
                g += 1;
            }
            Some(&c) if c == b'?' || c.eq_ignore_ascii_case(&text[t]) => {
                g += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    g = star;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}

/// One `[access] update` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateEntry {
    /// The key that must have signed.
    pub key: Option<Name>,
    /// The network that the request must come from.
    pub network: Option<IpNet>,
    /// Services, by their name below the origin (`_memcached._tcp`).
    pub services: Globs,
    /// Member ids.
    pub ids: Globs,
    /// Whose members.
    pub members: Scope,
    /// Owners of leased records.
    pub records: Globs,
}

impl UpdateEntry {
    /// What holds without any entry: loopback may register any member, and no other record.
    pub fn loopback() -> Vec<UpdateEntry> {
        loopback_networks()
            .map(|network| UpdateEntry {
                key: None,
                network: Some(network),
                services: Globs::all(),
                ids: Globs::all(),
                members: Scope::Any,
                records: Globs::default(),
            })
            .collect()
    }

    fn owner(&self) -> Owner {
        match (&self.key, &self.network) {
            (Some(key), _) => Owner(format!("key {key}").into()),
            (None, Some(network)) => Owner(format!("network {network}").into()),
            (None, None) => Owner("anyone".into()),
        }
    }
}

/// What an entry demands of who asks.
trait Demand {
    fn key(&self) -> Option<&Name>;
    fn network(&self) -> Option<&IpNet>;

    fn network_admits(&self, asker: Asker<'_>) -> bool {
        let Some(network) = self.network() else { return true };
        let address = asker.address.to_canonical();
        // UDP sources can be forged, so a network alone admits a datagram from loopback only.
        network.contains(&address) && (self.key().is_some() || asker.connected || address.is_loopback())
    }
}

impl Demand for UpdateEntry {
    fn key(&self) -> Option<&Name> {
        self.key.as_ref()
    }

    fn network(&self) -> Option<&IpNet> {
        self.network.as_ref()
    }
}

impl Demand for TransferEntry {
    fn key(&self) -> Option<&Name> {
        self.key.as_ref()
    }

    fn network(&self) -> Option<&IpNet> {
        self.network.as_ref()
    }
}

/// The entries that apply to who asks: those that name its key, or else those that name none.
fn applying<'e, 'a, T>(
    entries: &'e [T],
    asker: Asker<'a>,
    demand: fn(&T) -> &dyn Demand,
) -> impl Iterator<Item = &'e T> {
    let names_key = move |entry: &T| asker.key.is_some_and(|key| demand(entry).key() == Some(key));
    let by_key = entries.iter().any(names_key);
    let is_considered = move |entry: &&T| if by_key { names_key(entry) } else { demand(entry).key().is_none() };
    entries.iter().filter(is_considered).filter(move |entry| demand(entry).network_admits(asker))
}

/// The networks that are loopback, which is all that is admitted without any entry.
fn loopback_networks() -> impl Iterator<Item = IpNet> {
    ["127.0.0.0/8", "::1/128"].into_iter().map(|network| network.parse().expect("a network"))
}

/// One `[access] transfer` entry: whoever has the key, the network, or both if it names both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferEntry {
    /// The key that must have signed.
    pub key: Option<Name>,
    /// The network that the request must come from.
    pub network: Option<IpNet>,
}

/// The `[access] transfer` entries of a zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferAccess(pub Vec<TransferEntry>);

impl Default for TransferAccess {
    /// What holds without any entry: loopback may.
    fn default() -> TransferAccess {
        TransferAccess(loopback_networks().map(|network| TransferEntry { key: None, network: Some(network) }).collect())
    }
}

impl TransferAccess {
    /// Whether somebody may have the zone.
    pub fn admits(&self, identity: &Identity) -> bool {
        applying(&self.0, identity.asker(), |entry| entry).next().is_some()
    }
}

/// The `[access] update` entries of a zone.
#[derive(Clone, Debug)]
pub struct UpdateAccess {
    entries: Vec<(UpdateEntry, Owner)>,
}

/// What one requester may do: the entries that apply to it.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    entries: Vec<&'a (UpdateEntry, Owner)>,
    by: Arc<str>,
}

/// What an entry permits: as whom, and on whose members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The owner of what gets registered.
    pub owner: Owner,
    /// Whose members may be touched.
    pub scope: Scope,
}

impl Permit {
    /// Whether something of this owner may be changed or removed.
    pub fn covers(&self, owner: &Owner) -> bool {
        self.scope == Scope::Any || self.owner == *owner
    }
}

impl UpdateAccess {
    /// Takes the entries in the order of the configuration.
    pub fn new(entries: Vec<UpdateEntry>) -> UpdateAccess {
        UpdateAccess { entries: entries.into_iter().map(|entry| (entry.owner(), entry)).map(|(o, e)| (e, o)).collect() }
    }

    /// Whether some entry applies to a requester. Allocates nothing.
    pub fn admits(&self, key: Option<&Name>, address: IpAddr, connected: bool) -> bool {
        applying(&self.entries, Asker { key, address, connected }, |(entry, _)| entry).next().is_some()
    }

    /// The entries that apply to a requester; `None` when there are none, and the request is refused as a whole.
    pub fn grant(&self, identity: &Identity) -> Option<Grant<'_>> {
        let entries: Vec<_> = applying(&self.entries, identity.asker(), |(entry, _)| entry).collect();
        let by = match &identity.key {
            Some(key) => format!("key {key}"),
            None => format!("address {}", identity.address.to_canonical()),
        };
        (!entries.is_empty()).then(|| Grant { entries, by: by.into() })
    }
}

impl Grant<'_> {
    /// Who asks, for the causes of commits.
    pub fn by(&self) -> &Arc<str> {
        &self.by
    }

    /// Whether members of this service with this id may be registered; the widest scope among the entries that say so.
    pub fn member(&self, service: &Name, id: &str, origin: &Name) -> Option<Permit> {
        self.permit(|entry| entry.services.match_name(service, origin) && entry.ids.match_text(id))
    }

    /// Whether members of this service, whatever their id, may be touched (a delete of the whole RRset or name).
    pub fn service(&self, service: &Name, origin: &Name) -> Option<Permit> {
        self.permit(|entry| entry.services.match_name(service, origin))
    }

    /// Whether leased records may stand at this owner.
    pub fn record(&self, owner: &Name, origin: &Name) -> Option<Permit> {
        self.permit(|entry| entry.records.match_name(owner, origin))
    }

    fn permit(&self, admits: impl Fn(&UpdateEntry) -> bool) -> Option<Permit> {
        let mut found: Option<Permit> = None;
        for (entry, owner) in self.entries.iter().filter(|(entry, _)| admits(entry)) {
            if found.as_ref().is_none_or(|permit| permit.scope == Scope::Own && entry.members == Scope::Any) {
                found = Some(Permit { owner: owner.clone(), scope: entry.members });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(key: Option<&str>, address: &str, connected: bool) -> Identity {
        Identity { key: key.map(|key| key.parse().unwrap()), address: address.parse().unwrap(), connected }
    }

    fn entry(key: Option<&str>, network: Option<&str>, services: &[&str], members: Scope) -> UpdateEntry {
        UpdateEntry {
            key: key.map(|key| key.parse().unwrap()),
            network: network.map(|network| network.parse().unwrap()),
            services: Globs(services.iter().map(|&glob| glob.to_owned()).collect()),
            ids: Globs::all(),
            members,
            records: Globs::default(),
        }
    }

    #[test]
    fn globs_match_relative_and_absolute_names() {
        let origin: Name = "svc.example.test.".parse().unwrap();
        let name = |text: &str| Name::parse(text, Some(&origin)).unwrap();
        let globs = |text: &str| Globs(vec![text.to_owned()]);
        assert!(globs("_memcached._tcp").match_name(&name("_memcached._tcp"), &origin));
        assert!(!globs("_memcached._tcp").match_name(&name("_memcached._tcp.east"), &origin));
        assert!(globs("_acme-challenge.*").match_name(&name("_ACME-challenge.www"), &origin));
        assert!(globs("*.svc.example.test.").match_name(&name("a.b"), &origin));
        assert!(globs("@").match_name(&origin, &origin));
        assert!(globs("*").match_name(&name("anything.at.all"), &origin));
        assert!(globs("h?st-*b*").match_text("host-aabaa"));
        assert!(!globs("h?st-*b").match_text("host-aabaa"));
        assert!(!Globs::default().match_text("x"));
    }

    #[test]
    fn a_network_alone_admits_datagrams_from_loopback_only() {
        let access = UpdateAccess::new(vec![entry(None, Some("10.0.0.0/8"), &["*"], Scope::Any)]);
        assert!(access.grant(&identity(None, "10.1.2.3", true)).is_some());
        assert!(access.grant(&identity(None, "10.1.2.3", false)).is_none());
        let loopback = UpdateAccess::new(UpdateEntry::loopback());
        assert!(loopback.grant(&identity(None, "127.0.0.9", false)).is_some());
        assert!(loopback.grant(&identity(None, "::1", false)).is_some());
        assert!(loopback.grant(&identity(None, "::ffff:127.0.0.1", false)).is_some());
        assert!(loopback.grant(&identity(None, "192.0.2.1", true)).is_none());
    }

    #[test]
    fn a_key_with_entries_is_judged_by_those_alone_and_they_add_up() {
        let origin: Name = "z.".parse().unwrap();
        let service = |text: &str| Name::parse(text, Some(&origin)).unwrap();
        let access = UpdateAccess::new(vec![
            entry(Some("a."), None, &["_x._tcp"], Scope::Own),
            entry(Some("a."), None, &["_y._tcp"], Scope::Any),
            entry(None, Some("127.0.0.0/8"), &["*"], Scope::Any),
        ]);
        let by_key = access.grant(&identity(Some("a."), "127.0.0.1", true)).unwrap();
        assert_eq!(by_key.member(&service("_x._tcp"), "i", &origin).unwrap().scope, Scope::Own);
        assert_eq!(by_key.member(&service("_y._tcp"), "i", &origin).unwrap().scope, Scope::Any);
        assert!(by_key.member(&service("_z._tcp"), "i", &origin).is_none());
        // Nobody configured key b., so it counts for what its address is worth.
        let other = access.grant(&identity(Some("b."), "127.0.0.1", false)).unwrap();
        assert_eq!(&*other.member(&service("_z._tcp"), "i", &origin).unwrap().owner.0, "network 127.0.0.0/8");
        assert!(access.grant(&identity(Some("b."), "192.0.2.1", true)).is_none());
    }

    #[test]
    fn transfers_go_by_key_network_or_both_and_by_loopback_without_entries() {
        let of = |key: Option<&str>, network: Option<&str>| TransferEntry {
            key: key.map(|key| key.parse().unwrap()),
            network: network.map(|network| network.parse().unwrap()),
        };
        let usual = TransferAccess::default();
        assert!(usual.admits(&identity(None, "127.0.0.9", false)) && usual.admits(&identity(None, "::1", true)));
        assert!(!usual.admits(&identity(None, "192.0.2.1", true)));
        let access = TransferAccess(vec![
            of(Some("a."), None),
            of(None, Some("192.0.2.0/24")),
            of(Some("b."), Some("198.51.100.0/24")),
        ]);
        assert!(access.admits(&identity(Some("a."), "203.0.113.1", false)));
        assert!(access.admits(&identity(None, "192.0.2.7", true)));
        assert!(!access.admits(&identity(None, "192.0.2.7", false)), "an address of UDP can be forged");
        assert!(access.admits(&identity(Some("c."), "192.0.2.7", true)), "a key without entries counts for nothing");
        assert!(access.admits(&identity(Some("b."), "198.51.100.1", false)));
        assert!(!access.admits(&identity(Some("b."), "192.0.2.7", true)), "a key with entries is judged by those");
        assert!(!access.admits(&identity(None, "127.0.0.1", true)), "loopback stands in no entry");
        assert!(!TransferAccess(Vec::new()).admits(&identity(Some("a."), "127.0.0.1", true)));
    }

    #[test]
    fn an_entry_with_key_and_network_needs_both() {
        let access = UpdateAccess::new(vec![entry(Some("a."), Some("192.0.2.0/24"), &["*"], Scope::Own)]);
        assert!(access.grant(&identity(Some("a."), "192.0.2.7", false)).is_some());
        assert!(access.grant(&identity(Some("a."), "198.51.100.1", true)).is_none());
        assert!(access.grant(&identity(None, "192.0.2.7", true)).is_none());
    }
}
