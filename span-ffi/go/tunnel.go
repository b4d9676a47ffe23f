package span

/*
#cgo noescape span_tunnel_seal
#cgo nocallback span_tunnel_seal
#cgo noescape span_tunnel_open
#cgo nocallback span_tunnel_open
#cgo noescape span_tunnel_poll_transmit
#cgo nocallback span_tunnel_poll_transmit
#cgo noescape span_tunnel_next_timeout
#cgo nocallback span_tunnel_next_timeout
#cgo nocallback span_tunnel_handle_timeout
#include <span.h>
*/
import "C"

import (
	"math"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"time"
	"unsafe"
)

// A Cipher is what a session seals packets with.
type Cipher uint32

const (
	// ChaCha20Poly1305 is spoken by every WireGuard.
	ChaCha20Poly1305 Cipher = C.SPAN_CIPHER_CHACHA20_POLY1305
	// AES256GCM is spoken by Span alone.
	AES256GCM Cipher = C.SPAN_CIPHER_AES256_GCM
)

// Never is the time that never comes.
const Never time.Duration = math.MaxInt64

// A Tunnel is a WireGuard interface without its network: keys, peers, sessions and timers. It does nothing by itself:
// hand in what happened, then take out what there is, by PollTransmit and PollEvent, and ask NextTimeout when to come
// back.
//
// Times are on a clock of the caller's that never goes back, such as the time since the program's start. Several
// goroutines may use one tunnel; their calls take turns.
type Tunnel struct {
	mutex  sync.Mutex
	handle *C.span_tunnel
}

// A Config is what a tunnel is made with. The zero value is good, but for the private key.
type Config struct {
	PrivateKey Key
	// MTU is the length of the largest packet of the inner side; 1420 if it is 0.
	MTU uint16
	// Ciphers are those in which peers may begin sessions, besides ChaCha20Poly1305.
	Ciphers []Cipher
	// Now is the time on the caller's clock.
	Now time.Duration
	// UnixTime is the wall clock; the operating system is asked if it is zero.
	UnixTime time.Time
	// Seed is where all secrets come from; the operating system is asked if it is zero. For tests.
	Seed [32]byte
}

// NewTunnel makes a tunnel without peers. Close it in the end.
func NewTunnel(config Config) (*Tunnel, error) {
	c := C.span_tunnel_config{
		mtu:         C.uint16_t(config.MTU),
		now:         C.uint64_t(config.Now),
		private_key: *config.PrivateKey.c(),
		seed:        *(*[32]C.uint8_t)(unsafe.Pointer(&config.Seed)),
	}
	c.size = C.uint32_t(unsafe.Sizeof(c))
	if !config.UnixTime.IsZero() {
		c.unix_time = C.uint64_t(config.UnixTime.UnixNano())
	}
	for _, cipher := range config.Ciphers {
		if cipher > 31 {
			return nil, ErrInvalid
		}
		c.ciphers |= 1 << cipher
	}
	tunnel := new(Tunnel)
	if err := status(C.span_tunnel_new(&c, &tunnel.handle)); err != nil {
		return nil, err
	}
	return tunnel, nil
}

// Close frees the tunnel. Every later call returns ErrClosed.
func (t *Tunnel) Close() error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.handle == nil {
		return ErrClosed
	}
	C.span_tunnel_free(t.handle)
	t.handle = nil
	return nil
}

// with runs a call of the library, one at a time.
func (t *Tunnel) with(call func(handle *C.span_tunnel) C.span_status) error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.handle == nil {
		return ErrClosed
	}
	return status(call(t.handle))
}

// A PeerConfig is a peer as it is added.
type PeerConfig struct {
	PublicKey    Key
	PresharedKey Key
	AllowedIPs   []netip.Prefix
	// Path is where the peer is, until it is heard from elsewhere; the zero value if that is not known.
	Path Path
	// Keepalive is the interval of the persistent keepalive in whole seconds; none if 0.
	Keepalive time.Duration
	// Cipher is what sessions that this side begins are made with; what the peer is known to accept.
	Cipher Cipher
}

// AddPeer adds a peer, or changes the one with this public key.
func (t *Tunnel) AddPeer(now time.Duration, config PeerConfig) (Peer, error) {
	seconds := config.Keepalive / time.Second
	if seconds < 0 || seconds > math.MaxUint16 {
		return NoPeer, ErrInvalid
	}
	prefixes := make([]C.span_prefix, len(config.AllowedIPs))
	for i, prefix := range config.AllowedIPs {
		prefixes[i] = cPrefix(prefix)
	}
	c := C.span_peer_config{
		keepalive:         C.uint16_t(seconds),
		public_key:        *config.PublicKey.c(),
		preshared_key:     *config.PresharedKey.c(),
		path:              *config.Path.c(),
		cipher:            C.uint32_t(config.Cipher),
		allowed_ips_count: C.size_t(len(prefixes)),
	}
	c.size = C.uint32_t(unsafe.Sizeof(c))
	var pinner runtime.Pinner
	defer pinner.Unpin()
	if len(prefixes) > 0 {
		pinner.Pin(&prefixes[0])
		c.allowed_ips = &prefixes[0]
	}
	var peer Peer
	err := t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_add_peer(handle, C.uint64_t(now), &c, (*C.uint64_t)(&peer))
	})
	return peer, err
}

