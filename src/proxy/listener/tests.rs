//! Tests of binding and accepting.

use http::Response;
use http::request::Parts;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::proxy::connection::{BoxError, testing};
use crate::proxy::tracked::InboundBody;
use crate::proxy::wire::Malformed;

#[derive(Clone)]
struct Fine;

impl Handler for Fine {
    type Body = UnsyncBoxBody<bytes::Bytes, BoxError>;

    async fn handle(
        &self,
        _: Arc<ConnectionState>,
        _: Box<Parts>,
        _: InboundBody,
        _: Option<Malformed>,
    ) -> Response<Self::Body> {
        Response::new(
            http_body_util::Empty::new()
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
    }
}

struct Running {
    address: SocketAddr,
    shared: Arc<SharedListener>,
    stop: CancellationToken,
    tasks: Tasks,
}

fn run(connections: usize) -> Running {
    let mut listener = testing::listener();
    listener.limits.connections = connections;
    let socket = bind(&listener, 1).unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    let (stop, tasks) = (CancellationToken::new(), Tasks::new());
    let shared = Arc::new(SharedListener::new(Arc::new(listener), None));
    let acceptor = Acceptor {
        shared: Arc::clone(&shared),
        sweeper: Sweeper::new(Clock::manual(Timestamp::from_secs(1000))),
        handler: Fine,
        tasks: tasks.clone(),
    };
    let token = stop.clone();
    tasks.spawn_to_end(async move { acceptor.accept_loop(socket, token).await.unwrap() });
    Running {
        address,
        shared,
        stop,
        tasks,
    }
}

async fn ask(client: &mut TcpStream) -> String {
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 1024];
    let read = client.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[test]
fn all_workers_share_the_port_that_was_found() {
    let sockets = bind(&testing::listener(), 3).unwrap();
    let ports: Vec<u16> = sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap().port())
        .collect();
    assert!(
        ports[0] > 0 && ports.iter().all(|port| *port == ports[0]),
        "{ports:?}"
    );
}

#[tokio::test]
async fn a_full_listener_lets_clients_wait() {
    let running = run(1);
    let mut first = TcpStream::connect(running.address).await.unwrap();
    assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(ask(&mut first).await.starts_with("HTTP/1.1 200"));
    assert_eq!(running.shared.open(), 1);
    drop(first);
    let mut answer = [0; 12];
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn after_stopping_open_connections_go_on_and_new_ones_are_refused() {
    let running = run(10);
    let mut open = TcpStream::connect(running.address).await.unwrap();
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"));
    // Queued before the loop sees the stop: must be served all the same.
    let mut queued = TcpStream::connect(running.address).await.unwrap();
    running.stop.cancel();
    assert!(ask(&mut queued).await.starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(running.address).await.is_err());
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"));
    drop((open, queued));
    assert!(running.tasks.drained(Duration::from_secs(5)).await);
    assert_eq!(running.shared.open(), 0);
}

#[test]
fn running_out_of_descriptors_pauses_longer_and_longer() {
    let error = |errno: Errno| is_about_one_connection(&io::Error::from_raw_os_error(errno as i32));
    assert!(!error(Errno::EMFILE) && !error(Errno::ENFILE) && !error(Errno::EINVAL));
    assert!(error(Errno::ECONNABORTED));
    let mut backoff = Backoff::default();
    assert_eq!([(); 3].map(|()| backoff.next().as_millis()), [10, 20, 40]);
    assert_eq!((0..9).map(|_| backoff.next()).last(), Some(BACKOFF_MAX));
}

#[test]
fn the_admin_side_keeps_descriptors() {
    assert_eq!([256, 1024, 65_536, 4].map(affordable), [96, 480, 32_736, 1]);
}

#[tokio::test]
async fn tls_does_not_come_with_a_reload() {
    let running = run(10);
    let mut listener = testing::listener();
    listener.limits.connections = 1;
    listener.tls = Some(config::model::ServerTls {
        cert_file: "c.pem".into(),
        key_file: "k.pem".into(),
        client_ca_file: None,
    });
    running.shared.reconfigure(Arc::new(listener));
    let current = running.shared.current.load();
    assert_eq!((current.limits.connections, &current.tls), (1, &None));
}
