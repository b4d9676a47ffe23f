package span

/*
#include <span.h>
#include <stdlib.h>
*/
import "C"

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// A Node is a member of a mesh: it finds the others and carries packets to them. With NodeConfig.Netstack it is a host
// of its own, and programs talk through it by Dial, Listen and ListenPacket.
//
// Its methods may be called by several goroutines at once. Its addresses are those of package net; the host of an
// address may be the name of a member, see Lookup.
type Node struct {
	mutex  sync.RWMutex
	handle *C.span_node
	events *pollable
	// Whoever waits for an event has put something in: they take turns.
	turn chan struct{}
}

// A NodeConfig is what a node is made from: a Configuration, a Token or both.
type NodeConfig struct {
	// Configuration is the text of a configuration file as span up takes it.
	Configuration string
	// Token is what span cluster new and GenerateToken make.
	Token string
	// Name is the node's short name; empty for the configured one.
	Name string
	// Endpoints are where others shall try to reach the node, besides those it finds out by itself.
	Endpoints []netip.AddrPort
	// Netstack makes the program itself the host: there is no interface, and no privileges are needed.
	Netstack bool
	// Tun is an open TUN device to use instead of a new one; the node takes a duplicate. Addresses and routes are the
	// caller's affair. Needs no privileges.
	Tun *os.File
	// UDP4 and UDP6 are bound sockets to use instead of new ones; the node takes duplicates.
	UDP4, UDP6 *net.UDPConn
	// Ephemeral keeps nothing on disk: the node is PrivateKey, or a new one if that is zero.
	Ephemeral  bool
	PrivateKey Key
	// NoControlSocket lets span status not ask this node.
	NoControlSocket bool
	// Events are kept until they are taken, that many; 1024 if 0.
	Events int
}

// GenerateToken makes the token of a new cluster, whose members find each other at these discovery services. Whoever has
// it can join.
func GenerateToken(services ...string) (string, error) {
	var urls string
	for _, service := range services {
		urls += service + " "
	}
	if strings.IndexByte(urls, 0) >= 0 {
		return "", ErrInvalid // C would see the half of it
	}
	c := C.CString(urls)
	defer C.free(unsafe.Pointer(c))
	for room := 1024; ; room *= 2 {
		text := make([]byte, room)
		var length C.size_t
		if err := result(C.span_token_generate(c, cChars(text), C.size_t(room), &length)); err != nil {
			return "", err
		}
		if int(length) < room {
			return string(text[:length]), nil
		}
	}
}

// Start makes and starts a node. It does not wait for other members; events tell of them. Close the node in the end.
// The context bounds the start alone.
func Start(ctx context.Context, config NodeConfig) (*Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	node, err := start(config)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, node.Close())
	}
	return node, nil
}

