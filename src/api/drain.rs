//! Draining with a promise, and letting go of what is held.

use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use serde::{Deserialize, Serialize};

use crate::base::{Epoch, Name};
use crate::membership::MemberId;
use crate::zone::registration::order::{Action, Order};

use super::ServedZone;
use super::orders::{self, Acknowledgement};
use super::problem::Problem;
use super::routes::{Answer, Api, MemberPath, Parameters, accept_parameters, document, json, loaded};
use super::serve::Peer;
use super::views::MemberState;

/// How a member that drains stands: the reply to `POST …/drain`, and what `GET …/drain` follows it with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrainView {
    /// Where it stands.
    pub state: MemberState,
    /// From when on no cache that keeps to TTLs leads to it; null while servers are waited for, or while it doesn't drain.
    pub safe_to_stop_at: Option<String>,
    /// The secondaries that don't serve the zone without it yet; once the wait has ended by `drain-timeout`, those that
    /// were missing.
    pub waiting_for: Vec<String>,
    /// Whether the wait ended without them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

/// What was let go of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseView {
    /// The zone's epoch without them.
    pub epoch: u64,
    /// The serial then.
    pub serial: u32,
    /// The ids of those that were held and are withdrawn.
    pub released: Vec<String>,
}

pub(super) async fn drain(
    State(api): Api,
    path: MemberPath,
    Extension(peer): Extension<Peer>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let Path((zone, service, id)) = path?;
    let (zone, service, id) = api.find_member(&zone, &service, &id)?;
    let order = Order { service: service.clone(), id: id.clone(), action: Action::Drain };
    let reports = api.directory.order(&zone.origin, orders::anybody(peer), vec![order]).await?;
    let done = Acknowledgement::of_one(reports)?;
    if done.changed {
        // Whatever was waited for before is past.
        api.directory.undrained(&zone.origin, &service, &id);
    }
    let state = done.state.unwrap_or(MemberState::Draining);
    Ok(document(json(&api.directory.drained(&zone.origin, &service, &id, state, Epoch(done.epoch))), None))
}

pub(super) async fn follow(State(api): Api, path: MemberPath, parameters: Parameters) -> Answer {
    accept_parameters(parameters, &[])?;
    let Path((zone, service, id)) = path?;
    let (zone, service, id) = api.find_member(&zone, &service, &id)?;
    let epoch = loaded(&zone)?.epoch;
    let unknown = || {
        api.directory.undrained(&zone.origin, &service, &id);
        Problem::unknown_member(&service, id.as_str())
    };
    let view = api.directory.service(&zone.origin, &service).await?.ok_or_else(unknown)?;
    let member = view.members.into_iter().find(|member| member.id == id.as_str()).ok_or_else(unknown)?;
    let view = if member.state == MemberState::Draining {
        api.directory.drained(&zone.origin, &service, &id, member.state, epoch)
    } else {
        api.directory.undrained(&zone.origin, &service, &id);
        DrainView { state: member.state, safe_to_stop_at: None, waiting_for: Vec::new(), timed_out: false }
    };
    Ok(document(json(&view), None))
}

pub(super) async fn undrain(
    State(api): Api,
    path: MemberPath,
    Extension(peer): Extension<Peer>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let Path((zone, service, id)) = path?;
    let (zone, service, id) = api.find_member(&zone, &service, &id)?;
    api.directory.undrained(&zone.origin, &service, &id);
    api.order(&zone, Order { service, id, action: Action::Undrain }, peer).await
}

/// Withdraws one held member.
pub(super) async fn release(
    State(api): Api,
    path: MemberPath,
    Extension(peer): Extension<Peer>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let Path((zone, service, id)) = path?;
    let (zone, service, id) = api.find_member(&zone, &service, &id)?;
    let view = api.directory.service(&zone.origin, &service).await?;
    let members = view.map_or_else(Vec::new, |view| view.members);
    let member = members.into_iter().find(|member| member.id == id.as_str());
    match member.map(|member| member.state) {
        None => Err(Problem::unknown_member(&service, id.as_str())),
        Some(MemberState::Held) => release_these(&api, &zone, &service, vec![id], peer).await,
        Some(_) => Err(Problem::new(
            axum::http::StatusCode::CONFLICT,
            format!("{id} in {service} is not held; DELETE deregisters a member whatever its state"),
        )),
    }
}

/// Withdraws all held members of a service, in one commit.
pub(super) async fn release_all(
    State(api): Api,
    path: Result<Path<(String, String)>, PathRejection>,
    Extension(peer): Extension<Peer>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let Path((zone, text)) = path?;
    let zone = api.find_own(&zone)?;
    let unknown = || Problem::unknown_service(&zone.origin, &text);
    let service = super::routes::service_name(&text, &zone.origin).ok_or_else(unknown)?;
    let view = api.directory.service(&zone.origin, &service).await?.ok_or_else(unknown)?;
    let held = view.members.iter().filter(|member| member.state == MemberState::Held);
    let ids = held.filter_map(|member| MemberId::new(&member.id).ok()).collect();
    release_these(&api, &zone, &service, ids, peer).await
}

async fn release_these(
    api: &super::routes::Shared,
    zone: &ServedZone,
    service: &Name,
    ids: Vec<MemberId>,
    peer: Peer,
) -> Answer {
    let order = |id: &MemberId| Order { service: service.clone(), id: id.clone(), action: Action::Release };
    let orders: Vec<Order> = ids.iter().map(order).collect();
    let mut epoch = loaded(zone)?.epoch;
    let mut released = Vec::new();
    if !orders.is_empty() {
        let reports = api.directory.order(&zone.origin, orders::anybody(peer), orders).await?;
        for (id, report) in ids.iter().zip(reports) {
            match report {
                // Whoever was heard of in the meantime stays.
                Ok(done) if done.changed => {
                    epoch = epoch.max(done.epoch);
                    released.push(id.to_string());
                }
                Ok(_) => {}
                // It has left by itself.
                Err(_) if ids.len() > 1 => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }
    Ok(document(json(&ReleaseView { epoch: epoch.0, serial: epoch.serial().0, released }), None))
}
