//! Where the names of a service stand.

use crate::base::Name;
use crate::membership::MemberId;

use super::change::PublishedMember;
use super::settings::{HostName, Settings};

/// The names that belong to one service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The domain that the service is in: the origin, or deeper (`east.Z` for `_memcached._tcp.east.Z`).
    pub domain: Name,
    /// Members' own names stand below it.
    pub host: Name,
    /// Where the address set stands, if one is published.
    pub address_set: Option<Name>,
    /// Whether the service is announced by DNS-SD.
    pub dns_sd: bool,
    /// Whether the service has slots.
    pub slots: bool,
}

/// The number of a slot's label, `s0007`.
pub fn slot_number(label: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(label.strip_prefix(b"s")?).ok()?;
    let canonical = digits.len() == 4 || (digits.len() > 4 && !digits.starts_with('0'));
    (canonical && digits.bytes().all(|octet| octet.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Whether a name has the form of an SRV owner below `origin`: exactly two leading labels with an underscore
/// (RFC 2782, RFC 8552).
pub fn is_service_name(name: &Name, origin: &Name) -> bool {
    let underscored = |label: &[u8]| label.len() > 1 && label[0] == b'_';
    let mut labels = name.labels();
    let (first, second, third) = (labels.next(), labels.next(), labels.next());
    name.is_within(origin)
        && name.labels().count() >= origin.labels().count() + 2
        && first.is_some_and(underscored)
        && second.is_some_and(underscored)
        && !third.is_some_and(underscored)
}

impl Layout {
    /// The layout of a service, or `None` if the name is not one. Its host name always fits, since the service's own name
    /// is longer.
    pub fn of(service: &Name, settings: &Settings) -> Option<Layout> {
        if !is_service_name(service, &settings.origin) {
            return None;
        }
        let domain = service.parent()?.parent()?;
        let default = domain.child(&service.first_label()[1..]).ok()?;
        let entry = settings.services.iter().find(|entry| entry.service == *service);
        let (dns_sd, slots) = entry.map_or((false, false), |entry| (entry.dns_sd, entry.slots));
        let (host, address_set) = match entry.map(|entry| &entry.host_name) {
            // A label too long for its domain is refused with the configuration. What was stored with one all the same
            // has the default: members must have a layout.
            Some(HostName::Label(label)) => {
                let host = domain.child(label).unwrap_or(default);
                (host.clone(), Some(host))
            }
            Some(HostName::Unpublished) => (default, None),
            Some(HostName::Default) | None => (default.clone(), Some(default)),
        };
        Some(Layout { domain, host, address_set, dns_sd, slots })
    }

    /// The name of a member's slot, if it has one.
    pub fn slot_of(&self, member: &PublishedMember) -> Option<Name> {
        member.slot.filter(|_| self.slots).and_then(|number| self.slot_host(number))
    }

    /// The name of a slot: `s0007.memcached.Z`. None if it would be too long.
    pub fn slot_host(&self, number: u32) -> Option<Name> {
        self.host.child(format!("s{number:04}").as_bytes()).ok()
    }

    /// A member's own host name: `i-1.memcached.Z`.
    pub fn member_host(&self, id: &MemberId) -> Option<Name> {
        self.host.child(id.as_str().as_bytes()).ok()
    }
}

/// A member's instance name for DNS-SD and metadata: `i-1._memcached._tcp.Z`.
pub fn instance_name(service: &Name, id: &MemberId) -> Option<Name> {
    service.child(id.as_str().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Ttl;
    use crate::zone::ServiceSettings;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn settings(services: Vec<ServiceSettings>) -> Settings {
        Settings {
            origin: name("z."),
            ttl: Ttl(5),
            negative_ttl: Ttl(2),
            soa_ttl: Ttl(2),
            primary: name("ns1.z."),
            contact: name("h.z."),
            refresh: 1,
            retry: 1,
            expire: 1,
            services,
        }
    }

    #[test]
    fn a_service_has_exactly_two_leading_underscore_labels() {
        let origin = name("z.");
        assert!(is_service_name(&name("_x._tcp.z."), &origin));
        assert!(is_service_name(&name("_x._tcp.east.z."), &origin));
        for other in ["_x.z.", "x._tcp.z.", "_a._b._tcp.z.", "i._x._tcp.z.", "_._tcp.z.", "_x._tcp.y.", "z."] {
            assert!(!is_service_name(&name(other), &origin), "{other}");
        }
        assert!(!is_service_name(&name("_x._tcp."), &name("_tcp.")));
    }

    #[test]
    fn every_service_name_has_a_layout_however_long_its_configured_host_name() {
        let long = "a".repeat(60);
        let origin = name(&format!("{long}.{long}.{long}.{}.", "b".repeat(55)));
        let service = origin.child(b"_t").unwrap().child(b"_x").unwrap();
        let entry = ServiceSettings {
            service: service.clone(),
            host_name: HostName::Label([b'h'; 63].into()),
            ..ServiceSettings::of(service.clone())
        };
        let settings = Settings { origin: origin.clone(), ..settings(vec![entry]) };
        assert_eq!(Layout::of(&service, &settings).unwrap().host, origin.child(b"x").unwrap());
    }

    #[test]
    fn the_host_name_is_the_label_without_underscore_unless_configured() {
        let plain = Layout::of(&name("_memcached._tcp.east.z."), &settings(Vec::new())).unwrap();
        assert_eq!(plain.host, name("memcached.east.z."));
        assert_eq!(plain.address_set, Some(name("memcached.east.z.")));
        assert_eq!(plain.member_host(&MemberId::new("i-1").unwrap()), Some(name("i-1.memcached.east.z.")));
        let entry = |host_name| ServiceSettings { host_name, dns_sd: true, ..ServiceSettings::of(name("_x._tcp.z.")) };
        let named =
            Layout::of(&name("_x._tcp.z."), &settings(vec![entry(HostName::Label(b"cache".as_slice().into()))]))
                .unwrap();
        assert_eq!((named.host, named.address_set), (name("cache.z."), Some(name("cache.z."))));
        let hidden = Layout::of(&name("_x._tcp.z."), &settings(vec![entry(HostName::Unpublished)])).unwrap();
        assert_eq!((hidden.host, hidden.address_set), (name("x.z."), None));
    }
}
