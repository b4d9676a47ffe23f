//! Sockets that clients come in by.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Handshakes under way at once; the rest wait in the kernel's queue.
const HANDSHAKES: usize = 256;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to rest when the system has no descriptor or memory for another connection.
const REST: Duration = Duration::from_millis(100);

/// Binds a listener, for both families if `address` is `[::]`. On a host without IPv6 that means IPv4.
pub(super) fn bind(address: SocketAddr, mark: Option<u32>) -> io::Result<StdListener> {
    match bind_as(address, mark) {
        Err(error) if error.raw_os_error() == Some(NO_IPV6) && address.ip().is_unspecified() => {
            bind_as((Ipv4Addr::UNSPECIFIED, address.port()).into(), mark)
        }
        outcome => outcome,
    }
}

/// EAFNOSUPPORT on Linux, the only system whose containers commonly lack IPv6.
const NO_IPV6: i32 = 97;

fn bind_as(address: SocketAddr, mark: Option<u32>) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Accepted connections inherit the mark.
    crate::service::set_mark(&socket, mark)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// The connections of a listener, after their TLS handshake if there is one.
pub(super) struct Incoming {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handshakes: JoinSet<Option<Connection>>,
    room: Room,
    rest: Option<Pin<Box<Sleep>>>,
    /// Whether the system's refusal was told already.
    complained: bool,
}

/// The places for connections; each keeps its own until it ends.
struct Room {
    places: Arc<Semaphore>,
    waiting: Option<Pin<Box<dyn Future<Output = Place> + Send>>>,
    place: Option<Place>,
}

type Place = OwnedSemaphorePermit;

/// A client's connection.
pub(super) struct Connection {
    peer: SocketAddr,
    stream: Transport,
    _place: Place,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Incoming {
    /// Takes at most `room` connections at once; the others wait in the kernel's queue.
    pub(super) fn new(listener: TcpListener, tls: Option<TlsAcceptor>, room: usize) -> Self {
        let places = Arc::new(Semaphore::new(room.clamp(1, Semaphore::MAX_PERMITS)));
        let room = Room { places, waiting: None, place: None };
        Incoming { listener, tls, handshakes: JoinSet::new(), room, rest: None, complained: false }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr, Place)> {
        loop {
            if let Some(rest) = &mut self.rest {
                ready!(rest.as_mut().poll(cx));
                self.rest = None;
            }
            ready!(self.room.poll_place(cx));
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, peer)) => {
                    self.complained = false;
                    // Without it every small answer waits for the client's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    if let Some(place) = self.room.place.take() {
                        return Poll::Ready((stream, peer, place));
                    }
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.complained, true) {
                        tracing::warn!(%error, "cannot accept connections at the moment");
                    }
                    self.rest = Some(Box::pin(sleep(REST)));
                }
            }
        }
    }
}

impl Room {
    /// Ready once there is a place in `self.place`.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.place.is_none() {
            let waiting = self.waiting.get_or_insert_with(|| {
                let places = self.places.clone();
                Box::pin(async move { places.acquire_owned().await.expect("it is never closed") })
            });
            self.place = Some(ready!(waiting.as_mut().poll(cx)));
            self.waiting = None;
        }
        Poll::Ready(())
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.handshakes.len() < HANDSHAKES {
            let Poll::Ready((stream, peer, place)) = this.poll_accept(cx) else { break };
            match this.tls.clone() {
                None => {
                    let stream = Transport::Plain(stream);
                    return Poll::Ready(Some(Ok(Connection { peer, stream, _place: place })));
                }
                Some(tls) => {
                    this.handshakes.spawn(handshake(tls, stream, peer, place));
                }
            }
        }
        while let Poll::Ready(Some(outcome)) = this.handshakes.poll_join_next(cx) {
            // The one that ended may have been what kept the next from being accepted.
            cx.waker().wake_by_ref();
            if let Ok(Some(connection)) = outcome {
                return Poll::Ready(Some(Ok(connection)));
            }
        }
        Poll::Pending
    }
}

async fn handshake(
    tls: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
) -> Option<Connection> {
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Connection { peer, stream: Transport::Tls(Box::new(stream)), _place: place }),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake timed out");
            None
        }
    }
}

/// Whether only the connection that was to be accepted is lost.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_set_or_its_lack_of_privilege_told() {
        match bind("127.0.0.1:0".parse().unwrap(), Some(0x20)) {
            Ok(listener) => assert_eq!(socket2::SockRef::from(&listener).mark().unwrap(), 0x20),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn the_unspecified_address_takes_both_families_and_others_one() {
        let listener = bind("[::]:0".parse().unwrap(), None).unwrap();
        let any = listener.local_addr().unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, any.port())).unwrap();
        if any.is_ipv6() {
            std::net::TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, any.port())).unwrap();
        }
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_the_next_waits() {
        use tokio_stream::StreamExt as _;
        let listener = bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Incoming::new(TcpListener::from_std(listener).unwrap(), None, 2);
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let first = incoming.next().await.unwrap().unwrap();
        let _second = incoming.next().await.unwrap().unwrap();
        let early = timeout(Duration::from_millis(50), incoming.next()).await;
        assert!(early.is_err(), "there is no room for a third");
        let third = async {
            let (third, ()) = tokio::join!(incoming.next(), async { drop(first) });
            third
        };
        assert!(timeout(Duration::from_secs(5), third).await.is_ok());
    }
}
