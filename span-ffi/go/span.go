// Package span is Span for Go: WireGuard and encrypted meshes in user space.
//
// A [Node] is a member of a mesh. With [NodeConfig].Netstack it is a host of its own, without privileges or an
// interface of the machine's: [Node.Dial], [Node.Listen] and [Node.ListenPacket] are those of package net, inside the
// mesh, so that net/http and everything else works over them unchanged.
//
// A [Tunnel] is WireGuard alone, as a state machine without socket, goroutine or clock, for programs that move packets
// themselves.
//
// The package is a thin layer over libspan, which must be installed where pkg-config finds it. With the build tag
// span_static the library becomes part of the program. What is made is closed by hand: nothing of the library is freed
// by the garbage collector. No goroutine or thread waits for a connection; the runtime's own poller does.
package span

/*
#include <span.h>
*/
import "C"

import "fmt"

// Version returns the version of the library, such as "0.1.0".
func Version() string {
	return C.GoString(C.span_version())
}

func init() {
	if abi := uint32(C.span_abi_version()); abi != C.SPAN_ABI_VERSION {
		panic(fmt.Sprintf("span: built for version %d of libspan's interface, and found %d", C.SPAN_ABI_VERSION, abi))
	}
}
