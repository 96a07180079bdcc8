//! Everything that the files say, zones and their static records included: what a start, a reload and `livezone check`
//! begin with.
//!
//! Each zone file is judged for itself, together with its static file, which is read also where the zone file has
//! mistakes: what is wrong with one says nothing of another.
//! Problems are collected and never end the reading, so that one run shows all of them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::base::{Name, RecordType};
use crate::config::{self, Config, Position, Problem, Problems};
use crate::membership::Quotas;
use crate::zone::cut::Cut;
use crate::zone::file::{self, LocatedNode};
use crate::zone::layout::slot_number;
use crate::zone::{Layout, Settings, StaticNode};

use super::reload::Source;

/// A zone with its static records: all that a publisher is configured with.
#[derive(Clone, PartialEq, Debug)]
pub struct Ready {
    /// The zone file.
    pub zone: config::Zone,
    /// The static records, in canonical order, with their places.
    pub statics: Vec<LocatedNode>,
    /// How much it takes, which `livezone.toml` says for all zones.
    pub quotas: Quotas,
}

impl Ready {
    /// Its apex.
    pub fn origin(&self) -> &Name {
        &self.zone.settings.origin
    }

    /// The static records without their places.
    pub fn nodes(&self) -> Vec<StaticNode> {
        self.statics.iter().map(|located| located.node.clone()).collect()
    }

    /// A problem with the static records at a name.
    pub fn problem_at(&self, name: &Name, message: String) -> Problem {
        match self.statics.iter().find(|located| located.node.name == *name) {
            Some(located) => located_problem(located, message),
            None => problem_of(&self.zone, message),
        }
    }
}

/// A zone file, judged for itself.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The file.
    pub path: PathBuf,
    /// The zone that it is about, if that much is legible.
    pub origin: Option<Name>,
    /// The zone, if nothing is wrong with it.
    pub ready: Option<Ready>,
}

/// The configuration, the zones and the static records, as they stand in their files.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What `livezone.toml` says, if nothing is wrong with it.
    pub config: Option<Config>,
    /// The folder of the zone files, as far as it is known.
    pub zones_dir: Option<PathBuf>,
    /// The zone files; `None` if their folder can't be read or isn't known.
    pub zones: Option<Vec<Judged>>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// What is accepted but worth a word, as `file:line: text`.
    pub warnings: Vec<String>,
    /// Every file that was looked at, readable or not.
    pub files: Vec<PathBuf>,
}

/// Reads everything. Where `livezone.toml` is wrong, the zones are held against the configuration that is running.
pub fn read(path: Option<&Path>, running: Option<&Config>) -> Reading {
    let config::Reading { config, zones_dir, zones, mut problems } = config::read_all(path, running);
    let mut warnings: Vec<String> = config.iter().flat_map(|config| config.warnings.clone()).collect();
    let mut files: Vec<PathBuf> = path.map(Path::to_owned).into_iter().collect();
    files.extend(config.as_ref().or(running).into_iter().flat_map(|config| config.files.clone()));
    let quotas = config.as_ref().or(running).map_or_else(Quotas::default, |config| config.limits.quotas);
    let zones = zones.map(|zones| {
        let judge = |file: config::ZoneFile| {
            files.push(file.path.clone());
            if let Some(config::FaultyZone { zone, has_primary }) = &file.faulty {
                // Not to be loaded; what else is wrong shows in the same run.
                let (statics, read) = read_statics(zone, *has_primary);
                files.extend(read);
                match statics {
                    Ok((_, found)) => warnings.extend(zone.warnings.iter().cloned().chain(found)),
                    Err(found) => problems.extend(found),
                }
            }
            let ready = file.zone.and_then(|zone| {
                warnings.extend(zone.warnings.iter().cloned());
                let (statics, read) = read_statics(&zone, true);
                files.extend(read);
                match statics {
                    Ok((statics, found)) => {
                        warnings.extend(found);
                        Some(Ready { zone, statics, quotas })
                    }
                    Err(found) => {
                        problems.extend(found);
                        None
                    }
                }
            });
            Judged { path: file.path, origin: file.origin, ready }
        };
        zones.into_iter().map(judge).collect()
    });
    Reading { config, zones_dir, zones, problems, warnings, files }
}

impl Reading {
    /// All of it for a start, or all problems.
    pub fn whole(self, path: Option<&Path>) -> Result<(Config, Vec<Ready>, Source), Problems> {
        if let Some(problems) = Problems::new(self.problems) {
            return Err(problems);
        }
        let config = self.config.expect("without problems it was read");
        let zones = self.zones.into_iter().flatten().filter_map(|judged| judged.ready).collect();
        let path = path.map(Path::to_owned);
        let source = Source { path, config: config.clone(), files: self.files, warnings: self.warnings };
        Ok((config, zones, source))
    }
}

/// The folder holds no zone file: more likely a slip than a wish.
pub fn no_zone(dir: &Path) -> Problem {
    let message = "no zone file is here: put one like svc.example.test.toml there, with at least origin = \
                   \"svc.example.test.\"";
    Problem { file: dir.to_owned(), position: None, message: message.to_owned() }
}

/// The static records of a zone, or the problems with them; and the files that were looked at.
type Statics = (Result<(Vec<LocatedNode>, Vec<String>), Vec<Problem>>, Vec<PathBuf>);

