package wireguard_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/conn/bindtest"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/netstack"

	"span"
	"span/wireguard"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// What both kinds of device do.
type wireguardDevice interface {
	IpcGet() (string, error)
	IpcSet(string) error
	Up() error
	Down() error
	Close()
	Wait() chan struct{}
}

var (
	_ wireguardDevice = (*wireguard.Device)(nil)
	_ wireguardDevice = (*device.Device)(nil)
)

// A host is a device and the network stack behind it.
type host struct {
	wireguardDevice
	net     *netstack.Net
	key     span.Key
	address netip.Addr
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ours and theirs make hosts whose last byte of the address is number, on Span's device and on wireguard-go's.
func ours(t testing.TB, number int) *host   { return newHost(t, number, true, conn.NewStdNetBind()) }
func theirs(t testing.TB, number int) *host { return newHost(t, number, false, conn.NewStdNetBind()) }

func newHost(t testing.TB, number int, span_ bool, bind conn.Bind) *host {
	t.Helper()
	v4, v6 := netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}), netip.MustParseAddr(fmt.Sprintf("fd00::%d", number))
	inner, network, err := netstack.CreateNetTUN([]netip.Addr{v4, v6}, nil, 1420)
	check(t, err)
	key, err := span.GenerateKey()
	check(t, err)
	logger := &device.Logger{Errorf: func(format string, args ...any) { t.Logf("%d: "+format, append([]any{number}, args...)...) }}
	it := &host{net: network, key: key, address: v4}
	if span_ {
		it.wireguardDevice = wireguard.NewDevice(inner, bind, logger)
	} else {
		logger.Verbosef = device.DiscardLogf
		it.wireguardDevice = device.NewDevice(inner, bind, logger)
	}
	t.Cleanup(it.Close)
	check(t, it.IpcSet(fmt.Sprintf("private_key=%x\nlisten_port=0\n", key[:])))
	check(t, it.Up())
	return it
}

// get returns a value of the configuration, the first if there are several.
func (h *host) get(t testing.TB, key string) string {
	t.Helper()
	text, err := h.IpcGet()
	check(t, err)
	found := regexp.MustCompile("(?m)^" + key + "=(.*)$").FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	return found[1]
}

// knows makes another host a peer, with more lines if there are any; its endpoint is only known to be there if told.
func (h *host) knows(t testing.TB, other *host, where bool, more ...string) {
	t.Helper()
	public := other.key.Public()
	v4 := other.address.As4()
	text := fmt.Sprintf("public_key=%x\nallowed_ip=10.0.0.%d/32\nallowed_ip=fd00::%d/128\n", public[:], v4[3], v4[3])
	if where {
		text += "endpoint=127.0.0.1:" + other.get(t, "listen_port") + "\n"
	}
	check(t, h.IpcSet(text+strings.Join(more, "\n")+"\n"))
}

// ports are those that nobody listened to before.
var ports atomic.Int32

