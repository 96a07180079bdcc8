//! Carrying an update out on a copy, and what comes of it.
//!
//! An update is compared with what was there at its end: a member that differs is put, one that doesn't has renewed its
//! lease, one that was deleted goes. Nothing is applied here; the publisher does that.

use std::net::IpAddr;

use std::rc::Rc;
use std::sync::Arc;

use crate::base::{Name, NameMap, NameSet, Now, RecordType};
use crate::membership::{Grant, LeaseLimits, Policies, Quotas, Table};
use crate::zone::layout::is_service_name;
use crate::zone::records::srv;
use crate::zone::registration::{Ground, Outcome};
use crate::zone::{Contents, Snapshot};

use super::Refusal;
use super::draft::Draft;
use super::prerequisite::{View, check};
use super::request::{Instruction, Request};

/// What a zone's configuration says about updates.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The leases that it grants, and what else it lays down about members.
    pub policies: Arc<Policies>,
    /// How many.
    pub quotas: Quotas,
    /// Whether a member without an address gets its sender's.
    pub peer_address: bool,
    /// Who forwards for others, besides the zone's name servers: the listed secondaries.
    pub forwarders: Vec<IpAddr>,
}

/// How an update ends that is not refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Execution {
    /// To be applied.
    Apply(Outcome),
    /// Everything that it touches has accepted this very message before: what it would come to is not applied again.
    Repeat(Outcome),
    /// Something that it touches has accepted a later signature.
    Older,
}

impl Rules {
    /// The leases of what is no member.
    pub fn leases(&self) -> &LeaseLimits {
        &self.policies.zone.leases
    }

    /// The leases of a service's members.
    pub fn leases_of(&self, service: &Name) -> &LeaseLimits {
        &self.policies.of(service).leases
    }
}

/// What an update is executed against.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The members as registered, earlier messages of the batch included.
    pub table: &'a Table,
    /// The sources of the zone, likewise.
    pub contents: &'a Contents,
    /// For prerequisites on the SOA.
    pub snapshot: &'a Snapshot,
    /// The zone's rules.
    pub rules: &'a Rules,
    /// What the requester may do; `None`: nothing.
    pub grant: Option<&'a Grant<'a>>,
    /// The time.
    pub now: Now,
}

impl<'a> Scene<'a> {
    /// What the outcome is held against.
    pub(super) fn ground(&self) -> Ground<'a> {
        Ground { table: self.table, contents: self.contents, quotas: &self.rules.quotas }
    }
}

/// Carries an update out on a copy.
pub fn execute(request: &Request, scene: Scene<'_>) -> Result<Execution, Refusal> {
    // Deviates: RFC 2136 has prerequisites (§3.2) before permission (§3.3). Whoever may change nothing here gets no work
    // done and learns nothing; what a requester may do in detail is looked at behind the prerequisites.
    let grant = scene.grant.ok_or_else(|| nobody_admits(request))?;
    check(&request.prerequisites, &mut View::new(scene.contents, scene.snapshot))?;
    let instructions = request.instructions.as_ref().map_err(Clone::clone)?;
    let mut targets = NameSet::default();
    for instruction in instructions {
        if let Instruction::Add(name, RecordType::SRV, _, rdata) = instruction
            && is_service_name(name, &request.zone)
        {
            targets.extend(srv::fields(rdata).and_then(|(.., target)| Name::from_wire(target).ok()));
        }
    }
    let withdraws = request.lease.is_some_and(|(lease, _)| lease == 0);
    let mut executor = Executor {
        draft: Draft::new(scene.table, scene.contents),
        origin: &request.zone,
        request,
        scene,
        grant,
        targets,
        withdraws,
        swept: NameSet::default(),
        fixed: NameMap::default(),
    };
    for instruction in instructions {
        executor.step(instruction)?;
    }
    executor.finish()
}

/// The refusal of a requester that may change nothing.
pub(super) fn nobody_admits(request: &Request) -> Refusal {
    Refusal::prohibited(format!("no [access] update entry admits {}", who(request)))
}

/// The requester, for refusals.
pub(super) fn who(request: &Request) -> String {
    match &request.identity.key {
        Some(key) => format!("key {key} from {}", request.peer.ip()),
        None => format!("unsigned updates from {}", request.peer.ip()),
    }
}

/// An update at work.
pub(super) struct Executor<'a> {
    pub(super) draft: Draft<'a>,
    pub(super) origin: &'a Name,
    pub(super) request: &'a Request,
    pub(super) scene: Scene<'a>,
    pub(super) grant: &'a Grant<'a>,
    /// The SRV targets that the message adds.
    pub(super) targets: NameSet,
    /// Update Lease of 0: what the message names is withdrawn.
    pub(super) withdraws: bool,
    /// Services whose SRV set was deleted with nothing added since.
    pub(super) swept: NameSet,
    /// Types at a name that aren't leased, looked up once a message.
    pub(super) fixed: NameMap<Rc<[RecordType]>>,
}

impl Executor<'_> {
    fn step(&mut self, instruction: &Instruction) -> Result<(), Refusal> {
        match instruction {
            Instruction::Add(name, rtype, ttl, rdata) => self.add(name, *rtype, *ttl, rdata),
            Instruction::DeleteRrset(name, rtype) => self.delete(name, Some(*rtype), None),
            Instruction::DeleteName(name) => self.delete(name, None, None),
            Instruction::DeleteRecord(name, rtype, rdata) => self.delete(name, Some(*rtype), Some(rdata)),
        }
    }
}