func start(config NodeConfig) (*Node, error) {
	c := (*C.span_node_config)(C.calloc(1, C.sizeof_span_node_config))
	defer C.free(unsafe.Pointer(c))
	c.size = C.sizeof_span_node_config
	for text, place := range map[*string]**C.char{
		&config.Configuration: &c.configuration, &config.Token: &c.token, &config.Name: &c.name,
	} {
		if strings.IndexByte(*text, 0) >= 0 {
			return nil, ErrInvalid // C would see the half of it
		}
		if *text != "" {
			*place = C.CString(*text)
			defer C.free(unsafe.Pointer(*place))
		}
	}
	if len(config.Endpoints) > 0 {
		size := C.size_t(len(config.Endpoints)) * C.sizeof_span_endpoint
		endpoints := C.malloc(size)
		defer C.free(endpoints)
		for i, endpoint := range config.Endpoints {
			unsafe.Slice((*C.span_endpoint)(endpoints), len(config.Endpoints))[i] = cEndpoint(endpoint)
		}
		c.endpoints = (*C.span_endpoint)(endpoints)
		c.endpoints_count = C.size_t(len(config.Endpoints))
	}
	for flag, set := range map[C.uint32_t]bool{
		C.SPAN_NODE_FLAG_NETSTACK:          config.Netstack,
		C.SPAN_NODE_FLAG_EPHEMERAL:         config.Ephemeral,
		C.SPAN_NODE_FLAG_NO_CONTROL_SOCKET: config.NoControlSocket,
	} {
		if set {
			c.flags |= flag
		}
	}
	if config.Events < 0 || config.Events > math.MaxInt32 {
		return nil, ErrInvalid
	}
	c.events = C.uint32_t(config.Events)
	c.private_key = *config.PrivateKey.c()

	node := &Node{turn: make(chan struct{}, 1)}
	create := func() error {
		why := make([]byte, 1024)
		explain := func(code C.span_status) error {
			err := result(code)
			if err != nil && why[0] != 0 {
				return &ConfigError{err.(Error), C.GoString(cChars(why))}
			}
			return err
		}
		if err := explain(C.span_node_new(c, cChars(why), C.size_t(len(why)), &node.handle)); err != nil {
			return err
		}
		if err := explain(C.span_node_start(node.handle, cChars(why), C.size_t(len(why)))); err != nil {
			C.span_node_free(node.handle)
			return err
		}
		return nil
	}
	// Descriptors stay open while they are looked at.
	for _, brought := range []struct {
		given bool
		from  syscall.Conn
		flag  C.uint32_t
		place *C.int
	}{
		{config.UDP4 != nil, config.UDP4, C.SPAN_NODE_FLAG_UDP4_FD, &c.udp4_fd},
		{config.UDP6 != nil, config.UDP6, C.SPAN_NODE_FLAG_UDP6_FD, &c.udp6_fd},
		{config.Tun != nil, config.Tun, C.SPAN_NODE_FLAG_TUN_FD, &c.tun_fd},
	} {
		if !brought.given {
			continue
		}
		c.flags |= brought.flag
		inner := create
		create = func() (err error) {
			raw, err := brought.from.SyscallConn()
			if err != nil {
				return err
			}
			controlled := raw.Control(func(fd uintptr) {
				*brought.place = C.int(fd)
				err = inner()
			})
			return errors.Join(controlled, err)
		}
	}
	if err := create(); err != nil {
		return nil, err
	}
	var fd C.int
	err := result(C.span_node_event_fd(node.handle, &fd))
	if err == nil {
		node.events, err = newPollable(fd)
	}
	if err != nil {
		C.span_node_free(node.handle)
		return nil, err
	}
	return node, nil
}

// Close stops the node, ends its connections and frees it. Every later call returns ErrClosed.
func (n *Node) Close() error {
	n.mutex.RLock()
	if n.handle == nil {
		n.mutex.RUnlock()
		return ErrClosed
	}
	// Lets calls that wait come back.
	C.span_node_stop(n.handle)
	n.mutex.RUnlock()
	n.mutex.Lock()
	handle := n.handle
	n.handle = nil
	C.span_node_free(handle)
	n.mutex.Unlock()
	if handle == nil {
		return ErrClosed
	}
	// Without the lock: whoever waits comes back, and may want it.
	return n.events.close()
}

// with runs a call of the library, and several at once.
func (n *Node) with(call func(handle *C.span_node) C.span_status) error {
	n.mutex.RLock()
	defer n.mutex.RUnlock()
	if n.handle == nil {
		return ErrClosed
	}
	return result(call(n.handle))
}

// Address returns the node's address in the mesh.
func (n *Node) Address() (netip.Addr, error) {
	var c C.span_endpoint
	err := n.with(func(handle *C.span_node) C.span_status { return C.span_node_address(handle, &c) })
	if err != nil {
		return netip.Addr{}, err
	}
	return goEndpoint(c).Addr(), nil
}

func cChars(text []byte) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(text)))
}

func cEndpoint(endpoint netip.AddrPort) C.span_endpoint {
	c := C.span_endpoint{port: C.uint16_t(endpoint.Port())}
	address := endpoint.Addr().Unmap()
	bytes := address.AsSlice()
	for i, b := range bytes {
		c.address[i] = C.uint8_t(b)
	}
	switch len(bytes) {
	case 4:
		c.family = 4
	case 16:
		c.family = 6
	}
	return c
}

func goEndpoint(c C.span_endpoint) netip.AddrPort {
	bytes := *(*[16]byte)(unsafe.Pointer(&c.address))
	if c.family == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(bytes[:4])), uint16(c.port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(bytes), uint16(c.port))
}
