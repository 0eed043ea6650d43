package main

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// lock waits for the lock and writes `locked KEY CREATE-REVISION`. Any line on standard input, or its end, then
// unlocks: `unlocked`. The line `cancel` while it waits makes it give up: `cancelled`.
func lock(ctx context.Context, client *clientv3.Client, words []string) error {
	session, err := openSession(client, words[1:])
	if err != nil {
		return err
	}
	defer session.Close()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	input := readLines(cancel)
	mutex := concurrency.NewMutex(session, words[0])
	if err := mutex.Lock(waiting); err != nil {
		return orCancelled(waiting, err)
	}
	return hold(ctx, session, mutex, input)
}

// tryLock writes `busy` if another session has the lock, and else does what lock does.
func tryLock(ctx context.Context, client *clientv3.Client, words []string) error {
	session, err := openSession(client, words[1:])
	if err != nil {
		return err
	}
	defer session.Close()
	trying, cancel := request(ctx)
	defer cancel()
	mutex := concurrency.NewMutex(session, words[0])
	err = mutex.TryLock(trying)
	if errors.Is(err, concurrency.ErrLocked) {
		fmt.Println("busy")
		return nil
	}
	if err != nil {
		return err
	}
	return hold(ctx, session, mutex, readLines(cancel))
}

// hold tells of a lock that is held, and unlocks it when told to.
func hold(ctx context.Context, session *concurrency.Session, mutex *concurrency.Mutex, input <-chan string) error {
	revision, err := createRevision(ctx, session.Client(), mutex.Key())
	if err != nil {
		return err
	}
	fmt.Println("locked", mutex.Key(), revision)
	select {
	case <-input:
	case <-session.Done():
		return errSessionLost
	}
	unlocking, cancel := request(ctx)
	defer cancel()
	if err := mutex.Unlock(unlocking); err != nil {
		return err
	}
	fmt.Println("unlocked")
	return nil
}

// createRevision asks for what decides whose turn it is; a Mutex doesn't tell.
func createRevision(ctx context.Context, client *clientv3.Client, key string) (int64, error) {
	ctx, cancel := request(ctx)
	defer cancel()
	response, err := client.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	if len(response.Kvs) == 0 {
		return 0, fmt.Errorf("%s is gone", key)
	}
	return response.Kvs[0].CreateRevision, nil
}

// orCancelled writes `cancelled` if that is why waiting failed, and else passes the failure on.
func orCancelled(waiting context.Context, err error) error {
	if waiting.Err() == nil {
		return err
	}
	fmt.Println("cancelled")
	return nil
}
