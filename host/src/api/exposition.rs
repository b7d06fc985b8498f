//! `/metrics`: the engine's figures and the HTTP side's, as Prometheus reads them. Names are
//! `retag_<noun>_<unit>[_total]`; no key, path or token stands in a label.

use super::metrics::{BOUNDS, Limit, Metrics};
use super::release::RunState;
use super::rules::DataState;
use super::status::{Source, StatusAnswer};
use crate::pipeline::swap_times::{self, SwapTimes, Times};
use crate::registry::GenerationState;
use crate::sink::progress::Shown;
use crate::source::Unit;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

/// Media type of the format.
pub(super) const MEDIA: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Text that grows by families.
struct Text(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}"); // a string takes everything
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            self.0.push(if n == 0 { '{' } else { ',' });
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{escaped}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// All figures.
pub(super) fn text(
    status: &StatusAnswer,
    time_us: i64,
    http: &Metrics,
    (keys, streams): (usize, usize),
    swap_times: &SwapTimes,
) -> String {
    let mut out = Text(String::new());
    engine(&mut out, status, time_us);
    swaps(&mut out, swap_times);
    sources(&mut out, status);
    rules(&mut out, status);
    requests(&mut out, http);
    let help = "Idempotency keys whose answers are kept.";
    out.one("retag_http_idempotency_keys_count", "gauge", help, keys);
    out.one("retag_http_streams_count", "gauge", "Streams of transitions now.", streams);
    out.0
}

fn engine(out: &mut Text, status: &StatusAnswer, time_us: i64) {
    let totals = &status.totals;
    out.one("retag_commits_total", "counter", "Durable commits since the state was made.", status.commit);
    let seconds = time_us as f64 / 1e6;
    out.one("retag_engine_time_seconds", "gauge", "Engine time of the last commit, Unix time.", seconds);
    out.one("retag_epoch_number", "gauge", "Epoch of the state.", status.epoch);
    out.one("retag_changes_total", "counter", "Changes applied.", totals.changes);
    out.one(
        "retag_changes_resent_total",
        "counter",
        "Changes that came again and were left out.",
        totals.resent,
    );
    out.one("retag_images_total", "counter", "Row images handed to rules.", totals.images);
    out.one("retag_images_refused_total", "counter", "Row images that rules refused.", totals.bad_images);
    out.one("retag_messages_aside_total", "counter", "Messages that were put aside.", totals.aside);
    out.one("retag_images_null_key_total", "counter", "Row images with a NULL key.", totals.null_keys);
    out.one("retag_transitions_total", "counter", "Labels set or unset.", totals.transitions);
    out.one(
        "retag_outbox_rows",
        "gauge",
        "Rows that a sink has not got; counted up to 10,000.",
        status.outbox_rows,
    );
    out.family("retag_messages_skipped_total", "counter", "Messages left out, by reason.");
    for (reason, n) in &totals.skipped {
        out.sample("retag_messages_skipped_total", &[("reason", reason)], n);
    }
    out.family("retag_table_changes_total", "counter", "Changes by table.");
    for (table, n) in &totals.tables {
        out.sample("retag_table_changes_total", &[("table", table)], n);
    }
    out.family("retag_problems_count", "gauge", "Problems that `retag status` names, by code.");
    let mut codes: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for problem in &status.problems {
        *codes.entry(&problem.code).or_default() += 1;
    }
    for (code, n) in codes {
        out.sample("retag_problems_count", &[("code", code)], n);
    }
}

