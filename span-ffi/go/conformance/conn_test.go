// Package conformance holds Span's connections against the tests that golang.org/x/net has for any net.Conn. It is a
// module of its own, so that package span depends on nothing.
package conformance

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"span/internal/meshtest"
)

func TestConn(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		client, server := meshtest.Conns(t, alice, bob)
		return client, server, func() {
			for _, conn := range []net.Conn{client, server} {
				if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
		}, nil
	})
}
