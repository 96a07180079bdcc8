//! What can be told of an update before it is carried out.
//!
//! While a write is under way, an update that only renews is answered at once, and others wait to be carried out after it.
//! To find out which it is, it is carried out on a copy, and that is most of its cost. Most updates that have to wait
//! register a member that is not there, or withdraw one, which a few look-ups tell.

use crate::base::{Name, RecordType, SeededSet};
use crate::membership::{MemberId, Table};
use crate::zone::layout::is_service_name;
use crate::zone::records::srv;
use crate::zone::{Contents, Rdata};

use super::request::{Instruction, Request};

/// Whether it is certain that an update renews no lease and changes nothing that is there but by taking it away. False says
/// nothing.
pub fn renews_nothing(request: &Request, table: &Table, contents: &Contents) -> bool {
    let Ok(instructions) = &request.instructions else { return false };
    let deleted: SeededSet<(&Name, &Rdata)> = instructions.iter().filter_map(deleted_srv).collect();
    if instructions.iter().all(|instruction| withdraws(instruction, &deleted, table, contents)) {
        return true;
    }
    let mut targets: Vec<Name> = Vec::new();
    for instruction in instructions {
        if let Instruction::Add(service, RecordType::SRV, _, rdata) = instruction {
            match target_of_new(service, rdata, &request.zone, table, contents) {
                Some(target) => targets.push(target),
                None => return false,
            }
        }
    }
    instructions.iter().all(|instruction| match instruction {
        Instruction::Add(_, RecordType::SRV, ..) => true,
        Instruction::Add(name, RecordType::A | RecordType::AAAA, ..) => targets.contains(name),
        _ => false,
    })
}

/// Whether an instruction takes a member away, or what is at the host name of one that the message takes away.
fn withdraws(
    instruction: &Instruction,
    deleted: &SeededSet<(&Name, &Rdata)>,
    table: &Table,
    contents: &Contents,
) -> bool {
    let name = match instruction {
        Instruction::DeleteRecord(_, RecordType::SRV, _) | Instruction::DeleteRrset(_, RecordType::SRV) => return true,
        Instruction::DeleteName(name)
        | Instruction::DeleteRrset(name, RecordType::A | RecordType::AAAA)
        | Instruction::DeleteRecord(name, RecordType::A | RecordType::AAAA, _) => name,
        _ => return false,
    };
    // Whose addresses these may be, that member alone.
    let Some(host) = name.parent() else { return false };
    let ([service], Ok(id)) = (contents.services_at_host(&host), MemberId::from_label(name.first_label())) else {
        return false;
    };
    let Some((_, member)) = table.member(service, id.as_str()) else { return false };
    contents.members_with_target(name).is_empty() && deleted.contains(&(service, &srv::rdata(&member.registration)))
}

/// The service and the SRV record that an instruction deletes from it.
fn deleted_srv(instruction: &Instruction) -> Option<(&Name, &Rdata)> {
    match instruction {
        Instruction::DeleteRecord(service, RecordType::SRV, rdata) => Some((service, rdata)),
        _ => None,
    }
}

/// The target of an SRV record that registers a member under its default host name, if nobody has that name yet and
/// nothing leased is there.
fn target_of_new(service: &Name, rdata: &Rdata, zone: &Name, table: &Table, contents: &Contents) -> Option<Name> {
    let layout = contents.layout(service).filter(|_| is_service_name(service, zone))?;
    let target = srv::fields(rdata).and_then(|(.., target)| Name::from_wire(target).ok())?;
    if target.parent_wire() != Some(layout.host.as_wire()) {
        return None;
    }
    let id = MemberId::from_label(target.first_label()).ok()?;
    let hosted = contents.services_at_host(&layout.host).iter().chain([service]);
    let is_free = hosted.into_iter().all(|service| table.member(service, id.as_str()).is_none())
        && contents.members_with_target(&target).is_empty()
        && table.leased(&target).next().is_none()
        && table.held(&target).is_none();
    is_free.then_some(target)
}
