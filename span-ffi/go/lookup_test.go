package span

import (
	"net/netip"
	"slices"
	"testing"
)

func TestNamesLeadToOneMember(t *testing.T) {
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
		Node: NodeStatus{Name: "alice", Address: netip.MustParseAddr("fd00::1")},
		Peers: []PeerStatus{
			{Name: "bob", Address: netip.MustParseAddr("fd00::2"), AllowedIPs: prefixes("10.0.0.2/32", "192.0.2.0/24", "fd00::2/128")},
			{Name: "twin", Address: netip.MustParseAddr("fd00::3"), AllowedIPs: prefixes("fd00::3/128")},
			{Name: "Twin", Address: netip.MustParseAddr("fd00::4"), AllowedIPs: prefixes("fd00::4/128")},
			{Name: "thief", Address: netip.MustParseAddr("fd00::2"), AllowedIPs: prefixes("fd00::5/128")},
			{Name: "nobody"},
		},
	}
	for name, want := range map[string][]netip.Addr{
		"alice":  addresses("fd00::1"),
		"BOB":    addresses("fd00::2", "10.0.0.2"),
		"bob.":   addresses("fd00::2", "10.0.0.2"),
		"twin":   nil,
		"thief":  addresses("fd00::5"),
		"nobody": nil,
		"carol":  nil,
	} {
		if found := status.lookup(name); !slices.Equal(found, want) {
			t.Errorf("%s: %v", name, found)
		}
	}
}
