package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// figures are what a client's process tells of a run, as in bench/src/meter.rs.
type figures struct {
	Events       int64   `json:"events"`
	LastRevision int64   `json:"last_revision"`
	Bytes        int64   `json:"bytes"`
	CPUSeconds   float64 `json:"cpu_seconds"`
	WallSeconds  float64 `json:"wall_seconds"`
	PeakRSS      int     `json:"peak_rss"`
}

// meter counts what watches take.
type meter struct {
	expected            int64
	begin               sync.Once
	begun               time.Time
	cpu                 float64
	events, bytes, last atomic.Int64
	finish              sync.Once
	done                chan struct{}
}

func (m *meter) take(response clientv3.WatchResponse) {
	m.begin.Do(func() { m.begun, m.cpu = time.Now(), cpuSeconds() })
	var bytes, last int64
	for _, event := range response.Events {
		bytes += int64(len(event.Kv.Key) + len(event.Kv.Value))
		last = max(last, event.Kv.ModRevision)
	}
	m.bytes.Add(bytes)
	for {
		known := m.last.Load()
		if last <= known || m.last.CompareAndSwap(known, last) {
			break
		}
	}
	if m.events.Add(int64(len(response.Events))) >= m.expected {
		m.finish.Do(func() { close(m.done) })
	}
}

// take takes events of watches under a prefix, each watch with a goroutine of its own, until there are as many as
// expected in all, and writes what that has cost as a line of JSON.
func take(ctx context.Context, client *clientv3.Client, words []string) error {
	watches, err := strconv.Atoi(words[1])
	if err != nil {
		return err
	}
	expected, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return err
	}
	meter := &meter{expected: expected, done: make(chan struct{})}
	failed := make(chan error, watches)
	for range watches {
		go func() {
			for response := range client.Watch(ctx, words[0], clientv3.WithPrefix()) {
				if err := response.Err(); err != nil {
					failed <- err
					return
				}
				meter.take(response)
			}
			failed <- errors.New("a watch has ended")
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-meter.done:
	}
	return json.NewEncoder(os.Stdout).Encode(figures{
		Events:       meter.events.Load(),
		LastRevision: meter.last.Load(),
		Bytes:        meter.bytes.Load(),
		CPUSeconds:   cpuSeconds() - meter.cpu,
		WallSeconds:  time.Since(meter.begun).Seconds(),
		PeakRSS:      peakKiB() << 10,
	})
}

// created opens watches one after the other, as an application does that has a key for each, and writes how many
// seconds it took until all of them run.
func created(ctx context.Context, client *clientv3.Client, words []string) error {
	watches, err := strconv.Atoi(words[1])
	if err != nil {
		return err
	}
	// The connection is there before the time begins.
	if _, err := client.Get(ctx, "warm"); err != nil {
		return err
	}
	begun := time.Now()
	if _, err := openAll(ctx, client, words[0], watches, true); err != nil {
		return err
	}
	fmt.Printf("{\"seconds\":%.6f}\n", time.Since(begun).Seconds())
	return nil
}

// resumed opens watches of one key and writes `ready`. When the key has changed while the connection was broken, it
// writes how many seconds there were between the first watch that has been told and the last.
func resumed(ctx context.Context, client *clientv3.Client, words []string) error {
	watches, err := strconv.Atoi(words[1])
	if err != nil {
		return err
	}
	channels, err := openAll(ctx, client, words[0], watches, false)
	if err != nil {
		return err
	}
	told := make(chan time.Time, watches)
	failed := make(chan error, watches)
	for _, channel := range channels {
		go func() {
			for response := range channel {
				if err := response.Err(); err != nil {
					failed <- err
					return
				}
				if len(response.Events) > 0 {
					told <- time.Now()
					return
				}
			}
			failed <- errors.New("a watch has ended")
		}()
	}
	fmt.Println("ready")
	var first, last time.Time
	for index := range watches {
		select {
		case err := <-failed:
			return err
		case at := <-told:
			if index == 0 || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
	}
	fmt.Printf("{\"seconds\":%.6f}\n", last.Sub(first).Seconds())
	return nil
}

// openAll opens watches of one key, or each of a key of its own, and waits until the server has created them.
func openAll(
	ctx context.Context, client *clientv3.Client, key string, watches int, own bool,
) ([]clientv3.WatchChan, error) {
	channels := make([]clientv3.WatchChan, watches)
	for index := range channels {
		name := key
		if own {
			name = fmt.Sprintf("%s%d", key, index)
		}
		channels[index] = client.Watch(ctx, name, clientv3.WithCreatedNotify())
	}
	for _, channel := range channels {
		response, open := <-channel
		if !open || !response.Created {
			return nil, errors.New("a watch was not created")
		}
	}
	return channels, nil
}

// cpuSeconds is the processor time of this process.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}
