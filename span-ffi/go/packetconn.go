package span

/*
#include <span.h>
*/
import "C"

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ListenPacket takes datagrams of the mesh. The network is udp, udp4 or udp6.
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	conn, err := n.listenPacket(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return conn, nil
}

func (n *Node) listenPacket(network, address string) (*PacketConn, error) {
	local, err := resolve(network, address, "udp", "udp4", "udp6")
	if err != nil {
		return nil, err
	}
	endpoint := cEndpoint(local)
	conn := new(PacketConn)
	err = n.with(func(handle *C.span_node) C.span_status {
		return C.span_node_datagrams(handle, &endpoint, &conn.handle)
	})
	if err != nil {
		return nil, err
	}
	C.span_datagrams_local(conn.handle, &endpoint)
	conn.local = net.UDPAddrFromAddrPort(goEndpoint(endpoint))
	var receiving, sending C.int
	if err = status(C.span_datagrams_fd(conn.handle, &receiving)); err == nil {
		conn.receiving, err = newPollable(receiving)
	}
	if err == nil {
		err = status(C.span_datagrams_send_fd(conn.handle, &sending))
	}
	if err == nil {
		conn.sending, err = newPollable(sending)
	}
	if err != nil {
		if conn.receiving != nil {
			conn.receiving.close()
		}
		C.span_datagrams_free(conn.handle)
		return nil, err
	}
	return conn, nil
}

// A PacketConn is a net.PacketConn of the mesh, over UDP.
type PacketConn struct {
	mutex              sync.RWMutex
	handle             *C.span_datagrams
	receiving, sending *pollable
	local              net.Addr
}

func (c *PacketConn) with(call func(handle *C.span_datagrams) C.span_status) error {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	if c.handle == nil {
		return ErrClosed
	}
	return status(call(c.handle))
}

// ReadFrom receives one datagram, and waits for it. What does not fit is cut off.
func (c *PacketConn) ReadFrom(bytes []byte) (int, net.Addr, error) {
	var count C.size_t
	var from C.span_endpoint
	err := c.receiving.try(func() error {
		return c.with(func(handle *C.span_datagrams) C.span_status {
			return C.span_datagrams_receive(handle, cBytes(bytes), C.size_t(len(bytes)), &count, &from)
		})
	})
	if err != nil {
		return 0, nil, c.error("read", err)
	}
	return int(count), net.UDPAddrFromAddrPort(goEndpoint(from)), nil
}

// WriteTo sends one datagram.
func (c *PacketConn) WriteTo(bytes []byte, address net.Addr) (int, error) {
	var remote netip.AddrPort
	if udp, ok := address.(*net.UDPAddr); ok {
		remote = udp.AddrPort()
	}
	endpoint := cEndpoint(remote)
	err := c.sending.try(func() error {
		return c.with(func(handle *C.span_datagrams) C.span_status {
			return C.span_datagrams_send(handle, cBytes(bytes), C.size_t(len(bytes)), &endpoint)
		})
	})
	if err != nil {
		return 0, c.error("write", err)
	}
	return len(bytes), nil
}

// Close ends the socket.
func (c *PacketConn) Close() error {
	c.mutex.Lock()
	handle := c.handle
	c.handle = nil
	C.span_datagrams_free(handle)
	c.mutex.Unlock()
	if handle == nil {
		return c.error("close", ErrClosed)
	}
	// Without the lock: whoever waits comes back, and may want it.
	return errors.Join(c.receiving.close(), c.sending.close())
}

// LocalAddr returns where it is bound.
func (c *PacketConn) LocalAddr() net.Addr { return c.local }

// SetDeadline sets when reading and writing give up.
func (c *PacketConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when reading gives up.
func (c *PacketConn) SetReadDeadline(t time.Time) error { return c.receiving.file.SetReadDeadline(t) }

// SetWriteDeadline sets when writing gives up. Its descriptor is one that becomes readable.
func (c *PacketConn) SetWriteDeadline(t time.Time) error { return c.sending.file.SetReadDeadline(t) }

func (c *PacketConn) error(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: c.local, Err: asNet(err)}
}

// packetConn is a socket with one peer.
type packetConn struct {
	*PacketConn
	remote *net.UDPAddr
}

// Read receives a datagram of the peer; those of others are dropped.
func (c *packetConn) Read(bytes []byte) (int, error) {
	for {
		count, from, err := c.ReadFrom(bytes)
		if err != nil || from.(*net.UDPAddr).AddrPort() == c.remote.AddrPort() {
			return count, err
		}
	}
}

// Write sends a datagram to the peer.
func (c *packetConn) Write(bytes []byte) (int, error) { return c.WriteTo(bytes, c.remote) }

// RemoteAddr returns the peer's address.
func (c *packetConn) RemoteAddr() net.Addr { return c.remote }
