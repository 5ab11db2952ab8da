//! The scanner and the library must agree: what the one accepts the other must not answer by itself.

use proptest::prelude::*;

use super::*;

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&[u8]> = vec![
        b"GET /a HTTP/1.1\r\nHost: a\r\n",
        b"POST /b?c=[] HTTP/1.1\r\nhost:a:1 \r\n",
        b"G!T http://a HTTP/1.1\r\nHost: a\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\n",
        b"GET / HTTP/1.0\r\n",
        b"Content-Length: 0\r\n",
        b"Connection: close\r\n",
        b"X!#$%&'*+-.^_`|~0: \t\x80\xff \r\n",
        b"X:\r\n",
        b"Expect: x\r\n",
    ];
    prop_oneof![
        8 => proptest::sample::select(lines).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 1..3),
    ]
}

/// The answer to the bytes, and how often the handler was called.
async fn serve(bytes: &[u8]) -> (String, usize) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let site = Site::default();
    client.write_all(bytes).await.unwrap();
    let mut answer = vec![0; 8192];
    let tasks = Tasks::new();
    let serving = serve_connection(server, testing::open(), None, site.clone(), &tasks);
    let read = tokio::select! {
        read = client.read(&mut answer) => read.unwrap(),
        () = serving => client.read(&mut answer).await.unwrap(),
    };
    (
        String::from_utf8_lossy(&answer[..read]).into_owned(),
        site.calls.load(Ordering::Relaxed),
    )
}

proptest! {
    #[test]
    fn on_every_head(pieces in proptest::collection::vec(pieces(), 1..6)) {
        let bytes = [pieces.concat().as_slice(), b"\r\n\r\n"].concat();
        let limits = testing::listener().limits;
        let scan = Scanner::new((&limits).into()).scan(&bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (answer, calls) = runtime.block_on(serve(&bytes));
        prop_assert!(calls > 0, "the library answered by itself: {answer:?} {scan:?}");
        if let (crate::proxy::wire::Stop::Malformed(reason), 0) = (scan.stop, scan.request) {
            prop_assert!(answer.ends_with(reason.as_str()), "{answer:?}");
        } else {
            prop_assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"), "{answer:?}");
        }
    }
}
