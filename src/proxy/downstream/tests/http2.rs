//! HTTP/2, with and without TLS.

use super::*;

#[tokio::test]
async fn http2_is_served_on_the_same_port_and_checked_the_same() {
    let running = run();
    let mut client = running.h2().await;
    let large = client
        .send_request(Request::get("http://a/large").body(Empty::new()).unwrap())
        .await
        .unwrap();
    let body = whole(large.into_body()).await.unwrap();
    assert_eq!(body.len(), 1 << 20);
    let request = Request::get("http://a/x")
        .header("host", "b")
        .body(Empty::new())
        .unwrap();
    let refused = client.send_request(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    until(|| client.is_closed()).await;
}

#[tokio::test]
async fn http2_drains_by_goaway() {
    let running = run();
    let mut client = running.h2().await;
    let request = || Request::get("http://a/x").body(Empty::new()).unwrap();
    assert_eq!(
        client.send_request(request()).await.unwrap().status(),
        StatusCode::OK
    );
    running.sweeper.advance_to(Stage::Draining);
    until(|| client.is_closed()).await;
}

/// One frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The kinds of the frames in `bytes`.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [high, middle, low, kind, ..] = *bytes {
        kinds.push(kind);
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a_response_that_the_http2_window_holds_back_is_not_kept_for_ever() {
    let running = run();
    let mut client = running.connect().await;
    // SETTINGS_INITIAL_WINDOW_SIZE is 0; :method GET, :scheme http, :path /large, :authority a
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let head = frame(1, 5, 1, b"\x82\x86\x44\x06/large\x41\x01a");
    client
        .write_all(&[PREFACE, &settings, &head].concat())
        .await
        .unwrap();
    running.called(1).await;
    until(|| running.site.dropped.load(Ordering::Relaxed) == 1).await;
    running.clock.advance(Duration::from_secs(76));
    running.sweeper.sweep();
    let answer = rest(&mut client).await;
    assert!(answer.len() < 1000, "{} bytes", answer.len());
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let running = run();
    let mut client = running.connect().await;
    // :method GET, :scheme http, :path /, :authority a
    let head = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let mut flood = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for stream in (1..20_000).step_by(2) {
        flood.extend(frame(1, 5, stream, &head));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    // The server may close before all is written.
    let (mut reader, mut writer) = client.split();
    let mut answer = Vec::new();
    let (_, read) = tokio::join!(
        async { drop(writer.write_all(&flood).await) },
        tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut answer)),
    );
    drop(read.expect("the connection stays open"));
    assert!(kinds(&answer).contains(&7), "GOAWAY");
    let calls = running.site.calls.load(Ordering::Relaxed);
    assert!(calls < 5_000, "{calls} requests were handled");
    until(|| running.site.tasks.len() <= 1).await;
}

#[tokio::test]
async fn tls_serves_what_alpn_agrees_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut listener = testing::listener();
    let files = tls::testing::certificate(directory.path());
    listener.tls = Some(files.clone());
    let running = run_with(listener);
    for (offered, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let io = tls_client(&running, &files, offered).await;
        let status = if version == Version::HTTP_2 {
            let mut client = h2(io, &running.site.tasks).await;
            let request = Request::get("https://localhost/x").body(Empty::new()).unwrap();
            client.send_request(request).await.unwrap().status()
        } else {
            let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
                .await
                .unwrap();
            running
                .site
                .tasks
                .spawn("client", async move { drop(connection.await) });
            let request = Request::get("/x")
                .header("host", "localhost")
                .body(Empty::<Bytes>::new())
                .unwrap();
            client.send_request(request).await.unwrap().status()
        };
        assert_eq!(status, StatusCode::OK, "{offered}");
    }
    // A handshake that never comes is a slow head.
    let mut silent = running.connect().await;
    until(|| running.sweeper.open() == 3).await;
    running.clock.advance(Duration::from_secs(11));
    running.sweeper.sweep();
    assert_eq!(rest(&mut silent).await, "");
}

async fn tls_client(
    running: &Running,
    files: &config::ServerTls,
    protocol: &str,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(rustls_pki_types::CertificateDer::from_pem_file(&files.cert_file).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = "localhost".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    connector.connect(name, running.connect().await).await.unwrap()
}
