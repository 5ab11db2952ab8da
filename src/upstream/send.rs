//! One exchange with one endpoint: connection, request, response head.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::alarm::{Alarm, later};
use super::body::{BodyDeadlines, Carrier, Http2Stream, UpstreamBody};
use super::cluster::Cluster;
use super::connect::Failure;
use super::endpoint::{Endpoint, InFlight};
use super::error::{ErrorKind, SendError, classify};
use super::http1::{Http1Connection, OnInterim};
use super::pool::WorkerPool;
use super::request::{
    BoxError, ExchangeKind, RequestBody, SentBody, Watch, prepare_http1, prepare_http2, unwatched, watched,
};
use super::slot::{Checkout, Http2Lease, Slot, Terms};
use crate::config::Timeouts;

/// How many connections one exchange tries when each turns out closed before anything was sent.
const CONNECTIONS_TRIED: usize = 3;

/// What an exchange needs besides its request.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// Its deadlines.
    pub timeouts: &'a Timeouts,
    /// When it began: the deadlines count from here.
    pub started: Instant,
    /// What it needs from the connection.
    pub kind: ExchangeKind,
    /// Who is told interim responses. HTTP/2 endpoints' are lost in the library.
    pub on_interim: Option<OnInterim<'a>>,
    /// The request's header fields as HTTP/1.1 writes them, each with its line end. When there are any, `Host` is among
    /// them, and the request itself has only those that frame its body. Only for clusters that [speak nothing
    /// else](Cluster::is_http1).
    pub encoded: &'a [u8],
    /// More of them, for this exchange alone.
    pub encoded_for_try: &'a [u8],
}

impl WorkerPool {
    /// Sends `request` to `endpoint` and returns the response head, with the body still to come.
    ///
    /// The request has an origin-form target and the `Host` the endpoint is to see; hop-by-hop fields are the
    /// caller's to remove. A 1xx response does not extend the first-byte deadline; progress of the request body does.
    ///
    /// An idle HTTP/2 connection that proves closed before anything was sent is replaced without a word. After a 101
    /// response to [`ExchangeKind::Upgrade`], [`UpstreamBody::take_upgraded`] gives the connection; it counts
    /// towards the endpoint's limit until it is closed.
    ///
    /// # Errors
    /// See [`SendError`]; the request is given back if nothing of it was sent. Dropping the future cancels the
    /// exchange: the connection is closed, or the stream reset.
    pub async fn send(
        &self,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        mut request: Box<Request<RequestBody>>,
        manner: Manner<'_>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let Some(offer) = cluster.connector().offer(manner.kind) else {
            return Err(unsent(
                Failure::new(ErrorKind::Protocol, "HTTP/2 has no upgrade"),
                request,
            ));
        };
        let Manner {
            timeouts, started, ..
        } = manner;
        let in_flight = InFlight::new(endpoint);
        let slot = self.slot(cluster, endpoint);
        let total = later(started, timeouts.total);
        let exchange = Exchange {
            cluster,
            slot: &slot,
            manner,
            total,
        };
        let terms = Terms {
            offer,
            deadline: later(started, timeouts.connect).min(total),
            prefer_new: false,
        };
        let mut tried = 0;
        let (response, carrier) = loop {
            let (checkout, sent) = match slot.at_hand(terms) {
                Some(connection) => (Checkout::Http1(connection), started),
                // Connecting is seldom, and its future is large.
                None => {
                    let terms = Terms {
                        prefer_new: tried > 0,
                        ..terms
                    };
                    match Box::pin(slot.checkout(cluster.connector(), terms)).await {
                        Ok(checkout) => (checkout, Instant::now()),
                        Err(failure) => return Err(unsent(failure, request)),
                    }
                }
            };
            tried += 1;
            let lease = match checkout {
                Checkout::Http1(mut connection) => {
                    exchange.begin_http1(&mut connection, request)?;
                    break exchange.http1(connection, sent).await?;
                }
                Checkout::Http2(lease) => lease,
            };
            match Box::pin(exchange.http2(lease, *request, sent)).await {
                Ok(answer) => break answer,
                Err(Broken {
                    reused: true,
                    request: Some(unsent),
                    ..
                }) if tried < CONNECTIONS_TRIED => request = Box::new(unwatched(*unsent)),
                Err(broken) => return Err(broken.into()),
            }
        };
        let deadlines = BodyDeadlines {
            idle: timeouts.idle,
            total,
        };
        Ok(response.map(|()| UpstreamBody::new(carrier, deadlines, in_flight)))
    }
}

/// What one exchange needs on whichever connection it runs.
struct Exchange<'a> {
    cluster: &'a Cluster,
    slot: &'a Arc<Slot>,
    manner: Manner<'a>,
    total: Instant,
}

type Answer = (Response<()>, Carrier);

