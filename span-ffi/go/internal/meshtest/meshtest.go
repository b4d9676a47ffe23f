// Package meshtest starts meshes of two nodes in one process, without privileges, for tests.
package meshtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"span"
)

// Patience is how long anything may take on a busy machine.
const Patience = time.Minute

// Check fails the test for an error.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Pair starts two nodes, alice at 10.9.0.1 and bob at 10.9.0.2, and waits until they reach each other. Alice serves
// discovery. They end with the test.
func Pair(t testing.TB) (alice, bob *span.Node) {
	t.Helper()
	discovery, err := net.Listen("tcp", "127.0.0.1:0")
	Check(t, err)
	at := discovery.Addr().String()
	Check(t, discovery.Close())
	token, err := span.GenerateToken("http://" + at)
	Check(t, err)
	alice = start(t, token, "alice", "discovery:\n  serve: "+at+"\n", 1)
	bob = start(t, token, "bob", "", 2)
	WaitFor(t, alice, "bob", bob)
	WaitFor(t, bob, "alice", alice)
	return alice, bob
}

func start(t testing.TB, token, name, serve string, address int) *span.Node {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	Check(t, err)
	defer socket.Close()
	node, err := span.Start(context.Background(), span.NodeConfig{
		Configuration:   fmt.Sprintf("apiVersion: span/v1\nkind: NodeConfig\naddresses: [10.9.0.%d]\n%s", address, serve),
		Token:           token,
		Name:            name,
		Endpoints:       []netip.AddrPort{socket.LocalAddr().(*net.UDPAddr).AddrPort()},
		UDP4:            socket,
		Netstack:        true,
		Ephemeral:       true,
		NoControlSocket: true,
	})
	Check(t, err)
	t.Cleanup(func() {
		if err := node.Close(); err != nil && !errors.Is(err, span.ErrClosed) {
			t.Error(err)
		}
	})
	return node
}

// WaitFor waits until the tunnel to the member of this name works, which is that node.
func WaitFor(t testing.TB, node *span.Node, name string, member *span.Node) {
	t.Helper()
	address, err := member.Address()
	Check(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for event, err := range node.Events(ctx) {
		Check(t, err)
		if event.Kind == span.EventPeerUp && event.Name == name {
			if event.NodeID == "" || event.PublicKey.IsZero() || event.Address != address {
				t.Fatalf("%+v", event)
			}
			return
		}
	}
	t.Fatal("the node has stopped")
}

// Conns returns the two ends of a connection from one node to another.
func Conns(t testing.TB, from, to *span.Node) (client, server *span.Conn) {
	t.Helper()
	address, err := to.Address()
	Check(t, err)
	listener, err := to.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	Check(t, err)
	defer listener.Close()
	dialed, err := from.Dial("tcp", listener.Addr().String())
	Check(t, err)
	accepted, err := listener.Accept()
	Check(t, err)
	return dialed.(*span.Conn), accepted.(*span.Conn)
}
