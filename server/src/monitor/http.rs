//! HTTP: who may ask how much, and which page answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::About;
use super::absent::{Gatewayz, NO_RAFT, Nothing, Routez};
use super::accountz::{AccountStatz, Accountz};
use super::connz::Connz;
use super::healthz::Health;
use super::jsz::{self, JetStreamVarz};
use super::leafz::Leafz;
use super::metrics;
use super::query::{BadRequest, Query};
use super::subsz::Subsz;
use super::text::indented;
use super::varz::Varz;
use crate::hub::Hub;

/// Connections at one time; the rest wait to be accepted.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request line with its headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Time for a request to arrive, as in nats-server.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// Time for a request to arrive and its answer to be read.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the task is aborted.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    secure: bool,
    hub: Arc<Hub>,
    about: Arc<About>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let monitor = Arc::new(Monitor { hub, about });
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut http = http1::Builder::new();
    // One answer per connection: nobody keeps a slot by keeping silent.
    http.keep_alive(false)
        .half_close(true)
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A certificate that a reload brought is shown from the next connection on.
                let acceptor = secure.then(|| monitor_tls(&monitor.about));
                let monitor = Arc::clone(&monitor);
                let service = service_fn(move |request: Request<_>| {
                    let monitor = Arc::clone(&monitor);
                    async move {
                        let (request, _) = request.into_parts();
                        Ok::<_, Infallible>(monitor.answer(&request).await)
                    }
                });
                let http = http.clone();
                let connection = async move {
                    match acceptor {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(acceptor) => {
                            let Some(acceptor) = acceptor else { return };
                            let handshake = tokio::time::timeout(HEAD_PATIENCE, acceptor.accept(stream));
                            if let Ok(Ok(stream)) = handshake.await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                };
                tokio::spawn(async move {
                    // A peer that breaks off or takes too long is its own trouble.
                    let _ = tokio::time::timeout(PATIENCE, connection).await;
                    drop(slot);
                });
            }
            // No descriptors left, most likely: connections that end give theirs back.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    Ok(())
}

/// How a monitor's connection is encrypted now; none if a reload took TLS away.
fn monitor_tls(about: &About) -> Option<TlsAcceptor> {
    about.tls.current().map(|acceptor| TlsAcceptor::from(Arc::clone(&acceptor.tls.monitoring)))
}

/// What pages are made from.
struct Monitor {
    hub: Arc<Hub>,
    about: Arc<About>,
}

impl Monitor {
    async fn answer(&self, request: &Parts) -> Response<Full<Bytes>> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let options = self.about.options();
        let base = &options.monitor.base_path;
        let path = request.uri.path();
        let path = match path.strip_prefix(base.as_str()) {
            Some("") if !base.is_empty() => "/",
            Some("/") if !base.is_empty() => return not_found(),
            Some(path) => path,
            None => return not_found(),
        };
        let Some(page) = Page::of(path) else { return not_found() };
        self.about.requests.count(page);
        let query = Query::parse(request.uri.query().unwrap_or_default());
        let answer = match page {
            Page::Index => Ok(html(index(base, self.about.info().midge))),
            Page::Varz => {
                let jetstream = JetStreamVarz::collect(&self.hub, &self.about).await;
                Ok(pretty(&Varz::collect(&self.hub, &self.about, jetstream)))
            }
            Page::Connz => Connz::collect(&self.hub, &query).map(|connz| pretty(&connz)),
            Page::Subsz => Subsz::collect(&self.hub, &query).map(|subsz| pretty(&subsz)),
            Page::Accountz => {
                Accountz::collect(&self.hub, &self.about, query.text("acc")).map(|it| pretty(&it))
            }
            Page::Accstatz => {
                query.flag("unused").map(|unused| pretty(&AccountStatz::collect(&self.hub, None, unused)))
            }
            Page::Leafz => query
                .flag("subs")
                .map(|subs| pretty(&Leafz::collect(&self.hub, query.text("acc").unwrap_or_default(), subs))),
            Page::Jsz => match jsz::wanted(&query) {
                Ok(wanted) => Ok(match jsz::collect(&self.hub, &self.about, wanted).await {
                    Ok(page) => json(StatusCode::OK, Ok(page)),
                    Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                }),
                Err(error) => Err(error),
            },
            Page::Metrics => self.metrics(&query).await,
            Page::Healthz => Health::check(&query, &self.hub, &self.about).await.map(|health| {
                let status = StatusCode::from_u16(health.code()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                json(status, serde_json::to_vec(&health))
            }),
            Page::Routez => Ok(pretty(&Routez::new(&self.hub, &self.about))),
            Page::Gatewayz => Ok(pretty(&Gatewayz::new(&self.hub))),
            Page::Raftz => Ok(text(StatusCode::NOT_FOUND, NO_RAFT)),
            Page::Ipqueuesz => Ok(pretty(&Nothing::default())),
            Page::Unserved => Ok(text(StatusCode::NOT_FOUND, "midge has no runtime of Go's to tell of\n")),
        };
        answer.unwrap_or_else(|BadRequest(why)| text(StatusCode::BAD_REQUEST, why))
    }

