package span

/*
#cgo noescape span_stream_read
#cgo nocallback span_stream_read
#cgo noescape span_stream_write
#cgo nocallback span_stream_write
#include <span.h>
*/
import "C"

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Dial connects to a program in the mesh. The network is tcp, tcp4, tcp6, udp, udp4 or udp6; the address has no names.
func (n *Node) Dial(network, address string) (net.Conn, error) {
	return n.DialContext(context.Background(), network, address)
}

// DialContext is Dial as long as the context lasts, fit for http.Transport.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := n.dial(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return conn, nil
}

func (n *Node) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasPrefix(network, "udp") {
		remote, err := resolve(network, address, "udp", "udp4", "udp6")
		if err != nil {
			return nil, err
		}
		local := "[::]:0"
		if remote.Addr().Unmap().Is4() {
			local = "0.0.0.0:0"
		}
		socket, err := n.listenPacket("udp", local)
		if err != nil {
			return nil, err
		}
		return &packetConn{socket, net.UDPAddrFromAddrPort(remote)}, nil
	}
	remote, err := resolve(network, address, "tcp", "tcp4", "tcp6")
	if err != nil {
		return nil, err
	}
	endpoint := cEndpoint(remote)
	var stream *C.span_stream
	err = n.with(func(handle *C.span_node) C.span_status {
		return C.span_node_connect(handle, &endpoint, &stream)
	})
	if err != nil {
		return nil, err
	}
	conn, err := newConn(stream)
	if err != nil {
		return nil, err
	}
	err = conn.writing.wait(ctx, func() error {
		return conn.with(func(handle *C.span_stream) C.span_status { return C.span_stream_connected(handle) })
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Listen takes connections of the mesh. The network is tcp, tcp4 or tcp6; ":80" is port 80 of all addresses of the
// node.
func (n *Node) Listen(network, address string) (net.Listener, error) {
	listener, err := n.listen(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return listener, nil
}

func (n *Node) listen(network, address string) (net.Listener, error) {
	local, err := resolve(network, address, "tcp", "tcp4", "tcp6")
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
	if err = status(C.span_listener_fd(listener.handle, &fd)); err == nil {
		listener.accepting, err = newPollable(fd)
	}
	if err != nil {
		C.span_listener_free(listener.handle)
		return nil, err
	}
	return listener, nil
}

// A Listener is a net.Listener of the mesh.
type Listener struct {
	mutex     sync.RWMutex
	handle    *C.span_listener
	accepting *pollable
	local     net.Addr
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	var stream *C.span_stream
	err := l.accepting.try(func() error {
		l.mutex.RLock()
		defer l.mutex.RUnlock()
		if l.handle == nil {
			return ErrClosed
		}
		return status(C.span_listener_accept(l.handle, &stream))
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

// Addr returns where it listens.
func (l *Listener) Addr() net.Addr { return l.local }

func (l *Listener) error(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.local, Err: asNet(err)}
}

// A Conn is a net.Conn of the mesh, over TCP.
type Conn struct {
	mutex            sync.RWMutex
	handle           *C.span_stream
	reading, writing *pollable
	local, remote    net.Addr
	// One writer at a time, so that what is written stays together.
	writer sync.Mutex
}

// newConn takes the stream over.
func newConn(stream *C.span_stream) (*Conn, error) {
	conn := &Conn{handle: stream}
	var endpoint C.span_endpoint
	C.span_stream_local(stream, &endpoint)
	conn.local = net.TCPAddrFromAddrPort(goEndpoint(endpoint))
	C.span_stream_remote(stream, &endpoint)
	conn.remote = net.TCPAddrFromAddrPort(goEndpoint(endpoint))
	var reading, writing C.int
	err := status(C.span_stream_read_fd(stream, &reading))
	if err == nil {
		conn.reading, err = newPollable(reading)
	}
	if err == nil {
		err = status(C.span_stream_write_fd(stream, &writing))
	}
	if err == nil {
		conn.writing, err = newPollable(writing)
	}
	if err != nil {
		if conn.reading != nil {
			conn.reading.close()
		}
		C.span_stream_free(stream)
		return nil, err
	}
	return conn, nil
}

func (c *Conn) with(call func(handle *C.span_stream) C.span_status) error {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	if c.handle == nil {
		return ErrClosed
	}
	return status(call(c.handle))
}

// Read reads what has arrived, and waits for it.
func (c *Conn) Read(bytes []byte) (int, error) {
	if len(bytes) == 0 {
		return 0, nil
	}
	var count C.size_t
	err := c.reading.try(func() error {
		return c.with(func(handle *C.span_stream) C.span_status {
			return C.span_stream_read(handle, cBytes(bytes), C.size_t(len(bytes)), &count)
		})
	})
	switch {
	case err != nil:
		return 0, c.error("read", err)
	case count == 0:
		return 0, io.EOF
	}
	return int(count), nil
}

// Write writes all of the bytes, and waits for room.
func (c *Conn) Write(bytes []byte) (int, error) {
	c.writer.Lock()
	defer c.writer.Unlock()
	done := 0
	for done < len(bytes) {
		var count C.size_t
		err := c.writing.try(func() error {
			return c.with(func(handle *C.span_stream) C.span_status {
				return C.span_stream_write(handle, cBytes(bytes[done:]), C.size_t(len(bytes)-done), &count)
			})
		})
		if err != nil {
			return done, c.error("write", err)
		}
		done += int(count)
	}
	return done, nil
}

// CloseWrite lets the peer read the end after what was written.
func (c *Conn) CloseWrite() error {
	return c.shutdown(C.SPAN_STREAM_END_WRITE)
}

// CloseRead drops what still arrives.
func (c *Conn) CloseRead() error {
	return c.shutdown(C.SPAN_STREAM_END_READ)
}

func (c *Conn) shutdown(end C.uint32_t) error {
	err := c.with(func(handle *C.span_stream) C.span_status { return C.span_stream_shutdown(handle, end) })
	if err != nil {
		return c.error("close", err)
	}
	return nil
}

// Close ends the connection. What was written still arrives.
func (c *Conn) Close() error {
	c.mutex.Lock()
	handle := c.handle
	c.handle = nil
	C.span_stream_free(handle)
	c.mutex.Unlock()
	if handle == nil {
		return c.error("close", ErrClosed)
	}
	// Without the lock: whoever waits comes back, and may want it.
	return errors.Join(c.reading.close(), c.writing.close())
}

// LocalAddr returns the address on this side.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets when reading and writing give up.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when reading gives up.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.reading.file.SetReadDeadline(t) }

// SetWriteDeadline sets when writing gives up. Its descriptor is one that becomes readable.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.writing.file.SetReadDeadline(t) }

func (c *Conn) error(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: asNet(err)}
}

// asNet makes an error that package net and its users know of ours.
func asNet(err error) error {
	switch {
	case errors.Is(err, ErrClosed):
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return err
}