// RemovePeer removes a peer with all that belongs to it.
func (t *Tunnel) RemovePeer(peer Peer) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_remove_peer(handle, C.uint64_t(peer))
	})
}

// SetPath sets where the peer is sent to, until it is heard from elsewhere; nowhere for the zero path.
func (t *Tunnel) SetPath(now time.Duration, peer Peer, path Path) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_set_path(handle, C.uint64_t(now), C.uint64_t(peer), path.c())
	})
}

// SetCandidates gives the peer paths that may lead to it, the best first. From then on the tunnel finds the way
// itself, and events tell of it.
func (t *Tunnel) SetCandidates(now time.Duration, peer Peer, paths []Path) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		first := (*C.span_path)(unsafe.Pointer(unsafe.SliceData(paths)))
		return C.span_tunnel_set_candidates(handle, C.uint64_t(now), C.uint64_t(peer), first, C.size_t(len(paths)))
	})
}

// AddAllowedIP gives a prefix to a peer, taking it from the one that had it.
func (t *Tunnel) AddAllowedIP(peer Peer, prefix netip.Prefix) error {
	c := cPrefix(prefix)
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_add_allowed_ip(handle, C.uint64_t(peer), &c)
	})
}

// RemoveAllowedIP takes a prefix from a peer.
func (t *Tunnel) RemoveAllowedIP(peer Peer, prefix netip.Prefix) error {
	c := cPrefix(prefix)
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_remove_allowed_ip(handle, C.uint64_t(peer), &c)
	})
}

// Initiate asks for a fresh handshake, at the earliest five seconds after the last one began.
func (t *Tunnel) Initiate(now time.Duration, peer Peer) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_initiate(handle, C.uint64_t(now), C.uint64_t(peer))
	})
}

// Seal seals packets where they stand in the arena: each has Headroom bytes in front of it and up to Tailroom behind.
// A packet for NoPeer goes to the peer that has its destination. Afterwards each packet's Result says what became of
// it; Seal returns how many are Data, datagrams to be sent.
func (t *Tunnel) Seal(now time.Duration, arena []byte, packets []Packet) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.handle == nil {
		return 0, ErrClosed
	}
	var sealed C.size_t
	err := status(C.span_tunnel_seal(t.handle, C.uint64_t(now), cBytes(arena), C.size_t(len(arena)),
		cPackets(packets), C.size_t(len(packets)), &sealed))
	return int(sealed), err
}

// Open opens datagrams where they stand in the arena, each of which came over its Path. Afterwards each one's Result
// says what became of it; Open returns how many are Opened, packets for the inner side.
func (t *Tunnel) Open(now time.Duration, arena []byte, datagrams []Packet) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.handle == nil {
		return 0, ErrClosed
	}
	var opened C.size_t
	err := status(C.span_tunnel_open(t.handle, C.uint64_t(now), cBytes(arena), C.size_t(len(arena)),
		cPackets(datagrams), C.size_t(len(datagrams)), &opened))
	return int(opened), err
}

// HandleTimeout does what is due.
func (t *Tunnel) HandleTimeout(now time.Duration) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_handle_timeout(handle, C.uint64_t(now))
	})
}

// NextTimeout returns when the tunnel wants HandleTimeout, PollTransmit and PollEvent next. A time that has passed
// means now, Never that nothing happens by itself.
func (t *Tunnel) NextTimeout() (time.Duration, error) {
	var when C.uint64_t
	err := t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_next_timeout(handle, &when)
	})
	if when > C.uint64_t(Never) {
		return Never, err
	}
	return time.Duration(when), err
}

// PollTransmit writes datagrams that the tunnel sends by itself to the arena and describes them in datagrams. It
// returns how many there are; if as many as fit, there may be more.
func (t *Tunnel) PollTransmit(now time.Duration, arena []byte, datagrams []Packet) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.handle == nil {
		return 0, ErrClosed
	}
	var count C.size_t
	err := status(C.span_tunnel_poll_transmit(t.handle, C.uint64_t(now), cBytes(arena), C.size_t(len(arena)),
		cPackets(datagrams), C.size_t(len(datagrams)), &count))
	return int(count), err
}

