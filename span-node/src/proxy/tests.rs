//! Programs, proxies and two nodes on the loopback interface.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream as Near, UdpSocket};

use span_discovery::memory::Registry;

use super::*;
use crate::NodeConfig;
use crate::clock;
use crate::node::Event;
use crate::state::Identity;
use crate::token::Token;

/// Two connected nodes, the first as a way into the mesh.
fn pair() -> (Proxies, Arc<Node>) {
    let token = Token::generate(&clock::entropy().unwrap(), Vec::new()).unwrap();
    let registry = Registry::new();
    let [one, two] = ["one", "two"].map(|name| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut config = NodeConfig::from_token(&token);
        config.name = Some(name.to_owned());
        config.hostname = Some(format!("{name}.example.org"));
        config.extra_endpoints.push(socket.local_addr().unwrap());
        let builder = Node::builder(config).tier(Box::new(registry.tier())).sockets(Some(socket), None);
        let builder = builder.netstack().identity(Identity::generate().unwrap()).without_control_socket();
        Arc::new(builder.start().unwrap())
    });
    assert!(one.events().any(|event| matches!(event, Event::PeerUp(_))));
    (Proxies::over(one).unwrap(), two)
}

fn overlay(node: &Node) -> IpAddr {
    node.status().unwrap().node.overlay_address
}

/// Listens in the mesh and sends back what it gets.
fn echo(node: &Node, port: u16) {
    let listener = node.netstack().unwrap().listen(SocketAddr::new(overlay(node), port)).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        }
    });
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn exchange(mut stream: Near) {
    let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let back = rest(stream);
    assert_eq!(back.len(), sent.len());
    assert!(back == sent);
}

/// What comes until the end.
fn rest(mut stream: Near) -> Vec<u8> {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    text
}

/// The reply to a request of SOCKS, and the connection.
fn ask(socks: SocketAddr, request: &[u8]) -> (u8, Near) {
    let mut stream = Near::connect(socks).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).unwrap();
    assert_eq!(chosen, [5, 0]);
    stream.write_all(request).unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let mut bound = vec![0; if head[3] == 4 { 18 } else { 6 }];
    stream.read_exact(&mut bound).unwrap();
    (head[1], stream)
}

fn to_name(name: &str, port: u16) -> Vec<u8> {
    [&[5, 1, 0, 3, name.len() as u8][..], name.as_bytes(), &port.to_be_bytes()].concat()
}

#[test]
fn socks_leads_to_members_by_address_and_by_name() {
    let (proxies, two) = pair();
    echo(&two, 7);
    let (listener, socks) = listener();
    proxies.serve_socks(listener).unwrap();
    let IpAddr::V6(address) = overlay(&two) else { panic!() };
    let by_address = [&[5, 1, 0, 4][..], &address.octets(), &[0, 7]].concat();
    for request in [by_address, to_name("two", 7), to_name("TWO.example.org.", 7)] {
        let (reply, stream) = ask(socks, &request);
        assert_eq!(reply, 0);
        exchange(stream);
    }
    assert_eq!(ask(socks, &to_name("three", 7)).0, 4, "nobody is called so");
    assert_eq!(ask(socks, &to_name("two", 8)).0, 5, "nobody listens there");
    let nobody = [&[5, 1, 0, 4][..], &address.octets()[..15], &[!address.octets()[15], 0, 7]].concat();
    assert_eq!(ask(socks, &nobody).0, 4, "nobody has the address");
    assert_eq!(ask(socks, &[5, 1, 0, 1, 192, 0, 2, 1, 0, 80]).0, 3, "the node has no IPv4 in the mesh");
    assert_eq!(ask(socks, &[5, 2, 0, 1, 192, 0, 2, 1, 0, 80]).0, 7, "BIND");
}

#[test]
fn ports_are_forwarded_into_the_mesh_and_out_of_it() {
    let (proxies, two) = pair();
    let (program, behind) = listener();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = program.accept() {
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        }
    });
    let out = Proxies::over(two).unwrap();
    out.forward_inward(Inward { port: 80, to: behind }).unwrap();
    let (listener, at) = listener();
    proxies.forward(listener, "two:80".parse().unwrap()).unwrap();
    exchange(Near::connect(at).unwrap());
    exchange(Near::connect(at).unwrap());
}

#[test]
fn who_finds_no_room_waits_for_it() {
    let (proxies, two) = pair();
    let proxies = Proxies::with_room(Arc::clone(&proxies.mesh.node), 1).unwrap();
    echo(&two, 7);
    let (listener, at) = listener();
    proxies.forward(listener, "two:7".parse().unwrap()).unwrap();
    let first = Near::connect(at).unwrap();
    (&first).write_all(b"1").unwrap();
    let second = Near::connect(at).unwrap();
    (&second).write_all(b"2").unwrap();
    second.shutdown(Shutdown::Write).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = (&second).read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(io::ErrorKind::WouldBlock));
    first.shutdown(Shutdown::Write).unwrap();
    second.set_read_timeout(None).unwrap();
    assert_eq!(rest(first), b"1");
    assert_eq!(rest(second), b"2");
}

#[test]
fn hundreds_are_carried_at_once_and_end_with_their_members() {
    const MANY: usize = 600;
    allow_descriptors(2 * MANY as u64 + DESCRIPTORS);
    let (proxies, two) = pair();
    let at = SocketAddr::new(overlay(&two), 7);
    let member = two.netstack().unwrap().listen_with_backlog(at, MANY).unwrap();
    let (listener, at) = listener();
    proxies.forward(listener, "two:7".parse().unwrap()).unwrap();
    let mut programs: Vec<Near> = (0..MANY)
        .map(|nth| {
            let mut program = Near::connect(at).unwrap();
            program.write_all(&nth.to_be_bytes()).unwrap();
            program
        })
        .collect();
    let mut members: Vec<TcpStream> = (0..MANY).map(|_| member.accept().unwrap().0).collect();
    for stream in &mut members {
        let mut nth = [0; size_of::<usize>()];
        stream.read_exact(&mut nth).unwrap();
        stream.write_all(&nth).unwrap();
    }
    for (nth, program) in programs.iter_mut().enumerate() {
        let mut back = [0; size_of::<usize>()];
        program.read_exact(&mut back).unwrap();
        assert_eq!(usize::from_be_bytes(back), nth);
    }
    // One of them ends with something unread, and so by a reset.
    programs[1].write_all(b"nobody reads this").unwrap();
    drop(members);
    for program in programs {
        assert_eq!(rest(program), b"");
    }
}

#[test]
fn names_are_those_of_members_and_of_the_node_itself() {
    let (proxies, two) = pair();
    let node = &proxies.mesh.node;
    assert_eq!(node.resolve("two"), Ok(Some(overlay(&two))));
    assert_eq!(node.resolve("ONE"), Ok(Some(overlay(node))));
    let id = two.status().unwrap().node.node_id;
    assert_eq!(node.resolve(&id), Ok(Some(overlay(&two))));
    assert_eq!(node.resolve(""), Ok(None));
    assert_eq!(node.resolve("two."), Ok(Some(overlay(&two))));
    two.stop();
    assert_eq!(two.resolve("one"), Err(crate::node::Stopped));
}
