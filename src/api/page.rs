//! `/`: what is there, for people with a browser. One document without scripts or anything from elsewhere, which loads itself
//! again every few seconds.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::base::Name;

use super::access::Caller;
use super::discovery::shown;
use super::views::{MemberState, ServiceView, Services};
use super::{Directory, ServedZone};

/// Services whose members are shown: each costs a question to its publisher, and nobody reads more. The others are counted.
pub(super) const PAGE_SERVICES: usize = 64;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\n\
                    <meta name=\"viewport\" content=\"width=device-width\"><title>livezone</title>\n<style>\
                    body{font:15px/1.4 sans-serif;margin:2em;color-scheme:light dark}h1,h2,h3{line-height:1.2}\
                    table{border-collapse:collapse}td,th{text-align:left;padding:.1em 1em .1em 0}\
                    .held,.late,.gone{color:#c40}</style>\n<h1>livezone</h1>\n";

/// What the caller may see.
pub(super) async fn page(directory: &dyn Directory, caller: &Caller) -> Response {
    let mut text = HEAD.to_owned();
    let mut room = PAGE_SERVICES;
    for zone in directory.zones().iter().filter(|zone| caller.sees_zone(&zone.origin)) {
        tell_zone(&mut text, zone);
        let Some(snapshot) = &zone.snapshot else { continue };
        let services = Services::of(snapshot, |service| caller.sees(&zone.origin, service)).services;
        let shown = if zone.copy.is_some() { 0 } else { services.len().min(room) };
        room -= shown;
        for summary in &services[..shown] {
            let Ok(service) = summary.service.parse::<Name>() else { continue };
            match directory.service(&zone.origin, &service).await {
                Ok(Some(view)) => tell_service(&mut text, &view),
                Ok(None) => {}
                Err(cause) => line(&mut text, "p class=\"gone\"", &cause.to_string()),
            }
        }
        for summary in &services[shown..] {
            line(
                &mut text,
                "p",
                &format!("{}: {} members, epoch {}", summary.service, summary.members_count, summary.epoch),
            );
        }
    }
    text.push_str("</html>\n");
    let mut response = Body::from(text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn tell_zone(text: &mut String, zone: &ServedZone) {
    line(text, "h2", &zone.origin.to_string());
    let copy = if zone.copy.is_some() { ", a copy" } else { "" };
    match &zone.snapshot {
        Some(snapshot) => {
            line(text, "p", &format!("epoch {}, serial {}{copy}", snapshot.epoch, snapshot.epoch.serial()));
        }
        None => line(text, "p class=\"gone\"", &format!("not loaded{copy}")),
    }
}

fn tell_service(text: &mut String, view: &ServiceView) {
    line(text, "h3", &view.summary.service);
    text.push_str("<table><tr><th>member<th>address<th>port<th>state<th>lease left<th>owner\n");
    for member in &view.members {
        let address = if member.addresses.is_empty() { member.target.clone() } else { shown(&member.addresses) };
        let (class, state) = match member.state {
            MemberState::Up if member.late => ("late", "late".to_owned()),
            state => ("", serde_json::to_string(&state).unwrap_or_default().trim_matches('"').to_owned()),
        };
        let cells = [
            member.id.clone(),
            address,
            member.port.to_string(),
            state,
            format!("{:.0} s of {} s", member.lease_remaining, member.lease),
            member.owner.clone(),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}", escape(cell))).collect();
        writeln!(text, "<tr class=\"{class}\">{cells}").expect("writing to a string doesn't fail");
    }
    text.push_str("</table>\n");
}

/// An element with a text.
fn line(text: &mut String, element: &str, content: &str) {
    let name = element.split(' ').next().unwrap_or(element);
    writeln!(text, "<{element}>{}</{name}>", escape(content)).expect("writing to a string doesn't fail");
}

/// A text within HTML. Names in DNS may have any octet, and owners are what the configuration says.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text_and_never_markup() {
        assert_eq!(escape("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
        let mut text = String::new();
        line(&mut text, "p class=\"gone\"", "<b>");
        assert_eq!(text, "<p class=\"gone\">&lt;b&gt;</p>\n");
    }
}
