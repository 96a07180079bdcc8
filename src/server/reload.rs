//! What a running server does when its files change.
//!
//! Everything is read and judged first ([`reading`]); then [`plan`] says what to do; then that is done. Each file is judged
//! for itself: a zone whose file or static file is wrong keeps running as it was, and others are reloaded. A
//! `livezone.toml` that is wrong changes nothing of its own. A zone whose file is gone is removed, unless the folder can't
//! be read or no zone file is left in it at all: that is a folder not mounted rather than a server without zones.
//!
//! A removed zone finishes what is under way and is then REFUSED like any name that the server has no zone for. What the
//! store keeps of it stays, so that its members are there again, by the rules of a restart, when it is added back.
//!
//! A zone that becomes a copy, or ceases to be one, ends and is added again. Where that fails it is SERVFAIL until it
//! succeeds: every reload tries, and where the store refused, one comes by itself.
//!
//! Queries never wait: what they meet is replaced as a whole ([`super::front::Routing`]).

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::base::Name;
use crate::config::{Config, Problem};

use super::first_epoch;
use super::fleet::{Fleet, Running};
use super::front::Front;
use super::publisher::Clash;
use super::reading::{self, Judged, Reading, Ready};
use crate::config::watch::Watch;

/// How long a reload waits for changed zones to come into force before it goes on; the zones try on by themselves.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until a reload is tried again whose new zone the store refused, or whose changed zone waits for the store.
const RETRY: Duration = Duration::from_secs(5);

/// Where a server's configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// `livezone.toml`; none: the defaults.
    pub path: Option<PathBuf>,
    /// What it said at the start, before any argument of the command line.
    pub config: Config,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What was worth a word in them, as `file:line: text`.
    pub warnings: Vec<String>,
}

/// One thing to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Bring a zone into force that isn't running.
    Add(Ready),
    /// Change a running zone.
    Change(Ready),
    /// Take a zone away.
    Remove(Name),
}

/// From the zones that run, those that are to and are absent, and what their folder holds now, to what to do.
pub fn plan(running: &[&Ready], absent: &[&Ready], zones: Vec<Judged>) -> Vec<Step> {
    if zones.is_empty() {
        return Vec::new();
    }
    let mut steps = Vec::new();
    for ready in running.iter().chain(absent) {
        let is_about = |judged: &Judged| match &judged.ready {
            Some(found) => found.origin() == ready.origin(),
            // A broken file keeps what was loaded from it, and the zone that it names.
            None => judged.path == ready.zone.source || judged.origin.as_ref() == Some(ready.origin()),
        };
        if !zones.iter().any(is_about) {
            steps.push(Step::Remove(ready.origin().clone()));
        }
    }
    for found in zones.into_iter().filter_map(|judged| judged.ready) {
        match running.iter().find(|ready| ready.origin() == found.origin()) {
            None => steps.push(Step::Add(found)),
            Some(ready) if **ready != found => steps.push(Step::Change(found)),
            Some(_) => {}
        }
    }
    steps
}

/// The certificate chain for DNS over TLS.
fn certificate(config: &Config) -> Option<&[CertificateDer<'static>]> {
    config.tls.as_ref().map(|tls| tls.certified.cert.as_slice())
}

/// The task that reloads. It owns the zones.
pub(super) struct Reloader {
    fleet: Fleet,
    front: Arc<Front>,
    /// What is in force.
    config: Config,
    source: Option<Source>,
    watch: Watch,
    /// Problems and warnings that were logged last time.
    told: HashSet<String>,
    /// The store refused a new zone, or a changed one waits for it.
    retry: bool,
}

impl Reloader {
    pub(super) fn new(fleet: Fleet, front: Arc<Front>, config: Config, source: Option<Source>) -> Reloader {
        let told = source.iter().flat_map(|source| source.warnings.iter().cloned()).collect();
        Reloader { fleet, front, config, source, watch: Watch::default(), told, retry: false }
    }

