package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"span"
)

// How the program is built, and what has to hold of it then. In another file for programs that carry the library.
var (
	flags []string
	built = func(*testing.T, string) {}
)

// The service and its client are processes of their own that find each other by a third, which serves discovery.
func TestTwoProcessesMeet(t *testing.T) {
	directory := t.TempDir()
	content := bytes.Repeat([]byte("only for members\n"), 100_000)
	if err := os.WriteFile(filepath.Join(directory, "file"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(directory, "http")
	build := exec.Command("go", append(append([]string{"build"}, flags...), "-o", program, ".")...)
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatal(err, string(output))
	}
	built(t, program)
	t.Setenv("SPAN_TOKEN", discovery(t))

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	service := exec.CommandContext(ctx, program, "serve", "files", directory)
	service.Stderr = os.Stderr
	service.Cancel = func() error { return service.Process.Signal(os.Interrupt) }
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	client := exec.CommandContext(ctx, program, "get", "http://files/file")
	client.Stderr = os.Stderr
	received, err := client.Output()
	if err != nil || !bytes.Equal(received, content) {
		t.Errorf("%d bytes: %v", len(received), err)
	}
	if missing, err := exec.CommandContext(ctx, program, "get", "http://files/missing").CombinedOutput(); err == nil || string(missing) != "404 Not Found\n" {
		t.Errorf("%s: %v", missing, err)
	}
	// It ends in order when it is asked to.
	if err := service.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	if err := service.Wait(); err != nil {
		t.Error(err)
	}
}

// discovery serves a new cluster on the loopback interface, for as long as the test, and returns its token.
func discovery(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	free.Close()
	token, err := span.GenerateToken("http://" + at)
	if err != nil {
		t.Fatal(err)
	}
	node, err := span.Start(context.Background(), span.NodeConfig{
		Token: token, Name: "discovery", Netstack: true, Ephemeral: true, NoControlSocket: true,
		Configuration: fmt.Sprintf("apiVersion: span/v1\nkind: NodeConfig\nlistenPort: 0\ndiscovery:\n  serve: %s\n", at),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}
