// Command post stores bytes with a discovery service under an id, whatever they are: what anyone can do who
// knows a cluster's id. It prints the service's status code.
package main

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	serverpb "github.com/siderolabs/discovery-api/api/v1alpha1/server/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func main() {
	endpoint := flag.String("endpoint", "", "host:port of the service, without TLS")
	cluster := flag.String("cluster", "", "cluster id")
	id := flag.String("id", "", "affiliate id to store under")
	data := flag.String("data", "", "record, hexadecimal")
	endpoints := flag.String("endpoints", "", "sealed endpoints, hexadecimal, separated by commas")
	ttl := flag.Duration("ttl", 30*time.Minute, "for how long")
	flag.Parse()

	if err := post(*endpoint, *cluster, *id, *data, *endpoints, *ttl); err != nil {
		fmt.Fprintln(os.Stderr, "post:", err)
		os.Exit(1)
	}
}

func post(endpoint, cluster, id, data, endpoints string, ttl time.Duration) error {
	request := &serverpb.AffiliateUpdateRequest{ClusterId: cluster, AffiliateId: id, Ttl: durationpb.New(ttl)}
	var err error
	if request.AffiliateData, err = hex.DecodeString(data); err != nil {
		return err
	}
	for _, text := range strings.FieldsFunc(endpoints, func(r rune) bool { return r == ',' }) {
		sealed, err := hex.DecodeString(text)
		if err != nil {
			return err
		}
		request.AffiliateEndpoints = append(request.AffiliateEndpoints, sealed)
	}
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	_, err = serverpb.NewClusterClient(connection).AffiliateUpdate(ctx, request)
	fmt.Println(status.Code(err))
	return nil
}