fn swaps(out: &mut Text, swap_times: &SwapTimes) {
    type Clock = fn(&[Times; 2]) -> &Times;
    let clocks: [(&str, [&str; 2], Clock); 2] = [
        ("Time", ["retag_swap_slice_seconds", "retag_swap_slice_max_seconds"], |[wall, _]| wall),
        (
            "Processor time",
            ["retag_swap_slice_cpu_seconds", "retag_swap_slice_cpu_max_seconds"],
            |[_, cpu]| cpu,
        ),
    ];
    for (what, [all, longest], of) in clocks {
        let says = format!("{what} of a piece of a swap on a worker: sweep, program, lane.");
        out.family(all, "histogram", &says);
        for (part, times) in swap_times.parts() {
            let (times, mut below) = (of(times), 0);
            let bounds = swap_times::BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
            for (bound, n) in bounds.zip(times.counts) {
                below += n;
                out.sample(&format!("{all}_bucket"), &[("part", part), ("le", bound)], below);
            }
            out.sample(&format!("{all}_sum"), &[("part", part)], times.sum_us as f64 / 1e6);
            out.sample(&format!("{all}_count"), &[("part", part)], below);
        }
        let says = format!("{what} of the longest piece of a swap on a worker since the start.");
        out.family(longest, "gauge", &says);
        for (part, times) in swap_times.parts() {
            out.sample(longest, &[("part", part)], of(times).max_us as f64 / 1e6);
        }
    }
}

fn of_unit(status: &StatusAnswer, unit: Unit) -> impl Iterator<Item = &Source> {
    status.sources.iter().filter(move |source| source.partitions.iter().all(|p| p.unit == unit))
}

fn topics(out: &mut Text, status: &StatusAnswer) {
    type Figure = fn(&Source) -> u64;
    let figures: [(&str, &str, Figure); 4] = [
        ("retag_source_position_messages", "Offsets read and committed, over all partitions.", |source| {
            source.partitions.iter().map(|p| p.position).sum()
        }),
        ("retag_source_lag_messages", "Messages that wait to be read, over all partitions.", |source| {
            source.partitions.iter().filter_map(|p| p.lag_messages).sum()
        }),
        ("retag_source_lag_seconds", "Age of the oldest message that is not applied.", |source| {
            source.partitions.iter().filter_map(|p| p.lag_seconds).max().unwrap_or(0)
        }),
        ("retag_source_waiting_count", "1 = its brokers do not answer.", |source| {
            u64::from(source.waits_for.is_some())
        }),
    ];
    for (name, help, figure) in figures {
        out.family(name, "gauge", help);
        for source in of_unit(status, Unit::Messages) {
            out.sample(name, &[("source", &source.source)], figure(source));
        }
    }
}

fn sources(out: &mut Text, status: &StatusAnswer) {
    out.family("retag_source_position_bytes", "gauge", "Bytes read and committed, over all partitions.");
    for source in of_unit(status, Unit::Bytes) {
        let read: u64 = source.partitions.iter().map(|p| p.position).sum();
        out.sample("retag_source_position_bytes", &[("source", &source.source)], read);
    }
    out.family("retag_source_lag_bytes", "gauge", "Bytes that wait to be read, over all partitions.");
    for source in of_unit(status, Unit::Bytes) {
        let lag: u64 = source.partitions.iter().filter_map(|p| p.lag_bytes).sum();
        out.sample("retag_source_lag_bytes", &[("source", &source.source)], lag);
    }
    topics(out, status);
    out.family("retag_sink_next_commit", "gauge", "The first commit that the sink has not got whole.");
    for sink in status.sinks.iter().filter(|sink| sink.configured) {
        let next = sink.next.map_or(0, |place| place.commit);
        out.sample("retag_sink_next_commit", &[("sink", &sink.sink)], next);
    }
    sinks(out, status);
}

fn sinks(out: &mut Text, status: &StatusAnswer) {
    out.family(
        "retag_sink_dropped_total",
        "counter",
        "Messages that a sink never got: too much waited for it.",
    );
    for sink in &status.sinks {
        out.sample("retag_sink_dropped_total", &[("sink", &sink.sink)], sink.dropped);
    }
    out.family(
        "retag_sink_dead_letters",
        "gauge",
        "Messages that the sink's receiver refused, and that are kept.",
    );
    for sink in &status.sinks {
        out.sample("retag_sink_dead_letters", &[("sink", &sink.sink)], sink.dead_letters);
    }
    type Figure = fn(&Shown) -> Option<u64>;
    let figures: [(&str, &str, Figure); 2] = [
        ("retag_sink_waiting_count", "1 = it is away, or refuses.", |now| {
            Some(u64::from(now.waits_for.is_some()))
        }),
        ("retag_sink_whole_count", "1 = it holds the labels of all keys.", |now| now.whole.map(u64::from)),
    ];
    for (name, help, figure) in figures {
        out.family(name, "gauge", help);
        for sink in &status.sinks {
            if let Some(value) = sink.now.as_ref().and_then(figure) {
                out.sample(name, &[("sink", &sink.sink)], value);
            }
        }
    }
}

