//! What an answer of the origin, or none, says about the origin and about the resource.

use http::{Response, StatusCode};

use super::error::ProxyError;
use crate::cache::reuse::Failure;
use crate::upstream::{ErrorKind, UpstreamBody};

/// How the origin failed, if it did (RFC 5861, section 4; RFC 9111, section 4.2.4).
pub(super) fn failure(result: &Result<Response<UpstreamBody>, ProxyError>) -> Option<Failure> {
    match result {
        Ok(response) => failed_so(response.status()).then_some(Failure::Error),
        Err(ProxyError::Upstream(
            ErrorKind::Connect
            | ErrorKind::ConnectTimeout
            | ErrorKind::FirstByteTimeout
            | ErrorKind::IdleTimeout
            | ErrorKind::TotalTimeout
            | ErrorKind::Reset
            | ErrorKind::NoEndpoint,
        )) => Some(Failure::Disconnected),
        Err(_) => Some(Failure::Error),
    }
}

/// Whether a status is an error as RFC 5861, section 4, means it.
pub(super) fn failed_so(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether asking again at once would only make matters worse.
pub(super) fn failed(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Whether an answer that is not stored still takes the place of what is: it tells that the resource has changed or
/// gone, which a server's error and a request to come back later do not.
pub(super) fn replaces(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(
            status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_says() {
        // Status; an error that a stale entry may stand in for; one after which nobody asks again at once; one that
        // tells that what is stored is outdated.
        let table = [
            (200, false, false, true),
            (404, false, false, true),
            (410, false, false, true),
            (401, false, false, false),
            (403, false, false, false),
            (408, false, false, false),
            (429, false, true, false),
            (500, true, true, false),
            (501, false, true, false),
            (503, true, true, false),
        ];
        for (status, stands_in, backs_off, outdates) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                (failed_so(status), failed(status), replaces(status)),
                (stands_in, backs_off, outdates),
                "{status}"
            );
        }
        let none = |kind| failure(&Err(ProxyError::Upstream(kind)));
        assert_eq!(none(ErrorKind::Connect), Some(Failure::Disconnected));
        assert_eq!(none(ErrorKind::Tls), Some(Failure::Error));
    }
}
