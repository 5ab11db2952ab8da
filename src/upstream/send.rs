//! One exchange with one endpoint: connection, request, response head.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::alarm::{Alarm, later};
use super::body::{BodyDeadlines, Carrier, UpstreamBody};
use super::cluster::Cluster;
use super::connect::Failure;
use super::connection::Http1Connection;
use super::endpoint::{Endpoint, InFlight};
use super::error::{ErrorKind, SendError, classify};
use super::pool::WorkerPool;
use super::request::{
    BoxError, ExchangeKind, RequestBody, SentBody, Watch, prepare_http1, prepare_http2, unwatched, watched,
};
use super::slot::{Checkout, Http2Lease, Slot, Terms};
use crate::config::Timeouts;

/// How many connections one exchange tries when each turns out closed before anything was sent.
const CONNECTIONS_TRIED: usize = 3;

impl WorkerPool {
    /// Sends `request` to `endpoint` and returns the response head, with the body still to come.
    ///
    /// The request has an origin-form target and the `Host` the endpoint is to see; hop-by-hop fields are the
    /// caller's to remove. Extensions are kept, so [`hyper::ext::on_informational`] works. A 1xx response does not
    /// extend the first-byte deadline; progress of the request body does. `timeouts.total` counts from this call.
    ///
    /// An idle connection that proves closed before anything was sent is replaced without a word. After a 101
    /// response to [`ExchangeKind::Upgrade`], `hyper::upgrade::on(response)` gives the connection; it counts
    /// towards the endpoint's limit until it is closed.
    ///
    /// # Errors
    /// See [`SendError`]; the request is given back if nothing of it was sent. Dropping the future cancels the
    /// exchange: the connection is closed, or the stream reset.
    pub async fn send(
        &self,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        request: Request<RequestBody>,
        timeouts: &Timeouts,
        kind: ExchangeKind,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let Some(offer) = cluster.connector().offer(kind) else {
            return Err(unsent(
                Failure::new(ErrorKind::Protocol, "HTTP/2 has no upgrade"),
                request,
            ));
        };
        let started = Instant::now();
        let in_flight = InFlight::new(endpoint);
        let slot = self.slot(cluster, endpoint);
        let (mut request, watch) = watched(request);
        let total = later(started, timeouts.total);
        let exchange = Exchange {
            cluster,
            slot: &slot,
            watch: watch.as_deref(),
            kind,
            first_byte: timeouts.first_byte,
            total,
        };
        let terms = Terms {
            offer,
            deadline: later(started, timeouts.connect).min(total),
            prefer_new: false,
        };
        let mut tried = 0;
        let (response, carrier) = loop {
            let terms = Terms {
                prefer_new: tried > 0,
                ..terms
            };
            tried += 1;
            let checkout = match slot.checkout(cluster.connector(), terms).await {
                Ok(checkout) => checkout,
                Err(failure) => return Err(unsent(failure, unwatched(request))),
            };
            match exchange.run(checkout, request).await {
                Ok(answer) => break answer,
                Err(Broken {
                    reused: true,
                    request: Some(unsent),
                    ..
                }) if tried < CONNECTIONS_TRIED => request = *unsent,
                Err(broken) => return Err(broken.into()),
            }
        };
        let deadlines = BodyDeadlines {
            idle: timeouts.idle,
            total,
        };
        Ok(response.map(|incoming| UpstreamBody::new(incoming, carrier, deadlines, watch, in_flight)))
    }
}

/// What one exchange needs on whichever connection it runs.
struct Exchange<'a> {
    cluster: &'a Cluster,
    slot: &'a Arc<Slot>,
    watch: Option<&'a Watch>,
    kind: ExchangeKind,
    first_byte: Duration,
    total: Instant,
}

type Answer = (Response<Incoming>, Carrier);

