//! What every request passes, whatever its route: who asks, how fast, with which right; and what every answer gets on
//! its way out: an id, headers that keep browsers from guessing, a place in the metrics and, when it failed, in the log.
//!
//! A route that is not in the table is for admins only: forgetting a row opens nothing.

use super::caller::{Caller, Peer};
use super::error::ApiError;
use super::metrics::Limit;
use super::rate::{Bearer, subscriber};
use super::request::BodyTime;
use super::role::{Access, Role};
use super::route::Route;
use super::routes::Api;
use crate::clock;
use crate::config::Auth;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a handler has beyond the time for its body.
const AFTER_BODY: Duration = Duration::from_millis(500);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of a client that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// A failure as it is logged; travels in an answer's extensions.
#[derive(Clone, Debug)]
pub(super) struct Failure(pub(super) String);

/// By path: each method with what it asks for, and whether it takes parameters.
type Rights = HashMap<&'static str, Vec<(Method, Access, bool)>>;

/// What the gate knows.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) api: Arc<Api>,
    rights: Arc<Rights>,
    prefix: Arc<str>,
    count: Arc<AtomicU64>,
}

impl Gate {
    pub(super) fn new(api: Arc<Api>, routes: &[Route]) -> Self {
        let mut rights = Rights::new();
        for route in routes {
            rights.entry(route.path).or_default().push((
                route.method.clone(),
                route.access,
                route.query.is_some(),
            ));
        }
        let prefix = format!("{:x}", clock::wall_us());
        Self { api, rights: Arc::new(rights), prefix: prefix.into(), count: Arc::default() }
    }

    /// What the route asks for, and whether it takes parameters; none = there is no such route or method.
    fn right(&self, path: Option<&MatchedPath>, method: &Method) -> Option<(Access, bool)> {
        let Some(of_path) = self.rights.get(path?.as_str()) else {
            return Some((Access::Role(Role::Admin), true));
        };
        let asked = if method == Method::HEAD { &Method::GET } else { method };
        let found = of_path.iter().find(|(method, ..)| method == asked);
        found.map(|(_, access, query)| (*access, *query))
    }

    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let plain = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len())
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        };
        headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            let id = format!("{}-{number:x}", self.prefix);
            HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
        })
    }
}

/// Passes a request on, if it may.
pub(super) async fn gate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let begin = clock::moment();
    let api = gate.api.clone();
    let _under_way = api.metrics.begin();
    let peer = request.extensions().get::<Peer>().cloned();
    let id = gate.request_id(request.headers());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method = method_name(request.method());
    let caller = Caller::of(peer.as_ref(), request.headers(), &api.access);
    let admitted = admit(&gate, peer.as_ref(), &caller, &request);
    let who = caller.who();
    let time = peer.as_ref().and_then(|peer| match peer {
        Peer::Owner => None,
        Peer::Remote { edge, .. } => Some(edge.config.request_timeout()),
    });
    let mut response = match admitted {
        Err(error) => error.into_response(),
        Ok(()) => {
            request.extensions_mut().insert(caller);
            if let Some(time) = time {
                request.extensions_mut().insert(BodyTime(time));
                match tokio::time::timeout(time + AFTER_BODY, next.run(request)).await {
                    Ok(response) => response,
                    Err(_) => {
                        api.metrics.limited(Limit::RequestTimeout);
                        ApiError::Timeout(time).into_response()
                    }
                }
            } else {
                next.run(request).await
            }
        }
    };
    let status = response.status().as_u16();
    let route = path.as_ref().map_or("other", MatchedPath::as_str);
    api.metrics.request(route, method, status, begin.elapsed());
    let failure = response.extensions_mut().remove::<Failure>();
    // What is busy or not ready yet is counted, not told: it is no fault.
    if matches!(status, 401 | 403 | 500) {
        let from = peer.as_ref().map_or_else(|| "unknown".to_owned(), from);
        let why = failure.map_or_else(String::new, |failure| format!(": {}", failure.0));
        let id = id.to_str().unwrap_or("-");
        api.log
            .line(begin, &format!("http: request {id} from {from}, {who}: {method} {route}: {status}{why}"));
    }
    let tls = matches!(&peer, Some(Peer::Remote { edge, .. }) if edge.config.tls.is_some());
    protect(response.headers_mut(), id, tls);
    response
}

fn from(peer: &Peer) -> String {
    match peer {
        Peer::Owner => "the socket".into(),
        Peer::Remote { address, .. } => address.to_string(),
    }
}