// ask sends a lot over TCP from one host to another and has it sent back.
func ask(t testing.TB, from, to *host, address string) {
	t.Helper()
	port := uint16(ports.Add(1))
	listener, err := to.net.ListenTCP(&net.TCPAddr{Port: int(port)})
	check(t, err)
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := from.net.DialContextTCP(ctx, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), port)))
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	sent := bytes.Repeat([]byte("there and back "), 30_000)
	writing := make(chan error)
	go func() {
		_, err := conn.Write(sent)
		if err == nil {
			err = conn.CloseWrite()
		}
		writing <- err
	}()
	received, err := io.ReadAll(conn)
	check(t, err)
	check(t, <-writing)
	if !bytes.Equal(received, sent) {
		t.Fatalf("%d bytes came back of %d", len(received), len(sent))
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestBothWaysWithWireguardGo(t *testing.T) {
	preshared, err := span.GeneratePresharedKey()
	check(t, err)
	secret := fmt.Sprintf("preshared_key=%x", preshared[:])
	for _, ourBeginning := range []bool{true, false} {
		for _, more := range [][]string{nil, {secret}} {
			span, other := ours(t, 1), theirs(t, 2)
			span.knows(t, other, ourBeginning, more...)
			other.knows(t, span, !ourBeginning, more...)
			first, second := span, other
			if !ourBeginning {
				first, second = other, span
			}
			ask(t, first, second, second.address.String())
			ask(t, second, first, first.address.String())
			ask(t, first, second, fmt.Sprintf("fd00::%d", second.address.As4()[3]))
			for _, it := range []*host{span, other} {
				if it.get(t, "last_handshake_time_sec") == "0" || len(it.get(t, "rx_bytes")) < 6 || len(it.get(t, "tx_bytes")) < 6 {
					t.Fatal(it.IpcGet())
				}
			}
			span.Close()
			other.Close()
		}
	}
}

func TestAnotherPresharedKeyKeepsThemApart(t *testing.T) {
	span_, other := ours(t, 1), theirs(t, 2)
	span_.knows(t, other, true, "preshared_key="+strings.Repeat("11", 32))
	other.knows(t, span_, true, "preshared_key="+strings.Repeat("22", 32))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := span_.net.DialContextTCP(ctx, &net.TCPAddr{IP: other.address.AsSlice(), Port: 7}); err == nil {
		t.Fatal("they met")
	}
	if span_.get(t, "last_handshake_time_sec") != "0" || other.get(t, "last_handshake_time_sec") != "0" {
		t.Fatal("a handshake")
	}
	// The right one lets them meet, at the next handshake.
	span_.knows(t, other, true, "preshared_key="+strings.Repeat("22", 32))
	ask(t, other, span_, span_.address.String())
}

func TestSeveralPeersAtOnce(t *testing.T) {
	hub := ours(t, 1)
	spokes := []*host{theirs(t, 2), theirs(t, 3), ours(t, 4)}
	for _, spoke := range spokes {
		spoke.knows(t, hub, true)
		hub.knows(t, spoke, false)
	}
	var group sync.WaitGroup
	for _, spoke := range spokes {
		ask(t, spoke, hub, hub.address.String())
		group.Add(1)
		go func() {
			defer group.Done()
			ask(t, hub, spoke, spoke.address.String())
		}()
	}
	group.Wait()

	// Whose peer it is no more is not heard.
	text, err := hub.IpcGet()
	check(t, err)
	gone := spokes[0].key.Public()
	check(t, hub.IpcSet(fmt.Sprintf("public_key=%x\nremove=true\n", gone[:])))
	left, err := hub.IpcGet()
	check(t, err)
	if strings.Count(text, "public_key=") != 3 || strings.Count(left, "public_key=") != 2 || strings.Contains(left, hex.EncodeToString(gone[:])) {
		t.Fatal(text, left)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := hub.net.DialContextTCP(ctx, &net.TCPAddr{IP: spokes[0].address.AsSlice(), Port: 7}); err == nil {
		t.Fatal("removed, and there")
	}
	ask(t, hub, spokes[1], spokes[1].address.String())
}

func TestKeepalivesKeepASession(t *testing.T) {
	span_, other := ours(t, 1), theirs(t, 2)
	other.knows(t, span_, false)
	span_.knows(t, other, true, "persistent_keepalive_interval=1")
	eventually(t, "a session without traffic", func() bool { return other.get(t, "last_handshake_time_sec") != "0" })
	heard := other.get(t, "rx_bytes")
	eventually(t, "another keepalive", func() bool { return other.get(t, "rx_bytes") != heard })
}

func TestPeersThatMoveAreFollowed(t *testing.T) {
	span_, other := ours(t, 1), theirs(t, 2)
	span_.knows(t, other, true)
	other.knows(t, span_, true)
	ask(t, span_, other, other.address.String())
	for _, moving := range []*host{other, span_, other} {
		staying := map[bool]*host{true: span_, false: other}[moving == other]
		before := moving.get(t, "listen_port")
		check(t, moving.IpcSet("listen_port=0\n"))
		if moving.get(t, "listen_port") == before {
			t.Fatal("the same port")
		}
		ask(t, moving, staying, staying.address.String())
		ask(t, staying, moving, moving.address.String())
		if at := staying.get(t, "endpoint"); at != "127.0.0.1:"+moving.get(t, "listen_port") {
			t.Fatal(at)
		}
	}
	check(t, span_.Down())
	check(t, span_.Down())
	check(t, span_.Up())
	ask(t, span_, other, other.address.String())
}

// Endpoints that are not the standard bind's, and batches of one.
func TestOtherBinds(t *testing.T) {
	binds := bindtest.NewChannelBinds()
	first, second := newHost(t, 1, true, binds[0]), newHost(t, 2, true, binds[1])
	first.knows(t, second, true)
	second.knows(t, first, true)
	ask(t, first, second, second.address.String())
	ask(t, second, first, first.address.String())
}

func TestTheConfigurationComesBack(t *testing.T) {
	first, second := ours(t, 1), ours(t, 2)
	public, other := span.Key{8}.Public(), span.Key{16}.Public()
	check(t, first.IpcSet(fmt.Sprintf("private_key=%s\nfwmark=0\nreplace_peers=true\n"+
		"public_key=%x\npreshared_key=%s\nprotocol_version=1\nendpoint=192.0.2.1:51820\npersistent_keepalive_interval=25\n"+
		"replace_allowed_ips=true\nallowed_ip=10.1.2.3/16\nallowed_ip=fd01::/64\nallowed_ip=10.2.0.0/16\nallowed_ip=-10.2.0.0/16\n"+
		"public_key=%x\nendpoint=[2001:db8::1]:7\nallowed_ip=10.3.0.1/32\n",
		strings.Repeat("42", 32), public[:], strings.Repeat("07", 32), other[:])))
	text, err := first.IpcGet()
	check(t, err)
	for _, line := range []string{"private_key=" + hex.EncodeToString(bytes.Repeat([]byte{0x42}, 32)), "endpoint=192.0.2.1:51820",
		"preshared_key=" + strings.Repeat("07", 32), "persistent_keepalive_interval=25", "allowed_ip=10.1.0.0/16", "allowed_ip=fd01::/64",
		"endpoint=[2001:db8::1]:7", "allowed_ip=10.3.0.1/32", "protocol_version=1", "last_handshake_time_sec=0", "rx_bytes=0"} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s is missing in %s", line, text)
		}
	}
	if strings.Contains(text, "10.2.0.0") || strings.Count(text, "public_key=") != 2 {
		t.Error(text)
	}
	// What only tells is not told back; what differs is the port and what was sent.
	told := regexp.MustCompile(`(?m)^(last_handshake_time_n?sec|[rt]x_bytes|listen_port)=.*\n`)
	settings := told.ReplaceAllString(text, "")
	check(t, second.IpcSet(settings))
	again, err := second.IpcGet()
	check(t, err)
	if told.ReplaceAllString(again, "") != settings {
		t.Fatal(again)
	}
	// wireguard-go takes it as well.
	check(t, theirs(t, 3).IpcSet(settings))

	// Only what is there is changed, one's own key is passed over, a prefix moves.
	stranger, own := span.Key{24}.Public(), (span.Key)(bytes.Repeat([]byte{0x42}, 32)).Public()
	check(t, first.IpcSet(fmt.Sprintf("public_key=%x\nupdate_only=true\nallowed_ip=10.9.0.0/16\npublic_key=%x\nallowed_ip=10.8.0.0/16\n"+
		"public_key=%x\nupdate_only=true\nallowed_ip=10.1.0.0/16\n", stranger[:], own[:], other[:])))
	text, err = first.IpcGet()
	check(t, err)
	if strings.Contains(text, "10.9.") || strings.Contains(text, "10.8.") || strings.Count(text, "10.1.0.0/16") != 1 ||
		strings.Index(text, "10.1.0.0/16") < strings.Index(text, hex.EncodeToString(other[:])) {
		t.Fatal(text)
	}

	// Methods of wireguard-go's device.
	dev := first.wireguardDevice.(*wireguard.Device)
	dev.RemovePeer(device.NoisePublicKey(public))
	if text, _ := first.IpcGet(); strings.Count(text, "public_key=") != 1 {
		t.Fatal(text)
	}
	dev.RemoveAllPeers()
	check(t, dev.SetPrivateKey(device.NoisePrivateKey{}))
	check(t, dev.BindUpdate())
	if text, _ := first.IpcGet(); strings.Contains(text, "key=") || dev.BatchSize() != dev.Bind().BatchSize() {
		t.Fatal(text)
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	it := ours(t, 1)
	peer := "public_key=" + strings.Repeat("09", 32) + "\n"
	for _, text := range []string{
		"private_key=secret", "private_key=" + strings.Repeat("7", 62), "listen_port=70000", "fwmark=x", "replace_peers=false", "nonsense=1",
		"public_key=x", "public_key=" + strings.Repeat("0", 64), peer + "preshared_key=secret", peer + "endpoint=example", peer + "persistent_keepalive_interval=-1",
		peer + "allowed_ip=10.0.0.0/99", peer + "replace_allowed_ips=1", peer + "update_only=no", peer + "remove=no", peer + "protocol_version=2", peer + "listen_port=1",
	} {
		err := it.IpcSet(text)
		var coded interface{ ErrorCode() int64 }
		if !errors.As(err, &coded) || coded.ErrorCode() != ipc.IpcErrorInvalid || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
	var coded *wireguard.IPCError
	if err := it.IpcSet("no equals sign"); !errors.As(err, &coded) || coded.ErrorCode() != ipc.IpcErrorProtocol {
		t.Error(err)
	}
}

func TestOperationsOverAConnection(t *testing.T) {
	it := ours(t, 1)
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		it.wireguardDevice.(*wireguard.Device).IpcHandle(server)
		close(done)
	}()
	check(t, client.SetDeadline(time.Now().Add(patience)))
	exchange := func(request, want string) {
		t.Helper()
		go func() { _, _ = io.WriteString(client, request) }()
		var answer []byte
		for buffer := make([]byte, 1); !bytes.HasSuffix(answer, []byte("\n\n")); {
			_, err := client.Read(buffer)
			check(t, err)
			answer = append(answer, buffer...)
		}
		if !strings.Contains(string(answer), want) {
			t.Fatalf("%q", answer)
		}
	}
	exchange("set=1\nfwmark=0\nprivate_key="+strings.Repeat("42", 32)+"\n\n", "errno=0")
	exchange("set=1\nnonsense=1\nfwmark=1\nfwmark=2\n\n", fmt.Sprintf("errno=%d", ipc.IpcErrorInvalid))
	exchange("get=1\n\n", "private_key="+strings.Repeat("42", 32))
	go func() { _, _ = io.WriteString(client, "help\n") }()
	<-done
	check(t, client.Close())
}

// A deletedTun can be deleted, as ip-link(8) deletes interfaces: reading it says no more than that it is closed.
type deletedTun struct {
	tun.Device
	deleted chan struct{}
}

func (d deletedTun) Read([][]byte, []int, int) (int, error) {
	<-d.deleted
	return 0, os.ErrClosed
}

func TestADeviceEndsWithItsInterface(t *testing.T) {
	inner, _, err := netstack.CreateNetTUN(nil, nil, 1420)
	check(t, err)
	deleted := make(chan struct{})
	dev := wireguard.NewDevice(deletedTun{inner, deleted}, conn.NewStdNetBind(), nil)
	check(t, dev.Up())
	close(deleted)
	select {
	case <-dev.Wait():
	case <-time.After(patience):
		t.Fatal("it lives on")
	}
}

func TestNothingIsLeft(t *testing.T) {
	// The first makes what the libraries keep.
	for _, first := range []bool{true, false} {
		goroutines, descriptors := runtime.NumGoroutine(), count(t, "/proc/self/fd")
		span_, other := ours(t, 1), theirs(t, 2)
		span_.knows(t, other, true, "persistent_keepalive_interval=1")
		other.knows(t, span_, true)
		ask(t, span_, other, other.address.String())
		other.Close()
		var group sync.WaitGroup
		for range 3 {
			group.Add(1)
			go func() {
				defer group.Done()
				span_.Close()
				<-span_.Wait()
			}()
		}
		group.Wait()
		if err := span_.Up(); !errors.Is(err, os.ErrClosed) {
			t.Fatal(err)
		}
		if err := span_.IpcSet("private_key=" + strings.Repeat("42", 32)); !errors.Is(err, span.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := span_.IpcGet(); !errors.Is(err, span.ErrClosed) {
			t.Fatal(err)
		}
		if !first {
			eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines })
			eventually(t, "no descriptor is left", func() bool { return count(t, "/proc/self/fd") <= descriptors })
		}
	}
}

func count(t *testing.T, directory string) int {
	t.Helper()
	entries, err := os.ReadDir(directory)
	check(t, err)
	return len(entries)
}
