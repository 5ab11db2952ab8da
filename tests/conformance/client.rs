//! The client: it plays the requests of a case and judges what comes back, as the suite's own client does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use outrigger::tasks::Tasks;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::cases::{Step, Test};
use super::fields::{Base, joined, leading_number};
use super::origin::Scripted;
use super::verdict::{self, Fault};
use crate::harness::read_all;

/// The longest that one request may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The suite's pause, in which what lives two seconds becomes stale.
const PAUSE: Duration = Duration::from_secs(3);

/// An answer as the client has it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) interims: Vec<(StatusCode, HeaderMap)>,
    pub(super) body: String,
}

impl Answer {
    /// What relative values in this answer count from.
    pub(super) fn base<'a>(&self, target: &'a Option<String>) -> Base<'a> {
        Base {
            now: joined(&self.headers, "server-now")
                .and_then(|now| leading_number(&now))
                .unwrap_or_default(),
            target: target.as_deref().unwrap_or_default(),
        }
    }
}

/// Plays a test under `/test/token`.
pub(super) async fn play(
    proxy: SocketAddr,
    origin: &Scripted,
    test: &Test,
    token: &str,
) -> Result<(), Fault> {
    origin.script(token, &test.requests);
    let mut answers: Vec<Answer> = Vec::new();
    for (step, number) in test.requests.iter().zip(1..) {
        let request = request(test, step, number, token, answers.last());
        let answer = match tokio::time::timeout(LIMIT, exchange(proxy, request)).await {
            Ok(answer) => answer.map_err(Fault::Failed)?,
            Err(_elapsed) => {
                return Err(Fault::Failed(format!(
                    "no answer to request {number} in {LIMIT:?}"
                )));
            }
        };
        verdict::response(step, number, &answer, token)?;
        answers.push(answer);
        if step.pause_after {
            tokio::time::sleep(PAUSE).await;
        }
    }
    verdict::requests(&test.requests, &answers, &origin.seen(token))
}

fn request(
    test: &Test,
    step: &Step,
    number: usize,
    token: &str,
    previous: Option<&Answer>,
) -> Request<Full<Bytes>> {
    let mut target = format!("/test/{token}");
    if let Some(name) = &step.filename {
        target.push('/');
        target.push_str(name);
    }
    if let Some(query) = &step.query_arg {
        target.push('?');
        target.push_str(query);
    }
    let mut fields: Vec<(String, String)> = vec![
        // The suite's own: they keep the client's library from adding others.
        ("pragma".to_owned(), "foo".to_owned()),
        ("cache-control".to_owned(), "nothing-to-see-here".to_owned()),
    ];
    for (name, value) in &step.request_headers {
        let none = None;
        let base = previous
            .filter(|_| step.magic_ims)
            .map_or(Base { now: 0, target: "" }, |answer| answer.base(&none));
        fields.push((name.clone(), base.value(name, value, step)));
    }
    fields.push(("test-name".to_owned(), test.name.clone()));
    fields.push(("test-id".to_owned(), test.id.clone()));
    fields.push(("req-num".to_owned(), number.to_string()));
    let mut headers = HeaderMap::new();
    // One name for all runs, so that every run has the same keys.
    headers.insert(header::HOST, HeaderValue::from_static("cache-tests.example"));
    for (name, value) in [
        ("accept", "*/*"),
        ("accept-language", "*"),
        ("accept-encoding", "gzip, deflate"),
        ("sec-fetch-mode", "cors"),
        ("user-agent", "node"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    merge(&mut headers, &fields);
    let body = step.request_body.clone().unwrap_or_default();
    if step.request_body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
        let text = HeaderValue::from_static("text/plain;charset=UTF-8");
        headers.insert(header::CONTENT_TYPE, text);
    }
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.uri_mut() = target.parse().expect("a valid target");
    *request.headers_mut() = headers;
    if let Some(method) = &step.request_method {
        *request.method_mut() = method.parse().expect("a valid method");
    }
    request
}

/// Sets each field, with all its values in one line; what the client's library would send stays where there is none.
fn merge(headers: &mut HeaderMap, fields: &[(String, String)]) {
    for (name, _) in fields {
        let same = fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let values: Vec<_> = same.map(|(_, value)| value.as_str()).collect();
        headers.insert(
            HeaderName::from_bytes(name.as_bytes()).expect("a valid name"),
            HeaderValue::from_bytes(values.join(", ").as_bytes()).expect("a valid value"),
        );
    }
}

/// Sends one request over a connection of its own.
async fn exchange(proxy: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let interims = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&interims);
    hyper::ext::on_informational(&mut request, move |interim| {
        seen.lock().push((interim.status(), interim.headers().clone()));
    });
    let stream = TcpStream::connect(proxy)
        .await
        .map_err(|error| error.to_string())?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let tasks = Tasks::new();
    tasks.spawn("conformance client", async move { drop(connection.await) });
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| format!("no answer: {error}"))?;
    let (head, body) = response.into_parts();
    let (body, _trailers) = read_all(body).await?;
    tasks.cancel();
    let interims = std::mem::take(&mut *interims.lock());
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        interims,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