    /// Runs until `stop` turns, and returns the zones, still running.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<()>, mut stop: watch::Receiver<bool>) -> Fleet {
        if let Some(source) = &self.source {
            // Tells of a change itself, so that what happened while the server started is found.
            self.watch.follow(&source.files, &source.config.zones_dir);
        }
        loop {
            let asked = tokio::select! {
                _ = stop.changed() => return self.fleet,
                Some(()) = requests.recv() => true,
                () = self.watch.changed() => false,
                () = sleep(RETRY), if self.retry => false,
            };
            tokio::select! {
                biased;
                _ = stop.changed() => {
                    tracing::warn!("a reload was under way; it is left, and the next start reads the files");
                    return self.fleet;
                }
                () = self.reload(asked) => {}
            }
        }
    }

    async fn reload(&mut self, asked: bool) {
        let Some(Source { path, .. }) = &self.source else { return };
        let (path, running) = (path.clone(), self.config.clone());
        let read = move || reading::read(path.as_deref(), Some(&running));
        let Ok(Reading { config, zones_dir, zones, mut problems, warnings, files }) =
            tokio::task::spawn_blocking(read).await
        else {
            return tracing::error!("reading the configuration failed; nothing was reloaded");
        };
        self.watch.follow(&files, zones_dir.as_deref().unwrap_or(&self.config.zones_dir));
        if let Some(config) = config {
            self.take_over(config);
        }
        // A change that was not taken differs again, and is tried again.
        let late = self.fleet.settle(Instant::now(), |_, _| {}).await;
        if late > 0 {
            tracing::info!(changed = late, "changed configurations that waited for the store are in force");
        }
        let steps = match zones {
            Some(zones) if zones.is_empty() => {
                let mut problem = reading::no_zone(&zones_dir.unwrap_or_default());
                problem.message += "; the zones keep running as they were";
                problems.push(problem);
                Vec::new()
            }
            Some(zones) => {
                let running: Vec<&Ready> = self.fleet.running.values().map(Running::latest).collect();
                let absent: Vec<&Ready> = self.fleet.absent.values().map(|absent| &absent.ready).collect();
                plan(&running, &absent, zones)
            }
            None => Vec::new(),
        };
        self.retry = false;
        let counts = self.carry_out(steps, &mut problems).await;
        self.tell(asked, &problems, warnings);
        let [added, changed, removed] = counts;
        if asked || counts != [0, 0, 0] {
            tracing::info!(added, changed, removed, problems = problems.len(), "reloaded");
        } else {
            tracing::debug!("files were looked at; nothing differs");
        }
    }

    /// Carries a plan out; what can't be is added to the problems. Returns how many zones were added, changed, removed.
    async fn carry_out(&mut self, steps: Vec<Step>, problems: &mut Vec<Problem>) -> [usize; 3] {
        let (mut changes, mut removed, mut adding, mut added) = (false, Vec::new(), Vec::new(), 0);
        for step in steps {
            match step {
                // What it is changes: the one ends, and the other begins with what the store has.
                Step::Change(ready) if self.fleet.changes_side(&ready) => {
                    self.fleet.change_side(&ready);
                    adding.push(ready);
                }
                Step::Change(ready) => {
                    self.fleet.change(ready);
                    changes = true;
                }
                Step::Remove(origin) => removed.push(origin),
                Step::Add(ready) => {
                    if self.fleet.is_absent(ready.origin()) {
                        self.fleet.hold(&ready); // whoever may query is another, perhaps
                    }
                    adding.push(ready);
                }
            }
        }
        if !adding.is_empty() && self.fleet.is_silent() {
            self.retry = true;
            for ready in adding.drain(..) {
                let message = "the zone can't be added: the store doesn't answer; it will be tried again".to_owned();
                problems.push(Problem { file: ready.zone.source.clone(), position: Some(ready.zone.at), message });
            }
        }
        let first = first_epoch::choose(&self.fleet, &adding, None).await;
        for (ready, first) in adding.into_iter().zip(first) {
            let (file, position) = (ready.zone.source.clone(), Some(ready.zone.at));
            match self.fleet.add(ready, first).await {
                Ok(()) => added += 1,
                Err(super::StartError::Clash(problem)) => problems.push(problem),
                Err(error) => {
                    self.retry = true;
                    let message = format!("the zone can't be added: {error}; it will be tried again");
                    problems.push(Problem { file, position, message });
                }
            }
        }
        // New zones at once: their members' leases run.
        self.front.routing.store(Arc::new(self.fleet.routing(&self.config)));
        self.fleet.open();
        let mut changed = 0;
        if changes {
            let refused =
                |ready: &Ready, clash: &Clash| problems.push(ready.problem_at(clash.name(), clash.to_string()));
            changed = self.fleet.settle(Instant::now() + PATIENCE, refused).await;
            for zone in self.fleet.waiting() {
                tracing::warn!(%zone, "the changed configuration waits for the store");
            }
        }
        self.retry |= self.fleet.waiting().next().is_some();
        // Not routed first, then ended: an update still on its way gets its answer from the queue.
        let leaving: Vec<_> = removed.iter().filter_map(|origin| self.fleet.detach(origin)).collect();
        self.front.routing.store(Arc::new(self.fleet.routing(&self.config)));
        leaving.into_iter().for_each(|running| self.fleet.end(running));
        [added, changed, removed.len()]
    }

    /// Takes over what `livezone.toml` says, as far as that needs no restart.
    fn take_over(&mut self, config: Config) {
        let Some(Source { config: started, .. }) = &self.source else { return };
        let mut waiting = Vec::new();
        for (key, differs) in [
            ("data-dir", config.data_dir != started.data_dir),
            ("dns.listen", config.dns.listen != started.dns.listen),
            ("dns.threads", config.dns.threads != started.dns.threads),
            ("http.listen", config.http.listen != started.http.listen),
            ("http.certificate", config.http.certified.is_some() != started.http.certified.is_some()),
            ("limits.tcp-connections", config.limits.tcp.connections != started.limits.tcp.connections),
            ("limits.tcp-connections-per-client", config.limits.tcp.per_client != started.limits.tcp.per_client),
            ("limits.tcp-idle", config.limits.tcp.idle != started.limits.tcp.idle),
            (
                "dns.tls-listen",
                config.tls.as_ref().map(|tls| &tls.listen) != started.tls.as_ref().map(|tls| &tls.listen),
            ),
            // The key is that of the certificate.
            ("tls.certificate", certificate(&config).is_some() && certificate(&config) != certificate(started)),
        ] {
            if differs {
                waiting.push(format!("`{key}` has changed and takes effect when the server is restarted"));
            }
        }
        for warning in &waiting {
            if self.told.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        self.told.extend(waiting);
        self.front.rate.lock().expect("no panic holds it").set_rate(config.dns.update_rate);
        let dns = crate::config::Dns {
            listen: self.config.dns.listen.clone(),
            threads: self.config.dns.threads,
            ..config.dns.clone()
        };
        // Who needs a token depends on where it listens, not on where it is to.
        let certified = config.http.certified.or_else(|| self.config.http.certified.clone());
        let http = crate::config::Http { listen: self.config.http.listen, open: config.http.open, certified };
        self.config = Config { data_dir: self.config.data_dir.clone(), dns, http, ..config };
        // At once, whatever becomes of the zones: a key that was taken away admits nobody from here on.
        self.fleet.notifying.set_keys(super::run::keys(&self.config));
        self.front.routing.store(Arc::new(self.fleet.routing(&self.config)));
    }

    /// Logs what is wrong: all of it for whoever asked, else what is new.
    fn tell(&mut self, asked: bool, problems: &[Problem], warnings: Vec<String>) {
        let mut told = HashSet::new();
        for problem in problems {
            let text = problem.to_string();
            if asked || !self.told.contains(&text) {
                tracing::error!("{text}");
            }
            told.insert(text);
        }
        for text in warnings {
            if !self.told.contains(&text) {
                tracing::warn!("{text}");
            }
            told.insert(text);
        }
        self.told.retain(|text| text.starts_with('`')); // what waits for a restart
        self.told.extend(told);
    }
}
