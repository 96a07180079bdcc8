//! `/readyz`: whether the server answers for all its zones and takes registrations, and which part of it doesn't.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Directory, ServedZone, Unavailable};

/// How the server stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Readiness {
    /// Whether every part is ready.
    pub ready: bool,
    /// The parts: the store, and each zone.
    pub parts: Vec<PartView>,
}

/// How a part of the server stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PartView {
    /// `store`, or `zone` and its origin.
    pub part: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Looks at all parts.
pub(super) async fn look(directory: &dyn Directory) -> Readiness {
    let store = directory.store().await.err().map(|Unavailable(cause)| cause);
    let mut parts = vec![part("store".to_owned(), store)];
    parts.extend(directory.zones().iter().map(zone));
    Readiness { ready: parts.iter().all(|part| part.ready), parts }
}

fn part(part: String, reason: Option<String>) -> PartView {
    PartView { part, ready: reason.is_none(), reason }
}

fn zone(zone: &ServedZone) -> PartView {
    let reason = match (&zone.snapshot, &zone.copy) {
        (Some(_), _) => None,
        (None, Some(_)) => Some("no primary has given a copy that is still good"),
        (None, None) => Some("it is not loaded; the server's log says why"),
    };
    part(format!("zone {}", zone.origin), reason.map(str::to_owned))
}
