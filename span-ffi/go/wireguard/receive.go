package wireguard

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"span"
)

// Attempts to receive that fail for no clear reason, and how long the next is put off.
const (
	patience = 10
	pause    = time.Second / 3
)

// receive opens what one function of the bind receives and writes it to the tun, until the bind is closed.
func (d *Device) receive(function conn.ReceiveFunc) {
	defer d.receiving.Done()
	var (
		batch     = d.bind.BatchSize()
		memory    = make([]byte, batch*maxDatagram)
		buffers   = make([][]byte, batch)
		sizes     = make([]int, batch)
		endpoints = make([]conn.Endpoint, batch)
		opening   = opener{memory: memory, datagrams: make([]span.Packet, 0, batch), from: make([]conn.Endpoint, 0, batch)}
		failures  = 0
	)
	for i := range buffers {
		buffers[i] = memory[i*maxDatagram:][:maxDatagram:maxDatagram]
	}
	for {
		count, err := function(buffers, sizes, endpoints)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !d.up.Load() {
				return
			}
			d.log.Verbosef("Failed to receive: %v", err)
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && !temporary.Temporary() || failures == patience {
				d.log.Errorf("Receiving no more: %v", err)
				return
			}
			failures++
			time.Sleep(pause)
			continue
		}
		failures = 0
		opening.datagrams, opening.from = opening.datagrams[:0], opening.from[:0]
		for i, size := range sizes[:count] {
			if size > 0 {
				path := opening.path(&d.peers, endpoints[i])
				opening.datagrams = append(opening.datagrams, span.Packet{At: uint32(i * maxDatagram), Len: uint32(size), Path: path})
				opening.from = append(opening.from, endpoints[i])
			}
		}
		if len(opening.datagrams) > 0 {
			d.take(&opening)
		}
	}
}

// take opens a batch and writes its packets to the tun.
func (d *Device) take(o *opener) {
	if _, err := d.tunnel.Open(d.clock.now(), o.memory, o.datagrams); err != nil {
		d.unexpected("Open", err)
		return
	}
	o.packets = o.packets[:0]
	var heard span.PeerID
	for i := range o.datagrams {
		it := &o.datagrams[i]
		switch it.Result {
		case span.ResultPacket:
			// What the tun does with the room around a packet is its affair: each has its own.
			slot := it.At / maxDatagram * maxDatagram
			o.packets = append(o.packets, o.memory[it.At-span.Headroom:it.At+it.Len:slot+maxDatagram])
			fallthrough
		case span.ResultKeepalive:
			if it.Peer != heard {
				d.peers.heard(it.Peer, it.Path, o.from[i])
				heard = it.Peer
			}
		case span.ResultHandshake:
			d.peers.asked(it.Path, o.from[i])
		case span.ResultDropped:
			d.log.Verbosef("Dropped a datagram from %s: %s", o.from[i].DstToString(), it.Reason)
		}
	}
	if len(o.packets) > 0 {
		if _, err := d.tun.Write(o.packets, span.Headroom); err != nil && !errors.Is(err, os.ErrClosed) {
			d.log.Errorf("Failed to write packets to TUN device: %v", err)
		}
	}
	d.rearm()
}

// An opener is what receiving needs, for one goroutine.
type opener struct {
	memory    []byte
	datagrams []span.Packet
	from      []conn.Endpoint
	packets   [][]byte
	// The endpoint last asked about: mostly the next is the same.
	last     conn.Endpoint
	lastPath span.Path
}

func (o *opener) path(peers *endpoints, endpoint conn.Endpoint) span.Path {
	if std, ok := endpoint.(*conn.StdNetEndpoint); ok && o.last != nil {
		if last, ok := o.last.(*conn.StdNetEndpoint); ok && last.AddrPort == std.AddrPort {
			return o.lastPath
		}
	}
	o.last, o.lastPath = endpoint, peers.path(endpoint)
	return o.lastPath
}
