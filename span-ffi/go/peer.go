package span

/*
#include <span.h>
*/
import "C"

import (
	"math"
	"net/netip"
	"runtime"
	"time"
	"unsafe"
)

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
func (t *Tunnel) AddPeer(now time.Duration, config PeerConfig) (PeerID, error) {
	seconds, err := cSeconds(config.Keepalive)
	if err != nil {
		return NoPeer, err
	}
	prefixes := make([]C.span_prefix, len(config.AllowedIPs))
	for i, prefix := range config.AllowedIPs {
		prefixes[i] = cPrefix(prefix)
	}
	c := C.span_peer_config{
		keepalive:         seconds,
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
	var peer PeerID
	err = t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_add_peer(handle, C.uint64_t(now), &c, (*C.uint64_t)(&peer))
	})
	return peer, err
}

// RemovePeer removes a peer with all that belongs to it.
func (t *Tunnel) RemovePeer(peer PeerID) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_remove_peer(handle, C.uint64_t(peer))
	})
}

// FindPeer returns the peer with this public key; ErrUnknownPeer if there is none.
func (t *Tunnel) FindPeer(publicKey Key) (PeerID, error) {
	var peer PeerID
	err := t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_find_peer(handle, publicKey.c(), (*C.uint64_t)(&peer))
	})
	return peer, err
}

// Route returns the peer that a packet to this address goes to; ErrUnknownPeer if there is none.
func (t *Tunnel) Route(address netip.Addr) (PeerID, error) {
	var peer PeerID
	c := cPrefix(netip.PrefixFrom(address, address.BitLen()))
	err := t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_route(handle, &c, (*C.uint64_t)(&peer))
	})
	return peer, err
}

// Peers returns all peers.
func (t *Tunnel) Peers() ([]PeerID, error) {
	for room := 16; ; room *= 2 {
		peers := make([]PeerID, room)
		var count C.size_t
		err := t.with(func(handle *C.span_tunnel) C.span_status {
			return C.span_tunnel_peers(handle, (*C.uint64_t)(unsafe.SliceData(peers)), C.size_t(room), &count)
		})
		if err != nil {
			return nil, err
		}
		if int(count) <= room {
			return peers[:count], nil
		}
	}
}

// SetPresharedKey sets the symmetric key that is mixed into handshakes from the next one on; none if zero.
func (t *Tunnel) SetPresharedKey(peer PeerID, key Key) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_set_preshared_key(handle, C.uint64_t(peer), key.c())
	})
}

// SetKeepalive sets the interval of the persistent keepalive in whole seconds; none if 0. Turning it on sends one at
// once.
func (t *Tunnel) SetKeepalive(now time.Duration, peer PeerID, interval time.Duration) error {
	seconds, err := cSeconds(interval)
	if err != nil {
		return err
	}
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_set_keepalive(handle, C.uint64_t(now), C.uint64_t(peer), seconds)
	})
}

// SetCipher sets the cipher of sessions that this side begins with the peer.
func (t *Tunnel) SetCipher(now time.Duration, peer PeerID, cipher Cipher) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_set_cipher(handle, C.uint64_t(now), C.uint64_t(peer), C.uint32_t(cipher))
	})
}

// SetPath sets where the peer is sent to, until it is heard from elsewhere; nowhere for the zero path.
func (t *Tunnel) SetPath(now time.Duration, peer PeerID, path Path) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_set_path(handle, C.uint64_t(now), C.uint64_t(peer), path.c())
	})
}

// SetCandidates gives the peer paths that may lead to it, the best first. From then on the tunnel finds the way
// itself, and events tell of it.
func (t *Tunnel) SetCandidates(now time.Duration, peer PeerID, paths []Path) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		first := (*C.span_path)(unsafe.Pointer(unsafe.SliceData(paths)))
		return C.span_tunnel_set_candidates(handle, C.uint64_t(now), C.uint64_t(peer), first, C.size_t(len(paths)))
	})
}

// AddAllowedIP gives a prefix to a peer, taking it from the one that had it.
func (t *Tunnel) AddAllowedIP(peer PeerID, prefix netip.Prefix) error {
	c := cPrefix(prefix)
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_add_allowed_ip(handle, C.uint64_t(peer), &c)
	})
}

// RemoveAllowedIP takes a prefix from a peer.
func (t *Tunnel) RemoveAllowedIP(peer PeerID, prefix netip.Prefix) error {
	c := cPrefix(prefix)
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_remove_allowed_ip(handle, C.uint64_t(peer), &c)
	})
}

// ClearAllowedIPs takes all its prefixes from a peer.
func (t *Tunnel) ClearAllowedIPs(peer PeerID) error {
	return t.with(func(handle *C.span_tunnel) C.span_status {
		return C.span_tunnel_clear_allowed_ips(handle, C.uint64_t(peer))
	})
}

// AllowedIPs returns a peer's prefixes, IPv4 first, in order.
func (t *Tunnel) AllowedIPs(peer PeerID) ([]netip.Prefix, error) {
	for room := 16; ; room *= 2 {
		c := make([]C.span_prefix, room)
		var count C.size_t
		err := t.with(func(handle *C.span_tunnel) C.span_status {
			return C.span_tunnel_allowed_ips(handle, C.uint64_t(peer), unsafe.SliceData(c), C.size_t(room), &count)
		})
		if err != nil {
			return nil, err
		}
		if int(count) > room {
			continue
		}
		prefixes := make([]netip.Prefix, count)
		for i := range prefixes {
			prefixes[i] = goPrefix(c[i])
		}
		return prefixes, nil
	}
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
func (t *Tunnel) Stats(now time.Duration, peer PeerID) (PeerStats, error) {
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

func goPrefix(c C.span_prefix) netip.Prefix {
	bytes := *(*[16]byte)(unsafe.Pointer(&c.address))
	address := netip.AddrFrom16(bytes)
	if c.family == 4 {
		address = netip.AddrFrom4([4]byte(bytes[:4]))
	}
	return netip.PrefixFrom(address, int(c.length))
}

func cSeconds(interval time.Duration) (C.uint16_t, error) {
	seconds := interval / time.Second
	if seconds < 0 || seconds > math.MaxUint16 {
		return 0, ErrInvalid
	}
	return C.uint16_t(seconds), nil
}
