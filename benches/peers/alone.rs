//! A generator against a server that runs already.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::load::members::{Heartbeats, Members, Pass, Registrations};
use crate::load::message::{A, AAAA, SOA, SRV};
use crate::load::questions::Questions;
use crate::load::tsig::Signer;
use crate::load::{Load, Outcome, Plan, tcp, udp};
use crate::support::keep_to;
use crate::support::process;

/// `load queries|registrations|heartbeats address=…`
pub(crate) fn run(mut arguments: Arguments) -> Result<(), String> {
    let what = arguments.word().ok_or("load what: queries, registrations or heartbeats?")?;
    let server = arguments.value("address")?.ok_or("load needs the address of a server: address=127.0.0.1:5353")?;
    let zone = arguments.text("zone").unwrap_or_else(|| "svc.example.test".to_owned());
    let over_tcp = arguments.text("tcp").is_some_and(|tcp| tcp == "yes");
    let pid: Option<i32> = arguments.value("pid")?;
    let json = arguments.text("json");
    keep_to(arguments.value("core")?);
    let seconds = arguments.value("seconds")?.unwrap_or(3.0);
    let mut plan = Plan::new(server, Duration::from_secs_f64(seconds));
    plan.window = arguments.value("window")?.unwrap_or(plan.window);
    plan.sockets = arguments.value("sockets")?.unwrap_or(plan.sockets).clamp(1, plan.window.max(1));
    plan.rate = arguments.value("rate")?;
    let sender = Sender { over_tcp, pid, json };
    if what == "queries" {
        let mut questions = questions(&mut arguments, &zone)?;
        arguments.finish()?;
        return sender.measure(&plan, &mut questions);
    }
    plan = plan.of_updates();
    let count: u32 = arguments.value("members")?.unwrap_or(10_000);
    let standing = arguments.value("standing")?.unwrap_or(1000);
    let members = members(&mut arguments, zone, if what == "heartbeats" { count } else { standing })?;
    arguments.finish()?;
    // Whoever came goes again, so that the server is left as it was.
    let pass = Plan { duration: None, rate: None, ..plan.clone() };
    match what.as_str() {
        "heartbeats" => {
            once(&pass, &mut Pass::registering(&members, 0..count), "registered")?;
            sender.measure(&plan, &mut Heartbeats::new(members.clone(), count))?;
            once(&pass, &mut Pass::removing(&members, 0..count), "removed")
        }
        "registrations" => {
            let mut registrations = Registrations::new(members.clone(), standing);
            sender.measure(&plan, &mut registrations)?;
            once(&pass, &mut Pass::removing(&members, registrations.left()), "removed")
        }
        other => Err(format!("load {other}: there are queries, registrations and heartbeats")),
    }
}

/// The names that are asked for.
fn questions(arguments: &mut Arguments, zone: &str) -> Result<Questions, String> {
    let size = arguments.value("size")?.unwrap_or(1232);
    let usual = arguments.text("type").map_or(Ok(SRV), |text| qtype(&text))?;
    let names = arguments.list("names").unwrap_or_default();
    let questions = match names.as_slice() {
        [fresh] if fresh == "fresh" => return Ok(Questions::of_nobody(zone, size)),
        [file] if file.starts_with('@') => {
            let file = &file[1..];
            let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            let read = |line: &str| match line.split_whitespace().collect::<Vec<&str>>()[..] {
                [name] => Ok((name.to_owned(), usual)),
                [name, text] => Ok((name.to_owned(), qtype(text)?)),
                _ => Err(format!("{file}: a line is a name and a type: {line}")),
            };
            text.lines().map(read).collect::<Result<_, _>>()?
        }
        _ => names.into_iter().map(|name| (name, usual)).collect::<Vec<(String, u16)>>(),
    };
    if questions.is_empty() {
        return Err("load queries asks for what: names=_a._tcp.example.test,…, or names=fresh for NXDOMAIN?".to_owned());
    }
    Ok(Questions::new(questions, size))
}

fn qtype(text: &str) -> Result<u16, String> {
    match text {
        "SRV" => Ok(SRV),
        "A" => Ok(A),
        "AAAA" => Ok(AAAA),
        "SOA" => Ok(SOA),
        number => number.parse().map_err(|_| format!("type {text}: SRV, A, AAAA, SOA or a number")),
    }
}

