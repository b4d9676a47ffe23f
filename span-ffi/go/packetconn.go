package span

/*
#include <span.h>
*/
import "C"

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// ListenPacket takes datagrams of the mesh. The network is udp, udp4 or udp6; ":53" is port 53 of all addresses of the
// node, port 0 a free one. It returns a [*PacketConn].
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	local, err := n.resolve(context.Background(), "udp", network, address)
	if err == nil {
		var conn *PacketConn
		if conn, err = n.listenPacket(local); err == nil {
			return conn, nil
		}
	}
	return nil, &net.OpError{Op: "listen", Net: network, Err: asNet(err)}
}

func (n *Node) listenPacket(local netip.AddrPort) (*PacketConn, error) {
	endpoint := cEndpoint(local)
	conn := new(PacketConn)
	err := n.with(func(handle *C.span_node) C.span_status {
		return C.span_node_datagrams(handle, &endpoint, &conn.handle)
	})
	if err != nil {
		return nil, err
	}
	C.span_datagrams_local(conn.handle, &endpoint)
	conn.local = net.UDPAddrFromAddrPort(goEndpoint(endpoint))
	var receiving, sending C.int
	if err = result(C.span_datagrams_fd(conn.handle, &receiving)); err == nil {
		conn.receiving, err = newPollable(receiving)
	}
	if err == nil {
		err = result(C.span_datagrams_send_fd(conn.handle, &sending))
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

// A PacketConn is a [net.PacketConn] of the mesh, over UDP.
type PacketConn struct {
	mutex              sync.RWMutex
	handle             *C.span_datagrams
	receiving, sending *pollable
	local              *net.UDPAddr
}

func (c *PacketConn) with(call func(handle *C.span_datagrams) C.span_status) error {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	if c.handle == nil {
		return ErrClosed
	}
	return result(call(c.handle))
}

// ReadFrom receives one datagram, and waits for it. What does not fit is cut off. The address is a [*net.UDPAddr].
func (c *PacketConn) ReadFrom(bytes []byte) (int, net.Addr, error) {
	count, from, err := c.ReadFromAddrPort(bytes)
	if err != nil {
		return count, nil, err
	}
	return count, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromAddrPort is ReadFrom without making an address.
func (c *PacketConn) ReadFromAddrPort(bytes []byte) (int, netip.AddrPort, error) {
	var count C.size_t
	var from C.span_endpoint
	err := c.receiving.try(func() error {
		return c.with(func(handle *C.span_datagrams) C.span_status {
			return C.span_datagrams_receive(handle, cBytes(bytes), C.size_t(len(bytes)), &count, &from)
		})
	})
	if err != nil {
		return 0, netip.AddrPort{}, c.error("read", nil, err)
	}
	return int(count), goEndpoint(from), nil
}

// WriteTo sends one datagram to a [*net.UDPAddr].
func (c *PacketConn) WriteTo(bytes []byte, address net.Addr) (int, error) {
	udp, ok := address.(*net.UDPAddr)
	if !ok || udp == nil {
		return 0, c.error("write", address, syscall.EINVAL)
	}
	return c.WriteToAddrPort(bytes, udp.AddrPort())
}

// WriteToAddrPort is WriteTo without making an address.
func (c *PacketConn) WriteToAddrPort(bytes []byte, remote netip.AddrPort) (int, error) {
	endpoint := cEndpoint(remote)
	err := c.sending.try(func() error {
		return c.with(func(handle *C.span_datagrams) C.span_status {
			return C.span_datagrams_send(handle, cBytes(bytes), C.size_t(len(bytes)), &endpoint)
		})
	})
	if err != nil {
		return 0, c.error("write", net.UDPAddrFromAddrPort(remote), err)
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
		return c.error("close", nil, ErrClosed)
	}
	// Without the lock: whoever waits comes back, and may want it.
	return errors.Join(c.receiving.close(), c.sending.close())
}

// LocalAddr returns where it is bound, a [*net.UDPAddr].
func (c *PacketConn) LocalAddr() net.Addr { return c.local }

// SetDeadline sets when reading and writing give up.
func (c *PacketConn) SetDeadline(t time.Time) error { return c.set(t, c.receiving, c.sending) }

// SetReadDeadline sets when reading gives up.
func (c *PacketConn) SetReadDeadline(t time.Time) error { return c.set(t, c.receiving) }

// SetWriteDeadline sets when writing gives up.
func (c *PacketConn) SetWriteDeadline(t time.Time) error { return c.set(t, c.sending) }

func (c *PacketConn) set(t time.Time, which ...*pollable) error {
	for _, pollable := range which {
		if err := pollable.setDeadline(t); err != nil {
			return c.error("set", nil, err)
		}
	}
	return nil
}

func (c *PacketConn) error(op string, remote net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.local, Addr: remote, Err: asNet(err)}
}

func (n *Node) dialUDP(remote netip.AddrPort) (net.Conn, error) {
	local := netip.IPv6Unspecified()
	if remote.Addr().Is4() {
		local = netip.IPv4Unspecified()
	}
	socket, err := n.listenPacket(netip.AddrPortFrom(local, 0))
	if err != nil {
		return nil, err
	}
	return &udpConn{socket, remote}, nil
}

// A udpConn is a socket with one peer.
type udpConn struct {
	*PacketConn
	remote netip.AddrPort
}

// Read receives a datagram of the peer; those of others are dropped.
func (c *udpConn) Read(bytes []byte) (int, error) {
	for {
		count, from, err := c.ReadFromAddrPort(bytes)
		if err != nil || from == c.remote {
			return count, err
		}
	}
}

// Write sends a datagram to the peer.
func (c *udpConn) Write(bytes []byte) (int, error) { return c.WriteToAddrPort(bytes, c.remote) }

// RemoteAddr returns the peer's address.
func (c *udpConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.remote) }

// WriteTo is not for a socket with one peer, as in package net.
func (c *udpConn) WriteTo([]byte, net.Addr) (int, error) {
	return 0, c.error("write", c.RemoteAddr(), net.ErrWriteToConnected)
}
