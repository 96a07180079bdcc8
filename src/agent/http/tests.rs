use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::agent::registration::tests::registration;

/// A request as it came in: its first line, what it says of authorisation, its body.
#[derive(Debug)]
struct Asked {
    line: String,
    authorization: Option<String>,
    body: Value,
}

/// A server that answers one request after the other with these: status, media type, body.
fn server(script: Vec<(u16, &'static str, String)>) -> (Http, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for (status, media_type, body) in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim_end().is_empty() {
                    break;
                }
                lines.push(line.trim_end().to_owned());
            }
            let header = |name: &str| {
                let found = lines.iter().find(|line| line.to_ascii_lowercase().starts_with(name));
                found.map(|line| line[name.len()..].trim().to_owned())
            };
            let length = header("content-length:").map_or(0, |length| length.parse().unwrap());
            let mut octets = vec![0; length];
            reader.read_exact(&mut octets).unwrap();
            let sent = serde_json::from_slice(&octets).unwrap_or_default();
            let _ = sender.send(Asked { line: lines[0].clone(), authorization: header("authorization:"), body: sent });
            write!(
                stream,
                "HTTP/1.1 {status} Scripted\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    (Http::new(vec![url], Some(Token("abc".to_owned())), None).unwrap(), asked)
}

const JSON: &str = "application/json";
const PATH: &str = "/v1/zones/svc.example.test./services/_memcached._tcp.svc.example.test./members/i-1";

fn json_answer(text: &str) -> (u16, &'static str, String) {
    (200, JSON, text.to_owned())
}

#[tokio::test]
async fn a_registration_is_a_put_with_the_token_and_its_answer_grants_the_lease() {
    let granted = r#"{"epoch": 7, "serial": 7, "lease": 9, "state": "up", "changed": true, "slot": 3}"#;
    let (http, asked) = server(vec![json_answer(granted)]);
    let reply = http.carry_out(0, Order::Register { anew: true }, &registration()).await;
    let lease = Some(Duration::from_secs(9));
    assert_eq!(reply, Ok(Reply::Granted { lease, slot: Some("3".to_owned()), unpublished: None }));
    let asked = asked.recv().unwrap();
    assert_eq!(asked.line, format!("PUT {PATH} HTTP/1.1"));
    assert_eq!(asked.authorization.as_deref(), Some("Bearer abc"));
    let body = json!({
        "port": 11211, "addresses": ["192.0.2.7", "2001:db8::7"], "target": null, "priority": 1, "weight": 256,
        "lease": "15s", "metadata": {"az": "a"}, "replaces": null
    });
    assert_eq!(asked.body, body);
}

#[tokio::test]
async fn a_problem_document_is_told_with_what_to_do() {
    let problem = r#"{"status": 401, "title": "Unauthorized", "detail": "this token is not known"}"#;
    let (http, _asked) = server(vec![(401, MEDIA_TYPE, problem.to_owned()), (500, "text/plain", "?".to_owned())]);
    let mut told = Vec::new();
    for _ in 0..2 {
        let reply = http.carry_out(0, Order::Register { anew: false }, &registration()).await;
        let Err(Failure::Refused(text)) = reply else { panic!("{reply:?}") };
        told.push(text);
    }
    assert!(told[0].contains("this token is not known") && told[0].contains("--token-file"), "{told:?}");
    assert!(told[1].contains("500"), "{told:?}");
    let absent = Http::new(vec!["http://127.53.0.77:1".to_owned()], None, None).unwrap();
    let reply = absent.carry_out(0, Order::Deregister, &registration()).await;
    assert!(matches!(reply, Err(Failure::Silent(_))), "{reply:?}");
}

#[tokio::test]
async fn removing_what_is_gone_is_done() {
    let gone = r#"{"status": 404, "title": "Not Found", "detail": "no member i-1"}"#;
    let (http, asked) = server(vec![json_answer("{}"), (404, MEDIA_TYPE, gone.to_owned())]);
    for _ in 0..2 {
        assert_eq!(http.carry_out(0, Order::Deregister, &registration()).await, Ok(Reply::Done));
        assert_eq!(asked.recv().unwrap().line, format!("DELETE {PATH} HTTP/1.1"));
    }
}

