//! The body of a flight for a reader that may be too slow for the others: left behind, it goes on by a fetch of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};

use super::connection::BoxError;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::forward::{Outgoing, Payload, forward};
use super::inbound::Inbound;
use super::pass;
use super::worker::Worker;
use crate::cache::continuation::{Rest, can_continue, make_continuation, rest};
use crate::cache::flight::{FlightError, FlightReader, Head};
use crate::control::state::ActiveRoute;
use crate::telemetry::record::{Attempt, TraceContext};
use crate::upstream::{ExchangeKind, UpstreamBody};

/// Such a body. It holds no more of it than the flight's window, or what an upstream's connection buffers. Dropped, it
/// ends its own fetch.
pub(crate) struct Continued {
    stage: Stage,
    /// What it takes to ask for the rest; none once that is asked for.
    own: Option<OwnFetch>,
    /// Octets handed on.
    sent: u64,
}

enum Stage {
    Flight(FlightReader),
    Asking(Pin<Box<dyn Future<Output = Asked> + Send>>),
    Own(Box<UpstreamBody>, Rest),
    Ended,
}

/// What came of asking for the rest.
struct Asked {
    attempts: Vec<Attempt>,
    /// None if the answer does not continue the body.
    rest: Option<(Box<UpstreamBody>, Rest)>,
}

/// The reader's own request, and what it is the continuation of.
struct OwnFetch {
    worker: Arc<Worker>,
    route: Arc<ActiveRoute>,
    request: Box<Parts>,
    body: Bytes,
    kind: ExchangeKind,
    trace: TraceContext,
    hash_key: Vec<u8>,
    head: Arc<Head>,
}

impl Continued {
    /// The body that `reader` reads for `request`; the reader itself if that will not have to be continued, or cannot be.
    pub(super) fn new(
        exchange: &Exchange,
        request: &Inbound,
        head: &Arc<Head>,
        reader: FlightReader,
    ) -> Result<Box<Self>, FlightReader> {
        match OwnFetch::of(exchange, request, head) {
            Some(own) => Ok(Box::new(Self {
                stage: Stage::Flight(reader),
                own: Some(own),
                sent: 0,
            })),
            None => Err(reader),
        }
    }

    /// The next frame; tells `exchange` of a fetch of its own.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        exchange: Option<&mut Exchange>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.poll_stages(context, exchange));
        if let Some(Ok(frame)) = &frame {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        } else {
            self.stage = Stage::Ended;
        }
        Poll::Ready(frame)
    }

    fn poll_stages(
        &mut self,
        context: &mut Context<'_>,
        mut exchange: Option<&mut Exchange>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Ended => return Poll::Ready(None),
                Stage::Flight(reader) => match ready!(Pin::new(reader).poll_frame(context)) {
                    Some(Err(error)) => match self.own.take() {
                        Some(own) if error == FlightError::LEFT_BEHIND => {
                            Stage::Asking(Box::pin(own.ask(self.sent)))
                        }
                        _ => return Poll::Ready(Some(Err(error.into()))),
                    },
                    frame => return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from))),
                },
                Stage::Asking(asking) => {
                    let Asked { attempts, rest } = ready!(asking.as_mut().poll(context));
                    if let Some(exchange) = exchange.as_mut() {
                        exchange.went_on_alone(attempts);
                    }
                    match rest {
                        Some((body, rest)) => Stage::Own(body, rest),
                        None => return Poll::Ready(Some(Err(FlightError::LEFT_BEHIND.into()))),
                    }
                }
                Stage::Own(body, rest) => match ready!(Pin::new(body).poll_frame(context)) {
                    Some(Ok(frame)) => match take(rest, frame) {
                        Ok(None) => continue,
                        Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                        Err(error) => return Poll::Ready(Some(Err(error.into()))),
                    },
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    None if is_over(rest) => return Poll::Ready(None),
                    None => return Poll::Ready(Some(Err(FlightError::WRONG_LENGTH.into()))),
                },
            };
        }
    }

    /// Whether nothing more comes.
    pub(super) fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Flight(reader) => reader.is_end_stream(),
            Stage::Asking(_) => false,
            Stage::Own(body, rest) => body.is_end_stream() && is_over(rest),
            Stage::Ended => true,
        }
    }

    /// How much more comes.
    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Flight(reader) => reader.size_hint(),
            Stage::Asking(_) => SizeHint::default(),
            Stage::Own(_, rest) => rest.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Stage::Ended => SizeHint::with_exact(0),
        }
    }
}

impl OwnFetch {
    fn of(exchange: &Exchange, request: &Inbound, head: &Arc<Head>) -> Option<Self> {
        let route = exchange.route.as_ref()?;
        let asked = &request.head;
        // What tells its length is held whole, or is not shared at all.
        if head.body_len().is_some()
            || request.warm_up
            || !can_continue(&asked.method, &asked.headers, head.status, &head.headers)
        {
            return None;
        }
        let body = request.replayable()?;
        let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let (parts, _) = pass::outgoing(route, request, nothing).into_parts();
        Some(Self {
            worker: Arc::clone(&exchange.worker),
            route: Arc::clone(route),
            request: Box::new(parts),
            body,
            kind: request.kind(),
            trace: exchange.record.trace,
            hash_key: pass::hash_key(route, request),
            head: Arc::clone(head),
        })
    }

    /// Asks for what comes after the first `from` octets.
    async fn ask(mut self, from: u64) -> Asked {
        make_continuation(&mut self.request.headers, &self.head.headers, from);
        let outgoing = Outgoing {
            make: &|body| Box::new(Request::from_parts((*self.request).clone(), body)),
            encoded: &[],
            payload: Payload::Whole(self.body),
            kind: self.kind,
            interims: None,
        };
        let mut attempts = Vec::new();
        let result = forward(
            &self.worker,
            &self.route,
            &self.trace,
            &self.hash_key,
            outgoing,
            &mut attempts,
        )
        .await;
        let rest = rest_in(&self.head, from, result);
        Asked { attempts, rest }
    }
}

/// What an answer brings of the rest.
fn rest_in(
    head: &Head,
    from: u64,
    result: Result<Response<UpstreamBody>, ProxyError>,
) -> Option<(Box<UpstreamBody>, Rest)> {
    let (answer, body) = result.ok()?.into_parts();
    let length = body.size_hint().exact();
    let rest = rest(&head.headers, from, answer.status, &answer.headers, length)?;
    Some((Box::new(body), rest))
}

/// What of a frame is for the reader; none if it has all of it.
fn take(rest: &mut Rest, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, FlightError> {
    let mut data = match frame.into_data() {
        Ok(data) => data,
        Err(trailers) if is_over(rest) => return Ok(Some(trailers)),
        Err(_early) => return Err(FlightError::WRONG_LENGTH),
    };
    let known = usize::try_from(rest.skip).map_or(data.len(), |skip| skip.min(data.len()));
    data.advance(known);
    rest.skip -= known as u64;
    if let Some(left) = &mut rest.left {
        *left = left
            .checked_sub(data.len() as u64)
            .ok_or(FlightError::WRONG_LENGTH)?;
    }
    Ok((!data.is_empty()).then(|| Frame::data(data)))
}

/// Whether the reader has all of it, as far as that is known.
fn is_over(rest: &Rest) -> bool {
    rest.skip == 0 && rest.left.is_none_or(|left| left == 0)
}
