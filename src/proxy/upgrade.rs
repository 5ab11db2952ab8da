//! Protocol upgrades: a WebSocket handshake passes through, then bytes are copied both ways.

use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::Answer;
use super::body::Source;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::forward::Outgoing;
use super::inbound::Inbound;
use super::interim::InterimSender;
use super::{headers, pass};
use crate::cache::status::Outcome;
use crate::control::state::ActiveRoute;
use crate::upstream::ExchangeKind;

const SEC_WEBSOCKET_EXTENSIONS: HeaderName = HeaderName::from_static("sec-websocket-extensions");

/// Forwards a request that asks for an upgrade; when the upstream agrees, the two connections become one tunnel.
pub(crate) async fn tunnel(
    exchange: &mut Exchange,
    route: &ActiveRoute,
    request: &mut Inbound,
) -> Result<Answer, ProxyError> {
    let protocol = request.head.headers.get(UPGRADE).cloned();
    let client = request.head.extensions.remove::<OnUpgrade>();
    let payload = request.take_body(exchange);
    let request = &*request;
    let interims = InterimSender::open(&request.connection, request.head.version, &route.config);
    let asked = protocol.as_ref().filter(|_| client.is_some());
    let outgoing = Outgoing {
        make: &|body| {
            let mut outgoing = pass::outgoing(route, request, body);
            if let Some(protocol) = asked {
                let fields = outgoing.headers_mut();
                fields.insert(UPGRADE, protocol.clone());
                fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            outgoing
        },
        encoded: &[],
        payload,
        kind: ExchangeKind::Upgrade,
        interims: interims.as_ref(),
    };
    let response = pass::send(exchange, route, request, outgoing).await?;
    pass::invalidate(exchange, route, request, &response);
    let Some(client) = client.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) else {
        return Ok(pass::through(exchange, response, Outcome::Passed));
    };
    let (mut head, mut body) = response.into_parts();
    let upstream = body.take_upgraded();
    let accepted = head.headers.get(UPGRADE).cloned().or(protocol);
    let extensions = head.headers.get(SEC_WEBSOCKET_EXTENSIONS).cloned();
    headers::from_upstream(&mut head.headers, head.version);
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(accepted) = accepted {
        head.headers.insert(UPGRADE, accepted);
    }
    if let Some(extensions) = extensions {
        head.headers.insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    let connection = std::sync::Arc::clone(&request.connection);
    exchange.worker.tasks.spawn("tunnel", async move {
        // The body holds the upstream connection's place in the pool until the tunnel ends.
        let _place = body;
        let _open = connection;
        let (Ok(client), Some(mut upstream)) = (client.await, upstream) else {
            return;
        };
        let mut client = TokioIo::new(client);
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
            tracing::debug!(%error, "tunnel ended");
        }
    });
    let value = exchange.forwarded(Some(head.status), Outcome::Passed);
    Ok(Answer::new(head.status, head.headers, Source::Empty).cache_status(value))
}