fn members(arguments: &mut Arguments, zone: String, count: u32) -> Result<Members, String> {
    let signer = match arguments.text("key") {
        None => None,
        Some(key) => {
            let (name, secret) = key.split_once(':').ok_or("key=NAME:SECRET, in base64")?;
            Some(Signer::new(name, secret))
        }
    };
    let lease = arguments.value("lease")?.unwrap_or(3600);
    let since_1970 =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(|error| error.to_string())?;
    Ok(Members {
        zone,
        label: "load",
        services: arguments.value("services")?.unwrap_or((count / 50).max(20)),
        run: since_1970.as_secs() as u32,
        lease: (lease > 0).then_some(lease),
        signer,
        verify: arguments.text("verify").is_some_and(|verify| verify == "yes"),
    })
}

/// Sends something once, all of which must be accepted.
pub(crate) fn once<L: Load>(plan: &Plan, load: &mut L, what: &str) -> Result<(), String> {
    let outcome = udp::run(plan, load).map_err(|error| error.to_string())?;
    if outcome.rcodes[0] == outcome.sent {
        return Ok(());
    }
    Err(format!("of {} members some could not be {what}: {}; {} lost", outcome.sent, rcodes(&outcome), outcome.lost))
}

struct Sender {
    over_tcp: bool,
    pid: Option<i32>,
    json: Option<String>,
}

impl Sender {
    fn measure<L: Load>(&self, plan: &Plan, load: &mut L) -> Result<(), String> {
        let before = self.pid.map(process::cpu);
        let outcome = if self.over_tcp { tcp::run(plan, load) } else { udp::run(plan, load) };
        let outcome = outcome.map_err(|error| format!("{}: {error}", plan.server))?;
        println!("{}", told(&outcome));
        let server_cpu = self.pid.zip(before).map(|(pid, before)| process::cpu(pid) - before);
        if let Some(cpu) = server_cpu {
            let micros = cpu.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64;
            println!("server: {:.2} s of CPU time, {micros:.2} µs an answer", cpu.as_secs_f64());
        }
        let Some(file) = &self.json else { return Ok(()) };
        let mut record = as_json(&outcome);
        record["server_cpu"] = server_cpu.map(|cpu| cpu.as_secs_f64()).into();
        append(file, &record)
    }
}

/// What came of a load, for people.
fn told(outcome: &Outcome) -> String {
    let Outcome { sent, answered, retransmitted, lost, stray, mismatched, truncated, latencies, .. } = outcome;
    let seconds = outcome.took.as_secs_f64();
    format!(
        "{:.0} answers a second: {sent} sent in {seconds:.2} s, {answered} answered ({}), {lost} lost, \
         {retransmitted} retransmitted, {stray} stray, {mismatched} mismatched, {truncated} truncated, {:.0} octets each\n\
         latency: p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs\n\
         generator: {:.2} s of CPU time, {:.2} s of them with nothing to do",
        outcome.rate(),
        rcodes(outcome),
        outcome.mean_octets(),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.most(),
        outcome.cpu.as_secs_f64(),
        outcome.waited.as_secs_f64(),
    )
}

/// How often each rcode came.
fn rcodes(outcome: &Outcome) -> String {
    let counts = outcome.rcodes.iter().enumerate().filter(|(_, count)| **count > 0);
    counts.map(|(rcode, count)| format!("{} {count}", rcode_name(rcode))).collect::<Vec<String>>().join(", ")
}

fn rcode_name(rcode: usize) -> String {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
        "NOTZONE",
    ];
    NAMES.get(rcode).map_or_else(|| format!("rcode {rcode}"), |name| (*name).to_owned())
}

/// What came of a load, for programs.
pub(crate) fn as_json(outcome: &Outcome) -> serde_json::Value {
    serde_json::json!({
        "seconds": outcome.took.as_secs_f64(),
        "sent": outcome.sent,
        "answered": outcome.answered,
        "rate": outcome.rate(),
        "retransmitted": outcome.retransmitted,
        "lost": outcome.lost,
        "stray": outcome.stray,
        "mismatched": outcome.mismatched,
        "rcodes": outcome.rcodes,
        "truncated": outcome.truncated,
        "octets": outcome.mean_octets(),
        "p50_us": outcome.latencies.quantile(0.5),
        "p99_us": outcome.latencies.quantile(0.99),
        "max_us": outcome.latencies.most(),
        "generator_cpu": outcome.cpu.as_secs_f64(),
        "generator_waited": outcome.waited.as_secs_f64(),
    })
}

/// Appends a line to a file.
pub(crate) fn append(file: &str, record: &serde_json::Value) -> Result<(), String> {
    use std::io::Write;
    let opened = std::fs::File::options().append(true).create(true).open(file);
    opened.and_then(|mut file| writeln!(file, "{record}")).map_err(|error| format!("{file}: {error}"))
}
