//! The scripted origin: it answers as the case says and notes what it saw.
//!
//! It writes bytes itself: interim responses, framing that contradicts the header fields and connections cut short
//! are beyond an HTTP library.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use outrigger::clock::Clock;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::cases::{Field, Magic, Source, Step};
use super::fields::{Base, joined, millis};
use crate::harness::RawOrigin;

/// A request as the origin saw it, and the fields of its response that the client must receive.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Which request of the client it was for.
    pub(super) number: Option<u64>,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) sent: Vec<(String, String)>,
}

/// What is done about one path.
#[derive(Debug)]
struct Script {
    steps: Vec<Step>,
    seen: Vec<Seen>,
}

type Scripts = Arc<Mutex<HashMap<String, Script>>>;

/// An origin for many cases at once.
pub(super) struct Scripted {
    pub(super) origin: RawOrigin,
    scripts: Scripts,
}

impl Scripted {
    pub(super) async fn start() -> Self {
        let scripts = Scripts::default();
        let known = Arc::clone(&scripts);
        let origin = RawOrigin::start(move |stream| converse(stream, Arc::clone(&known))).await;
        Self { origin, scripts }
    }

    /// Answers requests under `/test/token` by these steps.
    pub(super) fn script(&self, token: &str, steps: &[Step]) {
        let script = Script {
            steps: steps.to_vec(),
            seen: Vec::new(),
        };
        self.scripts.lock().insert(token.to_owned(), script);
    }

    /// The requests under `/test/token` so far.
    pub(super) fn seen(&self, token: &str) -> Vec<Seen> {
        self.scripts.lock()[token].seen.clone()
    }
}

async fn converse(stream: TcpStream, scripts: Scripts) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let Some(pause) = scripted(&request, &scripts, |script, number| {
            script.step(number).response_pause
        }) else {
            return;
        };
        if pause > 0 {
            // The case is about an origin that takes its time.
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
        let reply = scripted(&request, &scripts, |script, number| {
            script.answer(&request, number)
        });
        let Some(Reply { bytes, closes }) = reply else {
            return;
        };
        // The proxy may have gone, as some cases have it.
        if stream.write_all(&bytes).await.is_err() || closes {
            return;
        }
    }
}

/// Looks at the script of a request's path, with the number of the step that the request is about.
fn scripted<T>(
    request: &Request,
    scripts: &Scripts,
    look: impl FnOnce(&mut Script, usize) -> T,
) -> Option<T> {
    let mut scripts = scripts.lock();
    let token = request.target.split(['/', '?']).nth(2)?;
    let script = scripts.get_mut(token)?;
    let number = match request.number() {
        Some(number) => usize::try_from(number).ok()?,
        None => script.seen.len() + 1,
    };
    (1..=script.steps.len())
        .contains(&number)
        .then(|| look(script, number))
}

struct Request {
    method: Method,
    target: String,
    headers: HeaderMap,
}

impl Request {
    fn number(&self) -> Option<u64> {
        joined(&self.headers, "req-num")?.parse().ok()
    }

    fn has(&self, name: &str, value: &str) -> bool {
        joined(&self.headers, name).as_deref() == Some(value)
    }
}

