package span

import (
	"bytes"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"
)

const batch = 32

var (
	aliceAt = UDPPath(netip.MustParseAddrPort("192.0.2.1:51820"))
	bobAt   = UDPPath(netip.MustParseAddrPort("192.0.2.2:51820"))
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tunnel makes a tunnel that does the same in every run.
func tunnel(t testing.TB, own byte) *Tunnel {
	t.Helper()
	config := TunnelConfig{PrivateKey: key(own), UnixTime: time.Unix(1700000000, 0), Ciphers: []Cipher{AES256GCM}}
	config.Seed[0] = own
	tunnel, err := NewTunnel(config)
	check(t, err)
	t.Cleanup(func() {
		if err := tunnel.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return tunnel
}

func key(b byte) (key Key) {
	copy(key[:], bytes.Repeat([]byte{b}, len(key)))
	return key
}

func carry(t testing.TB, now time.Duration, sender, receiver *Tunnel, from Path) int {
	t.Helper()
	arena, datagrams := make([]byte, 1<<17), make([]Packet, batch)
	count, err := sender.PollTransmit(now, arena, datagrams)
	check(t, err)
	for i := range datagrams[:count] {
		datagrams[i].Path = from
	}
	_, err = receiver.Open(now, arena, datagrams[:count])
	check(t, err)
	check(t, receiver.HandleTimeout(now))
	return count
}

// pair makes two tunnels with a session.
func pair(t testing.TB) (alice, bob *Tunnel, atAlice PeerID) {
	t.Helper()
	alice, bob = tunnel(t, 1), tunnel(t, 2)
	atAlice, err := alice.AddPeer(0, PeerConfig{
		PublicKey:  key(2).Public(),
		AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("fd00::2/128")},
		Path:       bobAt,
	})
	check(t, err)
	_, err = bob.AddPeer(0, PeerConfig{
		PublicKey:  key(1).Public(),
		AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")},
	})
	check(t, err)
	check(t, alice.Initiate(0, atAlice))
	for carry(t, 0, alice, bob, aliceAt)+carry(t, 0, bob, alice, bobAt) > 0 {
	}
	return alice, bob, atAlice
}

// lay fills the arena with packets from 10.0.0.1 to 10.0.0.2 of this length, as far apart as their datagrams will be.
func lay(arena []byte, packets []Packet, length int) {
	stride := DatagramLen(length, 0)
	for i := range packets {
		packets[i] = Packet{At: uint32(i*stride + Headroom), Len: uint32(length)}
		header(arena[packets[i].At:], length)
	}
}

func header(packet []byte, length int) {
	copy(packet, []byte{0x45, 0, byte(length >> 8), byte(length), 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
}

func TestPacketsArrive(t *testing.T) {
	alice, bob, peer := pair(t)
	for _, length := range []int{20, 33, 1420} {
		arena, packets := make([]byte, batch*2048), make([]Packet, batch)
		lay(arena, packets, length)
		sealed, err := alice.Seal(0, arena, packets)
		check(t, err)
		if sealed != batch {
			t.Fatalf("%d sealed: %+v", sealed, packets[0])
		}
		for i := range packets {
			if packets[i].Result != ResultData || packets[i].Peer != peer || packets[i].Path != bobAt {
				t.Fatalf("%+v", packets[i])
			}
			packets[i].Path = aliceAt
		}
		arena[packets[7].At+20] ^= 1
		opened, err := bob.Open(0, arena, packets)
		check(t, err)
		if opened != batch-1 || packets[7].Result != ResultDropped || packets[7].Reason.String() != "forged" {
			t.Fatalf("%d opened: %+v", opened, packets[7])
		}
		want := make([]byte, length)
		header(want, length)
		last := packets[batch-1]
		if last.Result != ResultPacket || !bytes.Equal(arena[last.At:][:last.Len], want) {
			t.Fatalf("%+v", last)
		}
	}
	stats, err := alice.Stats(0, peer)
	check(t, err)
	if stats.PublicKey != key(2).Public() || stats.Path != bobAt || stats.SessionAge != 0 || stats.TxBytes == 0 {
		t.Fatalf("%+v", stats)
	}
	for _, reason := range DropReasons() {
		dropped, err := bob.Dropped(reason)
		check(t, err)
		if (dropped == 3) != (reason.String() == "forged") {
			t.Fatalf("%v: %d", reason, dropped)
		}
	}
}

func TestTimersAndEvents(t *testing.T) {
	alice, bob, peer := pair(t)
	event, ok, err := alice.PollEvent()
	check(t, err)
	for ok && event.Kind != TunnelEstablished {
		event, ok, err = alice.PollEvent()
		check(t, err)
	}
	if event.Kind != TunnelEstablished || event.Peer != peer || event.Path.Remote() != bobAt.Remote() {
		t.Fatalf("%+v", event)
	}
	_, err = alice.AddPeer(0, PeerConfig{PublicKey: key(2).Public(), Keepalive: 25 * time.Second})
	check(t, err)
	for carry(t, 0, alice, bob, aliceAt) > 0 {
	}
	for ok := true; ok; {
		_, ok, err = alice.PollEvent()
		check(t, err)
	}
	when, err := alice.NextTimeout()
	check(t, err)
	if when < 20*time.Second || when > 26*time.Second {
		t.Fatal(when)
	}
}

func TestMistakesAreErrors(t *testing.T) {
	alice := tunnel(t, 1)
	if _, err := alice.AddPeer(0, PeerConfig{PublicKey: key(1).Public()}); err != ErrOwnKey {
		t.Fatal(err)
	}
	if _, err := alice.AddPeer(0, PeerConfig{PublicKey: key(2), AllowedIPs: []netip.Prefix{{}}}); err != ErrInvalid {
		t.Fatal(err)
	}
	if _, err := alice.AddPeer(0, PeerConfig{PublicKey: key(2), Keepalive: time.Hour * 24}); err != ErrInvalid {
		t.Fatal(err)
	}
	if err := alice.RemovePeer(77); err != ErrUnknownPeer {
		t.Fatal(err)
	}
	if _, err := ParseKey("not a key"); err != ErrKeyText || err.Error() == "" {
		t.Fatal(err)
	}
	if _, err := ParseKey(key(1).String() + "\x00more"); err != ErrKeyText {
		t.Fatal(err)
	}
	if _, err := NewTunnel(TunnelConfig{Ciphers: []Cipher{99}}); err != ErrInvalid {
		t.Fatal(err)
	}
	packets := []Packet{{At: 0, Len: 20}, {At: Headroom, Len: 20, Peer: 77}, {At: Headroom, Len: 1 << 20}}
	if n, err := alice.Seal(0, make([]byte, 100), packets); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if packets[0].Result != ResultBadLength || packets[1].Result != ResultUnknownPeer || packets[2].Result != ResultBadLength {
		t.Fatalf("%+v", packets)
	}
	check(t, alice.Close())
	if _, err := alice.Seal(0, nil, nil); err != ErrClosed {
		t.Fatal(err)
	}
	if err := alice.Close(); err != ErrClosed {
		t.Fatal(err)
	}
}

func TestKeys(t *testing.T) {
	private, err := GenerateKey()
	check(t, err)
	again, err := ParseKey(private.String())
	check(t, err)
	preshared, err := GeneratePresharedKey()
	check(t, err)
	if private != again || private == preshared || private.Public() == (Key{}) || len(Version()) < 5 {
		t.Fatal("keys are not what they should be")
	}
}

func TestPathsSurviveTheWayThereAndBack(t *testing.T) {
	for _, remote := range []string{"192.0.2.1:1", "[2001:db8::1]:65535", "[fe80::1%7]:51820"} {
		remote := netip.MustParseAddrPort(remote)
		path := UDPPath(remote)
		if path.Remote() != remote || path.Source().IsValid() {
			t.Fatal(path.Remote())
		}
		source := netip.MustParseAddr("2001:db8::7")
		if remote.Addr().Is4() {
			source = netip.MustParseAddr("198.51.100.7")
		}
		if path = path.From(source); path.Source() != source || path.Remote() != remote {
			t.Fatal(path.Source())
		}
	}
	if tag, ok := CustomPath(7).Tag(); tag != 7 || !ok {
		t.Fatal(tag)
	}
}

// Many goroutines may use one tunnel: run with -race.
func TestGoroutinesTakeTurns(t *testing.T) {
	alice, bob, peer := pair(t)
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			arena, packets := make([]byte, batch*128), make([]Packet, batch)
			for range 50 {
				lay(arena, packets, 60)
				sealed, err := alice.Seal(0, arena, packets)
				if sealed != batch || err != nil {
					t.Error(sealed, err)
				}
				for i := range packets {
					packets[i].Path = aliceAt
				}
				if opened, err := bob.Open(0, arena, packets); opened != batch || err != nil {
					t.Error(opened, err)
				}
				if _, err := alice.Stats(0, peer); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	group.Wait()
}
