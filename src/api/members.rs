//! Requests about members: asked for, registered, renewed and deregistered, one by one or in batches.
//!
//! Parameters, the zone and what the caller may do are looked at before a body is awaited.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::base::Name;
use crate::membership::MemberId;
use crate::zone::registration::order::{Action, Order};

use super::ServedZone;
use super::access::{Access, Caller};
use super::orders::{self, Acknowledgement, BATCH_OCTETS, BATCHES, BODY_OCTETS, BatchView};
use super::problem::Problem;
use super::routes::{
    Answer, Api, Parameters, Shared, accept_parameters, document, failed, json, loaded, look, service_name,
};
use super::views::MemberView;

/// The zone, the service and the id.
pub(super) type MemberPath = Result<Path<(String, String, String)>, PathRejection>;

#[utoipa::path(get, path = "/v1/zones/{zone}/services/{service}/members/{id}", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("id" = String, Path, description = "The member's id")), responses((status = 200, description = "One member", body = MemberView)))]
pub(super) async fn member(
    State(api): Api,
    Extension(caller): Extension<Caller>,
    path: MemberPath,
    parameters: Parameters,
) -> Answer {
    let (zone, service, id) = api.find_member(&caller, path, parameters, Access::Read)?;
    let unknown = || Problem::unknown_member(&service, id.as_str());
    let view = api.directory.service(&zone.origin, &service).await?.ok_or_else(unknown)?;
    let member = view.members.into_iter().find(|member| member.id == id.as_str()).ok_or_else(unknown)?;
    Ok(document(json(&member), None))
}

#[utoipa::path(put, path = "/v1/zones/{zone}/services/{service}/members/{id}", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("id" = String, Path, description = "The member's id")), request_body = Option<orders::MemberBody<'_>>, responses((status = 200, description = "Registered, changed or renewed", body = Acknowledgement)))]
pub(super) async fn register(
    State(api): Api,
    path: MemberPath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    let (zone, service, id) = api.find_member(&caller, path, parameters, Access::Write)?;
    let body = api.intake.read(body, BODY_OCTETS, caller.client()).await?;
    let action = orders::parse_member(&body)?.action(&zone.origin, caller.peer)?;
    api.order(&zone, Order { service, id, action }, &caller).await
}

#[utoipa::path(delete, path = "/v1/zones/{zone}/services/{service}/members/{id}", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out"), ("service" = String, Path, description = "The service, below the zone or absolute"), ("id" = String, Path, description = "The member's id")), responses((status = 200, description = "It is gone", body = Acknowledgement)))]
pub(super) async fn deregister(
    State(api): Api,
    path: MemberPath,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
) -> Answer {
    api.order_plain(path, parameters, Action::Withdraw, &caller).await
}

#[utoipa::path(post, path = "/v1/zones/{zone}/heartbeats", params(("zone" = String, Path, description = "The zone's origin; its final dot may be left out")), request_body = Vec<orders::ItemBody<'_>>, responses((status = 200, description = "What became of each", body = BatchView)))]
pub(super) async fn heartbeats(
    State(api): Api,
    path: Result<Path<String>, PathRejection>,
    Extension(caller): Extension<Caller>,
    parameters: Parameters,
    body: Body,
) -> Answer {
    accept_parameters(parameters, &[])?;
    let zone = api.find_own(&caller, &path?, Access::Write)?;
    let (origin, epoch) = (zone.origin.clone(), loaded(&zone)?.epoch);
    drop(zone); // its snapshot need not wait for the body
    let body = api.intake.read(body, BATCH_OCTETS, caller.client()).await?;
    let place = api.batches.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{BATCHES} batches are being carried out; send it again in a second");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let (apex, orderer) = (origin.clone(), caller.orderer());
    let items = look(move || orders::parse_batch(&body, &apex, &caller)).await??;
    let mut wanted = Vec::with_capacity(items.len());
    let read = items.into_iter().map(|item| item.map(|order| wanted.push(order)).err()).collect();
    // To its end though its client goes meanwhile: so no more are carried out than have a place.
    let directory = api.directory.clone();
    let carried = tokio::spawn(async move { (directory.order(&origin, orderer, wanted).await, place) });
    let (reports, place) = carried.await.map_err(failed)?;
    Ok(document(json(&BatchView::of(read, reports?, epoch)), Some(place)))
}

impl Shared {
    /// The zone, the service and the id that a request names; whether there is such a member is for others to say.
    pub(super) fn find_member(
        &self,
        caller: &Caller,
        path: MemberPath,
        parameters: Parameters,
        access: Access,
    ) -> Result<(ServedZone, Name, MemberId), Problem> {
        accept_parameters(parameters, &[])?;
        let Path((zone, service, id)) = path?;
        let zone = self.find_own(caller, &zone, access)?;
        let unknown = || Problem::unknown_service(&zone.origin, &service);
        let service = service_name(&service, &zone.origin).ok_or_else(unknown)?;
        caller.must_cover(&zone.origin, &service, access)?;
        let id = MemberId::new(&id).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("{id}: {error}")))?;
        Ok((zone, service, id))
    }

    /// Gives one order.
    pub(super) async fn order(&self, zone: &ServedZone, order: Order, caller: &Caller) -> Answer {
        let reports = self.directory.order(&zone.origin, caller.orderer(), vec![order]).await?;
        Ok(document(json(&Acknowledgement::of_one(reports)?), None))
    }

    /// The same, if it says nothing but what is to be done.
    async fn order_plain(&self, path: MemberPath, parameters: Parameters, action: Action, caller: &Caller) -> Answer {
        let (zone, service, id) = self.find_member(caller, path, parameters, Access::Write)?;
        self.order(&zone, Order { service, id, action }, caller).await
    }
}