fn rules(out: &mut Text, status: &StatusAnswer) {
    type Figure = fn(&super::rules::RuleAnswer) -> u64;
    let figures: [(&str, &str, Figure); 8] = [
        ("retag_rule_revision_number", "Live revision.", |rule| rule.revision.into()),
        ("retag_rule_exact_count", "1 = its sums are those of the tables.", |rule| {
            u64::from(rule.data_state == DataState::Exact)
        }),
        ("retag_rule_paused_count", "1 = it stands still: paused and not resumed.", |rule| {
            u64::from(rule.pause.as_ref().is_some_and(|pause| pause.operation.is_none()))
        }),
        ("retag_rule_lagging_count", "1 = it follows, and more waits than `lag_bytes_max`.", |rule| {
            u64::from(rule.run_state == RunState::Lagging)
        }),
        ("retag_rule_sweeping_count", "1 = its labels are being evaluated for all keys.", |rule| {
            u64::from(rule.labels_state != GenerationState::Ready)
        }),
        ("retag_rule_pending_keys", "Keys whose labels are held for a negative count.", |rule| {
            rule.pending_keys
        }),
        ("retag_rule_error_keys", "Keys whose labels are held because the rule failed.", |rule| {
            rule.error_keys
        }),
        (
            "retag_rule_overflow_keys",
            "Keys whose labels are held for a counted set that is too large.",
            |rule| rule.overflow_keys,
        ),
    ];
    for (name, help, figure) in figures {
        out.family(name, "gauge", help);
        for rule in &status.rules {
            out.sample(name, &[("rule", &rule.rule)], figure(rule));
        }
    }
    out.family("retag_label_keys", "gauge", "Keys that carry a label, by value.");
    for rule in &status.rules {
        for label in &rule.labels {
            if label.values.is_empty() {
                let labels = [("rule", &*rule.rule), ("label", &*label.label), ("value", "")];
                out.sample("retag_label_keys", &labels, label.count);
            }
            for (value, n) in &label.values {
                let labels = [("rule", &*rule.rule), ("label", &*label.label), ("value", &**value)];
                out.sample("retag_label_keys", &labels, n);
            }
        }
    }
}

fn requests(out: &mut Text, http: &Metrics) {
    let requests = http.requests();
    out.family("retag_http_requests_total", "counter", "Requests answered, by route, method and status.");
    for ((route, method, status), n) in &requests.counts {
        let labels = [("route", &**route), ("method", *method), ("status", &status.to_string())];
        out.sample("retag_http_requests_total", &labels, n);
    }
    out.family("retag_http_request_seconds", "histogram", "Time from a head to the beginning of its answer.");
    for (route, times) in &requests.times {
        let mut below = 0;
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (bound, n) in bounds.zip(times.counts) {
            below += n;
            out.sample("retag_http_request_seconds_bucket", &[("route", route), ("le", bound)], below);
        }
        out.sample("retag_http_request_seconds_sum", &[("route", route)], times.sum_us as f64 / 1e6);
        out.sample("retag_http_request_seconds_count", &[("route", route)], below);
    }
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    out.one("retag_http_connections_count", "gauge", "Connections now.", http.connections());
    out.one("retag_http_requests_count", "gauge", "Requests whose answers have not begun.", http.in_flight());
    out.one("retag_http_connections_total", "counter", "Connections accepted.", load(&http.accepted));
    let failed = load(&http.handshakes_failed);
    out.one("retag_http_handshakes_failed_total", "counter", "TLS handshakes that failed.", failed);
    let unauthorized = load(&http.unauthorized);
    out.one(
        "retag_http_unauthorized_total",
        "counter",
        "Requests without a token that counts.",
        unauthorized,
    );
    out.family("retag_http_limited_total", "counter", "How often a limit of [http] was reached, by its key.");
    for limit in Limit::ALL {
        out.sample("retag_http_limited_total", &[("limit", limit.key())], http.limited_count(limit));
    }
}
