//! The header fields of a request that passes through, as HTTP/1.1 writes them.
//!
//! A request that goes from HTTP/1.1 to HTTP/1.1 needs no header map of its own on the way: to copy the fields into one
//! and to write that out costs more than everything else that is done with them.

use bytes::Bytes;
use http::HeaderMap;

use super::headers;
use super::inbound::Inbound;
use crate::cache::as_sent::key_headers;
use crate::control::state::ActiveRoute;
use crate::telemetry::record::TraceContext;

/// Bytes of a usual field line.
const USUAL_LINE: usize = 64;

/// The header fields of a request.
pub(crate) struct Encoded {
    /// Lines, each with its end; `Host` is among them.
    pub(crate) lines: Vec<u8>,
    /// Those that say how the body is framed, which is for the connection to tell.
    pub(crate) framing: HeaderMap,
}

/// The fields for the upstream. None where they have to be in a header map: for other protocols than HTTP/1.1, for a
/// route that changes them, for a trusted peer, and for a request without a host.
pub(crate) fn encode(route: &ActiveRoute, request: &Inbound, trace: &TraceContext) -> Option<Encoded> {
    let rules = &route.config.headers;
    if !rules.request_set.is_empty()
        || !rules.request_remove.is_empty()
        || !route.cluster.is_http1(request.kind())
    {
        return None;
    }
    let (asked, origin) = (&request.head.headers, &request.origin);
    let peer = request.connection.forwarded_peer();
    let forwarding: Bytes = peer.encoded(origin, &request.authority, request.head.version)?;
    let mut lines = Vec::with_capacity(asked.len() * USUAL_LINE + forwarding.len());
    let mut framing = HeaderMap::new();
    let mut cookie = false;
    let protected = || key_headers(route.config.cache.as_ref());
    headers::each_passed_on(asked, origin, protected, |name, value| match name.as_str() {
        "content-length" | "trailer" => {
            framing.append(name.clone(), value.clone());
        }
        // A state without a valid parent belongs to no trace (W3C Trace Context, section 3.3).
        "tracestate" if trace.parent_id.is_none() => {}
        // HTTP/2 may split what HTTP/1.1 must not (RFC 9113, section 8.2.3). A map has the values of a name together.
        "cookie" if cookie => {
            lines.truncate(lines.len().saturating_sub(2));
            for part in [b"; ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        text => {
            cookie = text == "cookie";
            for part in [text.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
    });
    lines.extend_from_slice(&forwarding);
    Some(Encoded { lines, framing })
}
