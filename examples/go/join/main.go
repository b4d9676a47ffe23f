// Joins a mesh as a host of its own, without privileges: greets whoever connects, and reads everyone's greeting.
//
//	SPAN_TOKEN=span1.… go run . alice
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"span"
)

func main() {
	ctx, name := context.Background(), os.Args[1]
	node := must(span.Start(ctx, span.NodeConfig{
		Token: os.Getenv("SPAN_TOKEN"), Name: name, Netstack: true, Ephemeral: true, NoControlSocket: true,
		Configuration: "apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\n", // any port of the machine
	}))
	listener := must(node.Listen("tcp", ":7777"))
	go func() {
		for {
			conn := must(listener.Accept())
			fmt.Fprintf(conn, "hello from %s\n", name)
			conn.Close()
		}
	}()
	for event, err := range node.Events(ctx) {
		if must(event, err).Kind == span.EventPeerUp {
			conn := must(node.Dial("tcp", net.JoinHostPort(event.Address.String(), "7777")))
			fmt.Printf("%s: %s", name, must(io.ReadAll(conn)))
			conn.Close()
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
