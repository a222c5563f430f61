//! The results: a table for people, JSON for programs.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::check::Verdict;
use super::load::Finished;
use super::options::{ARRIVALS, CONSISTENCIES, Options, TARGETS, WORKLOADS, word};
use super::recorder::{Class, Recorder, Window, quantile};

/// What stands around a run: which it was, and of what.
pub struct Setting<'a> {
    pub options: &'a Options,
    pub nodes: &'a [std::net::SocketAddr],
    pub run: u64,
    pub seed: u64,
    /// Wall clock (nanoseconds since 1970) minus `CLOCK_MONOTONIC`.
    pub wall_minus_monotonic_ns: u64,
}

/// One line of progress, below 80 columns.
pub fn progress(window: &Window, interval_s: f64) -> String {
    format!(
        "{:>7.1} s {:>9.0} op/s   p50 {:>9}   p99 {:>9}   not ok {}",
        window.t_ms as f64 / 1000.0 + interval_s,
        window.ok as f64 / interval_s,
        time(window.p50_us),
        time(window.p99_us),
        window.failed
    )
}

/// The table of a finished run, within 80 columns.
pub fn table<C>(
    setting: &Setting<'_>,
    finished: &Finished<C>,
    verdict: Option<&Verdict>,
) -> String {
    let (options, recorder) = (setting.options, &finished.recorder);
    let mut out = String::new();
    let loop_kind = match options.rate {
        Some(rate) => format!("open loop at {rate} op/s"),
        None => "closed loop".to_owned(),
    };
    line(
        &mut out,
        format_args!(
            "{loop_kind}, {} connections x {} in flight, {:.1} s{}",
            options.clients,
            options.in_flight,
            recorder.seconds(),
            if finished.interrupted { " (interrupted)" } else { "" }
        ),
    );
    line(&mut out, format_args!("throughput   {:.0} op/s", recorder.throughput()));
    line(
        &mut out,
        format_args!(
            "longest gap  {} between two successful replies, at {:.1} s",
            time(recorder.gap_ns / 1000),
            (recorder.gap_start_ns - recorder.begin_ns) as f64 / 1e9
        ),
    );
    if options.rate.is_some() {
        line(&mut out, format_args!("never started {} operations", finished.never_started));
    }
    line(
        &mut out,
        format_args!(
            "{:<7}{:>10}{:>6}{:>6}{:>6}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "", "ok", "no", "fail", "unkn", "p50", "p90", "p99", "p99.9", "max"
        ),
    );
    for (name, class) in [("reads", &recorder.reads), ("writes", &recorder.writes)] {
        let (counts, latency) = (class.counts, &class.latency);
        if counts.ok + counts.not_ok() == 0 {
            continue;
        }
        line(
            &mut out,
            format_args!(
                "{name:<7}{:>10}{:>6}{:>6}{:>6}{:>9}{:>9}{:>9}{:>9}{:>9}",
                counts.ok,
                counts.refused,
                counts.failed,
                counts.unknown,
                time(quantile(latency, 0.5)),
                time(quantile(latency, 0.9)),
                time(quantile(latency, 0.99)),
                time(quantile(latency, 0.999)),
                time(latency.max())
            ),
        );
    }
    if let Some(verdict) = verdict {
        line(
            &mut out,
            format_args!(
                "check: {} lost, {} duplicated, {} stale, {} unexpected, of {} keys",
                verdict.lost, verdict.duplicated, verdict.stale, verdict.unexpected, verdict.keys
            ),
        );
        for example in &verdict.examples {
            line(&mut out, format_args!("  {example}"));
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("memory takes all that is written");
}

/// Everything about a run.
pub fn json<C>(setting: &Setting<'_>, finished: &Finished<C>, verdict: Option<&Verdict>) -> Value {
    let (options, recorder) = (setting.options, &finished.recorder);
    let mut all = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "run": format!("{:016x}", setting.run),
        "parameters": {
            "nodes": setting.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "clients": options.clients,
            "in_flight": options.in_flight,
            "duration_s": options.duration.as_secs_f64(),
            "warmup_s": options.warmup.as_secs_f64(),
            "workload": word(&WORKLOADS, &options.workload),
            "keys": options.keys,
            "value_size": options.value_size,
            "reads": options.reads,
            "consistency": word(&CONSISTENCIES, &options.consistency),
            "skew": options.skew,
            "rate": options.rate,
            "arrivals": word(&ARRIVALS, &options.arrivals),
            "target": word(&TARGETS, &options.target),
            "op_timeout_s": options.op_timeout.as_secs_f64(),
            "give_up_s": options.give_up.as_secs_f64(),
            "check": options.check,
            "seed": setting.seed,
        },
        "start_wall_ns": recorder.begin_ns.wrapping_add(setting.wall_minus_monotonic_ns),
        "interrupted": finished.interrupted,
        "never_started": finished.never_started,
        "check": verdict.map(|verdict| json!({
            "lost": verdict.lost,
            "duplicated": verdict.duplicated,
            "stale": verdict.stale,
            "unexpected": verdict.unexpected,
            "keys": verdict.keys,
            "examples": verdict.examples,
        })),
    });
    let all_of = all.as_object_mut().expect("it is written as one");
    all_of.extend(measured(recorder, finished.cpu_ns));
    all
}

