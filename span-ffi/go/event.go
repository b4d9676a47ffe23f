package span

/*
#include <span.h>
*/
import "C"

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"strconv"
	"unsafe"
)

// An EventKind says what happened to a node.
type EventKind uint32

// What can happen to a node. More may come: ignore what you do not know.
const (
	EventMemberJoined  EventKind = C.SPAN_NODE_EVENT_KIND_MEMBER_JOINED  // a node of the cluster became known
	EventMemberLeft    EventKind = C.SPAN_NODE_EVENT_KIND_MEMBER_LEFT    // nobody knows the node any more
	EventPeerAdded     EventKind = C.SPAN_NODE_EVENT_KIND_PEER_ADDED     // a tunnel to a member is tried
	EventPeerRemoved   EventKind = C.SPAN_NODE_EVENT_KIND_PEER_REMOVED   // a member is no peer any more
	EventPeerUp        EventKind = C.SPAN_NODE_EVENT_KIND_PEER_UP        // the tunnel to a peer works
	EventPeerDown      EventKind = C.SPAN_NODE_EVENT_KIND_PEER_DOWN      // a peer does not answer
	EventPathChanged   EventKind = C.SPAN_NODE_EVENT_KIND_PATH_CHANGED   // datagrams to a peer go to Path
	EventDiscoveryUp   EventKind = C.SPAN_NODE_EVENT_KIND_DISCOVERY_UP   // a source of members works
	EventDiscoveryDown EventKind = C.SPAN_NODE_EVENT_KIND_DISCOVERY_DOWN // a source of members does not, for Reason
	EventOverflow      EventKind = C.SPAN_NODE_EVENT_KIND_OVERFLOW       // Lost events before the next were lost
	EventStopped       EventKind = C.SPAN_NODE_EVENT_KIND_STOPPED        // the node has ended, for Reason; the last event
)

var eventNames = map[EventKind]string{
	EventMemberJoined:  "member joined",
	EventMemberLeft:    "member left",
	EventPeerAdded:     "peer added",
	EventPeerRemoved:   "peer removed",
	EventPeerUp:        "peer up",
	EventPeerDown:      "peer down",
	EventPathChanged:   "path changed",
	EventDiscoveryUp:   "discovery up",
	EventDiscoveryDown: "discovery down",
	EventOverflow:      "overflow",
	EventStopped:       "stopped",
}

// String returns what happened in words, such as "peer up".
func (k EventKind) String() string {
	if name, ok := eventNames[k]; ok {
		return name
	}
	return "event " + strconv.FormatUint(uint64(k), 10)
}

// An Event is something that happened to a node. Fields that its kind does not need are zero.
type Event struct {
	Kind EventKind
	// Name is that of the member or peer, or the source of members.
	Name string
	// NodeID is the member's id in discovery.
	NodeID    string
	PublicKey Key
	// Address is that of the peer in the overlay; the zero value if it has none.
	Address netip.Addr
	Path    Path
	Reason  string
	Lost    uint64
}

// Events returns the events of the node as they happen, until it has stopped or the context is done; the latter, and
// whatever else ends them early, is the last value's error. All takers take from one queue: each event is seen once.
//
//	for event, err := range node.Events(ctx) {
func (n *Node) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			event, err := n.NextEvent(ctx)
			if errors.Is(err, ErrStopped) || err == nil && !yield(event, nil) {
				return
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// NextEvent returns the next event, and waits for it as long as the context lasts. After EventStopped it returns
// ErrStopped.
func (n *Node) NextEvent(ctx context.Context) (Event, error) {
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
	var c C.span_node_event
	err := n.events.wait(ctx, func() error {
		c.size = C.sizeof_span_node_event
		err := n.with(func(handle *C.span_node) C.span_status { return C.span_node_poll_event(handle, &c) })
		if err == nil && c.kind == C.SPAN_NODE_EVENT_KIND_NONE {
			return ErrAgain
		}
		return err
	})
	if err != nil {
		return Event{}, err
	}
	var address netip.Addr
	if c.address.family != 0 {
		address = goEndpoint(c.address).Addr()
	}
	return Event{
		Kind:      EventKind(c.kind),
		Name:      C.GoString(&c.name[0]),
		NodeID:    C.GoString(&c.node_id[0]),
		PublicKey: *(*Key)(unsafe.Pointer(&c.public_key)),
		Address:   address,
		Path:      *(*Path)(unsafe.Pointer(&c.path)),
		Reason:    C.GoString(&c.reason[0]),
		Lost:      uint64(c.lost),
	}, nil
}
