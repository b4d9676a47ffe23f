// Package wireguard runs Span's tunnel between the devices and sockets of wireguard-go. A program that made its device
// with golang.zx2c4.com/wireguard/device changes one line:
//
//	dev := device.NewDevice(tun, bind, logger)    // before
//	dev := wireguard.NewDevice(tun, bind, logger) // after
//
// and goes on to configure it by IpcSet, in the text of https://www.wireguard.com/xplatform/.
//
// Packets are sealed and opened where they stand, in batches as large as the device and the sockets have them. One
// goroutine reads the device, one each of the bind's receive functions, and one keeps the time; they take turns at the
// tunnel.
package wireguard

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"span"
)

// Capacities of a device and a bind that say nothing else.
const (
	defaultMTU = device.DefaultMTU
	// maxDatagram is the room that receiving gives each datagram: binds put several in one before they part them.
	maxDatagram = 1 << 16
)

// A Device is a WireGuard interface: Span's tunnel between a tun.Device and a conn.Bind. Its methods are those of
// wireguard-go's device.Device and may be called by several goroutines at once.
type Device struct {
	tun    tun.Device
	bind   conn.Bind
	log    *device.Logger
	clock  clock
	tunnel *span.Tunnel
	// The tunnel pads for the MTU that the tun had in the beginning; mtu is the one it has now.
	tunnelMTU int
	mtu       atomic.Int32
	up        atomic.Bool
	peers     endpoints
	timer     timer
	sending   transmitter
	closed    chan struct{}
	// Of the tun's reader, its events' and the timer.
	running sync.WaitGroup

	// state is held by whatever changes what follows.
	state     sync.Mutex
	closing   bool
	port      uint16
	mark      uint32
	receiving sync.WaitGroup

	// configuring is held by whoever reads or changes the configuration: what the tunnel does not tell.
	configuring sync.RWMutex
	privateKey  span.Key
	preshared   map[span.PeerID]span.Key
}

// NewDevice makes a device that is down and has no key and no peers. It reads from the tun at once. The device owns tun
// and bind from now on; close it in the end.
func NewDevice(tunDevice tun.Device, bind conn.Bind, logger *device.Logger) *Device {
	d := &Device{
		tun:       tunDevice,
		bind:      bind,
		log:       quiet(logger),
		clock:     newClock(),
		closed:    make(chan struct{}),
		preshared: make(map[span.PeerID]span.Key),
	}
	d.peers.init(bind)
	d.timer.init()
	d.sending.init(bind)
	mtu, err := tunDevice.MTU()
	if err != nil {
		d.log.Errorf("Trouble determining MTU, assuming default: %v", err)
		mtu = defaultMTU
	}
	d.setMTU(mtu)

	d.tunnelMTU = int(d.mtu.Load())
	config := span.TunnelConfig{MTU: uint16(d.tunnelMTU), Now: d.clock.now()}
	// Neither fails: Go ends the program if the system has no randomness.
	_, _ = rand.Read(config.Seed[:])
	if d.tunnel, err = span.NewTunnel(config); err != nil {
		panic(fmt.Sprintf("span/wireguard: %v", err))
	}

	d.running.Add(3)
	go d.readTUN()
	go d.readEvents()
	go d.keepTime()
	return d
}

// quiet replaces what a logger leaves out.
func quiet(logger *device.Logger) *device.Logger {
	complete := device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	if logger != nil && logger.Verbosef != nil {
		complete.Verbosef = logger.Verbosef
	}
	if logger != nil && logger.Errorf != nil {
		complete.Errorf = logger.Errorf
	}
	return &complete
}

// Up opens the bind and lets packets pass. Does nothing to a device that is up.
func (d *Device) Up() error {
	d.state.Lock()
	defer d.state.Unlock()
	if d.closing {
		return os.ErrClosed
	}
	if d.up.Load() {
		return nil
	}
	return d.open()
}

// Down closes the bind. Sessions stay as they are. Does nothing to a device that is down.
func (d *Device) Down() error {
	d.state.Lock()
	defer d.state.Unlock()
	return d.shut()
}

// open opens the bind, and is called with state held.
func (d *Device) open() error {
	receive, port, err := d.bind.Open(d.port)
	if err != nil {
		return fmt.Errorf("opening the bind: %w", err)
	}
	if d.mark != 0 {
		if err := d.bind.SetMark(d.mark); err != nil {
			return errors.Join(fmt.Errorf("setting the mark: %w", err), d.bind.Close())
		}
	}
	d.port = port
	d.peers.forgetSources()
	d.up.Store(true)
	d.receiving.Add(len(receive))
	for _, function := range receive {
		go d.receive(function)
	}
	d.timer.wake()
	d.log.Verbosef("Interface up, port %d", port)
	return nil
}

// shut closes the bind and waits until nobody receives from it, and is called with state held.
func (d *Device) shut() error {
	if !d.up.Swap(false) {
		return nil
	}
	err := d.bind.Close()
	d.receiving.Wait()
	d.log.Verbosef("Interface down")
	return err
}

// reopen is for another port, and is called with state held.
func (d *Device) reopen() error {
	if !d.up.Load() {
		return nil
	}
	return errors.Join(d.shut(), d.open())
}

// Close closes tun and bind and frees the tunnel; nothing of the device is left then. Does nothing to one that was
// closed.
func (d *Device) Close() {
	d.state.Lock()
	if d.closing {
		d.state.Unlock()
		<-d.closed
		return
	}
	d.closing = true
	if err := d.tun.Close(); err != nil {
		d.log.Errorf("Closing the tun: %v", err)
	}
	if err := d.shut(); err != nil {
		d.log.Errorf("Closing the bind: %v", err)
	}
	// Not held while waiting: the tun's events may want it.
	d.state.Unlock()
	d.timer.end()
	d.running.Wait()
	if err := d.tunnel.Close(); err != nil {
		d.log.Errorf("Closing the tunnel: %v", err)
	}
	d.log.Verbosef("Device closed")
	close(d.closed)
}