/// Whether a request may go on to its handler.
fn admit(gate: &Gate, peer: Option<&Peer>, caller: &Caller, request: &Request) -> Result<(), ApiError> {
    if let Some(Peer::Remote { address, edge }) = peer {
        let bearer = match caller {
            Caller::Token { id, .. } => Bearer::Token(id.clone()),
            _ => Bearer::Address(subscriber(*address)),
        };
        if let Err(after) = edge.rate.take(bearer, clock::moment()) {
            gate.api.metrics.limited(Limit::Rate);
            return Err(ApiError::RateLimited { per_second: edge.config.rate_per_second, after });
        }
        if edge.config.auth == Auth::Off {
            own_machine(request.headers(), request.uri())?;
        }
    }
    let path = request.extensions().get::<MatchedPath>();
    // No such route or method: the answer says so, and nothing else.
    let Some((access, takes_query)) = gate.right(path, request.method()) else { return Ok(()) };
    if let Err(error) = caller.check(access) {
        if matches!(error, ApiError::Unauthorized(_)) {
            gate.api.metrics.unauthorized.fetch_add(1, Ordering::Relaxed);
        }
        return Err(error);
    }
    if !takes_query && request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(ApiError::BadRequest("this route takes no parameters".into()));
    }
    Ok(())
}

/// Without tokens the browser is the way in: a foreign page may send requests to this machine, or point its own name at
/// it. Both name another host.
fn own_machine(headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.host().or_else(|| host.map(without_port));
    if !host.is_some_and(is_loopback) {
        return Err(ApiError::Foreign("another host"));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        if !origin.is_some_and(|(_, host)| is_loopback(without_port(host))) {
            return Err(ApiError::Foreign("another origin"));
        }
    }
    Ok(())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Headers of every answer. There is no CORS header: pages of other origins read nothing.
fn protect(headers: &mut HeaderMap, id: HeaderValue, tls: bool) {
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Labels are personal data: no cache on the way keeps them.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
    headers.insert(REQUEST_ID, id);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{About, Edge, routes};
    use crate::config::HttpConfig;
    use crate::pipeline::parts::SharedView;
    use crate::state::{MemStore, StateWriter};
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use hyper::service::Service;

    /// The status of `GET path` behind the gate, from the network where `http` says how, else from the owner.
    fn status(path: &str, http: Option<HttpConfig>) -> u16 {
        let (_, view) = StateWriter::open(Arc::new(MemStore::new())).unwrap();
        let api = Arc::new(Api::new(SharedView::new(view), About::default()));
        let gate_state = Gate::new(api.clone(), &routes());
        let forever = || async { std::future::pending::<()>().await };
        let router = Router::new()
            .route("/forgotten", get(|| async { "open" }))
            .route("/healthz", get(forever))
            .layer(axum::middleware::from_fn_with_state(gate_state, gate));
        let peer = http.map_or(Peer::Owner, |http| Peer::Remote {
            address: [127, 0, 0, 1].into(),
            edge: Arc::new(Edge::new(http, api.metrics())),
        });
        let request = Request::get(path).header("host", "localhost").extension(peer).body(Body::empty());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router);
        runtime.block_on(service.call(request.unwrap())).unwrap().status().as_u16()
    }

    #[test]
    fn a_route_that_was_forgotten_in_the_table_is_for_admins() {
        assert_eq!(status("/forgotten", Some(HttpConfig::default())), 401);
        assert_eq!(status("/forgotten", Some(HttpConfig { auth: Auth::Off, ..HttpConfig::default() })), 200);
        assert_eq!(status("/forgotten", None), 200);
    }

    #[test]
    fn an_answer_that_takes_too_long_is_given_up() {
        let http = HttpConfig { request_timeout_ms: 10, ..HttpConfig::default() };
        assert_eq!(status("/healthz", Some(http)), 503);
    }

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for (host, own) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:8080", true),
            ("127.9.9.9", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("evil.example", false),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1:8080", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(without_port(host)), own, "{host}");
        }
    }

    #[test]
    fn foreign_pages_are_refused() {
        let check = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            own_machine(&headers, &Uri::from_static("/v1/status")).is_ok()
        };
        assert!(check("127.0.0.1:8080", None));
        assert!(check("127.0.0.1:8080", Some("http://localhost:3000")));
        assert!(!check("127.0.0.1:8080", Some("https://evil.example")));
        assert!(!check("127.0.0.1:8080", Some("null")));
        assert!(!check("evil.example:8080", None), "a name that was pointed at this machine");
    }
}
