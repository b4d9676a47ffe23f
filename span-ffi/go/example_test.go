package span_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/netip"

	"span"
)

// An HTTP service that only members of the mesh reach, by its node's name: http://fileserver/.
func ExampleNode_Listen() {
	node, err := span.Start(context.Background(), span.NodeConfig{Token: "span1.…", Name: "fileserver", Netstack: true})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	listener, err := node.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, http.FileServer(http.Dir("."))))
}

// A client of that service.
func ExampleNode_DialContext() {
	node, err := span.Start(context.Background(), span.NodeConfig{Token: "span1.…", Name: "reader", Netstack: true})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	client := http.Client{Transport: &http.Transport{DialContext: node.DialContext}}
	response, err := client.Get("http://fileserver/")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	fmt.Println(string(page), err)
}

func ExampleNode_Events() {
	node, err := span.Start(context.Background(), span.NodeConfig{Token: "span1.…", Netstack: true})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	for event, err := range node.Events(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Kind, event.Name, event.Reason)
	}
}

// Two tunnels that hand each other their datagrams, without a socket.
func ExampleTunnel() {
	alice, bob := span.Key{8}, span.Key{16} // span.GenerateKey makes secret ones
	path := span.CustomPath(1)              // the only one
	at := func(own, other span.Key, prefix string) *span.Tunnel {
		tunnel, err := span.NewTunnel(span.TunnelConfig{PrivateKey: own})
		if err != nil {
			log.Fatal(err)
		}
		_, err = tunnel.AddPeer(0, span.PeerConfig{
			PublicKey: other.Public(), AllowedIPs: []netip.Prefix{netip.MustParsePrefix(prefix)}, Path: path,
		})
		if err != nil {
			log.Fatal(err)
		}
		return tunnel
	}
	sender, receiver := at(alice, bob, "10.0.0.2/32"), at(bob, alice, "10.0.0.1/32")
	defer sender.Close()
	defer receiver.Close()

	// A packet from 10.0.0.1 to 10.0.0.2, in memory with room around it.
	arena := make([]byte, span.DatagramMax)
	packet := append(arena[:span.Headroom], 0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	packet = append(packet, "hey!"...)
	packets := []span.Packet{{At: span.Headroom, Len: uint32(len(packet) - span.Headroom)}}
	if _, err := sender.Seal(0, arena, packets); err != nil {
		log.Fatal(err)
	}
	fmt.Println("it waits for a session:", packets[0].Result == span.ResultStaged)

	// What one wants to send, the other receives, until there is nothing more.
	datagrams := make([]span.Packet, 4)
	for quiet := 0; quiet < 2; sender, receiver = receiver, sender {
		count, err := sender.PollTransmit(0, arena, datagrams)
		if err != nil {
			log.Fatal(err)
		}
		quiet++
		for i := range datagrams[:count] {
			quiet = 0
			datagrams[i].Path = path
		}
		if _, err := receiver.Open(0, arena, datagrams[:count]); err != nil {
			log.Fatal(err)
		}
		if err := receiver.HandleTimeout(0); err != nil {
			log.Fatal(err)
		}
		for _, it := range datagrams[:count] {
			if it.Result == span.ResultPacket {
				fmt.Printf("arrived: %s\n", arena[it.At+20:it.At+it.Len])
			}
		}
	}
	// Output:
	// it waits for a session: true
	// arrived: hey!
}