impl Exchange<'_> {
    /// Hands the request to the connection; not a part of what waits, which would hold it a second time.
    fn begin_http1(
        &self,
        connection: &mut Http1Connection,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<(), Broken> {
        let Manner {
            encoded,
            encoded_for_try,
            ..
        } = self.manner;
        if encoded.is_empty() {
            prepare_http1(&mut request, self.slot.endpoint().label());
        }
        let begun = connection.begin(request, [encoded, encoded_for_try]);
        begun.map_err(|failure| Broken::of(failure, connection.reused))
    }

    async fn http1(&self, mut connection: Box<Http1Connection>, sent: Instant) -> Result<Answer, Broken> {
        let reused = connection.reused;
        let failed = |failure| Broken::of(failure, reused);
        let response = poll_fn(|cx| match connection.poll_head(cx, self.manner.on_interim) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => {
                let from = connection.moved().map_or(sent, |moved| moved.max(sent));
                self.poll_late(from, &mut connection.alarm, cx)
                    .map(|kind| Err(kind.into()))
            }
        })
        .await
        .map_err(failed)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if self.manner.kind != ExchangeKind::Upgrade {
                return Err(failed(Failure::new(ErrorKind::Protocol, "101 was not asked for")));
            }
            return Ok((response, Carrier::Upgraded(connection.into_upgraded())));
        }
        let carrier = if connection.is_uploading() && !connection.is_end_stream() {
            Carrier::Driven {
                driven: connection.into_driven(self.slot.tasks()),
                alarm: Alarm::new(self.total),
            }
        } else {
            Carrier::Http1 {
                connection,
                slot: Arc::clone(self.slot),
            }
        };
        Ok((response, carrier))
    }

    async fn http2(
        &self,
        mut lease: Http2Lease,
        request: Request<RequestBody>,
        sent: Instant,
    ) -> Result<Answer, Broken> {
        let (mut request, watch) = watched(request);
        let reused = lease.reused;
        let scheme = self.cluster.connector().scheme();
        if let Err(error) = prepare_http2(&mut request, &scheme, self.slot.endpoint().label()) {
            return Err(Broken {
                request: Some(Box::new(request)),
                ..Broken::of(Failure::new(ErrorKind::Protocol, error), reused)
            });
        }
        let mut alarm = Alarm::new(later(sent, self.manner.timeouts.first_byte));
        let sending = lease.sender.try_send_request(request);
        let response = self
            .http2_head(sending, sent, watch.as_deref(), &mut alarm)
            .await
            .map_err(|broken| Broken { reused, ..broken })?;
        let (head, incoming) = response.into_parts();
        let stream = Http2Stream {
            incoming,
            alarm,
            _user: lease.user,
            watch,
        };
        Ok((Response::from_parts(head, ()), Carrier::Http2(Box::new(stream))))
    }

    /// Waits for the response head of a stream, up to the first-byte and total deadlines.
    async fn http2_head(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<SentBody>>>>,
        sent: Instant,
        watch: Option<&Watch>,
        alarm: &mut Alarm,
    ) -> Result<Response<Incoming>, Broken> {
        let mut sending = pin!(sending);
        let outcome = poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => {
                let from = watch.map_or(sent, |watch| watch.moved().max(sent));
                self.poll_late(from, alarm, cx).map(Err)
            }
        })
        .await;
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(broken(error, watch)),
            Err(kind) => Err(Broken::of(kind.into(), false)),
        }
    }

    /// Which deadline has passed, if one has. The first byte may be waited for from the last part of the request
    /// on, which is `from`: a long upload is not a slow answer.
    fn poll_late(&self, from: Instant, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        let due = later(from, self.manner.timeouts.first_byte);
        let kind = if self.total <= due {
            ErrorKind::TotalTimeout
        } else {
            ErrorKind::FirstByteTimeout
        };
        alarm.poll_due(due.min(self.total), cx).map(|()| kind)
    }
}

fn broken(mut error: TrySendError<Request<SentBody>>, watch: Option<&Watch>) -> Broken {
    let request = error.take_message().map(Box::new);
    let error = error.into_error();
    let kind = if watch.is_some_and(Watch::failed) {
        ErrorKind::RequestBody
    } else if request.is_some() {
        ErrorKind::Reset
    } else {
        classify(&error)
    };
    Broken {
        request,
        ..Broken::of(Failure::new(kind, error), false)
    }
}

/// An exchange that failed on its connection.
struct Broken {
    kind: ErrorKind,
    reused: bool,
    request: Option<Box<Request<SentBody>>>,
    source: Option<BoxError>,
}

impl Broken {
    fn of(failure: Failure, reused: bool) -> Self {
        Self {
            kind: failure.kind,
            reused,
            request: None,
            source: failure.source,
        }
    }
}

impl From<Broken> for SendError {
    fn from(broken: Broken) -> Self {
        Self {
            kind: broken.kind,
            reused: broken.reused,
            request: broken.request.map(|request| Box::new(unwatched(*request))),
            source: broken.source,
        }
    }
}

fn unsent(failure: Failure, request: Box<Request<RequestBody>>) -> SendError {
    SendError {
        kind: failure.kind,
        reused: false,
        request: Some(request),
        source: failure.source,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;
    use crate::upstream::testing::{Bench, config, streaming_post};

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_moves_is_not_a_late_answer() {
        let bench = Bench::new(config(&["127.0.0.1:1"]));
        let slot = bench.pool.slot(&bench.cluster, &bench.endpoint());
        let (feed, request) = streaming_post();
        let (request, watch) = watched(request);
        let started = Instant::now();
        let timeouts = Timeouts {
            first_byte: Duration::from_secs(10),
            ..bench.timeouts
        };
        let exchange = Exchange {
            cluster: &bench.cluster,
            slot: &slot,
            manner: Manner {
                timeouts: &timeouts,
                ..bench.manner(ExchangeKind::Ordinary)
            },
            total: started + Duration::from_secs(600),
        };
        let mut body = request.into_body();
        let sending = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(8)).await;
                feed.send(Ok(http_body::Frame::data("part".into())))
                    .await
                    .unwrap();
                body.frame().await.unwrap().unwrap();
            }
            std::future::pending().await
        };
        let late = exchange
            .http2_head(sending, started, watch.as_deref(), &mut Alarm::new(started))
            .await;
        assert_eq!(late.err().unwrap().kind, ErrorKind::FirstByteTimeout);
        assert_eq!((Instant::now() - started).as_secs(), 5 * 8 + 10);
    }
}
