package span_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"span"
	"span/internal/meshtest"
)

func check(t testing.TB, err error) {
	t.Helper()
	meshtest.Check(t, err)
}

func TestHTTPOverTheMesh(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	listener, err := bob.Listen("tcp", ":http")
	check(t, err)
	body := bytes.Repeat([]byte("over the mesh "), 1<<16)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(append(sent, body...))
	})}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	client := &http.Client{Transport: &http.Transport{DialContext: alice.DialContext}, Timeout: meshtest.Patience}
	var group sync.WaitGroup
	for i := range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			sent := bytes.Repeat([]byte{byte('a' + i)}, 100_000)
			response, err := client.Post("http://bob/", "text/plain", bytes.NewReader(sent))
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			received, err := io.ReadAll(response.Body)
			if err != nil || !bytes.Equal(received, append(sent, body...)) {
				t.Error(len(received), err)
			}
		}()
	}
	group.Wait()
	client.CloseIdleConnections()
	check(t, server.Close())
	if err := <-served; err != http.ErrServerClosed {
		t.Fatal(err)
	}
}

// A net.Error of time, as everything that waits until a deadline returns.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &timeout) && timeout.Timeout()
}

func TestConnectionsHaveDeadlinesHalvesAndEnds(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	client, server := meshtest.Conns(t, alice, bob)
	if client.RemoteAddr().String() != server.LocalAddr().String() || client.LocalAddr().String() != server.RemoteAddr().String() {
		t.Fatal(client.RemoteAddr(), server.LocalAddr())
	}

	// Deadlines: one to come, one that has passed although there is something to read, and none any more.
	check(t, server.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if _, err := server.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatal(err)
	}
	_, err := client.Write([]byte("que"))
	check(t, err)
	check(t, server.SetReadDeadline(time.Time{}))
	first := make([]byte, 1)
	_, err = io.ReadFull(server, first)
	check(t, err)
	check(t, server.SetReadDeadline(time.Now().Add(-time.Second)))
	if _, err := server.Read(first); !isTimeout(err) {
		t.Fatal(err)
	}
	check(t, server.SetReadDeadline(time.Time{}))
	more := make([]byte, 64<<20)
	check(t, client.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := client.Write(more); !isTimeout(err) || n == len(more) {
		t.Fatal(n, err)
	}
	check(t, client.Close())
	_, _ = io.Copy(io.Discard, server)
	check(t, server.Close())

	// Halves.
	client, server = meshtest.Conns(t, alice, bob)
	_, err = client.Write([]byte("question"))
	check(t, err)
	check(t, client.CloseWrite())
	if _, err := client.Write([]byte("more")); !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	question, err := io.ReadAll(server)
	if string(question) != "question" || err != nil {
		t.Fatal(string(question), err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatal(n, err, "the end stays the end")
	}
	_, err = server.Write([]byte("answer"))
	check(t, err)
	answer := make([]byte, 6)
	if _, err := io.ReadFull(client, answer); string(answer) != "answer" || err != nil {
		t.Fatal(string(answer), err)
	}

	// Nothing to do is done, until it is closed. Whoever waits then comes back.
	for _, do := range []func([]byte) (int, error){client.Read, client.Write} {
		if n, err := do(nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	waiting := make(chan error)
	go func() {
		_, err := client.Read(answer)
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	check(t, client.Close())
	errs := []error{<-waiting, client.Close(), client.CloseWrite(), client.CloseRead(), client.SetDeadline(time.Now()),
		client.SetReadDeadline(time.Time{}), client.SetWriteDeadline(time.Time{})}
	for _, do := range []func([]byte) (int, error){client.Read, client.Write} {
		for _, bytes := range [][]byte{nil, answer} {
			_, err := do(bytes)
			errs = append(errs, err)
		}
	}
	for i, err := range errs {
		var op *net.OpError
		if !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) || op.Net != "tcp" || op.Addr == nil {
			t.Fatal(i, err)
		}
	}
	check(t, server.Close())
}

func TestListenersEnd(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	listener, err := bob.Listen("tcp", ":7")
	check(t, err)
	if _, err := bob.Listen("tcp", ":7"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	if _, err := bob.Listen("tcp", "10.9.0.77:7"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Fatal(err)
	}
	check(t, listener.(*span.Listener).SetDeadline(time.Now().Add(10*time.Millisecond)))
	if _, err := listener.Accept(); !isTimeout(err) {
		t.Fatal(err)
	}
	check(t, listener.(*span.Listener).SetDeadline(time.Time{}))
	// The host of an address may be a name; 10.9.0.2 is bob's too.
	for _, address := range []string{"bob:7", "BOB:echo", "10.9.0.2:7"} {
		conn, err := alice.Dial("tcp", address)
		check(t, err)
		accepted, err := listener.Accept()
		check(t, err)
		check(t, conn.Close())
		check(t, accepted.Close())
	}
	waiting := make(chan error)
	go func() {
		_, err := listener.Accept()
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	check(t, listener.Close())
	for _, err := range []error{<-waiting, listener.Close(), listener.(*span.Listener).SetDeadline(time.Time{})} {
		if !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
	if _, err := alice.Dial("tcp", "bob:7"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
}

// A server outlives that its process has as many files open as it may: net/http waits and accepts again.
func TestAcceptingGoesOnAfterDescriptorsWereShort(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	listener, err := bob.Listen("tcp", ":7")
	check(t, err)
	defer listener.Close()
	dial := func() {
		conn, err := alice.Dial("tcp", "bob:7")
		check(t, err)
		t.Cleanup(func() { conn.Close() })
	}
	dial()

	free, err := os.Open("/dev/null")
	check(t, err)
	var before syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	none := syscall.Rlimit{Cur: uint64(free.Fd()), Max: before.Max}
	check(t, free.Close())
	check(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	_, short := listener.Accept()
	check(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
	var temporary interface{ Temporary() bool }
	if !errors.Is(short, syscall.EMFILE) || !errors.As(short, &temporary) || !temporary.Temporary() {
		t.Fatal(short)
	}
	dial()
	accepted, err := listener.Accept()
	check(t, err)
	check(t, accepted.Close())
}

func TestDialingFailsAsInPackageNet(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	var (
		op *net.OpError
		no *net.DNSError
	)
	if _, err := alice.Dial("tcp", "bob:1"); !errors.Is(err, span.ErrRefused) || !errors.As(err, &op) || op.Addr == nil {
		t.Fatal(err)
	}
	if _, err := alice.Dial("tcp", "carol:80"); !errors.As(err, &no) || !no.IsNotFound {
		t.Fatal(err)
	}
	if _, err := alice.Dial("sctp", "[fd00::1]:80"); !errors.As(err, new(net.UnknownNetworkError)) {
		t.Fatal(err)
	}
	if _, err := alice.Dial("tcp", "bob"); !errors.As(err, new(*net.AddrError)) {
		t.Fatal(err)
	}
	if _, err := alice.Dial("tcp6", "10.9.0.2:80"); !errors.As(err, new(*net.AddrError)) {
		t.Fatal(err)
	}
	if _, err := alice.Dial("tcp", "10.9.0.77:80"); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Fatal(err)
	}

	// Nobody who answers, for as long as the context lasts, and a context that is over.
	there, err := bob.Address()
	check(t, err)
	check(t, bob.Close())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	for range 2 {
		_, err := alice.DialContext(ctx, "tcp", net.JoinHostPort(there.String(), "80"))
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &op) || !op.Timeout() {
			t.Fatal(err)
		}
	}
	if _, err := alice.DialContext(ctx, "udp", "bob:80"); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &op) {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := alice.DialContext(cancelled, "tcp", net.JoinHostPort(there.String(), "80")); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestDatagramsArrive(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	server, err := bob.ListenPacket("udp4", "10.9.0.2:53")
	check(t, err)
	client, err := alice.Dial("udp4", "bob:domain")
	check(t, err)
	own, err := alice.Address()
	check(t, err)
	zoned, err := bob.Dial("udp", netip.AddrPortFrom(own.WithZone("any"), 9).String())
	if err != nil || zoned.RemoteAddr().(*net.UDPAddr).Zone != "" {
		t.Fatal(err, "answers come without a zone")
	}
	check(t, zoned.Close())
	buffer := make([]byte, 100)
	for _, text := range []string{"question", "", strings.Repeat("long", 100)} {
		_, err = client.Write([]byte(text))
		check(t, err)
		count, from, err := server.ReadFrom(buffer)
		if string(buffer[:count]) != text[:min(len(text), len(buffer))] || err != nil {
			t.Fatal(string(buffer[:count]), err)
		}
		_, err = server.WriteTo([]byte("answer"), from)
		check(t, err)
		count, err = client.Read(buffer)
		if string(buffer[:count]) != "answer" || err != nil || client.RemoteAddr().String() != server.LocalAddr().String() {
			t.Fatal(string(buffer[:count]), err)
		}
	}

	// Only the peer is heard.
	stranger, err := bob.ListenPacket("udp4", ":0")
	check(t, err)
	address := net.UDPAddr{IP: net.IPv4(10, 9, 0, 1), Port: client.LocalAddr().(*net.UDPAddr).Port}
	_, err = stranger.WriteTo([]byte("noise"), &address)
	check(t, err)
	check(t, stranger.Close())
	check(t, client.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := client.Read(buffer); !isTimeout(err) {
		t.Fatal(string(buffer[:n]), err)
	}

	if _, err := client.(net.PacketConn).WriteTo(buffer, &address); !errors.Is(err, net.ErrWriteToConnected) {
		t.Fatal(err)
	}
	if _, err := server.WriteTo(buffer, &net.TCPAddr{}); !errors.Is(err, syscall.EINVAL) {
		t.Fatal(err)
	}
	if _, err := server.WriteTo(make([]byte, 1<<16), &address); !errors.Is(err, span.ErrInvalid) {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() {
		_, _, err := server.ReadFrom(buffer)
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	check(t, client.Close())
	check(t, server.Close())
	_, write := server.WriteTo(buffer, &address)
	for _, err := range []error{<-waiting, server.Close(), write, server.SetDeadline(time.Now()), client.Close()} {
		if !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}

func TestStatusTellsOfThePeers(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	status, err := alice.Status()
	check(t, err)
	address, err := bob.Address()
	check(t, err)
	text, err := alice.StatusJSON()
	check(t, err)
	if !json.Valid(text) || status.Node.Name != "alice" || status.Node.PublicKey.IsZero() || status.Node.MTU < 1280 ||
		status.Node.Version != span.Version() || len(status.Discovery) != 1 || len(status.Peers) != 1 {
		t.Fatal(string(text))
	}
	peer := status.Peers[0]
	if peer.Name != "bob" || peer.State != "up" || peer.Address != address || peer.PublicKey.IsZero() || peer.Cipher == "" ||
		peer.Path == "" || time.Since(peer.LastHandshake) > meshtest.Patience || peer.RxBytes == 0 || len(peer.AllowedIPs) != 2 {
		t.Fatalf("%+v", peer)
	}
	found, err := alice.Lookup("bob")
	if err != nil || len(found) != 2 || found[0] != address || found[1].String() != "10.9.0.2" {
		t.Fatal(found, err)
	}
	if own, err := bob.Lookup("Bob"); err != nil || !slices.Equal(own, []netip.Addr{address}) {
		t.Fatal(own, err)
	}
	for _, name := range []string{"bob", "BOB.", peer.NodeID} {
		if found, err := alice.Resolve(name); err != nil || found != address {
			t.Fatal(name, found, err)
		}
	}
	for _, name := range []string{"", "carol", "bob\x00", "bob\xff"} {
		var no *net.DNSError
		if _, err := alice.Resolve(name); !errors.As(err, &no) || !no.IsNotFound || no.Name != name {
			t.Fatal(name, err)
		}
	}
}

func TestWhoeverWaitsComesBackWhenTheNodeEnds(t *testing.T) {
	alice, bob := meshtest.Pair(t)
	client, server := meshtest.Conns(t, bob, alice)
	listener, err := bob.Listen("tcp", ":7")
	check(t, err)
	socket, err := bob.ListenPacket("udp", ":7")
	check(t, err)
	ended := make(chan error)
	go func() {
		_, err := listener.Accept()
		ended <- err
	}()
	go func() {
		_, err := client.Read(make([]byte, 1))
		ended <- err
	}()
	go func() {
		_, _, err := socket.ReadFrom(make([]byte, 1))
		ended <- err
	}()
	events := make(chan span.Event)
	go func() {
		defer close(events)
		// Two take turns.
		var group sync.WaitGroup
		for range 2 {
			group.Add(1)
			go func() {
				defer group.Done()
				for event, err := range bob.Events(context.Background()) {
					if err == nil {
						events <- event
					} else if !errors.Is(err, span.ErrClosed) {
						t.Error(err)
					}
				}
			}()
		}
		group.Wait()
	}()
	time.Sleep(20 * time.Millisecond)
	closed := make(chan error)
	go func() { closed <- bob.Close() }()
	for range 3 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	for range events {
	}
	check(t, <-closed)
	check(t, listener.Close())
	check(t, client.Close())
	check(t, socket.Close())
	check(t, server.Close())
	for _, err := range []error{second(bob.Status()), second(bob.Address()), second(bob.Listen("tcp", ":7")), second(bob.Lookup("bob")),
		second(bob.Dial("tcp", "10.9.0.1:7")), second(bob.NextEvent(context.Background())), bob.Close()} {
		if !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestEventsLastAsLongAsTheContext(t *testing.T) {
	alice, _ := meshtest.Pair(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	var last error
	for _, err := range alice.Events(ctx) {
		last = err
	}
	if last != context.DeadlineExceeded {
		t.Fatal(last)
	}
	// One that waits does not keep another from giving up.
	lasting, stop := context.WithCancel(context.Background())
	waiting := make(chan error)
	go func() {
		for {
			if _, err := alice.NextEvent(lasting); err != nil {
				waiting <- err
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond)
	if _, err := alice.NextEvent(ctx); err != context.DeadlineExceeded {
		t.Fatal(err)
	}
	stop()
	if err := <-waiting; err != context.Canceled {
		t.Fatal(err)
	}
}

func TestTokensHaveRoomForTheirServices(t *testing.T) {
	service := "https://" + strings.Repeat("name.", 40) + "example.org"
	for many := range 17 {
		token, err := span.GenerateToken(slices.Repeat([]string{service}, many)...)
		if err != nil || len(token) < many*len(service) || !strings.HasPrefix(token, "span1.") {
			t.Fatal(many, token, err)
		}
	}
	long := "https://" + strings.Repeat("x", 20_000) + ".example.org"
	if token, err := span.GenerateToken(long); err == nil && len(token) < len(long) {
		t.Fatal(token)
	}
	for _, service := range []string{"no URL", "http://127.0.0.1:3000\x00more"} {
		if _, err := span.GenerateToken(service); err != span.ErrInvalid {
			t.Fatal(err)
		}
	}
}

func TestNodesThatCannotBe(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var config *span.ConfigError
	if _, err := span.Start(ctx, span.NodeConfig{Token: "span1.x", Netstack: true}); !errors.As(err, &config) || config.Err != span.ErrConfig || config.Text == "" {
		t.Fatal(err)
	}
	if _, err := span.Start(ctx, span.NodeConfig{Ephemeral: true, Netstack: true}); !errors.Is(err, span.ErrStart) {
		t.Fatal(err)
	}
	for _, config := range []span.NodeConfig{{Name: "a\x00b"}, {Token: "\x00"}, {Configuration: "name: a\n\x00"}} {
		if _, err := span.Start(ctx, config); err != span.ErrInvalid {
			t.Fatal(err)
		}
	}
	cancel()
	if _, err := span.Start(ctx, span.NodeConfig{Ephemeral: true, Netstack: true}); err != context.Canceled {
		t.Fatal(err)
	}
}

// Goroutines that wait are Go's affair: no thread waits for a connection, and nothing is left in the end.
func TestNoThreadWaitsForAConnection(t *testing.T) {
	const many = 300
	before := runtime.NumGoroutine()
	alice, bob := meshtest.Pair(t)
	listener, err := bob.Listen("tcp", ":7")
	check(t, err)
	threads := count(t, "/proc/self/task")
	var reading sync.WaitGroup
	conns := make([]net.Conn, 0, 2*many)
	for range many {
		client, err := alice.Dial("tcp", "10.9.0.2:7")
		check(t, err)
		server, err := listener.Accept()
		check(t, err)
		conns = append(conns, client, server)
		for _, conn := range conns[len(conns)-2:] {
			reading.Add(1)
			go func() {
				defer reading.Done()
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && err != io.EOF {
					t.Error(err)
				}
			}()
		}
	}
	if now := count(t, "/proc/self/task"); now > threads+many/4 {
		t.Errorf("%d threads while %d connections wait, %d without", now, 2*many, threads)
	}
	for _, conn := range conns {
		check(t, conn.Close())
	}
	reading.Wait()
	check(t, listener.Close())
	check(t, alice.Close())
	check(t, bob.Close())
	settle(t, "goroutines", before, runtime.NumGoroutine)
}

func TestManyConnectionsAtOnce(t *testing.T) {
	const many = 100
	alice, bob := meshtest.Pair(t)
	listener, err := bob.Listen("tcp", ":7")
	check(t, err)
	var echoing, asking, open sync.WaitGroup
	echoing.Add(1)
	go func() {
		defer echoing.Done()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			echoing.Add(1)
			go func() {
				defer echoing.Done()
				defer conn.Close()
				if _, err := io.Copy(conn, conn); err != nil {
					t.Error(err)
				}
			}()
		}
	}()
	open.Add(many)
	for i := range many {
		asking.Add(1)
		go func() {
			defer asking.Done()
			conn, err := alice.Dial("tcp", "10.9.0.2:7")
			open.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			// All are open at once, and wait for each other.
			open.Wait()
			sent := bytes.Repeat([]byte{byte(i)}, 1000)
			if _, err := conn.Write(sent); err != nil {
				t.Error(err)
			}
			if err := conn.(*span.Conn).CloseWrite(); err != nil {
				t.Error(err)
			}
			received, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(received, sent) {
				t.Error(len(received), err)
			}
		}()
	}
	asking.Wait()
	check(t, listener.Close())
	echoing.Wait()
}

// settle waits until there are not more of something than before.
func settle(t *testing.T, what string, before int, now func() int) {
	t.Helper()
	for deadline := time.Now().Add(meshtest.Patience); now() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d %s, %d before", now(), what, before)
		}
	}
}

func count(t *testing.T, directory string) int {
	t.Helper()
	entries, err := os.ReadDir(directory)
	check(t, err)
	return len(entries)
}
