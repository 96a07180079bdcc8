//! Draining with a promise, and letting go of what is held.

use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use serde::{Deserialize, Serialize};

use crate::base::Name;
use crate::membership::MemberId;
use crate::zone::Layout;
use crate::zone::registration::Kind;
use crate::zone::registration::order::{Action, Failure, Order};

use super::ServedZone;
use super::access::{Access, Caller};
use super::members::MemberPath;
use super::orders::Acknowledgement;
use super::problem::Problem;
use super::routes::{Answer, Api, Parameters, accept_parameters, document, json, loaded};
use super::views::{MemberState, ServiceView};

/// How a member that drains stands: the reply to `POST …/drain`, and what `GET …/drain` follows it with.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DrainView {
    /// Where it stands.
    pub state: MemberState,
    /// From when on no cache that keeps to TTLs leads to it; null while servers are waited for, or while it doesn't drain.
    pub safe_to_stop_at: Option<String>,
    /// How many seconds that is away, 0 if it has come; so nobody needs a clock that agrees with the server's.
    pub safe_in: Option<f64>,
    /// The secondaries that don't serve the zone without it yet; once the wait has ended by `drain-timeout`, those that
    /// were missing.
    pub waiting_for: Vec<String>,
    /// Whether the wait ended without them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

/// What was let go of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseView {
    /// The zone's epoch without them.
    pub epoch: u64,
    /// The serial then.
    pub serial: u32,
    /// The ids of those that were held and are withdrawn.
    pub released: Vec<String>,
}

/// The slots of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SlotsView {
    /// The zone.
    pub zone: String,
    /// The service.
    pub service: String,
    /// The epoch of its last change.
    pub epoch: u64,
    /// The slots by number.
    pub slots: Vec<SlotView>,
}

/// A slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SlotView {
    /// Its number.
    pub number: u32,
    /// Its name: the SRV target of whoever has it.
    pub name: String,
    /// Who has it; null: it is free.
    pub id: Option<String>,
    /// Of a free one: who had it last.
    pub last: Option<String>,
    /// Of a free one: since when.
    pub since: Option<String>,
}

impl SlotsView {
    /// The slots of a service as it stands.
    fn of(view: &ServiceView, layout: &Layout) -> SlotsView {
        let bare = |number: u32| SlotView {
            number,
            name: layout.slot_host(number).map(|name| name.to_string()).unwrap_or_default(),
            id: None,
            last: None,
            since: None,
        };
        let taken = view
            .members
            .iter()
            .filter_map(|member| Some(SlotView { id: Some(member.id.clone()), ..bare(member.slot?) }));
        let free = view.free_slots.iter().map(|slot| SlotView {
            last: Some(slot.last.clone()),
            since: Some(slot.since.clone()),
            ..bare(slot.number)
        });
        let mut slots: Vec<SlotView> = taken.chain(free).collect();
        slots.sort_by_key(|slot| slot.number);
        let (zone, service) = (view.zone.clone(), view.summary.service.clone());
        SlotsView { zone, service, epoch: view.summary.epoch, slots }
    }
}

#[utoipa::path(post, path = "/v1/zones/{zone}/services/{service}/members/{id}/drain", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("id" = String, Path, description = "The member's id")), responses((status = 200, description = "It is out of the answers", body = DrainView)))]
pub(super) async fn drain(
    State(api): Api,
    path: MemberPath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    let (zone, service, id) = api.find_member(&caller, path, parameters, Access::Write)?;
    let order = Order { service: service.clone(), id: id.clone(), action: Action::Drain };
    let reports = api.directory.order(&zone.origin, caller.orderer(), vec![order]).await?;
    Acknowledgement::of_one(reports)?;
    look_at(&api, &zone, &service, &id).await
}

/// How a member stands that may drain.
async fn look_at(api: &super::routes::Shared, zone: &ServedZone, service: &Name, id: &MemberId) -> Answer {
    let unknown = || {
        api.directory.undrained(&zone.origin, service, id);
        Problem::unknown_member(service, id.as_str())
    };
    let view = api.directory.service(&zone.origin, service).await?.ok_or_else(unknown)?;
    let member = view.members.into_iter().find(|member| member.id == id.as_str()).ok_or_else(unknown)?;
    let bare = DrainView {
        state: member.state,
        safe_to_stop_at: None,
        safe_in: None,
        waiting_for: Vec::new(),
        timed_out: false,
    };
    let view = match member.state {
        // What is not durable yet has no commit that could be waited for.
        MemberState::Draining if member.pending => bare,
        MemberState::Draining => api.directory.drained(&zone.origin, service, id, &member.since),
        _ => {
            api.directory.undrained(&zone.origin, service, id);
            bare
        }
    };
    Ok(document(json(&view), None))
}

#[utoipa::path(get, path = "/v1/zones/{zone}/services/{service}/members/{id}/drain", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("id" = String, Path, description = "The member's id")), responses((status = 200, description = "How it stands", body = DrainView)))]
pub(super) async fn follow(
    State(api): Api,
    path: MemberPath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    let (zone, service, id) = api.find_member(&caller, path, parameters, Access::Read)?;
    look_at(&api, &zone, &service, &id).await
}

