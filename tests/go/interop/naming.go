package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// endpointLine is how an endpoint is written; Op only in updates, "add" or "delete".
type endpointLine struct {
	Op       string `json:"op,omitempty"`
	Key      string `json:"key"`
	Addr     string `json:"addr"`
	Metadata any    `json:"metadata"`
}

// addEndpoint writes `added KEY`.
func addEndpoint(ctx context.Context, client *clientv3.Client, words []string) error {
	manager, err := endpoints.NewManager(client, words[0])
	if err != nil {
		return err
	}
	endpoint := endpoints.Endpoint{Addr: words[2]}
	if len(words) > 3 {
		if err := json.Unmarshal([]byte(words[3]), &endpoint.Metadata); err != nil {
			return fmt.Errorf("the metadata is not JSON: %w", err)
		}
	}
	ctx, cancel := request(ctx)
	defer cancel()
	if err := manager.AddEndpoint(ctx, words[1], endpoint); err != nil {
		return err
	}
	fmt.Println("added", words[1])
	return nil
}

// deleteEndpoint writes `deleted KEY`.
func deleteEndpoint(ctx context.Context, client *clientv3.Client, words []string) error {
	manager, err := endpoints.NewManager(client, words[0])
	if err != nil {
		return err
	}
	ctx, cancel := request(ctx)
	defer cancel()
	if err := manager.DeleteEndpoint(ctx, words[1]); err != nil {
		return err
	}
	fmt.Println("deleted", words[1])
	return nil
}

// listEndpoints writes one line, a JSON object from keys to {"key", "addr", "metadata"}, ordered by key.
func listEndpoints(ctx context.Context, client *clientv3.Client, words []string) error {
	manager, err := endpoints.NewManager(client, words[0])
	if err != nil {
		return err
	}
	ctx, cancel := request(ctx)
	defer cancel()
	found, err := manager.List(ctx)
	if err != nil {
		return err
	}
	lines := make(map[string]endpointLine, len(found))
	for key, endpoint := range found {
		lines[key] = endpointLine{Key: key, Addr: endpoint.Addr, Metadata: endpoint.Metadata}
	}
	return json.NewEncoder(os.Stdout).Encode(lines)
}

// watchEndpoints writes `watching` once no later change can be missed, and then a line for each batch of updates
// (what is there already comes first): a JSON array of {"op", "key", "addr", "metadata"}. It ends with its standard
// input.
func watchEndpoints(ctx context.Context, client *clientv3.Client, words []string) error {
	manager, err := endpoints.NewManager(client, words[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	updates, err := manager.NewWatchChannel(ctx)
	if err != nil {
		return err
	}
	fmt.Println("watching")
	input := readLines(cancel)
	for {
		select {
		case batch, open := <-updates:
			if !open {
				return errors.New("the watch has ended")
			}
			if err := writeUpdates(batch); err != nil {
				return err
			}
		case _, open := <-input:
			if !open {
				return nil
			}
		}
	}
}

func writeUpdates(batch []*endpoints.Update) error {
	lines := make([]endpointLine, 0, len(batch))
	for _, update := range batch {
		op := "add"
		if update.Op == endpoints.Delete {
			op = "delete"
		}
		lines = append(lines, endpointLine{op, update.Key, update.Endpoint.Addr, update.Endpoint.Metadata})
	}
	return json.NewEncoder(os.Stdout).Encode(lines)
}
