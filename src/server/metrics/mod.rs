//! The page that Prometheus reads: everything is read when it is asked for, from where it stands.
//!
//! What is counted on the way of a query or an update is in [`super::figures`] and in the copies that threads have of it; what a
//! zone tells of itself lies beside its answers ([`crate::zone::figures`]); the store, the notifiers and the followers keep
//! theirs. So nothing is copied until somebody asks, and no zone, no publisher and no lock of a transport is waited for: a
//! page costs the server some microseconds of a thread that serves nobody, and two more for each zone.
//!
//! **Labels** are closed sets, but for `zone` and `secondary`, which the configuration bounds. A page has some 200 lines for the
//! server, 13 for a zone, 10 for each of its secondaries (64 listed ones, and its name servers), and 7 for a copy.
//!
//! Names and units follow <https://prometheus.io/docs/practices/naming/>, and those of the process
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

mod process;
mod writer;
mod zones;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use crate::base::Limit;
use crate::base::limits::TRANSFERS;
use crate::dns::reply::Transport;
use crate::membership::Reason;
use crate::net::tcp::Places;
use crate::store::Store;

use super::figures::{Channel, Figures, Outcome};
use super::front::Front;

use writer::Writer;

/// Where all of it is read.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) front: Arc<Front>,
    pub(super) store: Arc<dyn Store>,
    /// The connections of TCP.
    pub(super) places: Arc<Places>,
    /// Where UDP listens.
    pub(super) listening: Arc<[std::net::SocketAddr]>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// The page as it is now. May read files.
pub(super) fn page(sources: &Sources) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sources.clone()));
    let mut page = String::with_capacity(32 << 10);
    prometheus_text::encode(&mut page, &registry).expect("a string takes all");
    page
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = Writer(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        writer.gauges("livezone_build_info", "Always 1; the version is in the label.", [(version, 1)])?;
        self.write_queries(&mut writer)?;
        self.write_heartbeats(&mut writer)?;
        let zones = zones::look(&self.front.routing.load());
        zones::write_zones(&mut writer, &zones)?;
        zones::write_copies(&mut writer, &zones)?;
        zones::write_secondaries(&mut writer, &zones)?;
        self.write_transfers(&mut writer)?;
        self.write_store(&mut writer)?;
        self.write_limits(&mut writer)?;
        process::write(&mut writer)
    }
}

impl Sources {
    fn figures(&self) -> &Figures {
        &self.front.counters.figures
    }

    fn write_queries(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let queries = &self.figures().queries;
        let answered = queries.answered();
        let samples = answered.iter().map(|(transport, qtype, rcode, count)| {
            ([("transport", transport.label()), ("type", *qtype), ("rcode", rcode.as_str())], *count)
        });
        writer.counters("livezone_queries", "Queries answered, by transport, type and rcode.", samples)?;
        let label = |transport: Transport| [("transport", transport.label())];
        let truncated = Transport::ALL.map(|transport| (label(transport), queries.truncated(transport)));
        writer.counters("livezone_truncated_answers", "Answers with TC: the client is to ask by TCP.", truncated)?;
        let times = Transport::ALL.map(|transport| (label(transport), queries.times(transport)));
        writer.histograms(
            "livezone_query_duration_seconds",
            "From when a query was read until its answer was handed on; over UDP for all of a batch until all were sent.",
            times,
        )
    }

    fn write_heartbeats(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Figures { heartbeats, publication, decisions, .. } = self.figures();
        let pairs = Channel::ALL.into_iter().flat_map(|channel| Outcome::ALL.map(|outcome| (channel, outcome)));
        let samples = pairs.map(|(channel, outcome)| {
            ([("channel", channel.label()), ("outcome", outcome.label())], heartbeats.at(channel, outcome))
        });
        writer.counters(
            "livezone_heartbeats",
            "Registrations, renewals and removals, by channel and what became of them.",
            samples,
        )?;
        let decided = Reason::ALL.map(|reason| ([("reason", reason.label())], decisions.at(reason)));
        writer.counters("livezone_policy_decisions", "What policy decided of members, by reason.", decided)?;
        writer.histogram(
            "livezone_publication_lag_seconds",
            "From when an update that changes something came in until its commit was durable and visible.",
            &publication.read(),
        )
    }

    fn write_transfers(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Figures { transfers, notified, .. } = self.figures();
        let samples = transfers.counts().map(|(form, outcome, count)| ([("form", form), ("outcome", outcome)], count));
        writer.counters("livezone_transfers", "Zone transfers sent over TCP that have ended.", samples)?;
        let under_way = TRANSFERS.saturating_sub(self.front.transfers.available_permits());
        writer.gauge("livezone_transfers_under_way", "Zone transfers being sent.", count(under_way))?;
        let notified = notified.load(Ordering::Relaxed);
        writer.counter("livezone_notifies_received", "NOTIFY from primaries of copies.", notified)
    }

    fn write_store(&self, writer: &mut Writer<'_>) -> fmt::Result {
        if let Some(figures) = self.store.figures() {
            writer.histogram(
                "livezone_store_write_duration_seconds",
                "Transactions of the store, from their begin until they were durable or had failed.",
                &figures.times.read(),
            )?;
            let outcomes = figures.outcomes().map(|(outcome, count)| ([("outcome", outcome)], count));
            writer.counters("livezone_store_writes", "Writes of zones to the store, by outcome.", outcomes)?;
            let failing = u64::from(figures.is_failing());
            writer.gauge("livezone_store_failing", "1 if the last write of the store failed.", failing)?;
        }
        match self.store.octets() {
            Some(octets) => writer.gauge("livezone_store_size_bytes", "Length of the store's file.", octets),
            None => Ok(()),
        }
    }

    fn write_limits(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let limits = Limit::ALL.map(|limit| ([("limit", limit.label())], self.front.counters.at(limit)));
        writer.counters("livezone_limited", "What was refused, dropped or forgotten early, by limit.", limits)?;
        let dropped = process::socket_drops(&self.listening);
        let help = "Datagrams that the kernel dropped, since the buffers of our UDP sockets were full.";
        writer.counter("livezone_udp_socket_drops", help, dropped)?;
        writer.gauge("livezone_connections", "Open TCP connections for DNS.", count(self.places.taken()))?;
        let cuts = &self.places.cuts;
        let reasons: [(&str, &AtomicU64); 8] = [
            ("idle", &cuts.idle),
            ("slow-writer", &cuts.slow_writer),
            ("slow-reader", &cuts.slow_reader),
            ("displaced", &cuts.displaced),
            ("client-limit", &cuts.client_limit),
            ("total-limit", &cuts.total_limit),
            ("dropped-request", &cuts.dropped),
            ("no-descriptor", &cuts.accept),
        ];
        let reasons = reasons.map(|(reason, count)| ([("reason", reason)], count.load(Ordering::Relaxed)));
        writer.counters("livezone_connections_cut", "TCP connections refused or cut off, by reason.", reasons)
    }
}

/// A count as a metric has it.
fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
