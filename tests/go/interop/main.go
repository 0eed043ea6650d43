// Interop runs the naming, lock and election recipes of etcd's own Go client on one endpoint, for tests that prove
// other clients compatible with it, and its reads and watches for the bench.
//
// It is driven by lines: what has happened is written to standard output, a line each, and what is to happen next is
// read from standard input. Failures go to standard error, with a status other than 0.
//
//	interop version
//	interop --endpoint URL endpoints add TARGET KEY ADDRESS [METADATA-JSON]
//	interop --endpoint URL endpoints delete TARGET KEY
//	interop --endpoint URL endpoints list TARGET
//	interop --endpoint URL endpoints watch TARGET
//	interop --endpoint URL lock NAME [--ttl SECONDS]
//	interop --endpoint URL trylock NAME [--ttl SECONDS]
//	interop --endpoint URL elect NAME VALUE [--ttl SECONDS]
//	interop --endpoint URL observe NAME
//	interop --endpoint URL leader NAME
//	interop --endpoint URL list PREFIX
//	interop --endpoint URL take PREFIX WATCHES EVENTS
//	interop --endpoint URL create PREFIX WATCHES
//	interop --endpoint URL resume KEY WATCHES
//
// What each of them writes and reads is told at its function.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// patience is how long a single request may take, on a busy machine; waiting for a lock or an office has no limit.
const patience = 20 * time.Second

// command is a sub-command: what follows its name, how many words of that it needs and may have (flags not
// counted), and what it does.
type command struct {
	usage    string
	min, max int
	run      func(ctx context.Context, client *clientv3.Client, words []string) error
}

var commands = map[string]command{
	"endpoints add":    {"TARGET KEY ADDRESS [METADATA-JSON]", 3, 4, addEndpoint},
	"endpoints delete": {"TARGET KEY", 2, 2, deleteEndpoint},
	"endpoints list":   {"TARGET", 1, 1, listEndpoints},
	"endpoints watch":  {"TARGET", 1, 1, watchEndpoints},
	"lock":             {"NAME [--ttl SECONDS]", 1, 3, lock},
	"trylock":          {"NAME [--ttl SECONDS]", 1, 3, tryLock},
	"elect":            {"NAME VALUE [--ttl SECONDS]", 2, 4, elect},
	"observe":          {"NAME", 1, 1, observe},
	"leader":           {"NAME", 1, 1, leader},
	"list":             {"PREFIX", 1, 1, list},
	"take":             {"PREFIX WATCHES EVENTS", 3, 3, take},
	"create":           {"PREFIX WATCHES", 2, 2, created},
	"resume":           {"KEY WATCHES", 2, 2, resumed},
}

func main() {
	endpoint := flag.String("endpoint", "", "the `URL` of an etcd server")
	flag.Parse()
	if err := dispatch(*endpoint, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

// dispatch runs the command that the words name, on a client of its own.
func dispatch(endpoint string, words []string) error {
	if len(words) == 0 {
		return errors.New("no command given")
	}
	name, words := words[0], words[1:]
	if name == "version" {
		fmt.Println("etcd", version.Version, runtime.Version())
		return nil
	}
	if name == "endpoints" && len(words) > 0 {
		name, words = name+" "+words[0], words[1:]
	}
	command, known := commands[name]
	if !known {
		return fmt.Errorf("there is no command `%s`", name)
	}
	if len(words) < command.min || len(words) > command.max {
		return fmt.Errorf("usage: interop --endpoint URL %s %s", name, command.usage)
	}
	if endpoint == "" {
		return errors.New("no --endpoint given")
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: patience})
	if err != nil {
		return fmt.Errorf("can't connect to %s: %w", endpoint, err)
	}
	defer client.Close()
	if err := command.run(context.Background(), client, words); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// request is a context for one request.
func request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patience)
}
