// Interface is a WireGuard interface in a program of its own: the TUN device, the sockets and the configuration socket are
// wireguard-go's, the tunnel between them is Span's. Run it as root, and configure it with wg(8) and ip(8):
//
//	interface wg0
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"

	"span/wireguard"
)

func main() {
	if len(os.Args) != 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "Usage: interface NAME")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "interface:", err)
		os.Exit(1)
	}
}

// run serves an interface of this name until a signal comes or somebody deletes it.
func run(name string) error {
	tunDevice, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return fmt.Errorf("making the interface %s, which takes root: %w", name, err)
	}
	dev := wireguard.NewDevice(tunDevice, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, name+": "))
	defer dev.Close()

	listener, err := listen(name)
	if err != nil {
		return fmt.Errorf("opening the socket that wg(8) talks to: %w", err)
	}
	defer listener.Close()
	lost := make(chan error, 1)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				lost <- err
				return
			}
			go dev.IpcHandle(client)
		}
	}()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, os.Interrupt)
	select {
	case <-signals:
	case <-dev.Wait():
	case err = <-lost:
	}
	return err
}

// listen listens to wg(8).
func listen(name string) (net.Listener, error) {
	file, err := ipc.UAPIOpen(name)
	if err != nil {
		return nil, err
	}
	return ipc.UAPIListen(name, file)
}
