// Command affiliate is one member of a cluster as Talos plays it: it drives
// the discovery client that Talos itself links, publishes one affiliate and
// prints what it sees of the others.
//
// Each time the view changes, one JSON object is written to standard output.
// The program leaves (AffiliateDelete) when its standard input ends, and exits.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	clientpb "github.com/siderolabs/discovery-api/api/v1alpha1/client/pb"
	"github.com/siderolabs/discovery-client/pkg/client"
	"go.uber.org/zap"
)

// member is the JSON form of an affiliate, the same in both directions.
type member struct {
	NodeID          string   `json:"node_id"`
	Addresses       []string `json:"addresses"`
	Hostname        string   `json:"hostname"`
	Nodename        string   `json:"nodename"`
	MachineType     string   `json:"machine_type"`
	OperatingSystem string   `json:"operating_system"`
	PublicKey       string   `json:"public_key"`
	KubeSpanAddress string   `json:"kubespan_address"`
	Additional      []string `json:"additional_addresses"`
	Excluded        []string `json:"exclude_advertised_addresses"`
	APIServerPort   uint32   `json:"api_server_port"`
	Endpoints       []string `json:"endpoints"`
	// Skipped is what Talos does not know of a record, in hex.
	Skipped string `json:"skipped,omitempty"`
}

// view is one line of output.
type view struct {
	PublicAddress string   `json:"public_address"`
	Members       []member `json:"members"`
}

// observed is an endpoint this member has seen another member at.
type observed struct {
	NodeID   string `json:"node_id"`
	Endpoint string `json:"endpoint"`
}

func main() {
	endpoint := flag.String("endpoint", "", "host:port of the service")
	plaintext := flag.Bool("plaintext", false, "speak HTTP/2 without TLS")
	authority := flag.String("ca", "", "PEM file that signs the service's certificate")
	cluster := flag.String("cluster", "", "cluster id, as configured")
	secret := flag.String("secret", "", "cluster secret, base64 of 32 bytes")
	me := flag.String("publish", "", "this member as JSON")
	seen := flag.String("observed", "[]", "endpoints of other members to publish, as JSON")
	flag.Parse()

	if err := run(*endpoint, *plaintext, *authority, *cluster, *secret, *me, *seen); err != nil {
		fmt.Fprintln(os.Stderr, "affiliate:", err)
		os.Exit(1)
	}
}

func run(endpoint string, plaintext bool, authority, cluster, secret, me, seen string) error {
	key, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	var local member
	if err := json.Unmarshal([]byte(me), &local); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	var others []observed
	if err := json.Unmarshal([]byte(seen), &others); err != nil {
		return fmt.Errorf("observed: %w", err)
	}
	roots, err := trusted(authority)
	if err != nil {
		return err
	}

	discovery, err := client.NewClient(client.Options{
		Cipher:        block,
		Endpoint:      endpoint,
		ClusterID:     cluster,
		AffiliateID:   local.NodeID,
		ClientVersion: "v1.14.0",
		TTL:           30 * time.Minute,
		Insecure:      plaintext,
		TLSConfig:     func() *tls.Config { return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12} },
	})
	if err != nil {
		return err
	}
	affiliate, err := local.encode()
	if err != nil {
		return err
	}
	var extra []client.Endpoint
	for _, other := range others {
		encoded, err := encodeEndpoint(other.Endpoint)
		if err != nil {
			return err
		}
		extra = append(extra, client.Endpoint{AffiliateID: other.NodeID, Endpoints: []*clientpb.Endpoint{encoded}})
	}
	if err := discovery.SetLocalData(affiliate, extra); err != nil {
		return err
	}

	logger, err := zap.NewDevelopment()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- discovery.Run(ctx, logger, changed) }()

	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin))
		close(closed)
	}()

	for {
		select {
		case err := <-ended:
			return err
		case <-changed:
			if err := show(discovery); err != nil {
				return err
			}
		case <-closed:
			discovery.DeleteLocalAffiliate()
			// The client tells nobody when the deletion has been sent.
			time.Sleep(500 * time.Millisecond)
			stop()
			return <-ended
		}
	}
}

func trusted(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New(file + " holds no certificate")
	}
	return pool, nil
}

