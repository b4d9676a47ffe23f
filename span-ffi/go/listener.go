package span

/*
#include <span.h>
*/
import "C"

import (
	"context"
	"net"
	"sync"
	"time"
)

// Listen takes connections of the mesh. The network is tcp, tcp4 or tcp6; ":80" is port 80 of all addresses of the
// node, port 0 a free one. It returns a [*Listener].
func (n *Node) Listen(network, address string) (net.Listener, error) {
	listener, err := n.listen(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: asNet(err)}
	}
	return listener, nil
}

func (n *Node) listen(network, address string) (*Listener, error) {
	local, err := n.resolve(context.Background(), "tcp", network, address)
	if err != nil {
		return nil, err
	}
	endpoint := cEndpoint(local)
	listener := new(Listener)
	err = n.with(func(handle *C.span_node) C.span_status {
		return C.span_node_listen(handle, &endpoint, 0, &listener.handle)
	})
	if err != nil {
		return nil, err
	}
	var fd C.int
	C.span_listener_local(listener.handle, &endpoint)
	listener.local = net.TCPAddrFromAddrPort(goEndpoint(endpoint))
	if err = result(C.span_listener_fd(listener.handle, &fd)); err == nil {
		listener.accepting, err = newPollable(fd)
	}
	if err != nil {
		C.span_listener_free(listener.handle)
		return nil, err
	}
	return listener, nil
}

// A Listener is a [net.Listener] of the mesh.
type Listener struct {
	mutex     sync.RWMutex
	handle    *C.span_listener
	accepting *pollable
	local     *net.TCPAddr
}

// Accept waits for the next connection, which is a [*Conn].
func (l *Listener) Accept() (net.Conn, error) {
	var stream *C.span_stream
	err := l.accepting.try(func() error {
		l.mutex.RLock()
		defer l.mutex.RUnlock()
		if l.handle == nil {
			return ErrClosed
		}
		return result(C.span_listener_accept(l.handle, &stream))
	})
	if err == nil {
		var conn *Conn
		if conn, err = newConn(stream); err == nil {
			return conn, nil
		}
	}
	return nil, l.error("accept", err)
}

// Close ends listening. Connections that wait to be accepted are reset.
func (l *Listener) Close() error {
	l.mutex.Lock()
	handle := l.handle
	l.handle = nil
	C.span_listener_free(handle)
	l.mutex.Unlock()
	if handle == nil {
		return l.error("close", ErrClosed)
	}
	// Without the lock: whoever waits comes back, and may want it.
	return l.accepting.close()
}

// Addr returns where it listens, a [*net.TCPAddr].
func (l *Listener) Addr() net.Addr { return l.local }

// SetDeadline sets when Accept gives up.
func (l *Listener) SetDeadline(t time.Time) error {
	if err := l.accepting.setDeadline(t); err != nil {
		return l.error("set", err)
	}
	return nil
}

func (l *Listener) error(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.local, Err: asNet(err)}
}
