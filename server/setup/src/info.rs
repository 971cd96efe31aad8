//! What the server says of itself.

use std::sync::Arc;

use midge_broker::{ServerInfo, ServerKeys, TlsOffer};
use midge_config::{Listen, Options};

/// The nats-server version whose behaviour we reproduce; clients decide by it what they may use.
pub const NATS_VERSION: &str = "2.15.1";
/// midge's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// INFO of a server with these keys that listens on `port`, which is not the configured one if that is random.
pub fn server_info(options: &Options, keys: ServerKeys, port: u16) -> ServerInfo {
    let id = keys.id();
    ServerInfo {
        name: options.server_name.clone().unwrap_or_else(|| id.clone()),
        id,
        keys: Arc::new(keys),
        version: NATS_VERSION.to_owned(),
        midge: VERSION.to_owned(),
        git_commit: String::new(),
        go: concat!("rust", env!("CARGO_PKG_RUST_VERSION")).to_owned(),
        host: options.listen.host.clone(),
        port,
        connect_urls: connect_urls(options, port),
        jetstream: options.jetstream.enabled,
        domain: options.jetstream.domain.clone().filter(|_| options.jetstream.enabled),
        tags: options.server_tags.clone(),
        tls: tls_offer(options),
    }
}

/// What INFO says of TLS.
pub fn tls_offer(options: &Options) -> TlsOffer {
    let Some(tls) = &options.tls else { return TlsOffer::default() };
    TlsOffer { required: !options.allow_non_tls, available: options.allow_non_tls, verify: tls.verify }
}

/// `client_advertise` as clients want it, with `port` if it names none.
pub fn connect_urls(options: &Options, port: u16) -> Vec<String> {
    let Some(address) = &options.client_advertise else { return Vec::new() };
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    let host = address.trim_start_matches('[').trim_end_matches(']');
    vec![if has_port { address.clone() } else { Listen { host: host.to_owned(), port }.to_string() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertises_with_a_port() {
        let urls = |address: &str| {
            let mut options = Options::default();
            options.client_advertise = Some(address.to_owned());
            connect_urls(&options, 4222).concat()
        };
        assert_eq!(urls("edge.local"), "edge.local:4222");
        assert_eq!(urls("edge.local:1"), "edge.local:1");
        assert_eq!(urls("[::1]:1"), "[::1]:1");
        assert_eq!(urls("::1"), "[::1]:4222");
        assert_eq!(urls("[::1]"), "[::1]:4222");
        assert!(connect_urls(&Options::default(), 4222).is_empty());
    }
}
