package span

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Lookup returns the addresses in the mesh of the node or peer of this name, in any case of letters: the one in the
// overlay first, then those it has besides. A name that two members give themselves leads nowhere. It asks no name
// server.
func (n *Node) Lookup(name string) ([]netip.Addr, error) {
	status, err := n.Status()
	if err != nil {
		return nil, err
	}
	if found := status.lookup(name); len(found) > 0 {
		return found, nil
	}
	return nil, &net.DNSError{Err: "no such member of the mesh, or several", Name: name, IsNotFound: true}
}

func (s *Status) lookup(name string) (found []netip.Addr) {
	name, members := strings.TrimSuffix(name, "."), 0
	if strings.EqualFold(s.Node.Name, name) {
		members++
		found = append(found, s.Node.Address)
	}
	for _, peer := range s.Peers {
		if !strings.EqualFold(peer.Name, name) {
			continue
		}
		members++
		// What it is reached at, not what it says.
		if slices.ContainsFunc(peer.AllowedIPs, func(prefix netip.Prefix) bool { return prefix.Contains(peer.Address) }) {
			found = append(found, peer.Address)
		}
		for _, prefix := range peer.AllowedIPs {
			if prefix.IsSingleIP() && !slices.Contains(found, prefix.Addr()) {
				found = append(found, prefix.Addr())
			}
		}
	}
	if members != 1 {
		return nil
	}
	return found
}

// resolve reads an address of the mesh, for a network of this kind, tcp or udp. Without a host it stands for all
// addresses of the node.
func (n *Node) resolve(ctx context.Context, kind, network, address string) (netip.AddrPort, error) {
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
		addresses = []netip.Addr{literal.Unmap()}
	} else if addresses, err = n.Lookup(host); err != nil {
		return netip.AddrPort{}, err
	}
	for _, found := range addresses {
		if family == "" || found.Is4() == (family == "4") {
			return netip.AddrPortFrom(found, uint16(port)), nil
		}
	}
	return netip.AddrPort{}, &net.AddrError{Err: "no suitable address", Addr: host}
}
