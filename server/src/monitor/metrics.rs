//! /metrics: the figures of the other pages, as Prometheus reads them.
//!
//! Names and labels are those that prometheus-nats-exporter makes of nats-server's pages, so that what was drawn with it
//! is drawn of midge too: each number of /varz under its path (`gnatsd_varz_…`), what /healthz says, and of /jsz the
//! streams and consumers (`jetstream_…`). Like there, all are gauges. What begins with `midge_` is ours.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use midge_inquiry::Wanted;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::jsz::{self, JetStreamVarz};
use super::query::{BadRequest, Query};
use super::varz::Varz;
use super::{About, process};
use crate::hub::Hub;

/// What the format is called.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What metrics are made from.
pub(super) struct Pages<'a> {
    pub(super) varz: &'a Value,
    /// With streams, consumers and their configurations. `None`: the streams don't answer.
    pub(super) jsz: Option<&'a Value>,
    /// What /healthz says in a word.
    pub(super) status: &'a str,
    /// Something that was stored is lost.
    pub(super) degraded: bool,
    /// Bytes that this process had written to disks; `None` where the system doesn't count them.
    pub(super) written: Option<u64>,
    /// Bytes that are free where streams are stored, and all there are.
    pub(super) space: Option<(u64, u64)>,
}

/// Streams and consumers on the page. Each has some two kilobytes of it and ten times as much while it is written: eight
/// thousand of them took 100 MB.
const ROWS_MAX: usize = 1024;

/// What stands where the exporter writes `gnatsd`, unless it is told otherwise.
const PREFIX: &str = "gnatsd";
/// Bytes of it at most.
const PREFIX_BYTES_MAX: usize = 32;

/// What metrics are to begin with.
pub(super) fn prefix(query: &Query) -> Result<&str, BadRequest> {
    let prefix = query.text("prefix").unwrap_or(PREFIX);
    let fits = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    if prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(fits) {
        return Err(BadRequest(format!("prefix: up to {PREFIX_BYTES_MAX} letters and underscores")));
    }
    Ok(prefix)
}

/// The page, of the daemon as it is.
pub(super) async fn collect(hub: &Hub, about: &About, prefix: &str) -> Result<String, fmt::Error> {
    let all = Wanted { consumers: true, config: true, rows: ROWS_MAX, ..jsz::page(0, 0) };
    // At once, so that streams that don't answer are waited for only once.
    let (jsz, jetstream) = tokio::join!(jsz::collect(hub, about, all), JetStreamVarz::collect(hub, about));
    // Of one that is made into values directly there would be more program than of one that is written and read.
    let value = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap_or_default();
    let varz = serde_json::to_vec(&Varz::collect(hub, about, jetstream)).unwrap_or_default();
    let varz = value(&varz);
    let jsz = jsz.ok().map(|page| value(&page));
    let options = about.options();
    let pages = Pages {
        varz: &varz,
        jsz: jsz.as_ref(),
        status: if hub.vitals.fault().is_some() || jsz.is_none() { "unavailable" } else { "ok" },
        degraded: hub.vitals.degraded().is_some(),
        written: process::written(),
        space: options.jetstream.enabled.then(|| process::space(&options.jetstream.store())).flatten(),
    };
    render(&pages, prefix)
}

