package span

/*
#include <span.h>
*/
import "C"

import (
	"net/netip"
	"strconv"
	"unsafe"
)

// Room that a packet needs around it to become a datagram where it stands.
const (
	// Headroom is how many bytes in front of a packet sealing writes to.
	Headroom = C.SPAN_HEADROOM
	// Tailroom is how many bytes behind a packet sealing writes to at most.
	Tailroom = C.SPAN_TAILROOM
	// DatagramMax is the length of the largest datagram.
	DatagramMax = C.SPAN_DATAGRAM_MAX
	// PacketMax is the length of the largest packet.
	PacketMax = C.SPAN_PACKET_MAX
)

// A PeerID is the name of a peer of one tunnel. It is never used again.
type PeerID uint64

// NoPeer is nobody.
const NoPeer PeerID = C.SPAN_PEER_NONE

// A Result is what became of a packet or datagram.
type Result uint32

// What became of a packet or datagram.
const (
	ResultData        Result = C.SPAN_PACKET_RESULT_DATA         // a datagram to be sent, which carries a packet
	ResultInitiation  Result = C.SPAN_PACKET_RESULT_INITIATION   // a datagram to be sent: the first message of a handshake
	ResultResponse    Result = C.SPAN_PACKET_RESULT_RESPONSE     // a datagram to be sent: the answer to it
	ResultCookieReply Result = C.SPAN_PACKET_RESULT_COOKIE_REPLY // a datagram to be sent: asks its receiver to prove its address
	ResultKeepalive   Result = C.SPAN_PACKET_RESULT_KEEPALIVE    // a datagram that only says that its sender is there
	ResultPacket      Result = C.SPAN_PACKET_RESULT_PACKET       // a packet of the peer's
	ResultHandshake   Result = C.SPAN_PACKET_RESULT_HANDSHAKE    // a handshake message was taken in; [Tunnel.HandleTimeout] is due
	ResultStaged      Result = C.SPAN_PACKET_RESULT_STAGED       // a copy waits for a handshake; [Tunnel.PollTransmit] will have it
	ResultDropped     Result = C.SPAN_PACKET_RESULT_DROPPED      // dropped, for the packet's Reason
	ResultNoRoute     Result = C.SPAN_PACKET_RESULT_NO_ROUTE     // no peer has the destination among its allowed IPs
	ResultNotIP       Result = C.SPAN_PACKET_RESULT_NOT_IP       // not an IP packet
	ResultUnknownPeer Result = C.SPAN_PACKET_RESULT_UNKNOWN_PEER // the peer is not, or no longer, one of the tunnel's
	ResultBadLength   Result = C.SPAN_PACKET_RESULT_LENGTH       // without the room it needs in the arena, empty or too long
	ResultNoPath      Result = C.SPAN_PACKET_RESULT_PATH         // the path is none
)

// A DropReason says why a datagram or packet was dropped.
type DropReason uint32

// String returns the reason as metrics have it: lower case, words joined by underscores.
func (r DropReason) String() string {
	return C.GoString(C.span_drop_reason_name(C.uint32_t(r)))
}

// DropReasons returns all reasons.
func DropReasons() []DropReason {
	reasons := make([]DropReason, C.SPAN_DROP_REASONS)
	for i := range reasons {
		reasons[i] = DropReason(i)
	}
	return reasons
}

// A Packet is one packet or datagram of a batch, in memory that the batch shares, the arena. Calls turn one into
// the other where it stands. Its layout is the library's: batches are passed on as they are.
type Packet struct {
	At     uint32 // where it begins in the arena
	Len    uint32 // its length
	Peer   PeerID // whom it is for or from
	Path   Path   // where it goes to or came from
	Result Result // what became of it
	Reason DropReason
}

// A Path is a way to a peer.
type Path struct {
	tag       uint64
	remote    [16]byte
	source    [16]byte
	scope     uint32
	iface     uint32
	kind      uint32
	port      uint16
	hasSource uint16
}

