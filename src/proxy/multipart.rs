//! Several parts of one body in one answer: `multipart/byteranges` (RFC 9110, section 14.6; RFC 2046, section 5.1).

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;

use super::body::FRAME;
use crate::cache::range::content_range;

/// What goes out piece by piece: slices of the body, and what stands between them.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    /// The parts `spans` of `body`, whose first octet is number `from` of the whole content with `total` octets.
    /// `boundary` must not occur in them.
    pub(crate) fn new(
        body: &Bytes,
        from: u64,
        spans: &[Range<u64>],
        total: u64,
        content_type: Option<&HeaderValue>,
        boundary: &str,
    ) -> Self {
        let mut pieces = VecDeque::with_capacity(2 * spans.len() + 1);
        for span in spans {
            let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
            if let Some(content_type) = content_type {
                head.extend_from_slice(b"Content-Type: ");
                head.extend_from_slice(content_type.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"Content-Range: ");
            head.extend_from_slice(content_range(span, total).as_bytes());
            head.extend_from_slice(b"\r\n\r\n");
            pieces.push_back(head.into());
            pieces.push_back(slice(body, from, span));
        }
        pieces.push_back(format!("\r\n--{boundary}--\r\n").into());
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, left }
    }

    /// Bytes still to go out.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next part of the answer, none at its end.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.front_mut()?;
        let next = piece.split_to(piece.len().min(FRAME));
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        self.left -= next.len() as u64;
        Some(next)
    }
}

/// The octets of `span`, of which `body` holds those from number `from` on.
pub(crate) fn slice(body: &Bytes, from: u64, span: &Range<u64>) -> Bytes {
    let at = |octet: u64| usize::try_from(octet.saturating_sub(from)).unwrap_or(usize::MAX);
    let end = at(span.end).min(body.len());
    body.slice(at(span.start).min(end)..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_between_boundaries_with_their_ranges() {
        let body = Bytes::from_static(b"0123456789");
        let plain = HeaderValue::from_static("text/plain");
        let mut pieces = Pieces::new(&body, 100, &[108..110, 100..103], 200, Some(&plain), "B");
        let length = pieces.left();
        let mut text = Vec::new();
        while let Some(piece) = pieces.next() {
            text.extend_from_slice(&piece);
        }
        let expected = "\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 108-109/200\r\n\r\n89\
                        \r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 100-102/200\r\n\r\n012\
                        \r\n--B--\r\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert_eq!((length, pieces.left()), (expected.len() as u64, 0));
    }

    #[test]
    fn large_parts_go_out_in_frames() {
        let body = Bytes::from(vec![b'x'; 3 * FRAME]);
        let mut pieces = Pieces::new(&body, 0, &[0..1, 1000..body.len() as u64], 1 << 20, None, "B");
        while let Some(piece) = pieces.next() {
            assert!(!piece.is_empty() && piece.len() <= FRAME);
        }
        assert_eq!(pieces.left(), 0);
    }

    #[test]
    fn a_span_beyond_the_body_is_cut() {
        let body = Bytes::from_static(b"0123");
        assert_eq!(slice(&body, 0, &(2..9)), "23");
        assert_eq!(slice(&body, 0, &(7..9)), "");
        assert_eq!(slice(&body, 10, &(11..13)), "12");
    }
}
