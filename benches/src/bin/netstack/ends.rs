//! Two processes of a mesh: one receives and answers how much that was, the other sends for a while.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use span_node::state::Identity;
use span_node::token::Token;
use span_node::{Event, Node, NodeConfig, cipher::Cipher, clock};
use span_tun::netstack::{Netstack, TcpStream};

use crate::Sent;

/// The port of whoever receives.
const SERVICE: u16 = 9;
/// How much is written and read at once.
const PORTION: usize = 256 << 10;

/// Receives until its standard input ends.
#[derive(Debug, Args)]
pub(crate) struct Receive {
    #[arg(long)]
    token: Token,
    /// The port on which to serve discovery.
    #[arg(long)]
    discovery: u16,
    #[arg(long)]
    chacha20: bool,
}

/// Sends for a while, and says how much arrived.
#[derive(Debug, Args)]
pub(crate) struct Send {
    #[arg(long)]
    token: Token,
    #[arg(long)]
    chacha20: bool,
    #[arg(long)]
    streams: u16,
    #[arg(long)]
    seconds: f64,
}

/// A cluster whose members find each other on this port.
pub(crate) fn token(discovery: u16) -> Result<String, Box<dyn Error>> {
    let service = format!("http://127.0.0.1:{discovery}").parse()?;
    Ok(Token::generate(&clock::entropy()?, vec![service])?.encode().to_string())
}

impl Receive {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.discovery));
        // Says so if somebody else has it.
        drop(TcpListener::bind(address)?);
        let node = join("receiver", &self.token, self.chacha20, Some(address))?;
        let stack = stack(&node)?;
        let listener = stack.listen(SocketAddr::from(([0; 8], SERVICE)))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || count(stream));
            }
        });
        println!("ready");
        io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

/// Reads until the end, and answers how much that was.
fn count(mut stream: TcpStream) -> io::Result<()> {
    let (mut buf, mut total) = (vec![0; PORTION], 0u64);
    loop {
        let len = stream.read(&mut buf)?;
        if len == 0 {
            return stream.write_all(&total.to_be_bytes());
        }
        total += len as u64;
    }
}

impl Send {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let node = join("sender", &self.token, self.chacha20, None)?;
        let is_there = |event: Event| matches!(event, Event::PeerUp(peer) if peer.name == "receiver");
        if !node.events().any(is_there) {
            return Err("the node has stopped".into());
        }
        let address = node.resolve("receiver")?.ok_or("there is no receiver")?;
        let connect =
            |_| stack(&node)?.connect(SocketAddr::new(address, SERVICE)).map_err(Box::<dyn Error>::from);
        let streams = (0..self.streams).map(connect).collect::<Result<Vec<_>, _>>()?;
        let (began, duration) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let bytes = thread::scope(|scope| {
            let run = |stream| scope.spawn(move || fill(stream, began, duration));
            let threads: Vec<_> = streams.into_iter().map(run).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| io::Error::other("a panic"))?)
                .sum::<io::Result<u64>>()
        })?;
        let sent = Sent { bytes, seconds: began.elapsed().as_secs_f64() };
        println!("{}", serde_json::to_string(&sent)?);
        // Until somebody has looked at what this process has cost.
        io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

/// Writes for a while, and returns how much the peer says has arrived.
fn fill(mut stream: TcpStream, began: Instant, duration: Duration) -> io::Result<u64> {
    let buf = vec![0; PORTION];
    while began.elapsed() < duration {
        stream.write_all(&buf)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(u64::from_be_bytes(total))
}

fn join(
    name: &str,
    token: &Token,
    chacha20: bool,
    serve: Option<SocketAddr>,
) -> Result<Node, Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut config = NodeConfig::from_token(token);
    config.name = Some(name.to_owned());
    config.extra_endpoints.push(socket.local_addr()?);
    config.discovery.bypass_mesh = false;
    config.discovery.serve = serve;
    if chacha20 {
        config.cipher = Cipher::ChaCha20Poly1305;
    }
    let builder = Node::builder(config).netstack().sockets(Some(socket), None);
    Ok(builder.identity(Identity::generate()?).without_control_socket().start()?)
}

fn stack(node: &Node) -> Result<&Netstack, Box<dyn Error>> {
    node.netstack().ok_or_else(|| "a node without a stack".into())
}