// UDPPath is the path to this address. Zones that are not numbers are ignored.
func UDPPath(remote netip.AddrPort) Path {
	address := remote.Addr().Unmap()
	path := Path{port: remote.Port()}
	switch {
	case address.Is4():
		four := address.As4()
		copy(path.remote[:], four[:])
		path.kind = C.SPAN_PATH_KIND_UDP4
	case address.Is6():
		path.remote = address.As16()
		path.kind = C.SPAN_PATH_KIND_UDP6
		path.scope = zone(address.Zone())
	}
	return path
}

// CustomPath is a path over a transport of the caller's own, which knows it by this tag.
func CustomPath(tag uint64) Path {
	return Path{tag: tag, kind: C.SPAN_PATH_KIND_CUSTOM}
}

// From returns the path with the local address that datagrams came to.
func (p Path) From(source netip.Addr) Path {
	source = source.Unmap()
	if source.Is4() {
		four := source.As4()
		p.source = [16]byte{}
		copy(p.source[:], four[:])
	} else {
		p.source = source.As16()
	}
	p.hasSource = 1
	return p
}

// Remote returns the peer's address; the zero value of a path that has none.
func (p Path) Remote() netip.AddrPort {
	switch p.kind {
	case C.SPAN_PATH_KIND_UDP4, C.SPAN_PATH_KIND_UDP6:
		return netip.AddrPortFrom(p.address(p.remote), p.port)
	}
	return netip.AddrPort{}
}

// Source returns the local address that datagrams are to leave from; the zero value if that is open.
func (p Path) Source() netip.Addr {
	if p.hasSource == 0 {
		return netip.Addr{}
	}
	return p.address(p.source)
}

// Tag returns the caller's name for a path over a transport of its own.
func (p Path) Tag() (tag uint64, ok bool) {
	return p.tag, p.kind == C.SPAN_PATH_KIND_CUSTOM
}

func (p Path) address(bytes [16]byte) netip.Addr {
	if p.kind == C.SPAN_PATH_KIND_UDP4 {
		return netip.AddrFrom4([4]byte(bytes[:4]))
	}
	address := netip.AddrFrom16(bytes)
	if p.scope != 0 && bytes == p.remote {
		address = address.WithZone(number(p.scope))
	}
	return address
}

// DatagramLen returns the length of the datagram that a packet of this length becomes, in a tunnel with this MTU, 1420
// if it is 0. Packets laid exactly that far apart are sealed together, which is faster.
func DatagramLen(packet, mtu int) int {
	return int(C.span_datagram_len(C.size_t(packet), C.size_t(mtu)))
}

// A negative length does not compile: the layouts are the same.
var (
	_ [unsafe.Sizeof(Packet{}) - C.sizeof_span_packet]struct{}
	_ [C.sizeof_span_packet - unsafe.Sizeof(Packet{})]struct{}
	_ [unsafe.Sizeof(Path{}) - C.sizeof_span_path]struct{}
	_ [C.sizeof_span_path - unsafe.Sizeof(Path{})]struct{}
	_ [unsafe.Offsetof(Packet{}.Result) - unsafe.Offsetof(C.span_packet{}.result)]struct{}
	_ [unsafe.Offsetof(C.span_packet{}.path) - unsafe.Offsetof(Packet{}.Path)]struct{}
	_ [unsafe.Offsetof(Path{}.port) - unsafe.Offsetof(C.span_path{}.port)]struct{}
	_ [unsafe.Offsetof(C.span_path{}.scope_id) - unsafe.Offsetof(Path{}.scope)]struct{}
)

func zone(name string) uint32 {
	scope, _ := strconv.ParseUint(name, 10, 32)
	return uint32(scope)
}

func number(scope uint32) string {
	return strconv.FormatUint(uint64(scope), 10)
}
