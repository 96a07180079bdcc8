//! What the headers of requests and responses say of epochs and forms.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::base::Epoch;

use super::routes::MASTER_FILE;

/// Deviates: RFC 9110 §8.8.1, by which a strong validator tells every octet. The zone and its master file have the same,
/// and the time that is left of leases moves without it. Nothing here is served in ranges, so that it makes no difference.
fn entity_tag(epoch: Epoch) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{epoch}\"")).expect("digits in quotes")
}

/// With the tag of an epoch.
pub(super) fn tag(mut response: Response, epoch: Epoch) -> Response {
    response.headers_mut().insert(header::ETAG, entity_tag(epoch));
    // May be kept, and is asked for again with the tag.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Of a resource that has more than one form.
pub(super) fn vary(mut response: Response) -> Response {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// 304, if the request has this epoch already (RFC 9110 §13.1.2).
pub(super) fn not_modified(headers: &HeaderMap, epoch: Epoch) -> Option<Response> {
    let epoch_text = epoch.to_string();
    let is_known = |tag: &str| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == epoch_text
    };
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let known = values.flat_map(|value| value.split(',')).any(is_known);
    known.then(|| tag(StatusCode::NOT_MODIFIED.into_response(), epoch))
}

/// Whether a request prefers the master file.
pub(super) fn wants_master_file(headers: &HeaderMap) -> bool {
    prefers(headers, MASTER_FILE)
}

/// Whether a request names that type, and doesn't like JSON better (RFC 9110 §12.5.1).
pub(super) fn prefers(headers: &HeaderMap, media: &str) -> bool {
    let weight = |wanted: &str| {
        let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let found = values.flat_map(|value| value.split(',')).find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|media| media.eq_ignore_ascii_case(wanted));
            let weight = || parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            named.then(weight)
        });
        found.unwrap_or(0.0)
    };
    let wanted = weight(media);
    wanted > 0.0 && wanted >= weight("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &header::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_master_file_is_for_those_who_name_it_and_like_json_no_better() {
        let wants = |values: &[&'static str]| wants_master_file(&headers(&header::ACCEPT, values));
        for accept in ["text/dns", "TEXT/DNS; q=0.1", "text/dns, */*", "application/json;q=0.3, text/dns; q=0.3"] {
            assert!(wants(&[accept]), "{accept}");
        }
        assert!(wants(&["text/html", "text/dns"]));
        for accept in ["", "*/*", "text/*", "text/dns;q=0", "application/json, text/dns;q=0.9"] {
            assert!(!wants(&[accept]), "{accept}");
        }
        assert!(!wants(&[]));
    }

    #[test]
    fn an_entity_tag_is_known_in_any_form_and_any_place() {
        let known =
            |values: &[&'static str]| not_modified(&headers(&header::IF_NONE_MATCH, values), Epoch(7)).is_some();
        for tags in ["\"7\"", "W/\"7\"", "*", "\"6\", \"7\"", "7"] {
            assert!(known(&[tags]), "{tags}");
        }
        assert!(known(&["\"6\"", "\"7\""]));
        for tags in ["", "\"77\"", "\"6\"", "\"7"] {
            assert_eq!(known(&[tags]), tags == "\"7", "{tags}");
        }
        assert!(!known(&[]));
    }
}
