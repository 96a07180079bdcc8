//! Scripted replays: what happens to a server, a step a line, and what must come of it. Time passes only where a step says
//! so. The scripts are `tests/scripts/*.script`, named after the rule that they show:
//!
//! ```text
//! setup settle 200ms grace 1s          how the zone is configured; first, if at all
//! update _x._tcp i-1 lease 5 -> NOERROR      registers or renews, and waits for the reply; also `weight N`
//! withdraw _x._tcp i-1 -> NOERROR            a lease of 0
//! send 1 update _x._tcp i-1 lease 5          the same without waiting
//! reply 1 -> SERVFAIL                        waits for the reply to it
//! members _x._tcp: i-1 i-2                   who is published
//! serial +1                                  how far the serial has moved since it was looked at last
//! pass 5s                                    time passes, and everything runs
//! stall 5s                                   time passes, and nothing runs
//! wall +1h                                   somebody sets the wall clock
//! disk full                                  also: read-only, unsynced, works
//! slow 5s                                    the next write takes so long
//! kill | lose-power | stop | start
//! ```

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::base::RecordType;
use crate::dns::messages::Update;
use crate::store::embedded::fake_disk::Fault;

use super::question;
use super::store::Faults;
use super::world::{Setup, World};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct Player {
    world: Arc<World>,
    faults: Faults,
    serial: u32,
    messages: u16,
    sent: Vec<(String, oneshot::Receiver<Vec<u8>>)>,
}

/// Plays a script; an error says which line does not hold.
async fn play(text: &str) -> Result<(), String> {
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.split('#').next().unwrap_or("")));
    let mut lines = lines.by_ref().filter(|(_, line)| !line.trim().is_empty()).peekable();
    let faults = Faults::default();
    let mut setup = Setup { faults: faults.clone(), ..Setup::new(1) };
    if let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("setup")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        for pair in words.chunks(2) {
            match *pair {
                ["settle", time] => setup.settle = millis(time),
                ["grace", time] => setup.grace = millis(time),
                _ => return Err(format!("no such setup: {pair:?}")),
            }
        }
    }
    let world = World::new(setup);
    world.start().await?;
    let mut player = Player { world, faults, serial: 0, messages: 0, sent: Vec::new() };
    player.serial = player.look_at_serial()?;
    for (number, line) in lines {
        player.step(line).await.map_err(|error| format!("line {number}: {}: {error}", line.trim()))?;
    }
    let violation = player.world.oracle().violation();
    violation.map_or(Ok(()), Err)
}