// Wait returns a channel that is closed when the device is.
func (d *Device) Wait() chan struct{} { return d.closed }

// Bind returns the bind.
func (d *Device) Bind() conn.Bind { return d.bind }

// BatchSize returns how many packets are handled together at most.
func (d *Device) BatchSize() int { return max(d.tun.BatchSize(), d.bind.BatchSize()) }

// BindUpdate closes the bind and opens it anew, if the device is up.
func (d *Device) BindUpdate() error {
	d.state.Lock()
	defer d.state.Unlock()
	return d.reopen()
}

// BindSetMark sets the mark of what is sent.
func (d *Device) BindSetMark(mark uint32) error {
	d.state.Lock()
	defer d.state.Unlock()
	d.mark = mark
	if !d.up.Load() {
		return nil
	}
	d.peers.forgetSources()
	return d.bind.SetMark(mark)
}

// SetPrivateKey sets the private key, none if zero. A peer with the same public key is removed.
func (d *Device) SetPrivateKey(key device.NoisePrivateKey) error {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	return d.setPrivateKey(span.Key(key))
}

func (d *Device) setPrivateKey(key span.Key) error {
	if err := d.tunnel.SetPrivateKey(d.clock.now(), key); err != nil {
		return err
	}
	d.privateKey = key
	d.forgetPeers()
	return nil
}

// RemovePeer removes the peer with this key, if there is one.
func (d *Device) RemovePeer(key device.NoisePublicKey) {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	if peer, err := d.tunnel.FindPeer(span.Key(key)); err == nil {
		d.removePeer(peer)
	}
}

// RemoveAllPeers removes all peers.
func (d *Device) RemoveAllPeers() {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	peers, err := d.tunnel.Peers()
	if err != nil {
		return
	}
	for _, peer := range peers {
		d.removePeer(peer)
	}
}

// removePeer is called with configuring held.
func (d *Device) removePeer(peer span.PeerID) {
	if err := d.tunnel.RemovePeer(peer); err != nil {
		d.log.Errorf("Removing a peer: %v", err)
	}
	d.forgetPeers()
}

// forgetPeers forgets what is kept of peers that are no more, and is called with configuring held.
func (d *Device) forgetPeers() {
	peers, err := d.tunnel.Peers()
	if err != nil {
		return
	}
	there := make(map[span.PeerID]bool, len(peers))
	for _, peer := range peers {
		there[peer] = true
	}
	for peer := range d.preshared {
		if !there[peer] {
			delete(d.preshared, peer)
		}
	}
	d.peers.keep(there)
}

// readEvents follows the tun's state.
func (d *Device) readEvents() {
	defer d.running.Done()
	for event := range d.tun.Events() {
		if event&tun.EventMTUUpdate != 0 {
			if mtu, err := d.tun.MTU(); err != nil {
				d.log.Errorf("Failed to load updated MTU of device: %v", err)
			} else {
				d.setMTU(mtu)
			}
		}
		var err error
		if event&tun.EventUp != 0 {
			err = d.Up()
		}
		if event&tun.EventDown != 0 {
			err = errors.Join(err, d.Down())
		}
		if err != nil && !errors.Is(err, os.ErrClosed) {
			d.log.Errorf("Following the interface: %v", err)
		}
	}
}

// setMTU takes what the tun says, if it makes sense.
func (d *Device) setMTU(mtu int) {
	if mtu <= 0 {
		mtu = defaultMTU
	}
	d.mtu.Store(int32(min(mtu, span.PacketMax)))
}

// keepTime does what is due when it is.
func (d *Device) keepTime() {
	defer d.running.Done()
	for d.timer.sleep(d.clock, func() time.Duration {
		when, err := d.tunnel.NextTimeout()
		if err != nil {
			d.unexpected("NextTimeout", err)
			return span.Never
		}
		return when
	}) {
		d.unexpected("HandleTimeout", d.tunnel.HandleTimeout(d.clock.now()))
		d.flush()
		d.tellEvents()
	}
}

// tellEvents logs what happened in the tunnel.
func (d *Device) tellEvents() {
	for {
		event, ok, err := d.tunnel.PollEvent()
		d.unexpected("PollEvent", err)
		if !ok {
			return
		}
		switch event.Kind {
		case span.TunnelEstablished:
			d.peers.established(event.Peer)
			d.log.Verbosef("%s - Handshake complete", d.name(event.Peer))
		case span.TunnelHandshakeFailed:
			d.log.Verbosef("%s - Handshake did not complete in time", d.name(event.Peer))
		}
	}
}

// name is how wireguard-go writes of a peer.
func (d *Device) name(peer span.PeerID) string {
	stats, err := d.tunnel.Stats(d.clock.now(), peer)
	if err != nil {
		return "peer(unknown)"
	}
	key := stats.PublicKey.String()
	return "peer(" + key[:4] + "…" + key[39:43] + ")"
}

// rearm is called after whatever may have brought the next timeout nearer.
func (d *Device) rearm() {
	when, err := d.tunnel.NextTimeout()
	if err == nil {
		d.timer.rearm(when)
	}
}

// unexpected logs what the library should not answer.
func (d *Device) unexpected(call string, err error) {
	if err != nil {
		d.log.Errorf("%s: %v", call, err)
	}
}
