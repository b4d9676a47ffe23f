package span

import (
	"net/netip"
	"slices"
	"testing"
)

func TestAddressesAreThoseOfOneMember(t *testing.T) {
	addresses := func(texts ...string) (found []netip.Addr) {
		for _, text := range texts {
			found = append(found, netip.MustParseAddr(text))
		}
		return found
	}
	prefixes := func(texts ...string) (found []netip.Prefix) {
		for _, text := range texts {
			found = append(found, netip.MustParsePrefix(text))
		}
		return found
	}
	status := Status{
		Node: NodeStatus{Address: netip.MustParseAddr("fd00::1")},
		Peers: []PeerStatus{
			{Address: netip.MustParseAddr("fd00::2"), AllowedIPs: prefixes("10.0.0.2/32", "192.0.2.0/24", "fd00::2/128")},
			{Address: netip.MustParseAddr("fd00::2"), AllowedIPs: prefixes("10.0.0.3/32", "fd00::3/128")}, // a thief
			{},
		},
	}
	for of, want := range map[string][]netip.Addr{
		"fd00::1": addresses("fd00::1"),
		"fd00::2": addresses("fd00::2", "10.0.0.2"),
		"fd00::4": addresses("fd00::4"), // somebody who has just gone
	} {
		if found := status.addressesOf(netip.MustParseAddr(of)); !slices.Equal(found, want) {
			t.Errorf("%s: %v", of, found)
		}
	}
}