func show(discovery *client.Client) error {
	out := view{Members: []member{}}
	if ip, ok := netip.AddrFromSlice(discovery.GetPublicIP()); ok {
		out.PublicAddress = ip.String()
	}
	for _, affiliate := range discovery.GetAffiliates() {
		decoded, err := decode(affiliate)
		if err != nil {
			return err
		}
		out.Members = append(out.Members, decoded)
	}
	slices.SortFunc(out.Members, func(a, b member) int { return cmp.Compare(a.NodeID, b.NodeID) })
	var line bytes.Buffer
	if err := json.NewEncoder(&line).Encode(out); err != nil {
		return err
	}
	_, err := os.Stdout.Write(line.Bytes())
	return err
}

func (m member) encode() (*client.Affiliate, error) {
	out := &client.Affiliate{Affiliate: &clientpb.Affiliate{
		NodeId:          m.NodeID,
		Hostname:        m.Hostname,
		Nodename:        m.Nodename,
		MachineType:     m.MachineType,
		OperatingSystem: m.OperatingSystem,
	}}
	for _, text := range m.Addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		out.Affiliate.Addresses = append(out.Affiliate.Addresses, ip.AsSlice())
	}
	if m.PublicKey != "" {
		address, err := netip.ParseAddr(m.KubeSpanAddress)
		if err != nil {
			return nil, err
		}
		out.Affiliate.Kubespan = &clientpb.KubeSpan{PublicKey: m.PublicKey, Address: address.AsSlice()}
		if out.Affiliate.Kubespan.AdditionalAddresses, err = encodePrefixes(m.Additional); err != nil {
			return nil, err
		}
		if out.Affiliate.Kubespan.ExcludeAdvertisedAddresses, err = encodePrefixes(m.Excluded); err != nil {
			return nil, err
		}
	}
	if m.APIServerPort != 0 {
		out.Affiliate.ControlPlane = &clientpb.ControlPlane{ApiServerPort: m.APIServerPort}
	}
	for _, text := range m.Endpoints {
		endpoint, err := encodeEndpoint(text)
		if err != nil {
			return nil, err
		}
		out.Endpoints = append(out.Endpoints, endpoint)
	}
	return out, nil
}

func encodePrefixes(texts []string) ([]*clientpb.IPPrefix, error) {
	var out []*clientpb.IPPrefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		out = append(out, &clientpb.IPPrefix{Ip: prefix.Addr().AsSlice(), Bits: uint32(prefix.Bits())})
	}
	return out, nil
}

func encodeEndpoint(text string) (*clientpb.Endpoint, error) {
	endpoint, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, err
	}
	return &clientpb.Endpoint{Ip: endpoint.Addr().AsSlice(), Port: uint32(endpoint.Port())}, nil
}

func decode(affiliate *client.Affiliate) (member, error) {
	in := affiliate.Affiliate
	out := member{
		NodeID:          in.NodeId,
		Hostname:        in.Hostname,
		Nodename:        in.Nodename,
		MachineType:     in.MachineType,
		OperatingSystem: in.OperatingSystem,
		APIServerPort:   in.GetControlPlane().GetApiServerPort(),
		Skipped:         hex.EncodeToString(in.ProtoReflect().GetUnknown()),
	}
	for _, raw := range in.Addresses {
		ip, ok := netip.AddrFromSlice(raw)
		if !ok {
			return out, fmt.Errorf("%s: address %x", in.NodeId, raw)
		}
		out.Addresses = append(out.Addresses, ip.String())
	}
	if span := in.Kubespan; span != nil {
		ip, ok := netip.AddrFromSlice(span.Address)
		if !ok {
			return out, fmt.Errorf("%s: overlay address %x", in.NodeId, span.Address)
		}
		out.PublicKey, out.KubeSpanAddress = span.PublicKey, ip.String()
		out.Additional = decodePrefixes(span.AdditionalAddresses)
		out.Excluded = decodePrefixes(span.ExcludeAdvertisedAddresses)
	}
	for _, endpoint := range affiliate.Endpoints {
		ip, _ := netip.AddrFromSlice(endpoint.Ip)
		out.Endpoints = append(out.Endpoints, netip.AddrPortFrom(ip, uint16(endpoint.Port)).String())
	}
	return out, nil
}

func decodePrefixes(in []*clientpb.IPPrefix) []string {
	var out []string
	for _, prefix := range in {
		ip, _ := netip.AddrFromSlice(prefix.Ip)
		out = append(out, netip.PrefixFrom(ip, int(prefix.Bits)).String())
	}
	return out
}
