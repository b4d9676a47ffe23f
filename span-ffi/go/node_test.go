package span

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// mesh starts two nodes that know each other. The first serves discovery.
func mesh(t testing.TB) (alice, bob *Node) {
	t.Helper()
	discovery, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	at := discovery.Addr().String()
	check(t, discovery.Close())
	token, err := GenerateToken("http://" + at)
	check(t, err)
	start := func(name, serve string, address int) *Node {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		check(t, err)
		defer socket.Close()
		node, err := StartNode(NodeConfig{
			Configuration: fmt.Sprintf("apiVersion: span/v1\nkind: NodeConfig\naddresses: [10.9.0.%d]\n"+
				"discovery:\n  bypassMesh: false\n%s", address, serve),
			Token:           token,
			Name:            name,
			Endpoints:       []netip.AddrPort{socket.LocalAddr().(*net.UDPAddr).AddrPort()},
			UDP4:            socket,
			Netstack:        true,
			Ephemeral:       true,
			NoControlSocket: true,
		})
		check(t, err)
		t.Cleanup(func() {
			if err := node.Close(); err != nil && err != ErrClosed {
				t.Error(err)
			}
		})
		return node
	}
	alice = start("alice", "  serve: "+at+"\n", 1)
	bob = start("bob", "", 2)
	waitFor(t, alice, "bob")
	waitFor(t, bob, "alice")
	return alice, bob
}

func waitFor(t testing.TB, node *Node, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		event, err := node.Event(ctx)
		check(t, err)
		if event.Kind == NodePeerUp && event.Name == name && event.NodeID != "" && event.PublicKey != (Key{}) {
			return
		}
	}
}

func addressOf(t testing.TB, node *Node, port uint16) string {
	t.Helper()
	address, err := node.Address()
	check(t, err)
	return netip.AddrPortFrom(address, port).String()
}

func TestHTTPOverTheMesh(t *testing.T) {
	alice, bob := mesh(t)
	listener, err := bob.Listen("tcp", ":80")
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
	client := &http.Client{Transport: &http.Transport{DialContext: alice.DialContext}, Timeout: time.Minute}
	var group sync.WaitGroup
	for i := range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			sent := bytes.Repeat([]byte{byte('a' + i)}, 100_000)
			response, err := client.Post("http://"+addressOf(t, bob, 80), "text/plain", bytes.NewReader(sent))
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

func TestConnectionsAreAsGoWantsThem(t *testing.T) {
	alice, bob := mesh(t)
	listener, err := bob.Listen("tcp6", addressOf(t, bob, 0))
	check(t, err)
	defer listener.Close()
	accepted := make(chan net.Conn)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	client, err := alice.Dial("tcp", listener.Addr().String())
	check(t, err)
	server := <-accepted
	if client.RemoteAddr().String() != server.LocalAddr().String() || client.LocalAddr().String() != server.RemoteAddr().String() {
		t.Fatal(client.RemoteAddr(), server.LocalAddr())
	}

	// Deadlines.
	check(t, server.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	var timeout net.Error
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatal(err)
	}
	check(t, server.SetReadDeadline(time.Time{}))

	// Halves.
	_, err = client.Write([]byte("question"))
	check(t, err)
	check(t, client.(*Conn).CloseWrite())
	question, err := io.ReadAll(server)
	if string(question) != "question" || err != nil {
		t.Fatal(string(question), err)
	}
	_, err = server.Write([]byte("answer"))
	check(t, err)
	answer := make([]byte, 6)
	if _, err := io.ReadFull(client, answer); string(answer) != "answer" || err != nil {
		t.Fatal(string(answer), err)
	}

	// Whoever waits while it is closed comes back.
	waiting := make(chan error)
	go func() {
		_, err := client.Read(answer)
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	check(t, client.Close())
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if err := client.Close(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	check(t, server.Close())

	// Nobody there, no names, no such network.
	if _, err := alice.Dial("tcp", addressOf(t, bob, 1)); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	if _, err := alice.Dial("tcp", "bob:80"); err == nil {
		t.Fatal("a name")
	}
	if _, err := alice.Dial("sctp", "[fd00::1]:80"); !errors.As(err, new(net.UnknownNetworkError)) {
		t.Fatal(err)
	}
	if _, err := alice.Dial("tcp", "10.9.0.77:80"); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}

	// Nobody who answers.
	there := addressOf(t, bob, 80)
	check(t, bob.Close())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := alice.DialContext(ctx, "tcp", there); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestDatagramsArrive(t *testing.T) {
	alice, bob := mesh(t)
	server, err := bob.ListenPacket("udp4", "10.9.0.2:53")
	check(t, err)
	client, err := alice.Dial("udp", "10.9.0.2:53")
	check(t, err)
	_, err = client.Write([]byte("question"))
	check(t, err)
	buffer := make([]byte, 100)
	count, from, err := server.ReadFrom(buffer)
	if string(buffer[:count]) != "question" || err != nil {
		t.Fatal(string(buffer[:count]), err)
	}
	_, err = server.WriteTo([]byte("answer"), from)
	check(t, err)
	count, err = client.Read(buffer)
	if string(buffer[:count]) != "answer" || err != nil || client.RemoteAddr().String() != server.LocalAddr().String() {
		t.Fatal(string(buffer[:count]), err)
	}
	check(t, client.SetReadDeadline(time.Now()))
	if _, err := client.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	check(t, client.Close())
	check(t, server.Close())
}

func TestStatusAndEnd(t *testing.T) {
	alice, bob := mesh(t)
	text, err := alice.Status()
	check(t, err)
	var status struct {
		Node  struct{ Name string }
		Peers []struct{ Name string }
	}
	check(t, json.Unmarshal(text, &status))
	if status.Node.Name != "alice" || len(status.Peers) != 1 || status.Peers[0].Name != "bob" {
		t.Fatal(string(text))
	}
	listener, err := bob.Listen("tcp", ":7")
	check(t, err)
	ended := make(chan error)
	go func() {
		_, err := listener.Accept()
		ended <- err
	}()
	time.Sleep(20 * time.Millisecond)
	check(t, bob.Close())
	if err := <-ended; !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	check(t, listener.Close())
	if _, err := bob.Status(); err != ErrClosed {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := alice.Event(ctx); err != context.Canceled {
		t.Fatal(err)
	}
	var config *ConfigError
	if _, err := StartNode(NodeConfig{Token: "span1.x", Netstack: true}); !errors.As(err, &config) || config.Status != ErrConfig || config.Text == "" {
		t.Fatal(err)
	}
	if _, err := StartNode(NodeConfig{Ephemeral: true, Netstack: true}); !errors.Is(err, ErrStart) {
		t.Fatal(err)
	}
}
