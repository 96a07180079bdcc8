//! Errors as problem documents (RFC 9457).

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::Name;
use crate::zone::registration::order::Failure;
use crate::zone::registration::{Kind, Objection};

use super::Unavailable;

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong with a request, and what to do. The status says it all in short, so that the type is `about:blank`
/// (RFC 9457 §4.2.1).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What is wrong with this request, and what to do.
    pub detail: String,
    /// The parameter of the query that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The field of the body that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Problem { status: status.as_u16(), title, detail: detail.into(), parameter: None, field: None }
    }

    /// 400 for a parameter of the query.
    pub(super) fn parameter(name: &str, detail: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::BAD_REQUEST, detail);
        Problem { parameter: Some(name.to_owned()), ..problem }
    }

    /// 422 for a field of the body.
    pub(super) fn field(name: impl Into<String>, detail: impl Into<String>) -> Problem {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        Problem { field: Some(name.into()), ..problem }
    }

    /// 404 for a zone.
    pub(super) fn unknown_zone(zone: &str) -> Problem {
        let detail = format!("no zone {zone} is served here; GET /v1/zones lists those that are");
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 404 for a service.
    pub(super) fn unknown_service(zone: &Name, service: &str) -> Problem {
        let detail = format!(
            "the zone {zone} knows no service {service}; GET /v1/zones/{zone}/services lists those that it knows"
        );
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 404 for a member.
    pub(super) fn unknown_member(service: &Name, id: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, format!("no member {id} is registered in {service}"))
    }

    /// 421 for members of a copy (RFC 9110 §15.5.20): another server is to be asked.
    pub(super) fn of_a_copy(zone: &Name, primaries: &[String]) -> Problem {
        let primaries = primaries.join(", ");
        let detail = format!(
            "this server has a copy of the zone {zone}, and members with their leases are known to its primary alone: \
             ask the HTTP API of that server (its DNS is at {primaries}); what is published stands in \
             GET /v1/zones/{zone}/services and in the zone's master file"
        );
        Problem::new(StatusCode::MISDIRECTED_REQUEST, detail)
    }

    /// 503 for a zone without answers.
    pub(super) fn not_loaded(zone: &Name) -> Problem {
        let detail = format!("the zone {zone} is not loaded; the server's log says why");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl From<Unavailable> for Problem {
    fn from(cause: Unavailable) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, cause.0)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        match failure {
            Failure::Objection(Objection { kind, text, .. }) => {
                let status = match kind {
                    Kind::Prohibited => StatusCode::FORBIDDEN,
                    Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                    Kind::Unknown => StatusCode::NOT_FOUND,
                };
                Problem::new(status, text)
            }
            Failure::Unavailable(text) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, text),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(cause: PathRejection) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, format!("the path can't be read: {}", cause.body_text()))
    }
}

impl From<QueryRejection> for Problem {
    fn from(cause: QueryRejection) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, format!("the query can't be read: {}", cause.body_text()))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let octets = serde_json::to_vec(&self).expect("plain data");
        let mut response = (status, octets).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
