//! Joins a mesh as a host of its own, without privileges: greets whoever connects, and everyone there is.
//!
//! ```console
//! $ SPAN_TOKEN=span1.… cargo run -p span-examples --bin join -- alice
//! ```

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr};
use std::thread;

use span_node::state::Identity;
use span_node::{Event, Node, NodeConfig};

const PORT: u16 = 7777;

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("usage: SPAN_TOKEN=… join NAME")?;
    let mut config = NodeConfig::from_token(&std::env::var("SPAN_TOKEN")?.parse()?);
    config.name = Some(name.clone());
    config.listen_port = 0; // any, so that several run on one machine
    let builder = Node::builder(config).netstack().identity(Identity::generate()?);
    let node = builder.without_control_socket().start()?;
    let stack = node.netstack().ok_or("a node with a stack")?.clone();

    let listener = stack.listen((Ipv6Addr::UNSPECIFIED, PORT).into())?;
    let greeting = format!("hello from {name}\n");
    thread::spawn(move || -> io::Result<()> {
        loop {
            let (mut stream, _) = listener.accept()?;
            // Whoever does not want to be greeted has gone.
            let _ = stream.write_all(greeting.as_bytes());
        }
    });

    for event in node.events() {
        let Event::PeerUp(peer) = event else { continue };
        let Some(address) = peer.address else { continue };
        let mut greeting = String::new();
        match stack.connect(SocketAddr::new(address, PORT)).and_then(|mut s| s.read_to_string(&mut greeting))
        {
            Ok(_) => print!("{name}: {greeting}"),
            Err(error) => println!("{name}: nothing from {}: {error}", peer.name),
        }
    }
    Ok(())
}
