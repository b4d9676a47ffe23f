//! SOCKS version 5 (RFC 1928): CONNECT, to addresses and to names of members, without authentication.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Host, Mesh, relay};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// How long a client may take to say where it wants to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a request, section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Reply {
    Succeeded = 0,
    Failure = 1,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    Refused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

/// Serves one client to its end.
pub(super) async fn serve(mut client: TcpStream, mesh: &Mesh) -> io::Result<()> {
    let asked = timeout(PATIENCE, async {
        greet(&mut client).await?;
        request(&mut client).await
    });
    let (host, port) = match asked.await?? {
        Ok(target) => target,
        Err(reply) => return answer(&mut client, reply, None).await,
    };
    let far = match mesh.connect(host, port).await {
        Ok(far) => far,
        Err(error) => {
            answer(&mut client, explain(&error), None).await?;
            return Err(error);
        }
    };
    answer(&mut client, Reply::Succeeded, Some(far.local_addr())).await?;
    relay::run(client, far).await
}

/// Section 3: the client names the methods it has.
async fn greet(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let [version, count] = read(client).await?;
    if version != VERSION {
        return Err(invalid("it does not speak SOCKS 5"));
    }
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods).await?;
    let free = methods.contains(&NO_AUTHENTICATION);
    client.write_all(&[VERSION, if free { NO_AUTHENTICATION } else { NO_METHOD }]).await?;
    if free { Ok(()) } else { Err(invalid("it insists on authentication")) }
}

/// Section 4: what the client wants. The inner error is for the client.
async fn request(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<(Host, u16), Reply>> {
    let [version, command, _, kind] = read(client).await?;
    if version != VERSION {
        return Err(invalid("its request is of another version"));
    }
    let host = match kind {
        1 => Host::Address(Ipv4Addr::from(read::<4>(client).await?).into()),
        4 => Host::Address(Ipv6Addr::from(read::<16>(client).await?).into()),
        3 => {
            let [len] = read(client).await?;
            let mut name = vec![0; usize::from(len)];
            client.read_exact(&mut name).await?;
            let Ok(name) = String::from_utf8(name) else { return Ok(Err(Reply::HostUnreachable)) };
            // Programs that leave names to the proxy leave addresses to it as well.
            name.parse().map_or(Host::Name(name), Host::Address)
        }
        _ => return Ok(Err(Reply::AddressNotSupported)),
    };
    let port = u16::from_be_bytes(read(client).await?);
    Ok(if command == CONNECT { Ok((host, port)) } else { Err(Reply::CommandNotSupported) })
}

/// Section 6. It fits into the socket's buffer.
async fn answer(
    client: &mut (impl AsyncWrite + Unpin),
    reply: Reply,
    bound: Option<SocketAddr>,
) -> io::Result<()> {
    let bound = bound.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let mut message = vec![VERSION, reply as u8, 0];
    match bound.ip() {
        IpAddr::V4(ip) => {
            message.push(1);
            message.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            message.push(4);
            message.extend(ip.octets());
        }
    }
    message.extend(bound.port().to_be_bytes());
    client.write_all(&message).await
}

fn explain(error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reply::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NotFound | io::ErrorKind::TimedOut => {
            Reply::HostUnreachable
        }
        // Of no family that this node has an address of.
        io::ErrorKind::AddrNotAvailable => Reply::NetworkUnreachable,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => Reply::NetworkUnreachable,
        _ => Reply::Failure,
    }
}

async fn read<const N: usize>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Runs what waits for nothing.
    fn done<T>(future: impl Future<Output = T>) -> T {
        let Poll::Ready(done) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else { panic!() };
        done
    }

    fn requested(bytes: &[u8]) -> Result<(Host, u16), Reply> {
        done(request(&mut &bytes[..])).unwrap()
    }

    #[test]
    fn requests_name_addresses_and_names() {
        let v4 = Host::Address("192.0.2.1".parse().unwrap());
        assert_eq!(requested(&[5, 1, 0, 1, 192, 0, 2, 1, 0, 80]), Ok((v4.clone(), 80)));
        let v6 = [&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[1, 187]].concat();
        assert_eq!(requested(&v6), Ok((Host::Address(Ipv6Addr::LOCALHOST.into()), 443)));
        let name = |name: &str| [&[5, 1, 0, 3, name.len() as u8][..], name.as_bytes(), &[0, 80]].concat();
        assert_eq!(requested(&name("node-2")), Ok((Host::Name("node-2".to_owned()), 80)));
        assert_eq!(requested(&name("192.0.2.1")), Ok((v4, 80)));
    }

    #[test]
    fn what_it_does_not_do_is_said() {
        assert_eq!(requested(&[5, 2, 0, 1, 192, 0, 2, 1, 0, 80]), Err(Reply::CommandNotSupported));
        assert_eq!(requested(&[5, 1, 0, 9]), Err(Reply::AddressNotSupported));
        assert_eq!(requested(&[5, 1, 0, 3, 1, 0xff, 0, 80]), Err(Reply::HostUnreachable));
        done(request(&mut &[4, 1, 0, 1][..])).unwrap_err();
        done(request(&mut &[5, 1, 0, 1, 192][..])).unwrap_err();
    }

    #[test]
    fn clients_without_a_method_in_common_are_told() {
        let mut talk = io::Cursor::new(vec![5, 2, 1, 2]);
        done(greet(&mut talk)).unwrap_err();
        assert_eq!(talk.into_inner(), [5, 2, 1, 2, 5, NO_METHOD]);
        let mut talk = io::Cursor::new(vec![5, 2, 2, 0]);
        done(greet(&mut talk)).unwrap();
        assert_eq!(talk.into_inner(), [5, 2, 2, 0, 5, NO_AUTHENTICATION]);
    }
}
