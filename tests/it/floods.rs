//! HTTP/2 clients that make work without end: each is told to go away, and costs little until then.

use crate::harness::{Call, ConfigText, Origin, Raw, Reply, Sidecar};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What one connection may add to the resident memory, bytes.
const MEMORY: f64 = 8.0 * 1024.0 * 1024.0;

/// One HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: hub` (RFC 7541, appendices A and C.2.1).
fn get() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 0x03];
    block.extend_from_slice(b"hub");
    block
}

/// Whether a GOAWAY is among the frames of `bytes`.
fn says_goaway(mut bytes: &[u8]) -> bool {
    while bytes.len() >= 9 {
        if bytes[3] == GOAWAY {
            return true;
        }
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    false
}

/// Sends `flood` in pieces until the connection is closed; it must be, with a GOAWAY, and others are served as before.
async fn is_cut_off(flood: impl Fn(u32) -> Vec<u8>, pieces: u32) {
    let origin = Origin::start().await;
    origin.on("/", |_| Reply::ok("ok"));
    let config = ConfigText::new(origin.address())
        .routes("- {name: api, match: {path_prefix: /}, upstream: hub, cache: {mode: \"off\"}}");
    let sidecar = Sidecar::start(&config).await;
    let before = sidecar.metric("process_resident_memory_bytes", &[]).await;
    let mut client = Raw::connect(sidecar.address()).await;
    client.send(PREFACE).await;
    for piece in 0..pieces {
        client.send(flood(piece)).await;
    }
    let heard = client.until_closed().await;
    assert!(says_goaway(&heard), "{} bytes without a GOAWAY", heard.len());
    let grown = sidecar.metric("process_resident_memory_bytes", &[]).await - before;
    assert!(grown <= MEMORY, "{grown} bytes more");
    assert_eq!(sidecar.fetch(Call::get("/")).await.text(), "ok");
}

#[tokio::test]
async fn rapid_resets() {
    is_cut_off(
        |piece| {
            let stream = 2 * piece + 1;
            let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
            both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            both
        },
        10_000,
    )
    .await;
}

#[tokio::test]
async fn resets_that_we_are_made_to_send() {
    // A WINDOW_UPDATE of zero is an error of the stream, which we have to reset (MadeYouReset, CVE-2025-8671).
    is_cut_off(
        |piece| {
            let stream = 2 * piece + 1;
            let mut both = frame(HEADERS, END_HEADERS, stream, &get());
            both.extend(frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
            both
        },
        10_000,
    )
    .await;
}

#[tokio::test]
async fn a_head_without_an_end() {
    // `x: ` and 4,000 octets, as a literal field that is not indexed.
    let mut field = vec![0x00, 0x01, b'x', 0x7f, 0xa1, 0x1e];
    field.resize(field.len() + 4000, b'a');
    is_cut_off(
        |piece| match piece {
            0 => frame(HEADERS, 0, 1, &get()),
            _ => frame(CONTINUATION, 0, 1, &field),
        },
        10_000,
    )
    .await;
}

#[tokio::test]
async fn continuations_without_content() {
    is_cut_off(
        |piece| match piece {
            0 => frame(HEADERS, 0, 1, &get()),
            _ => frame(CONTINUATION, 0, 1, &[]).repeat(100),
        },
        10_000,
    )
    .await;
}

#[tokio::test]
async fn data_without_content() {
    is_cut_off(
        |piece| match piece {
            0 => frame(HEADERS, END_HEADERS, 1, &get()),
            _ => frame(DATA, 0, 1, &[]).repeat(100),
        },
        10_000,
    )
    .await;
}
