package span

/*
#include <span.h>
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// A Status is how a node, its sources of members and its peers are doing. StatusJSON has more.
type Status struct {
	Node      NodeStatus
	Discovery []DiscoveryStatus
	Peers     []PeerStatus
}

// A NodeStatus is the node itself.
type NodeStatus struct {
	// Version is that of Span.
	Version   string
	Name      string
	NodeID    string
	ClusterID string
	PublicKey Key
	// Address is its address in the mesh.
	Address    netip.Addr
	MTU        int
	ListenPort uint16
	// Endpoints are where it tells the others to reach it.
	Endpoints []netip.AddrPort
	// NAT is what kind of NAT it is behind, in a word; empty while that is not known.
	NAT    string
	Uptime time.Duration
	// Dropped counts datagrams and packets by the reason for which they were dropped.
	Dropped map[string]uint64
}

// A DiscoveryStatus is a source of members.
type DiscoveryStatus struct {
	// Name is a service's URL, a file's path.
	Name string
	// State is "connecting", "connected" or "disconnected".
	State string
	// LastError is what went wrong last, also if it works again.
	LastError string
	// Members is how many other members it knows.
	Members int
}

// A PeerStatus is another node.
type PeerStatus struct {
	Name string
	// NodeID is empty for a peer that discovery does not know.
	NodeID    string
	PublicKey Key
	// Address is its address in the mesh; the zero value if it published none.
	Address netip.Addr
	// State is "up", "down" or "unknown".
	State string
	// Path is where its datagrams go; empty if there is none.
	Path string
	// Cipher is what the session is encrypted with; empty without a session.
	Cipher string
	// LastHandshake and LastHeard are zero if there was nothing.
	LastHandshake, LastHeard time.Time
	// RTT is the time to it and back; 0 if it was not measured.
	RTT              time.Duration
	RxBytes, TxBytes uint64
	// AllowedIPs are routed to it and accepted from it.
	AllowedIPs []netip.Prefix
}

// StatusJSON returns the status as span status --json prints it.
func (n *Node) StatusJSON() (json.RawMessage, error) {
	for room := 4096; ; room *= 2 {
		text := make([]byte, room)
		var length C.size_t
		err := n.with(func(handle *C.span_node) C.span_status {
			return C.span_node_status(handle, cChars(text), C.size_t(len(text)), &length)
		})
		if err != nil {
			return nil, err
		}
		if int(length) < room {
			return text[:length], nil
		}
	}
}

// Status returns how the node, its sources of members and its peers are doing.
func (n *Node) Status() (Status, error) {
	text, err := n.StatusJSON()
	if err != nil {
		return Status{}, err
	}
	return parseStatus(text, time.Now())
}

// parseStatus reads what StatusJSON returned at a time.
func parseStatus(text []byte, now time.Time) (Status, error) {
	var from struct {
		Node struct {
			Version        string
			Name           string
			NodeID         string     `json:"node_id"`
			ClusterID      string     `json:"cluster_id"`
			PublicKey      Key        `json:"public_key"`
			OverlayAddress netip.Addr `json:"overlay_address"`
			MTUBytes       int        `json:"mtu_bytes"`
			ListenPort     uint16     `json:"listen_port"`
			Endpoints      []netip.AddrPort
			NAT            string
			UptimeSeconds  float64           `json:"uptime_seconds"`
			DroppedPackets map[string]uint64 `json:"dropped_packets"`
		}
		Discovery []struct {
			Name      string
			State     string
			LastError string `json:"last_error"`
			Members   int
		}
		Peers []struct {
			Name                    string
			NodeID                  string     `json:"node_id"`
			PublicKey               Key        `json:"public_key"`
			OverlayAddress          netip.Addr `json:"overlay_address"`
			State                   string
			Path                    string
			Cipher                  string
			LastHandshakeSecondsAgo *float64       `json:"last_handshake_seconds_ago"`
			LastHeardSecondsAgo     *float64       `json:"last_heard_seconds_ago"`
			RTTMilliseconds         float64        `json:"rtt_ms"`
			RxBytes                 uint64         `json:"rx_bytes"`
			TxBytes                 uint64         `json:"tx_bytes"`
			AllowedIPs              []netip.Prefix `json:"allowed_ips"`
		}
	}
	if err := json.Unmarshal(text, &from); err != nil {
		return Status{}, fmt.Errorf("span: status: %w", err)
	}
	ago := func(ago *float64) time.Time {
		if ago == nil {
			return time.Time{}
		}
		return now.Add(-time.Duration(*ago * float64(time.Second)))
	}
	node := from.Node
	status := Status{
		Node: NodeStatus{
			node.Version, node.Name, node.NodeID, node.ClusterID, node.PublicKey, node.OverlayAddress, node.MTUBytes,
			node.ListenPort, node.Endpoints, node.NAT, time.Duration(node.UptimeSeconds * float64(time.Second)),
			node.DroppedPackets,
		},
		Discovery: make([]DiscoveryStatus, len(from.Discovery)),
		Peers:     make([]PeerStatus, len(from.Peers)),
	}
	for i, tier := range from.Discovery {
		status.Discovery[i] = DiscoveryStatus(tier)
	}
	for i, peer := range from.Peers {
		status.Peers[i] = PeerStatus{
			Name:          peer.Name,
			NodeID:        peer.NodeID,
			PublicKey:     peer.PublicKey,
			Address:       peer.OverlayAddress,
			State:         peer.State,
			Path:          peer.Path,
			Cipher:        peer.Cipher,
			LastHandshake: ago(peer.LastHandshakeSecondsAgo),
			LastHeard:     ago(peer.LastHeardSecondsAgo),
			RTT:           time.Duration(peer.RTTMilliseconds * float64(time.Millisecond)),
			RxBytes:       peer.RxBytes,
			TxBytes:       peer.TxBytes,
			AllowedIPs:    peer.AllowedIPs,
		}
	}
	return status, nil
}
