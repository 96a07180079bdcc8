//! `/v1/openapi.json`: the API described in OpenAPI 3.1, made of the handlers and types themselves.
//!
//! A path, its method, parameters and document stand with the handler, and a handler is routed by them (`routes!`), so that
//! none is missing here. What all requests may come to, problems and 401, is added to each here.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Object, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi};

use super::access::OPEN;
use super::problem::{self, Problem};

/// What isn't said with a handler.
#[derive(OpenApi)]
#[openapi(
    info(title = "livezone", description = "Zones, services and members of a livezone server"),
    components(schemas(Problem)),
    modifiers(&Everywhere)
)]
pub(super) struct Description;

/// What holds for every operation.
struct Everywhere;

/// The problems that any request may come to.
const PROBLEMS: [(&str, &str); 5] = [
    ("400", "The path or the query can't be"),
    ("401", "A token is needed, or the one presented is not known"),
    ("403", "The token, whose the member is, or the web page that asks, doesn't allow it"),
    ("404", "There is no such zone, service or member"),
    ("503", "Not at the moment; ask again"),
];
/// Those of requests about members, which a copy sends elsewhere.
const OF_MEMBERS: [(&str, &str); 1] = [("421", "The zone is a copy: ask its primary")];
/// Those of requests with a body.
const OF_BODIES: [(&str, &str); 3] = [
    ("408", "The body has not come in in time"),
    ("413", "The body, or the batch, is too large"),
    ("422", "A field of the body can't be; `field` names it"),
];

impl Modify for Everywhere {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        api.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// Adds to each operation what holds for all, once all are there.
pub(super) fn complete(api: &mut utoipa::openapi::OpenApi) {
    // What a copy has beside other zones stands among its fields; null, which the derive makes of a part that may be missing,
    // would be no object.
    let zone = api.components.as_mut().and_then(|components| components.schemas.get_mut("ZoneView"));
    if let Some(RefOr::T(Schema::AllOf(parts))) = zone {
        for part in parts.items.iter_mut().filter(|part| matches!(part, RefOr::T(Schema::OneOf(_)))) {
            let either = AnyOfBuilder::new().item(Ref::from_schema_name("CopyView")).item(Object::new());
            *part = RefOr::T(Schema::AnyOf(either.build()));
        }
    }
    for (path, item) in &mut api.paths.paths {
        let is_open = OPEN.contains(&path.as_str());
        let is_of_members = path.contains("/services/") || path.ends_with("/heartbeats");
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            if !is_open {
                add_problems(operation, &PROBLEMS);
                operation.security = Some(vec![
                    SecurityRequirement::default(),
                    SecurityRequirement::new::<_, [&str; 0], &str>("token", []),
                ]);
            }
            if is_of_members {
                add_problems(operation, &OF_MEMBERS);
            }
            // Orders without a body can be impossible too.
            if operation.request_body.is_some() || path.contains("/members/") {
                add_problems(operation, &OF_BODIES);
            }
        }
    }
}

fn add_problems(operation: &mut Operation, problems: &[(&str, &str)]) {
    for (status, description) in problems {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(*description).content(problem::MEDIA_TYPE, content).build();
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| response.into());
    }
}
