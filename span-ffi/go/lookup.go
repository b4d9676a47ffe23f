package span

/*
#include <span.h>
#include <stdlib.h>
*/
import "C"

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"unsafe"
)

// Resolve returns the overlay address of the member of this name, this node included: its node name or full host name,
// in any case of letters, or its id. A name that two members give themselves leads nowhere. It asks no name server.
func (n *Node) Resolve(name string) (netip.Addr, error) {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	var endpoint C.span_endpoint
	err := n.with(func(handle *C.span_node) C.span_status {
		if strings.IndexByte(name, 0) >= 0 {
			return C.SPAN_STATUS_UNKNOWN_PEER // C would see the half of it
		}
		return C.span_node_resolve(handle, c, &endpoint)
	})
	if err == ErrUnknownPeer {
		return netip.Addr{}, &net.DNSError{Err: "no such member of the mesh, or several", Name: name, IsNotFound: true}
	}
	if err != nil {
		return netip.Addr{}, err
	}
	return goEndpoint(endpoint).Addr(), nil
}

// Lookup returns all addresses in the mesh of the member that Resolve finds: the one in the overlay first, then those that a
// peer has besides.
func (n *Node) Lookup(name string) ([]netip.Addr, error) {
	address, err := n.Resolve(name)
	if err != nil {
		return nil, err
	}
	status, err := n.Status()
	if err != nil {
		return nil, err
	}
	return status.addressesOf(address), nil
}

// lookup is Lookup for who wants an address of this family. That of the overlay, which is of IPv6, comes cheaper.
func (n *Node) lookup(name, family string) ([]netip.Addr, error) {
	if family == "4" {
		return n.Lookup(name)
	}
	address, err := n.Resolve(name)
	return []netip.Addr{address}, err
}

// addressesOf returns the addresses of whoever has this one, which comes first.
func (s *Status) addressesOf(overlay netip.Addr) []netip.Addr {
	found := []netip.Addr{overlay}
	for _, peer := range s.Peers {
		// What it is reached at, not what it says.
		if !slices.ContainsFunc(peer.AllowedIPs, func(prefix netip.Prefix) bool { return prefix.Contains(overlay) }) {
			continue
		}
		for _, prefix := range peer.AllowedIPs {
			if prefix.IsSingleIP() && prefix.Addr() != overlay {
				found = append(found, prefix.Addr())
			}
		}
	}
	return found
}

// resolve reads an address of the mesh, for a network of this kind, tcp or udp. Without a host it stands for all
// addresses of the node.
func (n *Node) resolve(ctx context.Context, kind, network, address string) (netip.AddrPort, error) {
	if err := ctx.Err(); err != nil {
		return netip.AddrPort{}, err
	}
	family, ok := strings.CutPrefix(network, kind)
	if !ok || family != "" && family != "4" && family != "6" {
		return netip.AddrPort{}, net.UnknownNetworkError(network)
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var addresses []netip.Addr
	if host == "" {
		addresses = []netip.Addr{netip.IPv6Unspecified()}
		if family == "4" {
			addresses[0] = netip.IPv4Unspecified()
		}
	} else if literal, err := netip.ParseAddr(host); err == nil {
		// There is one link, so that a zone means nothing.
		addresses = []netip.Addr{literal.Unmap().WithZone("")}
	} else if addresses, err = n.lookup(host, family); err != nil {
		return netip.AddrPort{}, err
	}
	for _, found := range addresses {
		if family == "" || found.Is4() == (family == "4") {
			return netip.AddrPortFrom(found, uint16(port)), nil
		}
	}
	return netip.AddrPort{}, &net.AddrError{Err: "no suitable address", Addr: host}
}
