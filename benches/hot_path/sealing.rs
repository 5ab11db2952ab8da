//! What a slot costs on its way to a level below memory, and back.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use http::StatusCode;

use outrigger::cache::codec::Codec;
use outrigger::cache::entry::{Entry, NewEntry, Notes};
use outrigger::cache::slot::Slot;
use outrigger::config::keyring::Keyring;
use outrigger::config::{Compress, Compression};

use super::{LIFE, NOW, key_of, request_headers, response_headers, route};

const MIN_SIZE: u64 = 1024;

/// Sealing and opening small and large answers, as they are and compressed, checksummed and encrypted.
pub(super) fn sealing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sealing");
    let digest = *key_of(&route("shared"), &request_headers(), "/models/1").primary();
    let ring = ring();
    for kibibytes in [1, 64] {
        let slot = slot(kibibytes << 10);
        group.throughput(Throughput::Bytes(kibibytes as u64 * 1024));
        for (compression, algorithm) in [
            ("raw", Compression::Off),
            ("zstd", Compression::Zstd),
            ("lz4", Compression::Lz4),
        ] {
            for (seal, ring) in [("checksummed", None), ("encrypted", Some(&ring))] {
                let compress = Compress {
                    algorithm,
                    min_size: MIN_SIZE,
                };
                let codec = Codec::new(compress, ring, 8 << 20);
                let name = format!("{kibibytes} KiB {compression} {seal}");
                let value = codec.seal(&digest, &slot, NOW).expect("it may be kept").value;
                group.bench_function(format!("seal {name}"), |bencher| {
                    bencher.iter(|| codec.seal(&digest, black_box(&slot), NOW));
                });
                group.bench_function(format!("open {name}"), |bencher| {
                    bencher.iter(|| codec.open(&digest, black_box(&value), NOW));
                });
            }
        }
    }
    group.finish();
}

/// A JSON document of `bytes` bytes, somewhat repetitive, as such documents are.
fn slot(bytes: usize) -> Slot {
    let mut body = String::with_capacity(bytes + 128);
    for n in 0_u64.. {
        if body.len() >= bytes {
            break;
        }
        let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        write!(
            body,
            r#"{{"id":"model-{noise:x}","object":"model","created":{n},"owned_by":"hub"}},"#
        )
        .expect("a string takes everything");
    }
    body.truncate(bytes);
    let key = key_of(&route("shared"), &request_headers(), "/models/1");
    Slot::new(Entry::build(NewEntry {
        full_key: key.full(false),
        label: &key.label(),
        route: "shared".into(),
        tenant: None,
        tags: &["models"],
        nominated: Default::default(),
        status: StatusCode::OK,
        headers: &response_headers(),
        notes: Notes::default(),
        body: &[Bytes::from(body)],
        life: LIFE,
        moment: outrigger::cache::purge::Moment::default(),
        public: false,
        sensitive: false,
        stored_at: NOW,
        fetch_time: LIFE.stale_if_error,
    }))
}

fn ring() -> Keyring {
    let secret = |first: &str| format!("{first}{}", "01".repeat(31));
    let text = format!(
        "index_secret: \"{}\"\nkeys: [{{id: a, secret: \"{}\"}}]\n",
        secret("a1"),
        secret("b2")
    );
    Keyring::parse(Path::new("keyring.yaml"), text.as_bytes())
        .map_err(|problems| problems.to_string())
        .expect("the ring is sound")
}