    async fn metrics(&self, query: &Query) -> Result<Response<Full<Bytes>>, BadRequest> {
        let prefix = metrics::prefix(query)?;
        let page = metrics::collect(&self.hub, &self.about, prefix).await;
        Ok(match page {
            Ok(page) => respond(StatusCode::OK, metrics::CONTENT_TYPE, page),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer can't be written\n"),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Index,
    Varz,
    Connz,
    Subsz,
    Accountz,
    Accstatz,
    Healthz,
    Jsz,
    Leafz,
    Metrics,
    Routez,
    Gatewayz,
    Raftz,
    Ipqueuesz,
    /// What nats-server has and midge hasn't.
    Unserved,
}

impl Page {
    fn of(path: &str) -> Option<Self> {
        if path == SUBSZ_ALIAS {
            return Some(Self::Subsz);
        }
        match SERVED.iter().find(|(served, ..)| *served == path) {
            Some((_, page, _)) => Some(*page),
            None => UNSERVED.contains(&path).then_some(Self::Unserved),
        }
    }
}

/// Paths, pages, and what people call them; nothing where a link leads to nothing.
const SERVED: [(&str, Page, &str); 14] = [
    ("/", Page::Index, "Index"),
    ("/varz", Page::Varz, "General"),
    ("/connz", Page::Connz, "Connections"),
    ("/subsz", Page::Subsz, "Subscriptions"),
    ("/accountz", Page::Accountz, "Accounts"),
    ("/accstatz", Page::Accstatz, "Account figures"),
    ("/jsz", Page::Jsz, "Streams"),
    ("/leafz", Page::Leafz, "Leaf nodes"),
    ("/healthz", Page::Healthz, "Health probe"),
    ("/metrics", Page::Metrics, "Figures for Prometheus"),
    ("/routez", Page::Routez, ""),
    ("/gatewayz", Page::Gatewayz, ""),
    ("/raftz", Page::Raftz, ""),
    ("/ipqueuesz", Page::Ipqueuesz, ""),
];

/// An older name, counted under the newer one.
const SUBSZ_ALIAS: &str = "/subscriptionsz";

/// nats-server's other pages.
const UNSERVED: [&str; 2] = ["/debug/vars", "/stacksz"];

/// How often each page was asked for.
#[derive(Default)]
pub(super) struct Requests([AtomicU64; SERVED.len()]);

impl Requests {
    fn count(&self, page: Page) {
        let counters = SERVED.iter().zip(&self.0);
        counters.filter(|((_, counted, _), _)| *counted == page).for_each(|(_, counter)| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// By path, without those that nobody asked for.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        let mut counted = BTreeMap::new();
        counted.extend(SERVED.iter().map(|(path, ..)| *path).zip(counts).filter(|(_, count)| *count > 0));
        counted
    }
}

fn pretty(view: &impl Serialize) -> Response<Full<Bytes>> {
    json(StatusCode::OK, serde_json::to_vec(view).map(|json| indented(&json)))
}

fn json(status: StatusCode, json: serde_json::Result<Vec<u8>>) -> Response<Full<Bytes>> {
    let Ok(json) = json else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the answer can't be written\n");
    };
    let mut response = respond(status, "application/json", json);
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

fn html(page: String) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text)
}

fn not_found() -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Names in an answer are the clients' own words, which no browser shall take for a page.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The page for people. Links are relative, so that they hold behind a proxy that adds a path.
fn index(base: &str, version: String) -> String {
    let mut links = String::new();
    for (path, _, name) in SERVED.iter().filter(|(_, page, name)| *page != Page::Index && !name.is_empty()) {
        writeln!(links, "<li><a href=\".{base}{path}\">{name}</a> <code>{path}</code>")
            .expect("writing to a String can't fail");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>midge</title>\n\
         <style>:root {{ color-scheme: light dark }} \
         body {{ font: 1rem/1.8 system-ui, sans-serif; margin: 3rem auto; max-width: 30rem; padding: 0 1rem }} \
         ul {{ padding: 0; list-style: none }} code {{ float: right; opacity: .6 }}</style>\n\
         <h1>midge</h1>\n<p>Version {version}\n<ul>\n{links}</ul>\n"
    )
}
