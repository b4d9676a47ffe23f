package wireguard_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"span"
	"span/wireguard"
)

// A burstTun gives and takes packets in batches.
type burstTun struct {
	mtu     int
	outward chan [][]byte
	inward  chan []byte
	events  chan tun.Event
	once    sync.Once
	closed  chan struct{}
}

func newBurstTun(mtu int) *burstTun {
	return &burstTun{
		mtu: mtu, outward: make(chan [][]byte), inward: make(chan []byte, 1024), events: make(chan tun.Event, 1), closed: make(chan struct{}),
	}
}

func (b *burstTun) File() *os.File           { return nil }
func (b *burstTun) MTU() (int, error)        { return b.mtu, nil }
func (b *burstTun) Name() (string, error)    { return "burst", nil }
func (b *burstTun) Events() <-chan tun.Event { return b.events }
func (b *burstTun) BatchSize() int           { return conn.IdealBatchSize }

func (b *burstTun) Read(buffers [][]byte, sizes []int, offset int) (int, error) {
	select {
	case packets := <-b.outward:
		for i, packet := range packets {
			sizes[i] = copy(buffers[i][offset:], packet)
		}
		return len(packets), nil
	case <-b.closed:
		return 0, os.ErrClosed
	}
}

func (b *burstTun) Write(buffers [][]byte, offset int) (int, error) {
	for _, buffer := range buffers {
		b.inward <- bytes.Clone(buffer[offset:])
		// As receive offload does, which joins packets behind the first.
		clear(buffer[:offset])
		_ = append(buffer, make([]byte, cap(buffer)-len(buffer))...)
	}
	return len(buffers), nil
}

func (b *burstTun) Close() error {
	b.once.Do(func() { close(b.closed); close(b.events) })
	return nil
}

// packet makes one from 10.0.0.1 that is told from all others.
func packet(random *rand.Rand, to, length int) []byte {
	packet := make([]byte, length)
	random.Read(packet)
	copy(packet, []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, byte(to)})
	binary.BigEndian.PutUint16(packet[2:], uint16(length))
	return packet
}

// What leaves together arrives whole and in order, whoever it is for and however long it is.
func TestBatchesArriveWhole(t *testing.T) {
	const mtu, grown = 1420, 4000
	tuns := []*burstTun{newBurstTun(mtu), newBurstTun(grown), newBurstTun(grown)}
	var (
		devices []*wireguard.Device
		public  []span.Key
		ports   []string
	)
	for i, tun := range tuns {
		key, err := span.GenerateKey()
		check(t, err)
		dev := wireguard.NewDevice(tun, conn.NewStdNetBind(), &device.Logger{Errorf: t.Logf})
		t.Cleanup(dev.Close)
		check(t, dev.IpcSet(fmt.Sprintf("private_key=%x\n", key[:])))
		check(t, dev.Up())
		text, err := dev.IpcGet()
		check(t, err)
		_, port, _ := strings.Cut(text, "listen_port=")
		port, _, _ = strings.Cut(port, "\n")
		devices, public, ports = append(devices, dev), append(public, key.Public()), append(ports, port)
		if i > 0 {
			check(t, dev.IpcSet(fmt.Sprintf("public_key=%x\nallowed_ip=10.0.0.1/32\n", public[0][:])))
			check(t, devices[0].IpcSet(fmt.Sprintf("public_key=%x\nallowed_ip=10.0.0.%d/32\nendpoint=127.0.0.1:%s\n", public[i][:], i+1, port)))
		}
	}

	random := rand.New(rand.NewSource(1))
	lengths := []func() int{
		func() int { return mtu },
		func() int { return 20 + random.Intn(mtu-19) },
		func() int { return []int{mtu, 600}[random.Intn(2)] },
		func() int { return mtu - random.Intn(20) },
	}
	peers := []func(i int) int{
		func(int) int { return 2 },
		func(i int) int { return 2 + i%2 },
		func(int) int { return 2 + random.Intn(2) },
		func(i int) int { return 2 + i/40%2 },
	}
	exchange := func(length func() int, peer func(i int) int) {
		t.Helper()
		batch, sent := [][]byte{}, [2][][]byte{}
		for i := range conn.IdealBatchSize {
			to := peer(i)
			packet := packet(random, to, length())
			batch, sent[to-2] = append(batch, packet), append(sent[to-2], packet)
		}
		tuns[0].outward <- batch
		for to, packets := range sent {
			for i, want := range packets {
				select {
				case got := <-tuns[to+1].inward:
					if !bytes.Equal(got, want) {
						t.Fatalf("packet %d for %d: %d bytes instead of %d", i, to+2, len(got), len(want))
					}
				case <-time.After(patience):
					t.Fatalf("packet %d of %d for %d never arrives", i, len(packets), to+2)
				}
			}
		}
	}
	// The first waits for a session.
	for to := range 2 {
		first := packet(random, to+2, 100)
		tuns[0].outward <- [][]byte{first}
		if got := <-tuns[to+1].inward; !bytes.Equal(got, first) {
			t.Fatalf("%x", got)
		}
	}
	for range 10 {
		for _, length := range lengths {
			for _, peer := range peers {
				exchange(length, peer)
			}
		}
	}

	// A larger MTU: from the next read on. What is read before is cut off, and dropped.
	tuns[0].mtu = grown
	tuns[0].events <- tun.EventMTUUpdate
	for arrived := false; !arrived; {
		long := packet(random, 2, grown)
		tuns[0].outward <- [][]byte{long}
		select {
		case got := <-tuns[1].inward:
			arrived = true
			if !bytes.Equal(got, long) {
				t.Fatal(len(got))
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
	exchange(func() int { return 1 + 19 + random.Intn(grown-19) }, peers[1])

	// The interface goes down and up, and nothing passes in between.
	tuns[0].events <- tun.EventDown
	eventually(t, "down", func() bool {
		tuns[0].outward <- [][]byte{packet(random, 2, 20)}
		select {
		case <-tuns[1].inward:
			return false
		case <-time.After(20 * time.Millisecond):
			return true
		}
	})
	tuns[0].events <- tun.EventUp
	eventually(t, "up", func() bool {
		tuns[0].outward <- [][]byte{packet(random, 2, 20)}
		select {
		case <-tuns[1].inward:
			return true
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})

	// A device that ends takes the rest with it.
	check(t, tuns[0].Close())
	devices[0].Close()
	<-devices[0].Wait()
}
