package main

import (
	"bufio"
	"errors"
	"flag"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// errSessionLost says that the lease was revoked, or could not be kept alive, while its lock or office was held.
var errSessionLost = errors.New("the session has ended")

// openSession grants a lease and keeps it alive; the flags are what is left of a command's words.
func openSession(client *clientv3.Client, flags []string) (*concurrency.Session, error) {
	set := flag.NewFlagSet("session", flag.ContinueOnError)
	ttl := set.Int("ttl", 60, "how many `seconds` the session outlives this program if it is killed")
	if err := set.Parse(flags); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, errors.New("too many arguments")
	}
	return concurrency.NewSession(client, concurrency.WithTTL(*ttl))
}

// readLines gives the lines of standard input as they come; the channel is closed at its end. The line `cancel` is
// not among them: it calls cancel, which does nothing once there is nothing to wait for.
func readLines(cancel func()) <-chan string {
	// Lines may come before what they are meant for; so many don't keep `cancel` from being read.
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(os.Stdin); scanner.Scan(); {
			if line := scanner.Text(); line == "cancel" {
				cancel()
			} else {
				lines <- line
			}
		}
	}()
	return lines
}
