// Serves files over HTTP to the members of a mesh and to nobody else, and reads them. No port of the machine is opened
// for it, and no privileges are needed.
//
//	SPAN_TOKEN=span1.… go run . serve files .
//	SPAN_TOKEN=span1.… go run . get http://files/README.md
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"span"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := errors.New("usage: http serve NAME DIRECTORY | http get URL")
	switch {
	case len(os.Args) == 4 && os.Args[1] == "serve":
		err = serve(ctx, os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "get":
		err = get(ctx, os.Args[2], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// join joins the mesh as a host of its own, which is forgotten when the program ends.
func join(ctx context.Context, name string) (*span.Node, error) {
	return span.Start(ctx, span.NodeConfig{
		Token:           os.Getenv("SPAN_TOKEN"),
		Name:            name,
		Configuration:   "apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\n", // any UDP port of the machine
		Netstack:        true,
		Ephemeral:       true,
		NoControlSocket: true,
	})
}

func serve(ctx context.Context, name, directory string) error {
	node, err := join(ctx, name)
	if err != nil {
		return err
	}
	defer node.Close()
	listener, err := node.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	server := http.Server{Handler: http.FileServer(http.Dir(directory))}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func get(ctx context.Context, from string, to io.Writer) error {
	target, err := url.Parse(from)
	if err != nil {
		return err
	}
	node, err := join(ctx, fmt.Sprintf("reader-%d", os.Getpid()))
	if err != nil {
		return err
	}
	defer node.Close()
	for event, err := range node.Events(ctx) {
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", target.Hostname(), err)
		}
		if event.Kind == span.EventPeerUp && event.Name == target.Hostname() {
			break
		}
	}
	client := http.Client{Transport: &http.Transport{DialContext: node.DialContext}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	_, err = io.Copy(to, response.Body)
	return err
}