/// The page. `prefix` stands where the exporter writes `gnatsd`.
pub(super) fn render(pages: &Pages<'_>, prefix: &str) -> Result<String, fmt::Error> {
    let mut families = Families(BTreeMap::new());
    let server = [("server_id", str_of(&pages.varz["server_id"]))];
    families.flatten(&format!("{prefix}_varz"), pages.varz, &server);
    families.health(prefix, pages.status, server);
    if let Some(jsz) = pages.jsz {
        families.streams(jsz, &server, str_of(&pages.varz["server_name"]));
    }
    families.add("midge_storage_unresponsive", &server, f64::from(u8::from(pages.jsz.is_none())));
    families.add("midge_streams_degraded", &server, f64::from(u8::from(pages.degraded)));
    if let Some(trusted) = pages.varz["clock"]["trusted"].as_bool() {
        families.add("midge_clock_trusted", &server, f64::from(u8::from(trusted)));
    }
    let [free, all] = pages.space.map_or([None; 2], |(free, all)| [Some(free), Some(all)]);
    for (what, bytes) in [("written", pages.written), ("free", free), ("size", all)] {
        if let Some(bytes) = bytes {
            families.add(format!("midge_disk_{what}_bytes"), &server, bytes as f64);
        }
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

type Labels = Vec<(&'static str, String)>;

/// Values by metric and labels, in the order in which they are written.
#[derive(Debug)]
struct Families(BTreeMap<String, Vec<(Labels, f64)>>);

/// Texts of /varz that are told as a label, with the value 1.
const TOLD: [&str; 3] = ["server_name", "version", "domain"];
/// Times of /varz, told in milliseconds since the epoch.
const TIMES: [&str; 2] = ["start", "config_load_time"];

impl Families {
    fn add(&mut self, name: impl Into<String>, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.0.entry(name.into()).or_default().push((labels, value));
    }

    /// Each number below `value`, named after the way to it.
    fn flatten(&mut self, name: &str, value: &Value, server: &[(&'static str, &str); 1]) {
        let Value::Object(members) = value else { return };
        for (key, value) in members {
            let name = format!("{name}_{}", key.trim_matches('/').replace('/', "_"));
            match value {
                Value::Number(number) => self.add(name, server, number.as_f64().unwrap_or_default()),
                Value::String(text) if TOLD.contains(&key.as_str()) => {
                    self.add(name, &[server[0], ("value", text)], 1.0);
                }
                Value::String(text) if TIMES.contains(&key.as_str()) => {
                    if let Ok(time) = text.parse::<Timestamp>() {
                        self.add(name, server, time.as_millisecond() as f64);
                    }
                }
                value => self.flatten(&name, value, server),
            }
        }
    }

    fn health(&mut self, prefix: &str, status: &str, server: [(&'static str, &str); 1]) {
        let ill = if status == "ok" { 0.0 } else { 1.0 };
        self.add(format!("{prefix}_healthz_status"), &server, ill);
        self.add(format!("{prefix}_healthz_status_value"), &[server[0], ("value", status)], 1.0 - ill);
    }

    fn streams(&mut self, jsz: &Value, server: &[(&'static str, &str); 1], server_name: &str) {
        let domain = str_of(&jsz["config"]["domain"]);
        let mut labels = server.to_vec();
        labels.extend([("server_name", server_name), ("cluster", ""), ("domain", domain)]);
        labels.extend([("meta_leader", ""), ("is_meta_leader", "true")]);
        let disabled = f64::from(u8::from(jsz["disabled"] == true));
        self.add("jetstream_server_jetstream_disabled", &labels, disabled);
        self.row("jetstream_server", &SERVER, jsz, &labels);
        for account in each(&jsz["account_details"]) {
            let mut labels = labels.clone();
            let name = str_of(&account["name"]);
            labels.extend([
                ("account", name),
                ("account_name", name),
                ("account_id", str_of(&account["id"])),
            ]);
            self.row("jetstream_account", &ACCOUNT, account, &labels);
            for stream in each(&account["stream_detail"]) {
                let mut labels = labels.clone();
                labels.extend([("stream_name", str_of(&stream["name"])), ("stream_leader", "")]);
                labels.extend([("is_stream_leader", "true"), ("stream_raft_group", "")]);
                self.stream(stream, &labels);
            }
        }
    }

    fn stream(&mut self, stream: &Value, labels: &[(&'static str, &str)]) {
        self.row("jetstream_stream", &STREAM, stream, labels);
        for source in each(&stream["sources"]) {
            self.row("jetstream_stream", &SOURCE, source, &copied(source, labels, SOURCE_LABELS));
        }
        let mirror = &stream["mirror"];
        if mirror.is_object() {
            self.row("jetstream_stream", &MIRROR, mirror, &copied(mirror, labels, MIRROR_LABELS));
        }
        for consumer in each(&stream["consumer_detail"]) {
            let mut labels = labels.to_vec();
            labels.extend([("consumer_name", str_of(&consumer["name"])), ("consumer_leader", "")]);
            labels.push(("is_consumer_leader", "true"));
            labels.push(("consumer_desc", str_of(&consumer["config"]["description"])));
            self.row("jetstream_consumer", &CONSUMER, consumer, &labels);
            for (name, path) in SINCE {
                if let Some(seconds) = since(&consumer["ts"], at(consumer, path)) {
                    self.add(format!("jetstream_consumer_{name}"), &labels, seconds);
                }
            }
        }
    }

    /// Those figures of a table that `of` has.
    fn row(&mut self, prefix: &str, table: &[Figure], of: &Value, labels: &[(&'static str, &str)]) {
        for (name, path) in table {
            if let Some(number) = at(of, path).as_f64() {
                self.add(format!("{prefix}_{name}"), labels, number);
            }
        }
    }
}

/// A metric's name and the way to its value.
type Figure = (&'static str, &'static [&'static str]);

const SERVER: [Figure; 6] = [
    ("total_streams", &["streams"]),
    ("total_consumers", &["consumers"]),
    ("total_messages", &["messages"]),
    ("total_message_bytes", &["bytes"]),
    ("max_memory", &["config", "max_memory"]),
    ("max_storage", &["config", "max_storage"]),
];

const ACCOUNT: [Figure; 4] = [
    ("max_memory", &["reserved_memory"]),
    ("max_storage", &["reserved_storage"]),
    ("memory_used", &["memory"]),
    ("storage_used", &["storage"]),
];

const STREAM: [Figure; 8] = [
    ("total_messages", &["state", "messages"]),
    ("total_bytes", &["state", "bytes"]),
    ("first_seq", &["state", "first_seq"]),
    ("last_seq", &["state", "last_seq"]),
    ("consumer_count", &["state", "consumer_count"]),
    ("subject_count", &["state", "num_subjects"]),
    ("limit_bytes", &["config", "max_bytes"]),
    ("limit_messages", &["config", "max_msgs"]),
];

const SOURCE: [Figure; 2] = [("source_lag", &["lag"]), ("source_active_duration_ns", &["active"])];
const MIRROR: [Figure; 2] = [("mirror_lag", &["lag"]), ("mirror_active_duration_ns", &["active"])];

const SOURCE_LABELS: [&str; 3] = ["source_name", "source_api", "source_deliver"];
const MIRROR_LABELS: [&str; 3] = ["mirror_name", "mirror_api", "mirror_deliver"];

const CONSUMER: [Figure; 8] = [
    ("delivered_consumer_seq", &["delivered", "consumer_seq"]),
    ("delivered_stream_seq", &["delivered", "stream_seq"]),
    ("ack_floor_consumer_seq", &["ack_floor", "consumer_seq"]),
    ("ack_floor_stream_seq", &["ack_floor", "stream_seq"]),
    ("num_ack_pending", &["num_ack_pending"]),
    ("num_redelivered", &["num_redelivered"]),
    ("num_waiting", &["num_waiting"]),
    ("num_pending", &["num_pending"]),
];

/// Times of a consumer, told as seconds that have passed since.
const SINCE: [Figure; 2] = [
    ("last_delivery_seconds", &["delivered", "last_active"]),
    ("last_ack_seconds", &["ack_floor", "last_active"]),
];

/// The labels of a mirror or source.
fn copied<'a>(
    copy: &'a Value,
    labels: &[(&'static str, &'a str)],
    names: [&'static str; 3],
) -> Vec<(&'static str, &'a str)> {
    let external = &copy["external"];
    let values = [str_of(&copy["name"]), str_of(&external["api"]), str_of(&external["deliver"])];
    labels.iter().copied().chain(names.into_iter().zip(values)).collect()
}

fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| &value[key])
}

fn each(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn since(now: &Value, then: &Value) -> Option<f64> {
    let [now, then] = [now, then].map(|time| time.as_str()?.parse::<Timestamp>().ok());
    Some(now?.duration_since(then?).as_secs_f64())
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, values) in &self.0 {
            let mut family = encoder.encode_descriptor(name, &help(name), None, MetricType::Gauge)?;
            for (labels, value) in values {
                let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                ConstGauge::new(*value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// What a metric is, in words.
fn help(name: &str) -> Cow<'static, str> {
    match name {
        "midge_streams_degraded" => "1 if something that was stored is damaged, see the log".into(),
        "midge_storage_unresponsive" => "1 if the streams don't answer: their disk may hang".into(),
        "midge_disk_written_bytes" => "Bytes that this process had written to disks".into(),
        "midge_clock_trusted" => "1 if streams believe the machine's clock".into(),
        "midge_disk_size_bytes" => "Bytes of the file system that streams are stored on".into(),
        "midge_disk_free_bytes" => "Bytes that are free where streams are stored".into(),
        name => name.replace('_', " ").into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page() -> String {
        let varz = json!({
            "server_id": "N1", "server_name": "hut\"7\"", "version": "2.15.1", "go": "none",
            "start": "2026-11-27T12:00:00.5Z", "in_msgs": 12, "cpu": 1.5,
            "http_req_stats": {"/varz": 3}, "jetstream": {"stats": {"memory": 5}}, "tags": ["a"],
            "clock": {"trusted": false, "jumps": 2}
        });
        let jsz = json!({
            "config": {"max_memory": 100, "domain": "hut"}, "streams": 1, "consumers": 1,
            "account_details": [{
                "name": "$G", "id": "$G", "memory": 1, "storage": 2, "reserved_memory": 3,
                "stream_detail": [{
                    "name": "S", "state": {"messages": 9, "first_seq": 1}, "config": {"max_bytes": -1},
                    "sources": [{"name": "T", "lag": 4, "active": -1, "external": {"api": "$JS.hub.API"}}],
                    "consumer_detail": [{
                        "name": "c", "num_pending": 8, "ts": "2026-11-27T12:00:10Z",
                        "delivered": {"consumer_seq": 1, "last_active": "2026-11-27T12:00:07.5Z"}
                    }]
                }]
            }]
        });
        let pages = Pages {
            varz: &varz,
            jsz: Some(&jsz),
            status: "unavailable",
            degraded: true,
            written: Some(4096),
            space: None,
        };
        render(&pages, PREFIX).unwrap()
    }

    #[track_caller]
    fn says(line: &str) {
        let page = page();
        assert!(page.lines().any(|it| it == line), "no {line:?} in\n{page}");
    }

    #[test]
    fn each_number_of_varz_is_named_after_the_way_to_it() {
        says(r#"gnatsd_varz_in_msgs{server_id="N1"} 12.0"#);
        says(r#"gnatsd_varz_cpu{server_id="N1"} 1.5"#);
        says(r#"gnatsd_varz_http_req_stats_varz{server_id="N1"} 3.0"#);
        says(r#"gnatsd_varz_jetstream_stats_memory{server_id="N1"} 5.0"#);
        says(r#"gnatsd_varz_start{server_id="N1"} 1795780800500.0"#);
        says(r#"gnatsd_varz_version{server_id="N1",value="2.15.1"} 1.0"#);
        assert!(!page().contains("varz_go"));
    }

    #[test]
    fn names_of_others_cannot_break_a_line() {
        says(r#"gnatsd_varz_server_name{server_id="N1",value="hut\"7\""} 1.0"#);
    }

    #[test]
    fn streams_and_consumers_have_the_exporters_labels() {
        let server = r#"server_id="N1",server_name="hut\"7\"",cluster="",domain="hut",meta_leader="",is_meta_leader="true""#;
        let account = format!(r#"{server},account="$G",account_name="$G",account_id="$G""#);
        let stream = format!(
            r#"{account},stream_name="S",stream_leader="",is_stream_leader="true",stream_raft_group="""#
        );
        let consumer = format!(
            r#"{stream},consumer_name="c",consumer_leader="",is_consumer_leader="true",consumer_desc="""#
        );
        let source = format!(r#"{stream},source_name="T",source_api="$JS.hub.API",source_deliver="""#);
        for (name, labels, value) in [
            ("server_total_streams", server, "1.0"),
            ("server_jetstream_disabled", server, "0.0"),
            ("account_storage_used", &account, "2.0"),
            ("stream_total_messages", &stream, "9.0"),
            ("stream_limit_bytes", &stream, "-1.0"),
            ("stream_source_lag", &source, "4.0"),
            ("consumer_num_pending", &consumer, "8.0"),
            ("consumer_last_delivery_seconds", &consumer, "2.5"),
        ] {
            says(&format!("jetstream_{name}{{{labels}}} {value}"));
        }
        assert!(!page().contains("last_ack_seconds"), "it never was");
    }

    #[test]
    fn what_ails_the_daemon_is_a_number() {
        says(r#"gnatsd_healthz_status{server_id="N1"} 1.0"#);
        says(r#"gnatsd_healthz_status_value{server_id="N1",value="unavailable"} 0.0"#);
        says(r#"midge_streams_degraded{server_id="N1"} 1.0"#);
        says(r#"midge_clock_trusted{server_id="N1"} 0.0"#);
        says(r#"gnatsd_varz_clock_jumps{server_id="N1"} 2.0"#);
        says(r#"midge_disk_written_bytes{server_id="N1"} 4096.0"#);
        assert!(!page().contains("midge_disk_free_bytes{"));
    }

    #[test]
    fn a_prefix_is_a_word() {
        let prefix_of = |text: &str| prefix(&Query::parse(text)).map(str::to_owned).ok();
        assert_eq!(prefix_of("").as_deref(), Some("gnatsd"));
        assert_eq!(prefix_of("prefix=nats").as_deref(), Some("nats"));
        assert_eq!(prefix_of("prefix=a%20b"), None);
        assert_eq!(prefix_of("prefix=a%7B%0A"), None);
    }

    #[test]
    fn the_page_says_where_it_ends_and_names_each_metric_once() {
        let page = page();
        assert!(page.ends_with("# EOF\n"));
        let mut names: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
