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
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Dial connects to a program in the mesh. The network is tcp, tcp4, tcp6, udp, udp4 or udp6.
func (n *Node) Dial(network, address string) (net.Conn, error) {
	return n.DialContext(context.Background(), network, address)
}

// DialContext is Dial as long as the context lasts, fit for http.Transport. Over TCP it returns a [*Conn].
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasPrefix(network, "udp") {
		remote, err := n.resolve(ctx, "udp", network, address)
		if err == nil {
			var conn net.Conn
			if conn, err = n.dialUDP(remote); err == nil {
				return conn, nil
			}
		}
		return nil, dialError(network, net.UDPAddrFromAddrPort(remote), err)
	}
	remote, err := n.resolve(ctx, "tcp", network, address)
	if err == nil {
		var conn net.Conn
		if conn, err = n.dialTCP(ctx, remote); err == nil {
			return conn, nil
		}
	}
	return nil, dialError(network, net.TCPAddrFromAddrPort(remote), err)
}

// dialError leaves out an address that was not found.
func dialError(network string, remote interface {
	net.Addr
	AddrPort() netip.AddrPort
}, err error) error {
	failed := &net.OpError{Op: "dial", Net: network, Err: asNet(err)}
	if remote.AddrPort().IsValid() {
		failed.Addr = remote
	}
	return failed
}

func (n *Node) dialTCP(ctx context.Context, remote netip.AddrPort) (net.Conn, error) {
	endpoint := cEndpoint(remote)
	var stream *C.span_stream
	err := n.with(func(handle *C.span_node) C.span_status {
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

// A Conn is a [net.Conn] of the mesh, over TCP.
type Conn struct {
	mutex            sync.RWMutex
	handle           *C.span_stream
	reading, writing *pollable
	local, remote    *net.TCPAddr
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
	err := result(C.span_stream_read_fd(stream, &reading))
	if err == nil {
		conn.reading, err = newPollable(reading)
	}
	if err == nil {
		err = result(C.span_stream_write_fd(stream, &writing))
	}
	if err == nil {
		conn.writing, err = newPollable(writing)
	}
	if err != nil {
		if conn.reading != nil {
			conn.reading.close()
		}
		C.span_stream_free(stream)
		if err == ErrFailed {
			// Nothing else can fail. A server that accepts goes on, because this one passes.
			err = syscall.EMFILE
		}
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
	return result(call(c.handle))
}

// Read reads what has arrived, and waits for it.
func (c *Conn) Read(bytes []byte) (int, error) {
	if len(bytes) == 0 {
		return 0, c.open("read")
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
	if len(bytes) == 0 {
		return 0, c.open("write")
	}
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

// open is for calls that have nothing to do.
func (c *Conn) open(op string) error {
	err := c.with(func(*C.span_stream) C.span_status { return C.SPAN_STATUS_OK })
	if err != nil {
		return c.error(op, err)
	}
	return nil
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

// LocalAddr returns the address on this side, a [*net.TCPAddr].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the peer's address, a [*net.TCPAddr].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets when reading and writing give up.
func (c *Conn) SetDeadline(t time.Time) error { return c.set(t, c.reading, c.writing) }

// SetReadDeadline sets when reading gives up.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.set(t, c.reading) }

// SetWriteDeadline sets when writing gives up.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.set(t, c.writing) }

func (c *Conn) set(t time.Time, which ...*pollable) error {
	for _, pollable := range which {
		if err := pollable.setDeadline(t); err != nil {
			return c.error("set", err)
		}
	}
	return nil
}

func (c *Conn) error(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: asNet(err)}
}
