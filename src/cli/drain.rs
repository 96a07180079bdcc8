//! `livezone drain`, `undrain` and `release`: take members out of the answers, and back.

use std::time::{Duration, Instant};

use crate::api::drain::{DrainView, ReleaseView};
use crate::api::orders::Acknowledgement;
use crate::api::segment;
use crate::base::Name;

use super::client::{Client, Error, ServerArgs, parse_zone};
use super::explain::json_line;
use super::serve::print;

/// Take a member out of the answers, and say when it is safe to stop it
///
/// It leaves with the next commit and keeps its own host record; its heartbeats don't bring it back. It is safe to stop once
/// every secondary has the zone without it, and the TTL and a second have passed: caches that keep to TTLs lead to it no
/// longer. With --wait the command ends then, so that it can stand before one that stops the service.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone drain svc.example.test. _memcached._tcp i-7\n  \
                        livezone drain svc.example.test. _memcached._tcp i-7 --wait && systemctl stop memcached")]
pub struct DrainArgs {
    /// Whom
    #[command(flatten)]
    pub member: MemberArgs,
    /// End when it is safe to stop the member; exit status 1 if secondaries were missing at the end of the wait
    #[arg(long)]
    pub wait: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which server to ask
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Bring a drained member back into the answers
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:\n  livezone undrain svc.example.test. _memcached._tcp i-7")]
pub struct UndrainArgs {
    /// Whom
    #[command(flatten)]
    pub member: MemberArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which server to ask
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Withdraw held members now: those that are dead, whatever held them up
///
/// Members are held while too many of a service are silent at once. One that is heard of is held no longer; the others go by
/// themselves once few are held, or at the end of the zone's hold.max.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  livezone release svc.example.test. _memcached._tcp i-7 i-8\n  \
                        livezone release svc.example.test. _memcached._tcp --held")]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["ids", "held"]))]
#[command(
    override_usage = "livezone release [OPTIONS] <ZONE> <SERVICE> <ID>...\n       livezone release [OPTIONS] <ZONE> <SERVICE> --held"
)]
pub struct ReleaseArgs {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_zone)]
    pub zone: Name,
    /// The service: _memcached._tcp, or the whole name
    pub service: String,
    /// The members' ids
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All that are held, in one commit
    #[arg(long)]
    pub held: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which server to ask
    #[command(flatten)]
    pub server: ServerArgs,
}

/// One member.
#[derive(clap::Args, Clone, Debug)]
pub struct MemberArgs {
    /// The zone's origin; a missing final dot is added
    #[arg(value_parser = parse_zone)]
    pub zone: Name,
    /// The service: _memcached._tcp, or the whole name
    pub service: String,
    /// The member's id
    pub id: String,
}

/// How often the server is asked while somebody waits.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it is borne with while it does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn service_path(zone: &Name, service: &str) -> String {
    format!("/v1/zones/{}/services/{}", segment(&zone.to_string()), segment(service))
}

impl MemberArgs {
    fn path(&self, action: &str) -> String {
        format!("{}/members/{}/{action}", service_path(&self.zone, &self.service), segment(&self.id))
    }
}

/// Drains a member.
pub fn drain(args: &DrainArgs) -> Result<(), Error> {
    let client = Client::new(&args.server)?;
    let path = args.member.path("drain");
    let mut view: DrainView = client.post(&path)?;
    if args.wait {
        view = wait(&client, &path, view)?;
    }
    print(&if args.json { json_line(&view) } else { text(&args.member.id, &view) })?;
    if args.wait && view.state != crate::api::views::MemberState::Draining {
        return Err(Error::Returned);
    }
    if args.wait && view.timed_out {
        return Err(Error::Missing(view.waiting_for.join(", ")));
    }
    Ok(())
}

/// Follows a drained member until it is safe to stop it.
fn wait(client: &Client, path: &str, mut view: DrainView) -> Result<DrainView, Error> {
    let mut answered = Instant::now();
    // By our own clock from when we were told, whatever time of day it is here.
    let is_safe =
        |view: &DrainView, answered: Instant| view.safe_in.is_some_and(|left| answered.elapsed().as_secs_f64() >= left);
    while !is_safe(&view, answered) {
        std::thread::sleep(INTERVAL);
        match client.document(path) {
            Ok(next) => (view, answered) = (next, Instant::now()),
            // It is gone: then it is safe as soon as it would have been.
            Err(Error::Refused { problem, .. }) if problem.status == 404 && view.safe_in.is_some() => {}
            Err(Error::Silent { .. }) if answered.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        if view.state != crate::api::views::MemberState::Draining {
            break;
        }
    }
    Ok(view)
}

fn text(id: &str, view: &DrainView) -> String {
    let servers = view.waiting_for.join(", ");
    match &view.safe_to_stop_at {
        Some(at) if view.timed_out => {
            format!("{id} drains; safe to stop at {at}, but for {servers}: no answer from there\n")
        }
        Some(at) => format!("{id} drains; safe to stop at {at}\n"),
        None if view.waiting_for.is_empty() => format!("{id} does not drain\n"),
        None => format!("{id} drains; waiting for {servers}\n"),
    }
}

/// Brings a member back.
pub fn undrain(args: &UndrainArgs) -> Result<(), Error> {
    let done: Acknowledgement = Client::new(&args.server)?.post(&args.member.path("undrain"))?;
    let id = &args.member.id;
    let text = match done.changed {
        true => format!("{id} is back, with serial {}\n", done.serial),
        false => format!("{id} did not drain\n"),
    };
    Ok(print(&if args.json { json_line(&done) } else { text })?)
}

/// Withdraws held members.
pub fn release(args: &ReleaseArgs) -> Result<(), Error> {
    let client = Client::new(&args.server)?;
    let service = service_path(&args.zone, &args.service);
    let mut views: Vec<ReleaseView> = Vec::new();
    if args.held {
        views.push(client.post(&format!("{service}/release"))?);
    }
    for id in &args.ids {
        views.push(client.post(&format!("{service}/members/{}/release", segment(id)))?);
    }
    for view in views {
        let text = match view.released.as_slice() {
            [] => "nobody was held\n".to_owned(),
            released => format!("released {}, with serial {}\n", released.join(" "), view.serial),
        };
        print(&if args.json { json_line(&view) } else { text })?;
    }
    Ok(())
}
