//! The origin: says what the step has it say, and remembers every exchange.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrigger::clock::{Clock, Timestamp};
use outrigger::tasks::Tasks;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::steps::{Says, TARGETS};

/// Header fields by name; no field is sent twice.
pub(super) type Fields = BTreeMap<String, String>;

/// What the origin was asked and what it answered.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    pub(super) method: String,
    /// The fields of the request.
    pub(super) asked: Fields,
    /// None: it closed the connection.
    pub(super) status: Option<u16>,
    /// The fields of the answer. `x-mark` is another in each.
    pub(super) fields: Fields,
    /// When the request came and when the answer went, in seconds.
    pub(super) began: u64,
    pub(super) answered: u64,
}

impl Contact {
    /// What the answer is known by.
    pub(super) fn mark(&self) -> &str {
        &self.fields["x-mark"]
    }
}

pub(super) struct Origin {
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    tasks: Tasks,
}

struct Script {
    clock: Clock,
    /// When the sequence began.
    epoch: u64,
    segment: &'static str,
    says: Option<Says>,
    marks: u64,
    contacts: Vec<Contact>,
}

impl Origin {
    pub(super) async fn start(clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script {
            epoch: clock.now().as_secs(),
            clock,
            segment: "",
            says: None,
            marks: 0,
            contacts: Vec::new(),
        }));
        let tasks = Tasks::new();
        let (shared, group) = (Arc::clone(&script), tasks.clone());
        tasks.spawn("origin", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&shared);
                group.spawn(
                    "origin connection",
                    async move { drop(serve(stream, script).await) },
                );
            }
        });
        Self {
            address,
            script,
            tasks,
        }
    }

    /// Has it say this from now on, on the route with this first segment.
    pub(super) fn says(&self, segment: &'static str, says: &Says) {
        let mut script = self.script.lock();
        script.segment = segment;
        script.says = Some(says.clone());
    }

    /// The exchanges since the last call.
    pub(super) fn contacts(&self) -> Vec<Contact> {
        std::mem::take(&mut self.script.lock().contacts)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        received.drain(..end);
        let Some(answer) = script.lock().answer(&head) else {
            return Ok(());
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

impl Script {
    /// The answer to a request, which has no body.
    fn answer(&mut self, head: &str) -> Option<String> {
        let mut lines = head.lines();
        let method = lines.next()?.split(' ').next()?.to_owned();
        let asked: Fields = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let says = self.says.clone()?;
        let began = self.clock.now().as_secs();
        self.clock.advance(Duration::from_secs(says.delay));
        self.marks += 1;
        let mark = self.marks.to_string();
        let fields = self.fields(&says, &mark);
        let confirmed = says.status == Some(200) && says.conditional && self.confirms(&says, &asked);
        let status = says.status.map(|status| if confirmed { 304 } else { status });
        self.contacts.push(Contact {
            method: method.clone(),
            asked,
            status,
            fields: fields.clone(),
            began,
            answered: self.clock.now().as_secs(),
        });
        let status = status?;
        let mut text = format!("HTTP/1.1 {status} So\r\n");
        for (name, value) in &fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if status == 304 {
            text.push_str("\r\n");
        } else {
            text.push_str(&format!("content-length: {}\r\n\r\n", mark.len()));
            if method != "HEAD" {
                text.push_str(&mark);
            }
        }
        Some(text)
    }

    fn fields(&self, says: &Says, mark: &str) -> Fields {
        let now = self.clock.now().as_secs();
        let mut control: Vec<String> = says
            .control
            .iter()
            .map(|(name, seconds)| match seconds {
                Some(seconds) => format!("{name}={seconds}"),
                None => (*name).to_owned(),
            })
            .collect();
        control.extend(says.limited.map(|name| format!("{name}=\"x-limited\"")));
        let dated = |seconds: i64| date(now.saturating_add_signed(seconds));
        let fields = [
            ("x-mark", Some(mark.to_owned())),
            ("x-limited", says.limited.map(|_| mark.to_owned())),
            ("cache-control", (!control.is_empty()).then(|| control.join(", "))),
            ("date", says.skew.map(dated)),
            (
                "expires",
                says.expires
                    .map(|expires| expires.map_or_else(str::to_owned, dated)),
            ),
            ("age", says.age.map(str::to_owned)),
            ("vary", says.vary.map(str::to_owned)),
            ("etag", says.etag.map(str::to_owned)),
            (
                "last-modified",
                says.modified.map(|before| date(self.epoch - before)),
            ),
            ("set-cookie", says.cookie.then(|| format!("c={mark}"))),
            (
                "location",
                says.location
                    .map(|target| format!("/{}/{}", self.segment, TARGETS[target])),
            ),
        ];
        let present = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        present.collect()
    }

    /// Whether the request holds what the origin would send (RFC 9110, section 13.2.2).
    fn confirms(&self, says: &Says, asked: &Fields) -> bool {
        let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
        if let Some(listed) = asked.get("if-none-match") {
            let own = says.etag.map(opaque);
            return own.is_some_and(|own| listed.split(", ").any(|tag| tag == "*" || opaque(tag) == own));
        }
        match (asked.get("if-modified-since"), says.modified) {
            (Some(since), Some(before)) => {
                httpdate::parse_http_date(since).is_ok_and(|since| seconds(since) >= self.epoch - before)
            }
            _ => false,
        }
    }
}

/// A moment as HTTP writes it.
pub(super) fn date(second: u64) -> String {
    httpdate::fmt_http_date(Timestamp::from_secs(second).to_system_time())
}

fn seconds(time: SystemTime) -> u64 {
    Timestamp::from_system_time(time).as_secs()
}
