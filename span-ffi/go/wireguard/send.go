package wireguard

import (
	"errors"
	"os"
	"slices"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"

	"span"
)

// readTUN seals what comes from the tun and sends it, until the tun is closed.
func (d *Device) readTUN() {
	defer d.running.Done()
	batch := d.tun.BatchSize()
	var (
		arena   outbound
		sizes   = make([]int, batch)
		packets = make([]span.Packet, 0, batch)
		send    = newSender(d.bind)
	)
	for {
		arena.fit(batch, int(d.mtu.Load()), d.tunnelMTU)
		count, err := d.tun.Read(arena.buffers, sizes, span.Headroom)
		packets = packets[:0]
		if arena.holds(sizes[:count]) {
			for i, size := range sizes[:count] {
				if size > 0 {
					packets = append(packets, span.Packet{At: uint32(i*arena.stride + span.Headroom), Len: uint32(size)})
				}
			}
		}
		if len(packets) > 0 && d.up.Load() {
			d.seal(&send, arena.memory, packets)
		}
		if errors.Is(err, tun.ErrTooManySegments) {
			d.log.Verbosef("Dropped some packets from multi-segment read: %v", err)
		} else if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				d.log.Errorf("Failed to read packet from TUN device: %v", err)
			}
			// Unless it is being closed, the interface was deleted.
			go d.Close()
			return
		}
	}
}

// seal seals packets and sends them.
func (d *Device) seal(send *sender, memory []byte, packets []span.Packet) {
	if _, err := d.tunnel.Seal(d.clock.now(), memory, packets); err != nil {
		d.unexpected("Seal", err)
		return
	}
	staged := false
	for i := range packets {
		switch packets[i].Result {
		case span.ResultStaged:
			staged = true
		case span.ResultNoRoute, span.ResultNotIP:
			d.log.Verbosef("Dropped a packet from the TUN device that is nobody's")
		}
	}
	d.send(send, memory, packets)
	if staged {
		d.flush()
	}
	d.rearm()
}

// An outbound is memory for packets of the tun, as far apart as the datagrams of full ones: these are sealed together.
type outbound struct {
	memory  []byte
	buffers [][]byte
	stride  int
	room    int
}

// fit makes room for packets of this length, in a tunnel with that MTU.
func (o *outbound) fit(count, length, mtu int) {
	if o.room == length {
		return
	}
	o.room, o.stride = length, 0
	// The longest may have less padding than one that is shorter.
	for shorter := range min(16, length) {
		o.stride = max(o.stride, span.DatagramLen(length-shorter, mtu))
	}
	o.memory = make([]byte, count*o.stride+span.DatagramMax)
	o.buffers = make([][]byte, count)
	// Each reaches over what follows: while the MTU grows, packets that are longer than it was must find room, or the
	// device would fail.
	for i := range o.buffers {
		o.buffers[i] = o.memory[i*o.stride:][:span.DatagramMax]
	}
}

// holds says whether packets of these lengths are whole. One that is longer than the MTU was runs into others.
func (o *outbound) holds(sizes []int) bool {
	return len(sizes) == 0 || slices.Max(sizes) <= o.room
}

// A sender has what sending needs, for one goroutine.
type sender struct {
	batch int
	// The standard bind joins datagrams to one peer by appending them to the first one's memory, where they already
	// are. It may; another gets no more memory than the datagram.
	joins   bool
	chosen  []int
	buffers [][]byte
}

func newSender(bind conn.Bind) sender {
	_, joins := bind.(*conn.StdNetBind)
	return sender{batch: bind.BatchSize(), joins: joins}
}

// send sends the datagrams of a batch, each peer's together and in order. Their results are gone then.
func (d *Device) send(s *sender, memory []byte, datagrams []span.Packet) {
	if !d.up.Load() {
		return
	}
	for i := range datagrams {
		if !isDatagram(datagrams[i].Result) {
			continue
		}
		first := datagrams[i]
		s.chosen = s.chosen[:0]
		for j := i; j < len(datagrams); j++ {
			it := &datagrams[j]
			if isDatagram(it.Result) && it.Peer == first.Peer && it.Path == first.Path {
				s.chosen = append(s.chosen, j)
				it.Result = 0
			}
		}
		endpoint, err := d.peers.find(&first)
		if err != nil {
			d.log.Errorf("%s - No endpoint: %v", d.name(first.Peer), err)
			continue
		}
		for rest := s.chosen; len(rest) > 0; {
			count := min(len(rest), s.batch)
			if err := d.bind.Send(s.gather(memory, datagrams, rest[:count]), endpoint); err != nil {
				d.sendFailed(&first, err)
			}
			rest = rest[count:]
		}
	}
}

// gather returns the memory of the chosen datagrams.
func (s *sender) gather(memory []byte, datagrams []span.Packet, chosen []int) [][]byte {
	s.buffers = append(s.buffers[:0], make([][]byte, len(chosen))...)
	// From the last to the first: where the one before ends there, it may be joined by what follows.
	next, limit := uint32(0), uint32(0)
	for i := len(chosen) - 1; i >= 0; i-- {
		it := &datagrams[chosen[i]]
		end := it.At + it.Len
		if !s.joins || end != next {
			limit = end
		}
		s.buffers[i] = memory[it.At:end:limit]
		next = it.At
	}
	return s.buffers
}

func (d *Device) sendFailed(datagram *span.Packet, err error) {
	var retried conn.ErrUDPGSODisabled
	if errors.As(err, &retried) {
		d.log.Verbosef(err.Error())
		err = retried.RetryErr
	}
	// It is being closed.
	if err != nil && d.up.Load() {
		d.log.Errorf("%s - Failed to send datagrams: %v", d.name(datagram.Peer), err)
	}
}

func isDatagram(result span.Result) bool {
	switch result {
	case span.ResultData, span.ResultInitiation, span.ResultResponse, span.ResultCookieReply, span.ResultKeepalive:
		return true
	}
	return false
}

// A transmitter is what sending what the tunnel sends by itself needs, for one goroutine at a time.
type transmitter struct {
	mutex     sync.Mutex
	sender    sender
	memory    []byte
	datagrams []span.Packet
}

func (t *transmitter) init(bind conn.Bind) {
	t.sender = newSender(bind)
	t.memory = make([]byte, 2*span.DatagramMax)
	t.datagrams = make([]span.Packet, bind.BatchSize())
}

// flush sends what the tunnel sends by itself.
func (d *Device) flush() {
	t := &d.sending
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for {
		count, err := d.tunnel.PollTransmit(d.clock.now(), t.memory, t.datagrams)
		if err != nil {
			d.unexpected("PollTransmit", err)
			return
		}
		if count == 0 {
			return
		}
		d.send(&t.sender, t.memory, t.datagrams[:count])
	}
}
