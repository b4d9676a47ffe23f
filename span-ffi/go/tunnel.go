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

// A TunnelConfig is what a tunnel is made with. The zero value is good, but for the private key.
type TunnelConfig struct {
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
func NewTunnel(config TunnelConfig) (*Tunnel, error) {
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
	if err := result(C.span_tunnel_new(&c, &tunnel.handle)); err != nil {
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
	return result(call(t.handle))
}

// Initiate asks for a fresh handshake, at the earliest five seconds after the last one began.
func (t *Tunnel) Initiate(now time.Duration, peer PeerID) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_initiate(handle, C.uint64_t(now), C.uint64_t(peer))
	})
}

// Seal seals packets where they stand in the arena: each has Headroom bytes in front of it and up to Tailroom behind.
// A packet for NoPeer goes to the peer that has its destination. Afterwards each packet's Result says what became of
// it; Seal returns how many are ResultData, datagrams to be sent.
func (t *Tunnel) Seal(now time.Duration, arena []byte, packets []Packet) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.handle == nil {
		return 0, ErrClosed
	}
	var sealed C.size_t
	err := result(C.span_tunnel_seal(t.handle, C.uint64_t(now), cBytes(arena), C.size_t(len(arena)),
		cPackets(packets), C.size_t(len(packets)), &sealed))
	return int(sealed), err
}

// Open opens datagrams where they stand in the arena, each of which came over its Path. Afterwards each one's Result
// says what became of it; Open returns how many are ResultPacket, packets for the inner side.
func (t *Tunnel) Open(now time.Duration, arena []byte, datagrams []Packet) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.handle == nil {
		return 0, ErrClosed
	}
	var opened C.size_t
	err := result(C.span_tunnel_open(t.handle, C.uint64_t(now), cBytes(arena), C.size_t(len(arena)),
		cPackets(datagrams), C.size_t(len(datagrams)), &opened))
	return int(opened), err
}

// SetPrivateKey sets the private key, none if zero. A peer with the same public key is removed. Sessions made with the
// former key go on receiving, but the next packet to each peer begins a handshake.
func (t *Tunnel) SetPrivateKey(now time.Duration, key Key) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_set_private_key(handle, C.uint64_t(now), key.c())
	})
}

// Reseed mixes true randomness of the operating system's into the tunnel's. A must after the machine was copied while
// it ran, as a virtual machine can be.
func (t *Tunnel) Reseed() error {
	return t.with(func(handle *C.span_tunnel) C.span_status { return C.span_tunnel_reseed(handle, nil) })
}

// UnixTime returns the tunnel's idea of the wall clock. Keep it for the next NewTunnel where the clock may be set back.
func (t *Tunnel) UnixTime(now time.Duration) (time.Time, error) {
	var nanos C.uint64_t
	err := t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_unix_time(handle, C.uint64_t(now), &nanos)
	})
	return time.Unix(0, int64(nanos)), err
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
	err := result(C.span_tunnel_poll_transmit(t.handle, C.uint64_t(now), cBytes(arena), C.size_t(len(arena)),
		cPackets(datagrams), C.size_t(len(datagrams)), &count))
	return int(count), err
}

// A TunnelEventKind says what happened to a tunnel.
type TunnelEventKind uint32

// What can happen to a tunnel. More may come: ignore what you do not know.
const (
	TunnelEstablished     TunnelEventKind = C.SPAN_EVENT_KIND_ESTABLISHED      // a handshake is complete
	TunnelPathChanged     TunnelEventKind = C.SPAN_EVENT_KIND_PATH_CHANGED     // the peer is sent to another path from now on
	TunnelPeerUp          TunnelEventKind = C.SPAN_EVENT_KIND_PEER_UP          // a peer with candidates answers
	TunnelPeerDown        TunnelEventKind = C.SPAN_EVENT_KIND_PEER_DOWN        // a peer with candidates has not answered for a while
	TunnelHandshakeFailed TunnelEventKind = C.SPAN_EVENT_KIND_HANDSHAKE_FAILED // no handshake succeeded for 90 s
	TunnelOverflow        TunnelEventKind = C.SPAN_EVENT_KIND_OVERFLOW         // events that nobody read gave way to newer ones
)

// A TunnelEvent is something that happened to a tunnel.
type TunnelEvent struct {
	Kind TunnelEventKind
	Peer PeerID
	Path Path
	// Lost is how many events a TunnelOverflow stands for.
	Lost uint64
}

// PollEvent returns the next event, if there is one.
func (t *Tunnel) PollEvent() (event TunnelEvent, ok bool, err error) {
	var c C.span_event
	c.size = C.uint32_t(unsafe.Sizeof(c))
	err = t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_poll_event(handle, &c)
	})
	if err != nil || c.kind == C.SPAN_EVENT_KIND_NONE {
		return TunnelEvent{}, false, err
	}
	path := *(*Path)(unsafe.Pointer(&c.path))
	return TunnelEvent{TunnelEventKind(c.kind), PeerID(c.peer), path, uint64(c.lost)}, true, nil
}

// Counters are totals of a tunnel since it was made.
type Counters struct {
	InitiationsSent     uint64 // retries included
	InitiationsAccepted uint64 // and answered
	ResponsesAccepted   uint64 // handshakes that this side began and completed
	CookiesSent         uint64
	CookiesAccepted     uint64
	HandshakesFailed    uint64 // given up after 90 s
	Probes              uint64 // copies of initiations sent to candidates
	EventsLost          uint64
	Dropped             uint64 // all drops, whatever the reason
}

// Counters returns what the tunnel has done so far.
func (t *Tunnel) Counters() (Counters, error) {
	var c C.span_counters
	c.size = C.uint32_t(unsafe.Sizeof(c))
	err := t.with(func(handle *C.span_tunnel) C.span_status { return C.span_tunnel_counters(handle, &c) })
	return Counters{
		InitiationsSent:     uint64(c.initiations_sent),
		InitiationsAccepted: uint64(c.initiations_accepted),
		ResponsesAccepted:   uint64(c.responses_accepted),
		CookiesSent:         uint64(c.cookies_sent),
		CookiesAccepted:     uint64(c.cookies_accepted),
		HandshakesFailed:    uint64(c.handshakes_failed),
		Probes:              uint64(c.probes),
		EventsLost:          uint64(c.events_lost),
		Dropped:             uint64(c.dropped),
	}, err
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
