//! Tasks instead of threads.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use span_tun::netstack::TcpStream;

use crate::link::{Mesh, Way, addresses};

/// Runs one task on this thread, which sleeps until it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

async fn serve(mut stream: TcpStream) -> usize {
    let mut received = Vec::new();
    AsyncReadExt::read_to_end(&mut stream, &mut received).await.unwrap();
    received.reverse();
    AsyncWriteExt::write_all(&mut stream, &received).await.unwrap();
    AsyncWriteExt::close(&mut stream).await.unwrap();
    received.len()
}

#[test]
fn streams_are_those_of_futures() {
    let mesh = Mesh::new(Way::default());
    let listener = mesh.b.listen("[::]:0".parse().unwrap()).unwrap();
    let address = SocketAddr::new(addresses(2)[1], listener.local_addr().port());
    let total = 3 << 20;
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            block_on(async {
                let accepted = std::future::poll_fn(|context| listener.poll_accept(context)).await;
                serve(accepted.unwrap().0).await
            })
        });
        block_on(async {
            let stream = mesh.a.connect_async(address).await.unwrap();
            let sent: Vec<u8> = (0..total).map(|at| (at >> 7) as u8).collect();
            AsyncWriteExt::write_all(&mut &stream, &sent).await.unwrap();
            AsyncWriteExt::close(&mut &stream).await.unwrap();
            let mut received = Vec::new();
            AsyncReadExt::read_to_end(&mut &stream, &mut received).await.unwrap();
            received.reverse();
            assert!(received == sent);
        });
        assert_eq!(server.join().unwrap(), total);
        let refused = block_on(mesh.a.connect_async(SocketAddr::new(addresses(2)[0], 1))).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn datagrams_and_pings_wake_tasks() {
    let mesh = Mesh::new(Way::default());
    let far = mesh.b.bind_udp("[::]:0".parse().unwrap()).unwrap();
    let near = mesh.a.bind_udp("[::]:0".parse().unwrap()).unwrap();
    let to = SocketAddr::new(addresses(2)[0], far.local_addr().port());
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut buf = [0; 9];
            block_on(std::future::poll_fn(|context| far.poll_recv_from(context, &mut buf))).unwrap().0
        });
        block_on(std::future::poll_fn(|context| near.poll_send_to(context, b"hello", to))).unwrap();
        assert_eq!(receiver.join().unwrap(), 5);
    });
    let mut ping = mesh.a.ping(addresses(2)[1]).unwrap();
    ping.begin().unwrap();
    assert!(block_on(std::future::poll_fn(|context| ping.poll_reply(context))).is_ok());
}

#[cfg(feature = "tokio")]
#[test]
fn streams_are_those_of_tokio() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mesh = Mesh::new(Way::default());
    let listener = mesh.b.listen("[::]:0".parse().unwrap()).unwrap();
    let address = SocketAddr::new(addresses(2)[1], listener.local_addr().port());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let client = async {
            let mut stream = mesh.a.connect_async(address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, &[5; 300_000]).await.unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut received = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received).await.unwrap();
            received.len()
        };
        let server = async {
            let (stream, _) = std::future::poll_fn(|context| listener.poll_accept(context)).await.unwrap();
            let (mut reading, mut writing) = tokio::io::split(stream);
            let copied = tokio::io::copy(&mut reading, &mut writing).await.unwrap();
            writing.shutdown().await.unwrap();
            let mut rest = Vec::new();
            reading.read_to_end(&mut rest).await.unwrap();
            copied
        };
        assert_eq!(tokio::join!(client, server), (300_000, 300_000));
    });
}