/// Reads the static records of a zone, and holds them and its settings against each other, as far as these are known.
fn read_statics(zone: &config::Zone, has_primary: bool) -> Statics {
    if zone.following.is_some() {
        return (Ok((Vec::new(), Vec::new())), Vec::new());
    }
    let settings = &zone.settings;
    let files = RefCell::new(Vec::new());
    let nodes = match &zone.static_file {
        None => Ok(Vec::new()),
        Some(path) => {
            let include = |path: &Path| {
                files.borrow_mut().push(path.to_owned());
                std::fs::read_to_string(path)
            };
            match include(path) {
                Ok(text) => file::parse_located(&text, path, &settings.origin, settings.ttl, &include)
                    .map_err(|errors| errors.into_iter().map(Problem::from).collect()),
                Err(cause) => {
                    let message = format!("the static file {} can't be read: {cause}", path.display());
                    Err(vec![problem_of(zone, message)])
                }
            }
        }
    };
    let judged = nodes.and_then(|nodes| {
        let mut problems = if has_primary { check_apex(zone, &nodes) } else { Vec::new() };
        let mut warnings = Vec::new();
        check_services(settings, &nodes, &mut problems, &mut warnings);
        if problems.is_empty() { Ok((nodes, warnings)) } else { Err(problems) }
    });
    (judged, files.into_inner())
}

fn problem_of(zone: &config::Zone, message: String) -> Problem {
    Problem { file: zone.source.clone(), position: Some(zone.at), message }
}

fn located_problem(located: &LocatedNode, message: String) -> Problem {
    let position = Position { line: located.at.line, column: located.at.column };
    Problem { file: located.file.to_path_buf(), position: Some(position), message }
}

/// The static records at a name.
pub(super) fn find<'a>(nodes: &'a [LocatedNode], name: &Name) -> Option<&'a LocatedNode> {
    nodes.iter().find(|located| located.node.name == *name)
}

fn has(located: &LocatedNode, wanted: impl Fn(RecordType) -> bool) -> bool {
    located.node.rrsets.iter().any(|rrset| wanted(rrset.rtype))
}

/// A zone needs an apex NS and an address for it if it lies inside. With static NS records the master file's own rules
/// see to that.
fn check_apex(zone: &config::Zone, nodes: &[LocatedNode]) -> Vec<Problem> {
    let Settings { origin, primary, .. } = &zone.settings;
    let apex_ns = find(nodes, origin).is_some_and(|apex| has(apex, |rtype| rtype == RecordType::NS));
    let address = find(nodes, primary).is_some_and(|node| has(node, |rtype| rtype.is_address()));
    if apex_ns || address || !primary.is_within(origin) {
        return Vec::new();
    }
    let message = format!(
        "the zone has no NS record, so its name server is soa.primary, {primary}, and that name has no address: add \
         NS and address records to a static file, or set soa.primary to a name outside of the zone"
    );
    vec![problem_of(zone, message)]
}

/// Holds the static records against the names that the configured services make.
fn check_services(settings: &Settings, nodes: &[LocatedNode], problems: &mut Vec<Problem>, warnings: &mut Vec<String>) {
    let origin = &settings.origin;
    for entry in &settings.services {
        let service = &entry.service;
        let Some(layout) = Layout::of(service, settings) else { continue };
        let mut own = vec![service.clone()];
        if entry.dns_sd {
            let below = |label: &[u8]| layout.domain.child(b"_udp")?.child(b"_dns-sd")?.child(label);
            own.extend([b"_services".as_slice(), b"b", b"lb"].into_iter().filter_map(|label| below(label).ok()));
        }
        for name in &own {
            let alias = find(nodes, name).filter(|node| has(node, |rtype| rtype == RecordType::CNAME));
            if let Some(located) = alias {
                let message = format!(
                    "{name} belongs to the service {service} and can't have a CNAME beside its records (RFC 1034 \
                     §3.6.2): remove the CNAME, or the service"
                );
                problems.push(located_problem(located, message));
            }
        }
        for name in own.iter().chain([&layout.host]) {
            let holds = |at: &Name, wanted| find(nodes, at).is_some_and(|node| has(node, |rtype| rtype == wanted));
            if let Some(cut) = Cut::above(name, origin, holds) {
                let (above, verb) = (&cut.name, cut.verb());
                let message = format!(
                    "{above} is {verb}, so {name} of the service {service} would never be answered: remove the {} \
                     record, or the service",
                    cut.rtype
                );
                problems.extend(find(nodes, above).map(|located| located_problem(located, message)));
            }
        }
        let is_slot = |name: &Name| {
            entry.slots && slot_number(name.first_label()).is_some() && name.parent().as_ref() == Some(&layout.host)
        };
        for located in nodes.iter().filter(|located| is_slot(&located.node.name)) {
            let message = format!(
                "{} is the name of a slot of {service}, which has the address of whoever holds it: give these records \
                 another name, or set slots = false",
                located.node.name
            );
            problems.push(located_problem(located, message));
        }
        if let Some(located) = layout.address_set.as_ref().and_then(|set| find(nodes, set)) {
            warnings.push(format!(
                "{}:{}: static records hold {}: the address set of {service} is left out; give it another host-name, \
                 or \"\" for none",
                located.file.display(),
                located.at.line,
                located.node.name,
            ));
        }
    }
    problems.dedup();
}

/// Adds the static records to a zone that was read by itself, and the default quotas.
pub fn read_zone(zone: config::Zone) -> Result<Ready, Problems> {
    match read_statics(&zone, true).0 {
        Ok((statics, _)) => Ok(Ready { zone, statics, quotas: Quotas::default() }),
        Err(problems) => Err(Problems::new(problems).expect("a zone that is not read leaves a problem")),
    }
}