/// Reads a request, its body too; none when the peer has left.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let start = line(stream).await?;
    let mut words = start.split(' ');
    let (method, target) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    let mut headers = HeaderMap::new();
    loop {
        let line = line(stream).await?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::from_str(value.trim()).ok()?,
        );
    }
    if headers.contains_key("transfer-encoding") {
        loop {
            let size = usize::from_str_radix(&line(stream).await?, 16).ok()?;
            skip(stream, size + 2).await?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = joined(&headers, "content-length") {
        skip(stream, length.parse().ok()?).await?;
    }
    Some(Request {
        method,
        target,
        headers,
    })
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

async fn skip(stream: &mut BufReader<TcpStream>, length: usize) -> Option<()> {
    stream.read_exact(&mut vec![0; length]).await.ok().map(drop)
}

struct Reply {
    bytes: Vec<u8>,
    closes: bool,
}

impl Script {
    fn step(&self, number: usize) -> &Step {
        &self.steps[number - 1]
    }

    fn answer(&mut self, request: &Request, number: usize) -> Reply {
        let (status, phrase) = self.status(request, number);
        let now = millis(Clock::system().now());
        let sent = self.fields(request, number, now);
        let step = self.step(number).clone();
        let mut head = String::new();
        for interim in &step.interim_responses {
            let _infallible = write!(head, "HTTP/1.1 {} Interim\r\n", interim.status());
            for (name, value) in interim.fields() {
                let _infallible = write!(head, "{name}: {value}\r\n");
            }
            head.push_str("\r\n");
        }
        self.seen.push(Seen {
            number: request.number(),
            method: request.method.clone(),
            headers: request.headers.clone(),
            sent: checked(&sent),
        });
        if step.disconnect {
            return Reply {
                bytes: head.into_bytes(),
                closes: true,
            };
        }
        let has = |name: &str| sent.iter().any(|(known, ..)| known.eq_ignore_ascii_case(name));
        let _infallible = write!(head, "HTTP/1.1 {status} {phrase}\r\n");
        for (name, value, _) in &sent {
            let _infallible = write!(head, "{name}: {value}\r\n");
        }
        for (name, value) in self.told(request, now) {
            let _infallible = write!(head, "{name}: {value}\r\n");
        }
        if !has("content-type") {
            head.push_str("Content-Type: text/plain\r\n");
        }
        if !has("date") {
            let date = Base { now, target: "" }.value("date", &Magic::Seconds(0), &step);
            let _infallible = write!(head, "Date: {date}\r\n");
        }
        if !has("connection") {
            head.push_str("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n");
        }
        let mut body = "";
        if !matches!(status, 204 | 304) && request.method != Method::HEAD {
            let token = request.target.split(['/', '?']).nth(2).unwrap_or_default();
            body = step
                .response_body
                .as_deref()
                .filter(|body| !body.is_empty())
                .unwrap_or(token);
            if !has("content-length") && !has("transfer-encoding") {
                let _infallible = write!(head, "Content-Length: {}\r\n", body.len());
            }
        }
        head.push_str("\r\n");
        head.push_str(body);
        Reply {
            bytes: head.into_bytes(),
            // Nothing else ends a body in a coding that nobody knows.
            closes: has("transfer-encoding"),
        }
    }

    /// What the origin tells the client about itself.
    fn told(&self, request: &Request, now: i64) -> [(&'static str, String); 5] {
        let number = |number: Option<u64>| number.unwrap_or_default().to_string();
        let numbers: Vec<_> = self.seen.iter().map(|seen| number(seen.number)).collect();
        [
            ("Server-Base-Url", request.target.clone()),
            ("Server-Request-Count", self.seen.len().to_string()),
            ("Client-Request-Count", number(request.number())),
            ("Server-Now", now.to_string()),
            ("Request-Numbers", numbers.join(" ")),
        ]
    }

    /// A step that must be a validation is answered by 304 if it is one, and by a status that stands out if not.
    fn status(&self, request: &Request, number: usize) -> (u16, String) {
        let step = self.step(number);
        if matches!(
            step.expected_type,
            Some(Source::EtagValidated | Source::LmValidated)
        ) {
            let previous = &self.steps[number.saturating_sub(2)];
            let validator = |name: &str| {
                let fields = previous.response_headers.iter().map(parts);
                let mut named = fields.filter(|(known, ..)| known.eq_ignore_ascii_case(name));
                named.next_back().map(|(_, value, _)| value)
            };
            let confirmed = |name: &str, condition: &str| matches!(validator(name), Some(Magic::Text(value)) if request.has(condition, value));
            return if confirmed("last-modified", "if-modified-since") || confirmed("etag", "if-none-match") {
                (304, "Not Modified".to_owned())
            } else {
                (999, "304 Not Generated".to_owned())
            };
        }
        step.response_status.clone().unwrap_or((200, "OK".to_owned()))
    }

    /// The fields of the response. Their values stay what they are at first: a step that is asked for again, and a
    /// condition that is compared with them, get the same.
    fn fields(&mut self, request: &Request, number: usize, now: i64) -> Vec<(String, String, bool)> {
        let step = self.steps[number - 1].clone();
        let base = Base {
            now,
            target: &request.target,
        };
        let fields: Vec<_> = step
            .response_headers
            .iter()
            .map(|field| {
                let (name, value, checked) = parts(field);
                (name.to_owned(), base.value(name, value, &step), checked)
            })
            .collect();
        let fixed = fields
            .iter()
            .map(|(name, value, checked)| Field::Marked(name.clone(), Magic::Text(value.clone()), *checked));
        let kept = &mut self.steps[number - 1];
        kept.response_headers = fixed.collect();
        kept.magic_locations = false;
        fields
    }
}

/// The fields that the client must receive, each with all its lines.
fn checked(sent: &[(String, String, bool)]) -> Vec<(String, String)> {
    let marked = sent.iter().filter(|(.., checked)| *checked);
    let whole = marked.map(|(name, ..)| {
        let same = sent.iter().filter(|(known, ..)| known.eq_ignore_ascii_case(name));
        let lines: Vec<_> = same.map(|(_, value, _)| value.as_str()).collect();
        (name.clone(), lines.join(", "))
    });
    whole.collect()
}

fn parts(field: &Field) -> (&str, &Magic, bool) {
    match field {
        Field::Checked(name, value) => (name, value, true),
        Field::Marked(name, value, checked) => (name, value, *checked),
    }
}
