package wireguard

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/ipc"

	"span"
)

// An IPCError says why a configuration was not taken.
type IPCError struct {
	code int64
	err  error
}

func (e *IPCError) Error() string { return fmt.Sprintf("IPC error %d: %v", e.code, e.err) }

// Unwrap returns what was wrong.
func (e *IPCError) Unwrap() error { return e.err }

// ErrorCode returns the number that the protocol has for it.
func (e *IPCError) ErrorCode() int64 { return e.code }

func invalid(key, value string, err error) error {
	return &IPCError{ipc.IpcErrorInvalid, fmt.Errorf("%s=%s: %w", key, value, err)}
}

var (
	errKey   = errors.New("no such key")
	errValue = errors.New("no such value")
)

// IpcGet returns the configuration and how the peers are doing.
func (d *Device) IpcGet() (string, error) {
	var text strings.Builder
	err := d.IpcGetOperation(&text)
	return text.String(), err
}

// IpcSet changes the configuration.
func (d *Device) IpcSet(config string) error { return d.IpcSetOperation(strings.NewReader(config)) }

// IpcGetOperation writes what IpcGet returns.
func (d *Device) IpcGetOperation(w io.Writer) error {
	var text bytes.Buffer
	if err := d.describe(&text); err != nil {
		return &IPCError{ipc.IpcErrorUnknown, err}
	}
	if _, err := w.Write(text.Bytes()); err != nil {
		return &IPCError{ipc.IpcErrorIO, err}
	}
	return nil
}

func (d *Device) describe(text *bytes.Buffer) error {
	d.state.Lock()
	port, mark := d.port, d.mark
	d.state.Unlock()
	d.configuring.RLock()
	defer d.configuring.RUnlock()
	if !d.privateKey.IsZero() {
		fmt.Fprintf(text, "private_key=%x\n", d.privateKey[:])
	}
	if port != 0 {
		fmt.Fprintf(text, "listen_port=%d\n", port)
	}
	if mark != 0 {
		fmt.Fprintf(text, "fwmark=%d\n", mark)
	}
	peers, err := d.tunnel.Peers()
	if err != nil {
		return err
	}
	for _, peer := range peers {
		stats, err := d.tunnel.Stats(d.clock.now(), peer)
		if err != nil {
			return err
		}
		prefixes, err := d.tunnel.AllowedIPs(peer)
		if err != nil {
			return err
		}
		preshared := d.preshared[peer]
		fmt.Fprintf(text, "public_key=%x\npreshared_key=%x\nprotocol_version=1\n", stats.PublicKey[:], preshared[:])
		if endpoint := d.peers.text(peer, stats.Path); endpoint != "" {
			fmt.Fprintf(text, "endpoint=%s\n", endpoint)
		}
		var seconds, nanos int64
		if at := stats.LastHandshake; !at.IsZero() {
			seconds, nanos = at.Unix(), int64(at.Nanosecond())
		}
		fmt.Fprintf(text, "last_handshake_time_sec=%d\nlast_handshake_time_nsec=%d\n", seconds, nanos)
		fmt.Fprintf(text, "tx_bytes=%d\nrx_bytes=%d\n", stats.TxBytes, stats.RxBytes)
		fmt.Fprintf(text, "persistent_keepalive_interval=%d\n", stats.Keepalive/time.Second)
		for _, prefix := range prefixes {
			fmt.Fprintf(text, "allowed_ip=%s\n", prefix)
		}
	}
	return nil
}

// IpcSetOperation reads what IpcSet takes, as far as an empty line. Lines before one that is wrong have their effect.
func (d *Device) IpcSetOperation(r io.Reader) error {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	// What is due now, of peers that are new or changed.
	defer d.timer.wake()
	set := setting{device: d}
	lines := bufio.NewScanner(r)
	for lines.Scan() && lines.Text() != "" {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if !ok {
			return &IPCError{ipc.IpcErrorProtocol, fmt.Errorf("no key and value: %q", lines.Text())}
		}
		if err := set.line(key, value); err != nil {
			d.log.Errorf("%v", err)
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return &IPCError{ipc.IpcErrorIO, err}
	}
	return nil
}

// A setting is how far a configuration was read.
type setting struct {
	device *Device
	// Whether lines are about a peer, and about which: NoPeer is one that is to be passed over.
	ofPeer  bool
	created bool
	peer    span.PeerID
}

func (s *setting) line(key, value string) error {
	switch {
	case key == "public_key":
		return s.choose(value)
	case s.ofPeer:
		return s.peerLine(key, value)
	}
	return s.deviceLine(key, value)
}

func (s *setting) deviceLine(key, value string) error {
	d := s.device
	switch key {
	case "private_key":
		private, err := parseKey(value)
		if err == nil {
			err = d.setPrivateKey(private)
		}
		if err != nil {
			// Not the value: it is a secret.
			return invalid(key, "…", err)
		}
	case "listen_port":
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return invalid(key, value, err)
		}
		d.state.Lock()
		defer d.state.Unlock()
		d.port = uint16(port)
		if err := d.reopen(); err != nil {
			return &IPCError{ipc.IpcErrorPortInUse, err}
		}
	case "fwmark":
		mark, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return invalid(key, value, err)
		}
		if err := d.BindSetMark(uint32(mark)); err != nil {
			return &IPCError{ipc.IpcErrorPortInUse, err}
		}
	case "replace_peers":
		if err := isTrue(value); err != nil {
			return invalid(key, value, err)
		}
		peers, err := d.tunnel.Peers()
		if err != nil {
			return invalid(key, value, err)
		}
		for _, peer := range peers {
			d.removePeer(peer)
		}
	default:
		return invalid(key, value, errKey)
	}
	return nil
}

