// Publishes one event over gRPC, from the .proto file.
package main

//go:generate protoc -I ../../proto --go_out=. --go-grpc_out=. --go_opt=module=example.com/tidings-example --go-grpc_opt=module=example.com/tidings-example --go_opt=Mtidings/fanout/v1/fanout.proto=example.com/tidings-example/fanout --go-grpc_opt=Mtidings/fanout/v1/fanout.proto=example.com/tidings-example/fanout tidings/fanout/v1/fanout.proto

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"example.com/tidings-example/fanout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func main() {
	server := os.Getenv("TIDINGS_SERVER")
	if server == "" {
		server = "127.0.0.1:9000"
	}
	connection, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if key := os.Getenv("TIDINGS_API_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	data, err := json.Marshal(map[string]string{"title": "Hello from Go"})
	if err != nil {
		log.Fatal(err)
	}
	published, err := fanout.NewFanoutClient(connection).Publish(ctx, &fanout.PublishRequest{Event: &fanout.Event{
		Id:       fmt.Sprintf("go-%d", time.Now().UnixNano()),
		Type:     "task.created",
		Source:   "go-example",
		Channels: []string{"tasks:1"},
		Data:     data,
	}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("published %s to %s\n", published.EventId, published.Results[0].Channel)
}