// An EventKind says what happened.
type EventKind uint32

// What can happen. More may come: ignore what you do not know.
const (
	Established     EventKind = C.SPAN_EVENT_KIND_ESTABLISHED      // a handshake is complete
	PathChanged     EventKind = C.SPAN_EVENT_KIND_PATH_CHANGED     // the peer is sent to another path from now on
	PeerUp          EventKind = C.SPAN_EVENT_KIND_PEER_UP          // a peer with candidates answers
	PeerDown        EventKind = C.SPAN_EVENT_KIND_PEER_DOWN        // a peer with candidates has not answered for a while
	HandshakeFailed EventKind = C.SPAN_EVENT_KIND_HANDSHAKE_FAILED // no handshake succeeded for 90 s
	Overflow        EventKind = C.SPAN_EVENT_KIND_OVERFLOW         // events that nobody read gave way to newer ones
)

// An Event is something that happened.
type Event struct {
	Kind EventKind
	Peer Peer
	Path Path
	// Lost is how many events an Overflow stands for.
	Lost uint64
}

// PollEvent returns the next event, if there is one.
func (t *Tunnel) PollEvent() (event Event, ok bool, err error) {
	var c C.span_event
	c.size = C.uint32_t(unsafe.Sizeof(c))
	err = t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_poll_event(handle, &c)
	})
	if err != nil || c.kind == C.SPAN_EVENT_KIND_NONE {
		return Event{}, false, err
	}
	path := *(*Path)(unsafe.Pointer(&c.path))
	return Event{EventKind(c.kind), Peer(c.peer), path, uint64(c.lost)}, true, nil
}

// PeerStats is a peer as wg show has it.
type PeerStats struct {
	PublicKey Key
	Path      Path
	// LastHandshake is zero if there was none.
	LastHandshake time.Time
	// SessionAge is Never if there is no session.
	SessionAge time.Duration
	Cipher     Cipher
	RxBytes    uint64
	TxBytes    uint64
	// Staged is how many packets wait for a session.
	Staged    int
	Keepalive time.Duration
}

// Stats returns how a peer is doing.
func (t *Tunnel) Stats(now time.Duration, peer Peer) (PeerStats, error) {
	var c C.span_peer_stats
	c.size = C.uint32_t(unsafe.Sizeof(c))
	err := t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_peer_stats(handle, C.uint64_t(now), C.uint64_t(peer), &c)
	})
	if err != nil {
		return PeerStats{}, err
	}
	stats := PeerStats{
		PublicKey:  *(*Key)(unsafe.Pointer(&c.public_key)),
		Path:       *(*Path)(unsafe.Pointer(&c.path)),
		SessionAge: Never,
		Cipher:     Cipher(c.cipher),
		RxBytes:    uint64(c.rx_bytes),
		TxBytes:    uint64(c.tx_bytes),
		Staged:     int(c.staged),
		Keepalive:  time.Duration(c.keepalive) * time.Second,
	}
	if c.last_handshake != 0 {
		stats.LastHandshake = time.Unix(0, int64(c.last_handshake))
	}
	if c.session_age != C.SPAN_NEVER {
		stats.SessionAge = time.Duration(c.session_age)
	}
	return stats, nil
}

// Dropped returns how many datagrams and packets were dropped for this reason.
func (t *Tunnel) Dropped(reason DropReason) (uint64, error) {
	var count C.uint64_t
	err := t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_dropped(handle, C.uint32_t(reason), &count)
	})
	return uint64(count), err
}

func cBytes(bytes []byte) *C.uint8_t {
	return (*C.uint8_t)(unsafe.SliceData(bytes))
}

func cPackets(packets []Packet) *C.span_packet {
	return (*C.span_packet)(unsafe.Pointer(unsafe.SliceData(packets)))
}

func (p *Path) c() *C.span_path {
	return (*C.span_path)(unsafe.Pointer(p))
}

// cPrefix gives an invalid prefix a family that the library refuses.
func cPrefix(prefix netip.Prefix) C.span_prefix {
	var c C.span_prefix
	address := prefix.Addr()
	switch {
	case !prefix.IsValid():
	case address.Is4():
		four := address.As4()
		for i, b := range four {
			c.address[i] = C.uint8_t(b)
		}
		c.family = 4
	default:
		for i, b := range address.As16() {
			c.address[i] = C.uint8_t(b)
		}
		c.family = 6
	}
	c.length = C.uint8_t(prefix.Bits())
	return c
}

func zone(name string) uint32 {
	scope, _ := strconv.ParseUint(name, 10, 32)
	return uint32(scope)
}

func number(scope uint32) string {
	return strconv.FormatUint(uint64(scope), 10)
}