#[tokio::test]
async fn draining_asks_the_server_until_it_knows_when_it_is_safe() {
    let waiting = r#"{"state": "draining", "safe-to-stop-at": null, "waiting-for": ["192.0.2.53:53"]}"#;
    // The time of day is the server's own: what counts is how long it is until then.
    let safe =
        r#"{"state": "draining", "safe-to-stop-at": "2090-01-01T00:00:00.5Z", "safe-in": 0.5, "waiting-for": []}"#;
    let renewed = r#"{"epoch": 7, "serial": 7, "lease": 9, "state": "draining", "changed": false}"#;
    // A late heartbeat brings it back, until the drain is renewed.
    let back = r#"{"state": "up", "safe-to-stop-at": null, "safe-in": null, "waiting-for": []}"#;
    let now = safe.replace("0.5", "0.0");
    let (http, asked) = server([renewed, waiting, safe, back, &now].map(json_answer).to_vec());
    let reply = http.carry_out(0, Order::Drain, &registration()).await;
    assert_eq!(reply, Ok(Reply::Granted { lease: Some(Duration::from_secs(9)), slot: None, unpublished: None }));
    let drain = asked.recv().unwrap();
    assert_eq!((drain.line, &drain.body["drain"]), (format!("PUT {PATH} HTTP/1.1"), &json!(true)));
    let start = Instant::now();
    let later = start + Duration::from_secs(20);
    assert_eq!(http.wait_until_safe(&[0], &registration(), later).await, Ok(()));
    assert!(start.elapsed() >= Duration::from_millis(500));
    let lines: Vec<String> = asked.try_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, vec![format!("GET {PATH}/drain HTTP/1.1"); 4]);
    let (http, _asked) = server(vec![json_answer(waiting)]);
    let soon = Instant::now() + Duration::from_millis(400);
    let Err(failure) = http.wait_until_safe(&[0], &registration(), soon).await else { panic!() };
    assert!(failure.to_string().contains("192.0.2.53:53"), "{failure}");
}

#[tokio::test]
async fn a_wait_that_the_server_gave_up_and_one_that_somebody_ended_are_not_safe() {
    let missing = r#"{"state": "draining", "safe-to-stop-at": "2026-01-01T00:00:00Z", "safe-in": 0.0,
        "waiting-for": ["192.0.2.53:53"], "timed-out": true}"#;
    let back = r#"{"state": "up", "safe-to-stop-at": null, "safe-in": null, "waiting-for": []}"#;
    let (http, _asked) = server([missing, back].map(json_answer).to_vec());
    for said in ["waits for 192.0.2.53:53", "has it back in the answers"] {
        let soon = Instant::now() + Duration::from_millis(400);
        let Err(failure) = http.wait_until_safe(&[0], &registration(), soon).await else { panic!("{said}") };
        assert!(failure.to_string().contains(said), "{failure}");
    }
}

#[tokio::test]
async fn why_it_is_not_published_is_told() {
    let answer =
        |more: &str| json_answer(&format!(r#"{{"epoch": 7, "serial": 7, "lease": 9, "changed": false, {more}}}"#));
    let (http, _asked) = server(vec![
        answer(r#""state": "damped", "damped-until": "2026-01-01T00:00:00Z""#),
        answer(r#""state": "up", "waits-for-slot": true"#),
        answer(r#""state": "draining""#),
        json_answer(r#"{"fine": true}"#),
    ]);
    for said in ["damped until 2026-01-01T00:00:00Z", "waits for a slot", "undrain"] {
        let reply = http.carry_out(0, Order::Register { anew: false }, &registration()).await;
        let Ok(Reply::Granted { unpublished: Some(why), .. }) = reply else { panic!("{reply:?}") };
        assert!(why.contains(said), "{why}");
    }
    let reply = http.carry_out(0, Order::Register { anew: false }, &registration()).await;
    assert!(matches!(&reply, Err(Failure::Silent(text)) if text.contains("--api")), "{reply:?}");
}