impl Player {
    async fn step(&mut self, line: &str) -> Result<(), String> {
        let (step, expected) = match line.split_once("->") {
            Some((step, expected)) => (step, expected.trim()),
            None => (line, ""),
        };
        let words: Vec<&str> = step.split_whitespace().collect();
        match words.as_slice() {
            ["send", number, update @ ..] => {
                let reply = self.send(update)?;
                self.sent.push(((*number).to_owned(), reply));
            }
            ["reply", number] => {
                let place =
                    self.sent.iter().position(|(sent, _)| sent == number).ok_or("nothing was sent with that")?;
                let (_, reply) = self.sent.remove(place);
                expect_rcode(reply, expected).await?;
            }
            ["update" | "withdraw", ..] => {
                let reply = self.send(&words)?;
                expect_rcode(reply, expected).await?;
            }
            ["members", service, members @ ..] => self.expect_members(service.trim_end_matches(':'), members)?,
            ["serial", by] => {
                let serial = self.look_at_serial()?;
                let moved = format!("+{}", serial.wrapping_sub(std::mem::replace(&mut self.serial, serial)));
                if moved != **by {
                    return Err(format!("it moved by {moved}"));
                }
            }
            ["pass", time] => sleep(Duration::from_millis(millis(time))).await,
            ["stall", time] => self.world.stall(millis(time)).await,
            ["wall", by] => {
                let (sign, time) = by.split_at(1);
                let by = i64::try_from(millis(time)).unwrap();
                self.world.clock.set_wall(if sign == "-" { -by } else { by });
            }
            ["disk", state] => self.world.disk.set_fault(match *state {
                "works" => Fault::None,
                "full" => Fault::Full,
                "read-only" => Fault::ReadOnly,
                "unsynced" => Fault::Unsynced,
                _ => return Err("no such state of a disk".to_owned()),
            }),
            ["slow", time] => self.faults.latency.lock().unwrap().next.push(millis(time)),
            ["kill"] => self.world.kill(false).await,
            ["lose-power"] => self.world.kill(true).await,
            ["stop"] => self.world.stop().await,
            ["start"] => {
                let started = self.world.start().await;
                match (started, expected) {
                    (Ok(()), "") => {}
                    (Err(_), "error") => self.world.kill(false).await,
                    (started, _) => return Err(format!("{started:?}")),
                }
            }
            _ => return Err("no such step".to_owned()),
        }
        // Whatever is ready to run has run before the next step.
        sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    /// Sends an update; what comes back is there when the reply is.
    fn send(&mut self, words: &[&str]) -> Result<oneshot::Receiver<Vec<u8>>, String> {
        let [verb, service, id, options @ ..] = words else {
            return Err("an update needs a service and an id".to_owned());
        };
        let (mut lease, mut weight) = (10, 0);
        for pair in options.chunks(2) {
            match *pair {
                ["lease", seconds] => lease = seconds.parse().map_err(|_| "the lease is no number")?,
                ["weight", number] => weight = number.parse().map_err(|_| "the weight is no number")?,
                _ => return Err(format!("no such option: {pair:?}")),
            }
        }
        let label = service.split('.').next().unwrap_or("").trim_start_matches('_');
        let host = format!("{id}.{label}.z.");
        self.messages += 1;
        let update = Update::new("z.")
            .id(self.messages)
            .add(&format!("{service}.z. SRV 0 {weight} 80 {host}"))
            .add(&format!("{host} A 192.0.2.1"))
            .lease(if *verb == "withdraw" { 0 } else { lease });
        let (reply, replied) = oneshot::channel();
        let reply = Mutex::new(Some(reply));
        let delivered = self.world.deliver(&update.octets(), 2000, move |octets| {
            if let Some(reply) = reply.lock().unwrap().take() {
                let _ = reply.send(octets);
            }
        });
        if delivered { Ok(replied) } else { Err("no server runs".to_owned()) }
    }

    fn look_at_serial(&self) -> Result<u32, String> {
        let answer = self.world.ask(&question("z.", RecordType::SOA)).ok_or("no server runs")?;
        // The five numbers of the SOA end the message; the serial is the first of them.
        let serial = answer.len().checked_sub(20).and_then(|at| answer.get(at..at + 4));
        Ok(u32::from_be_bytes(serial.ok_or("no SOA record")?.try_into().expect("four octets")))
    }

    fn expect_members(&self, service: &str, expected: &[&str]) -> Result<(), String> {
        let answer = self.world.ask(&question(&format!("{service}.z."), RecordType::SRV)).ok_or("no server runs")?;
        let message = hickory_proto::op::Message::from_vec(&answer).map_err(|error| error.to_string())?;
        let mut found = String::new();
        for record in &message.answers {
            if let hickory_proto::rr::RData::SRV(srv) = &record.data {
                let target = srv.target.to_ascii();
                write!(found, "{} ", target.split('.').next().unwrap_or("")).expect("writing to a string doesn't fail");
            }
        }
        if found.trim_end() == expected.join(" ") { Ok(()) } else { Err(format!("there are: {found}")) }
    }
}

async fn expect_rcode(reply: oneshot::Receiver<Vec<u8>>, expected: &str) -> Result<(), String> {
    let octets = timeout(PATIENCE, reply).await;
    let found = match octets {
        Err(_) | Ok(Err(_)) => "none".to_owned(),
        Ok(Ok(octets)) => match octets[3] & 0xf {
            0 => "NOERROR".to_owned(),
            2 => "SERVFAIL".to_owned(),
            5 => "REFUSED".to_owned(),
            other => other.to_string(),
        },
    };
    if found == expected { Ok(()) } else { Err(format!("the reply was {found}")) }
}

fn millis(text: &str) -> u64 {
    let time = humantime::parse_duration(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    u64::try_from(time.as_millis()).unwrap()
}

#[test]
fn every_script_plays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    let mut played = 0;
    for path in scripts.iter().filter(|path| path.extension().is_some_and(|extension| extension == "script")) {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(&text)).unwrap_or_else(|error| panic!("{name}: {error}"));
        played += 1;
    }
    assert!(played >= 10, "{played} scripts in {}", folder.display());
}

#[test]
fn a_script_that_does_not_hold_names_its_line() {
    for (text, line) in [
        ("update _x._tcp a -> NOERROR\nmembers _x._tcp: b", "line 2"),
        ("\n# nothing\nupdate _x._tcp a -> REFUSED", "line 3"),
        ("serial +1", "line 1"),
        ("update _x._tcp a lease 5 -> NOERROR\npass 6s\nmembers _x._tcp: a", "line 3"),
        ("dance", "line 1"),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let error = runtime.block_on(play(text)).unwrap_err();
        assert!(error.starts_with(line), "{error}");
    }
}
