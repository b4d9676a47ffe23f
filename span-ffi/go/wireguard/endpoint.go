package wireguard

import (
	"hash/maphash"
	"net/netip"
	"sync"

	"golang.zx2c4.com/wireguard/conn"

	"span"
)

// strangers is how many endpoints of handshakes are remembered at least until they are answered, and twice that at
// most: whoever knows our public key can send from as many addresses as it likes.
const strangers = 4096

// endpoints turns the bind's endpoints into the tunnel's paths and back. A path is an address and a port; an endpoint
// is besides the local address that its datagrams came to, which what goes there leaves from.
type endpoints struct {
	bind  conn.Bind
	seed  maphash.Seed
	mutex sync.Mutex
	// Where peers were last heard from, or were said to be.
	peers map[span.PeerID]whereabouts
	// Where handshakes came from, in two generations.
	young, old map[span.Path]conn.Endpoint
}

type whereabouts struct {
	path     span.Path
	endpoint conn.Endpoint
	// How many initiations went there since the last handshake was complete.
	tries int
}

func (e *endpoints) init(bind conn.Bind) {
	e.bind = bind
	e.seed = maphash.MakeSeed()
	e.peers = make(map[span.PeerID]whereabouts)
	e.young = make(map[span.Path]conn.Endpoint)
}

// path returns the path to an endpoint. One that has no address is known by a hash of its text.
func (e *endpoints) path(endpoint conn.Endpoint) span.Path {
	if std, ok := endpoint.(*conn.StdNetEndpoint); ok {
		return span.UDPPath(std.AddrPort)
	}
	text := endpoint.DstToString()
	if address, err := netip.ParseAddrPort(text); err == nil {
		return span.UDPPath(address)
	}
	return span.CustomPath(maphash.String(e.seed, text))
}

// heard notes where a peer is.
func (e *endpoints) heard(peer span.PeerID, path span.Path, endpoint conn.Endpoint) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.peers[peer] = whereabouts{path: path, endpoint: endpoint}
}

// asked notes where a handshake came from, for the answer.
func (e *endpoints) asked(path span.Path, endpoint conn.Endpoint) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if len(e.young) >= strangers {
		e.old, e.young = e.young, make(map[span.Path]conn.Endpoint)
	}
	e.young[path] = endpoint
}

// established notes that a handshake with the peer is complete.
func (e *endpoints) established(peer span.PeerID) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if at, ok := e.peers[peer]; ok {
		at.tries = 0
		e.peers[peer] = at
	}
}

// find returns the endpoint at the end of a path, for a datagram to a peer or to nobody known.
func (e *endpoints) find(datagram *span.Packet) (conn.Endpoint, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	at, known := e.peers[datagram.Peer]
	changed := !known || at.path != datagram.Path
	if changed {
		endpoint, ok := e.young[datagram.Path]
		if !ok {
			endpoint, ok = e.old[datagram.Path]
		}
		if !ok {
			var err error
			if endpoint, err = e.bind.ParseEndpoint(datagram.Path.Remote().String()); err != nil {
				return nil, err
			}
		}
		at = whereabouts{path: datagram.Path, endpoint: endpoint}
	}
	if datagram.Result == span.ResultInitiation {
		// The local address may be why the last one was not answered.
		if at.tries > 0 {
			if fresh, err := e.bind.ParseEndpoint(at.endpoint.DstToString()); err == nil {
				at.endpoint = fresh
			}
		}
		at.tries++
		changed = true
	}
	if changed && datagram.Peer != span.NoPeer {
		e.peers[datagram.Peer] = at
	}
	return at.endpoint, nil
}

// text returns where a peer is, as people write it; empty if that is not known.
func (e *endpoints) text(peer span.PeerID, path span.Path) string {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if at, ok := e.peers[peer]; ok && at.path == path {
		return at.endpoint.DstToString()
	}
	if remote := path.Remote(); remote.IsValid() {
		return remote.String()
	}
	return ""
}

// forgetSources lets the system choose local addresses anew.
func (e *endpoints) forgetSources() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.old, e.young = nil, make(map[span.Path]conn.Endpoint)
	for peer, at := range e.peers {
		// One that cannot be read is as it came.
		if fresh, err := e.bind.ParseEndpoint(at.endpoint.DstToString()); err == nil {
			at.endpoint = fresh
			e.peers[peer] = at
		}
	}
}

// keep forgets all other peers.
func (e *endpoints) keep(there map[span.PeerID]bool) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for peer := range e.peers {
		if !there[peer] {
			delete(e.peers, peer)
		}
	}
}
