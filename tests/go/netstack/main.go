// netstack carries TCP between two processes over wireguard-go and its network stack in the process, gVisor's: what
// Span's is measured against. One end receives and says how much arrived, the other sends for a while.
//
//	netstack receive -private-key HEX -peer HEX -listen PORT
//	netstack send -private-key HEX -peer HEX -endpoint 127.0.0.1:PORT -streams N -seconds S
//
// Whoever receives prints "ready", whoever sends {"bytes":…,"seconds":…}. Both end with their standard input.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

var (
	receiver = netip.MustParseAddr("fd00::1")
	sender   = netip.MustParseAddr("fd00::2")
	service  = netip.AddrPortFrom(receiver, 9)
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: netstack receive|send ...")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	privateKey := flags.String("private-key", "", "this end's key, hexadecimal")
	peer := flags.String("peer", "", "the other end's public key, hexadecimal")
	port := flags.Int("listen", 0, "UDP port")
	endpoint := flags.String("endpoint", "", "where the other end is")
	streams := flags.Int("streams", 1, "connections at once")
	seconds := flags.Float64("seconds", 3, "how long to send")
	if err := flags.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	here, there := receiver, sender
	if os.Args[1] == "send" {
		here, there = sender, receiver
	}
	tun, stack, err := netstack.CreateNetTUN([]netip.Addr{here}, nil, 1420)
	if err != nil {
		log.Fatal(err)
	}
	tunnel := device.NewDevice(tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	config := fmt.Sprintf("private_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=%s/128\n", *privateKey, *port, *peer, there)
	if *endpoint != "" {
		config += "endpoint=" + *endpoint + "\n"
	}
	if err := tunnel.IpcSet(config); err != nil {
		log.Fatal(err)
	}
	if err := tunnel.Up(); err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "receive":
		receive(stack)
	case "send":
		send(stack, *streams, time.Duration(*seconds*float64(time.Second)))
	default:
		log.Fatal("receive or send")
	}
}

func receive(stack *netstack.Net) {
	listener, err := stack.ListenTCPAddrPort(service)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			stream, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go count(stream)
		}
	}()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// count reads until the end, and answers how much that was.
func count(stream net.Conn) {
	defer stream.Close()
	buffer := make([]byte, 256<<10)
	var total uint64
	for {
		read, err := stream.Read(buffer)
		total += uint64(read)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := binary.Write(stream, binary.BigEndian, total); err != nil {
		log.Fatal(err)
	}
}

func send(stack *netstack.Net, streams int, duration time.Duration) {
	connections := make([]net.Conn, streams)
	for i := range connections {
		stream, err := stack.DialTCPAddrPort(service)
		if err != nil {
			log.Fatal(err)
		}
		connections[i] = stream
	}
	var group sync.WaitGroup
	totals := make([]uint64, streams)
	began := time.Now()
	for i, stream := range connections {
		group.Go(func() {
			buffer := make([]byte, 256<<10)
			for time.Since(began) < duration {
				if _, err := stream.Write(buffer); err != nil {
					log.Fatal(err)
				}
			}
			if err := stream.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				log.Fatal(err)
			}
			if err := binary.Read(stream, binary.BigEndian, &totals[i]); err != nil {
				log.Fatal(err)
			}
		})
	}
	group.Wait()
	var total uint64
	for _, bytes := range totals {
		total += bytes
	}
	fmt.Printf("{\"bytes\":%d,\"seconds\":%f}\n", total, time.Since(began).Seconds())
	// Until somebody has looked at what this process has cost.
	_, _ = io.Copy(io.Discard, os.Stdin)
}