/// What was measured; `cpu_ns` is the processor time that measuring took.
pub fn measured(recorder: &Recorder, cpu_ns: Option<u64>) -> Map<String, Value> {
    let ended = recorder.reads.latency.len() + recorder.writes.latency.len();
    let object = json!({
        "start_monotonic_ns": recorder.begin_ns,
        "measured_s": recorder.seconds(),
        "throughput": recorder.throughput(),
        "ok_in_time": recorder.ok_in_time,
        "longest_gap_ms": recorder.gap_ns as f64 / 1e6,
        "longest_gap_at_ms": (recorder.gap_start_ns - recorder.begin_ns) as f64 / 1e6,
        "generator_cpu_us_per_op": cpu_ns.filter(|_| 0 < ended)
            .map(|cpu_ns| cpu_ns as f64 / 1e3 / ended as f64),
        "reads": class(&recorder.reads),
        "writes": class(&recorder.writes),
        "windows": recorder.windows.iter().map(|window| json!({
            "t_ms": window.t_ms,
            "ok": window.ok,
            "failed": window.failed,
            "p50_us": window.p50_us,
            "p99_us": window.p99_us,
            "mean_us": window.mean_us,
        })).collect::<Vec<_>>(),
    });
    let Value::Object(object) = object else { unreachable!("it is written as one") };
    object
}

fn class(class: &Class) -> Value {
    let latency = &class.latency;
    json!({
        "ok": class.counts.ok,
        "refused": class.counts.refused,
        "failed": class.counts.failed,
        "unknown": class.counts.unknown,
        "latency_us": {
            "min": if latency.is_empty() { 0 } else { latency.min() },
            "mean": latency.mean(),
            "stdev": latency.stdev(),
            "p50": quantile(latency, 0.5),
            "p90": quantile(latency, 0.9),
            "p99": quantile(latency, 0.99),
            "p999": quantile(latency, 0.999),
            "p9999": quantile(latency, 0.9999),
            "max": latency.max(),
        },
        "distribution": distribution(latency),
    })
}

/// Pairs of share and microseconds: enough points for a curve of the distribution, with more and more
/// of them towards the tail.
fn distribution(latency: &Histogram<u64>) -> Vec<(f64, u64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    let points = latency.iter_quantiles(10);
    points.map(|point| (point.quantile_iterated_to(), point.value_iterated_to())).collect()
}

/// Microseconds, in at most 8 characters.
pub fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..100_000 => format!("{:.2} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.2} s", us as f64 / 1e6),
        _ => format!("{:.0} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let pairs = [
            (0, "0 us"),
            (999, "999 us"),
            (1_000, "1.00 ms"),
            (99_990, "99.99 ms"),
            (999_400, "999 ms"),
            (1_500_000, "1.50 s"),
            (3_600_000_000, "3600 s"),
        ];
        for (us, text) in pairs {
            assert_eq!(time(us), text);
            assert!(time(us).len() <= 8);
        }
    }
}
