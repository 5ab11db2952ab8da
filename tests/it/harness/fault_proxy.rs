//! A TCP proxy that does to a connection what networks and failing servers do.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use outrigger::tasks::Tasks;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Chunks that are on their way at once.
const ON_THE_WAY: usize = 4096;

/// What happens to what the server says, from the moment it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It comes later, in order.
    Delay(Duration),
    /// It does not come; connections stay open, and new ones are accepted.
    Freeze,
    /// These bytes come in its place.
    Garbage(Vec<u8>),
    /// Half of it comes, then nothing more.
    Half,
    /// Half of it comes, then the end.
    Cut,
    /// Half of it comes, then a reset.
    Reset,
    /// New connections are closed at once.
    Refuse,
}

/// A proxy in front of one server; it ends with the value.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    /// Counts up whenever every connection is to be closed.
    cuts: watch::Sender<u64>,
    tasks: Tasks,
}

impl FaultProxy {
    /// A proxy that does nothing yet.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (fault, cuts, tasks) = (
            watch::Sender::new(Fault::None),
            watch::Sender::new(0),
            Tasks::new(),
        );
        let link = Link {
            server,
            fault: fault.subscribe(),
            cuts: cuts.subscribe(),
            tasks: tasks.clone(),
        };
        tasks.spawn("fault proxy", accept(listener, link));
        Self {
            address,
            fault,
            cuts,
            tasks,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does `fault` to every connection from now on.
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

#[derive(Clone)]
struct Link {
    server: SocketAddr,
    fault: watch::Receiver<Fault>,
    cuts: watch::Receiver<u64>,
    tasks: Tasks,
}

async fn accept(listener: TcpListener, link: Link) {
    while let Ok((client, _)) = listener.accept().await {
        if *link.fault.borrow() != Fault::Refuse {
            let tasks = link.tasks.clone();
            tasks.spawn("fault proxy connection", connect(client, link.clone()));
        }
    }
}

async fn connect(client: TcpStream, mut link: Link) {
    let Ok(server) = TcpStream::connect(link.server).await else {
        return;
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket option");
    }
    link.cuts.mark_unchanged();
    let (server_reads, mut server_writes) = server.into_split();
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    let questions = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            client.readable().await?;
            match client.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => server_writes.write_all(&buffer[..length]).await?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Whichever end comes first ends the connection; how, is for the tests' own assertions.
    tokio::select! {
        _ = questions => {}
        () = read(server_reads, sender) => {}
        _ = answer(&client, receiver, &mut link.fault) => {}
        _ = link.cuts.changed() => {}
    }
}

/// Takes what the server says, with the time at which it came.
async fn read(mut server: OwnedReadHalf, sender: mpsc::Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = server.read(&mut buffer).await {
        if sender
            .send((Instant::now(), buffer[..length].to_vec()))
            .await
            .is_err()
        {
            return;
        }
    }
    // Give the answers that are on their way the time to arrive.
    sender.closed().await;
}

/// Hands it on, as the fault says.
async fn answer(
    client: &TcpStream,
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    fault: &mut watch::Receiver<Fault>,
) -> std::io::Result<()> {
    while let Some((came, chunk)) = chunks.recv().await {
        let now = fault.borrow_and_update().clone();
        let half = &chunk[..chunk.len() / 2];
        match now {
            Fault::None | Fault::Refuse => write(client, &chunk).await?,
            Fault::Delay(by) => {
                tokio::time::sleep_until(came + by).await;
                write(client, &chunk).await?;
            }
            Fault::Freeze => {
                let over = fault.wait_for(|fault| *fault != Fault::Freeze).await;
                drop(over.map_err(std::io::Error::other)?);
                write(client, &chunk).await?;
            }
            Fault::Garbage(bytes) => write(client, &bytes).await?,
            Fault::Half => {
                write(client, half).await?;
                pending::<()>().await;
            }
            Fault::Cut => return write(client, half).await,
            Fault::Reset => {
                write(client, half).await?;
                return SockRef::from(client).set_linger(Some(Duration::ZERO));
            }
        }
    }
    Ok(())
}

async fn write(client: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        client.writable().await?;
        match client.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