impl Exchange<'_> {
    async fn run(&self, checkout: Checkout, request: Request<SentBody>) -> Result<Answer, Broken> {
        match checkout {
            Checkout::Http1(connection) => self.http1(connection, request).await,
            Checkout::Http2(lease) => self.http2(lease, request).await,
        }
    }

    async fn http1(
        &self,
        mut connection: Http1Connection,
        mut request: Request<SentBody>,
    ) -> Result<Answer, Broken> {
        prepare_http1(&mut request, self.slot.endpoint().label());
        let reused = connection.reused;
        let sending = connection.sender.try_send_request(request);
        let response = self.head(sending, &mut connection.alarm, reused).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if self.kind != ExchangeKind::Upgrade {
                return Err(Broken::malformed("101 was not asked for", reused));
            }
            connection.detach();
            return Ok((response, Carrier::Upgraded));
        }
        check_framing(&response).map_err(|reason| Broken::malformed(reason, reused))?;
        let carrier = Carrier::Http1 {
            connection,
            slot: Arc::clone(self.slot),
        };
        Ok((response, carrier))
    }

    async fn http2(&self, mut lease: Http2Lease, mut request: Request<SentBody>) -> Result<Answer, Broken> {
        let reused = lease.reused;
        let scheme = self.cluster.connector().scheme();
        if let Err(error) = prepare_http2(&mut request, &scheme, self.slot.endpoint().label()) {
            return Err(Broken {
                kind: ErrorKind::Protocol,
                reused,
                request: Some(Box::new(request)),
                source: Some(error),
            });
        }
        let mut alarm = Alarm::new(later(Instant::now(), self.first_byte));
        let sending = lease.sender.try_send_request(request);
        let response = self.head(sending, &mut alarm, reused).await?;
        let carrier = Carrier::Http2 {
            alarm,
            _user: lease.user,
        };
        Ok((response, carrier))
    }

    /// Waits for the response head, up to the first-byte and total deadlines.
    async fn head(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<SentBody>>>>,
        alarm: &mut Alarm,
        reused: bool,
    ) -> Result<Response<Incoming>, Broken> {
        let mut sending = pin!(sending);
        let sent = Instant::now();
        let outcome = poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => self.poll_late(sent, alarm, cx).map(Err),
        })
        .await;
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.broken(error, reused)),
            Err(kind) => Err(Broken {
                kind,
                reused,
                request: None,
                source: None,
            }),
        }
    }

    /// Which deadline has passed, if one has. The first byte may be waited for from the last part of the request
    /// on: a long upload is not a slow answer.
    fn poll_late(&self, sent: Instant, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        let from = self.watch.map_or(sent, |watch| watch.moved().max(sent));
        let due = later(from, self.first_byte);
        let kind = if self.total <= due {
            ErrorKind::TotalTimeout
        } else {
            ErrorKind::FirstByteTimeout
        };
        alarm.poll_due(due.min(self.total), cx).map(|()| kind)
    }

    fn broken(&self, mut error: TrySendError<Request<SentBody>>, reused: bool) -> Broken {
        let request = error.take_message().map(Box::new);
        let error = error.into_error();
        let kind = if self.watch.is_some_and(Watch::failed) {
            ErrorKind::RequestBody
        } else if request.is_some() {
            ErrorKind::Reset
        } else {
            classify(&error)
        };
        Broken {
            kind,
            reused,
            request,
            source: Some(error.into()),
        }
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
    fn malformed(reason: &'static str, reused: bool) -> Self {
        Self {
            kind: ErrorKind::Protocol,
            reused,
            request: None,
            source: Some(reason.into()),
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

fn unsent(failure: Failure, request: Request<RequestBody>) -> SendError {
    SendError {
        kind: failure.kind,
        reused: false,
        request: Some(Box::new(request)),
        source: failure.source,
    }
}

/// Refuses a response whose length is ambiguous: `Transfer-Encoding` with `Content-Length` (RFC 9112, section 6.3,
/// item 3), or a transfer coding we did not ask for and would have to decode.
fn check_framing(response: &Response<Incoming>) -> Result<(), &'static str> {
    let mut codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if response.headers().contains_key(CONTENT_LENGTH) {
        return Err("Transfer-Encoding with Content-Length");
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err("a transfer coding other than chunked");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let exchange = Exchange {
            cluster: &bench.cluster,
            slot: &slot,
            watch: watch.as_deref(),
            kind: ExchangeKind::Ordinary,
            first_byte: Duration::from_secs(10),
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
        let late = exchange.head(sending, &mut Alarm::new(started), false).await;
        assert_eq!(late.err().unwrap().kind, ErrorKind::FirstByteTimeout);
        assert_eq!((Instant::now() - started).as_secs(), 5 * 8 + 10);
    }
}