// choose begins with another peer. The device's own key is passed over, as one list of peers may be for all.
func (s *setting) choose(value string) error {
	d := s.device
	key, err := parseKey(value)
	if err != nil {
		return invalid("public_key", value, err)
	}
	s.ofPeer, s.created = true, false
	s.peer, err = d.tunnel.FindPeer(key)
	if errors.Is(err, span.ErrUnknownPeer) {
		s.created = true
		s.peer, err = d.tunnel.AddPeer(d.clock.now(), span.PeerConfig{PublicKey: key})
	}
	if errors.Is(err, span.ErrOwnKey) {
		s.created, s.peer, err = false, span.NoPeer, nil
	}
	if err != nil {
		return invalid("public_key", value, err)
	}
	return nil
}

func (s *setting) peerLine(key, value string) error {
	d, now := s.device, s.device.clock.now()
	var (
		change func() error
		err    error
	)
	// What is wrong is wrong, also about a peer that is passed over.
	switch key {
	case "update_only":
		err = isTrue(value)
		change = func() error { s.drop(s.created); return nil }
	case "remove":
		err = isTrue(value)
		change = func() error { s.drop(true); return nil }
	case "replace_allowed_ips":
		err = isTrue(value)
		change = func() error { return d.tunnel.ClearAllowedIPs(s.peer) }
	case "preshared_key":
		var preshared span.Key
		if preshared, err = parseKey(value); err != nil {
			value = "…"
		}
		change = func() error {
			d.preshared[s.peer] = preshared
			return d.tunnel.SetPresharedKey(s.peer, preshared)
		}
	case "endpoint":
		endpoint, problem := d.bind.ParseEndpoint(value)
		err = problem
		change = func() error {
			path := d.peers.path(endpoint)
			d.peers.heard(s.peer, path, endpoint)
			return d.tunnel.SetPath(now, s.peer, path)
		}
	case "persistent_keepalive_interval":
		var seconds uint64
		seconds, err = strconv.ParseUint(value, 10, 16)
		change = func() error { return d.tunnel.SetKeepalive(now, s.peer, time.Duration(seconds)*time.Second) }
	case "allowed_ip":
		text, taken := strings.CutPrefix(value, "-")
		prefix, problem := netip.ParsePrefix(text)
		err = problem
		change = func() error {
			if !taken {
				return d.tunnel.AddAllowedIP(s.peer, prefix.Masked())
			}
			err := d.tunnel.RemoveAllowedIP(s.peer, prefix.Masked())
			if errors.Is(err, span.ErrInvalid) {
				// It was not the peer's.
				return nil
			}
			return err
		}
	case "protocol_version":
		if value != "1" {
			err = errValue
		}
	default:
		err = errKey
	}
	if err == nil && change != nil && s.peer != span.NoPeer {
		err = change()
	}
	if err != nil {
		return invalid(key, value, err)
	}
	return nil
}

// drop removes the peer if it is to be, and passes over what is still said of it.
func (s *setting) drop(really bool) {
	if really {
		s.device.removePeer(s.peer)
		s.peer = span.NoPeer
	}
}

func isTrue(value string) error {
	if value != "true" {
		return errValue
	}
	return nil
}

// parseKey reads a key in hexadecimal digits, the only way in which this protocol writes them.
func parseKey(text string) (key span.Key, err error) {
	bytes, err := hex.DecodeString(text)
	if err == nil && len(bytes) != len(key) {
		err = fmt.Errorf("%d bytes are no key", len(bytes))
	}
	if err == nil {
		copy(key[:], bytes)
	}
	return key, err
}

// IpcHandle answers the operations that come over a connection, such as one that ipc.UAPIListen accepted, and closes it.
func (d *Device) IpcHandle(socket net.Conn) {
	defer socket.Close()
	in, out := bufio.NewReader(socket), bufio.NewWriter(socket)
	for {
		operation, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch operation {
		case "set=1\n":
			lines := &untilEmptyLine{from: in}
			err = d.IpcSetOperation(lines)
			// What follows a line that is wrong.
			_, _ = io.Copy(io.Discard, lines)
		case "get=1\n":
			if _, err = in.ReadString('\n'); err != nil {
				return
			}
			err = d.IpcGetOperation(out)
		default:
			d.log.Errorf("invalid UAPI operation: %q", operation)
			return
		}
		var failed *IPCError
		code := int64(0)
		if errors.As(err, &failed) {
			code = failed.code
		}
		fmt.Fprintf(out, "errno=%d\n\n", code)
		if out.Flush() != nil {
			return
		}
	}
}

// An untilEmptyLine reads as far as an empty line, so that the next operation stays where it is.
type untilEmptyLine struct {
	from  *bufio.Reader
	ended bool
	// Whether a line has begun.
	within bool
}

func (r *untilEmptyLine) Read(buffer []byte) (int, error) {
	for i := range buffer {
		if r.ended {
			return i, io.EOF
		}
		b, err := r.from.ReadByte()
		if err != nil {
			return i, err
		}
		buffer[i] = b
		r.ended = b == '\n' && !r.within
		r.within = b != '\n'
	}
	return len(buffer), nil
}
