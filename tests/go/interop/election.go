package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// elect campaigns with a value and writes `elected KEY CREATE-REVISION`. The line `proclaim VALUE` on standard input
// then makes another value known, `proclaimed REVISION`; `resign`, or the input's end, gives the office up:
// `resigned`. The line `cancel` during the campaign makes it give up: `cancelled`.
func elect(ctx context.Context, client *clientv3.Client, words []string) error {
	session, err := openSession(client, words[2:])
	if err != nil {
		return err
	}
	defer session.Close()
	campaigning, cancel := context.WithCancel(ctx)
	defer cancel()
	input := readLines(cancel)
	election := concurrency.NewElection(session, words[0])
	if err := election.Campaign(campaigning, words[1]); err != nil {
		return orCancelled(campaigning, err)
	}
	fmt.Println("elected", election.Key(), election.Rev())
	return govern(ctx, session, election, input)
}

// govern does what the lines say while the office is held.
func govern(ctx context.Context, session *concurrency.Session, election *concurrency.Election, input <-chan string) error {
	for {
		select {
		case line, open := <-input:
			if !open || line == "resign" {
				return resign(ctx, election)
			}
			value, isProclamation := strings.CutPrefix(line, "proclaim ")
			if !isProclamation {
				return fmt.Errorf("there is no command `%s`: proclaim VALUE, or resign", line)
			}
			if err := proclaim(ctx, election, value); err != nil {
				return err
			}
		case <-session.Done():
			return errSessionLost
		}
	}
}

func proclaim(ctx context.Context, election *concurrency.Election, value string) error {
	ctx, cancel := request(ctx)
	defer cancel()
	if err := election.Proclaim(ctx, value); err != nil {
		return err
	}
	fmt.Println("proclaimed", election.Header().Revision)
	return nil
}

func resign(ctx context.Context, election *concurrency.Election) error {
	ctx, cancel := request(ctx)
	defer cancel()
	if err := election.Resign(ctx); err != nil {
		return err
	}
	fmt.Println("resigned")
	return nil
}

// observe writes `leader KEY REVISION VALUE` for each leader and each value a leader proclaims; the revision is the
// value's. It ends with its standard input.
func observe(ctx context.Context, client *clientv3.Client, words []string) error {
	session, err := openSession(client, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	input := readLines(cancel)
	values := concurrency.NewElection(session, words[0]).Observe(ctx)
	for {
		select {
		case response, open := <-values:
			if !open {
				return errors.New("the observation has ended")
			}
			writeLeader(response.Kvs[0])
		case _, open := <-input:
			if !open {
				return nil
			}
		}
	}
}

// leader writes `leader KEY REVISION VALUE` once, or `none` if nobody is elected.
func leader(ctx context.Context, client *clientv3.Client, words []string) error {
	session, err := openSession(client, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	ctx, cancel := request(ctx)
	defer cancel()
	response, err := concurrency.NewElection(session, words[0]).Leader(ctx)
	if errors.Is(err, concurrency.ErrElectionNoLeader) {
		fmt.Println("none")
		return nil
	}
	if err != nil {
		return err
	}
	writeLeader(response.Kvs[0])
	return nil
}

func writeLeader(kv *mvccpb.KeyValue) {
	fmt.Println("leader", string(kv.Key), kv.ModRevision, string(kv.Value))
}