#[utoipa::path(post, path = "/v1/zones/{zone}/services/{service}/members/{id}/undrain", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("id" = String, Path, description = "The member's id")), responses((status = 200, description = "It is back", body = Acknowledgement)))]
pub(super) async fn undrain(
    State(api): Api,
    path: MemberPath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    let (zone, service, id) = api.find_member(&caller, path, parameters, Access::Write)?;
    let order = Order { service: service.clone(), id: id.clone(), action: Action::Undrain };
    let answer = api.order(&zone, order, &caller).await;
    api.directory.undrained(&zone.origin, &service, &id);
    answer
}

/// Withdraws one held member.
#[utoipa::path(post, path = "/v1/zones/{zone}/services/{service}/members/{id}/release", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("id" = String, Path, description = "The member's id")), responses((status = 200, description = "It was held and is gone", body = ReleaseView)))]
pub(super) async fn release(
    State(api): Api,
    path: MemberPath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    let (zone, service, id) = api.find_member(&caller, path, parameters, Access::Write)?;
    let view = api.directory.service(&zone.origin, &service).await?;
    let members = view.map_or_else(Vec::new, |view| view.members);
    let member = members.into_iter().find(|member| member.id == id.as_str());
    match member.map(|member| member.state) {
        None => Err(Problem::unknown_member(&service, id.as_str())),
        Some(MemberState::Held) => release_these(&api, &zone, &service, vec![id], &caller).await,
        Some(_) => Err(Problem::new(
            axum::http::StatusCode::CONFLICT,
            format!("{id} in {service} is not held; DELETE deregisters a member whatever its state"),
        )),
    }
}

/// Withdraws all held members of a service, in one commit.
#[utoipa::path(post, path = "/v1/zones/{zone}/services/{service}/release", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute")), responses((status = 200, description = "Those that were held are gone", body = ReleaseView)))]
pub(super) async fn release_all(
    State(api): Api,
    path: Result<Path<(String, String)>, PathRejection>,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let (zone, service) = find(&api, &caller, path, Access::Write)?;
    let unknown = || Problem::unknown_service(&zone.origin, &service.to_string());
    let view = api.directory.service(&zone.origin, &service).await?.ok_or_else(unknown)?;
    let held = view.members.iter().filter(|member| member.state == MemberState::Held);
    let ids = held.filter_map(|member| MemberId::new(&member.id).ok()).collect();
    release_these(&api, &zone, &service, ids, &caller).await
}

async fn release_these(
    api: &super::routes::Shared,
    zone: &ServedZone,
    service: &Name,
    ids: Vec<MemberId>,
    caller: &Caller,
) -> Answer {
    let order = |id: &MemberId| Order { service: service.clone(), id: id.clone(), action: Action::Release };
    let orders: Vec<Order> = ids.iter().map(order).collect();
    let mut epoch = loaded(zone)?.epoch;
    let mut released = Vec::new();
    if !orders.is_empty() {
        let reports = api.directory.order(&zone.origin, caller.orderer(), orders).await?;
        for (id, report) in ids.iter().zip(reports) {
            match report {
                // Whoever was heard of in the meantime stays.
                Ok(done) if done.changed => {
                    epoch = epoch.max(done.epoch);
                    released.push(id.to_string());
                }
                Ok(_) => {}
                // It has left by itself.
                Err(Failure::Objection(objection)) if objection.kind == Kind::Unknown && ids.len() > 1 => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }
    Ok(document(json(&ReleaseView { epoch: epoch.0, serial: epoch.serial().0, released }), None))
}

type ServicePath = Result<Path<(String, String)>, PathRejection>;

#[utoipa::path(get, path = "/v1/zones/{zone}/services/{service}/slots", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute")), responses((status = 200, description = "Its slots", body = SlotsView)))]
pub(super) async fn slots(
    State(api): Api,
    path: ServicePath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let (zone, service) = find(&api, &caller, path, Access::Read)?;
    look_at_slots(&api, &zone, &service).await
}

/// Removes the free slots at the end.
#[utoipa::path(post, path = "/v1/zones/{zone}/services/{service}/slots/shrink", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute")), responses((status = 200, description = "The slots that are left", body = SlotsView)))]
pub(super) async fn shrink(
    State(api): Api,
    path: ServicePath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let (zone, service) = find(&api, &caller, path, Access::Write)?;
    api.directory.shrink(&zone.origin, &service, caller.orderer().by).await?.map_err(Problem::from)?;
    look_at_slots(&api, &zone, &service).await
}

fn find(
    api: &super::routes::Shared,
    caller: &Caller,
    path: ServicePath,
    access: Access,
) -> Result<(ServedZone, Name), Problem> {
    let Path((zone, text)) = path?;
    let zone = api.find_own(caller, &zone, access)?;
    let unknown = || Problem::unknown_service(&zone.origin, &text);
    let service = super::routes::service_name(&text, &zone.origin).ok_or_else(unknown)?;
    caller.must_cover(&zone.origin, &service, access)?;
    Ok((zone, service))
}

async fn look_at_slots(api: &super::routes::Shared, zone: &ServedZone, service: &Name) -> Answer {
    let unknown = || Problem::unknown_service(&zone.origin, &service.to_string());
    let view = api.directory.service(&zone.origin, service).await?.ok_or_else(unknown)?;
    let layout = Layout::of(service, &loaded(zone)?.settings).ok_or_else(unknown)?;
    api.document(&SlotsView::of(&view, &layout))
}
